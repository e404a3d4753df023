-- positions: what does each account hold after each of its fills, and how much cash?
--
-- Grain   one row per account, instrument and fill or settlement; one per account, currency and change of cash; and one ledger
--         entry for each of these changes
-- State   positions, cash and the last seven days' fills of each account (kernels/positions/); contract terms; index prices by
--         venue and currency
-- Late    a fill behind the watermark is inserted among the others where it belongs; the same fill twice is applied once

SET 'gammaflow.reads' = 'instruments, fills, transfers, index_prices';
-- The own venue's and the fund's, with -D gammaflow.also-read=venue_fills,fund_transfers,fund_fills.
SET 'gammaflow.may-read' = 'venue_fills, fund_transfers, fund_fills';
SET 'gammaflow.kernel' = 'positions';
SET 'gammaflow.broadcast' = 'instruments, index_prices';
SET 'gammaflow.writes' = 'positions, balances, dead_letters, ledger_entries';
SET 'gammaflow.tells-time' = 'positions, balances';

-- A batch costs some milliseconds, however few accounts it concerns.
SET 'gammaflow.window' = '0.05';

-- A message goes to the shard of its account, whose number a row of the own venue and of the fund has; contract terms, and the index
-- prices that settle them, go to all.
CREATE TEMPORARY VIEW messages AS
SELECT shards.shard, event_at, is_late, message
FROM inbox CROSS JOIN UNNEST(
  CASE
    WHEN topic IN ('fills.v1', 'transfers.v1') OR message IS NULL THEN ARRAY[inbox.shard]
    WHEN topic IN ('venue_fills.v1', 'fund_transfers.v1', 'fund_fills.v1') THEN ARRAY[
      COALESCE(
        ARRAY[${SHARDS}][1 + CAST(REGEXP_EXTRACT(message, '"account_partition":\s*(\d+)', 1) AS INT)],
        inbox.shard)
    ]
    ELSE ARRAY[${SHARDS}]
  END
) AS shards (shard);

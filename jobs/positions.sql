-- positions: what does each account hold after each of its fills, and how much cash?
--
-- Grain   one row per account, instrument and fill or settlement; one per account, currency and change of cash; and one ledger
--         entry for each of these changes
-- State   positions, cash and the last seven days' fills of each account (kernels/positions.py); contract terms; index prices by
--         venue and currency
-- Late    a fill behind the watermark takes its place among the others when it comes; the same fill twice is applied once

CREATE TEMPORARY TABLE inputs WITH ('topic' = 'instruments.v1;fills.v1;transfers.v1;index_prices.v2') LIKE kafka_records;

-- A message goes to the shard of its account; contract terms and the index prices that settle them go to all.
CREATE TEMPORARY VIEW messages AS
SELECT shards.shard, event_at, is_late, message
FROM inbox CROSS JOIN UNNEST(
  CASE WHEN topic IN ('fills.v1', 'transfers.v1') OR message IS NULL THEN ARRAY[inbox.shard] ELSE ARRAY[${SHARDS}] END
) AS shards (shard);

-- kernels/positions.py turns `messages` into `records`.

-- Heartbeats too, in order with the rows: margin waits for these topics to say that nothing older is to come.
INSERT INTO positions_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` IN ('positions', 'heartbeat');

INSERT INTO balances_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` IN ('balances', 'heartbeat');

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';

INSERT INTO ledger_entries_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'ledger_entries';

-- matching: which orders trade with each other on the own venue, and what does each account get told of it?
--
-- Grain   one row of venue_reports per change of an order, execution and refused request; one of venue_fills per execution of an
--         account
-- Rules   kernels/matching/book.py; its venues, fees and bands: kernels/matching/rules.py
-- State   open orders and positions of each instrument; contract terms, marks, halts and circuit breaks (kernels/matching/)
-- Late    a request behind the watermark is taken like any other; the same one twice counts once

SET 'gammaflow.reads' = 'instruments, tickers, trading_halts, orders, positions';
-- Our own breakers stop books, with -D gammaflow.also-read=circuit_breaks.
SET 'gammaflow.may-read' = 'circuit_breaks';
SET 'gammaflow.kernel' = 'matching';
SET 'gammaflow.broadcast' = 'trading_halts, circuit_breaks';
SET 'gammaflow.writes' = 'venue_reports, venue_fills, dead_letters';
SET 'gammaflow.tells-time' = 'venue_reports, venue_fills';
-- What is told of an order comes a latency later (kernels/matching/rules.py): so who sends orders need not wait for it.
SET 'gammaflow.tells-ahead' = 'venue_reports, venue_fills';

-- As that of orders, with which it is in step.
SET 'gammaflow.window' = '0.05';

-- A message goes to the shard of its instrument, which its key names; that of a position is in the row.  Halts and breaks go to
-- all: they may concern a venue.
CREATE TEMPORARY VIEW messages AS
SELECT shards.shard, event_at, is_late, message
FROM inbox CROSS JOIN UNNEST(
  CASE
    WHEN message IS NULL THEN ARRAY[inbox.shard]
    WHEN topic IN ('trading_halts.v1', 'circuit_breaks.v1') THEN ARRAY[${SHARDS}]
    ELSE ARRAY[
      ARRAY[${SHARDS}][1 + MOD(ABS(CAST(HASH_CODE(
        CASE
          WHEN topic = 'positions.v1' THEN COALESCE(
            REGEXP_EXTRACT(message, '"venue"\s*:\s*"([^"]*)"', 1) || ':' || REGEXP_EXTRACT(message, '"instrument"\s*:\s*"([^"]*)"', 1),
            '')
          ELSE COALESCE(`key`, '')
        END
      ) AS BIGINT)), CARDINALITY(ARRAY[${SHARDS}]))]
    ]
  END
) AS shards (shard);

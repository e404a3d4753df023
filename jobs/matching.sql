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
SET 'gammaflow.broadcast' = 'trading_halts, circuit_breaks, positions';
SET 'gammaflow.writes' = 'venue_reports, venue_fills, dead_letters';
SET 'gammaflow.tells-time' = 'venue_reports, venue_fills';
-- What is told of an order comes a latency later (kernels/matching/rules.py): so who sends orders need not wait for it.
SET 'gammaflow.tells-ahead' = 'venue_reports, venue_fills';

-- As that of orders, with which it is in step.
SET 'gammaflow.window' = '0.05';

-- An order goes to the shard of its instrument, whose number it has.  Halts and breaks may concern a venue, and positions are in
-- the partition of their account: these go to all.
CREATE TEMPORARY VIEW messages AS
SELECT shards.shard, event_at, is_late, message
FROM inbox CROSS JOIN UNNEST(
  CASE
    WHEN message IS NULL THEN ARRAY[inbox.shard]
    WHEN topic IN ('trading_halts.v1', 'circuit_breaks.v1', 'positions.v1') THEN ARRAY[${SHARDS}]
    WHEN topic = 'orders.v1' THEN ARRAY[
      COALESCE(
        ARRAY[${SHARDS}][1 + CAST(REGEXP_EXTRACT(message, '"instrument_partition":\s*(\d+)', 1) AS INT)],
        inbox.shard)
    ]
    ELSE ARRAY[inbox.shard]
  END
) AS shards (shard);

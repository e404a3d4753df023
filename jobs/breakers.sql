-- breakers: which rule of the market is broken, what must stop, and until when?
--
-- Grain   one row per break of a rule, per limit state before it, and per end of either
-- Rules   udfs/breaker_sets/suite.json
-- Shard   of the record's partition: topics of instruments share a key, and an index, and an oracle, is a market by itself
-- State   the newest prices, rolling windows and references of each market (kernels/breakers/); freed after two days of silence
-- Late    a message behind the watermark counts in windows and as the newest price, and breaks nothing by itself

SET 'gammaflow.reads' = 'instruments, trades, book_tops, book_depth, tickers, index_prices, oracle_faults';
-- The market of the own venue, with -D gammaflow.also-read=venue_trades,venue_tickers.
SET 'gammaflow.may-read' = 'venue_trades, venue_tickers';
SET 'gammaflow.kernel' = 'breakers';
SET 'gammaflow.writes' = 'circuit_breaks, dead_letters';
SET 'gammaflow.tells-time' = 'circuit_breaks';

-- A breaker need not be as quick as a price: rules about the state of a market are judged once a batch.
SET 'gammaflow.window' = '0.1';

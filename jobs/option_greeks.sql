-- option_greeks: what is each option worth, and what are its Greeks, at each of its tickers?
--
-- Grain   one row per option and instant of its tickers
-- Shard   terms and tickers share the key venue:instrument, and so the partition and the shard
-- State   the contract terms of each option, and the newest values of its tickers (kernels/option_greeks.py); freed a day after
--         expiry
-- Late    a ticker behind the watermark still gets its row, at its own event time

SET 'gammaflow.reads' = 'instruments, tickers';
-- Those of the own venue, with -D gammaflow.also-read=venue_tickers.
SET 'gammaflow.may-read' = 'venue_tickers';
SET 'gammaflow.kernel' = 'option_greeks';
SET 'gammaflow.writes' = 'option_greeks, dead_letters';

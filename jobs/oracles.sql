-- oracles: what is each underlying worth in USD by all its sources, how sure is that, and how good is each source?
--
-- Grain   one row per underlying and 100 ms of its price, and one of each of its sources, also where nothing came of it
-- Shard   every shard gets all messages, for an underlying has sources under many keys; it answers for the underlyings that
--         Kafka's hash sends into its partition
-- State   newest price and habits of each source, freed after a day of silence; price, average and ten seconds of prices of each
--         underlying; terms of spot and perpetuals (kernels/oracles/)
-- Late    a price behind the watermark counts only if it is still the newest of its source, from the next row on

SET 'gammaflow.reads' = 'instruments, index_prices, book_tops, trades, oracle_updates, venue_times';
SET 'gammaflow.kernel' = 'oracles';
SET 'gammaflow.broadcast' = 'instruments, index_prices, book_tops, trades, oracle_updates, venue_times';
SET 'gammaflow.writes' = 'oracle_prices, oracle_sources, dead_letters';
SET 'gammaflow.tells-time' = 'oracle_prices, oracle_sources';

-- A batch is a tick.
SET 'gammaflow.window' = '0.1';

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

-- No option is a source, and most instruments are options: BTC-27JUN25-60000-C.
CREATE TEMPORARY VIEW wanted AS
SELECT event_at, is_late, message FROM inbox
WHERE message IS NOT NULL AND NOT REGEXP(COALESCE(`key`, ''), '-[0-9.]+-[CP](-|$)');

CREATE TEMPORARY VIEW in_time AS
SELECT event_at, message FROM wanted WHERE NOT is_late;

-- All messages of a window travel as one text: it goes to every shard, and a row each would be many.  A late one travels alone,
-- and a heartbeat to its own shard.
CREATE TEMPORARY VIEW gathered AS
SELECT shard, FALSE AS is_for_all, event_at, is_late, message FROM inbox WHERE message IS NULL
UNION ALL
SELECT 0, TRUE, event_at, is_late, message FROM wanted WHERE is_late
UNION ALL
SELECT 0, TRUE, window_time, FALSE, ARRAY_JOIN(ARRAY_AGG(message), U&'\001E')
FROM TABLE(TUMBLE(TABLE in_time, DESCRIPTOR(event_at), INTERVAL '0.1' SECOND))
GROUP BY window_start, window_end, window_time;

CREATE TEMPORARY VIEW messages AS
SELECT shards.shard, event_at, is_late, message
FROM gathered CROSS JOIN UNNEST(
  CASE WHEN is_for_all THEN ARRAY[${SHARDS}] ELSE ARRAY[gathered.shard] END
) AS shards (shard);

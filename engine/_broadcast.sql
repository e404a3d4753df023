-- messages: what does each shard get, if some tables go to all shards?
--
-- Grain   one row per record of a table that is not broadcast, in the shard of its partition; and one row per shard and window
--         with all its broadcast records
-- State   the broadcast records of the open windows
-- Late    a late record has a row of its own
CREATE TEMPORARY VIEW on_time_broadcast AS
SELECT event_at, message FROM inbox
WHERE topic IN (${BROADCAST}) AND NOT is_late AND message IS NOT NULL;

-- All broadcast records of a window travel as one text: a row each would be many rows, for they go to every shard.
CREATE TEMPORARY VIEW gathered AS
SELECT shard, topic IN (${SINGLE}) AS is_single, event_at, is_late, message FROM inbox
WHERE topic NOT IN (${BROADCAST}) OR is_late
UNION ALL
SELECT 0, FALSE, window_time, FALSE, ARRAY_JOIN(ARRAY_AGG(message), U&'\001E')
FROM TABLE(TUMBLE(TABLE on_time_broadcast, DESCRIPTOR(event_at), INTERVAL '${WINDOW}' SECOND))
GROUP BY window_start, window_end, window_time;

CREATE TEMPORARY VIEW messages AS
SELECT shards.shard, event_at, is_late, message
FROM gathered CROSS JOIN UNNEST(
  CASE WHEN is_single OR message IS NULL THEN ARRAY[gathered.shard] ELSE ARRAY[${SHARDS}] END
) AS shards (shard);

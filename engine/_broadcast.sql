-- messages: what does each shard get, where some tables go to all of them?
--
-- Grain   one row per record of a table that is not broadcast, in the shard of its partition; and per shard and window, the
--         broadcast records of it
-- State   the broadcast records of the open windows
-- Late    a late record travels alone, as it came
CREATE TEMPORARY VIEW on_time_broadcast AS
SELECT event_at, message FROM inbox
WHERE topic IN (${GATHERED}) AND NOT is_late AND message IS NOT NULL;

-- All broadcast records of a window travel as one text: it goes to every shard, and a row each would be many.
CREATE TEMPORARY VIEW gathered AS
SELECT shard, topic IN (${OWN}) AS is_own, event_at, is_late, message FROM inbox
WHERE topic NOT IN (${GATHERED}) OR is_late
UNION ALL
SELECT 0, FALSE, window_time, FALSE, ARRAY_JOIN(ARRAY_AGG(message), U&'\001E')
FROM TABLE(TUMBLE(TABLE on_time_broadcast, DESCRIPTOR(event_at), INTERVAL '${WINDOW}' SECOND))
GROUP BY window_start, window_end, window_time;

CREATE TEMPORARY VIEW messages AS
SELECT shards.shard, event_at, is_late, message
FROM gathered CROSS JOIN UNNEST(
  CASE WHEN is_own OR message IS NULL THEN ARRAY[gathered.shard] ELSE ARRAY[${SHARDS}] END
) AS shards (shard);

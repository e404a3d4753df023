-- batches: what does each shard get at once?
--
-- Grain   one row per shard and window of event time, of `gammaflow.window`, in which something came, be it a
--         heartbeat; and one per late message
-- State   the messages of the open windows

-- A list has nothing to gain from being aggregated twice, only to be copied twice.
SET 'table.optimizer.agg-phase-strategy' = 'ONE_PHASE';

CREATE TEMPORARY VIEW on_time AS
SELECT shard, event_at, message FROM messages WHERE NOT is_late;

CREATE TEMPORARY VIEW batches AS
SELECT
  CAST(shard AS INT) AS shard,
  CAST(EXTRACT(EPOCH FROM window_end) * 1000 + EXTRACT(MILLISECOND FROM window_end) AS BIGINT) AS until_ms,
  FALSE AS is_late,
  CAST(ARRAY_JOIN(ARRAY_AGG(message), U&'\001E') AS BYTES) AS messages
FROM TABLE(TUMBLE(TABLE on_time, DESCRIPTOR(event_at), INTERVAL '${WINDOW}' SECOND))
GROUP BY window_start, window_end, shard
UNION ALL
SELECT
  CAST(shard AS INT),
  -- The end of its own window, which the host may still be waiting for: it is behind the time of its source alone.
  (CAST(EXTRACT(EPOCH FROM event_at) * 1000 + EXTRACT(MILLISECOND FROM event_at) AS BIGINT) / ${WINDOW_MS} + 1) * ${WINDOW_MS},
  TRUE,
  CAST(message AS BYTES)
FROM messages
WHERE is_late AND message IS NOT NULL;

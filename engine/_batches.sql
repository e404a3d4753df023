-- batches: what does each shard get at once?
--
-- Grain   one row per shard and window of event time (`gammaflow.window`) with a message or a heartbeat; and one per late
--         message
-- State   the messages of the open windows

-- Two phases would only copy the list twice.
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
  -- The end of its own window.  It is late only at its source, and the window may still be open in the host.
  (CAST(EXTRACT(EPOCH FROM event_at) * 1000 + EXTRACT(MILLISECOND FROM event_at) AS BIGINT) / ${WINDOW_MS} + 1) * ${WINDOW_MS},
  TRUE,
  CAST(message AS BYTES)
FROM messages
WHERE is_late AND message IS NOT NULL;

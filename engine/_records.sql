-- records: which rows and heartbeats did the kernels emit?
--
-- Grain   one row per record.  A heartbeat has no value, and its `table` is one of ${HEARTBEATS}.  It
--         follows each micro-batch of a shard, in order with the shard's rows and in their partition
--
-- A batch of rows comes from Python as two texts for each table, with one line for each row: heads (record timestamp in ms, in
-- 13 digits, and key) and values (JSON).  Rows one by one would cost many times as much.
CREATE TEMPORARY VIEW records AS
SELECT
  `table`,
  SUBSTRING(head, 14) AS `key`,
  TO_TIMESTAMP_LTZ(CAST(SUBSTRING(head, 1, 13) AS BIGINT), 3) AS event_at,
  CASE WHEN `table` NOT IN (${HEARTBEATS}) THEN `value` END AS `value`
-- A map made of two arrays keeps their order, and two lines with one head.
FROM outputs CROSS JOIN UNNEST(MAP_FROM_ARRAYS(SPLIT(heads, U&'\000A'), SPLIT(`values`, U&'\000A'))) AS line (head, `value`);

-- records: which rows did the kernel put out, and heartbeats: what time is it for those who read them?
--
-- A batch of rows crosses from Python as one text for each table, a line a row: key, record timestamp in ms and JSON, parted
-- by tabs.  A row at a time would cost twice as much.

-- Grain   one row per record
CREATE TEMPORARY VIEW records AS
SELECT
  `table`,
  SPLIT_INDEX(line, U&'\0009', 0) AS `key`,
  TO_TIMESTAMP_LTZ(CAST(SPLIT_INDEX(line, U&'\0009', 1) AS BIGINT), 3) AS event_at,
  SPLIT_INDEX(line, U&'\0009', 2) AS `value`
FROM outputs CROSS JOIN UNNEST(SPLIT(`lines`, U&'\000A')) AS part (line)
WHERE `table` <> 'heartbeat';

-- Grain   one row for every partition that a topic may have (the host says how many) and fifth of a second of event time
CREATE TEMPORARY VIEW heartbeats AS
SELECT TO_TIMESTAMP_LTZ(CAST(line AS BIGINT), 3) AS event_at
FROM outputs CROSS JOIN UNNEST(SPLIT(`lines`, U&'\000A')) AS part (line)
WHERE `table` = 'heartbeat';

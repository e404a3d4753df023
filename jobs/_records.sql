-- records: which rows did the kernel put out, and heartbeats: what time is it for those who read them?
--
-- A batch of rows crosses from Python as two texts for each table, a line a row: heads (record timestamp in ms, in 13 digits,
-- and key) and values (JSON).  A row at a time would cost many times as much.

-- Grain   one row per batch and table.  The lines are split here, once: a function table is what the planner does not unfold
CREATE TEMPORARY VIEW split_outputs AS
SELECT `table`, head_lines, value_lines
FROM outputs CROSS JOIN UNNEST(ARRAY[ROW(SPLIT(heads, U&'\000A'), SPLIT(`values`, U&'\000A'))]) AS lines (head_lines, value_lines);

-- Grain   one row per record
CREATE TEMPORARY VIEW records AS
SELECT
  `table`,
  SUBSTRING(head_lines[number], 14) AS `key`,
  TO_TIMESTAMP_LTZ(CAST(SUBSTRING(head_lines[number], 1, 13) AS BIGINT), 3) AS event_at,
  `value`
FROM split_outputs CROSS JOIN UNNEST(value_lines) WITH ORDINALITY AS line (`value`, number)
WHERE `table` <> 'heartbeat';

-- Grain   one row for every partition that a topic may have (the host says how many) and fifth of a second of event time
CREATE TEMPORARY VIEW heartbeats AS
SELECT TO_TIMESTAMP_LTZ(CAST(line AS BIGINT), 3) AS event_at
FROM outputs CROSS JOIN UNNEST(SPLIT(heads, U&'\000A')) AS part (line)
WHERE `table` = 'heartbeat';

-- heartbeats: what does a job of SQL alone write into the topic of ${TABLE}, and when does its readers' watermark advance?
--
-- Grain   one row per record: the job's rows, as JSON, and heartbeats, which have no value.  There is one heartbeat for each
--         partition and 0.1 s of event time in which a record or a heartbeat arrived
-- State   the rows that the watermark has not reached yet
-- Time    `closed_at`, the last instant of a row's window, orders rows and heartbeats of a partition.  A heartbeat has that
--         instant: all following records of its partition are later
-- Late    late records do not advance the time.  Nor do records more than a minute ahead, which would do so at the end of a run
CREATE TEMPORARY VIEW punctual AS
SELECT `partition`, event_at
FROM inputs
WHERE event_at > COALESCE(CURRENT_WATERMARK(event_at), TO_TIMESTAMP_LTZ(0, 3)) AND event_at <= recorded_at + INTERVAL '1' MINUTE;

CREATE TEMPORARY VIEW heartbeats AS
SELECT `partition`, window_time AS closed_at
FROM TABLE(TUMBLE(TABLE punctual, DESCRIPTOR(event_at), INTERVAL '0.1' SECOND))
GROUP BY window_start, window_end, window_time, `partition`;

CREATE TEMPORARY VIEW unordered AS
SELECT `partition`, closed_at, `key`, recorded_at, ${VALUE} AS `value` FROM ${TABLE}_rows
UNION ALL
-- A key that Kafka's hash sends into this partition.
SELECT `partition`, closed_at, ${KEY}, CAST(closed_at AS TIMESTAMP_LTZ(3)), CAST(NULL AS STRING) FROM heartbeats;

-- An OVER aggregate emits its rows in the order of event time, and all rows of a partition in the task that writes them.  The
-- planner drops it unless its result is used.
CREATE TEMPORARY VIEW ordered AS
SELECT
  `key`, recorded_at, `value`,
  COUNT(*) OVER (
    PARTITION BY `partition` ORDER BY closed_at RANGE BETWEEN INTERVAL '0.001' SECOND PRECEDING AND CURRENT ROW
  ) AS row_count
FROM unordered;

CREATE TEMPORARY VIEW records AS
SELECT `key`, recorded_at AS event_at, `value` FROM ordered WHERE row_count > 0;

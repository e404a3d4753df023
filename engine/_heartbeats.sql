-- heartbeats: what does a job of SQL alone write into the topic of ${TABLE}, and what time is it for those who read it?
--
-- Grain   one row per record: the job's rows, as JSON, and heartbeats, which have no value: one for each partition and 0.1 s of
--         event time in which something came, be it a heartbeat
-- State   the rows whose time is not over
-- Time    `closed_at`, the last instant of a row's window, orders rows and heartbeats of a partition.  A heartbeat bears that instant:
--         every record to come in its partition is later
-- Late    no record that is late moves the time.  Nor does one that is more than a minute ahead: it would do so at the end of a run
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

-- An aggregate over event time emits its rows in that order, and all of a partition in one task: the one that writes them.  Its
-- result must be used, or the planner leaves it out.
CREATE TEMPORARY VIEW ordered AS
SELECT
  `key`, recorded_at, `value`,
  COUNT(*) OVER (
    PARTITION BY `partition` ORDER BY closed_at RANGE BETWEEN INTERVAL '0.001' SECOND PRECEDING AND CURRENT ROW
  ) AS row_count
FROM unordered;

CREATE TEMPORARY VIEW records AS
SELECT `key`, recorded_at AS event_at, `value` FROM ordered WHERE row_count > 0;

-- venue_clocks: how far is each venue's clock from ours, how much does the travel time vary, and does the venue's time step back?
--
-- Grain   one row per venue and ten seconds of the receiver's clock
-- State   the last exchange time and receipt of each instrument, freed after a year of silence; the offsets of the open ten
--         seconds
-- Late    no row is late that comes within a minute: so rows come a minute after their time.  The record timestamp may be a
--         minute ahead of the receipt, because a feed that does not correct an exchange's clock takes it from that clock

SET 'gammaflow.reads' = 'order_books, trades';
SET 'gammaflow.writes' = 'venue_clocks';

-- Nobody waits for a row of it: it need not wake up as often as jobs on the way to an order.
SET 'execution.buffer-timeout.interval' = '100 ms';
SET 'pipeline.auto-watermark-interval' = '100 ms';

-- Only the last exchange times are freed like this: by the wall clock, whether the job runs or not.  A job that is restored
-- from a savepoint must find them, however old the savepoint is.
SET 'table.exec.state.ttl' = '365 d';

CREATE TEMPORARY TABLE inputs (
  recorded_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  topic STRING METADATA VIRTUAL,
  heard_at AS COALESCE(
    TRY_CAST(REPLACE(REPLACE(
      COALESCE(JSON_VALUE(`value`, '$.received_at'), JSON_VALUE(`value`, '$[0].received_at')), 'T', ' '), 'Z', ''
    ) AS TIMESTAMP_LTZ(3)),
    recorded_at
  ),
  arrived_at AS PROCTIME(),
  WATERMARK FOR heard_at AS recorded_at - INTERVAL '61' SECOND
) WITH ('topic' = '${TOPICS}') LIKE kafka_records (EXCLUDING METADATA EXCLUDING WATERMARKS);

-- Grain   one row per update or trade, in microseconds since 1970.  A record may hold several.  Rows that do not measure a
--         clock are left out: a snapshot, which is requested and may have another time than its own; repeated old rows, such as
--         trades at subscription, recognised by a receipt ten seconds after the record's timestamp, which is the exchange time
--         less the error of its clock; and a time a minute ahead, which no kernel would accept
CREATE TEMPORARY VIEW times AS
SELECT
  topic, venue, instrument, heard_at, arrived_at, event_us, received_us, received_us - event_us AS offset_us
FROM (
  SELECT
    topic, heard_at, arrived_at,
    JSON_VALUE(message, '$.venue') AS venue,
    JSON_VALUE(message, '$.instrument') AS instrument,
    JSON_VALUE(message, '$.kind') AS kind,
    EXTRACT(EPOCH FROM recorded_at) * 1000000 + EXTRACT(MILLISECOND FROM recorded_at) * 1000 AS recorded_us,
    EXTRACT(EPOCH FROM event_at) * 1000000 + EXTRACT(MILLISECOND FROM event_at) * 1000 AS event_us,
    EXTRACT(EPOCH FROM received_at) * 1000000 + EXTRACT(MICROSECOND FROM received_at) AS received_us
  FROM (
    SELECT
      topic, recorded_at, heard_at, arrived_at, message,
      TRY_CAST(REPLACE(REPLACE(JSON_VALUE(message, '$.event_at'), 'T', ' '), 'Z', '') AS TIMESTAMP_LTZ(3)) AS event_at,
      TRY_CAST(REPLACE(REPLACE(JSON_VALUE(message, '$.received_at'), 'T', ' '), 'Z', '') AS TIMESTAMP_LTZ(6)) AS received_at
    FROM inputs CROSS JOIN UNNEST(
      JSON_QUERY(`value`, '$' RETURNING ARRAY<STRING> WITH CONDITIONAL ARRAY WRAPPER)
    ) AS part (message)
    WHERE `value` IS NOT NULL
  )
)
WHERE venue IS NOT NULL AND instrument IS NOT NULL AND (topic = 'trades.v1' OR kind = 'change')
  AND received_us - event_us >= -60000000 AND received_us - recorded_us <= 10000000;

-- Grain   the same, with whether it steps back from the row before it in the log: a partition holds the rows of an instrument
--         in order.  Rows of one message, which are received at once, do not step back: many messages list the newest first
CREATE TEMPORARY VIEW steps AS
SELECT
  venue, heard_at, offset_us,
  IF(
    event_us < LAG(event_us) OVER (PARTITION BY topic, venue, instrument ORDER BY arrived_at)
    AND received_us > LAG(received_us) OVER (PARTITION BY topic, venue, instrument ORDER BY arrived_at),
    1, 0
  ) AS is_step_back
FROM times;

-- Grain   one row per venue and ten seconds.  Sums of whole microseconds: the order in which they came does not matter
CREATE TEMPORARY VIEW clocks AS
SELECT
  window_end,
  venue,
  COUNT(*) AS message_count,
  PERCENTILE(offset_us, 0.5) AS median_offset_us,
  MIN(offset_us) AS min_offset_us,
  MAX(offset_us) AS max_offset_us,
  SUM(CAST(offset_us AS DECIMAL(18, 0))) AS sum_us,
  SUM(CAST(offset_us AS DECIMAL(18, 0)) * CAST(offset_us AS DECIMAL(18, 0))) AS sum_squares,
  SUM(is_step_back) AS step_back_count
FROM TABLE(TUMBLE(TABLE steps, DESCRIPTOR(heard_at), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, venue;

INSERT INTO venue_clocks_rows (
  `key`, recorded_at, venue, event_at, message_count,
  median_offset_ms, min_offset_ms, max_offset_ms, jitter_ms, step_back_count
)
SELECT
  venue,
  CAST(window_end AS TIMESTAMP_LTZ(3)),
  venue,
  CAST(window_end AS TIMESTAMP_LTZ(3)),
  message_count,
  median_offset_us / 1e3,
  min_offset_us / 1e3,
  max_offset_us / 1e3,
  SQRT(CAST(message_count * sum_squares - sum_us * sum_us AS DOUBLE)) / message_count / 1e3,
  CAST(step_back_count AS BIGINT)
FROM clocks;

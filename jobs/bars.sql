-- bars: what were open, high, low, close, volume and VWAP of every instrument, each second, minute and hour?
--
-- Grain   one row per instrument and interval in which it traded; none for an interval without trades
-- Shard   a row is written into the partition of its trades: they have its key
-- State   the trades of the open seconds; one row per instrument of the open minute and of the open hour
-- Time    the exchange's own time decides the bar of a trade.  The common time of all venues, the record timestamp, decides
--         when a bar ends: so the bars of a venue whose clock is ahead come that much later, and none lacks its last trades
-- Late    a trade that comes a second of the common time after the end of its bar is in no bar; Flink's numLateRecordsDropped
--         counts it.  The same holds for trades of a venue whose clock is more than a second behind the others'

SET 'gammaflow.reads' = 'trades';
SET 'gammaflow.writes' = 'bars';
SET 'gammaflow.tells-time' = 'bars';

-- Nobody waits for a row of it: it need not wake up as often as jobs on the way to an order.
SET 'execution.buffer-timeout.interval' = '100 ms';
SET 'pipeline.auto-watermark-interval' = '100 ms';

-- A bar is emitted once: wait longer than other jobs do for trades that are out of order.
CREATE TEMPORARY TABLE inputs (
  recorded_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  traded_at AS TRY_CAST(REPLACE(REPLACE(JSON_VALUE(`value`, '$.event_at'), 'T', ' '), 'Z', '') AS TIMESTAMP_LTZ(3)),
  -- A heartbeat has only the common time.
  event_at AS COALESCE(
    TRY_CAST(REPLACE(REPLACE(JSON_VALUE(`value`, '$.event_at'), 'T', ' '), 'Z', '') AS TIMESTAMP_LTZ(3)), recorded_at
  ),
  WATERMARK FOR event_at AS CASE
    WHEN `value` IS NULL THEN recorded_at - INTERVAL '1' SECOND
    ELSE recorded_at - INTERVAL '60' SECOND  -- as in schemas/_connectors.sql
  END
) WITH ('topic' = '${TOPICS}') LIKE kafka_records (EXCLUDING METADATA EXCLUDING WATERMARKS);

-- Grain   one row per trade of the market, however often it came: redundant connections bring it twice.  `place` sorts, as
--         text, in the order of the trades
CREATE TEMPORARY VIEW single_trades AS
SELECT
  window_time AS second_at,
  `partition`,
  venue,
  instrument,
  CONCAT(
    MIN(DATE_FORMAT(event_at, 'yyyy-MM-dd HH:mm:ss.SSS')), LPAD(CAST(CHAR_LENGTH(trade_id) AS STRING), 4, '0'), trade_id
  ) AS place,
  MIN(price) AS price,
  MIN(size) AS size,
  MIN(price) * MIN(size) AS turnover
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(event_at), INTERVAL '1' SECOND))
-- No kernel checks trades: rows that break the DDL, and executions that are no trades of the market, are left out here.
WHERE venue IS NOT NULL AND instrument IS NOT NULL AND trade_id IS NOT NULL
  AND price > 0 AND price <= 1e12 AND size >= 0 AND size <= 1e15
  AND traded_at <= recorded_at + INTERVAL '1' MINUTE
  AND off_market IS NULL
GROUP BY window_start, window_end, window_time, `partition`, venue, instrument, trade_id;

-- Grain   the same, with size and turnover in parts, each of which adds up without rounding: a sum of doubles would depend on
--         the order in which they came, and no decimal is long enough for 1e-24 beside 1e27.  A size is a whole number and a
--         part below 1; a turnover is a whole number, whole units of 1e-15 and a part of such a unit.
CREATE TEMPORARY VIEW amounts AS
SELECT
  second_at, `partition`, venue, instrument, place, price,
  CAST(FLOOR(size) AS DECIMAL(38, 0)) AS volume,
  -- From the digits that were sent: above 1 a double has 16 decimals at most.
  IF(
    size < 1,
    CAST(size AS DECIMAL(38, 30)),
    CAST(CAST(size AS DECIMAL(32, 16)) - CAST(FLOOR(size) AS DECIMAL(32, 16)) AS DECIMAL(38, 30))
  ) AS volume_part,
  CAST(FLOOR(turnover) AS DECIMAL(38, 0)) AS turnover,
  CAST(FLOOR((turnover - FLOOR(turnover)) * 1e15) AS DECIMAL(38, 0)) AS turnover_units,
  CAST((turnover - FLOOR(turnover)) * 1e15 - FLOOR((turnover - FLOOR(turnover)) * 1e15) AS DECIMAL(38, 30)) AS turnover_part
FROM single_trades;

-- Grain   one row per instrument and second.  First and last trade are place and price as one text, separated by U+001F
CREATE TEMPORARY VIEW seconds AS
SELECT
  window_start AS start_at, window_end AS end_at, window_time AS second_at, `partition`, venue, instrument,
  MIN(CONCAT(place, U&'\001F', CAST(price AS STRING))) AS first_trade,
  MAX(CONCAT(place, U&'\001F', CAST(price AS STRING))) AS last_trade,
  MAX(price) AS high,
  MIN(price) AS low,
  SUM(volume) AS volume,
  SUM(volume_part) AS volume_part,
  SUM(turnover) AS turnover,
  SUM(turnover_units) AS turnover_units,
  SUM(turnover_part) AS turnover_part,
  COUNT(*) AS trade_count
FROM TABLE(TUMBLE(TABLE amounts, DESCRIPTOR(second_at), INTERVAL '1' SECOND))
GROUP BY window_start, window_end, window_time, `partition`, venue, instrument;

-- Grain   one row per instrument and minute
CREATE TEMPORARY VIEW minutes AS
SELECT
  window_start AS start_at, window_end AS end_at, window_time AS minute_at, `partition`, venue, instrument,
  MIN(first_trade) AS first_trade,
  MAX(last_trade) AS last_trade,
  MAX(high) AS high,
  MIN(low) AS low,
  SUM(volume) AS volume,
  SUM(volume_part) AS volume_part,
  SUM(turnover) AS turnover,
  SUM(turnover_units) AS turnover_units,
  SUM(turnover_part) AS turnover_part,
  SUM(trade_count) AS trade_count
FROM TABLE(TUMBLE(TABLE seconds, DESCRIPTOR(second_at), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, window_time, `partition`, venue, instrument;

-- Grain   one row per instrument and hour
CREATE TEMPORARY VIEW hours AS
SELECT
  window_start AS start_at, window_end AS end_at, window_time AS hour_at, `partition`, venue, instrument,
  MIN(first_trade) AS first_trade,
  MAX(last_trade) AS last_trade,
  MAX(high) AS high,
  MIN(low) AS low,
  SUM(volume) AS volume,
  SUM(volume_part) AS volume_part,
  SUM(turnover) AS turnover,
  SUM(turnover_units) AS turnover_units,
  SUM(turnover_part) AS turnover_part,
  SUM(trade_count) AS trade_count
FROM TABLE(TUMBLE(TABLE minutes, DESCRIPTOR(minute_at), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, window_time, `partition`, venue, instrument;

CREATE TEMPORARY VIEW intervals AS
SELECT
  1 AS interval_s, start_at, end_at, second_at AS closed_at, `partition`, venue, instrument, first_trade, last_trade, high, low, trade_count,
  volume, volume_part, turnover, turnover_units, turnover_part
FROM seconds
UNION ALL
SELECT
  60, start_at, end_at, minute_at, `partition`, venue, instrument, first_trade, last_trade, high, low, trade_count,
  volume, volume_part, turnover, turnover_units, turnover_part
FROM minutes
UNION ALL
SELECT
  3600, start_at, end_at, hour_at, `partition`, venue, instrument, first_trade, last_trade, high, low, trade_count,
  volume, volume_part, turnover, turnover_units, turnover_part
FROM hours;

-- Grain   the same, with each sum as one number
CREATE TEMPORARY VIEW totals AS
SELECT
  interval_s, start_at, end_at, closed_at, `partition`, venue, instrument, first_trade, last_trade, high, low, trade_count,
  CAST(volume AS DOUBLE) + CAST(volume_part AS DOUBLE) AS volume,
  CAST(turnover AS DOUBLE) + (CAST(turnover_units AS DOUBLE) + CAST(turnover_part AS DOUBLE)) / 1e15 AS turnover
FROM intervals;

-- The runner writes these, in the order of `closed_at`, with heartbeats among them (engine/_heartbeats.sql).
CREATE TEMPORARY VIEW bars_rows (
  `partition`, closed_at, `key`, recorded_at, venue, instrument, interval_s, start_at, event_at,
  open_price, high_price, low_price, close_price, volume, vwap, trade_count
) AS
SELECT
  `partition`,
  closed_at,
  CONCAT(venue, ':', instrument),
  CAST(end_at AS TIMESTAMP_LTZ(3)),
  venue,
  instrument,
  interval_s,
  CAST(start_at AS TIMESTAMP_LTZ(3)),
  CAST(end_at AS TIMESTAMP_LTZ(3)),
  CAST(SPLIT_INDEX(first_trade, U&'\001F', 1) AS DOUBLE),
  high,
  low,
  CAST(SPLIT_INDEX(last_trade, U&'\001F', 1) AS DOUBLE),
  volume,
  -- A mean is between low and high; rounding must not change that.
  LEAST(GREATEST(turnover / NULLIF(volume, 0), low), high),
  trade_count
FROM totals;

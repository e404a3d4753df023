-- bars: what were open, high, low, close, volume and VWAP of every instrument, each second, minute and hour?
--
-- Grain   one row per instrument and interval in which it traded; none for an interval without trades
-- State   the trades of the open second; one row per instrument of the open minute and of the open hour
-- Late    a trade more than a second behind the slowest partition's newest is in no bar (Flink's numLateRecordsDropped)

-- A bar is said once: wait longer than others do for trades that are out of order.
CREATE TEMPORARY TABLE inputs (
  event_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  WATERMARK FOR event_at AS event_at - INTERVAL '1' SECOND
) WITH ('topic' = 'trades.v1') LIKE kafka_records (OVERWRITING METADATA OVERWRITING WATERMARKS);

-- Grain   one row per trade, however often it came: redundant connections bring it twice.  `place` sorts as text as trades do
--         in time.  Turnover and size are decimals: a sum of doubles would depend on the order in which they came.
CREATE TEMPORARY VIEW single_trades AS
SELECT
  window_time AS traded_at,
  venue,
  instrument,
  CONCAT(
    MIN(DATE_FORMAT(event_at, 'yyyy-MM-dd HH:mm:ss.SSS')), LPAD(CAST(CHAR_LENGTH(trade_id) AS STRING), 4, '0'), trade_id
  ) AS place,
  MIN(price) AS price,
  CAST(MIN(size) AS DECIMAL(38, 12)) AS size,
  CAST(MIN(price) * MIN(size) AS DECIMAL(38, 12)) AS turnover
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(event_at), INTERVAL '1' SECOND))
-- No kernel looks at trades: what breaks the DDL is left out here.
WHERE venue IS NOT NULL AND instrument IS NOT NULL AND trade_id IS NOT NULL AND price > 0 AND size >= 0
GROUP BY window_start, window_end, window_time, venue, instrument, trade_id;

-- Grain   one row per instrument and second.  First and last trade are place and price as one text, parted by U+001F
CREATE TEMPORARY VIEW seconds AS
SELECT
  window_start AS start_at, window_end AS end_at, window_time AS traded_at, venue, instrument,
  MIN(CONCAT(place, U&'\001F', CAST(price AS STRING))) AS first_trade,
  MAX(CONCAT(place, U&'\001F', CAST(price AS STRING))) AS last_trade,
  MAX(price) AS high,
  MIN(price) AS low,
  SUM(size) AS volume,
  SUM(turnover) AS turnover,
  COUNT(*) AS trade_count
FROM TABLE(TUMBLE(TABLE single_trades, DESCRIPTOR(traded_at), INTERVAL '1' SECOND))
GROUP BY window_start, window_end, window_time, venue, instrument;

-- Grain   one row per instrument and minute
CREATE TEMPORARY VIEW minutes AS
SELECT
  window_start AS start_at, window_end AS end_at, window_time AS traded_at, venue, instrument,
  MIN(first_trade) AS first_trade,
  MAX(last_trade) AS last_trade,
  MAX(high) AS high,
  MIN(low) AS low,
  SUM(volume) AS volume,
  SUM(turnover) AS turnover,
  SUM(trade_count) AS trade_count
FROM TABLE(TUMBLE(TABLE seconds, DESCRIPTOR(traded_at), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, window_time, venue, instrument;

-- Grain   one row per instrument and hour
CREATE TEMPORARY VIEW hours AS
SELECT
  window_start AS start_at, window_end AS end_at, window_time AS traded_at, venue, instrument,
  MIN(first_trade) AS first_trade,
  MAX(last_trade) AS last_trade,
  MAX(high) AS high,
  MIN(low) AS low,
  SUM(volume) AS volume,
  SUM(turnover) AS turnover,
  SUM(trade_count) AS trade_count
FROM TABLE(TUMBLE(TABLE minutes, DESCRIPTOR(traded_at), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, window_time, venue, instrument;

CREATE TEMPORARY VIEW intervals AS
SELECT 1 AS interval_s, start_at, end_at, venue, instrument, first_trade, last_trade, high, low, volume, turnover, trade_count
FROM seconds
UNION ALL
SELECT 60, start_at, end_at, venue, instrument, first_trade, last_trade, high, low, volume, turnover, trade_count
FROM minutes
UNION ALL
SELECT 3600, start_at, end_at, venue, instrument, first_trade, last_trade, high, low, volume, turnover, trade_count
FROM hours;

INSERT INTO bars_rows (
  `key`, recorded_at, venue, instrument, interval_s, start_at, event_at,
  open_price, high_price, low_price, close_price, volume, vwap, trade_count
)
SELECT
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
  CAST(volume AS DOUBLE),
  CAST(turnover AS DOUBLE) / NULLIF(CAST(volume AS DOUBLE), 0),
  trade_count
FROM intervals;

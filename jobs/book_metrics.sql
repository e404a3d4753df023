-- book_metrics: how tight, deep and one-sided is every book, each second and each minute?
--
-- Grain   one row per instrument and interval in which a message of its book was applied, or its depth was repeated: every 10 s
--         while its venue is not quiet; none for an interval without either
-- State   the last top of each book, freed after a year of silence; last depth and flow of each book in the open intervals
-- Time    the exchange's own time decides the interval of a row.  The common time of all venues, the record timestamp, decides
--         when an interval ends: so the rows of a venue whose clock is ahead come that much later, and none lacks its last
--         messages
-- Late    a row that comes a second of the common time after the end of its interval is in no interval; Flink's
--         numLateRecordsDropped counts it.  The same holds for rows of a venue whose clock is more than a second behind the
--         others'

SET 'gammaflow.reads' = 'book_tops, book_depth';
SET 'gammaflow.writes' = 'book_metrics';
SET 'gammaflow.tells-time' = 'book_metrics';

-- Nobody waits for a row of it: it need not wake up as often as jobs on the way to an order.
SET 'execution.buffer-timeout.interval' = '100 ms';
SET 'pipeline.auto-watermark-interval' = '100 ms';

-- Only the last tops are freed like this: by the wall clock, whether the job runs or not.  A job that is restored from a
-- savepoint must find them, however old the savepoint is; a top is a hundred bytes.
SET 'table.exec.state.ttl' = '365 d';

-- A top that had to wait for an update before it comes later than the heartbeats: hence the second.
CREATE TEMPORARY TABLE inputs (
  recorded_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  -- Depth at a boundary belongs to the 100 ms before it, and so to the second that ends there.  A heartbeat has only the common
  -- time.
  event_at AS COALESCE(
    TRY_CAST(REPLACE(REPLACE(JSON_VALUE(`value`, '$.event_at'), 'T', ' '), 'Z', '') AS TIMESTAMP_LTZ(3)), recorded_at
  ) - CASE WHEN topic = 'book_depth.v1' THEN INTERVAL '0.001' SECOND ELSE INTERVAL '0.000' SECOND END,
  arrived_at AS PROCTIME(),
  WATERMARK FOR event_at AS CASE WHEN `value` IS NULL THEN recorded_at - INTERVAL '1' SECOND END
) WITH ('topic' = '${TOPICS}') LIKE kafka_records (EXCLUDING METADATA EXCLUDING WATERMARKS);

CREATE TEMPORARY FUNCTION depth_within AS 'udfs.flink.depth_within' LANGUAGE PYTHON;

CREATE TEMPORARY FUNCTION slippage_bps AS 'udfs.flink.slippage_bps' LANGUAGE PYTHON;

-- Grain   one row per change of the top, with the top before it.  The order is the order of arrival: a book's tops are in one
--         partition, in the order of their sequence.
CREATE TEMPORARY VIEW changes AS
SELECT
  `partition`, venue, instrument, event_at, bid_price, bid_size, ask_price, ask_size, is_stale,
  LAG(bid_price) OVER (PARTITION BY `partition`, venue, instrument ORDER BY arrived_at) AS last_bid_price,
  LAG(bid_size) OVER (PARTITION BY `partition`, venue, instrument ORDER BY arrived_at) AS last_bid_size,
  LAG(ask_price) OVER (PARTITION BY `partition`, venue, instrument ORDER BY arrived_at) AS last_ask_price,
  LAG(ask_size) OVER (PARTITION BY `partition`, venue, instrument ORDER BY arrived_at) AS last_ask_size,
  LAG(is_stale) OVER (PARTITION BY `partition`, venue, instrument ORDER BY arrived_at) AS was_stale
FROM book_tops;

-- Grain   one row per change of the top with its e, NULL where there is none; and one per row of depth, whole
-- e       (Cont, Kukanov, Stoikov 2014): sizes added to bids and taken from asks, less sizes taken from bids and added to asks
CREATE TEMPORARY VIEW events AS
SELECT
  `partition`, venue, instrument, event_at, CAST(NULL AS STRING) AS depth, 1 AS changes,
  CASE WHEN NOT is_stale AND NOT was_stale AND bid_price + last_bid_price + ask_price + last_ask_price IS NOT NULL THEN
    IF(bid_price >= last_bid_price, bid_size, 0) - IF(bid_price <= last_bid_price, last_bid_size, 0)
    - IF(ask_price <= last_ask_price, ask_size, 0) + IF(ask_price >= last_ask_price, last_ask_size, 0)
  END AS e
FROM changes
UNION ALL
SELECT `partition`, venue, instrument, event_at, `value`, 0, CAST(NULL AS DOUBLE) FROM book_depth;

-- Grain   one row per instrument and second.  LAST_VALUE takes the last value in the log, and skips NULL.
CREATE TEMPORARY VIEW seconds AS
SELECT
  window_end, window_time AS closed_at, `partition`, venue, instrument, LAST_VALUE(depth) AS depth,
  CASE WHEN COUNT(e) = SUM(changes) THEN COALESCE(SUM(e), 0) END AS flow
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(event_at), INTERVAL '1' SECOND))
GROUP BY window_start, window_end, window_time, `partition`, venue, instrument;

-- Grain   one row per instrument and minute
CREATE TEMPORARY VIEW minutes AS
SELECT
  window_end, window_time AS closed_at, `partition`, venue, instrument, LAST_VALUE(depth) AS depth,
  CASE WHEN COUNT(e) = SUM(changes) THEN COALESCE(SUM(e), 0) END AS flow
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(event_at), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, window_time, `partition`, venue, instrument;

CREATE TEMPORARY VIEW intervals AS
SELECT 1 AS interval_s, window_end, closed_at, `partition`, venue, instrument, depth, flow FROM seconds WHERE depth IS NOT NULL
UNION ALL
SELECT 60, window_end, closed_at, `partition`, venue, instrument, depth, flow FROM minutes WHERE depth IS NOT NULL;

-- Grain   the same, with the book at its end; a stale book has no levels.  JSON is read in function tables: the planner does
--         not unfold those, so each field is read once
CREATE TEMPORARY VIEW books AS
SELECT
  `partition`, closed_at, venue, instrument, interval_s, CAST(window_end AS TIMESTAMP_LTZ(3)) AS event_at, is_stale,
  bids, asks, bid_price, bid_size, ask_price, ask_size, lowest_bid_price, highest_ask_price,
  (bid_price + ask_price) / 2 AS mid_price,
  CASE WHEN NOT is_stale THEN flow END AS flow
FROM intervals
CROSS JOIN UNNEST(ARRAY[JSON_VALUE(depth, '$.is_stale') <> 'false']) AS state (is_stale)
CROSS JOIN UNNEST(ARRAY[ROW(
  CASE WHEN NOT is_stale THEN JSON_QUERY(depth, '$.bids') END,
  CASE WHEN NOT is_stale THEN JSON_QUERY(depth, '$.asks') END
)]) AS book (bids, asks)
CROSS JOIN UNNEST(ARRAY[ROW(
  TRY_CAST(JSON_VALUE(bids, '$[0][0]') AS DOUBLE),
  TRY_CAST(JSON_VALUE(bids, '$[0][1]') AS DOUBLE),
  TRY_CAST(JSON_VALUE(asks, '$[0][0]') AS DOUBLE),
  TRY_CAST(JSON_VALUE(asks, '$[0][1]') AS DOUBLE),
  TRY_CAST(JSON_VALUE(bids, '$[19][0]') AS DOUBLE),
  TRY_CAST(JSON_VALUE(asks, '$[19][0]') AS DOUBLE)
)]) AS top (bid_price, bid_size, ask_price, ask_size, lowest_bid_price, highest_ask_price);

-- The runner writes these, in the order of `closed_at`, with heartbeats among them (engine/_heartbeats.sql).
CREATE TEMPORARY VIEW book_metrics_rows (
  `partition`, closed_at, `key`, recorded_at, venue, instrument, interval_s, event_at, is_stale,
  mid_price, spread, spread_bps, micro_price, imbalance, order_flow_imbalance,
  bid_depth_5bps, bid_depth_10bps, bid_depth_25bps, bid_depth_50bps,
  ask_depth_5bps, ask_depth_10bps, ask_depth_25bps, ask_depth_50bps,
  bid_reach_bps, ask_reach_bps,
  sell_slippage_10k_bps, sell_slippage_100k_bps, sell_slippage_1m_bps,
  buy_slippage_10k_bps, buy_slippage_100k_bps, buy_slippage_1m_bps
) AS
SELECT
  `partition`,
  closed_at,
  CONCAT(venue, ':', instrument),
  event_at,
  venue,
  instrument,
  interval_s,
  event_at,
  is_stale,
  mid_price,
  ask_price - bid_price,
  1e4 * (ask_price - bid_price) / mid_price,
  (bid_price * ask_size + ask_price * bid_size) / (bid_size + ask_size),
  (bid_size - ask_size) / (bid_size + ask_size),
  flow,
  depth_within(bids, mid_price, 5e0),
  depth_within(bids, mid_price, 1e1),
  depth_within(bids, mid_price, 25e0),
  depth_within(bids, mid_price, 5e1),
  depth_within(asks, mid_price, 5e0),
  depth_within(asks, mid_price, 1e1),
  depth_within(asks, mid_price, 25e0),
  depth_within(asks, mid_price, 5e1),
  1e4 * (mid_price - lowest_bid_price) / mid_price,
  1e4 * (highest_ask_price - mid_price) / mid_price,
  slippage_bps(bids, mid_price, 1e4),
  slippage_bps(bids, mid_price, 1e5),
  slippage_bps(bids, mid_price, 1e6),
  slippage_bps(asks, mid_price, 1e4),
  slippage_bps(asks, mid_price, 1e5),
  slippage_bps(asks, mid_price, 1e6)
FROM books;

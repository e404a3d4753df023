-- Topic bars.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per instrument and interval of a second, a minute and an hour, by the exchange's clock, in which it traded
CREATE TEMPORARY TABLE bars (
  venue       STRING           NOT NULL,
  instrument  STRING           NOT NULL,
  interval_s  INT              NOT NULL COMMENT 'Length of the interval: 1, 60 or 3600',
  start_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The first instant of the interval, by the exchange''s clock; charts name a bar by it',
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The first instant after the interval',
  open_price  DOUBLE                    COMMENT 'Price of the first trade by exchange time, then by trade_id, a longer one being later',
  high_price  DOUBLE,
  low_price   DOUBLE,
  close_price DOUBLE                    COMMENT 'Price of the last trade, in the order of open_price',
  volume      DOUBLE                    COMMENT 'Sum of sizes, in the venue''s unit of amount',
  vwap        DOUBLE                    COMMENT 'Mean price, weighted by size, from low_price to high_price; NULL where all sizes are zero',
  trade_count BIGINT           NOT NULL COMMENT 'Trades of the market; one that came twice counts once'
) WITH ('topic' = 'bars.v1') LIKE kafka_json;

-- Topic venue_trades.v1, keyed by venue:instrument.  Append-only.
--
-- The trades of the own venue, in the columns of trades: kernels that read it take its rows for rows of trades.  Trades on paper
-- are none of a market, and not here.
--
-- Grain     one row per two orders that trade with each other
-- Delivery  at-least-once.  A repeat is the same row with the same trade_id
CREATE TEMPORARY TABLE venue_trades (
  venue        STRING           NOT NULL,
  instrument   STRING           NOT NULL,
  event_at     TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch, and the latency of the venue',
  received_at  TIMESTAMP_LTZ(6) NOT NULL COMMENT 'The same instant',
  trade_id     STRING           NOT NULL COMMENT 'The number in the exec_id of the taker''s report',
  side         STRING           NOT NULL COMMENT 'Of the taker: buy or sell; in an auction, where nobody takes, of the order that came later',
  price        DOUBLE           NOT NULL COMMENT 'In the quote currency',
  size         DOUBLE           NOT NULL COMMENT 'Contracts',
  off_market   STRING                    COMMENT 'NULL: each is a trade of the market'
) WITH ('topic' = 'venue_trades.v1') LIKE kafka_json;

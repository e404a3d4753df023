-- Topic tickers.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per ticker message: the venue's own best prices, mark and implied volatility
-- NULL    the message has no such value: that of an earlier row still counts.  Only with has_quote it means that there is none
CREATE TEMPORARY TABLE tickers (
  venue           STRING           NOT NULL,
  instrument      STRING           NOT NULL,
  event_at        TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time; where the message has none, the newest seen on its connection',
  received_at     TIMESTAMP_LTZ(6) NOT NULL,
  `sequence`      BIGINT                    COMMENT 'The book''s sequence id, where the venue gives it',
  bid_price       DOUBLE                    COMMENT 'NULL where there is no bid, or has_quote is FALSE',
  bid_size        DOUBLE                    COMMENT 'In the venue''s unit of amount',
  ask_price       DOUBLE                    COMMENT 'NULL where there is no ask, or has_quote is FALSE',
  ask_size        DOUBLE,
  last_price      DOUBLE,
  mark_price      DOUBLE                    COMMENT 'In the quote currency; coin for inverse options',
  mark_iv         DOUBLE                    COMMENT 'Fraction: 0.8 is 80 %',
  bid_iv          DOUBLE                    COMMENT 'Fraction',
  ask_iv          DOUBLE                    COMMENT 'Fraction',
  forward_usd     DOUBLE                    COMMENT 'The underlying price that the venue marks this expiry with',
  index_price_usd DOUBLE,
  interest_rate   DOUBLE                    COMMENT 'Fraction a year',
  open_interest   DOUBLE                    COMMENT 'In the venue''s unit of amount',
  min_price       DOUBLE                    COMMENT 'Lower end of the price band',
  max_price       DOUBLE                    COMMENT 'Upper end of the price band',
  has_quote       BOOLEAN                   COMMENT 'Whether the message reports best bid and ask: with TRUE, NULL there means none; with FALSE, not in this message; NULL: it reports them if it has the field bid_price or ask_price',
  funding_rate    DOUBLE                    COMMENT 'Fraction per funding interval: above 0 long positions pay, below 0 short positions pay',
  next_funding_at TIMESTAMP_LTZ(3)          COMMENT 'When the interval ends and its funding is paid'
) WITH ('topic' = 'tickers.v1') LIKE kafka_json;

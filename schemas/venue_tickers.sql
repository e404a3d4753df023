-- Topic venue_tickers.v1, keyed by venue:instrument.  Append-only.
--
-- The tickers of the own venue, in the columns of tickers: kernels that read it take its rows for rows of tickers.
--
-- Grain     one row per book and 100 ms at most (kernels/matching/rules.py), where best prices, last price or mark have changed
-- Delivery  at-least-once.  A repeat is the same row
CREATE TEMPORARY TABLE venue_tickers (
  venue           STRING           NOT NULL,
  instrument      STRING           NOT NULL,
  event_at        TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch, and the latency of the venue',
  received_at     TIMESTAMP_LTZ(6) NOT NULL COMMENT 'The same instant',
  `sequence`      BIGINT                    COMMENT 'In venue_order_books',
  bid_price       DOUBLE                    COMMENT 'NULL where there is no bid',
  bid_size        DOUBLE                    COMMENT 'Contracts',
  ask_price       DOUBLE                    COMMENT 'NULL where there is no ask',
  ask_size        DOUBLE                    COMMENT 'Contracts',
  last_price      DOUBLE                    COMMENT 'NULL before the first trade',
  mark_price      DOUBLE                    COMMENT 'The venue''s own, by which its bands go (kernels/matching/mark.py); NULL where tickers tell the mark: of options, and without an index',
  mark_iv         DOUBLE                    COMMENT 'NULL: it tells none',
  bid_iv          DOUBLE                    COMMENT 'NULL: it tells none',
  ask_iv          DOUBLE                    COMMENT 'NULL: it tells none',
  forward_usd     DOUBLE                    COMMENT 'NULL: it tells none',
  index_price_usd DOUBLE                    COMMENT 'By which it marks; NULL where it does not',
  interest_rate   DOUBLE                    COMMENT 'NULL: it tells none',
  open_interest   DOUBLE                    COMMENT 'NULL: it tells none',
  min_price       DOUBLE                    COMMENT 'Lower end of the price band; NULL where there is none',
  max_price       DOUBLE                    COMMENT 'Upper end of the price band; NULL where there is none',
  has_quote       BOOLEAN                   COMMENT 'TRUE: a best price that is NULL is not there',
  funding_rate    DOUBLE                    COMMENT 'NULL: it tells none',
  next_funding_at TIMESTAMP_LTZ(3)          COMMENT 'NULL: it tells none'
) WITH ('topic' = 'venue_tickers.v1') LIKE kafka_json;

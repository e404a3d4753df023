-- Topic option_greeks.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per option and instant of its tickers, in the exchange's own convention (Black-76 on the venue's forward,
--         rate 0, coin-settled), on the newest mark volatility and forward of those tickers
CREATE TEMPORARY TABLE option_greeks (
  venue       STRING           NOT NULL,
  instrument  STRING           NOT NULL,
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time of the ticker',
  received_at TIMESTAMP_LTZ(6) NOT NULL,
  underlying  STRING,
  option_type STRING                    COMMENT 'call or put',
  strike_usd  DOUBLE,
  expiry_at   TIMESTAMP_LTZ(3),
  forward_usd DOUBLE                    COMMENT 'The venue''s underlying price for this expiry',
  mark_iv     DOUBLE                    COMMENT 'Fraction: 0.8 is 80 %',
  price_coin  DOUBLE                    COMMENT 'Option value over forward',
  delta       DOUBLE                    COMMENT 'USD of option per USD of forward; not premium-adjusted',
  gamma       DOUBLE                    COMMENT 'Delta per USD of forward',
  vega        DOUBLE                    COMMENT 'USD per vol point (0.01)',
  theta       DOUBLE                    COMMENT 'USD per day, no more than the option is worth',
  rho         DOUBLE                    COMMENT 'USD per 1 % of rate',
  reason      STRING                    COMMENT 'Why the numbers are NULL; NULL where they are not'
) WITH ('topic' = 'option_greeks.v1') LIKE kafka_json;

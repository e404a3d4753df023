-- Topic index_prices.v2, keyed by venue:underlying:quote_currency.  Append-only.
--
-- Grain   one row per update of an index or oracle
CREATE TEMPORARY TABLE index_prices (
  venue          STRING           NOT NULL COMMENT 'Exchange or oracle',
  underlying     STRING           NOT NULL COMMENT 'BTC',
  event_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Publish time',
  received_at    TIMESTAMP_LTZ(6) NOT NULL,
  price_usd      DOUBLE           NOT NULL COMMENT 'In quote_currency, each of which is meant to be a US dollar',
  confidence_usd DOUBLE                    COMMENT 'Half-width of the publisher''s confidence interval; NULL if it gives none',
  quote_currency STRING                    COMMENT 'USD, USDC or USDT; NULL is USD'
) WITH ('topic' = 'index_prices.v2') LIKE kafka_json;

-- Topic index_prices.v1, keyed by venue:underlying.  Append-only.
--
-- Grain   one row per update of an index or oracle
CREATE TEMPORARY TABLE index_prices (
  venue          STRING           NOT NULL COMMENT 'Exchange or oracle',
  underlying     STRING           NOT NULL COMMENT 'BTC',
  event_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Publish time',
  received_at    TIMESTAMP_LTZ(6) NOT NULL,
  price_usd      DOUBLE           NOT NULL,
  confidence_usd DOUBLE                    COMMENT 'Half-width of the publisher''s confidence interval; NULL if it gives none'
) WITH ('topic' = 'index_prices.v1') LIKE kafka_json;

-- Topic oracle_updates.v1, keyed by venue:underlying:quote_currency.  Append-only.
--
-- Grain   one row per price that a publisher of an oracle has published
CREATE TEMPORARY TABLE oracle_updates (
  venue          STRING           NOT NULL COMMENT 'The publisher: pyth, chainlink',
  instrument     STRING           NOT NULL COMMENT 'The publisher''s own id of the feed, or its pair',
  underlying     STRING           NOT NULL COMMENT 'BTC',
  quote_currency STRING           NOT NULL COMMENT 'USD, USDC or USDT',
  event_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Publish time; of a round when it was updated',
  received_at    TIMESTAMP_LTZ(6) NOT NULL,
  price          DOUBLE           NOT NULL COMMENT 'In quote_currency, exponent or decimals applied',
  confidence     DOUBLE                    COMMENT 'Half-width of the publisher''s interval, in quote_currency; NULL if it gives none',
  `sequence`     BIGINT                    COMMENT 'Slot or round id; NULL if the publisher gives none'
) WITH ('topic' = 'oracle_updates.v1') LIKE kafka_json;

-- Topic oracle_updates.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per price that an oracle publishes
CREATE TEMPORARY TABLE oracle_updates (
  venue          STRING           NOT NULL COMMENT 'The oracle',
  instrument     STRING           NOT NULL COMMENT 'Its own name of the feed: an id, a proxy or a pair',
  underlying     STRING           NOT NULL COMMENT 'BTC',
  quote_currency STRING           NOT NULL COMMENT 'USD',
  event_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Publish time',
  received_at    TIMESTAMP_LTZ(6) NOT NULL,
  price          DOUBLE           NOT NULL COMMENT 'In quote_currency',
  confidence     DOUBLE                    COMMENT 'Half-width of the confidence interval, in quote_currency; NULL if the oracle gives none',
  `sequence`     BIGINT                    COMMENT 'Slot or round; NULL if the oracle gives none'
) WITH ('topic' = 'oracle_updates.v1') LIKE kafka_json;

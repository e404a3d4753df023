-- Topic oracle_prices.v1, keyed by underlying.  Append-only.
--
-- Grain   one row per underlying and 100 ms, from its first price on
CREATE TEMPORARY TABLE oracle_prices (
  underlying     STRING           NOT NULL COMMENT 'BTC; also USDC and USDT, in which others are quoted',
  event_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The end of the 100 ms',
  price_usd      DOUBLE           NOT NULL COMMENT 'Where no source counts, the last one',
  confidence_usd DOUBLE           NOT NULL COMMENT 'Half-width of the interval',
  average_usd    DOUBLE           NOT NULL COMMENT 'Moving average of the price',
  age_ms         DOUBLE           NOT NULL COMMENT 'Weighted median age of what it is made of, and the time since anything counted',
  source_count   INT              NOT NULL COMMENT 'Sources used; oracle_sources says which',
  venue_count    INT              NOT NULL COMMENT 'Venues and publishers among them',
  validity       STRING           NOT NULL COMMENT 'non_positive, too_volatile, too_uncertain, stale_for_margin, insufficient_data, stale or valid: the first that applies',
  held           STRING                    COMMENT 'What its validity holds, of increase, reduce, liquidate, adl, joined by commas; NULL for nothing',
  rules          STRING           NOT NULL COMMENT 'Name and version of the parameter set: default/1'
) WITH ('topic' = 'oracle_prices.v1') LIKE kafka_json;

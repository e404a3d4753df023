-- Topic forwards.v1, keyed by venue:underlying:expiry_at.  Compacted: the newest row of a key is the current forward.
--
-- Grain   one row per venue, underlying and expiry, each time the forward has moved by a tenth of a basis point or more, or its
--         source has changed
CREATE TEMPORARY TABLE forwards (
  venue          STRING           NOT NULL,
  underlying     STRING           NOT NULL COMMENT 'BTC',
  expiry_at      TIMESTAMP_LTZ(3) NOT NULL,
  event_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Last instant of the micro-batch that moved it',
  forward_usd    DOUBLE                    COMMENT 'NULL where there is none',
  source         STRING           NOT NULL COMMENT 'future, parity, venue (what it marks the options with), index or none',
  half_width_usd DOUBLE                    COMMENT 'Half of the distance between bid and ask of the future, or of the bounds that parity sets; NULL for what has none',
  strikes        INT              NOT NULL COMMENT 'With a call and a put that are quoted on both sides, whatever the source',
  index_usd      DOUBLE                    COMMENT 'The venue''s own index, else the newest of any; in quote_currency, else in USD, USDC or USDT; NULL where none is known',
  reason         STRING                    COMMENT 'Why there is no forward; NULL where there is one',
  quote_currency STRING                    COMMENT 'In which currency the contracts that it is taken from are quoted; USD for those quoted in coin; NULL is USD'
) WITH ('topic' = 'forwards.v1') LIKE kafka_json;

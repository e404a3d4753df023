-- Topic oracle_sources.v1, keyed by underlying.  Append-only.
--
-- Grain   one row per source of an underlying and 100 ms, also where nothing came of it; a source is forgotten after a day of
--         silence.  And one of the price itself, as the source `consensus`
CREATE TEMPORARY TABLE oracle_sources (
  underlying     STRING           NOT NULL,
  source         STRING           NOT NULL COMMENT 'venue:kind:feed, as in deribit:index:BTC',
  venue          STRING           NOT NULL COMMENT 'Venue or publisher; empty for the consensus',
  kind           STRING           NOT NULL COMMENT 'index, publisher, mid (of a book of spot), perpetual (mid less its basis), last (trade of spot) or consensus',
  quote_currency STRING           NOT NULL,
  event_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The end of the 100 ms',
  published_at   TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Publish time of the newest price, by the source''s own clock',
  price_usd      DOUBLE                    COMMENT 'NULL where it has none: a stale book, no rate of its currency',
  confidence_usd DOUBLE                    COMMENT 'Half-width that counts, capped',
  consensus_usd  DOUBLE                    COMMENT 'The price of the underlying, of all sources; NULL before the first',
  age_ms         DOUBLE           NOT NULL COMMENT 'Since its newest price, in common time; below zero from the future',
  silent_ms      DOUBLE           NOT NULL COMMENT 'Since anything new of it was received',
  gap_ms         DOUBLE                    COMMENT 'Median time between its newest 16 prices; NULL without a habit',
  limit_ms       DOUBLE                    COMMENT 'For how long it may be silent by its own habit; NULL without one, and for books and trades',
  still_ms       DOUBLE           NOT NULL COMMENT 'Since its price last changed',
  still_limit_ms DOUBLE                    COMMENT 'For how long its price may stay the same by its own habit; NULL without one, and for trades',
  moved          DOUBLE                    COMMENT 'How far the consensus has been at most since then from where it was, as a fraction; 0 where that is no more than two of the steps in which the source''s own price changes',
  lag_ms         DOUBLE                    COMMENT 'How long ago the consensus was where the source is now; 0 where it is there; NULL where it was not in ten seconds',
  jitter_ms      DOUBLE                    COMMENT 'Mean change of the travel time (RFC 3550, 6.4.1)',
  deviation      DOUBLE                    COMMENT 'Price less consensus, as a fraction of that; of the consensus of USDC and USDT, from a dollar',
  step_back_ms   BIGINT           NOT NULL COMMENT 'How far its time stepped back within the 100 ms; 0 if it did not',
  weight         DOUBLE           NOT NULL COMMENT 'Its share of the whole; 0 if it is left out',
  reason         STRING                    COMMENT 'Why it is left out; NULL if it counts'
) WITH ('topic' = 'oracle_sources.v1') LIKE kafka_json;

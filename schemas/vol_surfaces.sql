-- Topic vol_surfaces.v1, keyed by venue:underlying:expiry_at.  Compacted: the newest rows of an underlying are its current surface.
--
-- Grain   one row per venue, underlying and expiry, each time the surface is fitted: all of an underlying's at once
-- Slice   total variance w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)) at k = ln(strike / forward); volatility sqrt(w
--         / years)
CREATE TEMPORARY TABLE vol_surfaces (
  venue              STRING           NOT NULL,
  underlying         STRING           NOT NULL COMMENT 'BTC',
  expiry_at          TIMESTAMP_LTZ(3) NOT NULL,
  event_at           TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When it was fitted: last instant of the micro-batch',
  forward_usd        DOUBLE                    COMMENT 'The forward with which quotes became volatilities',
  forward_source     STRING                    COMMENT 'As in forwards: future, parity, venue, index or none',
  years              DOUBLE           NOT NULL COMMENT 'From event_at to expiry, of 365 days',
  svi_a              DOUBLE                    COMMENT 'NULL where there is no slice, like the others',
  svi_b              DOUBLE,
  svi_rho            DOUBLE,
  svi_m              DOUBLE,
  svi_sigma          DOUBLE,
  atm_vol            DOUBLE                    COMMENT 'At the forward; fraction',
  atm_skew           DOUBLE                    COMMENT 'Slope of volatility along k at the forward',
  quotes             INT              NOT NULL COMMENT 'That were fitted',
  stale              INT              NOT NULL COMMENT 'Left out: updates of their book were lost',
  one_sided          INT              NOT NULL COMMENT 'Left out: no bid or no ask',
  excluded           INT              NOT NULL COMMENT 'Left out: crossed, or without a volatility, as below the intrinsic value, or in another currency than the forward',
  inside_share       DOUBLE                    COMMENT 'Share of the fitted quotes between whose bid and ask the slice lies',
  rmse_vol_points    DOUBLE                    COMMENT 'From the middle of bid and ask, weighted as in the fit; a point is 0.01',
  durrleman_min      DOUBLE                    COMMENT 'Least of Durrleman''s function: below 0 a butterfly is an arbitrage',
  calendar_min       DOUBLE                    COMMENT 'Least total variance above the expiry before, over that: below 0 a calendar spread is an arbitrage; NULL for the first',
  is_arbitrage_free  BOOLEAN                   COMMENT 'Both are 0 or above',
  is_repaired        BOOLEAN                   COMMENT 'The best fit is not: this is the best that is',
  quote_age_ms       BIGINT                    COMMENT 'Median age of the fitted quotes',
  reason             STRING                    COMMENT 'Why there is no slice; beside a slice: why it is far from its quotes; else NULL'
) WITH ('topic' = 'vol_surfaces.v1') LIKE kafka_json;

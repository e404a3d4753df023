-- Topic chain_greeks.v1, keyed by venue:instrument.  Compacted: the newest rows are every option's current price and Greeks.
--
-- Grain   one row per option and micro-batch in which its forward, its slice of the surface or its mark moved
-- Columns after reason carry numbers by their names: any of those in docs/choose_the_greeks.md can be added here, or taken out
CREATE TEMPORARY TABLE chain_greeks (
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Last instant of the micro-batch',
  underlying             STRING           NOT NULL,
  option_type            STRING           NOT NULL COMMENT 'call or put',
  strike_usd             DOUBLE           NOT NULL,
  expiry_at              TIMESTAMP_LTZ(3) NOT NULL,
  reason                 STRING                    COMMENT 'Why the numbers of the surface are NULL; NULL where they are not',
  forward_usd            DOUBLE                    COMMENT 'From forwards.v1',
  surface_iv             DOUBLE                    COMMENT 'From vol_surfaces.v1, at this strike and instant; fraction',
  mark_iv                DOUBLE                    COMMENT 'The venue''s; fraction',
  price_usd              DOUBLE,
  price_coin             DOUBLE                    COMMENT 'Over the forward',
  mark_price_coin        DOUBLE                    COMMENT 'At mark_iv, on the same forward',
  delta                  DOUBLE                    COMMENT 'Coins per coin; not premium-adjusted',
  premium_adjusted_delta DOUBLE                    COMMENT 'Delta less the price in coin: what hedges where premiums are paid in coin',
  mark_delta             DOUBLE                    COMMENT 'Delta at mark_iv',
  gamma_per_usd          DOUBLE                    COMMENT 'Delta per USD of forward',
  vega_usd_per_vol       DOUBLE                    COMMENT 'USD per 1.00 of volatility, not per vol point',
  theta_usd_per_day      DOUBLE,
  vanna_per_vol          DOUBLE                    COMMENT 'Delta per 1.00 of volatility',
  volga_usd_per_vol2     DOUBLE                    COMMENT 'Vega per 1.00 of volatility',
  charm_per_day          DOUBLE                    COMMENT 'Delta per day'
) WITH ('topic' = 'chain_greeks.v1') LIKE kafka_json;

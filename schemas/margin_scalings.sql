-- Topic margin_scalings.v1, keyed by underlying.  Append-only: by what requirements on an underlying are multiplied.
--
-- Grain   one row per change of a factor
CREATE TEMPORARY TABLE margin_scalings (
  underlying      STRING           NOT NULL COMMENT 'BTC',
  event_at        TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that changed it; from it on accounts are valued by it',
  vol             DOUBLE           NOT NULL COMMENT 'That of the option nearest to the money in the nearest expiry that is an hour away or more; 0.8 is 80 %',
  factor          DOUBLE           NOT NULL COMMENT 'Of initial and maintenance margin and of vol shocks on this underlying',
  previous_factor DOUBLE                    COMMENT 'NULL for the first one; 1 was meant until then',
  reason          STRING           NOT NULL COMMENT 'Why, with the numbers that led to it'
) WITH ('topic' = 'margin_scalings.v1') LIKE kafka_json;

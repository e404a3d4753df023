-- Topic risk_limits.v1, keyed by subject_kind:subject:measure:underlying:expiry_bucket.  Compacted.
--
-- How far an exposure of an account, or of a group of accounts, may be from its target.  Two bands: beyond `enter` the limit is
-- breached, and it stays so until the exposure is within `leave` again.
--
-- Grain     one row per limit, and change of it; the newest by event time counts
-- Measures  delta  USD that the subject gains if the underlying gains 100 %, by its slope; with balances of the coin
--           gamma  how much delta grows if the underlying gains 1 %
--           vega   USD that it gains if vol rises by one point (0.01)
--           leverage       the sum over positions of the amount of delta, each without sign, over equity
--           concentration  the part of that sum that the underlying with the most of it has: 0 to 1
CREATE TEMPORARY TABLE risk_limits (
  subject_kind  STRING           NOT NULL COMMENT 'account or group',
  subject       STRING           NOT NULL COMMENT 'The account, or the group_name of account_groups',
  measure       STRING           NOT NULL COMMENT 'delta, gamma, vega, leverage or concentration',
  underlying    STRING                    COMMENT 'Whose exposure counts; NULL: the sum over all, and of leverage and concentration',
  expiry_bucket STRING                    COMMENT 'perpetual (with coins and what never expires), week, month, quarter (up to 7, 31, 92 days) or later; NULL: all, and of leverage and concentration',
  event_at      TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Since when',
  enter         DOUBLE                    COMMENT 'Breached if the exposure is further than this from target: above zero; NULL: the limit is lifted',
  leave         DOUBLE                    COMMENT 'Over once it is no further than this from it: from zero to below enter; NULL is nine tenths of enter',
  target        DOUBLE                    COMMENT 'Where the exposure should be; NULL is zero: with is_hedged, delta neutral. Of leverage and concentration NULL',
  is_hedged     BOOLEAN                   COMMENT 'Whether the job hedges trades it back within leave; of delta, gamma and vega alone. NULL is FALSE',
  hedge_venue   STRING                    COMMENT 'Where its hedges trade; NULL: wherever it is cheapest',
  participation DOUBLE                    COMMENT 'Most that an order of it takes of what a book shows: above 0, up to 1; NULL is a quarter',
  reason        STRING                    COMMENT 'Why there is this limit'
) WITH ('topic' = 'risk_limits.v1') LIKE kafka_json;

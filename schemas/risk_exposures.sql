-- Topic risk_exposures.v1, keyed by subject.  Append-only.
--
-- What subjects of risk_limits are exposed to, by underlying and expiry.  Each shard of the accounts sums its own members of a
-- group: of a group the newest rows of all shards sum to its exposure.
--
-- Grain     one row per subject and shard without an underlying, with its sums; and one for each underlying and bucket in which it
--           holds something.  Those of one event_at are all.  They come with each change of a limit's state; while a limit is
--           breached and hedged, with each batch that values; of the others in turn
-- Delivery  at-least-once: in the loop of orders, venues, fills and decisions nothing may wait for a checkpoint.  A repeat is the
--           same row
CREATE TEMPORARY TABLE risk_exposures (
  subject_kind    STRING           NOT NULL COMMENT 'account or group',
  subject         STRING           NOT NULL,
  event_at        TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that valued it',
  part            INT              NOT NULL COMMENT 'The shard whose accounts are summed',
  owner_partition INT              NOT NULL COMMENT 'Partition of the account on which hedges trade; of a group without one that of its name',
  underlying      STRING                    COMMENT 'NULL of the sums',
  expiry_bucket   STRING                    COMMENT 'As in risk_limits; NULL of the sums',
  delta_usd       DOUBLE                    COMMENT 'USD for 100 % of the underlying; NULL where a price is missing',
  gamma_usd       DOUBLE                    COMMENT 'Change of delta_usd for 1 % of the underlying; likewise',
  vega_usd        DOUBLE                    COMMENT 'USD for a vol point (0.01); likewise',
  gross_usd       DOUBLE                    COMMENT 'The sum over positions of the amount of delta_usd, each without sign; likewise',
  equity_usd      DOUBLE                    COMMENT 'Of the sums; NULL where a price is missing, and of the other rows',
  rows_count      INT              NOT NULL COMMENT 'How many rows of this subject, shard and event_at there are'
) WITH ('topic' = 'risk_exposures.v1') LIKE kafka_json;

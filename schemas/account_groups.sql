-- Topic account_groups.v1, keyed by account:group_name.  Compacted.
--
-- Groups of accounts whose exposures are limited together: a desk, a trader, the firm.  An account may be in several.
--
-- Grain   one row per account and group, and change of it; the newest by event time counts
CREATE TEMPORARY TABLE account_groups (
  account    STRING           NOT NULL,
  group_name STRING           NOT NULL,
  event_at   TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Since when',
  is_member  BOOLEAN          NOT NULL COMMENT 'FALSE: the account has left the group',
  is_hedger  BOOLEAN                   COMMENT 'Whether hedges of the group trade on this account; of several the first by name. NULL is FALSE'
) WITH ('topic' = 'account_groups.v1') LIKE kafka_json;

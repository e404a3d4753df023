-- Topic limit_breaches.v1, keyed by subject.  Append-only: each change of the state of each limit of an account.
--
-- Grain     one row per limit of risk_limits and change of its state; a new limit that is kept has none
-- Delivery  at-least-once: a repeat is the same row
CREATE TEMPORARY TABLE limit_breaches (
  subject_kind  STRING           NOT NULL COMMENT 'account or group',
  subject       STRING           NOT NULL,
  event_at      TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch in which it changed',
  measure       STRING           NOT NULL COMMENT 'As in risk_limits',
  underlying    STRING                    COMMENT 'Likewise',
  expiry_bucket STRING                    COMMENT 'Likewise',
  state         STRING           NOT NULL COMMENT 'breached; within; unknown: a price is missing; lifted: there is no such limit any more',
  from_state    STRING                    COMMENT 'Before it; NULL of a new limit',
  exposure      DOUBLE                    COMMENT 'In the unit of the measure; NULL where it is not known',
  target        DOUBLE                    COMMENT 'Of the limit',
  enter         DOUBLE                    COMMENT 'Of the limit',
  leave         DOUBLE                    COMMENT 'Of the limit',
  reason        STRING                    COMMENT 'In words, with the figures'
) WITH ('topic' = 'limit_breaches.v1') LIKE kafka_json;

-- Topic feed_faults.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per fault that a book shows: a gap, a crossed book, an outdated snapshot
CREATE TEMPORARY TABLE feed_faults (
  venue       STRING           NOT NULL,
  instrument  STRING           NOT NULL,
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time of the message that showed it',
  received_at TIMESTAMP_LTZ(6) NOT NULL,
  kind        STRING           NOT NULL COMMENT 'gap, crossed or snapshot_outdated',
  `sequence`  BIGINT                    COMMENT 'Of the message that showed it',
  expected    STRING                    COMMENT 'What would have been right',
  got         STRING                    COMMENT 'What was there'
) WITH ('topic' = 'feed_faults.v1') LIKE kafka_json;

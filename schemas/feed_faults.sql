-- Topic feed_faults.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per fault that a book shows: a gap, a crossed book, a wrong checksum, an outdated snapshot, an update too late, a quiet venue
CREATE TEMPORARY TABLE feed_faults (
  venue       STRING           NOT NULL,
  instrument  STRING           NOT NULL,
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time of the message that showed it',
  received_at TIMESTAMP_LTZ(6) NOT NULL,
  kind        STRING           NOT NULL COMMENT 'gap, conflict, crossed, checksum, snapshot_outdated, late or quiet',
  `sequence`  BIGINT                    COMMENT 'Of the message that showed it',
  expected    STRING                    COMMENT 'What would have been right',
  got         STRING                    COMMENT 'What was there'
) WITH ('topic' = 'feed_faults.v1') LIKE kafka_json;

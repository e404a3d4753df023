-- Topic resync_requests.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per book that has become stale and needs a fresh snapshot, repeated until one has come
CREATE TEMPORARY TABLE resync_requests (
  venue      STRING           NOT NULL,
  instrument STRING           NOT NULL,
  event_at   TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When the book was found to need it',
  `sequence` BIGINT                    COMMENT 'The venue''s id of the last good book; NULL where there has been none',
  reason     STRING           NOT NULL COMMENT 'no_snapshot: there has been none; stale: updates were lost since'
) WITH ('topic' = 'resync_requests.v1') LIKE kafka_json;

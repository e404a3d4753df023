-- Topic book_depth.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per book and 100 ms of event time in which a message of it was taken
CREATE TEMPORARY TABLE book_depth (
  venue      STRING           NOT NULL,
  instrument STRING           NOT NULL,
  event_at   TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the 100 ms: the book as all messages before this instant made it',
  `sequence` BIGINT                    COMMENT 'The venue''s id of the book; NULL while a venue that numbers anew has not sent a snapshot',
  bids       ARRAY<ARRAY<DOUBLE>> NOT NULL COMMENT '[price, size] pairs, best first, at most 20',
  asks       ARRAY<ARRAY<DOUBLE>> NOT NULL COMMENT '[price, size] pairs, best first, at most 20',
  is_stale   BOOLEAN          NOT NULL COMMENT 'Updates were lost: levels are the last known, until the next snapshot'
) WITH ('topic' = 'book_depth.v1') LIKE kafka_json;

-- Topic book_depth.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per book and 100 ms of exchange time in which a message of it was applied; one every 10 s at least, as long
--         as its venue is not quiet; and one when the venue falls quiet or is heard again.  A second row of one instant
--         corrects the first
-- Record  its timestamp is the common time of all venues; a venue's own clock may be ahead of it
CREATE TEMPORARY TABLE book_depth (
  venue      STRING           NOT NULL,
  instrument STRING           NOT NULL,
  event_at   TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the 100 ms, by the venue''s clock: the book as all messages before this instant made it',
  `sequence` BIGINT                    COMMENT 'The venue''s id of the book; NULL while a venue that has restarted its numbers has not sent a snapshot',
  bids       ARRAY<ARRAY<DOUBLE>> NOT NULL COMMENT '[price, size] pairs, best first, at most 20; the size in the venue''s unit of amount',
  asks       ARRAY<ARRAY<DOUBLE>> NOT NULL COMMENT '[price, size] pairs, best first, at most 20',
  is_stale   BOOLEAN          NOT NULL COMMENT 'Updates were lost, or the venue is quiet: levels are the last known, until the next snapshot or the next message of the venue'
) WITH ('topic' = 'book_depth.v1') LIKE kafka_json;

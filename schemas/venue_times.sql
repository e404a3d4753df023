-- Topic venue_times.v1, keyed by venue.  Append-only.
--
-- Grain   one row per venue, partition and heartbeat interval in which the venue sent anything
-- Record  every partition gets each row, so that a reader of one partition gets them too
CREATE TEMPORARY TABLE venue_times (
  venue       STRING           NOT NULL,
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The newest time of the venue, by its own clock: all that the feed received of it from before has been written',
  received_at TIMESTAMP_LTZ(6) NOT NULL COMMENT 'When the venue last sent anything, by the receiver''s clock',
  offset_ms   BIGINT           NOT NULL COMMENT 'How far record timestamps of the venue are behind its own clock'
) WITH ('topic' = 'venue_times.v1') LIKE kafka_json;

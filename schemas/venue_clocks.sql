-- Topic venue_clocks.v1, keyed by venue.  Append-only.
--
-- Grain   one row per venue and ten seconds of the receiver's clock in which it sent updates of books or trades
CREATE TEMPORARY TABLE venue_clocks (
  venue            STRING           NOT NULL,
  event_at         TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The first instant after the ten seconds, by the receiver''s clock',
  message_count    BIGINT           NOT NULL COMMENT 'Updates of books and trades; none that was more than ten seconds old when it came',
  median_offset_ms DOUBLE                    COMMENT 'Receipt less exchange time: the travel time, and the difference of the clocks',
  min_offset_ms    DOUBLE                    COMMENT 'The shortest travel time; below zero the exchange''s clock is certainly ahead',
  max_offset_ms    DOUBLE,
  jitter_ms        DOUBLE                    COMMENT 'Standard deviation of the offset within the ten seconds',
  step_back_count  BIGINT           NOT NULL COMMENT 'Updates and trades with an exchange time before that of the one logged before them, of the same instrument and kind and of an earlier receipt'
) WITH ('topic' = 'venue_clocks.v1') LIKE kafka_json;

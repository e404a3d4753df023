-- Topic book_tops.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per change of the best bid or ask (price or size) or of staleness, at that change's own event time
-- Time    times of one instrument never step back.  The record timestamp is the common time of all venues; a venue's own clock
--         may be ahead of it
CREATE TEMPORARY TABLE book_tops (
  venue       STRING           NOT NULL,
  instrument  STRING           NOT NULL,
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time of the update that made the change, or of the change before it where that is later',
  received_at TIMESTAMP_LTZ(6) NOT NULL COMMENT 'Receiver''s clock at that update',
  `sequence`  BIGINT           NOT NULL COMMENT 'The venue''s id of the book after that update',
  bid_price   DOUBLE                    COMMENT 'NULL where there is no bid',
  bid_size    DOUBLE,
  ask_price   DOUBLE                    COMMENT 'NULL where there is no ask',
  ask_size    DOUBLE,
  is_stale    BOOLEAN          NOT NULL COMMENT 'Updates were lost, or the venue is quiet: prices are the last known, until the next snapshot or the next message of the venue'
) WITH ('topic' = 'book_tops.v1') LIKE kafka_json;

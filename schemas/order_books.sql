-- Topic order_books.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per snapshot or update of one book, as the venue numbered it
-- Record  a row, or a JSON array of rows of one instant (feeds/packs.py); a record of several books has no key
-- Order   an update follows the row whose sequence equals its prev_sequence; without prev_sequence, the row received before it
CREATE TEMPORARY TABLE order_books (
  venue         STRING           NOT NULL,
  instrument    STRING           NOT NULL,
  event_at      TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time',
  received_at   TIMESTAMP_LTZ(6) NOT NULL COMMENT 'Receiver''s clock',
  kind          STRING           NOT NULL COMMENT 'snapshot or change',
  `sequence`    BIGINT           NOT NULL COMMENT 'The venue''s id of the book after this row; its time in ms where the venue does not number its updates',
  prev_sequence BIGINT                    COMMENT 'The id of the book before this change; NULL for a snapshot, and for a change of a venue that does not number its updates: its checksum is the only proof',
  bids          ARRAY<ARRAY<DOUBLE>> NOT NULL COMMENT '[price, size] pairs, the size in the venue''s unit of amount; size 0 deletes the level',
  asks          ARRAY<ARRAY<DOUBLE>> NOT NULL COMMENT '[price, size] pairs; size 0 deletes the level',
  checksum      INT                       COMMENT 'The venue''s CRC32 of the book after this row; NULL where it sends none',
  depth         INT                       COMMENT 'The most levels a side that a snapshot shows, where its channel shows only the top of the book; NULL for the whole book, and for its changes',
  block_height  BIGINT                    COMMENT 'Height of the block, for venues on a chain; NULL elsewhere'
) WITH ('topic' = 'order_books.v1') LIKE kafka_json;

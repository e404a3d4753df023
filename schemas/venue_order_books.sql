-- Topic venue_order_books.v1, keyed by venue:instrument.  Append-only.
--
-- The books of the own venue, in the columns of order_books: kernels that read it take its rows for rows of order_books.
--
-- Grain     one row per book and micro-batch in which it changed, with the whole size of each price that changed; and a snapshot
--           when a book is new, and once a minute, so that a reader can begin
-- Order     of one instrument by sequence, without a gap
-- Delivery  at-least-once.  A repeat is the same row with the same sequence
CREATE TEMPORARY TABLE venue_order_books (
  venue         STRING           NOT NULL,
  instrument    STRING           NOT NULL,
  event_at      TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch, and the latency of the venue',
  received_at   TIMESTAMP_LTZ(6) NOT NULL COMMENT 'The same instant: nobody receives it from elsewhere',
  kind          STRING           NOT NULL COMMENT 'snapshot or change',
  `sequence`    BIGINT           NOT NULL COMMENT 'Counts the changes of the book, from 1',
  prev_sequence BIGINT                    COMMENT 'The sequence before this change; NULL for a snapshot',
  bids          ARRAY<ARRAY<DOUBLE>> NOT NULL COMMENT '[price, contracts] pairs; 0 contracts: no order rests there any more',
  asks          ARRAY<ARRAY<DOUBLE>> NOT NULL COMMENT '[price, contracts] pairs; 0 contracts: no order rests there any more',
  checksum      INT                       COMMENT 'NULL: it has none',
  depth         INT                       COMMENT 'NULL: the whole book'
) WITH ('topic' = 'venue_order_books.v1') LIKE kafka_json;

-- books: what are the best bid and ask of every instrument, at every change?
--
-- Grain   one row per change of the top, at the change's own event time; times of one book never step back: a change
--         that a message of an earlier instant makes has the time of the one before it
-- State   the levels of each book (kernels/books.py), freed a day after the last update; and what time it is for each venue
-- Late    an update behind the watermark is applied in its book's sequence; one that the book is past is ignored

-- A book is followed by its own numbers, so it need not wait long for what others say of the time.
CREATE TEMPORARY TABLE inputs (
  event_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  WATERMARK FOR event_at AS event_at - INTERVAL '0.005' SECOND
) WITH ('topic' = 'order_books.v1;venue_times.v1') LIKE kafka_records (OVERWRITING METADATA OVERWRITING WATERMARKS);

CREATE TEMPORARY VIEW messages AS
SELECT shard, event_at, is_late, message FROM inbox;

-- Venues' times are in every partition: a shard has few books, and must not take a venue for quiet that speaks of others.
-- kernels/books.py turns `messages` into `records`.

-- Heartbeats too, in order with the rows: forwards and surfaces wait for them.
INSERT INTO book_tops_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` IN ('book_tops', 'heartbeat');

INSERT INTO feed_faults_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'feed_faults';

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';

-- Which books need a fresh snapshot: the live readers answer.
INSERT INTO resync_requests_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'resync_requests';

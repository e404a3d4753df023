-- books: what are the best bid and ask of every instrument, at every change?
--
-- Grain   one row per change of the top, at the change's own event time; times of one book never step back: a change
--         that a message of an earlier instant makes has the time of the one before it
-- State   the levels of each book (kernels/books.py), freed a day after the last update; and what time it is for each venue
-- Late    an update behind the watermark is applied in its book's sequence; one that the book is past is ignored

SET 'gammaflow.reads' = 'order_books, venue_times';
SET 'gammaflow.kernel' = 'books';
SET 'gammaflow.writes' = 'book_tops, feed_faults, dead_letters, resync_requests';
SET 'gammaflow.tells-time' = 'book_tops';

-- A book is followed by its own numbers, so it need not wait long for records that are out of order.
SET 'gammaflow.delay' = '0.005';

-- books: what are the best bid and ask of every instrument, at every change, and its best 20 levels every 100 ms?
--
-- Grain   one row per change of the top, at the change's own event time; times of one book never step back: a change
--         that a message of an earlier instant makes has the time of the one before it
-- Depth   one row per book and 100 ms of exchange time in which a message of it was taken, at the end of them; one when its
--         venue falls quiet or wakes; and one every 10 s at least while its venue speaks
-- State   the levels of each book (kernels/books.py), freed a day after the last update; and what time it is for each venue
-- Late    an update behind the watermark is applied in its book's sequence; one that the book is past is ignored.
--         It gives its book's row of depth at the end of its own 100 ms, later in the log than that of before

SET 'gammaflow.reads' = 'order_books, venue_times';
SET 'gammaflow.kernel' = 'books';
SET 'gammaflow.writes' = 'book_tops, feed_faults, dead_letters, resync_requests, book_depth';
SET 'gammaflow.tells-time' = 'book_tops, book_depth';

-- A book is followed by its own numbers, so it need not wait long for records that are out of order.
SET 'gammaflow.delay' = '0.005';

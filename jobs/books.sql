-- books: what are the best bid and ask of every instrument, at every change, and its best 20 levels every 100 ms?
--
-- Grain   one row per change of the top, at the change's own event time; times of one book never step back: a change by a
--         message of an earlier instant has the time of the change before it
-- Depth   one row per book and 100 ms of exchange time in which a message of it was applied, at the end of the 100 ms; one when
--         its venue falls quiet or is heard again; and one every 10 s at least while its venue is not quiet
-- State   the levels of each book (kernels/books.py), freed a day after the last update; and the time of each venue
-- Late    an update behind the watermark is applied in its book's sequence; an update that the book is past is ignored.  If the
--         100 ms of a late update are over, their row of depth is written again, after later rows in the log

SET 'gammaflow.reads' = 'order_books, venue_times';
-- Those of the own venue, with -D gammaflow.also-read=venue_order_books.
SET 'gammaflow.may-read' = 'venue_order_books';
SET 'gammaflow.kernel' = 'books';
SET 'gammaflow.writes' = 'book_tops, feed_faults, dead_letters, resync_requests, book_depth';
SET 'gammaflow.tells-time' = 'book_tops, book_depth';

-- Updates have their venue's numbers, so the job need not wait long for records that are out of order.
SET 'gammaflow.delay' = '0.005';

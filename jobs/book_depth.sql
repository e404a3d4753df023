-- book_depth: what are the best 20 levels of every book, every 100 ms?
--
-- Grain   one row per book and 100 ms of exchange time in which a message of it was taken, at the end of them; one when its
--         venue falls quiet or wakes; and one every 10 s at least while its venue speaks
-- State   the levels of each book (kernels/books.py), freed a day after the last update; and what time it is for each venue
-- Late    an update behind the watermark gives its book's row at the end of its own 100 ms, later in the log than that of before

SET 'gammaflow.reads' = 'order_books, venue_times';
SET 'gammaflow.kernel' = 'book_depth';
SET 'gammaflow.writes' = 'book_depth';
SET 'gammaflow.tells-time' = 'book_depth';

-- A job of its own, beside `books`: windows of 100 ms are right for depth and too slow for tops.
SET 'gammaflow.window' = '0.1';

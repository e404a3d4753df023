-- matching: which orders trade with each other on the own venue, or on paper, and what does the market see of it?
--
-- Grain   one row of venue_reports per change of an order, execution and refused request; one of venue_fills per execution of an
--         account.  Of the own venue one row of venue_order_books per book and batch in which it changed, and once a minute; one
--         of venue_trades per trade; one of venue_tickers per book and 100 ms at most
-- Rules   kernels/matching/book.py, on paper kernels/matching/paper.py; venues, fees and bands: kernels/matching/rules.py
-- State   open orders and positions of each instrument, what was last told of its book, and on paper what the real venue shows;
--         contract terms, marks, indices, halts and circuit breaks (kernels/matching/)
-- Late    a request behind the watermark is taken like any other; the same one twice counts once

SET 'gammaflow.reads' = 'instruments, tickers, index_prices, trading_halts, orders, positions';
-- With -D gammaflow.also-read=circuit_breaks,book_depth,trades our own breakers stop books, and orders for a real venue trade on
-- paper.
SET 'gammaflow.may-read' = 'circuit_breaks, book_depth, trades';
SET 'gammaflow.kernel' = 'matching';
-- Halts and breaks may concern a venue, an index any contract of its underlying, and positions are in the partition of their
-- account.
SET 'gammaflow.broadcast' = 'index_prices, trading_halts, circuit_breaks, positions';
SET 'gammaflow.keyed-by' = 'orders.instrument_partition';
SET 'gammaflow.writes' = 'venue_reports, venue_fills, dead_letters, venue_order_books, venue_trades, venue_tickers';
SET 'gammaflow.tells-time' = 'venue_reports, venue_fills, venue_order_books, venue_trades, venue_tickers';
-- What is told of an order comes a latency later (kernels/matching/rules.py): so who sends orders need not wait for it.
SET 'gammaflow.tells-ahead' = 'venue_reports, venue_fills, venue_order_books, venue_trades, venue_tickers';

-- As that of orders, with which it is in step.
SET 'gammaflow.window' = '0.05';

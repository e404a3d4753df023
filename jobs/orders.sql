-- orders: which requests for orders may leave, what does each venue have to do, and how does each order stand?
--
-- Grain   one row of orders per request that is sent; one of order_states per transition, refusal, alarm and missing answer;
--         one of order_guards per request and event of what guards all orders of an account;
--         one of controls_applied per shard and change of the controls that it obeys
-- State   orders with their executions, positions and margin of each account; contract terms, marks, halts, circuit breaks and
--         controls (kernels/orders/)
-- Late    a report or a request behind the watermark is taken like any other; the same one twice counts once

SET 'gammaflow.reads' = 'instruments, tickers, trading_halts, order_requests, liquidation_orders, execution_reports, positions, account_margin';
-- With -D gammaflow.also-read=… our own breakers hold orders, the own venue answers and marks them, and children of algorithms
-- and hedges come.
SET 'gammaflow.may-read' = 'circuit_breaks, venue_reports, venue_tickers, algorithm_requests, hedge_requests';
SET 'gammaflow.kernel' = 'orders';
SET 'gammaflow.broadcast' = 'instruments, tickers, trading_halts, circuit_breaks, venue_tickers';
-- A report of the own venue is in the partition of its instrument.
SET 'gammaflow.keyed-by' = 'venue_reports.account_partition';
SET 'gammaflow.writes' = 'orders, order_states, order_guards, dead_letters, controls_applied';
SET 'gammaflow.tells-time' = 'orders, order_states';

-- What is decided goes to a venue at once: every window of the way out and back is a delay of the decision after it.
SET 'gammaflow.window' = '0.05';

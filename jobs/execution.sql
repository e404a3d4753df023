-- execution: what of each large order is sent when, how does it stand, and what has it cost?
--
-- Grain   one row of algorithm_requests per request of a child; one of execution_states per change of a parent, or refusal; one
--         of execution_quality per parent and minute, and at its end
-- State   parents with their children, contract terms, halts and circuit breaks; book and trades of instruments that are worked
--         (kernels/execution/)
-- Time    a decision takes effect a latency after what it knew, and the time is told as far ahead: so orders need not wait.  No
--         bars are read: they come a second late, for which all orders would wait
-- Late    what comes behind the watermark is taken like any other; a trade counts for the interval in which it happened

SET 'gammaflow.reads' = 'instruments, trades, book_depth, trading_halts, execution_parents, order_states';
-- Our own breakers halt parents, with -D gammaflow.also-read=circuit_breaks.
SET 'gammaflow.may-read' = 'circuit_breaks';
SET 'gammaflow.kernel' = 'execution';
SET 'gammaflow.broadcast' = 'instruments, trades, book_depth, trading_halts, circuit_breaks';
SET 'gammaflow.writes' = 'algorithm_requests, execution_states, execution_quality, dead_letters';
SET 'gammaflow.tells-time' = 'algorithm_requests';
SET 'gammaflow.tells-ahead' = 'algorithm_requests';

-- As long as book_depth gathers: nothing new is known in between.
SET 'gammaflow.window' = '0.1';

-- hedges: which trades bring exposures back within their limits at the least cost, and what keeps others outside?
--
-- Grain   one row of hedge_requests per order; one of hedge_decisions per order, and per change of why there is none; one of
--         group_breaches per change of the state of a group's limit
-- State   limits, groups, and the newest exposures of each subject; contract terms, prices and books of underlyings with hedged
--         limits; orders on their way, halts and circuit breaks (kernels/hedges/)
-- Time    a decision takes effect a latency after what it knew, and the time is told as far ahead: so orders need not wait
-- Late    what comes behind the watermark is taken like any other; an older exposure or book does not replace a newer one

SET 'gammaflow.reads' = 'instruments, tickers, trading_halts, book_depth, account_groups, risk_limits, risk_exposures, order_states';
-- With -D gammaflow.also-read=… our own breakers hold hedges, and the own venue marks contracts.
SET 'gammaflow.may-read' = 'circuit_breaks, venue_tickers';
SET 'gammaflow.kernel' = 'hedges';
SET 'gammaflow.broadcast' = 'instruments, tickers, trading_halts, book_depth, account_groups, risk_limits, circuit_breaks, venue_tickers';
-- A shard of the accounts sums its part of a group; all parts go to where the group's hedges trade.
SET 'gammaflow.keyed-by' = 'risk_exposures.owner_partition';
SET 'gammaflow.writes' = 'hedge_requests, hedge_decisions, group_breaches, dead_letters';
SET 'gammaflow.tells-time' = 'hedge_requests';
SET 'gammaflow.tells-ahead' = 'hedge_requests';

-- As long as exposures gather: nothing new is known in between.
SET 'gammaflow.window' = '0.1';

-- liquidations: what are each account's equity, margin and exposures, who must be liquidated, how much now, and what holds an order back?
--
-- Grain   one row per decision about an account; one per liquidation order; one per claim on the fund and position; one of
--         account_margin per account and second, and at once when its status changes, with one of position_margin per position;
--         one of margin_scalings per underlying when the factor of its requirements changes; one of controls_applied per shard
--         and change of the controls that it obeys; of subjects of risk_limits risk_exposures, and one of limit_breaches per
--         change of the state of an account's limit
-- State   positions and cash of each account, newest price of each instrument, contract terms; the newest depth of each book,
--         the average of each price, each halt, each open case, the status of each account, and the
--         state of each limit (kernels/liquidations/)
-- Late    a price behind the watermark counts only if it is still the newest; a position or balance likewise

SET 'gammaflow.reads' = 'instruments, tickers, index_prices, trading_halts, book_depth, positions, balances, account_groups, risk_limits';
-- -D gammaflow.also-read names what else it reads: the index from oracle_prices, holds from circuit_breaks, marks of the own venue
-- from venue_tickers, and which orders are over from venue_reports and execution_reports.
SET 'gammaflow.may-read' = 'oracle_prices, circuit_breaks, venue_tickers, venue_reports, execution_reports';
SET 'gammaflow.kernel' = 'liquidations';
SET 'gammaflow.broadcast' = 'instruments, tickers, index_prices, trading_halts, book_depth, oracle_prices, circuit_breaks, venue_tickers, account_groups, risk_limits';
SET 'gammaflow.keyed-by' = 'venue_reports.account_partition';
SET 'gammaflow.writes' = 'liquidation_orders, liquidation_events, dead_letters, account_margin, position_margin, margin_scalings, controls_applied, loss_claims, risk_exposures, limit_breaches';
SET 'gammaflow.tells-time' = 'liquidation_orders, account_margin, loss_claims, risk_exposures';

-- A batch costs some milliseconds, however few accounts it concerns.
SET 'gammaflow.window' = '0.1';

-- liquidations: which accounts must be closed, how much of each now, and what keeps it from being done?
--
-- Grain   one row per decision about an account; one per liquidation order
-- State   as margin; and the newest depth of each book, the average of each price, each halt, each open case with what
--         is still to be paid, the insurance fund (kernels/liquidations.py)
-- Late    as margin: what comes behind the watermark counts only if it is still the newest

SET 'gammaflow.reads' = 'instruments, tickers, index_prices, trading_halts, book_depth, positions, balances';
SET 'gammaflow.kernel' = 'liquidations';
SET 'gammaflow.broadcast' = 'instruments, tickers, index_prices, trading_halts, book_depth';
SET 'gammaflow.writes' = 'liquidation_orders, liquidation_events, dead_letters';

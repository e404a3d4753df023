-- liquidations: can each account bear its positions, which must be closed, how much of each now, and what keeps it from being done?
--
-- Accounts are valued once a batch.  Two stages read the valuation: decisions first, then margin.
--
-- Grain   one row per decision about an account; one per liquidation order.  Of margin one row per account and second, and at
--         once when its status changes; with it one per position; one per underlying when what is required on it is scaled
--         otherwise
-- State   positions and cash of each account, newest price of each instrument, contract terms (kernels/margin.py); and the newest
--         depth of each book, the average of each price, each halt, each open case with what is still to be paid, the insurance
--         fund (kernels/liquidations.py)
-- Late    a price behind the watermark counts only if it is still the newest; a position or balance likewise

SET 'gammaflow.reads' = 'instruments, tickers, index_prices, trading_halts, book_depth, positions, balances';
SET 'gammaflow.kernel' = 'liquidations';
SET 'gammaflow.broadcast' = 'instruments, tickers, index_prices, trading_halts, book_depth';
SET 'gammaflow.writes' = 'liquidation_orders, liquidation_events, dead_letters, account_margin, position_margin, margin_scalings';

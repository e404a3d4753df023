-- margin: can each account bear its positions at the newest prices, and how likely is it that soon it cannot?
--
-- Grain   one row per account and second, and at once when its status changes; with it one per position; one per
--         underlying when what is required on it is scaled otherwise
-- State   positions and cash of each account, newest price of each instrument (kernels/margin.py); contract terms
-- Late    a price behind the watermark counts only if it is still the newest; a position or balance likewise

SET 'gammaflow.reads' = 'instruments, tickers, index_prices, positions, balances';
SET 'gammaflow.kernel' = 'margin';
SET 'gammaflow.broadcast' = 'instruments, tickers, index_prices';
SET 'gammaflow.writes' = 'account_margin, dead_letters, position_margin, margin_scalings';

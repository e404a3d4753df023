-- liquidations: which accounts must be closed, how much of each now, and what keeps it from being done?
--
-- Grain   one row per decision about an account; one per liquidation order
-- State   as margin; and the newest depth of each book, the average of each price, each halt, each open case with what
--         is still to be paid, the insurance fund (kernels/liquidations.py)
-- Late    as margin: what comes behind the watermark counts only if it is still the newest

CREATE TEMPORARY TABLE inputs WITH (
  'topic' = 'instruments.v1;tickers.v1;index_prices.v2;trading_halts.v1;book_depth.v1;positions.v1;balances.v1'
) LIKE kafka_records;

-- A message goes to the shard of its account; prices, halts and contract terms go to all of them.
CREATE TEMPORARY VIEW messages AS
SELECT * FROM account_messages;

-- kernels/liquidations.py turns `messages` into `records`.

INSERT INTO liquidation_orders_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'liquidation_orders';

INSERT INTO liquidation_events_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'liquidation_events';

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';

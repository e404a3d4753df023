-- margin: can each account bear its positions at the newest prices, and how likely is it that soon it cannot?
--
-- Grain   one row per account and second, and at once when its status changes; with it one per position; one per
--         underlying when what is required on it is scaled otherwise
-- State   positions and cash of each account, newest price of each instrument (kernels/margin.py); contract terms
-- Late    a price behind the watermark counts only if it is still the newest; a position or balance likewise

CREATE TEMPORARY TABLE inputs WITH (
  'topic' = 'instruments.v1;tickers.v1;index_prices.v2;positions.v1;balances.v1'
) LIKE kafka_records;

-- A message goes to the shard of its account; prices and contract terms go to all of them.
CREATE TEMPORARY VIEW messages AS
SELECT * FROM account_messages;

-- kernels/margin.py turns `messages` into `records`.

INSERT INTO account_margin_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'account_margin';

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';

INSERT INTO position_margin_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'position_margin';

INSERT INTO margin_scalings_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'margin_scalings';

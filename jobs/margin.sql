-- margin: can each account bear its positions at the newest prices, and how likely is it that soon it cannot?
--
-- Grain   one row per account and second, and at once when its status changes
-- State   positions and cash of each account, newest price of each instrument (kernels/margin.py); contract terms
-- Late    a price behind the watermark counts only if it is still the newest; a position or balance likewise

CREATE TEMPORARY TABLE inputs WITH (
  'topic' = 'instruments.v1;tickers.v1;index_prices.v1;positions.v1;balances.v1'
) LIKE kafka_records;

CREATE TEMPORARY VIEW on_time_prices AS
SELECT event_at, message FROM inbox WHERE topic IN ('tickers.v1', 'index_prices.v1') AND NOT is_late;

-- All prices of 50 ms travel as one text: it goes to every shard, and a row each would be many.
CREATE TEMPORARY VIEW gathered AS
SELECT topic, key_hash, event_at, is_late, message FROM inbox WHERE topic NOT IN ('tickers.v1', 'index_prices.v1') OR is_late
UNION ALL
SELECT 'prices', CAST(0 AS BIGINT), window_time, FALSE, ARRAY_JOIN(ARRAY_AGG(message), U&'\001E')
FROM TABLE(TUMBLE(TABLE on_time_prices, DESCRIPTOR(event_at), INTERVAL '0.05' SECOND))
GROUP BY window_start, window_end, window_time;

-- A message goes to the shard of its account; prices and contract terms go to all of them.
CREATE TEMPORARY VIEW messages AS
SELECT shard, event_at, is_late, message
FROM gathered CROSS JOIN UNNEST(
  CASE
    WHEN topic IN ('positions.v1', 'balances.v1') THEN ARRAY[CAST(MOD(key_hash, 8) AS INT)]
    ELSE ARRAY[0, 1, 2, 3, 4, 5, 6, 7]
  END
) AS shards (shard);

-- kernels/margin.py turns `messages` into `records`.

INSERT INTO account_margin_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'account_margin';

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';

-- forwards: what is the forward of each expiry, and is it from a future, from put-call parity or from the index?
--
-- Grain   one row per venue, underlying and expiry, each time its forward moved or is taken from something else
-- State   contracts with their newest quote, indices, the forwards put out (kernels/forwards.py); freed at expiry
-- Late    a quote behind the watermark counts only if it is still the newest

CREATE TEMPORARY TABLE inputs WITH (
  'topic' = 'instruments.v1;tickers.v1;book_tops.v1;index_prices.v1'
) LIKE kafka_records;

-- What begins alike up to the underlying shares a shard: deribit:BTC-27JUN25-60000-C and deribit:BTC_USDC-27JUN25-60000-C are
-- both of deribit:BTC.  An index goes to all of them, for any venue may have need of it.
CREATE TEMPORARY VIEW messages AS
SELECT shard, event_at, is_late, message
FROM inbox CROSS JOIN UNNEST(
  CASE
    WHEN topic = 'index_prices.v1' THEN ARRAY[0, 1, 2, 3, 4, 5, 6, 7]
    ELSE ARRAY[CAST(MOD(ABS(CAST(HASH_CODE(COALESCE(REGEXP_EXTRACT(`key`, '^([^:]*:[^:_-]*)', 1), '')) AS BIGINT)), 8) AS INT)]
  END
) AS shards (shard);

-- kernels/forwards.py turns `messages` into `records`.

-- Heartbeats too, in order with the rows: surfaces and Greeks wait for them.
INSERT INTO forwards_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` IN ('forwards', 'heartbeat');

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';

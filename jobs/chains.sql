-- chains: what is each underlying's chain worth: forwards, volatility surface, and every option's price and Greeks?
--
-- Grain   one row per expiry whose forward moved; per expiry, each time its surface is fitted; and per option whose forward,
--         slice of the surface or mark moved
-- State   contracts with their newest quote, indices by currency, the venue's forwards from tickers, forwards, slices
--         (kernels/chains/); freed at expiry
-- Late    a quote behind the watermark counts only if it is still the newest; the next batch fits it

SET 'gammaflow.reads' = 'instruments, tickers, book_tops, index_prices';
-- Those of the own venue, with -D gammaflow.also-read=venue_tickers.
SET 'gammaflow.may-read' = 'venue_tickers';
SET 'gammaflow.kernel' = 'chains';
SET 'gammaflow.broadcast' = 'index_prices';
SET 'gammaflow.writes' = 'forwards, vol_surfaces, chain_greeks, dead_letters';

-- Instruments with the same venue and underlying share a shard: deribit:BTC-27JUN25-60000-C and
-- deribit:BTC_USDC-27JUN25-60000-C both belong to deribit:BTC.  An index goes to all shards, because any venue may need it.
CREATE TEMPORARY VIEW messages AS
SELECT shards.shard, event_at, is_late, message
FROM inbox CROSS JOIN UNNEST(
  CASE
    WHEN message IS NULL THEN ARRAY[inbox.shard]
    WHEN topic LIKE 'index_prices.%' THEN ARRAY[${SHARDS}]
    ELSE ARRAY[
      ARRAY[${SHARDS}][1 + MOD(ABS(CAST(HASH_CODE(COALESCE(REGEXP_EXTRACT(`key`, '^([^:]*:[^:_-]*)', 1), '')) AS BIGINT)),
        CARDINALITY(ARRAY[${SHARDS}]))]
    ]
  END
) AS shards (shard);

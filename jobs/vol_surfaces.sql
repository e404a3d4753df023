-- vol_surfaces: what is the volatility surface of each underlying, and how good is it?
--
-- Grain   one row per venue, underlying and expiry, each time the surface is fitted anew: when quotes moved, or after a minute
-- State   contracts with their newest quote, forwards, the last slices (kernels/vol_surfaces.py); freed at expiry
-- Late    a quote or forward behind the watermark counts only if it is still the newest, from the next batch on

-- Forwards come in order, but for what two tasks differ by; only feeds need the full wait.
CREATE TEMPORARY TABLE inputs (
  event_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  topic STRING METADATA VIRTUAL,
  WATERMARK FOR event_at AS event_at - CASE WHEN topic = 'forwards.v1' THEN INTERVAL '0.02' SECOND ELSE INTERVAL '0.1' SECOND END
) WITH (
  'topic' = 'instruments.v1;tickers.v1;book_tops.v1;forwards.v1'
) LIKE kafka_records (OVERWRITING METADATA EXCLUDING WATERMARKS);

-- What begins alike up to the underlying shares a shard, forwards too: deribit:BTC-27JUN25-60000-C, deribit:BTC:2025-06-27T…
CREATE TEMPORARY VIEW messages AS
SELECT
  MOD(ABS(CAST(HASH_CODE(COALESCE(REGEXP_EXTRACT(`key`, '^([^:]*:[^:_-]*)', 1), '')) AS BIGINT)), 8) AS shard,
  event_at, is_late, message
FROM inbox;

-- kernels/vol_surfaces.py turns `messages` into `records`.

-- Heartbeats too, in order with the rows: Greeks wait for them.
INSERT INTO vol_surfaces_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` IN ('vol_surfaces', 'heartbeat');

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';

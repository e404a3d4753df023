-- chain_greeks: what is each option of a chain worth, by our surface and by its venue's mark, whenever one of them moved?
--
-- Grain   one row per option and micro-batch in which its forward, its slice of the surface or its mark moved
-- State   contract terms and mark of each option, forward and slice of each expiry (kernels/chain_greeks.py); freed a day
--         after expiry
-- Late    what is late counts if it is still the newest

-- Rows of our own jobs come in order, but for what two tasks differ by; only feeds need the full wait.
CREATE TEMPORARY TABLE inputs (
  event_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  topic STRING METADATA VIRTUAL,
  WATERMARK FOR event_at AS event_at - CASE
    WHEN topic IN ('forwards.v1', 'vol_surfaces.v1') THEN INTERVAL '0.02' SECOND ELSE INTERVAL '0.1' SECOND
  END
) WITH (
  'topic' = 'instruments.v1;tickers.v1;forwards.v1;vol_surfaces.v1'
) LIKE kafka_records (OVERWRITING METADATA EXCLUDING WATERMARKS);

-- Terms and tickers share the key venue:instrument, and so the shard; forwards and slices go to all of them.
CREATE TEMPORARY VIEW messages AS
SELECT shard, event_at, is_late, message
FROM inbox CROSS JOIN UNNEST(
  CASE
    WHEN topic IN ('forwards.v1', 'vol_surfaces.v1') THEN ARRAY[0, 1, 2, 3, 4, 5, 6, 7]
    ELSE ARRAY[CAST(MOD(key_hash, 8) AS INT)]
  END
) AS shards (shard);

-- kernels/chain_greeks.py turns `messages` into `records`.

INSERT INTO chain_greeks_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'chain_greeks';

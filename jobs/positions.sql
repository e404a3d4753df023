-- positions: what does each account hold after each of its fills, and how much cash?
--
-- Grain   one row per account, instrument and fill; one per account, currency and change of cash
-- State   positions, cash and the ids of the last seven days' fills of each account (kernels/positions.py); contract terms
-- Late    a fill behind the watermark is applied when it comes; the same fill twice is applied once

CREATE TEMPORARY TABLE inputs WITH ('topic' = 'instruments.v1;fills.v1;transfers.v1') LIKE kafka_records;

-- A message goes to the shard of its account; contract terms go to all of them.
CREATE TEMPORARY VIEW messages AS
SELECT shard, event_at, is_late, message
FROM inbox CROSS JOIN UNNEST(
  CASE WHEN topic = 'instruments.v1' THEN ARRAY[0, 1, 2, 3, 4, 5, 6, 7] ELSE ARRAY[CAST(MOD(key_hash, 8) AS INT)] END
) AS shards (shard);

-- kernels/positions.py turns `messages` into `records`.

INSERT INTO positions_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'positions';

INSERT INTO balances_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'balances';

INSERT INTO dead_letters_records (`key`, event_at, `value`)
SELECT `key`, event_at, `value` FROM records WHERE `table` = 'dead_letters';

-- Margin waits for these topics to say that nothing older is to come.

INSERT INTO positions_heartbeats (event_at)
SELECT event_at FROM heartbeats;

INSERT INTO balances_heartbeats (event_at)
SELECT event_at FROM heartbeats;

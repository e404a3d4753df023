-- inbox: what came from a job's `inputs`, undecoded: the value, behind where it came from?
--
-- Grain   one row per record
-- Shard   of the record's partition, for ever: what a key has to do with, from topic to state to topic, is in one partition
-- Time    a record without a value is a heartbeat: it says what time it is in its partition, and has no message.  All of a job's
--         topics are read by one source, so that one watermark, the slowest partition's, judges them all.
-- Late    a record behind the watermark is not dropped: it reaches its kernel alone, and the kernel judges it
CREATE TEMPORARY VIEW inbox AS
SELECT
  topic,
  `key`,
  ${SHARD} AS shard,
  event_at,
  COALESCE(event_at <= CURRENT_WATERMARK(event_at), FALSE) AS is_late,
  -- Fields are parted by U+001F and records by U+001E, which no JSON text contains.
  CONCAT(${TOPIC}, U&'\001F', CAST(`partition` AS STRING), U&'\001F', CAST(`offset` AS STRING), U&'\001F', `value`) AS message
FROM inputs;

-- account_messages: what does the shard of an account get, which needs to know all prices?
--
-- Grain   one row per record of an account, and per shard for every other
CREATE TEMPORARY VIEW on_time_prices AS
SELECT event_at, message FROM inbox
WHERE topic NOT IN ('instruments.v1', 'positions.v1', 'balances.v1') AND NOT is_late AND message IS NOT NULL;

-- All prices of 50 ms travel as one text: it goes to every shard, and a row each would be many.
CREATE TEMPORARY VIEW gathered AS
SELECT shard, topic IN ('positions.v1', 'balances.v1') AS is_of_account, event_at, is_late, message FROM inbox
WHERE topic IN ('instruments.v1', 'positions.v1', 'balances.v1') OR is_late
UNION ALL
SELECT 0, FALSE, window_time, FALSE, ARRAY_JOIN(ARRAY_AGG(message), U&'\001E')
FROM TABLE(TUMBLE(TABLE on_time_prices, DESCRIPTOR(event_at), INTERVAL '0.05' SECOND))
GROUP BY window_start, window_end, window_time;

CREATE TEMPORARY VIEW account_messages AS
SELECT shards.shard, event_at, is_late, message
FROM gathered CROSS JOIN UNNEST(
  CASE WHEN is_of_account OR message IS NULL THEN ARRAY[gathered.shard] ELSE ARRAY[${SHARDS}] END
) AS shards (shard);

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

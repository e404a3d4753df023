-- inbox: which records are in a job's `inputs`, each with its shard, its topic, partition and offset, and its undecoded value?
--
-- Grain   one row per record
-- Shard   depends on the partition alone: all rows of a key, from topic to state to topic, are in one partition
-- Time    a record without a value is a heartbeat: it advances the watermark of its partition, and has no message.  One source
--         reads all topics of a job, so one watermark, that of the slowest partition, counts for all
-- Late    a record behind the watermark is not dropped: the kernel gets it as late, and judges it
CREATE TEMPORARY VIEW inbox AS
SELECT
  topic,
  `key`,
  ${SHARD} AS shard,
  event_at,
  COALESCE(event_at <= CURRENT_WATERMARK(event_at), FALSE) AS is_late,
  -- U+001F separates fields and U+001E records: no JSON text contains these.
  CONCAT(${TOPIC}, U&'\001F', CAST(`partition` AS STRING), U&'\001F', CAST(`offset` AS STRING), U&'\001F', `value`) AS message
FROM inputs;

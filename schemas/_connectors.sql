-- How topics are reached.  Every other file here describes one topic and borrows from here by LIKE.
--
-- KAFKA is the broker's address, SECURITY what schemas/security.py adds for a job's user, GROUP the consumer group (the job's
-- name), FEED_TOPICS the topics that no job writes, DELAY how long, in seconds, a job waits in those for what is out of order, and DRIFT how far ahead of the slowest partition, in
-- seconds, it reads another: the only places where the environment enters.
-- Values are JSON, keys are text.  The Kafka record timestamp is the common time: a row's event time less what its venue's clock
-- is ahead (feeds/clocks.py).  Where a value is an array, each of its
-- elements is a row; a topic that is written so says it.

CREATE TEMPORARY TABLE kafka WITH (
  'connector' = 'kafka',
  'properties.bootstrap.servers' = '${KAFKA}',
  'properties.group.id' = '${GROUP}',
  'properties.isolation.level' = 'read_committed',
  'properties.compression.type' = 'zstd',
  -- A fast level: at the default one a job that writes as fast as it can is some 6 % slower.
  'properties.compression.zstd.level' = '-3',
  'properties.linger.ms' = '5',
  -- A chain is put out at once, a megabyte and more: 16 KB, the default, would be a request for every thirty rows.
  'properties.batch.size' = '262144',
  'properties.max.partition.fetch.bytes' = '2097152',
  -- A job without its state must read its topics again from the start: going on at the group's offsets would lose what the
  -- state knew, without a word.
  'scan.startup.mode' = 'earliest-offset',
  -- A topic whose records must never show twice says 'exactly-once' in its own DDL.
  'sink.delivery-guarantee' = 'at-least-once',
  -- From one checkpoint to the next, through every restart between them: what is not committed by then is lost.  The most
  -- that a broker allows unless it is told otherwise (transaction.max.timeout.ms), 15 min.
  'properties.transaction.timeout.ms' = '900000',
  -- A few transactional ids, used over and over, in place of a new one at each checkpoint, which brokers keep for a week.
  'sink.transaction-naming-strategy' = 'POOLING'${SECURITY}
);

-- A topic's typed rows: what the DDL of each topic borrows from.
CREATE TEMPORARY TABLE kafka_json WITH (
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'json.ignore-parse-errors' = 'true'
) LIKE kafka;

-- Topics undecoded: what micro-batches are made of, and what a kernel's rows are written through.  As UTF-8 a value's bytes are
-- taken as they are, so even one that is not UTF-8 reaches its kernel, and the dead letters, unchanged.
CREATE TEMPORARY TABLE kafka_records (
  `key` STRING,
  `value` STRING,
  event_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  -- Records that are out of order are waited for once, where they come in.  Rows that a job writes are not in order either, but its
  -- heartbeats, records without a value, come behind all rows of their time.
  WATERMARK FOR event_at AS CASE
    WHEN topic IN (${FEED_TOPICS}) THEN event_at - INTERVAL '${DELAY}' SECOND
    WHEN `value` IS NULL THEN event_at
  END
) WITH (
  'key.format' = 'raw',
  'key.fields' = 'key',
  'value.fields-include' = 'EXCEPT_KEY',
  'value.format' = 'raw',
  'value.raw.charset' = 'UTF-8',
  -- What a job has read of a partition waits, in memory, for the time of the slowest one.  Without a bound, where there is much
  -- to catch up with, the partition that is read fastest fills it.
  'scan.watermark.alignment.group' = '${GROUP}',
  'scan.watermark.alignment.max-drift' = '${DRIFT} s',
  -- Time can go on by a drift between two of these.  Each costs the JobManager some 4 ms for every source task.
  'scan.watermark.alignment.update-interval' = '500 ms'
) LIKE kafka;

-- How topics are reached.  Every other file here describes one topic and borrows from here by LIKE.
--
-- KAFKA is the broker's address, SECURITY the options that schemas/security.py adds for a job's user, GROUP the consumer group
-- (the job's name), FEED_TOPICS the topics that no job writes, DELAY how long, in seconds, a job waits in those for
-- out-of-order records, and DRIFT how far, in seconds, a partition may be read ahead of the slowest one: the only values that
-- come from the environment.  Values are JSON, keys are text.  The Kafka record timestamp is the common time: a row's event
-- time less the estimated error of its venue's clock (feeds/clocks.py).  Where a value is an array, each of its elements is a
-- row; the DDL of such a topic states it.

CREATE TEMPORARY TABLE kafka WITH (
  'connector' = 'kafka',
  'properties.bootstrap.servers' = '${KAFKA}',
  'properties.group.id' = '${GROUP}',
  'properties.isolation.level' = 'read_committed',
  'properties.compression.type' = 'zstd',
  -- A fast level: with the default, a job that writes at full speed is some 6 % slower.
  'properties.compression.zstd.level' = '-3',
  'properties.linger.ms' = '5',
  -- A chain has a megabyte and more: with the default of 16 KB, every thirty rows would be a request.
  'properties.batch.size' = '262144',
  'properties.max.partition.fetch.bytes' = '2097152',
  -- A job without its state must read its topics again from the start: starting at the group's offsets would silently lose what
  -- the state knew.
  'scan.startup.mode' = 'earliest-offset',
  -- A topic whose records must never appear twice sets 'exactly-once' in its own DDL.
  'sink.delivery-guarantee' = 'at-least-once',
  -- A transaction must last from one checkpoint to the next, with all restarts between them, or its rows are lost.  A broker
  -- allows 15 min by default (transaction.max.timeout.ms).
  'properties.transaction.timeout.ms' = '900000',
  -- A few transactional ids are reused: brokers would keep a new one of each checkpoint for a week.
  'sink.transaction-naming-strategy' = 'POOLING'${SECURITY}
);

-- A topic's typed rows: the DDL of each topic borrows from this table.
CREATE TEMPORARY TABLE kafka_json WITH (
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'json.ignore-parse-errors' = 'true'
) LIKE kafka;

-- Undecoded topics: micro-batches are made from this table, and the rows of kernels are written through it.  As UTF-8 a value's
-- bytes are taken unchanged, so even a value that is not UTF-8 reaches its kernel, and the dead letters, as it was.
CREATE TEMPORARY TABLE kafka_records (
  `key` STRING,
  `value` STRING,
  event_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  -- Heartbeats, records without a value, say what time it is: rows of one writer say nothing of the others.  Only the topics of
  -- feeds have a delay for out-of-order records.  Rows that a job writes are not in order either, but its heartbeats come after
  -- all rows of their time.  A row of a feed says that a minute before it is over: so a topic is read to its end that was written
  -- when feeds wrote heartbeats into silent partitions only, or that has no heartbeats at all.
  WATERMARK FOR event_at AS CASE
    WHEN topic IN (${FEED_TOPICS}) AND `value` IS NULL THEN event_at - INTERVAL '${DELAY}' SECOND
    WHEN topic IN (${FEED_TOPICS}) THEN event_at - INTERVAL '60' SECOND
    WHEN `value` IS NULL THEN event_at
  END
) WITH (
  'key.format' = 'raw',
  'key.fields' = 'key',
  'value.fields-include' = 'EXCEPT_KEY',
  'value.format' = 'raw',
  'value.raw.charset' = 'UTF-8',
  -- Records of a partition wait, in memory, for the time of the slowest one.  Without a bound, the partition that is read
  -- fastest fills the memory while a job catches up.
  'scan.watermark.alignment.group' = '${GROUP}',
  'scan.watermark.alignment.max-drift' = '${DRIFT} s',
  -- Event time can advance by one drift between two updates.  Each costs the JobManager some 4 ms for every source task.
  'scan.watermark.alignment.update-interval' = '500 ms'
) LIKE kafka;

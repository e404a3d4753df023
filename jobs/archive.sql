-- archive: what was in each topic?
--
-- Every topic but those for people becomes Parquet files under <archive>/<table>/: this file is repeated for each ${TABLE}.
--
-- Grain   the topic's own
-- State   the open files and the offsets
-- Late    no row is late: rows are written as they come

SET 'gammaflow.reads' = '*';

-- Nobody waits for a row of it: it need not wake up as often as jobs on the way to an order.
SET 'execution.buffer-timeout.interval' = '100 ms';
SET 'pipeline.auto-watermark-interval' = '100 ms';

-- A file is closed at a checkpoint: once a minute, so that files are not many and small.
SET 'execution.checkpointing.interval' = '${ARCHIVE_INTERVAL}';

-- A row that breaks its DDL is in dead_letters; it must not stop the archive.
SET 'table.exec.sink.not-null-enforcer' = 'DROP';

CREATE TEMPORARY TABLE ${TABLE}_parquet WITH (
  'connector' = 'filesystem',
  'path' = '${ARCHIVE}/${TABLE}',
  'format' = 'parquet',
  'parquet.compression' = 'ZSTD',
  'parquet.utc-timezone' = 'true',
  'parquet.write.int64.timestamp' = 'true',
  'parquet.timestamp.time.unit' = 'micros'
) LIKE ${TABLE} (EXCLUDING OPTIONS);

INSERT INTO ${TABLE}_parquet (${COLUMNS})
SELECT ${COLUMNS} FROM ${TABLE};

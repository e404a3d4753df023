-- archive: what was in each topic?
--
-- Every topic becomes Parquet files under <archive>/<table>/: what stands here is meant once for each ${TABLE}.
--
-- Grain   the topic's own
-- State   the open files and the read positions
-- Late    there is no late: rows are written as they come

SET 'gammaflow.reads' = '*';

-- A file is closed at a checkpoint; a minute keeps them from being many and small.
SET 'execution.checkpointing.interval' = '${ARCHIVE_INTERVAL}';

-- A row that its DDL refuses is in dead_letters; it must not end the archive.
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

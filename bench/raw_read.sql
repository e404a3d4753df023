-- The ceiling: how fast does Flink read a topic's bytes, and do nothing with them?
--
-- Grain   a record, as often as there are COPIES: once through a topic whose records have many rows is over too soon to measure

CREATE TEMPORARY TABLE inputs (
  `value` BYTES
) WITH (
  'topic' = 'order_books.v1',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'raw'
) LIKE kafka;

CREATE TEMPORARY TABLE nothing (
  `value` BYTES
) WITH ('connector' = 'blackhole');

INSERT INTO nothing (`value`) ${COPIES};

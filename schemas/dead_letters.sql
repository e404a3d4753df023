-- Topic dead_letters.v1, keyed by source.  Append-only.
--
-- Grain   one row per input that could not be used, whole, with its origin and what was expected of it
CREATE TEMPORARY TABLE dead_letters (
  source      STRING           NOT NULL COMMENT 'File, connection or topic',
  `partition` INT                       COMMENT 'Of the topic; NULL for a file',
  `offset`    BIGINT           NOT NULL COMMENT 'Kafka offset, or line number in the file, from 1',
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When it was received, so that a wild event time does no harm here either',
  field       STRING                    COMMENT 'The field at fault; NULL when the whole message is',
  expected    STRING           NOT NULL,
  got         STRING                    COMMENT 'The offending value, shortened',
  original    BYTES            NOT NULL COMMENT 'The input as it came'
) WITH ('topic' = 'dead_letters.v1') LIKE kafka_json;

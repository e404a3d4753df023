-- Topic oracle_faults.v1, keyed by underlying.  Append-only.
--
-- Grain   one row per fault of a source of an underlying, and one per its end: a second after the last sign of it
CREATE TEMPORARY TABLE oracle_faults (
  underlying    STRING           NOT NULL,
  source        STRING           NOT NULL COMMENT 'As in oracle_sources; consensus where a coin is worth no dollar any more',
  kind          STRING           NOT NULL COMMENT 'frozen, withheld, delayed, deviating, stepping_back or depegged',
  event_at      TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When it was found, or was over',
  is_over       BOOLEAN          NOT NULL,
  measured      DOUBLE                    COMMENT 'What was measured then, in unit; NULL where there is no such figure any more',
  allowed       DOUBLE                    COMMENT 'The limit, in unit',
  unit          STRING           NOT NULL COMMENT 'ms or fraction',
  price_usd     DOUBLE                    COMMENT 'Of the source',
  consensus_usd DOUBLE                    COMMENT 'Of all'
) WITH ('topic' = 'oracle_faults.v1') LIKE kafka_json;

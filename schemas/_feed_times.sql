-- Topic feed_times.v1, keyed by writer.  Append-only, in one partition, and kept for an hour.
--
-- Grain   one row per writer of feed topics and 10 ms, and per time that the keeper has told (feeds/keeper.py)
-- Time    the record timestamp is the broker's own clock: by it a writer is silent
-- Use     no job reads it, and the archive does not keep it.  Hence the underscore: it is none of the suite's tables
CREATE TEMPORARY TABLE feed_times (
  writer    STRING           NOT NULL COMMENT 'Market or topics, host and a random number',
  kind      STRING           NOT NULL COMMENT 'joins, lives or leaves; told by the keeper',
  event_at  TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The common time up to which all rows of the writer are in the log; of told, the time of the heartbeats'
) WITH ('topic' = 'feed_times.v1') LIKE kafka_json;

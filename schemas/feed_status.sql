-- Topic feed_status.v1, keyed by feed.  Compacted: the newest row of a key says how the feed is, or how it ended.
--
-- For people: `gammaflow status` reads it, and no job.  It has no heartbeats.
--
-- Grain   one row per feed process every five seconds, and one when it stops
CREATE TEMPORARY TABLE feed_status (
  feed               STRING           NOT NULL COMMENT 'The name of the feed: market@host, unless it has been given one',
  market             STRING           NOT NULL,
  host               STRING           NOT NULL,
  pid                INT              NOT NULL,
  version            STRING           NOT NULL,
  started_at         TIMESTAMP_LTZ(3) NOT NULL,
  event_at           TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When the feed wrote this, by its own clock',
  state              STRING           NOT NULL COMMENT 'starting: the venue has not listed its contracts yet; running, stopped or failed',
  reason             STRING                    COMMENT 'Why it failed; NULL otherwise',
  symbols            INT              NOT NULL COMMENT 'That it follows',
  connections_needed INT              NOT NULL COMMENT 'That it needs',
  connections_open   INT              NOT NULL,
  messages           BIGINT           NOT NULL COMMENT 'Received since the start',
  messages_per_s     DOUBLE           NOT NULL COMMENT 'Since the row before',
  newest_at          TIMESTAMP_LTZ(6)          COMMENT 'Receipt of the newest message; NULL where there has been none'
) WITH ('topic' = 'feed_status.v1') LIKE kafka_json;

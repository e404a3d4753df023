-- Topic gateway_sessions.v1, keyed by gateway:session.  Compacted: the newest row of a key says how the session is, or how it ended.
--
-- For people: `gammaflow status` reads it, and no job.  It has no heartbeats.
--
-- Grain   one row per session of a gateway process every five seconds, and one when it stops
CREATE TEMPORARY TABLE gateway_sessions (
  gateway          STRING           NOT NULL COMMENT 'The name in its file',
  session          STRING           NOT NULL COMMENT 'The name in its file',
  kind             STRING           NOT NULL COMMENT 'venue, drop_copy, client or risk',
  counterparty     STRING           NOT NULL COMMENT 'Version of FIX and comp ids: FIX.4.4 DESK to EXCH',
  host             STRING           NOT NULL,
  pid              INT              NOT NULL,
  version          STRING           NOT NULL,
  started_at       TIMESTAMP_LTZ(3) NOT NULL,
  event_at         TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When the gateway wrote this, by its own clock',
  state            STRING           NOT NULL COMMENT 'logged_on, waiting, closed by its schedule, stopped or failed',
  reason           STRING                    COMMENT 'Why it failed; NULL otherwise',
  next_out         BIGINT           NOT NULL COMMENT 'MsgSeqNum of the next message that we send',
  next_in          BIGINT           NOT NULL COMMENT 'MsgSeqNum of the next message that we expect',
  messages_in      BIGINT           NOT NULL COMMENT 'Messages of applications since the start',
  messages_out     BIGINT           NOT NULL COMMENT 'Messages of applications since the start',
  orders_held      INT              NOT NULL COMMENT 'Orders that wait to be sent',
  orders_unknown   INT              NOT NULL COMMENT 'Orders and requests of unknown fate: sent, and neither answered nor found',
  newest_at        TIMESTAMP_LTZ(6)          COMMENT 'Receipt of the newest message; NULL where there has been none'
) WITH ('topic' = 'gateway_sessions.v1') LIKE kafka_json;

-- Topic trading_halts.v1, keyed by venue.  Append-only.
--
-- Grain   one row per halt of trading, and one per its end; of one venue and instrument the newest by event time counts
CREATE TEMPORARY TABLE trading_halts (
  venue       STRING           NOT NULL,
  instrument  STRING                    COMMENT 'NULL where the whole venue is meant, a pattern such as BTC-* where several are; its end does not end a halt of one instrument',
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Since when',
  received_at TIMESTAMP_LTZ(6) NOT NULL,
  is_halted   BOOLEAN          NOT NULL COMMENT 'Whether trading is halted from then on',
  reason      STRING                    COMMENT 'What the venue gives as its reason; NULL if it gives none'
) WITH ('topic' = 'trading_halts.v1') LIKE kafka_json;

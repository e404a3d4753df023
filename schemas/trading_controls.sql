-- Topic trading_controls.v1, keyed by scope.  Compacted.
--
-- Grain   one row per word of an operator about a scope; of one scope the newest in the log counts, and a record without a value
--         takes it back.  A topic of no heartbeats: no job waits for it, jobs that put out orders obey it as it arrives
-- Scope   all, or one of venue: underlying: instrument: desk: client: account: algo: trader: with a name, as in venue:deribit,
--         underlying:BTC, instrument:deribit:BTC-PERPETUAL (schemas/controls.py)
CREATE TEMPORARY TABLE trading_controls (
  `scope`      STRING           NOT NULL,
  mode         STRING           NOT NULL COMMENT 'run, reduce-only, halt or cancel-all; of all scopes that an order is in, the strictest counts',
  who          STRING           NOT NULL COMMENT 'Who says so',
  why          STRING           NOT NULL COMMENT 'The reason, in words',
  event_at     TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When it was said, by the clock of who says it',
  ends_at      TIMESTAMP_LTZ(3)          COMMENT 'When it ends by itself; NULL where only another word ends it',
  liquidations BOOLEAN          NOT NULL COMMENT 'Whether liquidations obey it too'
) WITH ('topic' = 'trading_controls.v1') LIKE kafka_json;

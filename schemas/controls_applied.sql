-- Topic controls_applied.v1, keyed by job:shard.  Append-only: from which batch on a job that puts out orders obeyed which control.
--
-- Grain   one row per shard and change of what it obeys, so that a replay obeys the same at the same batch.  Rows of one shard are
--         in order.  The scope `gate` is the topic of controls itself: halt where it has not been read lately, run where it has
CREATE TEMPORARY TABLE controls_applied (
  job               STRING           NOT NULL,
  shard             INT              NOT NULL COMMENT 'The partition whose records it takes',
  event_at          TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Last instant of the batch from which it holds, that one included',
  `scope`           STRING           NOT NULL COMMENT 'As of trading_controls, or gate',
  mode              STRING           NOT NULL COMMENT 'As of trading_controls; run where the control has ended',
  who               STRING           NOT NULL,
  why               STRING           NOT NULL,
  said_at           TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When the operator said so',
  ends_at           TIMESTAMP_LTZ(3)          COMMENT 'When it ends by itself',
  liquidations      BOOLEAN          NOT NULL COMMENT 'Whether liquidations obey it too',
  control_partition INT                       COMMENT 'Where the control stands in trading_controls; NULL for the scope gate',
  control_offset    BIGINT                    COMMENT 'From which offset on it held; NULL for the scope gate',
  applied_at        TIMESTAMP_LTZ(6) NOT NULL COMMENT 'By the clock of the job; in a replay, as it was recorded',
  is_start          BOOLEAN          NOT NULL COMMENT 'Whether the shard has just started: rows further up that are of this batch or later ones no longer hold'
) WITH ('topic' = 'controls_applied.v1') LIKE kafka_json;

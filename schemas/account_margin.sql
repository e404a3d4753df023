-- Topic account_margin.v1, keyed by account.  Append-only.
--
-- Grain   one row per account per second of event time, and at once when its status changes
CREATE TEMPORARY TABLE account_margin (
  account                STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that valued the account',
  model                  STRING           NOT NULL COMMENT 'standard, or the parameter set of portfolio margin',
  equity_usd             DOUBLE                    COMMENT 'Cash at the index, plus unrealised profit, plus option value',
  initial_margin_usd     DOUBLE,
  maintenance_margin_usd DOUBLE,
  margin_ratio           DOUBLE                    COMMENT 'Maintenance margin over equity: liquidation at 1; NULL where equity is not positive',
  status                 STRING           NOT NULL COMMENT 'healthy, margin_call, liquidation or unpriced',
  reason                 STRING                    COMMENT 'What makes the status other than healthy',
  worst_scenario         STRING                    COMMENT 'Portfolio margin: the underlying and the scenario in which it loses most; NULL where none loses, and of standard margin',
  worst_loss_usd         DOUBLE                    COMMENT 'Portfolio margin: what it loses in that; NULL otherwise',
  liquidation_probability_1h  DOUBLE               COMMENT 'That the account becomes liquidatable within an hour; 0 to 1; NULL where an underlying that drives it has no vol, or several do and other accounts were nearer to liquidation',
  liquidation_probability_24h DOUBLE               COMMENT 'Within a day',
  liquidation_probability_7d  DOUBLE               COMMENT 'Within a week',
  liquidation_probability_1h_error  DOUBLE         COMMENT 'Standard error of the estimate where several underlyings drive the account; NULL where the probability is no estimate',
  liquidation_probability_24h_error DOUBLE         COMMENT 'Likewise',
  liquidation_probability_7d_error  DOUBLE         COMMENT 'Likewise'
) WITH ('topic' = 'account_margin.v1') LIKE kafka_json;

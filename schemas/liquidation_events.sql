-- Topic liquidation_events.v1, keyed by account.  Append-only: what was decided about an account, and why.
--
-- Grain   one row per decision: a change of state, a round, a hold and its end, open orders that a kill cancels, a claim on the
--         fund, whose answers are in fund_entries
-- Order   by account, event_at and number
CREATE TEMPORARY TABLE liquidation_events (
  event_id               STRING           NOT NULL COMMENT 'account/instant/number: deterministic',
  account                STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that decided',
  number                 BIGINT           NOT NULL COMMENT 'Counts the events of the account in this case, from 1',
  kind                   STRING           NOT NULL COMMENT 'margin_call, locked, round, held, resumed, cancelled, bankrupt, claimed or recovered',
  state                  STRING           NOT NULL COMMENT 'After it: healthy, margin_call, locked, liquidating, bankrupt or settling (equity below zero, and nothing held any more)',
  equity_usd             DOUBLE                    COMMENT 'NULL where the account cannot be valued',
  initial_margin_usd     DOUBLE,
  maintenance_margin_usd DOUBLE,
  order_id               STRING                    COMMENT 'The liquidation order that it decided on; NULL where none',
  instrument             STRING                    COMMENT 'venue:instrument that it is about; NULL where it is about the account',
  amount_usd             DOUBLE                    COMMENT 'Of a claim: what is missing; of a round: the notional; NULL otherwise',
  reason                 STRING           NOT NULL COMMENT 'Why, with the numbers that led to it'
) WITH ('topic' = 'liquidation_events.v1') LIKE kafka_json;

-- Topic hedge_decisions.v1, keyed by account.  Append-only: why the job hedges trades, or cannot.
--
-- Grain     one row per decision and order; one without an instrument where nothing is ordered, each time the reason changes
-- Delivery  at-least-once; account, decision_id and instrument name a row
CREATE TEMPORARY TABLE hedge_decisions (
  account           STRING           NOT NULL COMMENT 'On which it trades',
  event_at          TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that decided',
  decision_id       STRING           NOT NULL COMMENT 'Made of what was decided: the parent_client_order_id of its orders',
  subject_kind      STRING           NOT NULL COMMENT 'account or group: whose limits are breached',
  subject           STRING           NOT NULL,
  state             STRING           NOT NULL COMMENT 'hedged: the orders bring all within leave; partial: as far as books, lots and limits let them; nothing: no order; refused: an order came back',
  breaches          STRING           NOT NULL COMMENT 'The limits that are breached, as measure:underlying:expiry_bucket, joined by commas',
  venue             STRING                    COMMENT 'Of the order; NULL where there is none',
  instrument        STRING                    COMMENT 'Likewise',
  client_order_id   STRING                    COMMENT 'Likewise',
  side              STRING                    COMMENT 'buy or sell',
  quantity          DECIMAL(38, 18)           COMMENT 'Contracts',
  price             DECIMAL(38, 18)           COMMENT 'Its limit, in the quote currency: as far into the book as was reckoned with',
  delta_usd         DOUBLE                    COMMENT 'What the order adds, if it fills',
  gamma_usd         DOUBLE                    COMMENT 'Likewise',
  vega_usd          DOUBLE                    COMMENT 'Likewise',
  cost_usd          DOUBLE                    COMMENT 'What it is reckoned to cost against the middle of the book: spread, depth, fee, and funding of a perpetual',
  worst_measure     STRING                    COMMENT 'The breached limit that was furthest beyond leave, in parts of enter',
  exposure_before   DOUBLE                    COMMENT 'Of that limit, with what is on its way',
  exposure_after    DOUBLE                    COMMENT 'Likewise, once all orders of the decision have filled',
  total_cost_usd    DOUBLE                    COMMENT 'Of all orders of the decision; NULL where there is none',
  reason            STRING           NOT NULL COMMENT 'In words'
) WITH ('topic' = 'hedge_decisions.v1') LIKE kafka_json;

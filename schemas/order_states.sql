-- Topic order_states.v1, keyed by account.  Append-only: every transition of every order, with its cause.
--
-- The statuses are those of FIX 4.4, and follow from executions and quantities alone: where several hold, the one of the higher
-- precedence is told (kernels/orders/order.py).
--
-- Grain     one row per transition, per refusal, per request that stays without an answer, and per alarm
-- Order     of one order by number
-- Delivery  at-least-once: who follows an order must not wait for a checkpoint.  A repeat is the same row; account, order_key and
--           number name it
CREATE TEMPORARY TABLE order_states (
  account              STRING           NOT NULL,
  venue                STRING           NOT NULL,
  instrument           STRING           NOT NULL,
  event_at             TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch in which it happened',
  order_key            STRING           NOT NULL COMMENT 'The first client_order_id of the order: the same through every replace; of an order that was not requested here the venue''s order_id',
  number               BIGINT           NOT NULL COMMENT 'Counts the rows of the order, from 1',
  client_order_id      STRING                    COMMENT 'In force after the transition; NULL where the order has none',
  orig_client_order_id STRING                    COMMENT 'Of what a replace or a cancel changes; NULL otherwise',
  cause                STRING           NOT NULL COMMENT 'request, report or timer; mmp: market-maker protection',
  cause_id             STRING           NOT NULL COMMENT 'client_order_id of the request, exec_id of the report; of mmp the exec_id of the fill that hit it; of a timer the client_order_id of the request that nobody answers, or of the request that set the timer; of overdue that of the order',
  event                STRING           NOT NULL COMMENT 'exec_type of a report; requested, replace_requested or cancel_requested: sent; refused; unanswered: by the venue; overdue: trading of the contract has ended, and the venue has not said that the order has; conflict: an exec_id came with other contents, which do not count',
  from_status          STRING                    COMMENT 'Before it; NULL of the first row',
  order_status         STRING           NOT NULL COMMENT 'new, partially_filled, filled, cancelled, rejected, expired, stopped, done_for_day, pending_new, pending_cancel or pending_replace',
  side                 STRING                    COMMENT 'buy or sell; NULL where the order is not known',
  price                DECIMAL(38, 18)           COMMENT 'Limit in force, in the quote currency; NULL where there is none',
  quantity             DECIMAL(38, 18)           COMMENT 'Contracts in force; NULL where it is not known',
  cum_quantity         DECIMAL(38, 18)  NOT NULL COMMENT 'Traded so far: the sum of executions, without those that were undone',
  leaves_quantity      DECIMAL(38, 18)  NOT NULL COMMENT 'Still to be traded: never below zero, and zero once the order is done',
  average_price        DECIMAL(38, 18)           COMMENT 'Of what is traded; NULL where it is nothing',
  last_price           DECIMAL(38, 18)           COMMENT 'Of an execution; NULL otherwise',
  last_quantity        DECIMAL(38, 18)           COMMENT 'Of an execution; NULL otherwise',
  last_fee             DECIMAL(38, 18)           COMMENT 'Of an execution, in fee_currency; paid is positive; NULL where the venue tells none',
  fee_currency         STRING                    COMMENT 'NULL where there is no fee',
  reserved_usd         DOUBLE           NOT NULL COMMENT 'What credit keeps back for what is open of it, at the larger of the quantities in force and asked for',
  rule                 STRING                    COMMENT 'Of a refusal: the check that refused; NULL otherwise',
  reason               STRING                    COMMENT 'Why, with figures: of a refusal, an overfill, a conflict; of a report in the venue''s words'
) WITH ('topic' = 'order_states.v1') LIKE kafka_json;

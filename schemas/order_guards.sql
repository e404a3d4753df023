-- Topic order_guards.v1, keyed by account.  Append-only.
--
-- What guards all orders of an account, beside the checks of each: cancels of all of them, timers, and market-maker protection; what
-- was asked for in order_requests, and what came of it.  The cancel of each order is in orders and order_states, with the same
-- cause_id.
--
-- Grain     one row per request of these kinds, per timer that runs out, and per protection that is hit
-- Order     of one account by number
-- Delivery  at-least-once, as order_states.  A repeat is the same row; account and number name it
CREATE TEMPORARY TABLE order_guards (
  account    STRING           NOT NULL,
  event_at   TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch in which it happened',
  number     BIGINT           NOT NULL COMMENT 'Counts the rows of the account, from 1',
  guard      STRING           NOT NULL COMMENT 'cancel_all, timer or mmp',
  event      STRING           NOT NULL COMMENT 'cancelled: cancel_all has asked for cancels; set, cleared, ran_out: of a timer; set, cleared, hit, reset: of mmp; refused',
  cause_id   STRING           NOT NULL COMMENT 'client_order_id of the request; of ran_out that of the request that set the timer; of hit the exec_id of the last fill',
  venue      STRING                    COMMENT 'NULL: all venues',
  instrument STRING                    COMMENT 'NULL: all instruments',
  underlying STRING                    COMMENT 'Of mmp; NULL otherwise',
  ends_at    TIMESTAMP_LTZ(3)          COMMENT 'Of a timer that is set: when it runs out; of hit: until when orders are refused, NULL: until it is reset; NULL otherwise',
  orders     INT                       COMMENT 'Of cancelled, ran_out and hit: of how many orders a cancel is asked for; NULL otherwise',
  rule       STRING                    COMMENT 'Of a refusal: age or client_order_id; NULL otherwise',
  reason     STRING                    COMMENT 'Why, with figures: of a hit and a refusal; else in the words of the request'
) WITH ('topic' = 'order_guards.v1') LIKE kafka_json;

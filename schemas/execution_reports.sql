-- Topic execution_reports.v1, keyed by account.  Append-only.
--
-- What venues say of an account's own orders, in the terms of FIX 4.4.  What is traded counts by trades alone: a row that tells a
-- status never adds to it.
--
-- Grain   one row per change of an order's state, and per execution; the same row may come again
CREATE TEMPORARY TABLE execution_reports (
  account              STRING           NOT NULL,
  venue                STRING           NOT NULL,
  instrument           STRING           NOT NULL,
  event_at             TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time of the change',
  received_at          TIMESTAMP_LTZ(6) NOT NULL,
  exec_id              STRING           NOT NULL COMMENT 'Unique within the account, and the same however often the change is told: the first row counts, save that a later one may tell what it left open. Of a trade the fill_id in fills',
  exec_type            STRING           NOT NULL COMMENT 'new, trade, cancelled, replaced, rejected, expired, trade_cancel, trade_correct, pending_cancel, pending_replace, cancel_rejected: a cancel or replace is refused, done_for_day, stopped, restated, or status: how the order stands, without saying why',
  order_status         STRING                    COMMENT 'new, partially_filled, filled, cancelled, rejected, expired, stopped, done_for_day, pending_new, pending_cancel or pending_replace after the change; NULL where it is not told',
  order_id             STRING                    COMMENT 'The venue''s; NULL where it has given none',
  client_order_id      STRING                    COMMENT 'Ours; of a cancel or a replace the one of that request, where the venue tells it',
  orig_client_order_id STRING                    COMMENT 'Of a cancel or a replace: the client_order_id of the order that it changes',
  side                 STRING           NOT NULL COMMENT 'buy or sell: our own side, not the taker''s',
  order_type           STRING                    COMMENT 'market, limit, stop, stop_limit, take_profit, take_profit_limit or trailing_stop, else the venue''s word; NULL where it is not told',
  time_in_force        STRING                    COMMENT 'gtc, ioc, fok, gtd, day or post_only: gtc, or gtd where it expires, that never takes; else the venue''s word; NULL where it is not told',
  price                DECIMAL(38, 18)           COMMENT 'Limit, in the quote currency; NULL where there is none or it is not told',
  quantity             DECIMAL(38, 18)           COMMENT 'Contracts, as fills.size; NULL where the order is for an amount of money or it is not told',
  leaves_quantity      DECIMAL(38, 18)           COMMENT 'Still to be traded: quantity less cum_quantity, never below 0, and 0 once the order is done; NULL where it is not known',
  cum_quantity         DECIMAL(38, 18)           COMMENT 'Traded so far; NULL where it is not told',
  last_price           DECIMAL(38, 18)           COMMENT 'Of a trade; NULL otherwise',
  last_quantity        DECIMAL(38, 18)           COMMENT 'Of a trade; NULL otherwise',
  average_price        DECIMAL(38, 18)           COMMENT 'Of what is traded so far; NULL where it is nothing or not told',
  fee                  DECIMAL(38, 18)           COMMENT 'Of a trade, in fee_currency; paid is positive; NULL where it is not told: then there is no row in fills',
  fee_currency         STRING                    COMMENT 'NULL where there is no fee',
  is_maker             BOOLEAN                   COMMENT 'Of a trade; NULL otherwise',
  exec_ref_id          STRING                    COMMENT 'Of trade_cancel and trade_correct: the exec_id of the trade; NULL otherwise',
  reason               STRING                    COMMENT 'Why, in the venue''s words: of a rejection, a cancel, an expiry, a forced trade; or that more is traded than was ordered'
) WITH ('topic' = 'execution_reports.v1') LIKE kafka_json;

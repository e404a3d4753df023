-- Topic venue_reports.v1, keyed by venue:instrument.  Append-only.
--
-- What the own venue, and venues on paper, say of orders, in the columns of execution_reports: kernels that read it take its rows
-- for rows of execution_reports.  It has a topic of its own, for each partition has one writer that tells the time in it.  Rows
-- are in the partition of their instrument; who reads by account finds its partition in the row.
--
-- Grain     one row per change of an order, per execution of one, and per request that is refused
-- Order     of one instrument by the number in exec_id
-- Delivery  at-least-once: in the loop of orders, venues, fills and decisions nothing may wait for a checkpoint.  A repeat is the
--           same row with the same exec_id
CREATE TEMPORARY TABLE venue_reports (
  account              STRING           NOT NULL,
  account_partition    INT              NOT NULL COMMENT 'Into which Kafka puts rows with the key account',
  venue                STRING           NOT NULL,
  instrument           STRING           NOT NULL,
  event_at             TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch in which it happened, and the latency of the venue',
  received_at          TIMESTAMP_LTZ(6) NOT NULL COMMENT 'The same instant: nobody receives it from elsewhere',
  exec_id              STRING           NOT NULL COMMENT 'venue:instrument:number; of a trade the fill_id in venue_fills',
  exec_type            STRING           NOT NULL COMMENT 'new, trade, cancelled, replaced, rejected, expired or cancel_rejected: a cancel or replace is refused',
  order_status         STRING                    COMMENT 'new, partially_filled, filled, cancelled, rejected or expired after the change; NULL of a cancel or replace that is refused',
  order_id             STRING                    COMMENT 'instrument/number; NULL of an order that is rejected',
  client_order_id      STRING                    COMMENT 'Ours; of a cancel or a replace the one of that request',
  orig_client_order_id STRING                    COMMENT 'Of a cancel or a replace: the client_order_id of the order that it changes',
  side                 STRING           NOT NULL COMMENT 'buy or sell: our own side, not the taker''s',
  order_type           STRING                    COMMENT 'market or limit; NULL where a cancel is refused',
  time_in_force        STRING                    COMMENT 'gtc, ioc, fok, gtd, day or post_only; NULL where a cancel is refused',
  price                DECIMAL(38, 18)           COMMENT 'Limit in force, in the quote currency; NULL where there is none',
  quantity             DECIMAL(38, 18)           COMMENT 'Contracts in force; NULL where a cancel is refused',
  leaves_quantity      DECIMAL(38, 18)           COMMENT 'Still to be traded, 0 once the order is done; NULL where a cancel or replace is refused',
  cum_quantity         DECIMAL(38, 18)           COMMENT 'Traded so far; NULL where a cancel or replace is refused',
  last_price           DECIMAL(38, 18)           COMMENT 'Of a trade; NULL otherwise',
  last_quantity        DECIMAL(38, 18)           COMMENT 'Of a trade; NULL otherwise',
  average_price        DECIMAL(38, 18)           COMMENT 'Of what is traded so far, to 18 digits, half to even; NULL where it is nothing',
  fee                  DECIMAL(38, 18)           COMMENT 'Of a trade, in fee_currency; paid is positive',
  fee_currency         STRING                    COMMENT 'The settlement currency; NULL where there is no fee',
  is_maker             BOOLEAN                   COMMENT 'Of a trade: whether the order rested, or met another in an auction; NULL otherwise',
  exec_ref_id          STRING                    COMMENT 'NULL: the venue undoes nothing',
  reason               STRING                    COMMENT 'Why: of a rejection, a refusal, an end that nobody asked for'
) WITH ('topic' = 'venue_reports.v1') LIKE kafka_json;

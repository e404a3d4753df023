-- Topic hedge_requests.v1, keyed by account.  Append-only.
--
-- What the job hedges wants of orders, in the columns of order_requests.  It has a topic of its own, for each partition has
-- one writer that tells the time in it: here the decision's latency ahead, so that orders need not wait for it.
--
-- Grain     one row per request; the same decision has the same client_order_id and counts once
-- Delivery  at-least-once: in the loop of orders, venues, fills and decisions nothing may wait for a checkpoint.  A repeat is the
--           same row
CREATE TEMPORARY TABLE hedge_requests (
  account                STRING           NOT NULL,
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that decided, and the latency of the decision',
  client_order_id        STRING           NOT NULL COMMENT 'Of the request itself, also of a replace and a cancel: up to 32 letters and digits, unique within the account, made of what was decided (kernels/orders/ids.py)',
  orig_client_order_id   STRING                    COMMENT 'Of a replace and a cancel: the client_order_id of the order that it changes, or of an open replace of it; NULL of a new order',
  parent_client_order_id STRING                    COMMENT 'decision_id of hedge_decisions',
  request                STRING           NOT NULL COMMENT 'new, replace or cancel',
  source                 STRING           NOT NULL COMMENT 'hedge',
  owner_group            STRING                    COMMENT 'Accounts of one owner: matching lets no two orders of a group trade with each other; NULL: the account is its own group',
  side                   STRING                    COMMENT 'buy or sell; NULL of a cancel',
  order_type             STRING                    COMMENT 'market or limit; NULL of a cancel',
  time_in_force          STRING                    COMMENT 'gtc, ioc, fok, gtd, day or post_only: gtc that never takes; NULL is gtc, and of a cancel',
  price                  DECIMAL(38, 18)           COMMENT 'Limit, in the quote currency; NULL of a market order and a cancel',
  quantity               DECIMAL(38, 18)           COMMENT 'Contracts, above zero; of a replace the whole quantity, with what has traded; NULL of a cancel',
  is_reduce_only         BOOLEAN                   COMMENT 'Whether it may only make the position smaller; NULL is FALSE',
  expires_at             TIMESTAMP_LTZ(3)          COMMENT 'Of gtd: when the venue ends it; NULL otherwise',
  max_notional_usd       DOUBLE                    COMMENT 'The decider''s own limit: a larger order is refused, whatever the account may; NULL where there is none',
  reason                 STRING                    COMMENT 'Why it was decided'
) WITH ('topic' = 'hedge_requests.v1') LIKE kafka_json;

-- Topic order_requests.v1, keyed by account.  Append-only.
--
-- What is wanted of orders, by whoever decides: an order that is new, is to change, or is to end; and what guards all orders of an
-- account.  Nobody else's word reaches a venue; the job orders checks it, and sends it or says why not in order_states.  What comes
-- of cancel_all, timer, mmp and mmp_reset is in order_guards.
--
-- Grain     one row per request; the same decision has the same client_order_id, however often it is made, and counts once
-- Delivery  at-least-once: in the loop of orders, venues, fills and decisions nothing may wait for a checkpoint.  A request with
--           the client_order_id of another and other contents is refused
CREATE TEMPORARY TABLE order_requests (
  account                STRING           NOT NULL,
  venue                  STRING                    COMMENT 'Of cancel_all and timer NULL: all venues; of mmp and mmp_reset NULL',
  instrument             STRING                    COMMENT 'Of cancel_all and timer NULL: all instruments; of mmp and mmp_reset NULL',
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When it was decided; one that is too old is refused',
  client_order_id        STRING           NOT NULL COMMENT 'Of the request itself, also of a replace and a cancel: up to 32 letters and digits, unique within the account, made of what was decided (kernels/orders/ids.py)',
  orig_client_order_id   STRING                    COMMENT 'Of a replace and a cancel: the client_order_id of the order that it changes, or of an open replace of it; NULL of every other request',
  parent_client_order_id STRING                    COMMENT 'Of a child: the order that it is a slice or a leg of; NULL otherwise',
  request                STRING           NOT NULL COMMENT 'new, replace or cancel; cancel_all: all open orders; timer: all open orders once it runs out, unless it is set again before; mmp: market-maker protection is set; mmp_reset: it begins anew',
  source                 STRING           NOT NULL COMMENT 'Who decides: liquidation, hedge, algorithm or person',
  owner_group            STRING                    COMMENT 'Accounts of one owner: matching lets no two orders of a group trade with each other; NULL: the account is its own group',
  side                   STRING                    COMMENT 'buy or sell; NULL but of new and replace, as what follows',
  order_type             STRING                    COMMENT 'market or limit',
  time_in_force          STRING                    COMMENT 'gtc, ioc, fok, gtd, day or post_only: gtc, or gtd where it expires, that never takes; NULL is gtc',
  price                  DECIMAL(38, 18)           COMMENT 'Limit, in the quote currency; NULL of a market order',
  quantity               DECIMAL(38, 18)           COMMENT 'Contracts, above zero; of a replace the whole quantity, with what has traded',
  is_reduce_only         BOOLEAN                   COMMENT 'Whether it may only make the position smaller; NULL is FALSE',
  expires_at             TIMESTAMP_LTZ(3)          COMMENT 'Of gtd: when the venue ends it; NULL otherwise',
  max_notional_usd       DOUBLE                    COMMENT 'The decider''s own limit: a larger order is refused, whatever the account may; NULL where there is none',
  reason                 STRING                    COMMENT 'Why it was decided',
  is_mmp                 BOOLEAN                   COMMENT 'Of new: whether market-maker protection counts its fills and cancels it; NULL is FALSE',
  after_s                DOUBLE                    COMMENT 'Of timer: it runs out so many seconds after event_at; 0 clears it; NULL of every other request',
  underlying             STRING                    COMMENT 'Of mmp and mmp_reset: whose orders it protects; NULL of every other request',
  window_s               DOUBLE                    COMMENT 'Of mmp: the fills of so many seconds are counted; 0 ends the protection; NULL of every other request',
  frozen_s               DOUBLE                    COMMENT 'Of mmp: after a hit orders are refused for so many seconds; 0: until mmp_reset; NULL of every other request',
  max_fills              INT                       COMMENT 'Of mmp: more fills within the window hit it; NULL where it has no such limit',
  max_quantity           DOUBLE                    COMMENT 'Of mmp: more bought and sold, in units of the underlying; NULL where it has no such limit',
  max_delta              DOUBLE                    COMMENT 'Of mmp: more bought than sold or the reverse, in units of the underlying by delta; NULL where it has no such limit'
) WITH ('topic' = 'order_requests.v1') LIKE kafka_json;

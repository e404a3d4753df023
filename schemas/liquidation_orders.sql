-- Topic liquidation_orders.v1, keyed by account.  Append-only.
--
-- Grain     one row per order that the engine decides on; the same decision has the same order_id, however often it is made
-- Delivery  at-least-once: the job orders, which requests it of a venue, must not wait for a checkpoint.  A repeat is the same row
--           with the same order_id, of which the client_order_id is made, so it is sent once
CREATE TEMPORARY TABLE liquidation_orders (
  order_id               STRING           NOT NULL COMMENT 'account/instant/number: deterministic',
  account                STRING           NOT NULL,
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that decided',
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  side                   STRING           NOT NULL COMMENT 'buy or sell; always reduces the position',
  size                   DOUBLE           NOT NULL COMMENT 'Contracts, above zero',
  mark_price             DOUBLE           NOT NULL COMMENT 'In the quote currency',
  equity_usd             DOUBLE           NOT NULL COMMENT 'Before the order',
  maintenance_margin_usd DOUBLE           NOT NULL COMMENT 'Before the order',
  reason                 STRING           NOT NULL,
  limit_price            DOUBLE                    COMMENT 'The worst price at which it may fill, in the quote currency',
  round                  BIGINT                    COMMENT 'Counts the rounds of this liquidation from 1',
  visible_size           DOUBLE                    COMMENT 'Contracts that the book showed within the limit; NULL where no book is known'
) WITH ('topic' = 'liquidation_orders.v1') LIKE kafka_json;

-- Topic orders.v1, keyed by account.  Append-only.
--
-- What venues are to do: requests that have passed the checks before the trade, each once.  Rows are in the partition of their
-- account, in which the job orders tells the time; who reads by instrument finds its partition in the row.
--
-- Grain     one row per request that is sent
-- Order     of one account by event_at and number
-- Delivery  at-least-once: a venue must not wait for a checkpoint.  A repeat is the same row with the same client_order_id, by
--           which a venue, and the matching of our own, takes it once
CREATE TEMPORARY TABLE orders (
  venue                  STRING           NOT NULL,
  instrument             STRING           NOT NULL,
  instrument_partition   INT              NOT NULL COMMENT 'Into which Kafka puts rows with the key venue:instrument',
  event_at               TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that checked it',
  account                STRING           NOT NULL,
  number                 BIGINT           NOT NULL COMMENT 'Counts what is sent for the account, from 1',
  client_order_id        STRING           NOT NULL COMMENT 'Of the request',
  orig_client_order_id   STRING                    COMMENT 'Of a replace and a cancel: the client_order_id that the order has, or that an open replace gives it; NULL of a new order',
  parent_client_order_id STRING                    COMMENT 'Of a child; NULL otherwise',
  order_id               STRING                    COMMENT 'Of a replace and a cancel: the venue''s, where it has told one',
  request                STRING           NOT NULL COMMENT 'new, replace or cancel',
  source                 STRING           NOT NULL COMMENT 'liquidation, hedge, algorithm or person; of a cancel of our own: gate, timer or mmp',
  owner_group            STRING           NOT NULL COMMENT 'No two orders of a group trade with each other',
  side                   STRING           NOT NULL COMMENT 'buy or sell; of a replace and a cancel that of the order',
  order_type             STRING                    COMMENT 'market or limit; NULL of a cancel',
  time_in_force          STRING                    COMMENT 'gtc, ioc, fok, gtd, day or post_only; NULL of a cancel',
  price                  DECIMAL(38, 18)           COMMENT 'Limit, in the quote currency; NULL of a market order and a cancel',
  quantity               DECIMAL(38, 18)           COMMENT 'Contracts; of a replace the whole quantity, with what has traded; NULL of a cancel',
  is_reduce_only         BOOLEAN                   COMMENT 'NULL of a cancel',
  expires_at             TIMESTAMP_LTZ(3)          COMMENT 'Of gtd; NULL otherwise'
) WITH ('topic' = 'orders.v1') LIKE kafka_json;

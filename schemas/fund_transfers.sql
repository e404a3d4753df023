-- Topic fund_transfers.v1, keyed by fund.  Append-only.
--
-- What the insurance fund pays and is paid, in the columns of transfers.  It has a topic of its own, for each partition has one
-- writer that tells the time in it, and tells it ahead.  All rows are in one partition; who reads by account finds its partition
-- in the row.
--
-- Grain     one row per payment
-- Delivery  at-least-once: in the loop of decisions, payments and positions nothing may wait for a checkpoint.  A repeat is the
--           same row with the same transfer_id
CREATE TEMPORARY TABLE fund_transfers (
  fund              STRING           NOT NULL COMMENT 'A name that Kafka puts into the partition of the fund',
  account           STRING           NOT NULL,
  account_partition INT              NOT NULL COMMENT 'Into which Kafka puts rows with the key account',
  event_at          TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that decided, and the latency of the fund',
  received_at       TIMESTAMP_LTZ(6) NOT NULL COMMENT 'The same instant: nobody receives it from elsewhere',
  transfer_id       STRING           NOT NULL COMMENT 'claim_id/currency; of what the fund gains by an execution order_key/number/fee',
  currency          STRING           NOT NULL,
  amount            DECIMAL(38, 18)  NOT NULL COMMENT 'What the fund pays is positive',
  kind              STRING                    COMMENT 'insurance',
  margin_model      STRING                    COMMENT 'NULL: as before'
) WITH ('topic' = 'fund_transfers.v1') LIKE kafka_json;

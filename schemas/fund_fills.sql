-- Topic fund_fills.v1, keyed by fund.  Append-only.
--
-- Both sides of each deleveraging, in the columns of fills; why it has a topic of its own, fund_transfers says.
--
-- Grain     one row per deleveraging and account: two with the same fill_id, or none.  What other fills have overtaken is
--           corrected, or busted, on both sides
-- Delivery  at-least-once.  A repeat is the same row with the same account and fill_id
CREATE TEMPORARY TABLE fund_fills (
  fund              STRING           NOT NULL COMMENT 'A name that Kafka puts into the partition of the fund',
  account           STRING           NOT NULL,
  account_partition INT              NOT NULL COMMENT 'Into which Kafka puts rows with the key account',
  venue             STRING           NOT NULL,
  instrument        STRING           NOT NULL,
  event_at          TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that decided, and the latency of the fund',
  received_at       TIMESTAMP_LTZ(6) NOT NULL COMMENT 'The same instant: nobody receives it from elsewhere',
  fill_id           STRING           NOT NULL COMMENT 'claim_id/venue:instrument/account on the other side; of a correction with /corrected behind it',
  side              STRING           NOT NULL COMMENT 'buy or sell; always reduces the position',
  price             DECIMAL(38, 18)  NOT NULL COMMENT 'The bankruptcy price, in the quote currency',
  size              DECIMAL(38, 18)  NOT NULL COMMENT 'Contracts, above zero',
  fee               DECIMAL(38, 18)  NOT NULL COMMENT '0',
  kind              STRING                    COMMENT 'fill, correction or bust',
  corrects_id       STRING                    COMMENT 'Of a correction, whose contents replace those of this fill_id, and of a bust, which undoes it; NULL otherwise'
) WITH ('topic' = 'fund_fills.v1') LIKE kafka_json;

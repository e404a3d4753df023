-- Topic venue_fills.v1, keyed by venue:instrument.  Append-only.
--
-- What the own venue, and venues on paper, have executed, in the columns of fills: kernels that read it take its rows for rows of
-- fills.  Why it has a topic of its own, venue_reports says.
--
-- Grain     one row per execution of one account
-- Delivery  at-least-once.  A repeat is the same row with the same fill_id
CREATE TEMPORARY TABLE venue_fills (
  account           STRING           NOT NULL,
  account_partition INT              NOT NULL COMMENT 'Into which Kafka puts rows with the key account',
  venue             STRING           NOT NULL,
  instrument        STRING           NOT NULL,
  event_at          TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch in which it traded, and the latency of the venue',
  received_at       TIMESTAMP_LTZ(6) NOT NULL,
  fill_id           STRING           NOT NULL COMMENT 'The exec_id in venue_reports',
  side              STRING           NOT NULL COMMENT 'buy or sell',
  price             DECIMAL(38, 18)  NOT NULL COMMENT 'In the quote currency',
  size              DECIMAL(38, 18)  NOT NULL COMMENT 'Contracts, above zero',
  fee               DECIMAL(38, 18)  NOT NULL COMMENT 'In the settlement currency; paid is positive',
  kind              STRING                    COMMENT 'fill, correction or bust; NULL is a fill',
  corrects_id       STRING                    COMMENT 'Of a correction, whose contents replace those of this fill_id of the same account and instrument, and of a bust, which undoes it; NULL otherwise'
) WITH ('topic' = 'venue_fills.v1') LIKE kafka_json;

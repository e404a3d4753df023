-- Topic fills.v1, keyed by account.  Append-only.
--
-- Grain   one row per execution of one account, and per correction or bust of one
CREATE TEMPORARY TABLE fills (
  account      STRING           NOT NULL,
  venue        STRING           NOT NULL,
  instrument   STRING           NOT NULL,
  event_at     TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time of the execution',
  received_at  TIMESTAMP_LTZ(6) NOT NULL,
  fill_id      STRING           NOT NULL COMMENT 'Unique within the account',
  side         STRING           NOT NULL COMMENT 'buy or sell',
  price        DECIMAL(38, 18)  NOT NULL COMMENT 'In the quote currency',
  size         DECIMAL(38, 18)  NOT NULL COMMENT 'Contracts, above zero',
  fee          DECIMAL(38, 18)  NOT NULL COMMENT 'In the settlement currency; paid is positive',
  kind         STRING                    COMMENT 'fill, correction or bust; NULL is a fill',
  corrects_id  STRING                    COMMENT 'Of a correction, whose contents replace those of this fill_id of the same account and instrument, and of a bust, which undoes it; NULL otherwise'
) WITH ('topic' = 'fills.v1') LIKE kafka_json;

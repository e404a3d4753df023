-- Topic fills.v1, keyed by account.  Append-only.
--
-- Grain   one row per execution of one account
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
  fee          DECIMAL(38, 18)  NOT NULL COMMENT 'In the settlement currency; paid is positive'
) WITH ('topic' = 'fills.v1') LIKE kafka_json;

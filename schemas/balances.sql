-- Topic balances.v1, keyed by account.  Append-only: the newest row of account and currency counts.
--
-- Grain   one row per account, currency and change: transfers, realised profit, premiums, fees, funding and settlements
CREATE TEMPORARY TABLE balances (
  account     STRING           NOT NULL,
  currency    STRING           NOT NULL,
  event_at    TIMESTAMP_LTZ(3) NOT NULL,
  received_at TIMESTAMP_LTZ(6) NOT NULL,
  amount      DECIMAL(38, 18)  NOT NULL COMMENT 'Cash, in units of the currency',
  cause_id    STRING           NOT NULL COMMENT 'The fill, transfer or settlement that changed it',
  margin_model STRING                   COMMENT 'The account''s margin model from now on, from its transfer; NULL: as before'
) WITH ('topic' = 'balances.v1') LIKE kafka_json;

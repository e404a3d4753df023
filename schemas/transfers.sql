-- Topic transfers.v1, keyed by account.  Append-only.
--
-- Grain   one row per deposit, withdrawal or payment
CREATE TEMPORARY TABLE transfers (
  account     STRING           NOT NULL,
  event_at    TIMESTAMP_LTZ(3) NOT NULL,
  received_at TIMESTAMP_LTZ(6) NOT NULL,
  transfer_id STRING           NOT NULL COMMENT 'Unique within the account',
  currency    STRING           NOT NULL COMMENT 'USD, USDC, BTC',
  amount      DECIMAL(38, 18)  NOT NULL COMMENT 'A deposit is positive, a withdrawal negative',
  kind        STRING                    COMMENT 'transfer: from outside; funding and delivery: from the exchange; insurance: from the insurance fund; fee: of a trade, where it is charged in another currency than the trade settles in; NULL is a transfer',
  margin_model STRING                   COMMENT 'The account''s margin model from now on: standard, or a parameter set of portfolio margin; NULL: as before'
) WITH ('topic' = 'transfers.v1') LIKE kafka_json;

-- Topic positions.v1, keyed by account.  Append-only: one row per change; the newest row of account and instrument counts.
--
-- Grain   one row per account, instrument and fill
CREATE TEMPORARY TABLE positions (
  account             STRING           NOT NULL,
  venue               STRING           NOT NULL,
  instrument          STRING           NOT NULL,
  event_at            TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time of the fill that made this position',
  received_at         TIMESTAMP_LTZ(6) NOT NULL,
  size                DECIMAL(38, 18)  NOT NULL COMMENT 'Contracts; short is negative',
  average_price       DECIMAL(38, 18)           COMMENT 'Average entry price in the quote currency; NULL when flat',
  realised_pnl        DECIMAL(38, 18)  NOT NULL COMMENT 'Since the first fill, in the settlement currency, before fees',
  settlement_currency STRING           NOT NULL,
  fill_id             STRING           NOT NULL COMMENT 'The fill that made this position'
) WITH ('topic' = 'positions.v1') LIKE kafka_json;

-- Topic trades.v1, keyed by venue:instrument.  Append-only.
--
-- Grain   one row per execution that the venue publishes
CREATE TEMPORARY TABLE trades (
  venue        STRING           NOT NULL,
  instrument   STRING           NOT NULL,
  event_at     TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Exchange time of the trade',
  received_at  TIMESTAMP_LTZ(6) NOT NULL,
  trade_id     STRING           NOT NULL COMMENT 'Unique within venue and instrument',
  side         STRING           NOT NULL COMMENT 'Of the taker: buy or sell',
  price        DOUBLE           NOT NULL COMMENT 'In the instrument''s quote currency',
  size         DOUBLE           NOT NULL COMMENT 'In the venue''s unit of amount, of which a contract is instruments.amount_per_contract',
  off_market   STRING                    COMMENT 'Why this execution is no trade of the market: insurance_fund, adl, block, rfq; NULL for a trade of the market',
  block_height BIGINT                    COMMENT 'Height of the block, for venues on a chain; NULL elsewhere'
) WITH ('topic' = 'trades.v1') LIKE kafka_json;

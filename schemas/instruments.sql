-- Topic instruments.v1, keyed by venue:instrument.  Compacted: the newest row of a key has the current terms of the contract.
--
-- Grain   one row per contract and change of its terms
CREATE TEMPORARY TABLE instruments (
  venue               STRING           NOT NULL,
  instrument          STRING           NOT NULL COMMENT 'The venue''s own symbol',
  event_at            TIMESTAMP_LTZ(3) NOT NULL COMMENT 'An instant from which on these terms held',
  received_at         TIMESTAMP_LTZ(6) NOT NULL,
  kind                STRING           NOT NULL COMMENT 'spot, perpetual, future or option',
  underlying          STRING           NOT NULL COMMENT 'Base currency: BTC',
  quote_currency      STRING           NOT NULL COMMENT 'Currency of the price: USD, USDT, BTC',
  settlement_currency STRING           NOT NULL COMMENT 'Currency in which profit is paid',
  is_inverse          BOOLEAN          NOT NULL COMMENT 'Settled in the underlying instead of the quote currency',
  option_type         STRING                    COMMENT 'call or put; NULL unless an option',
  strike_usd          DOUBLE                    COMMENT 'NULL unless an option',
  expiry_at           TIMESTAMP_LTZ(3)          COMMENT 'NULL for spot and perpetuals',
  last_trading_at     TIMESTAMP_LTZ(3)          COMMENT 'NULL for spot and perpetuals',
  contract_size       DOUBLE                    COMMENT 'Underlying per contract; for inverse futures and perpetuals USD per contract; NULL if not published',
  tick_size           DOUBLE                    COMMENT 'Smallest step of the price; NULL if not published',
  lot_size            DOUBLE                    COMMENT 'Smallest step of the size of an order, in contracts; NULL if not published',
  amount_per_contract DOUBLE                    COMMENT 'What one contract is in the sizes of the venue''s books, trades and tickers: 1 where they count contracts; NULL where it is not known: then no job takes a size for contracts'
) WITH ('topic' = 'instruments.v1') LIKE kafka_json;

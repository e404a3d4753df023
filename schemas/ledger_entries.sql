-- Topic ledger_entries.v1, keyed by account.  Append-only: the sum of all entries up to an instant is what every account had then.
--
-- Grain   one row per account, cause, asset and kind: `amount` of `asset` goes from `counter_account` to `account`
-- Order   by account and number; the newest row of an account and asset has its current `balance`
CREATE TEMPORARY TABLE ledger_entries (
  entry_id        STRING           NOT NULL COMMENT 'account/cause_kind/cause_id/kind/asset: the same cause gives the same, whenever it comes',
  account         STRING           NOT NULL,
  number          BIGINT           NOT NULL COMMENT 'Counts the entries of the account from 1, in the order in which they were booked',
  event_at        TIMESTAMP_LTZ(3) NOT NULL COMMENT 'When it was booked: the time of its cause, or of the entry before it where that is later',
  caused_at       TIMESTAMP_LTZ(3) NOT NULL COMMENT 'The time of its cause',
  counter_account STRING           NOT NULL COMMENT 'house:exchange, house:fees, house:insurance or house:outside',
  kind            STRING           NOT NULL COMMENT 'trade, pnl, premium, fee, spot, transfer, funding, settlement, delivery or insurance',
  asset           STRING           NOT NULL COMMENT 'A currency, or venue:instrument',
  amount          DECIMAL(38, 18)  NOT NULL COMMENT 'Units of the currency, or contracts; what leaves the account is negative',
  price           DECIMAL(38, 18)           COMMENT 'Of a trade, and of a settlement''s contracts: in the quote currency; NULL otherwise',
  balance         DECIMAL(38, 18)  NOT NULL COMMENT 'What the account holds of the asset after it',
  average_price   DECIMAL(38, 18)           COMMENT 'Of an instrument: after it, in the quote currency; NULL when flat, and for a currency',
  realised_pnl    DECIMAL(38, 18)           COMMENT 'Of an instrument: since its first fill, in the settlement currency; NULL for a currency',
  cause_kind      STRING           NOT NULL COMMENT 'fills, transfers or settlement',
  cause_id        STRING           NOT NULL COMMENT 'fill_id, transfer_id, or the instrument that was settled',
  corrected_id    STRING                    COMMENT 'The fill that its cause corrects or busts; NULL where it does neither'
) WITH ('topic' = 'ledger_entries.v1', 'sink.delivery-guarantee' = 'exactly-once') LIKE kafka_json;

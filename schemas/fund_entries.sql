-- Topic fund_entries.v1, keyed by currency.  Append-only: what the insurance fund has done, and why.
--
-- Grain   one row per change of a balance of the fund, per deleveraging, and per answer that changes nothing
-- Order   of one currency by number; the newest row has the balance.  What it begins with is in kernels/fund/rules.py
CREATE TEMPORARY TABLE fund_entries (
  entry_id        STRING           NOT NULL COMMENT 'currency/number: deterministic',
  currency        STRING           NOT NULL,
  event_at        TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that decided; fills and transfers come the latency of the fund later',
  number          BIGINT           NOT NULL COMMENT 'Counts the entries of the currency, from 1',
  kind            STRING           NOT NULL COMMENT 'insurance: the fund pays; fee: it gains by an execution of a liquidation order; reserved: it has enough for what may be lost; deleveraging: others bear it; corrected: a deleveraging was overtaken by other fills; uncovered: nobody bears it',
  account         STRING           NOT NULL COMMENT 'Whose loss it is',
  claim_id        STRING           NOT NULL COMMENT 'In loss_claims; of a fee the transfer_id',
  amount          DECIMAL(38, 18)  NOT NULL COMMENT 'By which the balance changes; 0 where it does not',
  balance         DECIMAL(38, 18)  NOT NULL COMMENT 'After it',
  amount_usd      DOUBLE           NOT NULL COMMENT 'Of a payment, what it covers; of a fee, what it is worth; of a deleveraging, what the other side bears; of a loss reserved or uncovered, how much',
  counter_account STRING                    COMMENT 'Of a deleveraging: whose position closes against the account''s; NULL otherwise',
  instrument      STRING                    COMMENT 'Of a deleveraging: venue:instrument; NULL otherwise',
  size            DECIMAL(38, 18)           COMMENT 'Of a deleveraging: contracts by which the account''s position changes, negative where it is long; NULL otherwise',
  price           DECIMAL(38, 18)           COMMENT 'Of a deleveraging: the bankruptcy price; NULL otherwise',
  reason          STRING           NOT NULL COMMENT 'With the numbers that led to it'
) WITH ('topic' = 'fund_entries.v1') LIKE kafka_json;

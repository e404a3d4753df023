-- Topic loss_claims.v1, keyed by account.  Append-only: what an account has lost beyond all that it had, for the fund to answer.
--
-- The fund (job fund) pays once nothing is held any more, and deleverages others where it has not enough.  It knows what it has
-- answered: each claim has the whole amount.
--
-- Grain     one row per claim and position that may be deleveraged; one without a position where there is none
-- Delivery  at-least-once: in the loop of decisions, payments and positions nothing may wait for a checkpoint.  A repeat is the
--           same row, and counts once
CREATE TEMPORARY TABLE loss_claims (
  claim_id    STRING           NOT NULL COMMENT 'account/instant: deterministic',
  account     STRING           NOT NULL,
  event_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'End of the micro-batch that decided',
  broke_at    TIMESTAMP_LTZ(3) NOT NULL COMMENT 'Since when its equity is gone: the same in all claims of one case',
  missing_usd DOUBLE           NOT NULL COMMENT 'All that equity is below zero, above zero, whatever was claimed before',
  currency    STRING           NOT NULL COMMENT 'In which most is owed; USD where no balance is below zero',
  is_settled  BOOLEAN          NOT NULL COMMENT 'Whether nothing is held any more: the loss is realised, and is to be paid',
  venue       STRING                    COMMENT 'Of the position; NULL of a claim without one',
  instrument  STRING                    COMMENT 'Likewise',
  size        DOUBLE                    COMMENT 'Contracts that are held, short is negative; NULL without a position',
  price       DOUBLE                    COMMENT 'In the quote currency: all of it closed at this price, its share of the loss is gone; NULL without a position',
  share_usd   DOUBLE                    COMMENT 'Its share of the loss; NULL without a position',
  reason      STRING           NOT NULL COMMENT 'With the numbers that led to it'
) WITH ('topic' = 'loss_claims.v1') LIKE kafka_json;

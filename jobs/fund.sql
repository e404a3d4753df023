-- fund: who bears each loss: the insurance fund, accounts on the other side, or nobody?
--
-- Grain   one row of fund_transfers per payment, two of fund_fills per deleveraging; one of fund_entries per decision
-- State   the fund by currency, what each claim was answered, deleveragings that are not booked yet, liquidation orders; positions and cash of all
--         accounts, newest prices, contract terms (kernels/fund/)
-- Late    a claim behind the watermark is answered with the next batch; the same claim twice counts once

SET 'gammaflow.reads' = 'instruments, tickers, index_prices, positions, balances, loss_claims';
-- As liquidations, with -D gammaflow.also-read=oracle_prices.  With liquidation_orders,order_states the fund gets its part of what
-- is executed of liquidation orders.
SET 'gammaflow.may-read' = 'oracle_prices, liquidation_orders, order_states';
SET 'gammaflow.kernel' = 'fund';
SET 'gammaflow.writes' = 'fund_transfers, fund_fills, fund_entries, dead_letters';
SET 'gammaflow.tells-time' = 'fund_transfers, fund_fills';
-- An answer comes a latency after its claim (kernels/fund/rules.py): so who claims need not wait for it.
SET 'gammaflow.tells-ahead' = 'fund_transfers, fund_fills';

-- As that of liquidations, with which it is in step.
SET 'gammaflow.window' = '0.1';

-- There is one fund, and one rank of those who are deleveraged: the first shard has all messages, and the others only tell the
-- time in their partitions.
CREATE TEMPORARY VIEW messages AS
SELECT
  CASE WHEN message IS NULL THEN inbox.shard ELSE ARRAY[${SHARDS}][1] END AS shard,
  event_at,
  is_late,
  message
FROM inbox;

"""fund: who bears each loss: the insurance fund, accounts on the other side, or nobody?

Entries    purse/<currency>: what the fund has of one currency, and the number of its entries
           answered/<account>: what an account's claims were answered; freed a day after the last
           waiting/<account>: a claim that came late, for the next batch
           deleveraging/<fill_id>: one that is not booked on both sides yet
           liquidation/<order_key>: a liquidation order, and what was executed of it; freed a day later
           size/["<venue:instrument>","<account>"]: a position with all its digits; freed with its contract
           and those of `kernels.liquidations.accounts`: the fund values accounts as liquidations do, when there is a claim
Order      a batch applies prices, positions and balances first, then ends deleveragings that are booked, then answers claims by
           event time and account
Claims     one that is settled, of an account that holds nothing any more, is paid as far as the fund goes; nobody bears the
           rest.  One of an account that still holds something is reserved for, if the fund has enough beside what it has
           reserved for others.  If not, others close the account's positions at their bankruptcy prices: what they bear is gone
           then.  What is left open is sold on the market, and claimed again when it is closed
           A claim has all that is missing.  What the fund has answered is taken off: payments and deleveragings that are not
           booked yet, and what nobody bears of the same case
Once       a claim that is not newer than the account's last one came before, and does nothing
Gains      of each execution of a liquidation order the fund gets what is better than the bankruptcy quote, up to `max_fee` of
           it and to all that the account has (`udfs.liquidation.insurance_delta`, with the figures of the decision).  It needs
           liquidation_orders and order_states
Rank       the score of udfs/liquidation.py, the highest first, then by name: one rank per instrument and side.  Nobody is
           deleveraged who would be below maintenance margin then, and nobody of more than he holds
Both       a deleveraging is two fills with one id at one instant, or none.  Other fills may come between the decision and its
           time: where a position would have turned, both are corrected to what was left
Time       everything is decided at the last instant of its batch; payments and fills come the latency later
Shards     the first shard has all messages.  The others have none, and tell the time in their partitions
Numbers    amounts and sizes are decimals: sums are exact
"""

from collections.abc import Callable

from engine.checks import checked, dead_letter
from engine.contract import Kernel, Message, Output
from kernels.fund.answers import Answers
from kernels.fund.claims import claim_of, contradicts, joined
from kernels.fund.rank import Rank, Reserves
from kernels.fund.rules import RULES
from kernels.fund.state import VERSION as VERSION
from kernels.fund.state import State as State
from kernels.liquidations import ACCOUNTS, STORE_SHARE
from kernels.liquidations.messages import in_time, learn
from kernels.liquidations.valuation import is_past, keep_time, value
from kernels.liquidations.volatility import follow_vol
from kernels.positions.ledger import ZERO
from schemas.rows import Fault, key


def new() -> State:
    """An empty state."""
    return State()


def set_keys(state: State, partition: Callable[[str], int], own: int) -> None:
    """Be the shard of the partition `own`."""
    state.set_keys(partition, own)


def gauges(state: State) -> dict[str, float]:
    """What the fund has in USD, and how many deleveragings are not booked yet; nothing of the shards without a fund."""
    if not state.is_first:
        return {}
    columns, number = state.accounts.currency_columns, state.accounts.currency
    worth = sum(float(purse.balance) * float(columns["usd"][number(name)]) for name, purse in state.purses.items())
    return {"insurance_fund_usd": worth, "deleveragings_pending": len(state.pending)}


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: rows of `fund_transfers`, `fund_fills`, `fund_entries` and `dead_letters`."""
    good, outputs = checked(messages, until_ms)
    good.sort(key=in_time)
    outputs += learn(state.accounts, good, until_ms)
    for message in good:
        if message.table == "positions":
            _book(state, message)
    for table in ("liquidation_orders", "order_states"):
        for message in good:
            if message.table == table:
                state.learn_order(table, message.row)
    outputs += _gathered(state, good, until_ms)
    if until_ms is None or not state.is_first or is_past(state.accounts, until_ms // 1000):
        return outputs
    keep_time(state.accounts, until_ms // 1000)
    follow_vol(state.accounts, until_ms)
    outputs += _decided(state, until_ms)
    state.accounts.touched |= {f"account/{name}" for name in state.accounts.due}
    state.accounts.due.clear()
    state.forget(until_ms)
    return outputs


def _book(state: State, message: Message) -> None:
    """Keep a position with all its digits, and note where it is what a deleveraging made."""
    row, size = message.row, state.learn_size(message.row) or ZERO
    account = row["account"]
    for name in state.closing.get((account, key("instruments", row)), ()):
        deleveraging = state.pending[name]
        if deleveraging.fill_id == row["fill_id"] and account not in deleveraging.beyond:
            change = dict(deleveraging.sides)[account]
            has_turned = size and (size > 0) == (change > 0)
            deleveraging.beyond[account] = str(min(size.copy_abs(), change.copy_abs()) if has_turned else ZERO)
            state.touched.add(f"deleveraging/{name}")


def _gathered(state: State, good: list[Message], until_ms: int | None) -> list[Output]:
    """Put the claims by that are to be answered; returns dead letters of the others."""
    letters: list[Output] = []
    for message in good:
        if message.table != "loss_claims":
            continue
        claim = claim_of(message.row)
        if not isinstance(claim, Fault) and claim.account not in state.accounts.accounts:
            claim = Fault("account", "an account that has or had a balance or a position", claim.account)
        elif not isinstance(claim, Fault) and contradicts(state.waiting.get(claim.account), claim):
            claim = Fault("claim_id", f"the contents that {claim.claim_id} had before", "others")
        if isinstance(claim, Fault):
            letters.append(dead_letter(message, claim, until_ms))
            continue
        known = state.answered.get(claim.account)
        if known is None or known.claimed_ms < claim.event_ms:
            state.waiting[claim.account] = joined(state.waiting.get(claim.account), claim)
            state.touched.add(f"waiting/{claim.account}")
    return letters


def _decided(state: State, until_ms: int) -> list[Output]:
    answers = Answers(state, until_ms)
    for deleveraging in [state.pending[name] for name in sorted(state.pending)]:
        if len(deleveraging.beyond) == len(deleveraging.sides):
            answers.settle(deleveraging)
        elif until_ms > deleveraging.told_ms + state.rules.lost_ms:
            answers.give_up(deleveraging)
    executed = sorted(name for name, order in state.liquidations.items() if order.executed)
    if state.waiting or executed:
        rank = Rank(state, value(state.accounts))
        for name in executed:
            answers.gain(name, state.liquidations[name], rank)
        reserves = Reserves(rank, (name for name, kept in state.answered.items() if kept.is_reserved))
        for claim in sorted(state.waiting.values(), key=lambda claim: (claim.event_ms, claim.account)):
            answers.answer(claim, rank, reserves)
        state.touched |= {f"waiting/{account}" for account in state.waiting}
        state.waiting.clear()
    return answers.outputs


KERNEL = Kernel(
    name="fund",
    version=VERSION,
    new=new,
    step=step,
    set_keys=set_keys,
    gauges=gauges,
    parts=(ACCOUNTS,),
    latency_ms=RULES.latency_ms,
    store_share=STORE_SHARE,
)

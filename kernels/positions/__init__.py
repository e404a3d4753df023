"""positions: what does each account hold, at what average price, and how much cash, after each fill and transfer?

Entries    account/<account>: balances, and corrections that wait for their fill
           book/["<account>","<venue:instrument>"]: one position
           applied/["<account>","<table>","<id>"]: the time and contents of one fill or transfer
           instrument/<venue:instrument>: the terms of one contract, and its settlement price; every shard has them all; freed a
           week after expiry
           index/<venue:underlying>, with the currency behind it where that is not USD: the newest index price, and the
           averages up to the next expiries
           house/<account>: the sum of this shard's entries on one account of the house
Order      a batch applies its instruments first, then its index prices, then its fills and transfers by event time and id.  A
           position is the fold of its trades by event time and id: a late trade is inserted where it belongs, and the
           difference is booked
Once       an account applies an id once.  The same id with other contents is a dead letter.  Ids are remembered for a week of
           event time, and freed by the hour when their account next moves.  An event older than the remembered ids of its
           account is a dead letter, because it may be a repeat
Correction a fill of kind `correction` or `bust` names another fill.  From then on that fill counts at its own time with the
           contents of its newest correction, or after a bust not at all.  A correction that comes before its fill waits for
           it for a week, and is a dead letter then
Late       late fills and transfers are applied like any other; late index prices are not
Expiry     the first batch that ends at the expiry of a contract or later settles it.  A future closes at S, the time-weighted
           average of the index over the 30 minutes before expiry: a price counts until the next one.  Without any price the
           contract is settled when there is one.  An option closes at max(S - K, 0) or max(K - S, 0), divided by S where it
           is inverse.  `kernels.market.indices` chooses the index.  Other deliveries are transfers of that kind
Ledger     every change of a position or balance is a row of `ledger_entries`: kernels/positions/ledger.py

Arithmetic is decimal: sums and products are exact; booked or written amounts are rounded to 18 decimals, half to even.
"""

from engine.checks import checked, in_common_time
from engine.contract import Kernel, Message, Output
from kernels.market import terms
from kernels.positions.fills import applied_or_refused
from kernels.positions.rows import BOOKED_AS, turn
from kernels.positions.settlement import learn_index, settle
from kernels.positions.state import MIGRATIONS
from kernels.positions.state import VERSION as VERSION
from kernels.positions.state import State as State
from kernels.positions.state import totals as totals
from schemas.rows import key, to_ms

STORE_SHARE = 10.0
"""Each fill is an entry that is touched once, so waiting does not reduce what is stored; it only adds batches to replay."""


def new() -> State:
    """An empty state."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """The number of accounts."""
    return {"accounts": len(state.accounts)}


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: `positions`, `balances` and `ledger_entries` rows in the order of the events."""
    good, outputs = checked(messages, until_ms)
    for message in good:
        if message.table == "instruments":
            name, learned = key("instruments", message.row), terms.from_row(message.row)
            if terms.supersedes(learned, state.terms.get(name)):
                state.put(name, learned, state.settlements.get(name))
                state.touched.add(f"instrument/{name}")
    if until_ms is not None:
        prices = [message.row for message in good if message.table == "index_prices"]
        for row in sorted(prices, key=lambda row: (to_ms(row["event_at"]), row["price_usd"])):
            learn_index(state, row)
    events = [(turn(message), message) for message in good if message.table in BOOKED_AS]
    for (*_, contents, _, _, _), message in sorted(events, key=lambda event: event[0]):
        outputs += applied_or_refused(state, message, contents, until_ms)
    if until_ms is not None:
        outputs += settle(state, until_ms)
        state.free(until_ms)
    return in_common_time(outputs, until_ms)


KERNEL = Kernel(
    name="positions",
    version=VERSION,
    new=new,
    step=step,
    gauges=gauges,
    migrations=MIGRATIONS,
    store_share=STORE_SHARE,
)

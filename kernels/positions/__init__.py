"""positions: what does each account hold, at what average price, and how much cash, after each fill and transfer?

Entries    account/<account>: balances, corrections that wait for their fill
           book/["<account>","<venue:instrument>"]: one position
           applied/["<account>","<table>","<id>"]: the time and the contents of one fill or transfer
           instrument/<venue:instrument>: the terms of one contract, and how it was settled; every shard has them all; freed a
           week after expiry
           index/<venue:underlying>, with the currency behind it where that is not USD: the newest index price, and the
           averages up to the expiries ahead
           house/<account>: what this shard's entries have left with one account of the house
Order      the instruments of a batch are applied before its index prices, these before its fills and transfers, and these by
           event time, then id.  What a position comes to is the fold of its trades in the order of event time and id: one that
           comes later than it should is put in its place, and what that changes is booked
Once       an id is applied once an account; with other contents it is a dead letter.  Ids are remembered for a week of
           event time (and freed, by the hour, when their account next moves); what is older than the ids that its
           account has forgotten is a dead letter, for it may be a repeat
Correction a fill of kind `correction` or `bust` names another fill, which from then on counts with the contents of its newest
           correction, at its own time, or not at all.  One that comes before its fill waits a week for it, and is a dead letter
           then
Late       fills and transfers are applied like any other; index prices are not
Expiry     a contract is settled by the first batch that ends at its expiry or later.  A future closes at S, the index's average
           by time over the 30 minutes before expiry (a price stands until the next; without any price it is settled when there
           is one); an option at max(S - K, 0) or max(K - S, 0), over S where it is inverse.  The index is in the currency that
           `kernels.market.indices` says.  What is delivered
           beyond that comes as transfers of that kind
Ledger     every change of a position or balance is a row of `ledger_entries`: kernels/positions/ledger.py

Arithmetic is decimal: sums and products are exact, what is booked or written is rounded to 18 decimals, half to even.
"""

from engine.checks import checked, in_common_time
from engine.contract import Kernel, Message, Output
from kernels.market import terms
from kernels.positions.fills import applied_or_refused
from kernels.positions.rows import ID_COLUMNS, turn
from kernels.positions.settlement import learn_index, settle
from kernels.positions.state import MIGRATIONS, VERSION, State
from kernels.positions.state import totals as totals
from schemas.rows import key, to_ms

STORE_SHARE = 10.0
"""A fill is an entry, and none is touched twice: waiting would leave as much to store, and more to step through again."""


def new() -> State:
    """An empty state."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """Accounts that have moved."""
    return {"accounts": len(state.accounts)}


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: `positions`, `balances` and `ledger_entries` rows in the order of the events."""
    good, outputs = checked(messages, until_ms)
    for message in good:
        if message.table == "instruments":
            name, learned = key("instruments", message.row), terms.from_row(message.row)
            if terms.stands(learned, state.terms.get(name)):
                state.put(name, learned, state.settlements.get(name))
                state.touched.add(f"instrument/{name}")
    if until_ms is not None:
        prices = [message.row for message in good if message.table == "index_prices"]
        for row in sorted(prices, key=lambda row: (to_ms(row["event_at"]), row["price_usd"])):
            learn_index(state, row)
    events = [(turn(message), message) for message in good if message.table in ID_COLUMNS]
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

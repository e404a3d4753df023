"""orders: which requests may leave, what does each venue have to do, and how does each order stand?

Entries    account/<account>: positions, fills that margin does not include, margin, requests of the last second
           order/["<account>","<key>"]: one order with its executions; freed a minute after its end, a day if it traded
           contract/<venue:instrument>, mark/<venue:instrument>, halt/<venue or venue:instrument>: what orders are checked
           against; every shard has them all; freed a day after expiry
           control/<scope>, break/<break_id>: what the gate obeys (kernels/gate.py)
           clock: the last instant of the newest batch
Order      a batch applies terms, marks, halts, breaks and controls first; then reports by event time, positions and margin;
           then liquidations, requests, and those of algorithms, each by event time; then what is due
Once       a report counts once by its exec_id, a request by its client_order_id.  The same id with other contents changes
           nothing and is a row: conflict, or refused
Checks     kernels/orders/checks.py, by the limits in kernels/orders/rules.py; the gate is the first of them.  A cancel passes.
           A kill cancels what rests
Credit     keeps back the margin of what each open order may still trade, at the larger of the quantities in force and asked
           for, and that of each fill until a row of account_margin includes it: one not older than the batch in which
           `positions` had the fill
Venue      what it tells is taken by the rule of FIX (kernels/orders/order.py).  No state is made up where it is silent: a
           request without an answer is a row
Late       late reports and requests are taken like any other, at the time of the newest batch
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, localcontext
from typing import Any

from engine.checks import checked, dead_letter
from engine.contract import Kernel, Message, Output
from kernels.market.terms import tradable
from kernels.orders.desk import Desk
from kernels.orders.executions import EXACT
from kernels.orders.ids import LENGTH
from kernels.orders.state import VERSION as VERSION
from kernels.orders.state import State as State
from kernels.orders.worth import Mark
from schemas.rows import Fault, key, shown, to_ms

STORE_SHARE = 10.0
"""An order is touched a few times in a short life, so waiting does not reduce what is stored."""
REQUESTS = ("new", "replace", "cancel")
SOURCES = ("liquidation", "hedge", "algorithm", "person")
REPORTS = ("execution_reports", "venue_reports")
"""What venues tell of orders: those of feeds, and the own one."""
REQUESTED = ("order_requests", "algorithm_requests")
"""What is wanted of orders: by people and hedges, and by algorithms."""
TABLES = (*REQUESTED, "liquidation_orders", *REPORTS, "positions", "account_margin")


def new() -> State:
    """An empty state."""
    return State()


def set_keys(state: State, partition: Callable[[str], int], own: int) -> None:
    """Write with each order in which partition the rows of its instrument are."""
    state.partition = partition


def gauges(state: State) -> dict[str, float]:
    """The number of accounts, and of orders that may still trade; the gate."""
    open_orders = sum(len(account.open) for account in state.accounts.values())
    return {"accounts": len(state.accounts), "open_orders": open_orders, **state.gate.gauges()}


def obeyed(state: State) -> Mapping[str, Mapping[str, Any]]:
    """The controls in force, by scope."""
    return state.gate.controls


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: rows of `orders` and `order_states`."""
    good, outputs = checked(messages, until_ms)
    if until_ms is not None:
        state.now_ms = until_ms - 1
        state.touched.add("clock")
    # Late messages come with no time; before the first batch they have only their own.
    desk = Desk(state, state.now_ms or max((to_ms(message.row["event_at"]) for message in good), default=0))
    with localcontext(EXACT):
        learn(state, good)
        for table in REPORTS:
            for message in _in_order(good, table, "exec_id"):
                desk.report(message.row)
        for message in _in_order(good, "positions", "fill_id"):
            _hold(state, message.row)
        for message in _in_order(good, "account_margin", "account"):
            _value(state, message.row)
        for message in _in_order(good, "liquidation_orders", "order_id"):
            desk.liquidation(message.row)
        requests = [message for table in REQUESTED for message in _in_order(good, table, "client_order_id")]
        for message in requests:
            if (wrong := wrong_request(message.row)) is None:
                desk.request(message.row)
            else:
                outputs.append(dead_letter(message, wrong, until_ms))
        desk.obey()
        if until_ms is not None:
            desk.due()
            state.free(until_ms)
    return outputs + desk.outputs


def learn(state: State, messages: Iterable[Message]) -> None:
    """Take what orders are checked against."""
    rows = [(to_ms(m.row["event_at"]), m.partition, m.offset, m) for m in messages if m.table not in TABLES]
    for event_ms, _, _, message in sorted(rows, key=lambda row: row[:3]):
        row = message.row
        if message.table == "instruments":
            name = key("instruments", row)
            if state.listing.learn(name, tradable(row)):
                state.touched.add(f"contract/{name}")
        elif message.table == "tickers":
            name = key("tickers", row)
            known = state.marks.get(name, Mark())
            if (mark := known.after(event_ms, row)) != known:
                state.marks[name] = mark
                state.touched.add(f"mark/{name}")
        elif message.table == "controls_applied":
            state.touched.add(state.gate.learn(row))
        elif message.table == "circuit_breaks":
            state.touched.add(state.breaks.learn(row))
        elif message.table == "trading_halts":
            state.touched.add(state.halts.learn(row))


def wrong_request(row: dict[str, Any]) -> Fault | None:
    """What a request lacks to be one; None where it is one."""
    name = row["client_order_id"]
    if not (0 < len(name) <= LENGTH and name.isascii() and name.isalnum()):
        return Fault("client_order_id", f"up to {LENGTH} letters and digits", shown(name))
    if row["request"] not in REQUESTS:
        return Fault("request", "new, replace or cancel", shown(row["request"]))
    if row["source"] not in SOURCES:
        return Fault("source", "liquidation, hedge, algorithm or person", shown(row["source"]))
    if (row.get("orig_client_order_id") is None) != (row["request"] == "new"):
        expected = "an id of a replace and a cancel, NULL of a new order"
        return Fault("orig_client_order_id", expected, shown(row.get("orig_client_order_id")))
    for column in ("price", "quantity"):
        if row.get(column) is not None and not _fits(Decimal(row[column])):
            return Fault(column, "up to 20 digits before the point and 18 after it", shown(row[column]))
    return None


def _fits(number: Decimal) -> bool:
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -18 and number.adjusted() < 20


def _hold(state: State, row: dict[str, Any]) -> None:
    state.hold(row["account"], key("instruments", row), to_ms(row["event_at"]), Decimal(row["size"]), row["fill_id"])


def _value(state: State, row: dict[str, Any]) -> None:
    account = state.account(row["account"])
    equity, margin = row.get("equity_usd"), row.get("initial_margin_usd")
    free_usd = None if equity is None or margin is None else equity - margin
    account.value(to_ms(row["event_at"]), free_usd, state.now_ms)
    state.touched.add(f"account/{row['account']}")


def _in_order(messages: Iterable[Message], table: str, name: str) -> list[Message]:
    """The messages of a table by event time; of one instant first what makes an order, last what ends it."""

    def turn(message: Message) -> tuple[int, int, str]:
        row = message.row
        return to_ms(row["event_at"]), _KINDS.get(row.get("request") or row.get("exec_type") or "", 1), row[name]

    return sorted((message for message in messages if message.table == table), key=turn)


_KINDS = {"new": 0, "cancel": 2, "cancelled": 2, "expired": 2}

KERNEL = Kernel("orders", VERSION, new=new, step=step, set_keys=set_keys, gauges=gauges, obeyed=obeyed, store_share=STORE_SHARE)

"""orders: which requests may leave, what does each venue have to do, and how does each order stand?

Entries    account/<account>: positions, fills that margin does not include, margin, requests of the last second
           guards/<account>: timers, market-maker protection, and requests for them of the last minute
           order/["<account>","<key>"]: one order with its executions; freed a minute after its end, a day if it traded
           contract/<venue:instrument>, mark/<venue:instrument>, halt/<venue or venue:instrument>: what orders are checked
           against; every shard has them all; freed a day after expiry
           control/<scope>, break/<break_id>: what the gate obeys (kernels/gate.py)
           clock: the last instant of the newest batch
Modules    intake: requests for an order; reports: of venues; guarding: what cancels many orders at once; timers: what is due;
           desk: the rows of all of them
Order      a batch applies terms, marks, halts, breaks and controls first; then reports by event time, positions and margin;
           then liquidations and requests by event time; then what is due
Once       a report counts once by its exec_id, a request by its client_order_id.  The same id with other contents changes
           nothing and is a row: conflict, or refused
Guards     a timer runs out by event time, in the batch that includes its end; protection is hit by the fill that exceeds a
           limit (kernels/orders/guards.py).  Both ask for cancels; whether an order has ended its venue says
Checks     kernels/orders/checks.py, by the limits in kernels/orders/rules.py; the gate is the first of them.  A cancel passes.
           A kill cancels what rests
Credit     keeps back the margin of what each open order may still trade, at the larger of the quantities in force and asked
           for, and that of each fill until a row of account_margin includes it: one not older than the batch in which
           `positions` had the fill
Venue      what it tells is taken by the rule of FIX (kernels/orders/order.py).  No state is made up where it is silent: a
           request without an answer is a row, and so is an order that has not ended with the trading of its contract; a day
           after the expiry it is forgotten with the contract
Late       late reports and requests are taken like any other, at the time of the newest batch
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, localcontext
from typing import Any

from engine import batch
from engine.checks import MOST, checked, dead_letter
from engine.contract import Kernel, Lines, Message, Output
from kernels.market.terms import tradable
from kernels.orders import guarding, intake, reports, timers
from kernels.orders.desk import Desk
from kernels.orders.executions import EXACT
from kernels.orders.requests import CANCEL_ALL, MMP, OF_AN_ORDER, wrong_liquidation, wrong_report
from kernels.orders.requests import wrong_request as wrong_request
from kernels.orders.state import VERSION as VERSION
from kernels.orders.state import State as State
from kernels.orders.worth import Mark
from schemas.rows import key, to_ms

STORE_SHARE = 10.0
"""An order is touched a few times in a short life, so waiting does not reduce what is stored."""
TABLES = ("order_requests", "liquidation_orders", "execution_reports", "positions", "account_margin")


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
    """Apply one micro-batch in place: rows of `orders`, `order_states` and `order_guards`."""
    good, outputs = checked(messages, until_ms)
    since_ms = state.now_ms
    if until_ms is not None:
        state.now_ms = until_ms - 1
        state.touched.add("clock")
    # Late messages come with no time; before the first batch they have only their own.
    desk = Desk(state, state.now_ms or max((to_ms(message.row["event_at"]) for message in good), default=0))
    with localcontext(EXACT):
        learn(state, good)
        for message in _in_order(good, "execution_reports", "exec_id"):
            if (wrong := wrong_report(message.row)) is not None:
                outputs.append(dead_letter(message, wrong, until_ms))
            else:
                reports.take(desk, message.row)
        for message in _in_order(good, "positions", "fill_id"):
            _hold(state, message.row)
        for message in _in_order(good, "account_margin", "account"):
            _value(state, message.row)
        for message in _in_order(good, "liquidation_orders", "order_id"):
            if (wrong := wrong_liquidation(message.row)) is not None:
                outputs.append(dead_letter(message, wrong, until_ms))
            else:
                intake.liquidate(desk, message.row)
        for message in _in_order(good, "order_requests", "client_order_id"):
            if (wrong := wrong_request(message.row)) is not None:
                outputs.append(dead_letter(message, wrong, until_ms))
            elif message.row["request"] in OF_AN_ORDER:
                intake.take(desk, message.row)
            else:
                guarding.take(desk, message.row)
        guarding.obey(desk)
        if until_ms is not None:
            timers.due(desk, since_ms)
            state.free(until_ms)
    return outputs + desk.outputs


def end_window(state: State, until_ms: int) -> list[Lines]:
    """What is due, also where nothing else happens."""
    if not state.due or state.due[0].at_ms >= until_ms:
        return []
    since_ms, state.now_ms = state.now_ms, until_ms - 1
    state.touched.add("clock")
    desk = Desk(state, state.now_ms)
    with localcontext(EXACT):
        timers.due(desk, since_ms)
    return batch.encode(desk.outputs)


def learn(state: State, messages: Iterable[Message]) -> None:
    """Take what orders are checked against."""
    rows = [(to_ms(m.row["event_at"]), m.partition, m.offset, m) for m in messages if m.table not in TABLES]
    for event_ms, _, _, message in sorted(rows, key=lambda row: row[:3]):
        row = message.row
        if message.table == "instruments":
            state.learn_contract(key("instruments", row), tradable(row))
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


def _hold(state: State, row: dict[str, Any]) -> None:
    state.hold(row["account"], key("instruments", row), to_ms(row["event_at"]), Decimal(row["size"]), row["fill_id"])


def _value(state: State, row: dict[str, Any]) -> None:
    account = state.account(row["account"])
    equity, margin = row.get("equity_usd"), row.get("initial_margin_usd")
    free_usd = None if equity is None or margin is None else max(-MOST, min(MOST, equity - margin))
    account.value(to_ms(row["event_at"]), free_usd, state.now_ms)
    state.touched.add(f"account/{row['account']}")


def _in_order(messages: Iterable[Message], table: str, name: str) -> list[Message]:
    """The messages of a table by event time; of one instant first what an order needs and what makes it, last what ends it."""

    def turn(message: Message) -> tuple[int, int, str]:
        row = message.row
        return to_ms(row["event_at"]), _KINDS.get(row.get("request") or row.get("exec_type") or "", 2), row[name]

    return sorted((message for message in messages if message.table == table), key=turn)


_KINDS = {MMP: 0, "new": 1, "cancel": 3, CANCEL_ALL: 3, "cancelled": 3, "expired": 3}

KERNEL = Kernel(
    "orders",
    VERSION,
    new=new,
    step=step,
    set_keys=set_keys,
    end_window=end_window,
    gauges=gauges,
    obeyed=obeyed,
    store_share=STORE_SHARE,
)

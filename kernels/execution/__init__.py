"""execution: what of each large order is sent when, how does it stand, and what has it cost?

Entries    parent/["<account>","<parent_client_order_id>"]: one large order with its sums
           child/["<account>","<order_key>"]: one order of it; both are freed a day after the parent's end
           market/<venue:instrument>: the newest book and the ids of the last trades, while a parent works there
           contract/<venue:instrument>, halt/<venue or venue:instrument>, break/<break_id>: every shard has them all
Order      a batch applies terms, halts and breaks first; then requests of parents by event time; then books and trades of the
           instruments that are worked, by event time; then what became of children.  Decisions follow at the end of its window,
           also of one without messages
Decision   a parent is looked at each second of event time, when its next slice is due, and when something of it has changed.
           It has one child at a time, and one request that is not answered.  What is decided takes effect LATENCY_MS later
Slices     kernels/execution/parameters.py and udfs/execution_schedules.py: whole lots that sum to the order.  One that is
           behind is at most 1.25 times the usual one, and one at most is sent in the time of each
Cap        participation earns tokens by the trades of others, and what is sent takes them: so what is sent is never more than
           the fraction of all that others have traded since the start.  Tokens for more than one such slice do not pile up
Once       a request of a parent counts once; the same id with other contents is refused
Late       late trades count for the interval in which they happened; other late messages like any other
"""

from collections.abc import Collection, Iterable, Mapping
from decimal import localcontext
from hashlib import sha256
from typing import Any

from engine import batch
from engine.checks import checked
from engine.contract import Kernel, Lines, Message, Output
from kernels.execution.desk import LATENCY_MS, Desk, state_row
from kernels.execution.parameters import wrong_form
from kernels.execution.parent import DONE, REFUSED, WORKING, Parent
from kernels.execution.state import VERSION as VERSION
from kernels.execution.state import State as State
from kernels.market.terms import tradable
from kernels.orders.executions import EXACT
from schemas.records import TABLES
from schemas.rows import encoded, key, to_ms

MARKET = {"book_depth": 0, "trades": 1}
"""What is looked at only of instruments that are worked, in its order at one instant."""
PARENTS_TOPIC = TABLES["execution_parents"].topic.encode()
MARKET_TOPICS = frozenset(TABLES[table].topic for table in MARKET)


def new() -> State:
    """An empty state."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """The number of parents that are not over, of those that work, and of children that may trade."""
    working = sum(parent.status == WORKING for parent in state.active.values())
    children = sum(len(parent.open) for parent in state.active.values())
    return {"parents": len(state.active), "working_parents": working, "open_children": children}


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[Lines], bytes]:
    """Leave out books and trades of instruments that nobody works, undecoded: nearly all messages are such."""
    worked = [name.partition(":")[2] for name in state.markets]
    # Who comes in this batch may need any; and JSON may write what is not ASCII in two ways.
    if PARENTS_TOPIC in data or not all(name.isascii() for name in worked):
        return [], data
    named = [name.encode() for name in worked]
    kept = [
        batch.FIELD.join((topic.encode(), b"%d" % partition, b"%d" % offset, value))
        for topic, partition, offset, value in batch.records(data)
        if topic not in MARKET_TOPICS or any(name in value for name in named)
    ]
    return [], batch.RECORD.join(kept)


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: rows of refused requests.  What is decided comes at the end of the window."""
    if not messages and until_ms is not None:
        state.free(until_ms)
        return []
    with localcontext(EXACT):
        return _stepped(state, messages, until_ms)


def _stepped(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    asked = {_market(message.row) for message in messages if message.table == "execution_parents"} | state.markets.keys()
    good, outputs = checked([message for message in messages if _concerns(state, asked, message)], until_ms)
    now_ms = until_ms - 1 if until_ms is not None else max((to_ms(message.row["event_at"]) for message in good), default=0)
    _learn(state, good)
    desk = Desk(state, now_ms)
    for message in _in_order(good, "execution_parents"):
        _take(state, desk, message.row)
    _see(state, good)
    for message in _in_order(good, "order_states"):
        _apply(state, message.row)
    return outputs + desk.outputs


def end_window(state: State, until_ms: int) -> list[Lines]:
    """What is decided at the end of a window, as lines."""
    if not state.active:
        return []
    with localcontext(EXACT):
        outputs = Desk(state, until_ms - 1).decide()
    return batch.encode(outputs) if outputs else []


def _market(row: Any) -> str:
    return f"{row.get('venue')}:{row.get('instrument')}" if isinstance(row, Mapping) else ""


def _concerns(state: State, worked: Collection[str], message: Message) -> bool:
    """Whether a message is to be looked at: of books and trades those of instruments that are worked, of orders children."""
    row = message.row
    if message.table in MARKET and isinstance(row, Mapping):
        return _market(row) in worked
    if message.table == "order_states" and isinstance(row, Mapping):
        name, order = row.get("account"), row.get("order_key")
        return not (isinstance(name, str) and isinstance(order, str)) or (name, order) in state.children
    return True


def _learn(state: State, messages: Iterable[Message]) -> None:
    """Take terms, halts and breaks."""
    rows = [(to_ms(m.row["event_at"]), m.partition, m.offset, m) for m in messages]
    for _, _, _, message in sorted(rows, key=lambda row: row[:3]):
        row = message.row
        if message.table == "instruments":
            name = key("instruments", row)
            if state.listing.learn(name, tradable(row)):
                state.touched.add(f"contract/{name}")
        elif message.table in ("trading_halts", "circuit_breaks"):
            stops = state.halts if message.table == "trading_halts" else state.breaks
            state.touched.add(stops.learn(row))
            for parent in state.active.values():
                parent.is_stirred = True
                state.touch(parent)


def _take(state: State, desk: Desk, row: dict[str, Any]) -> None:
    """Take a request of a parent."""
    name, wrong = (row["account"], row["parent_client_order_id"]), wrong_form(row)
    known, digest = state.parents.get(name), _digest(row)
    if wrong is not None:
        _refuse(desk, row, wrong.rule, wrong.reason)
    elif known is None and row["request"] != "new":
        _refuse(desk, row, "parent_client_order_id", f"no parent {row['parent_client_order_id']} is known, or was lately")
    elif known is None:
        parent = Parent(row, state.listing.terms.get(key("instruments", row)), desk.now_ms)
        parent.seen.add(digest)
        state.add(parent)
        if parent.refusal is not None:
            desk.say(parent, parent.refusal.rule, parent.refusal.reason)
    elif digest not in known.seen:
        known.seen.add(digest)
        state.touch(known)
        if row["request"] == "new":
            desk.say(known, "parent_client_order_id", f"{known.name} is known, with other contents")
        elif known.status in (DONE, REFUSED):
            desk.say(known, "request", f"{row['request']} comes too late, the parent is {known.status}")
        elif row["request"] == "cancel":
            known.is_cancelled = known.is_stirred = True
        else:
            known.is_paused, known.is_stirred = row["request"] == "pause", True


def _digest(row: Mapping[str, Any]) -> str:
    """What a repeat of a request has in common with the first: one to pause or go on may come again, at another time."""
    left_out = {"event_at", "reason"} if row["request"] == "new" else {"reason"}
    contents = {column: value for column, value in row.items() if column not in left_out and value is not None}
    return sha256(encoded(dict(sorted(contents.items())))).hexdigest()[:16]


def _refuse(desk: Desk, row: dict[str, Any], rule: str, reason: str) -> None:
    """A row about a parent that there is not."""
    stranger = Parent(row, None, desk.now_ms)
    desk.outputs.append(Output("execution_states", desk.now_ms, state_row(stranger, desk.now_ms, rule, reason)))


def _see(state: State, messages: Iterable[Message]) -> None:
    """Take books and trades, by event time."""
    rows = [
        (to_ms(m.row["event_at"]), MARKET[m.table], str(m.row.get("trade_id", "")), m) for m in messages if m.table in MARKET
    ]
    worked = {name: state.worked_on(name) for name in {key(message.table, message.row) for *_, message in rows}}
    for event_ms, _, _, message in sorted(rows, key=lambda row: row[:3]):
        row, name = message.row, key(message.table, message.row)
        market = state.markets.get(name)
        if market is None:
            continue
        state.touched.add(f"market/{name}")
        market.forget(event_ms)
        if message.table == "book_depth":
            market.show(row)
        elif market.is_new(row):
            for parent in worked[name]:
                if parent.see(event_ms, row["price"], row["size"]):
                    state.touch(parent)


def _apply(state: State, row: Mapping[str, Any]) -> None:
    """Take what became of a child."""
    child = state.children[row["account"], row["order_key"]]
    parent = state.parents[row["account"], child.parent]
    market = state.markets.get(parent.market)
    if parent.apply(child, row, market.mid if market is not None else None):
        if parent.is_settled:
            state.reopen(parent)
        state.touch(parent, child)


def _in_order(messages: Iterable[Message], table: str) -> list[Message]:
    """The messages of a table by event time, and of one order by number."""

    def turn(message: Message) -> tuple[int, str, int, str]:
        row = message.row
        return to_ms(row["event_at"]), row.get("order_key") or "", row.get("number") or 0, str(encoded(row))

    return sorted((message for message in messages if message.table == table), key=turn)


KERNEL = Kernel(
    "execution",
    VERSION,
    new=new,
    step=step,
    take_plain=take_plain,
    end_window=end_window,
    gauges=gauges,
    latency_ms=LATENCY_MS,
)

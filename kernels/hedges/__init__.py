"""hedges: which trades bring exposures back within their limits at the least cost, and what keeps others outside?

Entries    limit/<key of its row of risk_limits>: the limit and its state; member/["<account>","<group>"]; every shard has all
           exposure/["<kind>","<subject>"]: the newest exposures that each shard of the accounts tells; and likewise
           standing/…: when it was last hedged, and what came of it
           order/["<account>","<client_order_id>"]: an order of a hedge; freed a day after its end
           market/<venue:instrument>: newest book and prices of underlyings with hedged limits; contract/<venue:instrument>,
           halt/…, break/…: as in the other jobs; turn: the subject that was last decided about
Order      a batch applies terms, halts, breaks, limits and groups first; then prices, books and exposures by event time; then
           what became of orders.  Limits are judged, and decisions follow at the end of the window
Decision   about a subject with a breached limit that is hedged: once its orders are over, their fills are in its exposures,
           and `pause_ms` have passed.  It takes effect a latency later.  The cheapest trade that brings each breached one
           within `leave`, takes no other further out (udfs/hedging.py): perpetuals, futures, and for gamma and vega
           options.  Its orders are immediate, with the price that was reckoned with as limit
Ping-pong  nothing is traded while no limit is breached, and a hedge ends at the nearest edge of `leave`: the exposure has
           to move from there beyond `enter` before there is another
Late       late messages like any other; what is older than what is known changes nothing
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine import batch
from engine.checks import checked
from engine.contract import Kernel, Lines, Message, Output
from kernels.execution.parent import ENDINGS, FAILURES
from kernels.hedges.desk import Desk
from kernels.hedges.market import Market
from kernels.hedges.rules import RULES
from kernels.hedges.state import VERSION as VERSION
from kernels.hedges.state import Part, Subject, entry
from kernels.hedges.state import State as State
from kernels.limits import limit_of, sound
from kernels.market.terms import tradable
from schemas.records import TABLES
from schemas.rows import encoded, key, to_ms
from udfs.exposures import BREACHED

MARKET_TOPICS = frozenset(TABLES[table].topic for table in ("tickers", "venue_tickers", "book_depth"))
LIMITS_TOPIC = TABLES["risk_limits"].topic.encode()
NAME = b'"instrument":"'


def new() -> State:
    """An empty state."""
    return State()


def set_keys(state: State, partition_of: Callable[[str], int], own: int) -> None:
    """Tell which partition the rows of a key are in, and that of this shard."""
    state.partition_of, state.part = partition_of, own


def gauges(state: State) -> dict[str, float]:
    """The number of limits that are breached, and of orders that are not over."""
    return {
        "breached_limits": sum(now == BREACHED for now in state.states.values()),
        "open_orders": len(state.open),
    }


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[Lines], bytes]:
    """Leave out prices and books of instruments that no hedge is made with, undecoded: often all of them."""
    wanted = state.wanted()
    if wanted is None or LIMITS_TOPIC in data:
        return [], data
    names = {name.partition(":")[2].encode() for underlying in wanted for name in state.names.get(underlying, ())}
    kept = [
        batch.FIELD.join((topic.encode(), b"%d" % partition, b"%d" % offset, value))
        for topic, partition, offset, value in batch.records(data)
        if topic not in MARKET_TOPICS or (wanted and _may_be(names, value))
    ]
    return [], batch.RECORD.join(kept)


def _may_be(names: set[bytes], value: bytes) -> bool:
    """Whether a record may be of one of these instruments."""
    _, found, rest = value.partition(NAME)
    name = rest.partition(b'"')[0]
    # JSON may write a name in several ways.
    return not found or name in names or b"\\" in name or not name.isascii() or value[:1] == b"["


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place.  What is decided comes at the end of the window."""
    if not messages and until_ms is not None:
        state.free(until_ms)
        return []
    mine = [message for message in messages if _concerns(state, message)]
    good, outputs = checked(mine, until_ms)
    good, letters = sound(good, until_ms)
    now_ms = until_ms - 1 if until_ms is not None else max((to_ms(message.row["event_at"]) for message in good), default=0)
    desk = Desk(state, now_ms)
    ordered = sorted(good, key=lambda message: (to_ms(message.row["event_at"]), message.partition, message.offset))
    for message in ordered:
        _learn(state, message.table, message.row)
    _see(state, ordered)
    _expose(state, ordered)
    for message in sorted(good, key=_turn):
        if message.table == "order_states":
            _apply(state, desk, message.row)
    if until_ms is not None:
        desk.judge()
    return outputs + letters + desk.outputs


def end_window(state: State, until_ms: int) -> list[Lines]:
    """What is decided at the end of a window, as lines."""
    if not state.states and not state.moved:
        return []
    desk = Desk(state, until_ms - 1)
    desk.judge()
    outputs = desk.decide()
    return batch.encode(outputs) if outputs else []


def _concerns(state: State, message: Message) -> bool:
    """Whether a message is to be looked at: of orders those of hedges."""
    row = message.row
    if message.table == "order_states" and isinstance(row, Mapping):
        name, order = row.get("account"), row.get("order_key")
        return not (isinstance(name, str) and isinstance(order, str)) or (name, order) in state.orders
    return True


def _turn(message: Message) -> tuple[int, str, int, str]:
    row = message.row
    return to_ms(row["event_at"]), row.get("order_key") or "", row.get("number") or 0, str(encoded(row))


def _learn(state: State, table: str, row: dict[str, Any]) -> None:
    """Take terms, halts, breaks, limits and groups."""
    if table == "instruments":
        name, terms = key("instruments", row), tradable(row)
        if state.listing.learn(name, terms):
            state.put_contract(name, terms)
            state.touched.add(f"contract/{name}")
    elif table in ("trading_halts", "circuit_breaks"):
        state.touched.add((state.halts if table == "trading_halts" else state.breaks).learn(row))
    elif table == "account_groups":
        if state.groups.learn(row):
            state.touched.add(entry("member", (row["account"], row["group_name"])))
    elif table == "risk_limits":
        limit = limit_of(row)
        name = limit.name
        known = state.limits.get(name)
        if known is None or known.event_ms <= limit.event_ms:
            state.put_limit(name, limit, state.states.get(name, 0))
            state.moved.add(limit.whose)
            state.touched.add(f"limit/{name}")


def _see(state: State, messages: Iterable[Message]) -> None:
    """Take prices and books of underlyings with hedged limits."""
    wanted = state.wanted()
    if wanted is not None and not wanted:
        return
    for message in messages:
        if message.table not in ("tickers", "book_depth"):
            continue
        name = key(message.table, message.row)
        terms = state.listing.terms.get(name)
        if terms is None or (wanted is not None and terms.underlying not in wanted):
            continue
        market = state.markets.setdefault(name, Market())
        if market.quote(message.row) if message.table == "tickers" else market.show(message.row):
            state.touched.add(f"market/{name}")


def _expose(state: State, messages: Iterable[Message]) -> None:
    """Take exposures: the rows of one subject, shard and instant are one statement."""
    told: dict[tuple[Subject, int, int], list[Mapping[str, Any]]] = {}
    for message in messages:
        if message.table == "risk_exposures":
            row = message.row
            told.setdefault(((row["subject_kind"], row["subject"]), row["part"], to_ms(row["event_at"])), []).append(row)
    for (subject, number, event_ms), rows in sorted(told.items(), key=lambda item: (item[0][2], item[0][:2])):
        parts = state.parts.setdefault(subject, {})
        if number in parts and parts[number].event_ms > event_ms:
            continue
        sums = [row for row in rows if row.get("underlying") is None]
        if not sums:
            continue
        cells = {
            (row["underlying"], row["expiry_bucket"]): (
                row.get("delta_usd"),
                row.get("gamma_usd"),
                row.get("vega_usd"),
                row.get("gross_usd"),
            )
            for row in rows
            if row.get("underlying") is not None
        }
        parts[number] = Part(event_ms, sums[0].get("equity_usd"), sums[0].get("gross_usd"), cells)
        state.touched.add(entry("exposure", subject))
        state.moved.add(subject)
        standing = state.standing(subject)
        if standing.known_ms < 0:
            standing.known_ms = event_ms
            state.touched.add(entry("standing", subject))


def _apply(state: State, desk: Desk, row: dict[str, Any]) -> None:
    """Take what became of an order."""
    name = row["account"], row["order_key"]
    order = state.orders[name]
    standing, event_ms = state.standing(order.subject), to_ms(row["event_at"])
    order.traded = float(row["cum_quantity"])
    is_over = row["order_status"] in ENDINGS and not float(row["leaves_quantity"])
    if is_over and order.done_ms is None:
        order.done_ms = event_ms
        state.open.discard(name)
        standing.done_ms = max(standing.done_ms, event_ms)
        if row["event"] in FAILURES:
            standing.failures += 1
            standing.retry_ms = event_ms + min(RULES.most_wait_s, 2**standing.failures) * 1000
            desk.refuse(order.subject, row["account"], row, standing)
    if row["event"] == "trade":
        standing.failures = 0
    state.touched |= {entry("order", name), entry("standing", order.subject)}


KERNEL = Kernel(
    "hedges",
    VERSION,
    new=new,
    step=step,
    take_plain=take_plain,
    set_keys=set_keys,
    end_window=end_window,
    gauges=gauges,
    latency_ms=RULES.latency_ms,
)

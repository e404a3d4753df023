"""breakers: which rule of the market is broken, what must stop, and until when?

Rules    `udfs/breaker_sets/suite.json`; `udfs.breakers` says when each kind is broken
Entries  market/<venue:instrument>, or of an index <venue:underlying:currency>, or of an oracle <underlying>: its newest
         prices or faults, and the window, references and state of each rule that watches it; freed after two days of silence
         terms/<venue:instrument>: kind and underlying, from `instruments`; freed two days after its expiry
Order    instruments first; then the messages of each market by exchange time, a book before a ticker before a trade, then by
         offset.  One price breaks an instant rule at once.  Lasting rules are judged at the end of each micro-batch
Time     a break begins at the end of the micro-batch of the message that broke the rule, in common time.  It ends at its
         planned end, before the messages of its market from then on.  While it lasts, no price enters the rule's window; after
         it the window begins anew
Late     a late message counts in windows and, if it is the newest, as the newest price.  It breaks nothing by itself; the next
         message in time is judged together with it
"""

from collections.abc import Iterable
from typing import Any

from engine import batch
from engine.checks import checked
from engine.contract import Kernel, Lines, Message, Output
from kernels.breakers.watched import CALM, HALTED, MIGRATIONS, PENDING, RULE, VERSION, Market, State, Terms, Watch
from schemas.rows import instant_ms, key, to_ms
from udfs.breaker_rules import FAULTS, INDICES, INSTRUMENT, TRADES, UNDERLYING, Rule
from udfs.breakers import (
    DAY_MS,
    Break,
    DepthCollapse,
    Dynamic,
    Luld,
    MarketWide,
    OracleFault,
    Prices,
    Volatility,
    depth_near_middle,
)

KEPT_MS = 2 * DAY_MS
LATE_MS = 5 * 60_000
"""In these last minutes before a settlement a dynamic breaker halts for a shorter time."""
LEAST, MOST = 1e-15, 1e15
"""Prices and sizes outside are ignored, so that the ratio of any two is a finite number."""
MOST_FAULTS = 1000
"""Kept of an oracle.  Beyond that the oldest fault that is over is forgotten; if none is over, the oldest."""
SETTLEMENT, REFERENCE = "settlement", "reference"
FIGURES = ("observed_at", "figure", "reference", "lower_limit", "upper_limit", "planned_end_at")
"""The columns of a break that its end does not have."""
RANKS = {"book_tops": 0, "book_depth": 1, "tickers": 2, TRADES: 3, INDICES: 4, FAULTS: 5}


def new() -> State:
    """An empty state."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: a row for each instant rule that a price breaks."""
    good, outputs = checked(messages, until_ms)
    for message in good:
        if message.table == "instruments":
            row = message.row
            expiry_at = row.get("expiry_at")
            expiry_ms = None if expiry_at is None else to_ms(expiry_at)
            state.learn(key("instruments", row), Terms(to_ms(row["event_at"]), row["kind"], row["underlying"], expiry_ms))
    for event_ms, rank, message in _in_order(good):
        name, market = _market(state, message)
        market.newest_ms = max(market.newest_ms, event_ms)
        state.touched.add("market/" + name)
        if until_ms is not None:
            state.fresh.add(name)
            outputs += _due(state, name, min(event_ms, until_ms), until_ms)
        if rank == RANKS["book_tops"]:
            _learn_top(market, message.row, event_ms)
        elif rank == RANKS["book_depth"]:
            _learn_depth(state, name, message.row, event_ms)
        elif rank == RANKS["tickers"]:
            _learn_ticker(state, name, message.row, event_ms)
        elif rank == RANKS[FAULTS]:
            _learn_fault(market, message.row, event_ms)
        else:
            outputs += _priced(state, name, message.row, event_ms, until_ms)
    if not messages and until_ms is not None:
        state.free(until_ms, KEPT_MS)
    return outputs


def _in_order(messages: Iterable[Message]) -> list[tuple[int, int, Message]]:
    watched = [
        (to_ms(message.row["event_at"]), RANKS[message.table], message) for message in messages if message.table in RANKS
    ]
    return sorted(watched, key=lambda item: (item[0], item[1], item[2].partition, item[2].offset))


def _market(state: State, message: Message) -> tuple[str, Market]:
    row = message.row
    name = key(message.table, row)
    if message.table == FAULTS:
        return name, state.market(name, FAULTS, "", row["underlying"])
    if message.table == INDICES:
        return name, state.market(name, INDICES, row["venue"], row["underlying"])
    return name, state.market(name, TRADES, row["venue"], row["instrument"])


def _is_price(value: float | None) -> bool:
    return value is not None and LEAST < value < MOST


def _learn_top(market: Market, row: dict[str, Any], event_ms: int) -> None:
    if event_ms < market.top_ms:
        return
    bid, ask = row.get("bid_price"), row.get("ask_price")
    market.top_ms, market.bid, market.ask = event_ms, bid, ask
    market.has_book = not row["is_stale"] and all(price is None or _is_price(price) for price in (bid, ask))


def _learn_depth(state: State, name: str, row: dict[str, Any], event_ms: int) -> None:
    for rule in state.rules(name):
        if isinstance(rule.condition, DepthCollapse):
            watch = state.watch(name, rule)
            depth = None if row["is_stale"] else depth_near_middle(row["bids"], row["asks"], rule.condition.within)
            watch.depth = depth if depth is not None and 0 <= depth < MOST else None
            if watch.depth is not None and watch.state != HALTED:
                watch.window.add(event_ms, watch.depth)


def _learn_ticker(state: State, name: str, row: dict[str, Any], event_ms: int) -> None:
    market = state.markets[name]
    mark, index = row.get("mark_price"), row.get("index_price_usd")
    if _is_price(mark) and event_ms >= market.mark_ms:
        market.mark, market.mark_ms = mark, event_ms
    if index is not None and _is_price(index):
        if event_ms >= market.index_ms:
            market.index, market.index_ms = index, event_ms
        for rule in state.rules(name):
            if rule.window_of == "index" and (watch := state.watch(name, rule)).state != HALTED:
                watch.window.add(event_ms, index)


def _learn_fault(market: Market, row: dict[str, Any], event_ms: int) -> None:
    """Keep a fault of a source, or its end.  If both are of one instant, the end counts."""
    name, is_over = f"{row['source']}/{row['kind']}", row["is_over"]
    if (event_ms, is_over) >= _since(market.faults.get(name, 0)):
        market.faults[name] = -event_ms if is_over else event_ms
    if len(market.faults) > MOST_FAULTS:
        oldest = min(market.faults, key=lambda fault: (market.faults[fault] > 0, abs(market.faults[fault]), fault))
        del market.faults[oldest]


def _since(stored: int) -> tuple[int, bool]:
    return abs(stored), stored < 0


def _priced(state: State, name: str, row: dict[str, Any], event_ms: int, until_ms: int | None) -> list[Output]:
    """Judge a trade or an index price by the instant rules, and add it to the windows of all rules."""
    market = state.markets[name]
    price = row["price"] if market.table == TRADES else row["price_usd"]
    if not _is_price(price) or row.get("off_market") is not None:
        return []
    outputs: list[Output] = []
    prices = Prices(price, row.get("side"), market.price, **market.quotes())
    for rule in state.rules(name):
        watch = state.watch(name, rule)
        if rule.fixings or isinstance(rule.condition, Luld):
            _fix(rule, watch, market, event_ms, price)
        if watch.state == HALTED:
            continue
        is_learned_first = isinstance(rule.condition, Volatility)
        if is_learned_first:
            watch.window.add(event_ms, price)
        if not rule.is_lasting and until_ms is not None:
            prices.window, prices.fixings = watch.window, watch.references()
            broken = rule.condition.check(prices)
            if broken is not None and (broken.level == 0 or broken.level > watch.level):
                outputs.append(_halted(state, name, rule, broken, until_ms, until_ms, event_ms))
                continue
        if rule.has_window and rule.window_of == "price" and not is_learned_first:
            watch.window.add(event_ms, price)
    if event_ms >= market.price_ms:
        market.price, market.price_ms = price, event_ms
    return outputs


def _fix(rule: Rule, watch: Watch, market: Market, event_ms: int, price: float) -> None:
    """Keep the references of earlier prices: the last price before a time of day; until there is one, the first price of all.
    The reference of Limit Up-Limit Down follows the mean."""
    for name, at_ms in rule.fixings.items():
        day = (event_ms - at_ms) // DAY_MS
        known = watch.fixings.get(name)
        if known is None:
            watch.fixings[name] = day, price
        elif day > known[0]:
            watch.fixings[name] = day, price if market.price is None else market.price
            if name == SETTLEMENT:
                watch.level = 0
    if isinstance(rule.condition, Luld) and watch.state != HALTED:
        known = watch.fixings.get(REFERENCE)
        if known is None:
            watch.fixings[REFERENCE] = event_ms, price
        elif event_ms >= known[0] + rule.condition.update_ms and watch.window.steps:
            mean = watch.window.mean
            if abs(mean / known[1] - 1) >= rule.condition.update_fraction:
                watch.fixings[REFERENCE] = event_ms, mean


def decide(state: State, until_ms: int) -> list[Output]:
    """The rows at the end of a micro-batch: lasting rules of markets with new messages, and breaks whose time has come."""
    outputs: list[Output] = []
    for name in sorted(state.fresh):
        for rule in state.rules(name):
            if rule.is_lasting:
                outputs += _judged(state, name, rule, until_ms)
    state.fresh.clear()
    for name in sorted({name for name, _ in state.active}):
        outputs += _due(state, name, until_ms, until_ms)
    return outputs


def _due(state: State, name: str, at_ms: int, until_ms: int) -> list[Output]:
    """What time has ended or begun in a market by `at_ms`, each at its own instant."""
    outputs: list[Output] = []
    market = state.markets[name]
    for rule_name in sorted(rule_name for rule_name, watch in market.watches.items() if watch.state != CALM):
        watch, rule = market.watches[rule_name], RULE.get(rule_name)
        if rule is None or rule not in state.rules(name):  # the rule is gone, or the contract has other terms
            outputs += _calmed(state, name, rule_name, until_ms, until_ms, "the rule is no longer one for it")
            continue
        held_ms = watch.since_ms + int(1000 * rule.hold_s)
        if watch.state == PENDING and held_ms <= at_ms:
            broken = rule.condition.check(_lasting_prices(rule, market, watch))
            if broken is not None:
                outputs.append(_halted(state, name, rule, broken, held_ms, until_ms, None))
        end_ms = watch.end_ms
        if end_ms is None and watch.calm_ms is not None:
            end_ms = watch.calm_ms + int(1000 * rule.calm_s)
        if watch.state == HALTED and end_ms is not None and end_ms <= at_ms:
            outputs += _calmed(state, name, rule_name, end_ms, until_ms, "the halt is over")
    return outputs


def _calmed(state: State, name: str, rule_name: str, at_ms: int, until_ms: int, reason: str) -> list[Output]:
    """End a break at an instant; a row says so if there was a row of its beginning."""
    market = state.markets[name]
    watch, last_row = market.watches[rule_name], market.watches[rule_name].last_row
    if watch.state == HALTED:
        watch.window.clear()
        watch.fixings.pop(REFERENCE, None)
    watch.state, watch.last_row, watch.end_ms, watch.calm_ms = CALM, None, None, None
    if rule_name not in RULE:
        del market.watches[rule_name]
    state.active.discard((name, rule_name))
    state.touched.add("market/" + name)
    if last_row is None:
        return []
    row = last_row | {"event_at": instant_ms(at_ms), "state": "resumed", "is_halted": False, "reason": reason}
    return [Output("circuit_breaks", until_ms - 1, row | dict.fromkeys(FIGURES))]


def _lasting_prices(rule: Rule, market: Market, watch: Watch) -> Prices:
    """The prices for a lasting rule.  Limit Up-Limit Down goes by quotes or the last trade, whichever is newer."""
    prices = Prices(market.price, **market.quotes())
    prices.window, prices.fixings, prices.depth = watch.window, watch.references(), watch.depth
    prices.faults = [name for name, since_ms in market.faults.items() if since_ms > 0]
    if isinstance(rule.condition, Luld):
        prices.has_book = market.has_book and market.top_ms >= market.price_ms
    return prices


def _judged(state: State, name: str, rule: Rule, until_ms: int) -> list[Output]:
    """Let a lasting rule begin or end to hold."""
    market, watch = state.markets[name], state.watch(name, rule)
    broken = rule.condition.check(_lasting_prices(rule, market, watch))
    if watch.state == CALM and broken is not None:
        watch.state, watch.since_ms = PENDING, until_ms
        state.active.add((name, rule.name))
        state.touched.add("market/" + name)
        if isinstance(rule.condition, Luld) and rule.hold_s:
            observed_ms, end_ms = max(market.top_ms, market.price_ms), until_ms + int(1000 * rule.hold_s)
            return [_emitted(state, name, rule, "limit", broken, until_ms, until_ms, observed_ms, end_ms)]
    elif watch.state == PENDING and broken is None:
        return _calmed(state, name, rule.name, until_ms, until_ms, "the limit state is over")
    elif watch.state == HALTED and watch.end_ms is None:
        is_unknown = watch.depth is None if isinstance(rule.condition, DepthCollapse) else not market.has_book
        is_unknown = is_unknown and not isinstance(rule.condition, OracleFault)
        if broken is not None or is_unknown:
            watch.calm_ms = None
        elif watch.calm_ms is None:
            watch.calm_ms = until_ms
        state.touched.add("market/" + name)
    return []


def _halted(state: State, name: str, rule: Rule, broken: Break, at_ms: int, until_ms: int, observed_ms: int | None) -> Output:
    watch = state.watch(name, rule)
    watch.state, watch.since_ms, watch.calm_ms, watch.level = HALTED, at_ms, None, max(watch.level, broken.level)
    watch.end_ms = _end_ms(rule, broken, at_ms, observed_ms)
    state.active.add((name, rule.name))
    state.touched.add("market/" + name)
    return _emitted(state, name, rule, "halted", broken, at_ms, until_ms, observed_ms, watch.end_ms)


def _end_ms(rule: Rule, broken: Break, at_ms: int, observed_ms: int | None) -> int | None:
    if isinstance(rule.condition, MarketWide):
        if broken.halt_s is not None:
            return at_ms + int(1000 * broken.halt_s)
        return at_ms + (rule.fixings[SETTLEMENT] - at_ms) % DAY_MS
    if rule.halt_s is None:
        return None
    halt_s = rule.halt_s
    if isinstance(rule.condition, Dynamic) and observed_ms is not None and SETTLEMENT in rule.fixings:
        is_late = (rule.fixings[SETTLEMENT] - observed_ms) % DAY_MS <= LATE_MS
        halt_s = rule.condition.late_halt_s if is_late else halt_s
    return at_ms + int(1000 * halt_s)


def _emitted(
    state: State,
    name: str,
    rule: Rule,
    reached: str,
    broken: Break,
    at_ms: int,
    until_ms: int,
    observed_ms: int | None,
    end_ms: int | None,
) -> Output:
    """The row of a break, which is kept until its end."""
    market, watch = state.markets[name], state.watch(name, rule)
    is_instrument, is_underlying = rule.stops == INSTRUMENT, rule.stops == UNDERLYING
    watch.last_row = {
        "break_id": watch.last_row["break_id"] if watch.last_row else f"{rule.name}/{name}/{instant_ms(at_ms)}",
        "subject": name,
        "event_at": instant_ms(at_ms),
        "rule": rule.name,
        "kind": rule.kind,
        "state": reached,
        "is_halted": reached == "halted",
        "venue": None if is_underlying else market.venue,
        "instrument": market.instrument if is_instrument else None,
        "underlying": state.underlying(name) if is_underlying else None,
        "passes_exits": rule.passes_exits,
        "observed_at": None if observed_ms is None else instant_ms(observed_ms),
        "figure": broken.figure,
        "reference": broken.reference,
        "lower_limit": broken.lower,
        "upper_limit": broken.upper,
        "planned_end_at": None if end_ms is None else instant_ms(end_ms),
        "reason": broken.reason,
    }
    return Output("circuit_breaks", until_ms - 1, watch.last_row)


def end_window(state: State, until_ms: int) -> list[Lines]:
    """The rows of `decide`, as lines."""
    outputs = decide(state, until_ms)
    return batch.encode(outputs) if outputs else []


def gauges(state: State) -> dict[str, float]:
    """How many breaks there are, those that are pending among them; and how many stop something."""
    halted = sum(state.markets[name].watches[rule_name].state == HALTED for name, rule_name in state.active)
    return {"active_breaks": float(len(state.active)), "breaks_in_force": float(halted)}


KERNEL = Kernel(
    "breakers",
    VERSION,
    new=new,
    step=step,
    end_window=end_window,
    gauges=gauges,
    migrations=MIGRATIONS,
)

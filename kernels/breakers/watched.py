"""What the breakers know of each market, and of each rule that watches it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.contract import Migration
from engine.entries import packed, unpacked
from kernels.market.terms import Listing
from udfs.breaker_rules import TRADES, Rule, rule_set
from udfs.breakers import STEPS, Window

VERSION = 1
MIGRATIONS: dict[int, Migration] = {}
RULES = rule_set("suite")
"""The rules that the job applies."""
RULE = {rule.name: rule for rule in RULES}
CALM, PENDING, HALTED = "calm", "pending", "halted"


class Terms(NamedTuple):
    """The terms of a contract that rules ask for."""

    published_ms: int
    kind: str
    underlying: str
    expiry_ms: int | None


@dataclass
class Watch:
    """One rule for one market: its window and references, and whether it is broken."""

    window: Window
    fixings: dict[str, tuple[int, float]] = field(default_factory=dict)  # day, or time in ms; and price
    state: str = CALM
    since_ms: int = 0  # when it became pending or halted, in the common time
    end_ms: int | None = None  # of a halt; None if it ends when the condition has not held for long enough
    calm_ms: int | None = None  # since when the condition does not hold, during such a halt
    level: int = 0  # of a rule with levels, the deepest that was reached since the last settlement
    depth: float | None = None  # of a rule about depth, the newest figure of the book
    last_row: dict[str, Any] | None = None  # the newest row of a break that has not ended

    def references(self) -> dict[str, float]:
        """The prices of its fixings."""
        return {name: price for name, (_, price) in self.fixings.items()}

    def stored(self) -> list[Any]:
        """What an entry keeps."""
        clocks = [self.since_ms, self.end_ms, self.calm_ms]
        return [self.window.steps, self.fixings, self.state, clocks, self.level, self.depth, self.last_row]

    @classmethod
    def restored(cls, rule: Rule | None, stored: list[Any]) -> "Watch":
        """Restore from an entry.  Of a rule that no longer exists only the state counts."""
        steps, fixings, state, (since_ms, end_ms, calm_ms), level, depth, last_row = stored
        window = Window(STEPS) if rule is None else Window(rule.window_ms, steps)
        references = {name: (at, price) for name, (at, price) in fixings.items()}
        return cls(window, references, state, since_ms, end_ms, calm_ms, level, depth, last_row)


@dataclass
class Market:
    """An instrument of a venue, an index, or an oracle: its newest prices, each with its own time."""

    table: str  # trades, index_prices or oracle_faults
    venue: str  # empty of an oracle
    name: str  # of the instrument, or of the underlying
    newest_ms: int = 0  # exchange time of its newest message
    price: float | None = None  # of the newest trade or index price
    price_ms: int = -1
    mark: float | None = None
    mark_ms: int = -1
    index: float | None = None
    index_ms: int = -1
    bid: float | None = None
    ask: float | None = None
    top_ms: int = -1
    has_book: bool = False
    faults: dict[str, int] = field(default_factory=dict)  # of an oracle, by source/kind: since when; negative: over since
    watches: dict[str, Watch] = field(default_factory=dict)  # by rule

    @property
    def instrument(self) -> str | None:
        """The instrument; None of an index."""
        return self.name if self.table == TRADES else None

    def quotes(self) -> dict[str, Any]:
        """The fields of `Prices` that are the same for all rules, without the price."""
        return {"bid": self.bid, "ask": self.ask, "has_book": self.has_book, "mark": self.mark, "index": self.index}

    def stored(self) -> list[Any]:
        """What an entry keeps."""
        head = [self.table, self.venue, self.name, self.newest_ms, self.price, self.price_ms, self.mark, self.mark_ms]
        head += [self.index, self.index_ms, self.bid, self.ask, self.top_ms, self.has_book, self.faults]
        return [head, {rule: watch.stored() for rule, watch in self.watches.items()}]


class State:
    """The markets of one shard."""

    def __init__(self) -> None:
        self.listing: Listing[Terms] = Listing()
        self.markets: dict[str, Market] = {}
        self.active: set[tuple[str, str]] = set()  # market and rule of the watches that are pending or halted
        self.fresh: set[str] = set()  # markets of which a message came in this micro-batch
        self.touched: set[str] = set()
        self._rules: dict[str, list[Rule]] = {}

    def market(self, name: str, table: str, venue: str, own_name: str) -> Market:
        """The market of that name."""
        known = self.markets.get(name)
        if known is None:
            known = self.markets[name] = Market(table, venue, own_name)
        return known

    def underlying(self, name: str) -> str | None:
        """The underlying of a market; None until it is known."""
        market = self.markets[name]
        if market.table != TRADES:
            return market.name
        terms = self.listing.terms.get(name)
        return None if terms is None else terms.underlying

    def rules(self, name: str) -> list[Rule]:
        """The rules that watch a market."""
        known = self._rules.get(name)
        if known is None:
            market, terms = self.markets[name], self.listing.terms.get(name)
            underlying, kind = self.underlying(name), None if terms is None else terms.kind
            known = [rule for rule in RULES if rule.applies(market.table, market.venue, market.instrument, underlying, kind)]
            self._rules[name] = known
        return known

    def watch(self, name: str, rule: Rule) -> Watch:
        """What a rule knows of a market."""
        watches = self.markets[name].watches
        if rule.name not in watches:
            watches[rule.name] = Watch(Window(rule.window_ms))
        return watches[rule.name]

    def learn(self, name: str, terms: Terms) -> None:
        """Take the terms of an instrument, if they are the newest."""
        if self.listing.learn(name, terms):
            self.touched.add("terms/" + name)
            self._rules.pop(name, None)

    def free(self, until_ms: int, kept_ms: int) -> None:
        """Forget the markets that have been silent for so long and have no break, and contracts that expired so long ago."""
        for name in self.listing.free(until_ms - kept_ms):
            self.touched.add("terms/" + name)
            self._rules.pop(name, None)
        broken = {name for name, _ in self.active}
        for name in [name for name, market in self.markets.items() if market.newest_ms <= until_ms - kept_ms]:
            if name not in broken:
                del self.markets[name]
                self._rules.pop(name, None)
                self.touched.add("market/" + name)

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, own = name.partition("/")
        if kind == "terms":
            terms = self.listing.terms.get(own)
            return None if terms is None else packed(VERSION, list(terms))
        market = self.markets.get(own)
        return None if market is None else packed(VERSION, market.stored())

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` for bytes of a version that this code does not read.

        Of a rule that no longer exists only a break is kept, so that a row says that it has ended.
        """
        stored = unpacked("breakers", name, data, VERSION, MIGRATIONS)
        kind, _, own = name.partition("/")
        if kind == "terms":
            self.listing.put(own, Terms(*stored))
            return
        head, watches = stored
        market = self.markets[own] = Market(*head)
        for rule_name, kept in watches.items():
            watch = Watch.restored(RULE.get(rule_name), kept)
            if watch.state != CALM:
                self.active.add((own, rule_name))
            if rule_name in RULE or watch.state != CALM:
                market.watches[rule_name] = watch

"""What the job hedges knows, as stored."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from engine.entries import packed, unpacked
from kernels import gate, halts
from kernels.halts import Halt, Halts
from kernels.hedges.market import Market
from kernels.limits import Groups, Limit
from kernels.market.terms import Listing, Tradable
from udfs.exposures import WITHIN

VERSION = 1
KEPT_MS = 24 * 60 * 60 * 1000
Subject = tuple[str, str]  # kind and name
Cell = tuple[str, str]  # underlying and bucket


class Part(NamedTuple):
    """The exposures of a subject that one shard of the accounts tells."""

    event_ms: int
    equity: float | None
    gross: float | None
    cells: dict[Cell, tuple[float | None, float | None, float | None, float | None]]  # delta, gamma, vega, gross


class Order:
    """An order of a hedge, as `order_states` tells it."""

    def __init__(self, subject: Subject, market: str, decided_ms: int) -> None:
        self.subject = subject
        self.market = market
        self.decided_ms = decided_ms
        self.done_ms: int | None = None
        self.traded = 0.0

    def stored(self) -> list[Any]:
        """As an entry has it."""
        return [list(self.subject), self.market, self.decided_ms, self.done_ms, self.traded]

    @classmethod
    def restored(cls, stored: Sequence[Any]) -> "Order":
        """What `stored` returned."""
        (kind, name), market, decided_ms, done_ms, traded = stored
        order = cls((kind, name), market, decided_ms)
        order.done_ms, order.traded = done_ms, traded
        return order


class Standing:
    """How hedging of a subject stands."""

    def __init__(self) -> None:
        self.decisions = 0
        self.decided_ms = -1
        self.done_ms = -1  # when the last order was over
        self.retry_ms = 0
        self.failures = 0
        self.told: str | None = None  # the last reason why nothing was ordered
        self.known_ms = -1  # since when there are exposures of it

    def stored(self) -> list[Any]:
        """As an entry has it."""
        times = [self.decided_ms, self.done_ms, self.retry_ms, self.known_ms]
        return [self.decisions, times, self.failures, self.told]

    @classmethod
    def restored(cls, stored: Sequence[Any]) -> "Standing":
        """What `stored` returned."""
        standing = cls()
        standing.decisions, times, standing.failures, standing.told = stored
        standing.decided_ms, standing.done_ms, standing.retry_ms, standing.known_ms = times
        return standing


class State:
    """The subjects of one shard, and the market."""

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}  # by name: also those that are lifted
        self.states: dict[str, int] = {}  # of those in force that are not within
        self.by_subject: dict[Subject, set[str]] = {}  # names of those in force
        self._hedged: Counter[str | None] = Counter()  # limits that are hedged, by underlying
        self.groups = Groups()
        self.parts: dict[Subject, dict[int, Part]] = {}
        self.orders: dict[tuple[str, str], Order] = {}  # by account and client_order_id
        self.open: set[tuple[str, str]] = set()  # of these, those that are not over
        self.standings: dict[Subject, Standing] = {}
        self.listing: Listing[Tradable] = Listing()
        self.names: dict[str, set[str]] = {}  # of contracts, by underlying
        self.markets: dict[str, Market] = {}  # by venue:instrument
        self.halts = Halts()
        self.breaks = gate.Breaks()
        self.touched: set[str] = set()
        self.partition_of: Callable[[str], int] = _no_partition
        self.part = 0
        self.moved: set[Subject] = set()  # whose exposures or limits are new since they were judged
        self.turn: Subject = ("", "")  # the last that was decided about

    def put_limit(self, name: str, limit: Limit, state: int = WITHIN) -> None:
        """Set a limit, and its state."""
        known = self.limits.get(name)
        self.limits[name] = limit
        for other, step in ((known, -1), (limit, 1)):
            if other is not None and other.is_hedged and other.enter is not None:
                self._hedged[other.underlying] += step
        names = self.by_subject.setdefault(limit.whose, set())
        if limit.enter is None:
            names.discard(name)
            self.states.pop(name, None)
        else:
            names.add(name)
            self.put_state(name, state)
        if not names:
            del self.by_subject[limit.whose]

    def put_state(self, name: str, state: int) -> None:
        """Set the state of a limit."""
        if state == WITHIN:
            self.states.pop(name, None)
        else:
            self.states[name] = state

    def put_contract(self, name: str, terms: Tradable) -> None:
        """Set the terms of a contract."""
        known = self.listing.terms.get(name)
        if known is not None:
            self.names.get(known.underlying, set()).discard(name)
        self.listing.put(name, terms)
        self.names.setdefault(terms.underlying, set()).add(name)

    def is_mine(self, subject: Subject) -> bool:
        """Whether this shard decides about a subject."""
        return self.partition_of(self.groups.owner(*subject)) == self.part

    def wanted(self) -> set[str] | None:
        """The underlyings whose markets are looked at: those with hedged limits; None: all."""
        chosen = {underlying for underlying, count in self._hedged.items() if count}
        return None if None in chosen else {underlying for underlying in chosen if underlying is not None}

    def standing(self, subject: Subject) -> Standing:
        """How hedging of a subject stands."""
        return self.standings.setdefault(subject, Standing())

    def put_order(self, name: tuple[str, str], order: Order) -> None:
        """Set an order."""
        self.orders[name] = order
        (self.open.add if order.done_ms is None else self.open.discard)(name)

    def free(self, until_ms: int) -> None:
        """Forget what ended a day ago."""
        limit_ms = until_ms - KEPT_MS
        for key in [key for key, order in self.orders.items() if order.done_ms is not None and order.done_ms <= limit_ms]:
            del self.orders[key]
            self.touched.add(entry("order", key))
        for name in self.listing.free(limit_ms):
            for names in self.names.values():
                names.discard(name)
            self.markets.pop(name, None)
            self.touched |= {f"contract/{name}", f"market/{name}"}
        self.touched.update(self.breaks.forget(until_ms))
        self.touched.update(self.halts.forget(until_ms, lambda name: name not in self.listing.terms))

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        if kind == gate.BREAK:
            return self.breaks.encode(subject)
        stored: Any = None
        if kind == "limit":
            stored = [list(limit), self.states.get(subject, WITHIN)] if (limit := self.limits.get(subject)) else None
        elif kind == "member":
            stored = list(member) if (member := self.groups.rows.get(_pair(subject))) else None
        elif kind == "exposure":
            parts = self.parts.get(_pair(subject))
            stored = None if parts is None else [_part_stored(number, part) for number, part in sorted(parts.items())]
        elif kind == "order":
            stored = order.stored() if (order := self.orders.get(_pair(subject))) else None
        elif kind == "standing":
            stored = standing.stored() if (standing := self.standings.get(_pair(subject))) else None
        elif kind == "contract":
            stored = list(terms) if (terms := self.listing.terms.get(subject)) else None
        elif kind == "market":
            stored = market.stored() if (market := self.markets.get(subject)) else None
        elif kind == "turn":
            stored = list(self.turn)
        elif kind == halts.KIND:
            stored = list(halt) if (halt := self.halts.rows.get(subject)) else None
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, subject = name.partition("/")
        if kind == gate.BREAK:
            self.breaks.decode(subject, data)
            return
        stored = unpacked("hedges", name, data, VERSION)
        if kind == "limit":
            self.put_limit(subject, Limit(*stored[0]), stored[1])
        elif kind == "member":
            self.groups.put(*_pair(subject), *stored)
        elif kind == "exposure":
            self.parts[_pair(subject)] = dict(_part_restored(*part) for part in stored)
            # A group may not have been judged yet; to judge the same exposures again changes nothing.
            self.moved.add(_pair(subject))
        elif kind == "order":
            self.put_order(_pair(subject), Order.restored(stored))
        elif kind == "standing":
            self.standings[_pair(subject)] = Standing.restored(stored)
        elif kind == "contract":
            self.put_contract(subject, Tradable(*stored))
        elif kind == "market":
            self.markets[subject] = Market.restored(stored)
        elif kind == "turn":
            self.turn = stored[0], stored[1]
        elif kind == halts.KIND:
            self.halts.put(subject, Halt(*stored))


def entry(kind: str, pair: tuple[str, str]) -> str:
    """The name of an entry about two names."""
    return f"{kind}/{orjson.dumps(list(pair)).decode()}"


def _part_stored(number: int, part: Part) -> list[Any]:
    return [number, part.event_ms, part.equity, part.gross, [[*cell, *amounts] for cell, amounts in sorted(part.cells.items())]]


def _part_restored(number: int, event_ms: int, equity: float | None, gross: float | None, cells: Any) -> tuple[int, Part]:
    return number, Part(event_ms, equity, gross, {(coin, bucket): tuple(amounts) for coin, bucket, *amounts in cells})


def _pair(subject: str) -> tuple[str, str]:
    first, second = orjson.loads(subject)
    return first, second


def _no_partition(_: str) -> int:
    return 0

"""Sources of an oracle: what each of them said last, and its habits.

A source is one series of prices of an underlying: a venue's index, a publisher's feed, the middle of a book of spot or of a
perpetual, the last trade of spot.  The price with the latest event time counts; of one instant the greater sequence, then the
greater price.  So neither the order of arrival nor a repeated price matters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from operator import sub
from typing import Any, NamedTuple

from engine.contract import Message
from kernels.market.indices import USD, named
from kernels.market.terms import Terms
from schemas.rows import to_ms, to_us

KEPT_TIMES = 16
LEAST_GAPS = 5
"""So many gaps are a habit."""
KEPT_STEPS = 5
JITTER_SHARE = 16
"""RFC 3550, 6.4.1: each change of the travel time moves the jitter by a sixteenth of the difference."""


class Said(NamedTuple):
    """One price of a source, as its row has it."""

    venue: str
    kind: str  # index, publisher, mid, perpetual or last
    feed: str
    underlying: str
    quote: str
    event_ms: int  # by the source's own clock
    received_us: int
    sequence: int
    price: float | None  # in `quote`; None where a book has no middle
    confidence: float | None  # None if it is not stated

    @property
    def source(self) -> str:
        """The name of the source."""
        return f"{self.venue}:{self.kind}:{self.feed}"


@dataclass(slots=True)
class Source:
    """What is known of one source."""

    venue: str
    kind: str
    feed: str
    underlying: str
    quote: str
    published_ms: int
    received_us: int
    sequence: int = -1
    price: float | None = None
    confidence: float | None = None
    consensus: float | None = None  # when its price last changed
    transit_us: int | None = None
    jitter_ms: float | None = None
    basis: float | None = None  # of a perpetual: mean logarithm of its price over that of spot and indices
    basis_ms: int = 0  # for how long it has been measured
    step_back_ms: int = 0  # since the last row
    times: list[int] = field(default_factory=list)  # of its newest prices, by its own clock
    changes: list[int] = field(default_factory=list)  # of those that were not the price before
    steps: list[float] = field(default_factory=list)  # how far its price changed the last times, as fractions
    moved: float = 0.0  # how far from `consensus` the price of the underlying has been at most, as a fraction, above or below 0

    @property
    def name(self) -> str:
        """Its name: venue:kind:feed."""
        return f"{self.venue}:{self.kind}:{self.feed}"

    @property
    def is_book(self) -> bool:
        """Whether it is a book, which is as old as it is stale."""
        return self.kind in ("mid", "perpetual")

    def hear(self, said: Said, consensus: float | None) -> bool:
        """Take a price; returns whether it changes anything.  `consensus` is the price of the underlying at that time."""
        if said.event_ms in self.times[:-1]:
            return False  # repeated
        if said.event_ms < self.published_ms:
            if said.received_us <= self.received_us:
                return False
            self.step_back_ms = max(self.step_back_ms, self.published_ms - said.event_ms)
            self.received_us = said.received_us
            return True
        if said.event_ms == self.published_ms and self.times:
            if (said.sequence, said.price or 0.0) <= (self.sequence, self.price or 0.0):
                return False
        else:
            self.times = [*self.times[1 - KEPT_TIMES :], said.event_ms]
            self._measure(said)
        if said.price != self.price:
            if not self.changes or self.changes[-1] != said.event_ms:
                self.changes = [*self.changes[1 - KEPT_TIMES :], said.event_ms]
            if self.price and said.price:
                self.steps = [*self.steps[1 - KEPT_STEPS :], abs(said.price / self.price - 1.0)]
            self.consensus, self.moved = consensus, 0.0
        self.published_ms, self.sequence = said.event_ms, said.sequence
        self.received_us = max(self.received_us, said.received_us)
        self.price, self.confidence = said.price, said.confidence
        return True

    def follow(self, consensus: float) -> bool:
        """Take a price of the underlying; returns whether it has never been so far away since this source's last changed."""
        if not self.consensus:
            return False
        moved = consensus / self.consensus - 1.0
        if abs(moved) <= abs(self.moved):
            return False
        self.moved = moved
        return True

    @property
    def step(self) -> float:
        """The least of its last changes: a price with few digits changes no finer, and stands still in between."""
        return min(self.steps, default=0.0)

    def _measure(self, said: Said) -> None:
        transit_us = said.received_us - said.event_ms * 1000
        if self.transit_us is not None:
            change_ms = abs(transit_us - self.transit_us) / 1000
            known_ms = self.jitter_ms or 0.0
            self.jitter_ms = known_ms + (change_ms - known_ms) / JITTER_SHARE
        self.transit_us = transit_us

    def as_list(self) -> list[Any]:
        """All of it, for an entry."""
        return [getattr(self, column.name) for column in fields(self)]


def gap_ms(times: list[int]) -> float | None:
    """The median gap; None where there are too few for a habit."""
    if len(times) <= LEAST_GAPS:
        return None
    gaps: list[int] = sorted(map(sub, times[1:], times))
    return (gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2


def said(message: Message, terms: Mapping[str, Terms]) -> Said | None:
    """The price in a checked message; None where it is that of no source.  `terms` are those of spot and perpetuals."""
    read = _READERS.get(message.table)
    return None if read is None else read(message.row, terms)


def _index(row: Mapping[str, Any], _: Mapping[str, Terms]) -> Said:
    quote = row.get("quote_currency") or USD
    price, confidence = row["price_usd"], row.get("confidence_usd")
    return Said(
        row["venue"], "index", named(row["underlying"], quote), row["underlying"], quote, *_times(row), -1, price, confidence
    )


def _update(row: Mapping[str, Any], _: Mapping[str, Terms]) -> Said:
    sequence = row.get("sequence")
    return Said(
        row["venue"],
        "publisher",
        row["instrument"],
        row["underlying"],
        row["quote_currency"],
        *_times(row),
        -1 if sequence is None else sequence,
        row["price"],
        row.get("confidence"),
    )


def _top(row: Mapping[str, Any], terms: Mapping[str, Terms]) -> Said | None:
    known = terms.get(row["venue"] + ":" + row["instrument"])
    if known is None:
        return None
    bid, ask = row.get("bid_price"), row.get("ask_price")
    kind = "mid" if known.kind == "spot" else "perpetual"
    price = confidence = None
    if not row["is_stale"] and bid is not None and ask is not None and 0 < bid <= ask:
        price, confidence = (bid + ask) / 2, (ask - bid) / 2
    start = row["venue"], kind, row["instrument"], known.underlying, known.quote_currency
    return Said(*start, *_times(row), row["sequence"], price, confidence)


def _trade(row: Mapping[str, Any], terms: Mapping[str, Terms]) -> Said | None:
    known = terms.get(row["venue"] + ":" + row["instrument"])
    if known is None or known.kind != "spot" or row.get("off_market") is not None or not row["price"] > 0:
        return None
    start = row["venue"], "last", row["instrument"], known.underlying, known.quote_currency
    return Said(*start, *_times(row), -1, row["price"], None)


def _times(row: Mapping[str, Any]) -> tuple[int, int]:
    return to_ms(row["event_at"]), to_us(row["received_at"])


_READERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Terms]], Said | None]] = {
    "index_prices": _index,
    "oracle_updates": _update,
    "book_tops": _top,
    "trades": _trade,
}

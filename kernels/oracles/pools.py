"""The price of an underlying: from all its sources, at an instant, and what is kept of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from kernels.market.indices import USD
from kernels.oracles.sources import Source
from udfs.oracle_rules import Rules, aggregate
from udfs.oracles import Quote, weighted_quantile

TICK_MS = 100
"""How often there are rows."""
HISTORY = 100
"""So many of the newest prices are kept, one each tick: how far back a source is looked for that is late."""


class Rate(NamedTuple):
    """USD per coin of a quote currency, and how sure that is."""

    price: float
    confidence: float


class Reading(NamedTuple):
    """A source at an instant."""

    source: Source
    age_ms: float
    price: float | None = None  # USD, a perpetual's less its basis
    confidence: float | None = None  # capped
    lag_ms: float | None = None
    deviation: float | None = None
    weight: float = 0.0
    reason: str | None = None


@dataclass(slots=True)
class Pool:
    """The price of an underlying, and its sources."""

    underlying: str
    price: float | None = None
    confidence: float = 0.0
    average: float = 0.0
    priced_ms: int = 0  # when any source last counted
    age_ms: float = 0.0  # weighted median, at that time
    source_count: int = 0
    venue_count: int = 0
    tick_ms: int = 0  # of the newest rows
    history: list[float] = field(default_factory=list)  # the price at each tick, the newest last
    sources: dict[str, Source] = field(default_factory=dict)

    def as_list(self) -> list[Any]:
        """All but its sources, for an entry."""
        return [getattr(self, column.name) for column in fields(self)[:-1]]

    def lag_ms(self, price: float, until_ms: int, nearness: float) -> float | None:
        """How long before `until_ms` the price was near `price`, within a share of it: 0 now, None if not in its history.

        Where it went past between two ticks, it was there in between.
        """
        if self.price is None:
            return None
        if abs(price - self.price) <= nearness * self.price:
            return 0.0
        newer, newer_ms = self.price, 0.0
        lag_ms = float(until_ms - self.tick_ms)
        for then in reversed(self.history):
            if abs(price - then) <= nearness * then:
                return lag_ms
            if (price - then) * (price - newer) < 0:
                return newer_ms + (lag_ms - newer_ms) * (price - newer) / (then - newer)
            newer, newer_ms = then, lag_ms
            lag_ms += TICK_MS
        return None

    def take(self, readings: list[Reading], until_ms: int, rules: Rules) -> list[Reading]:
        """Set the price from readings; returns them with their weights, and why those without one have none."""
        counted = [reading for reading in readings if reading.reason is None]
        shares: dict[str, int] = {}
        for reading in counted:
            shares[reading.source.venue] = shares.get(reading.source.venue, 0) + 1
        quotes = [_quote(reading, shares, rules) for reading in counted]
        answer = aggregate(rules, quotes)
        if answer is None:
            self.source_count = self.venue_count = 0
            return readings
        if self.price is None:
            self.average = answer.price
        else:
            self.average += (answer.price - self.average) * -math.expm1((self.priced_ms - until_ms) / rules.average_ms)
        self.price, self.confidence, self.priced_ms = answer.price, answer.confidence, until_ms
        self.age_ms = weighted_quantile(zip(map(_age_ms, counted), answer.weights, strict=True), 0.5) or 0.0
        used = {reading.source.venue for reading, weight in zip(counted, answer.weights, strict=True) if weight}
        self.source_count, self.venue_count = sum(weight > 0 for weight in answer.weights), len(used)
        weights = iter(answer.weights)
        return [reading._replace(weight=next(weights)) if reading.reason is None else reading for reading in readings]


def read(source: Source, until_ms: int, offset_ms: int, rates: Mapping[str, Rate], rules: Rules) -> Reading:
    """A source at an instant: its price in USD, or why it has none that counts."""
    age_ms = float(until_ms - source.published_ms + offset_ms)
    if source.price is None:
        return Reading(source, age_ms, reason="its book is stale or has one side alone")
    rate = rates.get(source.quote)
    if rate is None:
        return Reading(source, age_ms, reason=f"no price of {source.quote} in USD")
    price, stated = source.price * rate.price, source.confidence
    if stated is not None:
        stated = stated * rate.price + source.price * rate.confidence
    elif rate.confidence:
        stated = rules.confidence.unstated_ratio * price + source.price * rate.confidence
    if source.basis is not None:
        price *= math.exp(-source.basis)
    reading = Reading(source, age_ms, price, rules.confidence.capped(price, stated))
    return reading._replace(reason=_reason(reading, rules))


def _reason(reading: Reading, rules: Rules) -> str | None:
    """Why a source with a price does not count."""
    source = reading.source
    if source.venue in rules.sources.own_venues:
        return "a venue of our own, which liquidates by this price"
    if not source.is_book:
        if source.confidence is not None and not source.confidence > 0:
            return "a confidence of zero"
        if source.confidence is not None and source.price is not None and source.confidence > source.price:
            return "a confidence above the price"
        if reading.age_ms > rules.ages_ms[source.kind]:
            return f"older than {rules.ages_ms[source.kind] / 1000:g} s"
    if reading.age_ms < -rules.future_ms:
        return f"more than {rules.future_ms / 1000:g} s from the future"
    if source.kind == "perpetual" and source.basis_ms < rules.basis_least_ms:
        return "a perpetual whose basis is not known yet"
    return None


def _quote(reading: Reading, shares: Mapping[str, int], rules: Rules) -> Quote:
    price, confidence, source = reading.price or 0.0, reading.confidence or 0.0, reading.source
    return Quote(
        price,
        confidence,
        rules.sources.weight(source.venue) / shares[source.venue],
        rules.quality.share(_age_ms(reading), reading.lag_ms, source.jitter_ms, confidence / price if price else 0.0),
    )


def _age_ms(reading: Reading) -> float:
    """The age that counts: a book which is not stale is as new as can be, and the future is no better than the past."""
    return 0.0 if reading.source.is_book else abs(reading.age_ms)


def follow_basis(readings: list[Reading], anchor: float, elapsed_ms: int, half_life_ms: float) -> list[Source]:
    """Move the basis of each perpetual toward what it is now, against a price without perpetuals; returns those moved."""
    moved = []
    for reading in readings:
        source = reading.source
        if source.kind != "perpetual" or reading.price is None or not anchor > 0:
            continue
        # The reading is already less the basis known so far.
        missing = math.log(reading.price / anchor)
        share = 1.0 if source.basis is None else -math.expm1(-math.log(2.0) * elapsed_ms / half_life_ms)
        source.basis = (source.basis or 0.0) + missing * share
        source.basis_ms += elapsed_ms
        moved.append(source)
    return moved


def dollar_rates(assumed: Mapping[str, float]) -> dict[str, Rate]:
    """The rates that are known without any price."""
    return {USD: Rate(1.0, 0.0)} | {quote: Rate(rate, 0.0) for quote, rate in assumed.items()}

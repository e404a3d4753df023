"""Circuit breakers: do the prices of a market break a rule?  Sets of rules are data: `udfs.breaker_rules`.

Each kind of rule is a class, and its figures are the fields.  `udfs.bands` has the formulae and their sources.  Prices are
floats in the quote currency.  Times are milliseconds since 1970.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol

from udfs import bands
from udfs.bands import BUY, SELL, Band, LuldStep

DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
STEPS = 60
"""A rolling window has this many complete steps, and the current one."""


class Window:
    """The prices of a rolling window, summarised by step."""

    def __init__(self, length_ms: int, steps: Sequence[Sequence[float]] = ()) -> None:
        self.step_ms = max(1, length_ms // STEPS)
        self.steps: list[list[float]] = [list(step) for step in steps]  # start, count, sum, high, low, close; in order

    def add(self, at_ms: int, price: float) -> None:
        """Add a price.  A price of a step that has left the window does not count."""
        start = at_ms // self.step_ms * self.step_ms
        steps = self.steps
        index = len(steps)
        while index and steps[index - 1][0] > start:
            index -= 1
        if index and steps[index - 1][0] == start:
            step = steps[index - 1]
            step[1:] = [step[1] + 1, step[2] + price, max(step[3], price), min(step[4], price), price]
        else:
            steps.insert(index, [start, 1, price, price, price, price])
        while steps[0][0] < steps[-1][0] - STEPS * self.step_ms:
            del steps[0]

    def clear(self) -> None:
        """Begin anew."""
        self.steps.clear()

    @property
    def high(self) -> float:
        """The highest price; there must be one."""
        return max(step[3] for step in self.steps)

    @property
    def low(self) -> float:
        """The lowest price; there must be one."""
        return min(step[4] for step in self.steps)

    @property
    def mean(self) -> float:
        """The mean of the prices, each once; there must be one."""
        return sum(step[2] for step in self.steps) / sum(step[1] for step in self.steps)

    @property
    def volatility(self) -> float | None:
        """The realised volatility per year, as a fraction: √(Σ ln² of the closes of successive steps / time between them).

        None with fewer than three steps.
        """
        if len(self.steps) < 3:
            return None
        closes = [step[5] for step in self.steps]
        squares = math.fsum(math.log(after / before) ** 2 for before, after in pairwise(closes))
        return math.sqrt(squares * YEAR_MS / (self.steps[-1][0] - self.steps[0][0]))


@dataclass
class Prices:
    """A market when a price comes, or at the end of a micro-batch."""

    price: float | None = None  # the newest, of a trade or an index
    side: str | None = None  # of the taker
    last: float | None = None  # the price before it
    bid: float | None = None
    ask: float | None = None
    has_book: bool = False  # whether the book is known and not stale; then a side that is None is empty
    mark: float | None = None
    index: float | None = None
    window: Window = field(default_factory=lambda: Window(STEPS))  # of the rule
    fixings: Mapping[str, float] = field(default_factory=dict)  # the rule's references of earlier times
    depth: float | None = None  # the newest figure of the book's depth
    faults: Collection[str] = ()  # of sources of an oracle, source/kind, that are not over


class Break(NamedTuple):
    """Why a rule is broken, with the figures for a row."""

    figure: float | None
    reference: float | None
    lower: float | None
    upper: float | None
    reason: str
    halt_s: float | None = None  # where it differs from the rule's
    level: int = 0  # of a rule that has several, from 1


class Condition(Protocol):
    """The figures of one kind of rule."""

    def check(self, prices: Prices) -> Break | None:
        """Why these prices break the rule; None if they do not, or if a reference is not known yet."""


def beyond(band: Band | None, price: float | None, reference: float | None, what: str, side: str | None = None) -> Break | None:
    """The break of a price beyond a band."""
    if band is None or price is None or not band.is_broken(price, side):
        return None
    allowed = [f"{word} {limit:.10g}" for word, limit in (("from", band.lower), ("up to", band.upper)) if limit is not None]
    return Break(price, reference, band.lower, band.upper, f"{price:.10g} is beyond {what}, {' '.join(allowed)}")


@dataclass(frozen=True)
class PriceBand:
    """A band round mark, index, the last price or the window's mean; with `is_by_side` only for the taker's side."""

    reference: str
    down: float
    up: float
    is_by_side: bool

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        if self.reference == "mean":
            reference = prices.window.mean if prices.window.steps else None
        else:
            reference = getattr(prices, self.reference)
        band = bands.around(reference, self.down, self.up) if reference is not None else None
        side = prices.side if self.is_by_side else None
        return beyond(band, prices.price, reference, f"the band of the {self.reference}", side)


@dataclass(frozen=True)
class FillBand:
    """A trade must be near both the index and its mean (Drift)."""

    index: float
    mean: float

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`; the rule's window is of the index."""
        if prices.index is None or not prices.window.steps:
            return None
        band = bands.fill_band(prices.index, prices.window.mean, self.index, self.mean)
        return beyond(band, prices.price, prices.index, "the bands of the index and its mean")


@dataclass(frozen=True)
class MakerBand:
    """The maker of a trade, on the other side of the taker, must not be this far beyond the index (Drift)."""

    fraction: float

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        if prices.index is None or prices.side is None:
            return None
        maker = SELL if prices.side == BUY else BUY
        return beyond(bands.maker_band(prices.index, self.fraction), prices.price, prices.index, "the maker's band", maker)


@dataclass(frozen=True)
class Protection:
    """How far a trade may be through the best price of the other side (PHLX)."""

    steps: tuple[tuple[float | None, float], ...]

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        contra = (prices.ask if prices.side == BUY else prices.bid) if prices.has_book else None
        if contra is None or prices.side is None:
            return None
        band = bands.protection(contra, prices.side, self.steps)
        return beyond(band, prices.price, contra, "the protection of the best contra price")


@dataclass(frozen=True)
class Range:
    """Multiples of the window's mean, with their own for each side (Binance)."""

    bid: tuple[float, float]
    ask: tuple[float, float]

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        if not prices.window.steps:
            return None
        mean = prices.window.mean
        band = bands.multiplied(mean, self.ask if prices.side == SELL else self.bid)
        return beyond(band, prices.price, mean, "the range of executions")


@dataclass(frozen=True)
class Variation:
    """A distance from the last price, in ticks or in price, to the taker's advantage, disadvantage, or both."""

    limit: float
    where: str
    ticks: tuple[tuple[float, float | None, float], ...] | None

    def is_beyond(self, distance: float, counts: bool) -> bool:
        """Whether a distance counts, and is at the limit or beyond it."""
        return counts and distance >= self.limit

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        if prices.last is None or prices.price is None or prices.side is None:
            return None
        distance, counts = bands.variation(prices.side, prices.last, prices.price, self.where, self.ticks)
        if not self.is_beyond(distance, counts):
            return None
        unit = "" if self.ticks is None else " ticks"
        reason = f"{prices.price:.10g} is {distance:.10g}{unit} from {prices.last:.10g}, and {self.limit:g} are too many"
        return Break(prices.price, prices.last, None, None, reason)


@dataclass(frozen=True)
class Dynamic:
    """A percentage of the settlement above the lowest and below the highest of the window (CME)."""

    fraction: float
    tick: float
    halt_s: float
    late_halt_s: float  # in the last five minutes before the settlement

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`; the window has the prices before this one."""
        settlement = prices.fixings.get("settlement")
        if settlement is None or not prices.window.steps:
            return None
        variant = bands.whole_ticks(settlement, self.fraction, self.tick)
        band = bands.dynamic_band(variant, prices.window.high, prices.window.low)
        return beyond(band, prices.price, settlement, f"{variant:.10g} from the extremes of the window")


@dataclass(frozen=True)
class SessionLimit:
    """Limits by references of earlier times (CME's equity index futures)."""

    up: tuple[tuple[str, float], ...]
    down: tuple[tuple[str, float], ...]

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        if any(name not in prices.fixings for name, _ in (*self.up, *self.down)):
            return None
        band = bands.session_band(prices.fixings, self.up, self.down)
        return beyond(band, prices.price, prices.fixings[(*self.up, *self.down)[0][0]], "the limits of the session")


@dataclass(frozen=True)
class MarketWide:
    """Falls below the last settlement; each level breaks once between two settlements (NYSE rule 7.12)."""

    levels: tuple[tuple[float, float | None], ...]  # fraction, halt_s: None is until the next settlement

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`: the deepest level that is reached."""
        close = prices.fixings.get("settlement")
        if close is None or prices.price is None:
            return None
        for level in range(len(self.levels), 0, -1):
            fraction, halt_s = self.levels[level - 1]
            limit = bands.fallen(close, fraction)
            if prices.price <= limit:
                reason = f"{prices.price:.10g} is at level {level}, {limit:.10g}: {fraction:.4g} below {close:.10g}"
                return Break(prices.price, close, limit, None, reason, halt_s, level)
        return None


@dataclass(frozen=True)
class Deviation:
    """A factor between two successive prices (Synthetix)."""

    factor: float

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        if prices.last is None:
            return None
        return beyond(bands.deviation_band(prices.last, self.factor), prices.price, prices.last, "the factor to the last price")


@dataclass(frozen=True)
class Volatility:
    """The realised volatility of the window, per year."""

    most: float

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`; the window has this price."""
        volatility = prices.window.volatility
        if volatility is None or volatility <= self.most:
            return None
        return Break(volatility, None, None, self.most, f"the volatility is {volatility:.4g} a year, more than {self.most:g}")


@dataclass(frozen=True)
class Luld:
    """Limit Up-Limit Down: a quote at its band, or a trade beyond it, is a limit state; a limit state that lasts is a pause."""

    steps: tuple[LuldStep, ...]
    tier: int
    leverage: float
    update_fraction: float  # the mean becomes the new reference if it differs by this
    update_ms: int  # a reference stands at least this long

    def band(self, reference: float, period: str = "normal") -> Band:
        """The band round a reference price."""
        return bands.luld_band(reference, self.steps, self.tier, period, self.leverage)

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`; `prices.fixings` has the reference, and `has_book` is False if the trade is newer than the book."""
        reference = prices.fixings.get("reference")
        if reference is None:
            return None
        lower, upper, _ = band = self.band(reference)
        if not prices.has_book:
            return beyond(band, prices.price, reference, "its bands")
        assert lower is not None
        assert upper is not None
        if prices.ask is not None and prices.ask <= lower:
            return Break(
                prices.ask, reference, lower, upper, f"the best ask {prices.ask:.10g} is at the lower band {lower:.10g}"
            )
        if prices.bid is not None and prices.bid >= upper:
            return Break(
                prices.bid, reference, lower, upper, f"the best bid {prices.bid:.10g} is at the upper band {upper:.10g}"
            )
        return None


@dataclass(frozen=True)
class Spread:
    """A spread of more than a fraction of the middle.  A side without quotes breaks the rule, too."""

    most: float

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        if not prices.has_book:
            return None
        bid, ask = prices.bid, prices.ask
        if bid is None or ask is None:
            side = "bid" if bid is None else "ask"
            return Break(None, None, None, self.most, f"the book has no {side}")
        spread = (ask - bid) / ((ask + bid) / 2)
        if spread <= self.most:
            return None
        return Break(
            spread, (ask + bid) / 2, None, self.most, f"the spread is {spread:.4g} of the middle, more than {self.most:g}"
        )


@dataclass(frozen=True)
class DepthCollapse:
    """The smaller side of the book near its middle is less than a fraction of its mean over the window."""

    within: float  # fraction of the middle
    least: float  # fraction of the mean

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`; the window has the figures of the book's depth."""
        if prices.depth is None or len(prices.window.steps) < 3:
            return None
        mean = prices.window.mean
        if not prices.depth < self.least * mean:
            return None
        reason = f"the book has {prices.depth:.6g} near its middle, less than {self.least:g} of its mean {mean:.6g}"
        return Break(prices.depth, mean, self.least * mean, None, reason)


@dataclass(frozen=True)
class OracleFault:
    """Several sources of an oracle have faults of some kinds at once.  A single one is simply left out of the price."""

    kinds: tuple[str, ...]
    least: int  # sources

    def check(self, prices: Prices) -> Break | None:
        """As `Condition`."""
        faults = sorted(fault for fault in prices.faults if fault.rpartition("/")[2] in self.kinds)
        sources = {fault.rpartition("/")[0] for fault in faults}
        if len(sources) < self.least:
            return None
        reason = f"sources of the oracle with faults: {', '.join(faults)}"
        return Break(float(len(sources)), None, None, float(self.least - 1), reason)


def depth_near_middle(bids: Sequence[Sequence[float]], asks: Sequence[Sequence[float]], within: float) -> float:
    """The smaller of the sizes that both sides, best first, offer within a fraction of the middle; 0 where a side is empty."""
    if not bids or not asks:
        return 0.0
    middle = (bids[0][0] + asks[0][0]) / 2
    return min(
        sum(size for price, size in bids if price >= middle * (1 - within)),
        sum(size for price, size in asks if price <= middle * (1 + within)),
    )

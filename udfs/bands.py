"""Price bands and limits as venues publish them: from reference prices to the prices that are allowed.

Prices are floats in the quote currency of the instrument.  The calculations use decimals with the digits that a venue would
show: 2448.65 and 20 % give 2938.38, not 2938.3800000000001.  Percentages are fractions: 0.05 is 5 %.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import NamedTuple

BUY, SELL = "buy", "sell"
ADVANTAGE, DISADVANTAGE, BOTH = "advantage only", "disadvantage only", "both"
CENT = Decimal("0.01")

TickTable = Sequence[tuple[float, float | None, float]]
"""From, up to (None: without end), tick."""


class Band(NamedTuple):
    """The prices that are allowed, from `lower` to `upper`; None is no limit."""

    lower: float | None
    upper: float | None
    is_edge_out: bool = False  # whether a price at the limit counts as beyond it

    def is_broken(self, price: float, side: str | None = None) -> bool:
        """Whether a price is beyond.  With a side only one limit counts: a buy's upper, a sell's lower."""
        is_above = self.upper is not None and (price >= self.upper if self.is_edge_out else price > self.upper)
        is_below = self.lower is not None and (price <= self.lower if self.is_edge_out else price < self.lower)
        return (is_above and side != SELL) or (is_below and side != BUY)


class LuldStep(NamedTuple):
    """The percentage parameter of reference prices above `least`; with `is_least_in` also of `least` itself."""

    least: float
    is_least_in: bool
    fractions: Mapping[int, float]  # by tier
    amount: float | None  # the lesser of this and the fraction counts
    doubled: Mapping[str, frozenset[int]]  # tiers for which it is doubled, by period


def exact(number: float) -> Decimal:
    """The decimal with the digits in which a float is written."""
    return Decimal(repr(float(number)))


@lru_cache(4096)
def around(reference: float, down: float, up: float | None = None, is_edge_out: bool = False) -> Band:
    """A band of fractions round a price.

    Mark ± 5 %: https://docs.paradex.trade/risk/price-bands; index ± 20 %, the highest buy and the lowest sell:
    https://blog.okex.com/2017/07/16/how-okex-sets-order-price-limits/
    """
    middle = exact(reference)
    return Band(float(middle * (1 - exact(down))), float(middle * (1 + exact(down if up is None else up))), is_edge_out)


def capped(band: Band, side: str, price: float | None) -> float | None:
    """The limit price of an order under a band: its own, or the band's if it has none.  None if the order is rejected.

    A band stops aggressive prices only: https://docs.paradex.trade/risk/price-bands
    """
    if price is None:
        return band.upper if side == BUY else band.lower
    return None if band.is_broken(price, side) else price


def multiplied(reference: float, multipliers: Sequence[float]) -> Band:
    """The range of executions of one side: the reference times the lower and the upper multiplier.

    https://developers.binance.com/docs/binance-spot-api-docs/faqs/price_range_execution_rules
    """
    lower, upper = multipliers
    return Band(float(exact(reference) * exact(lower)), float(exact(reference) * exact(upper)))


def maker_band(oracle: float, fraction: float) -> Band:
    """How far beyond the oracle a maker may buy or sell.  A price at the band is beyond.  `is_broken` takes the maker's side.

    Drift protocol v2, math/orders.rs, limit_price_breaches_maker_oracle_price_bands.
    """
    return around(oracle, fraction, is_edge_out=True)


def fill_band(oracle: float, mean: float, oracle_fraction: float, mean_fraction: float) -> Band:
    """The prices of fills that are near enough to both the oracle and its mean of five minutes.  A price at a band is beyond.

    Drift protocol v2, math/orders.rs, validate_fill_price_within_price_bands.
    """
    return both(around(oracle, oracle_fraction, is_edge_out=True), around(mean, mean_fraction, is_edge_out=True))


def both(first: Band, second: Band) -> Band:
    """The prices within two bands, both with the same `is_edge_out`."""
    lowers = [band.lower for band in (first, second) if band.lower is not None]
    uppers = [band.upper for band in (first, second) if band.upper is not None]
    return Band(max(lowers, default=None), min(uppers, default=None), first.is_edge_out)


@lru_cache(4096)
def deviation_band(last: float, factor: float) -> Band:
    """The prices that differ from `last` by less than a factor, up or down.  A price at the factor is beyond.

    Synthetix's CircuitBreaker: https://docs.synthetix.io/contracts/source/contracts/circuitbreaker
    """
    return Band(float(exact(last) / exact(factor)), float(exact(last) * exact(factor)), True)


def protection(contra: float, side: str, steps: Sequence[tuple[float | None, float]]) -> Band:
    """How far through the best contra price an order may be priced, by steps: (up to this contra price, fraction).

    Nasdaq PHLX Order Price Protection: 100 % through a contra price of at most 1.00, 50 % through a higher one.
    """
    fraction = next(share for most, share in steps if most is None or contra <= most)
    band = around(contra, fraction)
    return Band(None, band.upper) if side == BUY else Band(band.lower, None)


def luld_band(reference: float, steps: Sequence[LuldStep], tier: int, period: str = "normal", leverage: float = 1) -> Band:
    """The bands of Limit Up-Limit Down round a reference price, to the cent.  The lower one is not below 0.

    Plan to Address Extraordinary Market Volatility (https://www.luldplan.com), section V and appendix A.  A leveraged product
    has its percentage times its leverage.  `period` is normal, opening (the first 15 minutes) or closing (the last 25).
    """
    step = next(step for step in steps if reference > step.least or (step.is_least_in and reference == step.least))
    middle = exact(reference)
    distance = middle * exact(step.fractions[tier])
    if step.amount is not None:
        distance = min(distance, exact(step.amount))
    if tier in step.doubled.get(period, ()):
        distance *= 2
    distance *= exact(leverage)
    lower, upper = ((middle + way * distance).quantize(CENT, ROUND_HALF_UP) for way in (-1, 1))
    return Band(float(max(lower, Decimal(0))), float(upper))


@lru_cache(4096)
def fallen(close: float, fraction: float, rounding: str = "nearest") -> float:
    """The level of a market-wide breaker: a fraction below the close, rounded to the cent, `nearest` or `down`.

    7, 13 and 20 % below the last close of the S&P 500: NYSE rule 7.12.
    """
    level = exact(close) * (1 - exact(fraction))
    return float(level.quantize(CENT, ROUND_DOWN if rounding == "down" else ROUND_HALF_UP))


@lru_cache(4096)
def whole_ticks(amount: float, fraction: float, tick: float) -> float:
    """A fraction of an amount, cut to whole ticks."""
    return float(exact(amount) * exact(fraction) // exact(tick) * exact(tick))


@lru_cache(4096)
def dynamic_band(variant: float, window_high: float, window_low: float) -> Band:
    """The prices that are at most `variant` above the lowest and below the highest of a rolling window.

    CME Dynamic Circuit Breakers: the variant is a percentage of the settlement of the day before, cut to a tick
    (`whole_ticks`), the window 60 minutes:
    https://www.cmegroup.com/globex/trade-on-cme-globex/frequently-asked-questions-dynamic-circuit-breakers.html
    """
    return Band(float(exact(window_high) - exact(variant)), float(exact(window_low) + exact(variant)))


def session_band(references: Mapping[str, float], up: Sequence[tuple[str, float]], down: Sequence[tuple[str, float]]) -> Band:
    """The limits of a session by references of earlier times: the lowest of those above, the highest of those below.

    Each limit is (reference, fraction).  CME, equity index futures after 3 p.m.: up 7 %, down the higher of 7 %
    since 3 p.m. and 20 % of the day: https://cmegroup.com/trading/equity-index/faq-sp-500-price-limits.html
    """
    uppers = [float(exact(references[name]) * (1 + exact(fraction))) for name, fraction in up]
    lowers = [float(exact(references[name]) * (1 - exact(fraction))) for name, fraction in down]
    return Band(max(lowers, default=None), min(uppers, default=None))


def ticks_between(table: TickTable, first: float, second: float) -> float:
    """How many ticks two prices are apart, over every step of the tick table between them; a part of a tick is a fraction."""
    low, high = sorted((exact(first), exact(second)))
    count = Decimal(0)
    for start, end, tick in table:
        bottom = max(low, exact(start))
        top = high if end is None else min(high, exact(end))
        if top > bottom:
            count += (top - bottom) / exact(tick)
    return float(count)


def variation(side: str, reference: float, price: float, where: str, table: TickTable | None = None) -> tuple[float, bool]:
    """How far an order's price is from a reference, in ticks, or in price without a table; and whether this direction counts.

    A buy below the reference, or a sell above it, has the advantage.  A price at the limit is beyond it:
    https://github.com/xunigel/code-exam, price-variation-limiter.md
    """
    distance = float(abs(exact(price) - exact(reference))) if table is None else ticks_between(table, reference, price)
    is_advantage = price < reference if side == BUY else price > reference
    counts = {ADVANTAGE: is_advantage, DISADVANTAGE: not is_advantage, BOTH: True}[where]
    return distance, counts

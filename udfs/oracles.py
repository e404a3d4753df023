"""One price from the prices of many: the rules by which oracles and venues make their index, and our own.

Pyth        of each quote price − confidence, price and price + confidence, sorted: the price is their median, the confidence
            the larger distance from there to the quartiles (pyth-client, `upd_aggregate`)
Chainlink   the item n // 2 of the sorted observations (libocr, `median.go`)
Deribit     a mean of prices, each first capped at a share from their median (Deribit, "Index Prices"; BitMEX and FTX alike)
Our own     `weighted_median`

Sums and medians are taken in the order of the sorted values, so that the order of arrival changes no digit.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

Number = TypeVar("Number", int, float)

LATEST_SLOTS = 25
"""Pyth, PC_MAX_SEND_LATENCY: a quote counts for so many slots."""
TRADING = 1
"""Pyth, PC_STATUS_TRADING."""


class Spread(NamedTuple):
    """A price, and how far the middle half of what it was made of reaches on the wider side."""

    price: float
    confidence: float


class SlotQuote(NamedTuple):
    """What a publisher of Pyth sends, in whole numbers of its exponent."""

    price: int
    confidence: int
    status: int
    slot: int


class SlotPrice(NamedTuple):
    """Pyth's aggregate; price and confidence are None where too few quotes count."""

    price: int | None
    confidence: int | None
    used: list[int]  # places of the quotes that count


class Capped(NamedTuple):
    """A mean of capped prices."""

    median: float
    capped: list[float]  # in the order of the prices
    mean: float


class Quote(NamedTuple):
    """A source's price as `weighted_median` takes it."""

    price: float
    confidence: float  # half width of its interval, capped, in the unit of the price
    weight: float  # capped, before quality
    quality: float = 1.0  # from 0 to 1, by what is known of the source alone: deviation comes in here


class Weighted(NamedTuple):
    """What `weighted_median` answers; the lists are in the order of the quotes."""

    price: float
    confidence: float
    middle: float  # the median by weights alone, from which deviations are measured
    deviations: list[float]  # fractions of the middle
    weights: list[float]  # shares of the whole, 0 for a source that is left out as too far away


def of_intervals(prices: Sequence[Number], confidences: Sequence[Number]) -> tuple[Number, Number] | None:
    """Median and wider quartile distance of the ends and middles of intervals; None without any (Pyth's price model).

    Whole numbers stay whole: the mean of two middle items is rounded down.
    """
    items = sorted(
        item
        for price, confidence in zip(prices, confidences, strict=True)
        for item in (price - confidence, price, price + confidence)
    )
    if not items:
        return None
    price = middle(items)
    quarter = len(items) >> 2
    return price, max(price - items[quarter], items[len(items) - 1 - quarter] - price)


def middle(items: Sequence[Number]) -> Number:
    """The median of sorted items; of an even number of whole ones rounded down."""
    half = len(items) // 2
    if len(items) % 2:
        return items[half]
    total = items[half - 1] + items[half]
    return total // 2 if isinstance(total, int) else total / 2


def pyth_aggregate(quotes: Sequence[SlotQuote], slot: int, least: int = 1, latest_slots: int = LATEST_SLOTS) -> SlotPrice:
    """Pyth's price in a slot.

    A quote counts while its publisher trades, with a confidence above 0, at most `latest_slots` old and not from the future,
    where its interval fits 64 bits.
    """
    used = [
        index
        for index, quote in enumerate(quotes)
        if quote.status == TRADING
        and quote.confidence > 0
        and -(2**63) + quote.confidence <= quote.price < 2**63 - quote.confidence
        and 0 <= slot - quote.slot <= latest_slots
    ]
    if len(used) < max(least, 1):
        return SlotPrice(None, None, used)
    price = of_intervals([quotes[index].price for index in used], [quotes[index].confidence for index in used])
    assert price is not None
    return SlotPrice(*price, used)


def upper_median(prices: Iterable[Number]) -> Number | None:
    """The item n // 2 of the sorted prices: of two middle ones the greater; None without any (Chainlink)."""
    items = sorted(prices)
    return items[len(items) // 2] if items else None


def capped_mean(prices: Sequence[float], most_share: float, weights: Sequence[float] | None = None) -> Capped | None:
    """The mean of prices that are capped at a share of their median from it, by weights where there are any.

    None without prices, or where the weights add up to nothing.
    """
    if not prices:
        return None
    median = middle(sorted(prices))
    low, high = sorted((median * (1 - most_share), median * (1 + most_share)))
    capped = [min(max(price, low), high) for price in prices]
    mean = weighted_mean(capped, [1.0] * len(capped) if weights is None else weights)
    return None if mean is None else Capped(median, capped, mean)


def weighted_mean(prices: Sequence[float], weights: Sequence[float]) -> float | None:
    """Σ weight · price / Σ weight, by depth of the book for instance; None where the weights add up to nothing."""
    total = math.fsum(weights)
    if not total > 0:
        return None
    return math.fsum(price * weight for price, weight in zip(prices, weights, strict=True)) / total


def weighted_quantile(items: Iterable[tuple[float, float]], share: float) -> float | None:
    """The least value up to which the weights make more than a share of all; where they make just that, the mean with the next.

    `items` are pairs of value and weight; None where the weights add up to nothing.
    """
    ordered = sorted(item for item in items if item[1] > 0)
    bound = share * math.fsum(weight for _, weight in ordered)
    reached = 0.0
    for index, (value, weight) in enumerate(ordered):
        reached += weight
        if reached > bound:
            return value
        if reached == bound and index + 1 < len(ordered):
            return value + (ordered[index + 1][0] - value) / 2
    return ordered[-1][0] if ordered else None


def weighted_median(quotes: Sequence[Quote], most_deviation: float, half_deviation: float) -> Weighted | None:
    """Our own rule: the weighted median of price − confidence, price and price + confidence.  None without any weight.

    Weights are used twice.  Before quality they bound the answer: it is between the weighted median of the lower ends and that
    of the upper ends.  So while those who lie have less than half of the weight, the price is within the range of the honest
    prices ± their confidence, whatever quality says.  Within these bounds quality decides: the median by weight · quality,
    where a source loses half of its own at `half_deviation` from the middle, and all of it beyond `most_deviation`.  Both are
    fractions of the middle.

    The confidence is the larger distance to the weighted quartiles of the same items.
    """
    plain = [(quote.price, quote.confidence, quote.weight) for quote in quotes]
    lowest = weighted_quantile(((price - confidence, weight) for price, confidence, weight in plain), 0.5)
    highest = weighted_quantile(((price + confidence, weight) for price, confidence, weight in plain), 0.5)
    centre = weighted_quantile(_thrice(plain), 0.5)
    if lowest is None or highest is None or centre is None:
        return None
    deviations = [quote.price / centre - 1.0 if centre else 0.0 for quote in quotes]
    rated = [
        quote.weight * quote.quality / (1.0 + abs(deviation) / half_deviation) if abs(deviation) <= most_deviation else 0.0
        for quote, deviation in zip(quotes, deviations, strict=True)
    ]
    if not any(rated):
        # Each is far from the middle, as two are that disagree: so all of them count, with a wide confidence.
        rated = [quote.weight for quote in quotes]
    items = list(_thrice((quote.price, quote.confidence, weight) for quote, weight in zip(quotes, rated, strict=True)))
    low, half, high = (weighted_quantile(items, share) or 0.0 for share in (0.25, 0.5, 0.75))
    price = min(max(half, lowest), highest)
    total = math.fsum(rated)
    return Weighted(price, max(price - low, high - price), centre, deviations, [weight / total for weight in rated])


def _thrice(quotes: Iterable[tuple[float, float, float]]) -> Iterable[tuple[float, float]]:
    for price, confidence, weight in quotes:
        yield price - confidence, weight
        yield price, weight
        yield price + confidence, weight

"""Indices: the currency of each, and the choice of the index that values a contract or a coin.

An index is a series of prices of one underlying, by one publisher, in one currency.  USD, USDC and USDT are three currencies:
in March 2023 a USDC was worth 0.88 USD.  No series, average or guard mixes two of them.

Currency  a contract's own currency is USD if it is inverse or quoted in its underlying, else its quote currency; that of a coin
          held as cash is USD
Choice    the index in that own currency, else in USD, else in USDC, else in USDT.  The currency is chosen first and the
          publisher then: another venue's index in the right currency is better than the venue's own in a wrong one
Venue     of the series in that currency the contract's own venue; without one, or for a coin held as cash, the middle one of
          those whose newest price is at most `LAG_MS` older than the newest of them (of an even number the lower of the two)
Silent    a series whose newest price is a day older than the newest of its underlying does not count
Newest    of the prices of a series the latest counts, of two at one instant the greater.  An index price in a ticker is a price
          of that venue's series in the currency of the ticker's contract
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

USD = "USD"
DOLLARS = (USD, "USDC", "USDT")
"""The currencies of an index, the first choice first."""

SILENT_MS = 24 * 60 * 60 * 1000
LAG_MS = 60_000
"""A middle of prices that are minutes apart would lag the market."""

Index = TypeVar("Index")


class Ordered(Protocol):
    """A float or a Decimal."""

    def __lt__(self, other: Any, /) -> bool: ...


Number = TypeVar("Number", bound=Ordered)


class Series(NamedTuple):
    """The prices of one underlying, by one publisher, in one currency."""

    venue: str
    underlying: str
    quote: str

    @property
    def name(self) -> str:
        """The name in a kernel's entries: venue:underlying, followed by the currency if that is not USD."""
        return named(f"{self.venue}:{self.underlying}", self.quote)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Series":
        """The series of a row of `index_prices`."""
        return cls(row["venue"], row["underlying"], quoted_in(row))

    @classmethod
    def of_name(cls, name: str) -> "Series":
        """The series with this name."""
        venue, _, rest = name.partition(":")
        return cls(venue, *split_name(rest))


def named(name: str, quote: str) -> str:
    """A name, followed by the currency if that is not USD: BTC, BTC:USDC."""
    return name if quote == USD else f"{name}:{quote}"


def split_name(name: str) -> tuple[str, str]:
    """The underlying and the currency of a name without a venue."""
    underlying, _, quote = name.partition(":")
    return underlying, quote or USD


def quoted_in(row: Mapping[str, Any]) -> str:
    """The currency of a row of `index_prices`."""
    return row.get("quote_currency") or USD


def own_currency(terms: Mapping[str, Any]) -> str:
    """The currency of the index that values a contract, by a row of `instruments`."""
    quote: str = terms["quote_currency"]
    return USD if terms["is_inverse"] or quote == terms["underlying"] else quote


@cache
def preference(own: str) -> tuple[str, ...]:
    """The currencies of an index that may value contracts in the currency `own`, the first choice first."""
    return (own, *(quote for quote in DOLLARS if quote != own))


def chosen_currency(newest_ms: Mapping[str, int], own: str) -> str | None:
    """The currency of the index that values contracts in the currency `own`; None if there is none.

    `newest_ms` has the event time of the newest price of an underlying, by the currency of the index.
    """
    silent_ms = max(newest_ms.values(), default=0) - SILENT_MS
    for quote in preference(own):
        if quote in newest_ms and newest_ms[quote] > silent_ms:
            return quote
    return None


def chosen(series: Iterable[tuple[Index, str, int]], own: str) -> list[Index]:
    """The indices that value contracts in the currency `own`: all of one currency, and none of them silent.

    `series` are those of one underlying, each with its currency and the event time of its newest price in ms.
    """
    all_series = list(series)
    newest_ms: dict[str, int] = {}
    for _, quote, event_ms in all_series:
        newest_ms[quote] = max(event_ms, newest_ms.get(quote, event_ms))
    silent_ms = max(newest_ms.values(), default=0) - SILENT_MS
    currency = chosen_currency(newest_ms, own)
    return [index for index, quote, event_ms in all_series if quote == currency and event_ms > silent_ms]


def value(prices: Iterable[tuple[Series, int, Number]], own: str, venue: str | None = None) -> Number | None:
    """The index that values a contract of a venue, or without a venue a coin; None if there is none.

    `prices` are those of one underlying, each with its series and the event time in ms of the series' newest price; of one
    series the newest counts.  `own` is the currency of the contract or coin.
    """
    newest: dict[Series, tuple[int, Number]] = {}
    for series, event_ms, price in prices:
        known = newest.get(series)
        if known is None or supersedes(event_ms, price, *known):
            newest[series] = event_ms, price
    counted = chosen(((series, series.quote, event_ms) for series, (event_ms, _) in newest.items()), own)
    for series in counted:
        if series.venue == venue:
            return newest[series][1]
    latest_ms = max((newest[series][0] for series in counted), default=0)
    current = [newest[series][1] for series in counted if newest[series][0] >= latest_ms - LAG_MS]
    return sorted(current)[(len(current) - 1) // 2] if current else None


def supersedes(event_ms: int, price: Number, known_ms: int, known: Number) -> bool:
    """Whether a price of a series replaces the known one."""
    return event_ms > known_ms or (event_ms == known_ms and known < price)


class Price(NamedTuple):
    """The newest price of a series."""

    event_ms: int
    price: float


class Indices:
    """The newest price of each series."""

    def __init__(self) -> None:
        self.prices: dict[str, dict[Series, Price]] = {}  # by underlying

    def __iter__(self) -> Iterator[Series]:
        return (series for prices in self.prices.values() for series in prices)

    def get(self, series: Series) -> Price | None:
        """The newest price of a series; None if there is none."""
        return self.prices.get(series.underlying, {}).get(series)

    def put(self, series: Series, price: Price) -> None:
        """Set the price of a series, whatever it was."""
        self.prices.setdefault(series.underlying, {})[series] = price

    def learn(self, series: Series, price: Price) -> bool:
        """Set the price of a series if it is the newest; returns whether it is."""
        known = self.get(series)
        if known is not None and not supersedes(price.event_ms, price.price, *known):
            return False
        self.put(series, price)
        return True

    def of_underlying(self, underlying: str) -> list[tuple[Series, int, float]]:
        """The prices of an underlying, as arguments of `value`."""
        return [(series, *price) for series, price in self.prices.get(underlying, {}).items()]

    def value(self, underlying: str, own: str, venue: str | None = None) -> float | None:
        """The index that values a contract of a venue, or with no venue a coin; None where there is none."""
        return value(self.of_underlying(underlying), own, venue)

    def forget(self, until_ms: int) -> list[Series]:
        """Forget the series without a price after `until_ms`; returns them."""
        silent = [series for series in self if (price := self.get(series)) and price.event_ms <= until_ms]
        for series in silent:
            del self.prices[series.underlying][series]
            if not self.prices[series.underlying]:
                del self.prices[series.underlying]
        return silent

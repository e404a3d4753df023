"""Indices: in which currency each one is quoted, and which of them values a contract or a coin.

An index is a series of prices of one underlying, by one publisher, in one currency.  USD, USDC and USDT are three currencies:
in March 2023 a USDC was worth 0.88 USD.  No series, average or guard mixes two of them.

Currency  a contract's own is USD where it is inverse or quoted in its underlying, else the one that it is quoted in; that of
          a coin held as cash is USD
Choice    the index in that own currency, else in USD, else in USDC, else in USDT.  The currency is chosen first and the
          publisher then: another venue's index in the right currency is better than the venue's own in a wrong one
Silent    a series whose newest price is a day older than the newest of its underlying does not count
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

USD = "USD"
DOLLARS = (USD, "USDC", "USDT")
"""The currencies of an index, the first choice first."""

SILENT_MS = 24 * 60 * 60 * 1000

Index = TypeVar("Index")


class Series(NamedTuple):
    """Whose prices of what, and in what."""

    venue: str
    underlying: str
    quote: str

    @property
    def name(self) -> str:
        """As a kernel's entries are called: venue:underlying, with the currency behind it where that is not USD."""
        return named(f"{self.venue}:{self.underlying}", self.quote)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Series":
        """The series of a row of `index_prices`."""
        return cls(row["venue"], row["underlying"], quoted_in(row))

    @classmethod
    def of_name(cls, name: str) -> "Series":
        """The series that `name` names."""
        venue, _, rest = name.partition(":")
        return cls(venue, *parted(rest))


def named(name: str, quote: str) -> str:
    """A name with the currency behind it where that is not USD: BTC, BTC:USDC."""
    return name if quote == USD else f"{name}:{quote}"


def parted(name: str) -> tuple[str, str]:
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
    """The currencies in which an index may value what is valued in its own one, the first choice first."""
    return (own, *(quote for quote in DOLLARS if quote != own))


def chosen_currency(newest_ms: Mapping[str, int], own: str) -> str | None:
    """The currency whose index values what is valued in its own one; None where there is none.

    `newest_ms` has the event time of the newest price of an underlying, by the currency of the index.
    """
    silent_ms = max(newest_ms.values(), default=0) - SILENT_MS
    for quote in preference(own):
        if quote in newest_ms and newest_ms[quote] > silent_ms:
            return quote
    return None


def chosen(series: Iterable[tuple[Index, str, int]], own: str) -> list[Index]:
    """Those that value what is valued in a currency: all of one currency, and none of them silent.

    `series` are those of one underlying, each with its currency and the event time of its newest price in ms.
    """
    known = list(series)
    newest_ms: dict[str, int] = {}
    for _, quote, event_ms in known:
        newest_ms[quote] = max(event_ms, newest_ms.get(quote, event_ms))
    silent_ms = max(newest_ms.values(), default=0) - SILENT_MS
    currency = chosen_currency(newest_ms, own)
    return [index for index, quote, event_ms in known if quote == currency and event_ms > silent_ms]

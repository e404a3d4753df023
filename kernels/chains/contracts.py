"""The futures and options of each underlying with their newest bid and ask, in arrays, for forwards and surfaces.

Entries  quote/<venue:instrument>: terms and newest quote of one future or option; freed at its expiry
         chain/<venue:underlying>: the kernel's state of the whole chain
Newest   terms and quotes by the rules of `kernels.market`
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.contract import Message
from kernels.market import indices, quotes, terms
from kernels.market.quotes import Quote
from schemas.rows import key

QUIET_MS = 24 * 60 * 60 * 1000
"""An underlying without a quote for this long is forgotten, except its contracts."""

ROW = np.dtype(
    [
        ("terms_ms", "i8"),
        ("is_option", "?"),
        ("is_call", "?"),
        ("in_coin", "?"),  # quoted in the underlying
        ("strike_usd", "f8"),  # NaN for a future
        ("expiry_ms", "i8"),
        ("currency", "U16"),  # of the index that values it
        ("quote_ms", "i8"),  # 0 before the first
        ("bid", "f8"),  # NaN where there is none
        ("ask", "f8"),
        ("is_stale", "?"),
        ("fit_iv", "f8"),  # middle volatility when the surface was last fitted; NaN if it was left out
    ]
)
TERMS = 7
"""The number of fields that are terms."""


class Underlying(NamedTuple):
    """The underlying of contracts."""

    venue: str
    currency: str

    @property
    def entry(self) -> str:
        """The name of the entry of the whole chain."""
        return f"chain/{self.venue}:{self.currency}"


class Sorted(NamedTuple):
    """The contracts of an underlying by expiry, strike, currency of the quote, type and name."""

    slots: NDArray[np.int64]
    puts: NDArray[np.int64]  # slots of puts with a call of the same strike and expiry
    calls: NDArray[np.int64]  # of those calls
    currencies: list[str]  # of the indices that value them, the first choice first
    currency: NDArray[np.int64]  # of each contract, by its slot, the index in these


class Contracts:
    """The contracts of one underlying."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.slots: dict[str, int] = {}
        self._room = np.zeros(16, ROW)
        self._sorted: Sorted | None = None

    @property
    def rows(self) -> NDArray[Any]:
        """One `ROW` a contract, at its slot."""
        return self._room[: len(self.names)]

    def add(self, name: str, values: tuple[Any, ...]) -> None:
        """Add a contract, or replace a known one."""
        slot = self.slots.get(name)
        if slot is None:
            slot = self.slots[name] = len(self.names)
            self.names.append(name)
            if slot == self._room.size:
                self._room = np.concatenate([self._room, np.zeros(slot, ROW)])
        self._room[slot] = values
        self._sorted = None

    def remove(self, name: str) -> None:
        """Forget a contract."""
        slot, last = self.slots.pop(name), self.names.pop()
        if last != name:
            self._room[slot] = self._room[len(self.names)]
            self.names[slot], self.slots[last] = last, slot
        self._sorted = None

    def sorted(self) -> Sorted:
        """The contracts in an order that does not depend on when they came."""
        if self._sorted is None:
            rows = self.rows
            order = np.lexsort((np.array(self.names), *(rows[field] for field in _ORDER)))
            before, after = rows[order[:-1]], rows[order[1:]]
            pairs = before["is_option"] & after["is_option"] & ~before["is_call"] & after["is_call"]
            for field in ("expiry_ms", "strike_usd", "in_coin", "currency"):
                pairs &= before[field] == after[field]
            known = set(rows["currency"].tolist())
            currencies = [quote for quote in indices.DOLLARS if quote in known]
            currencies += sorted(known - set(currencies))
            numbers = {quote: number for number, quote in enumerate(currencies)}
            currency = np.array([numbers[quote] for quote in rows["currency"].tolist()], dtype=np.int64)
            self._sorted = Sorted(order, order[:-1][pairs], order[1:][pairs], currencies, currency)
        return self._sorted


_ORDER = ("is_call", "in_coin", "currency", "strike_usd", "is_option", "expiry_ms")


class Quotes:
    """The contracts of a shard by underlying."""

    def __init__(self, touched: set[str]) -> None:
        self.touched = touched
        self.chains: dict[Underlying, Contracts] = {}
        self.underlyings: dict[str, Underlying] = {}  # by venue:instrument

    def take(self, messages: Sequence[Message], until_ms: int | None) -> set[Underlying]:
        """Apply the instruments, then tickers and tops, of checked messages; returns the underlyings that changed."""
        changed: set[Underlying] = set()
        for message in messages:
            if message.table == "instruments" and message.row["kind"] in ("option", "future"):
                self._learn(message.row, until_ms, changed)
        for quote in quotes.in_order(messages):
            if underlying := self.underlyings.get(quote.name):
                self._quote(underlying, quote, changed)
        return changed

    def _learn(self, row: dict[str, Any], until_ms: int | None, changed: set[Underlying]) -> None:
        name, learned = key("instruments", row), terms.from_row(row)
        if learned.expiry_ms is None or learned.expiry_ms <= (learned.published_ms if until_ms is None else until_ms):
            return
        underlying = Underlying(row["venue"], learned.underlying)
        is_option = learned.kind == "option"
        kept = (
            learned.published_ms,
            is_option,
            is_option and learned.option_type == "call",
            learned.quote_currency == learned.underlying,
            learned.strike_usd if is_option else np.nan,
            learned.expiry_ms,
            indices.own_currency(row)[:16],
        )
        quote: tuple[Any, ...] = (0, np.nan, np.nan, False, np.nan)
        if (before := self.underlyings.get(name)) is not None:
            known = self.chains[before].rows[self.chains[before].slots[name]].item()
            if not terms.supersedes((*kept, *underlying), (*known[:TERMS], *before)):
                return
            quote = known[TERMS:]
            if before != underlying:
                self._remove(name, before)
        self._add(name, underlying, kept + quote)
        self.touched.add("quote/" + name)
        changed.add(underlying)

    def _quote(self, underlying: Underlying, quote: Quote, changed: set[Underlying]) -> None:
        chain = self.chains[underlying]
        known = chain.rows[chain.slots[quote.name]]
        if quote.event_ms < known["quote_ms"]:
            return
        known["quote_ms"], known["is_stale"] = quote.event_ms, quote.is_stale
        known["bid"], known["ask"] = (np.nan if price is None else price for price in (quote.bid, quote.ask))
        self.touched.add("quote/" + quote.name)
        changed.add(underlying)

    def free(self, until_ms: int) -> None:
        """Forget the contracts that have expired, and the underlyings that have none left."""
        for underlying, chain in list(self.chains.items()):
            expired = chain.rows["expiry_ms"] <= until_ms
            if expired.any():
                for name in [chain.names[slot] for slot in np.flatnonzero(expired)]:
                    self.touched.add("quote/" + name)
                    self._remove(name, underlying)

    def quiet(self, until_ms: int) -> list[Underlying]:
        """Forget the quotes of underlyings that have had none for a day; returns those underlyings."""
        silent: list[Underlying] = []
        for underlying, chain in self.chains.items():
            rows = chain.rows
            if 0 < rows["quote_ms"].max() <= until_ms - QUIET_MS:
                rows["quote_ms"], rows["bid"], rows["ask"], rows["is_stale"], rows["fit_iv"] = 0, np.nan, np.nan, False, np.nan
                self.touched.update("quote/" + name for name in chain.names)
                silent.append(underlying)
        return silent

    def stored(self, name: str) -> list[Any] | None:
        """A contract as it is stored; None if it no longer exists."""
        underlying = self.underlyings.get(name)
        if underlying is None:
            return None
        chain = self.chains[underlying]
        return [*underlying, *chain.rows[chain.slots[name]].item()]

    def put(self, name: str, stored: list[Any]) -> None:
        """Restore a contract."""
        venue, currency, *values = stored
        self._add(name, Underlying(venue, currency), tuple(np.nan if value is None else value for value in values))

    def _add(self, name: str, underlying: Underlying, values: tuple[Any, ...]) -> None:
        self.chains.setdefault(underlying, Contracts()).add(name, values)
        self.underlyings[name] = underlying

    def _remove(self, name: str, underlying: Underlying) -> None:
        self.chains[underlying].remove(name)
        del self.underlyings[name]
        if not self.chains[underlying].names:
            del self.chains[underlying]
            self.touched.add(underlying.entry)


def with_currency(stored: list[Any]) -> list[Any]:
    """Convert a contract that was stored without the currency of its index: it is taken to be USD."""
    terms = 2 + TERMS - 1
    return [*stored[:terms], indices.USD, *stored[terms:]]

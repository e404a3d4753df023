"""The futures and options of each underlying with their newest bid and ask, in arrays: what forwards and surfaces are made of.

Entries  quote/<venue:instrument>: terms and newest quote of one future or option; freed at its expiry
         chain/<venue:underlying>: what the kernel keeps of the whole chain
Quote    the newest of `book_tops`, and of the `tickers` that speak of bid and ask, by exchange time; of both at one instant the
         book's, which knows if it is stale.  A ticker that says nothing of them leaves the quote and its time as they are
Order    a batch is taken in order of event time; the newest terms stand, and the newest quote
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.contract import Message
from kernels import indices
from schemas.rows import key, to_ms

QUIET_MS = 24 * 60 * 60 * 1000
"""An underlying without a quote for this long is forgotten, but for its contracts."""

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
        ("fit_iv", "f8"),  # middle volatility when the surface was last fitted; NaN where it took no part
    ]
)
TERMS = 7
"""How many of the fields are terms."""


class Underlying(NamedTuple):
    """What the contracts belong to."""

    venue: str
    currency: str

    @property
    def entry(self) -> str:
        """The name under which a kernel keeps what is the whole chain's."""
        return f"chain/{self.venue}:{self.currency}"


class Sorted(NamedTuple):
    """The contracts of an underlying by expiry, strike, currency of the quote, type and name."""

    slots: NDArray[np.int64]
    puts: NDArray[np.int64]  # slots of puts with a call of the same strike and expiry
    calls: NDArray[np.int64]  # of those calls
    currencies: list[str]  # of the indices that value them, the first choice first
    currency: NDArray[np.int64]  # of each contract, by its slot, the place among these


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
        """A contract, or what a known one has become."""
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
            places = {quote: place for place, quote in enumerate(currencies)}
            currency = np.array([places[quote] for quote in rows["currency"].tolist()], dtype=np.int64)
            self._sorted = Sorted(order, order[:-1][pairs], order[1:][pairs], currencies, currency)
        return self._sorted


_ORDER = ("is_call", "in_coin", "currency", "strike_usd", "is_option", "expiry_ms")


class Quotes:
    """The contracts of a shard by underlying."""

    def __init__(self, touched: set[str]) -> None:
        self.touched = touched
        self.chains: dict[Underlying, Contracts] = {}
        self.of: dict[str, Underlying] = {}  # by venue:instrument

    def take(self, messages: Iterable[Message], until_ms: int | None) -> set[Underlying]:
        """Apply the instruments, then tickers and tops, of checked messages; gives the underlyings that they changed."""
        changed: set[Underlying] = set()
        quotes: list[tuple[int, str, str, int, int, dict[str, Any]]] = []
        for message in messages:
            if message.table == "instruments":
                if message.row["kind"] in ("option", "future"):
                    self._learn(message.row, until_ms, changed)
            elif message.table == "book_tops" or (message.table == "tickers" and has_quote(message.row)):
                row = message.row
                rank = "1" if message.table == "book_tops" else "0"
                name = row["venue"] + ":" + row["instrument"]
                quotes.append((to_ms(row["event_at"]), rank, name, message.partition, message.offset, row))
        quotes.sort(key=_when)
        for event_ms, _, name, _, _, row in quotes:
            if of := self.of.get(name):
                self._quote(self.chains[of], of, name, event_ms, row, changed)
        return changed

    def _learn(self, row: dict[str, Any], until_ms: int | None, changed: set[Underlying]) -> None:
        name, terms_ms, expiry_ms = key("instruments", row), to_ms(row["event_at"]), to_ms(row["expiry_at"])
        if expiry_ms <= (terms_ms if until_ms is None else until_ms):
            return
        of = Underlying(row["venue"], row["underlying"])
        is_option = row["kind"] == "option"
        strike = float(row["strike_usd"]) if is_option else np.nan
        in_coin = row["quote_currency"] == row["underlying"]
        currency = indices.own_currency(row)[:16]
        terms = (terms_ms, is_option, is_option and row["option_type"] == "call", in_coin, strike, expiry_ms, currency)
        quote: tuple[Any, ...] = (0, np.nan, np.nan, False, np.nan)
        if (was := self.of.get(name)) is not None:
            known = self.chains[was].rows[self.chains[was].slots[name]].item()
            # Of two rows of one instant the greater stands, so that the order within a batch does not matter.
            if (*_comparable(known[:TERMS]), was) >= (*_comparable(terms), of):
                return
            quote = known[TERMS:]
            if was != of:
                self._remove(name, was)
        self._add(name, of, terms + quote)
        self.touched.add("quote/" + name)
        changed.add(of)

    def _quote(
        self, chain: Contracts, of: Underlying, name: str, event_ms: int, row: dict[str, Any], changed: set[Underlying]
    ) -> None:
        known = chain.rows[chain.slots[name]]
        if event_ms < known["quote_ms"]:
            return
        bid, ask, is_stale = row.get("bid_price") or np.nan, row.get("ask_price") or np.nan, row.get("is_stale", False)
        known["quote_ms"], known["bid"], known["ask"], known["is_stale"] = event_ms, bid, ask, is_stale
        self.touched.add("quote/" + name)
        changed.add(of)

    def free(self, until_ms: int) -> None:
        """Forget the contracts that have expired, and the underlyings that have none left."""
        for of, chain in list(self.chains.items()):
            expired = chain.rows["expiry_ms"] <= until_ms
            if expired.any():
                for name in [chain.names[slot] for slot in np.flatnonzero(expired)]:
                    self.touched.add("quote/" + name)
                    self._remove(name, of)

    def quiet(self, until_ms: int) -> list[Underlying]:
        """Forget the quotes of underlyings that have had none for a day; gives those."""
        silent: list[Underlying] = []
        for of, chain in self.chains.items():
            rows = chain.rows
            if 0 < rows["quote_ms"].max() <= until_ms - QUIET_MS:
                rows["quote_ms"], rows["bid"], rows["ask"], rows["is_stale"], rows["fit_iv"] = 0, np.nan, np.nan, False, np.nan
                self.touched.update("quote/" + name for name in chain.names)
                silent.append(of)
        return silent

    def stored(self, name: str) -> list[Any] | None:
        """A contract as it is stored; None where it is gone."""
        of = self.of.get(name)
        if of is None:
            return None
        chain = self.chains[of]
        return [*of, *chain.rows[chain.slots[name]].item()]

    def put(self, name: str, stored: list[Any]) -> None:
        """Put a contract back."""
        venue, currency, *values = stored
        self._add(name, Underlying(venue, currency), tuple(np.nan if value is None else value for value in values))

    def _add(self, name: str, of: Underlying, values: tuple[Any, ...]) -> None:
        self.chains.setdefault(of, Contracts()).add(name, values)
        self.of[name] = of

    def _remove(self, name: str, of: Underlying) -> None:
        self.chains[of].remove(name)
        del self.of[name]
        if not self.chains[of].names:
            del self.chains[of]
            self.touched.add(of.entry)


def with_currency(stored: list[Any]) -> list[Any]:
    """A contract as it was stored before its currency was: that of the index is not known, and taken to be USD."""
    terms = 2 + TERMS - 1
    return [*stored[:terms], indices.USD, *stored[terms:]]


def has_quote(row: Mapping[str, Any]) -> bool:
    """Whether a ticker speaks of the best bid and ask; if it does, NULL in either means that there is none."""
    said = row.get("has_quote")
    # Whoever writes no has_quote speaks of the quote by having its fields.
    return bool(said) if said is not None else "bid_price" in row or "ask_price" in row


def _comparable(terms: tuple[Any, ...]) -> tuple[Any, ...]:
    """NaN, the strike of a future, as a number that can be compared."""
    return tuple(-1.0 if value != value else value for value in terms)


def _when(quote: tuple[int, str, str, int, int, dict[str, Any]]) -> tuple[int, str, str, int, int]:
    return quote[:5]

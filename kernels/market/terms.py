"""The terms of contracts: which row counts, and when a contract is forgotten.

The row with the latest event time counts.  Of two rows at one instant the greater counts, compared field by field in the order
in which a kernel keeps them; a missing value is less than any other.  So the order of arrival does not matter.

Positions, fills and orders count contracts; books, trades and tickers have the venue's own unit of amount: contracts, coins, or
USD.  `in_contracts` is the only way from one to the other.
"""

import math
from collections.abc import Container, Mapping, Sequence
from decimal import ROUND_DOWN, Context, Decimal
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from schemas.rows import to_ms


class Expiring(Protocol):
    """The terms of a contract that a kernel keeps: a tuple whose first field is the publication time."""

    @property
    def expiry_ms(self) -> int | None:
        """None if it does not expire."""

    def __getitem__(self, index: int, /) -> Any: ...

    def __len__(self) -> int: ...


Kept = TypeVar("Kept", bound=Expiring)


class Terms(NamedTuple):
    """All terms of a contract."""

    published_ms: int
    kind: str  # spot, perpetual, future or option
    underlying: str
    quote_currency: str
    settlement_currency: str
    is_inverse: bool
    contract_size: float | None
    expiry_ms: int | None
    option_type: str | None
    strike_usd: float | None


def from_row(row: Mapping[str, Any]) -> Terms:
    """The terms in a checked row of `instruments`."""
    size, strike = row.get("contract_size"), row.get("strike_usd")
    return Terms(
        to_ms(row["event_at"]),
        row["kind"],
        row["underlying"],
        row["quote_currency"],
        row["settlement_currency"],
        row["is_inverse"],
        None if size is None else float(size),
        _instant(row, "expiry_at"),
        row.get("option_type"),
        None if strike is None else float(strike),
    )


class Tradable(NamedTuple):
    """The terms that orders for a contract must keep, and that its venue goes by."""

    published_ms: int
    kind: str
    underlying: str
    quote_currency: str
    settlement_currency: str
    is_inverse: bool
    contract_size: float | None
    expiry_ms: int | None
    last_trading_ms: int | None
    tick_size: float | None
    lot_size: float | None
    option_type: str | None = None
    strike_usd: float | None = None
    amount_per_contract: float | None = None  # None where it is not known

    @property
    def end_ms(self) -> int | None:
        """When trading ends."""
        return min((ms for ms in (self.expiry_ms, self.last_trading_ms) if ms is not None), default=None)


def tradable(row: Mapping[str, Any]) -> Tradable:
    """The terms that orders must keep, in a checked row of `instruments`."""
    return Tradable(
        to_ms(row["event_at"]),
        row["kind"],
        row["underlying"],
        row["quote_currency"],
        row["settlement_currency"],
        row["is_inverse"],
        row.get("contract_size"),
        _instant(row, "expiry_at"),
        _instant(row, "last_trading_at"),
        row.get("tick_size"),
        row.get("lot_size"),
        row.get("option_type"),
        None if (strike := row.get("strike_usd")) is None else float(strike),
        row.get("amount_per_contract"),
    )


@lru_cache(1 << 16)
def in_contracts(amount: float, amount_per_contract: float | None) -> Decimal | None:
    """The contracts that a size of a book or a trade is; None where the unit of the venue's amounts is not known.

    Exact in decimals, as both are written; a part of 1e-18 is left out.
    """
    if amount_per_contract is None or not amount_per_contract > 0:
        return None
    written = Decimal(repr(float(amount)))
    if amount_per_contract == 1:
        return written
    contracts = _DOWN.divide(written, Decimal(repr(float(amount_per_contract))))
    return Decimal(int(contracts.scaleb(18, _DOWN))).scaleb(-18, _DOWN).normalize(_DOWN)


_DOWN = Context(prec=120, rounding=ROUND_DOWN)
_CONTRACT_VENUES = ("binance_", "bitget_", "bybit_", "dydx", "hyperliquid", "okx", "sim_")


def untold_amount(name: str, contract_size: float | None) -> float | None:
    """What one contract of a venue:instrument was in amounts before `instruments` told it; None where that is not known.

    Only for state that was stored then: each feed tells it once a minute.  docs/feeds.md has the units of the venues.
    """
    if contract_size is None or name.startswith("deribit:"):
        return contract_size
    return 1.0 if name.startswith(_CONTRACT_VENUES) else None


def with_amount(name: str, stored: Sequence[Any]) -> list[Any]:
    """Stored `Tradable` of a venue:instrument, from before it had an `amount_per_contract`."""
    terms = Tradable(*stored)
    return list(terms._replace(amount_per_contract=untold_amount(name, terms.contract_size)))


def contract_with_amount(name: str, stored: Any) -> Any:
    """The same of an entry of any kind: contract/<venue:instrument> has them."""
    kind, _, contract = name.partition("/")
    return with_amount(contract, stored) if kind == "contract" else stored


def _instant(row: Mapping[str, Any], column: str) -> int | None:
    instant = row.get(column)
    return None if instant is None else to_ms(instant)


def supersedes(terms: Any, known: Any | None) -> bool:
    """Whether terms replace the known ones.  Both are tuples of the same fields, the publication time first."""
    return known is None or _order(terms) > _order(known)


def _order(terms: Sequence[Any]) -> list[tuple[bool, Any]]:
    # None and NaN cannot be compared.
    return [(False, 0) if value is None or value != value else (True, value) for value in terms]


class Listing(Generic[Kept]):
    """The terms of contracts by venue:instrument."""

    def __init__(self) -> None:
        self.terms: dict[str, Kept] = {}
        self._first_expiry_ms: float = math.inf

    def put(self, name: str, terms: Kept) -> None:
        """Set the terms of a contract, whatever they were."""
        self.terms[name] = terms
        if terms.expiry_ms is not None:
            self._first_expiry_ms = min(self._first_expiry_ms, terms.expiry_ms)

    def learn(self, name: str, terms: Kept) -> bool:
        """Set the terms of a contract if they replace the known ones; returns whether they do."""
        if not supersedes(terms, self.terms.get(name)):
            return False
        self.put(name, terms)
        return True

    def free(self, until_ms: int, held: Container[str] = ()) -> set[str]:
        """Forget the contracts that expired at `until_ms` or earlier, except those that are held; returns their names."""
        if self._first_expiry_ms > until_ms:
            return set()
        expiries = {name: terms.expiry_ms for name, terms in self.terms.items() if terms.expiry_ms is not None}
        expired = {name for name, expiry_ms in expiries.items() if expiry_ms <= until_ms and name not in held}
        for name in expired:
            del self.terms[name]
        self._first_expiry_ms = min((ms for name, ms in expiries.items() if name not in expired), default=math.inf)
        return expired

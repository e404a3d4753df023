"""What an order is worth in USD, and what credit keeps back for it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kernels.orders.rules import Limits
from schemas.rows import to_ms

DOLLARS = frozenset({"USD", "USDC", "USDT"})


class Contract(NamedTuple):
    """The terms of a contract that an order must keep; the publication time first, as `kernels.market.terms` orders them."""

    published_ms: int
    kind: str
    underlying: str
    quote_currency: str
    is_inverse: bool
    contract_size: float | None
    expiry_ms: int | None
    last_trading_ms: int | None
    tick_size: float | None
    lot_size: float | None


def contract_of(row: Mapping[str, Any]) -> Contract:
    """The terms in a checked row of `instruments`."""
    expiry_at, last_at = row.get("expiry_at"), row.get("last_trading_at")
    return Contract(
        to_ms(row["event_at"]),
        row["kind"],
        row["underlying"],
        row["quote_currency"],
        row["is_inverse"],
        row.get("contract_size"),
        None if expiry_at is None else to_ms(expiry_at),
        None if last_at is None else to_ms(last_at),
        row.get("tick_size"),
        row.get("lot_size"),
    )


class Mark(NamedTuple):
    """The newest mark of a contract, and the newest price of its underlying; each with its event time."""

    event_ms: int = -1
    price: float | None = None  # in the quote currency
    index_ms: int = -1
    index_usd: float | None = None

    def after(self, event_ms: int, row: Mapping[str, Any]) -> "Mark":
        """After one more ticker, in order of event time."""
        marked, index = row.get("mark_price"), row.get("index_price_usd")
        index = row.get("forward_usd") if index is None else index
        known = self
        if marked is not None and event_ms >= known.event_ms:
            known = known._replace(event_ms=event_ms, price=marked)
        if index is not None and event_ms >= known.index_ms:
            known = known._replace(index_ms=event_ms, index_usd=index)
        return known


def notional_usd(contract: Contract, mark: Mark, quantity: Decimal, price: float) -> float | None:
    """What contracts are worth in USD at a price; of an option the underlying.  None where a price in USD is missing."""
    contracts = float(quantity) * (contract.contract_size or 1.0)
    if contract.kind == "option":
        return None if mark.index_usd is None else contracts * mark.index_usd
    if contract.is_inverse:
        return contracts  # of one USD each
    rate = _usd(contract, mark)
    return None if rate is None else contracts * price * rate


def reserve_usd(
    contract: Contract, mark: Mark, side: str | None, quantity: Decimal, price: float, limits: Limits
) -> float | None:
    """What credit keeps back for contracts: the premium of an option that is bought, else a part of the notional."""
    if contract.kind == "option" and side == "buy":
        rate = _usd(contract, mark)
        return None if rate is None else float(quantity) * (contract.contract_size or 1.0) * price * rate
    notional = notional_usd(contract, mark, quantity, price)
    return None if notional is None else notional * limits.margin_rates[contract.kind]


def _usd(contract: Contract, mark: Mark) -> float | None:
    """One unit of the quote currency in USD."""
    if contract.quote_currency in DOLLARS:
        return 1.0
    return mark.index_usd if contract.quote_currency == contract.underlying else None

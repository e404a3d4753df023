"""What an order is worth in USD, and what credit keeps back for it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kernels.market.indices import DOLLARS
from kernels.market.terms import Tradable
from kernels.orders.rules import Limits


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


def notional_usd(contract: Tradable, mark: Mark, quantity: Decimal, price: float) -> float | None:
    """What contracts are worth in USD at a price; of an option the underlying.  None where a price in USD is missing."""
    contracts = float(quantity) * (contract.contract_size or 1.0)
    if contract.kind == "option":
        return None if mark.index_usd is None else contracts * mark.index_usd
    if contract.is_inverse:
        return contracts  # of one USD each
    rate = _usd(contract, mark)
    return None if rate is None else contracts * price * rate


def reserve_usd(
    contract: Tradable, mark: Mark, side: str | None, quantity: Decimal, price: float, limits: Limits
) -> float | None:
    """What credit keeps back for contracts: the premium of an option that is bought, else a part of the notional."""
    if contract.kind == "option" and side == "buy":
        rate = _usd(contract, mark)
        return None if rate is None else float(quantity) * (contract.contract_size or 1.0) * price * rate
    notional = notional_usd(contract, mark, quantity, price)
    return None if notional is None else notional * limits.margin_rates[contract.kind]


def _usd(contract: Tradable, mark: Mark) -> float | None:
    """One unit of the quote currency in USD."""
    if contract.quote_currency in DOLLARS:
        return 1.0
    return mark.index_usd if contract.quote_currency == contract.underlying else None

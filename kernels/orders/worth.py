"""What an order is worth in USD, what credit keeps back for it, and how much of the underlying it is."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from engine.checks import LEAST, MOST
from kernels.market.indices import DOLLARS
from kernels.market.terms import Tradable
from kernels.orders.rules import Limits
from udfs import black76


class Mark(NamedTuple):
    """The newest mark of a contract, and the newest price of its underlying, each with its event time; and its volatility."""

    event_ms: int = -1
    price: float | None = None  # in the quote currency
    index_ms: int = -1
    index_usd: float | None = None
    mark_iv: float | None = None  # fraction; that of the newest ticker that has one

    def after(self, event_ms: int, row: Mapping[str, Any]) -> "Mark":
        """After one more ticker, in order of event time."""
        marked, index = row.get("mark_price"), row.get("index_price_usd")
        index = row.get("forward_usd") if index is None else index
        known = self
        if marked is not None and event_ms >= known.event_ms:
            known = known._replace(event_ms=event_ms, price=marked)
        if index is not None and LEAST <= index < MOST and event_ms >= known.index_ms:
            known = known._replace(index_ms=event_ms, index_usd=index)
        if (mark_iv := row.get("mark_iv")) is not None and event_ms >= max(known.event_ms, known.index_ms):
            known = known._replace(mark_iv=mark_iv)
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


def underlying_quantity(contract: Tradable, quantity: Decimal, price: float | None) -> float:
    """Contracts in units of the underlying; those of an unknown size, and of USD without a price, count as one each."""
    contracts = float(quantity) * (contract.contract_size or 1.0)
    if not contract.is_inverse or contract.kind == "option":
        return contracts
    return contracts / price if price else float(quantity)


def unit_delta(contract: Tradable, mark: Mark, now_ms: int) -> float:
    """The delta of one unit of the underlying that is bought by a contract.

    Of an option that of Black (1976) on the index price, or the forward where there is none, with the mark volatility of the
    newest ticker that has one.  Where one of them is not known, and at expiry, it is the whole quantity: -1 of a put, else 1.
    """
    if contract.kind != "option":
        return 1.0
    is_call = contract.option_type != "put"
    if contract.strike_usd is not None and contract.expiry_ms is not None and mark.index_usd and mark.mark_iv:
        years = (contract.expiry_ms - now_ms) / black76.MS_PER_YEAR
        delta = float(black76.greeks(mark.index_usd, contract.strike_usd, years, mark.mark_iv, is_call).delta)
        if math.isfinite(delta):
            return delta
    return 1.0 if is_call else -1.0

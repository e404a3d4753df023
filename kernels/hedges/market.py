"""What hedges may trade: an instrument's newest book and prices, and what a contract of it does and costs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kernels.hedges.rules import Rules, fee_of
from kernels.market.indices import DOLLARS
from kernels.market.terms import Tradable
from kernels.market.tickers import NO_READING, Prices, newest
from schemas.rows import to_ms

Levels = list[list[float]]


class Market:
    """One instrument: the newest book, and the newest of each price, by event time."""

    def __init__(self) -> None:
        self.book_ms = -1
        self.is_stale = True
        self.bids: Levels = []
        self.asks: Levels = []
        self.prices = Prices()
        self.funding = NO_READING

    def show(self, row: Mapping[str, Any]) -> bool:
        """Take a row of `book_depth`; returns whether it is the newest."""
        event_ms = to_ms(row["event_at"])
        if event_ms < self.book_ms:
            return False
        self.book_ms, self.is_stale = event_ms, row["is_stale"]
        self.bids, self.asks = ([[float(price), float(size)] for price, size in row[side]] for side in ("bids", "asks"))
        return True

    def quote(self, row: Mapping[str, Any]) -> bool:
        """Take a row of `tickers`; returns whether it changes anything."""
        event_ms, before = to_ms(row["event_at"]), (self.prices, self.funding)
        self.prices = self.prices.after(event_ms, row)
        self.funding = newest(self.funding, event_ms, row.get("funding_rate"))
        return before != (self.prices, self.funding)

    @property
    def mid(self) -> float | None:
        """The middle of the best prices; None where one is missing, or they cross."""
        if not self.bids or not self.asks or not 0 < self.bids[0][0] <= self.asks[0][0]:
            return None
        return (self.bids[0][0] + self.asks[0][0]) / 2

    def stored(self) -> list[Any]:
        """As an entry has it."""
        return [self.book_ms, self.is_stale, self.bids, self.asks, list(self.prices), self.funding]

    @classmethod
    def restored(cls, stored: Sequence[Any]) -> "Market":
        """What `stored` returned."""
        market = cls()
        market.book_ms, market.is_stale, market.bids, market.asks, prices, funding = stored
        market.prices = Prices(*((ms, value) for ms, value in prices))
        market.funding = funding[0], funding[1]
        return market


class Worth:
    """What a contract is worth in USD, and what it costs to take it; prices are in the quote currency."""

    def __init__(self, venue: str, terms: Tradable, market: Market, mid: float, rules: Rules) -> None:
        self.terms, self.mid = terms, mid
        size, forward = terms.contract_size or math.nan, market.prices.forward_usd[1] or math.nan
        is_option = terms.kind == "option"
        self.is_inverse_future = terms.is_inverse and not is_option
        self.unit = size * forward if is_option and terms.is_inverse else size  # USD for a price of one
        self.notional = size * forward if is_option else size if self.is_inverse_future else size * mid
        rate, cap = fee_of(rules, venue, terms.kind)
        self.fee = rate * self.notional
        self.cap = cap if is_option else 0.0
        funding = market.funding[1] if terms.kind == "perpetual" else None
        self.carry = (funding or 0.0) * rules.funding_intervals * self.notional  # that a long position pays

    def cost(self, side: int, price: float) -> float:
        """USD for a contract that is bought (1) or sold (-1) at a price, against the middle; above zero."""
        gap = side * (price - self.mid)
        crossing = self.notional * gap / self.mid if self.is_inverse_future else self.unit * gap
        fee = min(self.fee, self.cap * price * self.unit) if self.cap else self.fee
        return max(crossing + fee + side * self.carry, 1e-6 * self.notional)


def wrong(terms: Tradable, market: Market, now_ms: int, rules: Rules) -> str | None:
    """Why an instrument cannot be traded for a hedge now; None where it can."""
    if terms.kind not in rules.reach or not terms.contract_size or not terms.lot_size:
        return "no terms"
    if not terms.is_inverse and terms.settlement_currency not in DOLLARS:
        return "settled in another currency"
    if terms.end_ms is not None and terms.end_ms <= now_ms + rules.stale_ms:
        return "expires"
    if market.is_stale or market.book_ms + rules.stale_ms < now_ms:
        return "stale book"
    if market.mid is None:
        return "no book"
    if terms.kind == "option":
        prices = market.prices
        for ms, value in (prices.forward_usd, prices.mark_iv):
            if value is None or not value > 0 or ms + rules.stale_ms < now_ms:
                return "no price"
    return None


def reached(levels: Levels, mid: float, side: int, reach: float) -> Levels:
    """The levels that an order may take: no further from the middle than `reach`, a fraction."""
    return [level for level in levels if side * (level[0] / mid - 1) <= reach and level[1] > 0]

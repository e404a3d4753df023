"""What is known of an instrument that is worked: its book, and the trades of others."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from engine.checks import MOST
from schemas.rows import to_ms
from udfs.execution_quality import book_price, sign

REPEAT_MS = 5_000
"""So long the id of a trade is remembered: redundant connections bring it twice."""
Levels = list[list[float]]


class Market:
    """One instrument: the newest book by event time, and the ids of the last trades."""

    def __init__(self) -> None:
        self.book_ms = -1
        self.bids: Levels = []
        self.asks: Levels = []
        self.is_stale = True
        self.seen: dict[str, int] = {}  # by trade_id: event time

    def show(self, row: Mapping[str, Any]) -> bool:
        """Take a row of `book_depth`; returns whether it is the newest."""
        event_ms = to_ms(row["event_at"])
        if event_ms < self.book_ms:
            return False
        self.book_ms, self.is_stale = event_ms, row["is_stale"]
        self.bids, self.asks = (
            [[float(price), float(size)] for price, size in row[side] if abs(price) < MOST and abs(size) < MOST]
            for side in ("bids", "asks")
        )
        return True

    def is_new(self, row: Mapping[str, Any]) -> bool:
        """Whether a trade of the market comes for the first time."""
        name, event_ms = row["trade_id"], to_ms(row["event_at"])
        if row.get("off_market") is not None or name in self.seen or not (0 < row["size"] < MOST and 0 < row["price"] < MOST):
            return False
        self.seen[name] = event_ms
        return True

    def forget(self, now_ms: int) -> None:
        """Forget trades that nobody repeats any more; now and then, for to look through all costs time."""
        if self.seen and next(iter(self.seen.values())) + 2 * REPEAT_MS <= now_ms:
            self.seen = {name: ms for name, ms in self.seen.items() if ms + REPEAT_MS > now_ms}

    @property
    def mid(self) -> float | None:
        """The middle of the best prices; None where one is missing."""
        return (self.bids[0][0] + self.asks[0][0]) / 2 if self.bids and self.asks else None

    @property
    def spread(self) -> float | None:
        """As a fraction of mid."""
        mid = self.mid
        return (self.asks[0][0] - self.bids[0][0]) / mid if mid else None

    def levels(self, side: str, takes: bool, limit: Decimal | None = None) -> Levels:
        """What an order of a side takes from, or else joins; best first, without what is beyond its limit."""
        levels = self.asks if (side == "buy") == takes else self.bids
        if limit is None or not takes:
            return levels
        D, worst = sign(side), float(limit)
        return [level for level in levels if D * level[0] <= D * worst]

    def taking_price(self, side: str, quantity: float, limit: Decimal | None) -> float | None:
        """How far an order must go for a quantity, within its limit; None where there is nothing."""
        left, worst = quantity, None
        for price, size in self.levels(side, True, limit):
            left, worst = left - size, price
            if left <= 0:
                break
        return worst

    def taken_at(self, side: str, quantity: float) -> float | None:
        """What taking a quantity now would cost on average."""
        return book_price(self.levels(side, True), quantity)

    def stored(self) -> list[Any]:
        """As an entry has it."""
        return [self.book_ms, self.bids, self.asks, self.is_stale, self.seen]

    @classmethod
    def restored(cls, stored: Sequence[Any]) -> "Market":
        """What `stored` returned."""
        market = cls()
        market.book_ms, market.bids, market.asks, market.is_stale, market.seen = stored
        return market

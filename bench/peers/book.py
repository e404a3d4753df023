"""What all peers do with a message: update the book of its instrument, and return the top if it changed.

They check no row, and handle only the plain case of the sequence, which is less than the job does.
"""

from bisect import bisect_left, insort
from typing import Any

Row = dict[str, Any]


class Side:
    """One side of a book."""

    def __init__(self) -> None:
        self.prices: list[float] = []
        self.sizes: dict[float, float] = {}

    def apply(self, levels: list[list[float]]) -> None:
        """Set levels; a size of 0 deletes one."""
        for price, size in levels:
            if size:
                if price not in self.sizes:
                    insort(self.prices, price)
                self.sizes[price] = size
            elif self.sizes.pop(price, None) is not None:
                del self.prices[bisect_left(self.prices, price)]


class Book:
    """One instrument's book."""

    def __init__(self) -> None:
        self.bids, self.asks = Side(), Side()
        self.sequence: int | None = None
        self.top: tuple[Any, ...] | None = None

    def apply(self, row: Row) -> Row | None:
        """Apply an `order_books` row; a `book_tops` row if the top changed."""
        if row["kind"] == "snapshot":
            self.bids, self.asks = Side(), Side()
        elif row["prev_sequence"] != self.sequence:
            return None
        self.bids.apply(row["bids"])
        self.asks.apply(row["asks"])
        self.sequence = row["sequence"]
        bid = self.bids.prices[-1] if self.bids.prices else None
        ask = self.asks.prices[0] if self.asks.prices else None
        top = bid, bid and self.bids.sizes[bid], ask, ask and self.asks.sizes[ask]
        if top == self.top:
            return None
        self.top = top
        return {
            "venue": row["venue"],
            "instrument": row["instrument"],
            "event_at": row["event_at"],
            "received_at": row["received_at"],
            "sequence": row["sequence"],
            "bid_price": bid,
            "bid_size": top[1],
            "ask_price": ask,
            "ask_size": top[3],
            "is_stale": False,
        }

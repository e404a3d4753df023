"""The newest quote of an instrument, from `book_tops` and from the `tickers` with bid and ask.

The latest by event time counts.  Of a book and a ticker at one instant the book counts, which knows whether it is stale; of two
rows of one table the one with the higher partition and offset.  A ticker without a quote leaves the quote and its time
unchanged.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from engine.contract import Message
from schemas.rows import to_ms


class Quote(NamedTuple):
    """The best bid and ask of one instrument at one instant."""

    event_ms: int
    name: str  # venue:instrument
    bid: float | None  # None where there is none
    ask: float | None
    is_stale: bool


def in_order(messages: Iterable[Message]) -> list[Quote]:
    """The quotes in checked messages: each replaces the quotes of its instrument before it."""
    ranked = []
    for message in messages:
        table, row = message.table, message.row
        if table == "book_tops" or (table == "tickers" and has_quote(row)):
            name = row["venue"] + ":" + row["instrument"]
            rank = to_ms(row["event_at"]), table == "book_tops", name, message.partition, message.offset
            ranked.append((rank, row))
    ranked.sort(key=lambda pair: pair[0])
    return [
        Quote(event_ms, name, row.get("bid_price") or None, row.get("ask_price") or None, row.get("is_stale", False))
        for (event_ms, _, name, _, _), row in ranked
    ]


def has_quote(row: Mapping[str, Any]) -> bool:
    """Whether a ticker reports the best bid and ask; if it does, NULL in either means that there is none."""
    stated = row.get("has_quote")
    # Without has_quote, a ticker reports the quote if it has the fields of one.
    return bool(stated) if stated is not None else "bid_price" in row or "ask_price" in row

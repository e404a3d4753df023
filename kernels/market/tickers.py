"""The parts of tickers: a message has some of the columns; the others stay unchanged.

A venue may send bid and ask, mark, volatility and forward in one message, or each on a separate channel.  NULL means that the
message does not have a part; only for bid and ask can it also mean that there is none (`kernels.market.quotes`).
Each part has its own time.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from engine.contract import Message
from kernels.market.quotes import has_quote
from schemas.rows import to_ms


class Ticker(NamedTuple):
    """The tickers of one instrument at one instant, merged."""

    event_ms: int
    name: str  # venue:instrument
    row: Mapping[str, Any]  # each column from the last message that has it
    messages: list[Message]


def by_instant(messages: Iterable[Message]) -> list[Ticker]:
    """The tickers among checked messages in the order of time, those of one instrument and instant merged.

    If two of them have a column, the one with the higher partition and offset counts.  Do not read bid and ask from these:
    see `kernels.market.quotes`.
    """
    tickers = [(_instant(message), message) for message in messages if message.table == "tickers"]
    tickers.sort(key=lambda ticker: (*ticker[0], ticker[1].partition, ticker[1].offset))
    merged = []
    for (event_ms, name), group in groupby(tickers, key=itemgetter(0)):
        parts = [message for _, message in group]
        row = parts[0].row
        for part in parts[1:]:
            row = row | {column: value for column, value in part.row.items() if value is not None}
        merged.append(Ticker(event_ms, name, row, parts))
    return merged


def _instant(message: Message) -> tuple[int, str]:
    row = message.row
    return to_ms(row["event_at"]), row["venue"] + ":" + row["instrument"]


Reading = tuple[int, float | None]
"""One part of a ticker: the event time in ms of the newest message that has it, and its value."""
NO_READING: Reading = (-(1 << 62), None)


def newest(known: Reading, event_ms: int, value: float | None) -> Reading:
    """One part after a message; NULL leaves it unchanged.  Messages of one instant must come in the order of their offsets."""
    return known if value is None or event_ms < known[0] else (event_ms, value)


class Prices(NamedTuple):
    """The newest prices of a contract by its tickers, each by its own time."""

    mark: Reading = NO_READING  # the venue's own
    middle: Reading = NO_READING  # of bid and ask; None if one of them is missing
    last: Reading = NO_READING  # trade
    forward_usd: Reading = NO_READING
    mark_iv: Reading = NO_READING

    def after(self, event_ms: int, row: Mapping[str, Any]) -> "Prices":
        """The prices after one more message, in order of event time, partition and offset."""
        middle = self.middle
        if has_quote(row) and event_ms >= middle[0]:
            bid, ask = row.get("bid_price"), row.get("ask_price")
            middle = event_ms, None if bid is None or ask is None else (bid + ask) / 2
        return Prices(
            newest(self.mark, event_ms, row.get("mark_price")),
            middle,
            newest(self.last, event_ms, row.get("last_price")),
            newest(self.forward_usd, event_ms, row.get("forward_usd")),
            newest(self.mark_iv, event_ms, row.get("mark_iv")),
        )

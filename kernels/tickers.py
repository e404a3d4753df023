"""What a ticker tells: a message has some of the columns, and what it does not tell still holds.

A venue may tell bid and ask, mark, volatility and forward in one message, or each on a channel of its own.  NULL is not told;
of bid and ask alone a ticker can also say that there is none.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from engine.contract import Message
from schemas.rows import to_ms


class Ticker(NamedTuple):
    """All that is told of one instrument at one instant."""

    event_ms: int
    name: str  # venue:instrument
    row: Mapping[str, Any]  # each column as the last message that tells it has it
    messages: list[Message]


def by_instant(messages: Iterable[Message]) -> list[Ticker]:
    """The tickers among checked messages in the order of time, those of one instrument and instant as one.

    Of a column that two of them tell the one with the higher partition and offset stands.  Bid and ask are not to be read from
    these: see `kernels.quotes`.
    """
    tickers = [(_instant(message), message) for message in messages if message.table == "tickers"]
    tickers.sort(key=lambda ticker: (*ticker[0], ticker[1].partition, ticker[1].offset))
    told = []
    for (event_ms, name), group in groupby(tickers, key=itemgetter(0)):
        parts = [message for _, message in group]
        row = parts[0].row
        for part in parts[1:]:
            row = row | {column: value for column, value in part.row.items() if value is not None}
        told.append(Ticker(event_ms, name, row, parts))
    return told


def _instant(message: Message) -> tuple[int, str]:
    row = message.row
    return to_ms(row["event_at"]), row["venue"] + ":" + row["instrument"]

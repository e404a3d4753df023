"""The venues' own proof: the checksums that OKX and Bitget give of a book hold for the rows as they are written to Kafka."""

import json
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from feeds.capture import convert, read
from schemas.rows import encoded

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures"

Side = dict[Decimal, tuple[str, str]]  # the texts of price and size, by price


def written(venue: str, file: str) -> Iterator[dict[str, Any]]:
    """Each order book row of a capture as a reader of Kafka has it, its numbers as text."""
    path = CAPTURES / venue / file
    if not path.exists():
        pytest.skip(f"no capture at {path}")
    for one in convert(read(venue, path)):
        for record in one.records:
            if record.table == "order_books":
                yield json.loads(encoded(record.row), parse_float=str, parse_int=str)


def applied(book: tuple[Side, Side], row: dict[str, Any]) -> tuple[Side, Side]:
    sides = ({}, {}) if row["kind"] == "snapshot" else (dict(book[0]), dict(book[1]))
    for side, levels in zip(sides, (row["bids"], row["asks"]), strict=True):
        for price, size in levels:
            if Decimal(size):
                side[Decimal(price)] = (price, size)
            else:
                side.pop(Decimal(price), None)
    return sides


def top(book: tuple[Side, Side]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    bids, asks = book
    return [bids[price] for price in sorted(bids, reverse=True)[:25]], [asks[price] for price in sorted(asks)[:25]]


def crc32(book: tuple[Side, Side]) -> int:
    """Signed, over the 25 best levels, bid and ask in turn: price:size:price:size …"""
    bids, asks = top(book)
    texts = [text for i in range(25) for side in (bids, asks) for level in side[i : i + 1] for text in level]
    number = zlib.crc32(":".join(texts).encode())
    return number - 2**32 if number >= 2**31 else number


def flipped(row: dict[str, Any], side: str, i: int) -> dict[str, Any]:
    """The row with another last digit in one size."""
    price, size = row[side][i]
    levels = [*row[side]]
    levels[i] = [price, size[:-1] + str((int(size[-1]) + 1) % 10)]
    return {**row, side: levels}


@pytest.mark.parametrize(
    ("venue", "file", "number"), [("okx", "2022-05-13.ws.log", 290), ("bitget", "ws.1.log", 443)], ids=["okx", "bitget"]
)
def test_every_checksum_holds_and_one_digit_breaks_the_message_that_it_stands_in(venue: str, file: str, number: int) -> None:
    books: dict[str, tuple[Side, Side]] = {}
    held = broken = 0
    for row in written(venue, file):
        before = books.get(row["instrument"], ({}, {}))
        after = books[row["instrument"]] = applied(before, row)
        held += crc32(after) == int(row["checksum"])
        best = top(after)
        for side, levels in (("bids", best[0]), ("asks", best[1])):
            for i, level in enumerate(row[side]):
                if tuple(level) in levels:
                    assert crc32(applied(before, flipped(row, side, i))) != int(row["checksum"])
                    broken += 1
    assert held == number
    assert broken > number

"""Which instrument a person means."""

import re

import pytest

from cli.names import Book, choose

BOOKS: list[Book] = [
    ("deribit", "BTC-PERPETUAL"),
    ("deribit", "ETH-PERPETUAL"),
    ("binance_spot", "BTCUSDT"),
    ("binance_usdm", "BTCUSDT"),
]


@pytest.mark.parametrize(
    ("wanted", "venue", "book"),
    [
        ("BTC-PERPETUAL", None, BOOKS[0]),
        ("btc-perpetual", None, BOOKS[0]),
        ("BTCUSDT", "binance_usdm", BOOKS[3]),
        ("binance_spot:btcusdt", None, BOOKS[2]),
        ("Deribit:ETH-PERPETUAL", None, BOOKS[1]),
    ],
)
def test_a_name_means_one_book(wanted: str, venue: str | None, book: Book) -> None:
    assert choose(BOOKS, wanted, venue) == book


@pytest.mark.parametrize(
    ("wanted", "venue", "message"),
    [
        ("BTC-PERPETAL", None, "no instrument 'BTC-PERPETAL' among 3; the nearest are deribit:BTC-PERPETUAL, deribit:ETH-PER"),
        ("BTC-PERPETUAL", "binance_spot", "no instrument 'BTC-PERPETUAL' on binance_spot among 1; "),
        ("XYZ", "deribit", "no instrument 'XYZ' on deribit among 2; none is like it"),
        ("BTCUSDT", None, "traded on several venues; name one: binance_spot:BTCUSDT, binance_usdm:BTCUSDT"),
        ("BTCUSDT", "okx", "no venue 'okx'; there are binance_spot, binance_usdm, deribit"),
    ],
)
def test_any_other_name_is_refused_with_what_might_be_meant(wanted: str, venue: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        choose(BOOKS, wanted, venue)


def test_where_nothing_has_come_no_name_is_known() -> None:
    with pytest.raises(ValueError, match="no instrument 'BTCUSDT': none has come yet"):
        choose([], "BTCUSDT")


def test_names_that_differ_in_case_alone_are_told_apart_by_it() -> None:
    books = [("venue", "abc"), ("venue", "ABC")]
    assert choose(books, "ABC") == ("venue", "ABC")

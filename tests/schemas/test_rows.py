from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import TABLES
from schemas.rows import Fault, encoded, fault, instant_ms, instant_us, key, shown, to_ms, to_us

MAX_MS = 253_402_300_799_999  # the last of the year 9999
BOOK: dict[str, Any] = {
    "venue": "v",
    "instrument": "BTC-PERPETUAL",
    "event_at": "2024-08-08T23:54:12.070Z",
    "received_at": "2024-08-08T23:54:12.070123Z",
    "kind": "change",
    "sequence": 2,
    "prev_sequence": 1,
    "bids": [[100.5, 1], [100, 0.0]],
    "asks": [],
}


@given(st.integers(0, MAX_MS), st.integers(0, 999))
def test_an_instant_is_read_as_it_was_written(ms: int, us: int) -> None:
    assert to_ms(instant_ms(ms)) == ms
    assert to_us(instant_us(ms * 1000 + us)) == ms * 1000 + us
    assert to_ms(instant_us(ms * 1000 + us)) == ms


@given(st.lists(st.integers(0, MAX_MS)))
def test_the_order_of_texts_is_the_order_of_instants(times: list[int]) -> None:
    assert sorted(map(instant_ms, times)) == list(map(instant_ms, sorted(times)))
    assert sorted(map(instant_us, times)) == list(map(instant_us, sorted(times)))


def test_an_instant_always_has_its_decimals() -> None:
    assert instant_ms(0) == "1970-01-01T00:00:00.000Z"
    assert instant_us(1) == "1970-01-01T00:00:00.000001Z"
    assert instant_ms(-1) == "1969-12-31T23:59:59.999Z"


@pytest.mark.parametrize("text", ["", "now", "2024-13-01T00:00:00Z", "1723161252070"])
def test_what_is_no_instant_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        to_us(text)


@pytest.mark.parametrize(
    "row",
    [
        BOOK,
        {**BOOK, "prev_sequence": None},
        {name: value for name, value in BOOK.items() if name != "prev_sequence"},
        {**BOOK, "a_newer_writers": object()},
        {**BOOK, "event_at": "2024-08-08T23:54:12+00:00"},
        {**BOOK, "bids": [[Decimal("100.50"), Decimal("1.0")]], "checksum": -(2**31)},
        {**BOOK, "checksum": None},
    ],
)
def test_a_row_that_keeps_its_ddl_has_no_fault(row: dict[str, Any]) -> None:
    assert fault("order_books", row) is None


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("venue", [5, True, ["v"]], "STRING"),
        (
            "event_at",
            [1_723_161_252_070, "now", "2024-08-08T23:54:12", "2024-08-08T23:54:12+02:00"],
            "an ISO-8601 instant in UTC",
        ),
        ("sequence", ["2", 2.0, True], "BIGINT"),
        ("prev_sequence", ["1", 1.0, False], "BIGINT"),
        ("checksum", [2**31, "1", 1.0], "INT"),
        (
            "bids",
            [
                [[Decimal("NaN"), 1]],
                [[1, Decimal("Infinity")]],
                "",
                {},
                [1],
                [[1]],
                [[1, 2, 3]],
                [["1", 1]],
                [[1, None]],
                [[True, 1]],
                [[1, float("nan")]],
                [[float("inf"), 1]],
            ],
            "a list of [price, size] pairs of finite numbers",
        ),
    ],
)
def test_a_value_of_another_type_is_the_fault_of_its_column(field: str, values: list[Any], expected: str) -> None:
    for value in values:
        assert fault("order_books", {**BOOK, field: value}) == Fault(field, expected, shown(value))


@pytest.mark.parametrize("field", [name for name in BOOK if name != "prev_sequence"])
def test_null_and_missing_are_told_apart_where_a_value_must_be(field: str) -> None:
    sql_type = TABLES["order_books"].columns[field].sql_type
    assert fault("order_books", {**BOOK, field: None}) == Fault(field, f"{sql_type}, not NULL", "NULL")
    row = {name: value for name, value in BOOK.items() if name != field}
    assert fault("order_books", row) == Fault(field, f"{sql_type}, not NULL", "missing")


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        *[(value, True) for value in ("1.50", 3, "1e2", "-99999999999999999999.123456789012345678", "1e-30", "0.000", 0)],
        *[(value, False) for value in (1.5, "NaN", "x", "1e20", 10**20, "-1e400", "1e-400", "1e999999999", "1" * 50)],
    ],
)
def test_a_decimal_is_text_or_whole(value: object, is_good: bool) -> None:
    row = {
        "account": "a",
        "event_at": BOOK["event_at"],
        "received_at": BOOK["received_at"],
        "transfer_id": "t",
        "currency": "BTC",
        "amount": value,
    }
    expected = "a decimal as text, below 1e20 and of up to 60 digits after the point"
    assert fault("transfers", row) == (None if is_good else Fault("amount", expected, shown(value)))


@pytest.mark.parametrize("row", [None, 5, "row", [], [BOOK]])
def test_what_is_no_row_is_a_fault_of_the_whole(row: object) -> None:
    assert fault("order_books", row) == Fault(None, "a row of order_books", shown(row))


@given(st.decimals(0, 10**15, places=12) | st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_is_written_with_every_digit_that_it_has(number: Decimal) -> None:
    text = encoded({"price": number})
    assert text == b'{"price":%s}' % format(number, "f").encode()
    assert float(orjson.loads(text)["price"]) == float(number)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("-Infinity"), object(), 1j])
def test_what_json_has_no_form_for_raises(value: object) -> None:
    with pytest.raises(TypeError):
        encoded({"price": value})


def test_a_key_is_its_columns_joined_by_a_colon() -> None:
    assert key("order_books", BOOK) == "v:BTC-PERPETUAL"
    index = {"venue": "v", "underlying": "BTC"}
    assert key("index_prices", index | {"quote_currency": "USDC"}) == "v:BTC:USDC"
    assert key("index_prices", index | {"quote_currency": None}) == key("index_prices", index) == "v:BTC:"
    with pytest.raises(KeyError):
        key("order_books", {"venue": "v"})


@given(st.text(), st.integers(2, 100))
def test_what_is_shown_is_no_longer_than_asked(value: str, limit: int) -> None:
    text = shown(value, limit)
    assert len(text) <= limit
    assert text == repr(value) or (text.endswith("…") and repr(value).startswith(text[:-1]))

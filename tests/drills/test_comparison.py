"""The differences that make a drill red."""

from collections import Counter

import pytest

from drills.rows import Comparison, Row, compare, miscounted

A, B, C = (Row(b"key", number, b"{}") for number in range(3))


def compared(table: str, expected: list[Row], actual: list[Row]) -> Comparison:
    (comparison,) = compare({table: Counter(expected)}, {table: Counter(actual)})
    return comparison


@pytest.mark.parametrize("table", ["positions", "ledger_entries"])
def test_the_same_rows_in_any_order_are_the_same(table: str) -> None:
    assert compared(table, [A, B, C], [C, A, B]) == Comparison(table, 3, 0, 0, 0, None)


@pytest.mark.parametrize("table", ["positions", "ledger_entries"])
def test_a_missing_row_is_a_fault(table: str) -> None:
    assert compared(table, [A, B, C], [A, C]) == Comparison(table, 3, 1, 0, 0, B)


@pytest.mark.parametrize("table", ["positions", "ledger_entries"])
def test_a_row_that_should_not_be_is_a_fault(table: str) -> None:
    assert compared(table, [A, B], [A, B, C]) == Comparison(table, 2, 0, 1, 0, C)


def test_a_repeat_is_counted_where_delivery_is_at_least_once() -> None:
    comparison = compared("positions", [A, B], [A, B, B, B])
    assert comparison == Comparison("positions", 2, 0, 0, 2, None)
    assert comparison.is_same


def test_a_repeat_is_a_fault_where_delivery_is_exactly_once() -> None:
    comparison = compared("ledger_entries", [A, B], [A, B, B])
    assert comparison == Comparison("ledger_entries", 2, 0, 0, 1, B)
    assert not comparison.is_same


def test_of_two_equal_rows_both_are_missed_where_delivery_is_exactly_once() -> None:
    assert not compared("ledger_entries", [A, A], [A]).is_same
    assert compared("positions", [A, A], [A]).is_same


def test_an_archive_has_as_many_rows_as_its_topic() -> None:
    assert miscounted({"positions": Counter([A, A, B]), "archive/positions": Counter([A, B, C])}) == []
    assert miscounted({"positions": Counter([A, A, B]), "archive/positions": Counter([A, B])}) == [
        "archive/positions: 2 rows, where the topic has 3"
    ]


@pytest.mark.parametrize(("table", "is_same"), [("archive/positions", True), ("archive/ledger_entries", False)])
def test_the_archive_of_a_table_may_repeat_what_the_table_may(table: str, is_same: bool) -> None:
    assert compared(table, [A, B], [A, B, B]).is_same is is_same

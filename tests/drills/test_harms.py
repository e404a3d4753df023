"""Rows that a harm itself puts into the topics are removed again."""

from base64 import b64encode
from collections import Counter

import orjson

from drills.harms import POISON, without_jump, without_poison, without_range
from drills.rows import Row, Rows

GOOD = Row(b"key", 0, b"{}")


def letter(topic: str, offset: int, original: bytes = POISON) -> Row:
    value = {"source": topic, "offset": offset, "original": b64encode(original).decode()}
    return Row(topic.encode(), 0, orjson.dumps(value))


def rows(*letters: Row) -> Rows:
    return {"book_tops": Counter([GOOD, Row(b"poison", 0, POISON)]), "dead_letters": Counter(letters)}


def test_poison_and_the_letters_about_it_are_taken_out() -> None:
    other = letter("order_books.v1", 8, b"something else")
    left = rows(letter("order_books.v1", 7), letter("venue_times.v1", 9), other)
    assert without_poison(left, ["books", "bars"]) == []
    assert left == {"book_tops": Counter([GOOD]), "dead_letters": Counter([other])}


def test_each_job_that_writes_letters_must_have_written_one() -> None:
    expected = letter("venue_times.v1", 9)
    assert without_poison(rows(expected), ["books"]) == ["dead_letters: 0 about order_books.v1, not 1"]
    assert without_poison(rows(expected, letter("order_books.v1", 7), letter("order_books.v1", 7)), ["books"]) == [
        "dead_letters: 2 about order_books.v1, not 1"
    ]


def bar(number: int, is_wide: bool) -> Row:
    return Row(b"key", number, b'{"low_price":1.0%s,"close_price":2.0}' % (b',"price_range":0.5' if is_wide else b""))


def test_the_new_column_is_taken_out_of_the_rows_that_have_it() -> None:
    left: Rows = {"bars": Counter([bar(1, False), bar(2, True), bar(2, True)])}
    assert without_range(left, ["bars"]) == []
    assert left == {"bars": Counter({bar(1, False): 1, bar(2, False): 2})}


def test_a_column_that_all_rows_have_or_none_is_no_upgrade_half_way() -> None:
    for is_wide in (False, True):
        left: Rows = {"bars": Counter([bar(1, is_wide), bar(2, is_wide)])}
        assert without_range(left, ["bars"]) == [f"bars: {2 * is_wide} of 2 rows have the new column"]


def test_letters_about_a_clock_that_has_jumped_are_taken_out_and_must_be_there() -> None:
    def about(field: str, venue: bytes) -> Row:
        original = b64encode(b'{"venue":"%s"}' % venue).decode()
        return Row(b"", 0, orjson.dumps({"field": field, "original": original}))

    other = [about("price", b"sim_alpha"), about("event_at", b"sim_beta")]
    left: Rows = {"dead_letters": Counter([about("event_at", b"sim_alpha"), *other])}
    assert without_jump(left, []) == []
    assert left == {"dead_letters": Counter(other)}
    assert without_jump(left, []) == ["dead_letters: none about what the venue said of an hour later"]

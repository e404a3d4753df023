"""What a harm itself puts into the topics, taken out again."""

from base64 import b64encode
from collections import Counter

import orjson

from drills.harms import POISON, without_poison
from drills.rows import Row, Rows

GOOD = Row(b"key", 0, b"{}")


def letter(topic: str, offset: int, original: bytes = POISON) -> Row:
    value = {"source": topic, "offset": offset, "original": b64encode(original).decode()}
    return Row(topic.encode(), 0, orjson.dumps(value))


def rows(*letters: Row) -> Rows:
    return {"book_tops": Counter([GOOD, Row(b"poison", 0, POISON)]), "dead_letters": Counter(letters)}


def test_poison_and_the_letters_about_it_are_taken_out() -> None:
    other = letter("order_books.v1", 8, b"something else")
    left = rows(letter("order_books.v1", 7), other)
    assert without_poison(left, ["books", "bars"]) == []
    assert left == {"book_tops": Counter([GOOD]), "dead_letters": Counter([other])}


def test_each_job_that_writes_letters_must_have_written_one() -> None:
    assert without_poison(rows(), ["books"]) == ["dead_letters: 0 about order_books.v1, not 1"]
    assert without_poison(rows(letter("order_books.v1", 7), letter("order_books.v1", 7)), ["books"]) == [
        "dead_letters: 2 about order_books.v1, not 1"
    ]

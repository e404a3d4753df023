"""The other versions of our code that drills run are what they say they are."""

import pytest

from drills import older_books, versions
from kernels import books
from schemas.rows import to_ms
from tests.kernels.test_books import begun, change, snapshot, step


def test_what_the_older_version_stores_this_one_reads_and_not_the_other_way_round() -> None:
    older = older_books.KERNEL
    assert older.version == books.VERSION - 1
    assert books.KERNEL.readable()["books"][:2] == [books.VERSION, older.version]
    state = older.new()
    older.step(state, [snapshot(1), change(2, 7.0)], to_ms(change(2, 7.0).row["event_at"]) + 100)
    there = books.new()
    there.decode("v:A", state.encode("v:A"))
    assert there.encode("v:A") != state.encode("v:A")
    assert there.books["v:A"].snapshot is None
    assert [row.row["bid_size"] for row in step(there, change(3, 5.0)) if row.table == "book_tops"] == [5.0]
    data = begun(snapshot(1)).encode("v:A")
    assert data is not None
    with pytest.raises(ValueError, match="version 4, this code reads version 3"):
        older.new().decode("v:A", data)


def test_the_older_version_is_a_kernel_that_its_job_names() -> None:
    texts = versions.older()
    assert sorted(texts) == ["jobs/books.sql", "kernels/older_books.py"]
    assert "SET 'gammaflow.kernel' = 'older_books'" in texts["jobs/books.sql"]


def test_the_wider_version_has_its_column_in_rows_and_query() -> None:
    texts = versions.wider()
    assert sorted(texts) == ["jobs/bars.sql", "schemas/bars.sql"]
    assert all("price_range" in text for text in texts.values())


def test_a_change_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"jobs/bars\.sql: expected 'no such text' once, found it 0 times"):
        versions._changed("jobs/bars.sql", ("no such text", ""))

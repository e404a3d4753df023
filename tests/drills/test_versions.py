"""The other versions of our code that drills run are what they say they are."""

from types import ModuleType

import pytest

from drills import versions
from kernels import entries, margin
from tests.kernels.test_margin import T0, begun, position, step


def older_margin() -> ModuleType:
    module = ModuleType("kernels.margin")
    exec(versions.older()["kernels/margin.py"], vars(module))
    return module


def test_what_the_older_version_stores_this_one_reads_and_not_the_other_way_round() -> None:
    older = older_margin()
    assert older.VERSION == margin.VERSION - 1
    assert entries.readable(margin)["margin"] == [margin.VERSION, older.VERSION]
    state = older.new()
    state.second = 7
    stored = state.encode("clock")
    there = margin.new()
    there.decode("clock", stored)
    assert (there.second, there.turn) == (7, "")
    newer = begun()
    step(newer, position("LINEAR", "1", "60000"), until_ms=T0 + 1000)
    data = newer.encode("clock")
    assert data is not None
    with pytest.raises(ValueError, match="version 3, this code reads version 2"):
        older.new().decode("clock", data)


def test_the_wider_version_has_its_column_in_rows_and_query() -> None:
    texts = versions.wider()
    assert sorted(texts) == ["jobs/bars.sql", "schemas/bars.sql"]
    assert all("price_range" in text for text in texts.values())


def test_a_change_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"jobs/bars\.sql: 'no such text' is there 0 times"):
        versions._changed("jobs/bars.sql", ("no such text", ""))

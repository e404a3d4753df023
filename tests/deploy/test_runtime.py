"""What a runtime is told by its environment, and how it lets jobs finish."""

import re
import time
from types import SimpleNamespace
from typing import Any

import pytest

import jobs
from deploy import runtime, topics
from deploy.processes import StartError

NAMES = ["archive", "liquidations", "books", "positions", "book_depth", "bars"]


@pytest.mark.parametrize("text", ["0", "-1", "four", "", "129", "2.0"])
def test_a_number_of_partitions_that_is_none_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMMAFLOW_PARTITIONS", text)
    with pytest.raises(
        StartError, match=rf"GAMMAFLOW_PARTITIONS: expected a number from 1 to 128, got {re.escape(repr(text))}"
    ):
        runtime.partitions_wanted()


def test_topics_have_as_many_partitions_as_told_or_else_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMMAFLOW_PARTITIONS", "8")
    assert runtime.partitions_wanted() == 8
    monkeypatch.delenv("GAMMAFLOW_PARTITIONS")
    assert runtime.partitions_wanted() == 4


def drained(monkeypatch: pytest.MonkeyPatch, stuck: str = "") -> list[str]:
    """The jobs in the order in which they finish; one that is stuck does not."""
    finished: list[str] = []

    def wait_read(_: Any, name: str, __: float) -> None:
        if name == stuck:
            raise StartError(f"job {name} has not read its topics")

    monkeypatch.setattr(runtime, "wait_read", wait_read)
    rest = SimpleNamespace(active=lambda: {name: name for name in NAMES}, drain=lambda job, _: finished.append(job))
    place: Any = SimpleNamespace(home="/nowhere", rest=rest)
    if stuck:
        with pytest.raises(StartError, match=stuck):
            runtime.drain(place, NAMES)
    else:
        runtime.drain(place, NAMES)
    return finished


def test_a_job_finishes_after_those_whose_rows_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    finished = drained(monkeypatch)
    assert sorted(finished) == sorted(NAMES)
    for at, name in enumerate(finished):
        assert not {table for later in finished[at + 1 :] for table in jobs.sinks(later)} & set(jobs.sources(name))


def test_where_a_job_does_not_finish_those_that_read_its_rows_do_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(drained(monkeypatch, stuck="positions")) == {"books", "book_depth", "bars"}


def test_a_job_has_read_once_nothing_is_left_and_a_checkpoint_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    lags, checkpoints = iter([5, 0, 0]), iter([False, True])

    def lag(servers: str, job: str, tables: list[str], read: dict[tuple[str, int], int]) -> int:
        assert (servers, job, tables) == ("kafka", "books", jobs.sources("books"))
        assert read == {("order_books.v1", 3): 7}
        done.append("asked")
        return next(lags)

    def checkpoint(_: str) -> bool:
        done.append("checkpoint")
        return next(checkpoints)

    monkeypatch.setattr(topics, "lag", lag)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    rest = SimpleNamespace(active=lambda: {"books": "job"}, read=lambda _: {("order_books_v1", 3): 7}, checkpoint=checkpoint)
    place: Any = SimpleNamespace(kafka="kafka", logs="logs", rest=rest)
    runtime.wait_read(place, "books")
    assert done == ["asked", "asked", "checkpoint", "asked", "checkpoint"]
    rest.active = dict
    with pytest.raises(StartError, match="job books is no longer running"):
        runtime.wait_read(place, "books")

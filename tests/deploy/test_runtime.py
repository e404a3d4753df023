"""A runtime's settings from the environment, task slots, and how jobs finish."""

import re
import time
from types import SimpleNamespace
from typing import Any

import pytest

import jobs
from deploy import runtime, topics
from deploy.processes import StartError
from deploy.rest import FlinkError

NINE_JOBS = jobs.FLOW[:9]
NAMES = ["archive", "liquidations", "books", "positions", "chains", "bars"]


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
    """The jobs in the order in which they finish; a stuck job does not."""
    finished: list[str] = []

    def wait_read(_: Any, name: str, __: float, *, is_end: bool) -> None:
        assert is_end
        if name == stuck:
            raise StartError(f"job {name} has not read its topics")

    monkeypatch.setattr(runtime, "wait_read", wait_read)
    rest = SimpleNamespace(active=lambda: {name: name for name in NAMES}, drain=lambda job, _: finished.append(job))
    up: Any = SimpleNamespace(home="/nowhere", rest=rest)
    if stuck:
        with pytest.raises(StartError, match=stuck):
            runtime.drain(up, NAMES)
    else:
        runtime.drain(up, NAMES)
    return finished


def test_a_job_finishes_after_those_whose_rows_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    finished = drained(monkeypatch)
    assert sorted(finished) == sorted(NAMES)
    for at, name in enumerate(finished):
        assert not {table for later in finished[at + 1 :] for table in jobs.job(later).writes} & set(jobs.job(name).reads)


def test_where_a_job_does_not_finish_those_that_read_its_rows_do_not_either(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(drained(monkeypatch, stuck="positions")) == {"books", "chains", "bars"}


def test_a_job_has_read_once_nothing_is_left_and_a_checkpoint_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    lags, checkpoints = iter([5, 0, 0]), iter([False, True])

    ends = {("order_books.v1", 3): 7, ("order_books.v1", 4): 1}

    def lag(
        servers: str, job: str, tables: list[str], read: dict[tuple[str, int], int], until: dict[tuple[str, int], int]
    ) -> int:
        assert (servers, job, tables) == ("kafka", "books", jobs.job("books").reads)
        assert read == {("order_books.v1", 3): 7}
        assert until is ends, "what comes later is not waited for"
        done.append("asked")
        return next(lags)

    def checkpoint(_: str) -> bool:
        done.append("checkpoint")
        return next(checkpoints)

    monkeypatch.setattr(topics, "lag", lag)
    monkeypatch.setattr(topics, "ends", lambda servers, tables: ends)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    rest = SimpleNamespace(active=lambda: {"books": "job"}, read=lambda _: {("order_books_v1", 3): 7}, checkpoint=checkpoint)
    up: Any = SimpleNamespace(kafka="kafka", logs="logs", rest=rest)
    runtime.wait_read(up, "books")
    assert done == ["asked", "asked", "checkpoint", "asked", "checkpoint"]
    ends.pop(("order_books.v1", 4))
    checkpoints = iter([True])
    runtime.wait_read(up, "books")
    assert done[5:] == ["checkpoint"], "metrics say it all"
    rest.active = dict
    with pytest.raises(StartError, match="job books is no longer running"):
        runtime.wait_read(up, "books")


def test_a_job_that_was_restored_behind_the_last_time_is_told_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lags, told, is_restored = iter([5, 5, 5, 0]), [], iter([False, True, True])
    monkeypatch.setattr(topics, "lag", lambda *_: next(lags))
    monkeypatch.setattr(topics, "ends", lambda *_: {("trades.v1", 0): 7})
    monkeypatch.setattr(topics, "repeat_time", lambda servers, tables: told.append((servers, set(tables))))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(runtime, "REPEAT_S", -1.0)
    rest = SimpleNamespace(
        active=lambda: {"matching": "job"},
        read=lambda _: {},
        checkpoint=lambda _: True,
        is_restored=lambda _: next(is_restored),
    )
    up: Any = SimpleNamespace(kafka="kafka", logs="logs", rest=rest)
    runtime.wait_read(up, "matching", is_end=True)
    matching = jobs.job("matching")
    assert told == 2 * [("kafka", {*matching.reads, *matching.may_read})]


class Cluster:
    """A cluster's REST interface that answers with these numbers of free slots in turn, and then repeats the last."""

    def __init__(self, free: list[int], total: int, running: tuple[str, ...] = ()) -> None:
        self.free, self.total, self.running = free, total, running

    def get(self, path: str) -> dict[str, int]:
        assert path == "/overview"
        return {"slots-available": self.free.pop(0) if len(self.free) > 1 else self.free[0], "slots-total": self.total}

    def active(self) -> dict[str, Any]:
        return {name: SimpleNamespace(is_running=name in self.running) for name in NINE_JOBS}


def submitted(monkeypatch: pytest.MonkeyPatch, rest: Cluster, parallelism: int, *, is_embedded: bool = True) -> list[str]:
    """The arguments with which all jobs are submitted to a cluster."""
    calls: list[str] = []

    def flink_run(up: Any, names: list[str], arguments: list[str], *_: Any) -> None:
        calls.extend(arguments)
        if not set(names) <= set(rest.running):
            raise FlinkError("jobs were not running after 180 s")

    monkeypatch.setattr(runtime, "flink_run", flink_run)
    monkeypatch.setattr(runtime, "FREE_S", 0.05)
    monkeypatch.setattr(topics, "partitions", lambda _: 4)
    managers = {"taskmanager-0": 1} if is_embedded else {}
    up: Any = SimpleNamespace(home="/nowhere", kafka="k:1", flink="f:2", rest=rest, taskmanagers=managers)
    runtime.submit(up, NINE_JOBS, parallelism)
    return calls


@pytest.mark.parametrize(
    ("count", "parallelism", "slots", "taskmanagers"),
    [(9, 1, 9, 1), (9, 2, 18, 1), (9, 4, 36, 2), (8, 4, 32, 1), (1, 128, 128, 4)],
)
def test_each_job_takes_as_many_slots_as_its_parallelism_and_32_are_in_a_taskmanager(
    count: int, parallelism: int, slots: int, taskmanagers: int
) -> None:
    names = NINE_JOBS[:count]
    assert runtime.slots_needed(names, parallelism) == slots
    assert runtime.taskmanagers_needed(names, parallelism) == taskmanagers


def test_more_slots_than_an_embedded_cluster_can_have_are_refused_with_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError, match=r"9 jobs at parallelism 32 need 288 task slots; an embedded cluster has at most 256"):
        runtime.taskmanagers_needed(NINE_JOBS, 32)
    monkeypatch.setenv("GAMMAFLOW_FLINK", "flink:8081")
    assert runtime.taskmanagers_needed(NINE_JOBS, 32) == 1


def test_jobs_without_slots_are_not_submitted_and_told_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError) as refused:
        submitted(monkeypatch, Cluster([20], 24, running=tuple(NINE_JOBS)), 4)
    assert "9 jobs at parallelism 4 need 36 task slots; the cluster at f:2 has 20 of 24 free" in str(refused.value)
    assert "`gammaflow up --taskmanagers 2`" in str(refused.value)
    assert "Kafka" not in str(refused.value)


def test_slots_that_a_job_gives_back_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert submitted(monkeypatch, Cluster([3, 22], 24, running=tuple(NINE_JOBS)), 2)


def test_of_a_cluster_of_ones_own_slots_are_only_told_where_jobs_wait_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert submitted(monkeypatch, Cluster([0], 0, running=tuple(NINE_JOBS)), 4, is_embedded=False)
    with pytest.raises(FlinkError, match="need 36 task slots, and of the 24 of the cluster at f:2 none is free") as refused:
        submitted(monkeypatch, Cluster([0], 24), 4, is_embedded=False)
    assert "Kafka" not in str(refused.value)
    with pytest.raises(FlinkError, match="to Kafka at k:1 they speak"):
        submitted(monkeypatch, Cluster([13], 24), 1, is_embedded=False)


def test_more_tasks_than_partitions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError, match="parallelism 5: a job has at most as many tasks as topics have partitions, 4"):
        submitted(monkeypatch, Cluster([99], 99, running=tuple(NINE_JOBS)), 5)

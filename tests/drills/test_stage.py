"""What a drill passes on to the next one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy import processes, runtime, topics
from deploy.processes import StartError
from deploy.runtime import Runtime
from deploy.topics import TopicError
from drills.stage import Stage
from drills.suite import Suite

PROCESSES = {"broker": 1, "jobmanager": 2, "taskmanager-0": 3, "taskmanager-1": 4}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The actions on processes and topics, which do not exist here."""
    done: list[str] = []

    @contextmanager
    def temporary(*_: Any, is_highly_available: bool, is_brief: bool) -> Iterator[Runtime]:
        done.append("highly available" if is_highly_available else "up")
        yield Runtime("kafka", "flink", str(tmp_path), dict(PROCESSES))
        done.append("down")

    monkeypatch.setattr(runtime, "temporary", temporary)
    monkeypatch.setattr(topics, "renew", lambda *_: done.append("topics renewed"))
    monkeypatch.setattr(processes, "is_alive", lambda _: True)
    monkeypatch.setattr(Suite, "wait", lambda *_: None)
    monkeypatch.setattr(Suite, "restart_taskmanagers", lambda _: done.append("TaskManagers restarted"))
    monkeypatch.setattr(Suite, "start_again", lambda _, names: done.extend(names))
    return done


def test_what_ran_one_drill_runs_the_next_with_nothing_in_it(done: list[str], tmp_path: Path) -> None:
    with Stage() as stage:
        stage.suite(["books"])
        for folder in ("checkpoints", "savepoints", "archive"):
            (tmp_path / folder).mkdir()
        suite = stage.suite(["positions"], parallelism=2)
        assert (suite.names, suite.parallelism) == (["positions"], 2)
        assert done == ["up", "topics renewed"]
        assert not list(tmp_path.iterdir())
    assert done[2:] == ["down"]


def test_processes_that_have_ended_are_started_again(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Stage() as stage:
        stage.suite(["books"])
        monkeypatch.setattr(processes, "is_alive", lambda pid: pid != PROCESSES["taskmanager-1"])
        stage.suite(["books"])
    assert done == ["up", "topics renewed", "taskmanager-1", "down"]


def test_taskmanagers_that_have_read_other_code_are_restarted(done: list[str]) -> None:
    with Stage() as stage:
        older = stage.suite(["liquidations"], version={"kernels/positions/state.py": "older"})
        older.version = {}  # as a harm leaves it that upgrades
        stage.suite(["liquidations"])
        assert "TaskManagers restarted" not in done
        stage.suite(["liquidations"], version={"kernels/positions/state.py": "older"})
        assert done.count("TaskManagers restarted") == 1
        stage.suite(["liquidations"])
        assert done.count("TaskManagers restarted") == 2


def test_a_stage_that_was_closed_or_is_of_another_kind_is_made_anew(done: list[str]) -> None:
    with Stage() as stage:
        stage.suite(["books"])
        stage.close()
        stage.suite(["books"])
        stage.suite(["books"], is_highly_available=True)
    assert done == ["up", "down", "up", "down", "highly available", "down"]


@pytest.mark.parametrize("error", [TopicError, StartError])
def test_what_cannot_be_made_as_new_is_made_anew(
    error: type[Exception], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def renew(*_: Any) -> None:
        raise error

    monkeypatch.setattr(topics, "renew", renew)
    with Stage() as stage:
        stage.suite(["books"])
        stage.suite(["books"])
    assert done == ["up", "down", "up", "down"]


def test_nothing_is_left_behind_by_an_error(done: list[str]) -> None:
    def interrupted() -> None:
        with Stage() as stage:
            stage.suite(["books"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["up", "down"]

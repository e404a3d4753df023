"""The load, the defaults that the benches rely on, and the older version beside the working tree."""

import subprocess
from pathlib import Path

import orjson
import pytest

import jobs
from bench import load, repricing, versus
from bench.contender import flat
from bench.passes import BenchError
from deploy import cluster
from engine import run as runner


def test_a_stream_that_goes_on_is_the_stream_but_for_its_times() -> None:
    whole = [row for _, row in load.stream(600, 20)]
    parts = load.Stream(20)
    first = [row for _, row in parts.rows(250, load.START_MS)]
    rest = list(parts.rows(350, load.START_MS + 60_000))
    assert first == whole[:250]
    assert min(event_ms for event_ms, _ in rest) == load.START_MS + 60_000
    times = ("event_at", "received_at")
    rows = [{name: value for name, value in row.items() if name not in times} for _, row in rest]
    assert rows == [{name: value for name, value in row.items() if name not in times} for row in whole[250:]]


def test_the_kernel_finds_no_fault_in_a_stream_that_goes_on() -> None:
    stream, truth = load.Stream(20), load.Truth()
    for start_ms in (load.START_MS, load.START_MS + 60_000):
        for event_ms, row in stream.rows(1_000, start_ms):
            truth.count(row)
            truth.add(event_ms, orjson.dumps(row))
        truth.step()
    assert truth.messages == 2_000
    assert truth.faults == 0
    assert 0.2 < truth.tops / truth.messages < 0.4


def test_the_kernel_by_itself_has_the_window_of_the_job() -> None:
    assert float(jobs.WINDOW_S) * 1000 == load.WINDOW_MS == repricing.WINDOW_MS
    assert float(runner.DELAY_S) * 1000 == repricing.DELAY_MS


def test_settings_are_named_in_whole() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": "5 s"}, "e": True}) == {"a.b.c": "1", "a.d": "5 s", "e": "True"}


def test_settings_that_are_equal_are_those_in_which_the_defaults_differ() -> None:
    own = flat(cluster.layered(["config", "local"]))
    older = own | {"execution.buffer-timeout.interval": "7 ms", "heartbeat.interval": "7"}
    equal = versus.job_settings(older)
    assert equal["execution.buffer-timeout.interval"] == own["execution.buffer-timeout.interval"]
    assert {name for name in equal if not name.startswith("gammaflow.")} == {"execution.buffer-timeout.interval"}
    assert equal["gammaflow.window"] == jobs.WINDOW_S


def test_an_older_commit_is_checked_out_and_gone_afterwards() -> None:
    def worktrees() -> str:
        return subprocess.run(["git", "worktree", "list"], cwd=versus.TREE, capture_output=True, text=True).stdout

    if not worktrees():
        pytest.skip("this is no git checkout")
    with versus.checked_out("HEAD") as tree:
        assert (tree / "jobs" / "books.sql").exists()
        assert str(tree) in worktrees()
    assert not tree.exists()
    assert str(tree) not in worktrees()


def test_an_older_commit_is_gone_after_ctrl_c() -> None:
    trees: list[Path] = []

    def interrupted() -> None:
        with versus.checked_out("HEAD") as tree:
            trees.append(tree)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not trees[0].exists()


def test_an_unknown_commit_is_named() -> None:
    with pytest.raises(BenchError, match="no-such-commit could not be checked out"), versus.checked_out("no-such-commit"):
        pass

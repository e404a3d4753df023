"""What is left in the results of a benchmark by parts that succeed, fail, or are not run."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import report

OLD = {"commit": "aaaaaaa", "date": "2026-01-01", "machine": "old"}
NEW = {"commit": "bbbbbbb", "date": "2026-02-02", "machine": "new"}


def failing() -> dict[str, Any]:
    """A part that fails."""
    raise RuntimeError("no broker")


def read(folder: Path) -> dict[str, Any]:
    """The results of the bench `b`."""
    result: dict[str, Any] = json.loads((folder / "b.json").read_text())
    return result


def test_a_part_that_is_run_again_leaves_the_stamp_of_the_others_as_it_is() -> None:
    both = report.updated(report.updated({}, "slow", {"rate": 1}, OLD), "late", {"p50_ms": 2.0}, OLD)
    result = report.updated(both, "late", {"p99_ms": 3.0}, NEW)
    assert (result["rate"], result["slow_commit"], result["slow_date"], result["slow_machine"]) == (1, *OLD.values())
    assert (result["p99_ms"], result["late_commit"], result["late_date"], result["late_machine"]) == (3.0, *NEW.values())
    assert "p50_ms" not in result
    assert {name: result[name] for name in NEW} == NEW


def test_a_part_that_fails_loses_its_old_figures_and_its_stamp() -> None:
    both = report.updated(report.updated({}, "slow", {"rate": 1}, OLD), "late", {"p50_ms": 2.0}, OLD)
    result = report.updated(both, "slow", None, NEW)
    assert "rate" not in result
    assert not [name for name in result if name.startswith("slow_")]
    assert (result["p50_ms"], result["late_commit"]) == (2.0, "aaaaaaa")


def test_a_figure_without_a_stamp_is_dropped() -> None:
    result = report.updated({"rate": 1, "commit": "aaaaaaa"}, "late", {"p50_ms": 2.0}, NEW)
    assert "rate" not in result


@pytest.mark.parametrize("figures", [{"rate": 2}, {"commit": "x"}, {"late_commit": "x"}, {"slow_date": "x"}])
def test_two_parts_cannot_have_a_figure_of_one_name(figures: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="figures that another part has"):
        report.updated(report.updated({}, "slow", {"rate": 1}, OLD), "late", figures, NEW)


def test_each_result_is_flat() -> None:
    result = report.updated(report.updated({}, "slow", {"rate": 1}, OLD), "late", {"p50_ms": 2.0}, NEW)
    assert all(isinstance(value, str | int | float) for value in result.values())


def test_a_part_that_fails_does_not_stop_those_after_it_and_is_told_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.run("b", {"slow": lambda: {"rate": 1}, "late": lambda: {"p50_ms": 2.0}}, tmp_path)
    with pytest.raises(SystemExit) as ended:
        report.run("b", {"slow": failing, "last": lambda: {"p99_ms": 3.0}}, tmp_path)
    assert ended.value.code == 1
    result = read(tmp_path)
    assert "rate" not in result
    assert (result["p50_ms"], result["p99_ms"]) == (2.0, 3.0)
    assert "the part slow failed: no broker" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_a_part_that_is_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    report.run("b", {"slow": lambda: {"rate": 1}}, tmp_path)
    before = read(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        report.run("b", {"slow": interrupted}, tmp_path)
    assert read(tmp_path) == before


def test_parts_are_chosen_by_name_in_their_own_order() -> None:
    parts = {"slow": failing, "late": failing, "last": failing}
    assert list(report.chosen(parts, "last, slow")) == ["slow", "last"]
    with pytest.raises(ValueError, match="unknown: lost; there are slow, late, last"):
        report.chosen(parts, "slow,lost")


@pytest.mark.parametrize("name", ["GAMMAFLOW_PARTITIONS", "GAMMAFLOW_HEARTBEAT_MS"])
def test_a_setting_of_the_environment_is_not_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAMMAFLOW_PARTITIONS", raising=False)
    monkeypatch.delenv("GAMMAFLOW_HEARTBEAT_MS", raising=False)
    assert report.has_default_settings()
    monkeypatch.setenv(name, "1")
    assert not report.has_default_settings()

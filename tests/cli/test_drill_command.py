"""What `gammaflow drill` shows."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli import drill
from cli.main import app
from drills.report import Report

GREEN = Report("broker", rows=900, silence_s=7.25, read_again=40, repeats={"positions": 3, "bars": 2}, took_s=61.0)
RED = Report("forgetful", rows=900, faults=["ledger_entries: of 830 rows 415 repeated"], took_s=50.0)


def test_the_table_has_a_line_a_drill_and_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    drill.show(Console(width=200), [GREEN, RED])
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "broker 7.2 s 40 900 5 61 s green" in said
    assert "forgetful – 0 900 0 50 s red" in said
    assert "forgetful: ledger_entries: of 830 rows 415 repeated" in said
    assert "broker: repeated where delivery is at-least-once: 3 positions, 2 bars" in said


def test_json_has_what_the_table_has() -> None:
    green, red = json.loads(drill.as_json([GREEN, RED]))
    assert (green["drill"], green["is_green"], green["repeats"]) == ("broker", True, {"positions": 3, "bars": 2})
    assert (red["is_green"], red["faults"], red["silence_s"]) == (False, RED.faults, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["earthquake"], "no drill 'earthquake'; there are"), (["broker", "--jobs", "book"], "no job 'book'")],
)
def test_a_drill_or_job_that_is_not_known_is_refused_before_anything_is_started(arguments: list[str], said: str) -> None:
    shown = CliRunner().invoke(app, ["drill", *arguments])
    assert shown.exit_code == 1
    assert said in " ".join(shown.output.split())


def test_no_broker_of_the_user_is_drilled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMMAFLOW_KAFKA", "kafka:9092")
    shown = CliRunner().invoke(app, ["drill", "broker"])
    assert shown.exit_code == 1
    assert "GAMMAFLOW_KAFKA: drills kill what they run on" in " ".join(shown.output.split())

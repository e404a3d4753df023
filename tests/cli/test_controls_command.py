"""`gammaflow halt`, `resume`, `kill`, `reduce-only` and `controls`: what they write, and what they refuse."""

import io
import re
from typing import Any

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli import controls
from cli.main import app
from engine.controls import Log, Word
from schemas.controls import KINDS, control_fault
from schemas.rows import instant_ms

NOW_MS = 1_772_366_400_000
RUNNER = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
Said = list[dict[str, Any]]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Said:
    """What has been written to the topic of a broker that is up."""
    rows: Said = []

    def say(servers: str, row: Any) -> tuple[int, int]:
        assert servers == "here:9092" and control_fault(row, row["scope"]) is None
        rows.append(row)
        return 0, len(rows) - 1

    def standing(servers: str) -> Log:
        log = Log()
        for offset, row in enumerate(rows):
            log.take(0, offset, row["scope"].encode(), orjson.dumps(row))
        return log

    monkeypatch.setenv("GAMMAFLOW_KAFKA", "here:9092")
    monkeypatch.setattr(controls, "say", say)
    monkeypatch.setattr(controls, "standing", standing)
    return rows


def told(*arguments: str) -> str:
    shown = RUNNER.invoke(app, [*arguments])
    assert shown.exit_code == 0, shown.output
    return " ".join(shown.output.split())


def refused(*arguments: str) -> str:
    shown = RUNNER.invoke(app, [*arguments])
    assert shown.exit_code == 1, shown.output
    return " ".join(shown.output.split())


@pytest.mark.parametrize(
    ("command", "mode"), [("halt", "halt"), ("kill", "cancel-all"), ("reduce-only", "reduce-only"), ("resume", "run")]
)
def test_each_command_says_its_mode_with_who_and_why(topic: Said, command: str, mode: str) -> None:
    said = told(command, "--scope", "venue:deribit", "--why", "its clock jumps", "--who", "ann")
    (row,) = topic
    assert (row["scope"], row["mode"], row["who"], row["why"]) == ("venue:deribit", mode, "ann", "its clock jumps")
    assert (row["ends_at"], row["liquidations"]) == (None, False)
    assert f"said {mode} of venue:deribit: trading_controls.v1, partition 0, offset 0" in said
    assert ("no control is on: everything runs" in said) == (mode == "run")


def test_liquidations_stop_where_they_are_named(topic: Said) -> None:
    assert "go on" in told("halt", "--scope", "desk:a", "--why", "x")
    assert "stop too" in told("kill", "--scope", "all", "--why", "x", "--liquidations")
    assert [row["liquidations"] for row in topic] == [False, True]


def test_a_scope_that_is_resumed_is_on_no_more_and_others_are(topic: Said) -> None:
    told("halt", "--scope", "all", "--why", "a drill")
    told("kill", "--scope", "algo:twap", "--why", "it loops")
    shown = told("resume", "--scope", "all", "--why", "the drill is over")
    assert "it loops" in shown and "a drill" not in shown
    assert told("controls").endswith("it loops")


@pytest.mark.parametrize(("until", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400)])
def test_until_may_be_a_span(until: str, seconds: int) -> None:
    row = controls.control("all", "halt", "x", until, who="ann", now_ms=NOW_MS)
    assert row["ends_at"] == instant_ms(NOW_MS + 1000 * seconds)


def test_until_may_be_an_instant_in_utc_or_with_an_offset() -> None:
    for until in ("2026-03-01T13:00:00", "2026-03-01T13:00:00Z", "2026-03-01T14:00:00+01:00"):
        row = controls.control("all", "halt", "x", until, who="ann", now_ms=NOW_MS)
        assert row["ends_at"] == "2026-03-01T13:00:00.000Z"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--scope", "exchange:deribit", "--why", "x"],
            r"--scope: expected all, or one of venue:<name>, .*got 'exchange:deribit'",
        ),
        (["--scope", "all", "--why", " "], r"--why: expected a reason, in words, got ' '"),
        (["--scope", "all", "--why", "x", "--who", ""], r"--who: expected who says so"),
        (["--scope", "all", "--why", "x", "--until", "soon"], r"--until: expected an instant like .* got 'soon'"),
        (["--scope", "all", "--why", "x", "--until", "0s"], r"--until: expected later than event_at"),
        (
            ["--scope", "all", "--why", "x", "--until", "2020-01-01"],
            r"--until: expected an instant later than now, .*'2020-01-01'",
        ),
        (["--scope", "instrument:BTC-PERPETUAL", "--why", "x"], r"--scope: expected instrument:<venue>:<name>"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected_and_nothing_is_said(
    topic: Said, arguments: list[str], message: str
) -> None:
    assert re.search(message, refused("halt", *arguments))
    assert topic == []


@pytest.mark.parametrize("missing", ["--scope", "--why"])
def test_scope_and_reason_must_be_given(topic: Said, missing: str) -> None:
    arguments = [part for name, value in (("--scope", "all"), ("--why", "x")) if name != missing for part in (name, value)]
    shown = RUNNER.invoke(app, ["kill", *arguments])
    assert shown.exit_code == 2 and missing in shown.output and topic == []


def test_every_kind_of_scope_is_named_in_the_help() -> None:
    shown = RUNNER.invoke(app, ["halt", "--help"])
    assert all(f"{kind}:" in shown.output for kind in KINDS)


def test_a_broker_that_is_away_is_named_and_the_word_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "WRITE_S", 0.1)
    monkeypatch.setenv("GAMMAFLOW_KAFKA", "127.0.0.1:9")
    assert "not said: no Kafka broker answers at 127.0.0.1:9" in refused("kill", "--scope", "all", "--why", "x")


def test_the_strictest_control_is_shown_first_and_one_that_is_over_not_at_all() -> None:
    log = Log()
    rows = [
        controls.control("desk:a", "halt", "one", "5m", who="ann", now_ms=NOW_MS),
        controls.control("all", "reduce-only", "two", who="bob", now_ms=NOW_MS),
        controls.control("algo:x", "cancel-all", "three", liquidations=True, who="cid", now_ms=NOW_MS),
    ]
    for offset, row in enumerate(rows):
        log.take(0, offset, row["scope"].encode(), orjson.dumps(row))

    def shown(words: list[Word]) -> list[str]:
        console = Console(file=io.StringIO(), width=200)
        controls.show(console, words)
        assert isinstance(console.file, io.StringIO)
        return [line.split()[0] for line in console.file.getvalue().splitlines()[1:]]

    assert shown(controls.in_force(log, NOW_MS + 1)) == ["algo:x", "desk:a", "all"]
    assert shown(controls.in_force(log, NOW_MS + 300_000)) == ["algo:x", "all"]


def test_the_line_of_the_status_names_what_is_on(topic: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    assert controls.in_a_line("here:9092") == "none is on"
    told("halt", "--scope", "all", "--why", "a drill")
    assert controls.in_a_line("here:9092") == "halt of all: a drill"

    def none(servers: str) -> Log:
        raise controls.ControlError("no topic")

    monkeypatch.setattr(controls, "standing", none)
    assert controls.in_a_line("here:9092") == "no topic"

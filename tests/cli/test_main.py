"""The console command: what it says of itself."""

import re
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
import typer
from typer.testing import CliRunner

import jobs
from cli.feeding import account_feed, account_keys, market_feed
from cli.main import app, console, parsed_captures, parsed_ms, parsed_settings, parsed_speed
from deploy.processes import StartError
from feeds.capture import CaptureError
from feeds.private.keys import Keys, Secret
from feeds.venues import VENUES

COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
RUNNER = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_names_every_option_in_plain_english(name: str) -> None:
    shown = RUNNER.invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", shown.output).split())
    said = (COMMANDS[name].help or "").split(".")[0]
    assert " ".join(said.split()) in text
    for parameter in COMMANDS[name].params:
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert option in text


def test_help_lists_every_command() -> None:
    shown = RUNNER.invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert all(name in shown.output for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_says_what_it_is_for(name: str) -> None:
    mute = [p.name for p in COMMANDS[name].params if p.name != "help" and not getattr(p, "help", None)]
    assert mute == []


def test_jobs_lists_every_job_with_its_question_and_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 400)
    shown = RUNNER.invoke(app, ["jobs"])
    assert shown.exit_code == 0
    text = " ".join(shown.output.split())
    for name in jobs.FLOW:
        assert name in text
    assert "what are the best bid and ask of every instrument, at every change, and its best 20 levels every 100 ms?" in text
    assert "instruments, tickers, index_prices, trading_halts, book_depth, positions, balances" in text
    assert "every topic" in text


@pytest.mark.parametrize(("text", "speed"), [("max", None), ("1", 1.0), ("0.5", 0.5), ("1e3", 1000.0)])
def test_a_speed_is_max_or_a_number(text: str, speed: float | None) -> None:
    assert parsed_speed(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "inf", "", "MAX"])
def test_any_other_speed_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=rf"--speed: expected max or a number above 0, got {re.escape(repr(text))}"):
        parsed_speed(text)


def test_a_setting_is_parted_at_its_first_sign_of_equality() -> None:
    assert parsed_settings(["a.b=1", "c=d=e"]) == {"a.b": "1", "c": "d=e"}


@pytest.mark.parametrize("text", ["a", "=1", "a.b", ""])
def test_a_setting_without_key_or_value_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=rf"-D: expected key=value, got {re.escape(repr(text))}"):
        parsed_settings([text])


@pytest.mark.parametrize("text", ["some.log", "deribit:", "deribit"])
def test_a_capture_without_venue_or_file_is_refused_with_the_venues_there_are(text: str) -> None:
    with pytest.raises(
        CaptureError, match=rf"--capture {text}: expected venue:file, with a venue of {', '.join(sorted(VENUES))}"
    ):
        parsed_captures([text])


@pytest.mark.parametrize("arguments", [["status"], ["topics"], ["tail", "fills"], ["submit"], ["simulate"]])
def test_where_nothing_is_up_the_command_says_how_to_start(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("GAMMAFLOW_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("GAMMAFLOW_KAFKA", raising=False)
    monkeypatch.delenv("GAMMAFLOW_FLINK", raising=False)
    shown = RUNNER.invoke(app, arguments)
    assert shown.exit_code == 1
    assert "nothing is up: `gammaflow up` starts the embedded runtime" in " ".join(shown.output.split())


def test_an_unknown_table_and_an_unknown_option_are_named() -> None:
    shown = RUNNER.invoke(app, ["tail", "fils"])
    assert shown.exit_code == 1
    assert "no table 'fils'" in shown.output
    assert RUNNER.invoke(app, ["replay", "--sped", "1"]).exit_code == 2


def test_a_wrong_setting_of_feeds_is_named_before_anything_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("something is started")

    monkeypatch.setattr("cli.play.runtime.temporary", start)
    monkeypatch.setenv("GAMMAFLOW_HEARTBEAT_MS", "soon")
    (tmp_path / "some.log").write_text("")
    arguments = ["replay", "--capture", f"deribit:{tmp_path / 'some.log'}", "--out", str(tmp_path / "out")]
    shown = RUNNER.invoke(app, arguments)
    assert shown.exit_code == 1
    assert "GAMMAFLOW_HEARTBEAT_MS: expected milliseconds above 0, got 'soon'" in " ".join(shown.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("parallelism", "taskmanagers"), [(1, 1), (2, 1), (4, 2)])
def test_a_replay_starts_as_many_taskmanagers_as_its_jobs_have_tasks_for(
    parallelism: int, taskmanagers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[object] = []

    def start(_: object, count: int, **__: object) -> None:
        started.append(count)
        raise StartError("enough")

    monkeypatch.setattr("cli.play.runtime.temporary", start)
    (tmp_path / "some.log").write_text("")
    arguments = ["replay", "--capture", f"deribit:{tmp_path / 'some.log'}", "--out", str(tmp_path / "out")]
    assert RUNNER.invoke(app, [*arguments, "--parallelism", str(parallelism)]).exit_code == 1
    assert started == [taskmanagers]


def test_a_replay_that_no_embedded_cluster_has_slots_for_says_so_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "some.log").write_text("")
    arguments = ["replay", "--capture", f"deribit:{tmp_path / 'some.log'}", "--out", str(tmp_path / "out")]
    shown = RUNNER.invoke(app, [*arguments, "--parallelism", "128"])
    assert shown.exit_code == 1
    count = len(jobs.FLOW)
    assert f"{count} jobs at parallelism 128 need {128 * count} task slots" in " ".join(shown.output.split())
    assert not (tmp_path / "out").exists()


def test_a_proxy_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=re.escape("--via: expected http://host:port, got 'socks5://here:1'")):
        market_feed("deribit", ["*"], mock.Mock(), paths=["http://here:1", "socks5://here:1"])


def test_an_unknown_market_is_refused_with_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no market 'bitget_sp'; there are binance_coinm, .*okx, pyth\. Is it bitget_spot\?"):
        market_feed("bitget_sp", ["*"], mock.Mock())


KEYS = Keys(Secret("visible-key-id"), Secret("hidden-secret"), name="keys.json")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["okx"], "GAMMAFLOW_OKX_KEY: expected a text, got none; name a file with --keys or in GAMMAFLOW_OKX_KEYS"),
        (["okx", "--keys", "nothing.json"], "nothing.json: expected a file with keys: No such file or directory"),
        (["dydx"], "no private channel of 'dydx'; there are binance_coinm, "),
        (["binance"], "Is it binance_"),
        (["okx", "--record", "log"], "--private: without --record and --redundant"),
    ],
)
def test_a_private_feed_that_cannot_start_says_so_in_one_line_before_it_connects(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    for name in ("GAMMAFLOW_OKX_KEY", "GAMMAFLOW_OKX_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(console, "width", 400)
    shown = RUNNER.invoke(app, ["feed", *arguments, "--private", "desk"])
    assert shown.exit_code == 1
    assert expected in shown.output
    assert len(shown.output.splitlines()) == 1


def test_keys_and_a_time_to_resume_at_are_of_a_private_feed_alone() -> None:
    assert "--keys and --since need --private" in RUNNER.invoke(app, ["feed", "okx", "--keys", "keys.json"]).output


@pytest.mark.parametrize(
    ("market", "options", "expected"),
    [
        ("bybit", {"symbols": ["BTCUSDT"]}, "--symbols: a private channel of bybit has all instruments"),
        ("binance_spot", {"symbols": ["BTC*"]}, r"--symbols: with --private expected whole symbols, got 'BTC\*'"),
        ("bybit", {"since": "yesterday"}, "--since: expected a time of the past with its zone, .* got 'yesterday'"),
        ("bybit", {"since": "2026-05-01T07:30"}, "--since: expected a time of the past with its zone"),
        ("bybit", {"since": "2999-05-01T07:30Z"}, "--since: expected a time of the past with its zone"),
        ("bybit", {"paths": ["socks5://here:1"]}, "--via: expected http://host:port"),
        ("okx", {}, "keys.json: expected a passphrase too"),
    ],
)
def test_a_wrong_option_of_a_private_feed_is_named(market: str, options: dict[str, Any], expected: str) -> None:
    chosen: dict[str, Any] = {"symbols": [], "since": None, "paths": [], **options}
    with pytest.raises(ValueError, match=expected):
        account_feed(market, "desk", KEYS, mock.Mock(), **chosen)


def test_the_keys_of_a_market_of_binance_are_those_of_binance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMMAFLOW_BINANCE_KEY", "visible-key-id")
    monkeypatch.setenv("GAMMAFLOW_BINANCE_SECRET", "hidden-secret")
    keys = account_keys("binance_usdm", None)
    assert (keys.key.reveal(), keys.name) == ("visible-key-id", "GAMMAFLOW_BINANCE_KEY")


@pytest.mark.parametrize("told", ["", "1", "0s", "1h", "-1s"])
@pytest.mark.parametrize("option", ["--behind", "--every"])
def test_a_time_of_heartbeats_that_is_none_is_refused(option: str, told: str) -> None:
    shown = RUNNER.invoke(app, ["heartbeats", "trades.v1", option, told])
    assert shown.exit_code == 1
    assert f"{option}: expected a time above 0, such as 1s or 250ms, got {told!r}" in " ".join(shown.output.split())


def test_a_time_is_in_seconds_or_milliseconds() -> None:
    assert [parsed_ms("--behind", told) for told in ("1s", "0.5 s", "250ms")] == [1_000, 500, 250]

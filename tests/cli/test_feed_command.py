"""`gammaflow feed` with something wrong: one line that names it, and status 1."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from cli import feeding, main
from feeds.publish import Publisher


def refused(arguments: list[str]) -> str:
    """The one line that a feed ends with."""
    result = CliRunner().invoke(main.app, ["feed", *arguments])
    assert result.exit_code == 1, result.output
    (line,) = result.output.splitlines()
    return line


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes everything."""
    monkeypatch.setenv("GAMMAFLOW_KAFKA", "127.0.0.1:1")
    monkeypatch.setattr(feeding, "Publisher", lambda servers: nullcontext(mock.Mock(spec=Publisher)))


@pytest.mark.usefixtures("broker")
def test_a_wrong_market_is_named_with_the_nearest() -> None:
    assert refused(["binance_usd"]).startswith("gammaflow: no market 'binance_usd'; there are ")
    assert refused(["binance_usd"]).endswith("Is it binance_usdm?")


@pytest.mark.usefixtures("broker")
def test_a_wrong_proxy_is_named_with_what_is_expected() -> None:
    assert (
        refused(["deribit", "--via", "socks5://here:1"]) == "gammaflow: --via: expected http://host:port, got 'socks5://here:1'"
    )


def test_a_recording_that_cannot_be_written_is_named_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused(["deribit", "--record", str(tmp_path / "file" / "feed.log")])
    assert line.startswith(f"gammaflow: {tmp_path}/file/feed.log.")


def test_a_broker_that_is_dead_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMMAFLOW_KAFKA", "127.0.0.1:1")
    monkeypatch.setattr(feeding, "Publisher", partial(Publisher, timeout_s=0.5))
    assert refused(["deribit"]).startswith("gammaflow: no Kafka broker answers at 127.0.0.1:1 within 0.5 s")

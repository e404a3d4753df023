"""The live ladder: what it shows of a book, and what it finds in Kafka."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.book import Ladder, bar, decimals
from cli.main import app
from deploy.runtime import Runtime
from feeds import Record
from feeds.publish import Publisher
from schemas.rows import instant_ms, instant_us

NOW_MS = time.time_ns() // 1_000_000 // 1000 * 1000
RUNNER = CliRunner(env={"COLUMNS": "140", "TERM": "dumb", "NO_COLOR": "1"})
VENUE = "ladder_venue"


def depth(at_ms: int = NOW_MS, **fields: Any) -> dict[str, Any]:
    row = {"venue": VENUE, "instrument": "BTC-USD", "event_at": instant_ms(at_ms), "sequence": 7}
    return row | {"bids": [[99.5, 4.0], [99.0, 1.0]], "asks": [[100.5, 8.0], [101.0, 0.25]], "is_stale": False} | fields


def top(at_ms: int = NOW_MS, **fields: Any) -> dict[str, Any]:
    row = {"venue": VENUE, "instrument": "BTC-USD", "event_at": instant_ms(at_ms), "sequence": 7}
    row |= {"received_at": instant_us((at_ms + 12) * 1000), "bid_price": 99.5, "bid_size": 4.0}
    return row | {"ask_price": 100.5, "ask_size": 8.0, "is_stale": False} | fields


def trade(number: int, **fields: Any) -> dict[str, Any]:
    at_ms = NOW_MS + number
    row = {"venue": VENUE, "instrument": "BTC-USD", "event_at": instant_ms(at_ms), "trade_id": str(number)}
    return row | {"received_at": instant_us((at_ms + 12) * 1000), "side": "buy", "price": 100.5, "size": 0.125} | fields


def shown(*rows: tuple[str, dict[str, Any]], after_ms: int = 350, levels: int = 10, width: int = 100) -> list[str]:
    ladder = Ladder(VENUE, "BTC-USD", levels)
    for table, row in rows:
        ladder.apply(table, row)
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(ladder.draw((NOW_MS + after_ms) * 1000))
    return [" ".join(line.split()) for line in capture.get().splitlines()]


def test_a_ladder_shows_depth_spread_and_trades_newest_first() -> None:
    lines = shown(("book_depth", depth()), ("trades", trade(1)), ("trades", trade(2, side="sell", price=99.5)))
    assert lines[0] == f"{VENUE}:BTC-USD #7"
    assert lines[1].startswith(f"exchange time {instant_ms(NOW_MS)[:-1].replace('T', ' ')} UTC 350 ms behind this clock")
    assert lines[1].endswith("received 12 ms after it")
    when = [instant_ms(NOW_MS + number)[11:-1] for number in (1, 2)]
    assert lines[3:] == [
        "price size depth last trades side price size",
        f"101.0 0.25 ▌ {when[1]} sell 99.5 0.125",
        f"100.5 8.00 ██████████████████ {when[0]} buy 100.5 0.125",
        "spread 1.0 100 bps",
        "99.5 4.00 █████████",
        "99.0 1.00 ██▎",
    ]


def test_fewer_levels_are_the_best_ones() -> None:
    prices = [line.split()[0] for line in shown(("book_depth", depth()), levels=1)[4:7]]
    assert prices == ["100.5", "spread", "99.5"]


def test_best_prices_stand_in_for_a_depth_that_has_not_come_and_give_way_to_it() -> None:
    lines = shown(("book_tops", top(bid_price=None, bid_size=None)))
    assert "best prices only: book_depth has nothing of this instrument" in lines
    assert [line.split()[0] for line in lines[-3:]] == ["100.5", "spread", "none"]
    assert len(shown(("book_tops", top()), ("book_depth", depth()))) == 9


@pytest.mark.parametrize(
    ("rows", "is_stale"),
    [
        ([("book_depth", depth(is_stale=True))], True),
        ([("book_depth", depth()), ("book_tops", top(NOW_MS + 1, is_stale=True))], True),
        ([("book_depth", depth(NOW_MS + 100)), ("book_tops", top(NOW_MS, is_stale=True))], False),
        ([("book_tops", top(is_stale=True)), ("book_tops", top(NOW_MS + 1))], False),
    ],
)
def test_a_stale_book_says_so_loudly_by_the_newest_of_both_topics(
    rows: list[tuple[str, dict[str, Any]]], is_stale: bool
) -> None:
    assert ("STALE: updates were lost; prices are the last known" in shown(*rows)) == is_stale


def test_without_a_book_it_waits_and_says_so() -> None:
    assert shown()[:2] == [f"{VENUE}:BTC-USD", "no book yet: waiting for the first"]


@pytest.mark.parametrize(
    ("after_ms", "words"),
    [(5000, "5.0 s behind"), (3 * 86_400_000, "3 d behind"), (-1500, "1.5 s ahead of"), (7_300_000, "2 h behind")],
)
def test_how_far_behind_is_said_in_a_unit_that_suits(after_ms: int, words: str) -> None:
    assert f"{words} this clock" in shown(("book_depth", depth()), after_ms=after_ms)[1]


def test_numbers_have_the_decimals_of_the_longest_and_bars_the_share_of_the_largest() -> None:
    assert [decimals(values) for values in ([], [100.0], [0.5, 0.25], [1e-7], [1e20])] == [0, 0, 2, 7, 0]
    assert [bar(0, 8), bar(0.001, 8), len(bar(8, 8)), bar(1, 0)] == ["", "▏", 18, "▏"]


@pytest.fixture(scope="module")
def home(suite: Runtime) -> Path:
    """A broker that has heard of two instruments: one with a book, one of which nothing but a trade has come."""
    with Publisher(suite.kafka) as publisher:
        for record in (
            *[Record("book_depth", NOW_MS + at, depth(NOW_MS + at, sequence=at)) for at in (0, 100)],
            Record("book_tops", NOW_MS, top()),
            *[Record("trades", NOW_MS + number, trade(number)) for number in range(3)],
            Record("trades", NOW_MS, trade(9, instrument="ETH-USD")),
        ):
            publisher.publish(record)
    return Path(suite.home)


def run(home: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GAMMAFLOW_HOME", str(home))
    return RUNNER.invoke(app, ["book", *arguments])


def test_once_prints_the_newest_ladder_and_leaves(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = run(home, "btc-usd", "--venue", VENUE, "--once", monkeypatch=monkeypatch)
    assert printed.exit_code == 0, printed.output
    assert f"{VENUE}:BTC-USD   #100" in printed.output
    assert "spread" in printed.output and printed.output.count(" buy ") == 3


def test_once_without_a_book_and_an_unknown_name_say_what_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bookless = run(home, f"{VENUE}:ETH-USD", "--once", monkeypatch=monkeypatch)
    assert bookless.exit_code == 1
    assert f"no book of {VENUE}:ETH-USD has come yet; is the job `books` running?" in bookless.output
    unknown = run(home, "BTC-UDS", "--venue", VENUE, "--once", monkeypatch=monkeypatch)
    assert unknown.exit_code == 1
    assert f"no instrument 'BTC-UDS' on {VENUE} among 2; the nearest are {VENUE}:BTC-USD" in unknown.output


def test_the_live_ladder_shows_what_comes_and_leaves_at_ctrl_c(home: Path, suite: Runtime) -> None:
    # A terminal, for what is drawn there is drawn as it comes.
    master, slave = os.openpty()
    env = {**os.environ, "GAMMAFLOW_HOME": str(home), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    command = [sys.executable, "-m", "cli.main", "book", f"{VENUE}:BTC-USD"]
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
        cwd=Path(__file__).parents[2],
        # Whoever runs these tests in the background has made them deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(slave)
    screen = b""

    def wait_for(text: bytes) -> None:
        nonlocal screen
        while text not in screen:
            assert select.select([master], [], [], 60)[0], screen
            screen += os.read(master, 65536)

    try:
        wait_for(b"#100")
        with Publisher(suite.kafka) as publisher:
            publisher.publish(Record("book_depth", NOW_MS + 200, depth(NOW_MS + 200, sequence=31_415, is_stale=True)))
        wait_for(b"#31415")
        wait_for(b"STALE")
        process.send_signal(signal.SIGINT)
        wait_for(b"gammaflow: stopped")
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert b"Traceback" not in screen

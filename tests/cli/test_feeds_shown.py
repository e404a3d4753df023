"""How `gammaflow status` shows feeds that write from elsewhere."""

from typing import Any

import pytest
from rich.console import Console

from cli.feeds_shown import FORGOTTEN_S, SILENT_S, duration, newest_of, table
from schemas.rows import encoded, instant_ms, instant_us

NOW_MS = 1_700_000_000_000


def row(feed: str, age_s: float, state: str = "running", **other: Any) -> dict[str, Any]:
    """What a feed wrote so long ago."""
    at_ms = NOW_MS - int(age_s * 1000)
    return {
        "feed": feed,
        "market": "deribit",
        "host": "far",
        "pid": 17,
        "version": "0.1.0",
        "started_at": instant_ms(at_ms - 7_500_000),
        "event_at": instant_ms(at_ms),
        "state": state,
        "reason": None,
        "symbols": 1234,
        "connections_needed": 3,
        "connections_open": 2,
        "messages": 100_000,
        "messages_per_s": 2150.4,
        "newest_at": instant_us((at_ms - 200) * 1000),
        **other,
    }


def lines(*rows: dict[str, Any]) -> list[str]:
    """What is printed below the headings, with single spaces."""
    console = Console(width=250)
    with console.capture() as capture:
        console.print(table(list(rows), NOW_MS))
    return [" ".join(line.split()) for line in capture.get().splitlines()[1:]]


def test_a_line_has_what_a_feed_follows_how_fast_and_where_it_runs() -> None:
    assert lines(row("a", 1)) == ["a deribit running 2 h 5 min 1,234 2/3 2,150 1.2 s ago far, process 17, 0.1.0"]


def test_a_feed_that_goes_without_a_word_is_silent_since_its_last_one_and_one_that_stops_says_so() -> None:
    alive, silent, stopped, failed = lines(
        row("a", SILENT_S),
        row("b", SILENT_S + 1),
        row("c", 3600, "stopped"),
        row("d", 3600, "failed", reason="deribit lists no BTC"),
    )
    assert " running " in alive
    assert "silent since 2023-11-14 22:13:04" in silent
    assert "stopped 2023-11-14 21:13:20" in stopped and "silent" not in stopped
    assert "failed 2023-11-14 21:13:20: deribit lists no BTC" in failed


def test_what_has_ended_long_ago_is_not_shown() -> None:
    assert lines(row("a", FORGOTTEN_S + 1, "stopped"), row("b", FORGOTTEN_S + 1)) == []


def test_the_newest_row_of_each_feed_counts_and_what_is_none_is_left_out() -> None:
    rows = [row("b", 30), row("a", 5), row("a", 10), {"feed": "c"}]
    values = [*map(encoded, rows), None, b"{", b"[]"]
    assert [(one["feed"], one["event_at"]) for one in newest_of(values)] == [
        ("a", instant_ms(NOW_MS - 5_000)),
        ("b", instant_ms(NOW_MS - 30_000)),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (59, "59 s"), (61, "1 min 1 s"), (3_600, "1 h 0 min"), (90_000, "1 d 1 h"), (-1, "0.0 s")],
)
def test_a_duration_is_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text

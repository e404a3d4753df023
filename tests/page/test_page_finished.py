"""A finished run at an instant shows what a live page would have shown then."""

import random
from pathlib import Path
from typing import Any

import pytest

from page.finished import MOST_ROWS, Moment, Run, RunError
from page.generated import write_rows
from page.sources import Finished
from page.store import Store
from page.tables import SECOND, TABLES
from schemas.rows import to_ms
from tests.page.given import PERP, T0, VENUE, control, depth, event, letter, margin, trade

Rows = dict[str, list[dict[str, Any]]]
BOOK = {"venue": VENUE, "instrument": PERP}


def history() -> Rows:
    """Six seconds, with several rows at one instant."""
    draw = random.Random(29)
    times = sorted(draw.choice(range(0, 6_000, 50)) for _ in range(240))
    accounts = [margin(draw.choice(("ann", "bob", "cid")), ms, round(draw.uniform(0.1, 1.5), 3)) for ms in times[::4]]
    depths = [
        depth(ms, 100.0 + n, draw.choice((PERP, "ETH_USDC-PERPETUAL")), is_stale=draw.random() < 0.1)
        for n, ms in enumerate(times)
    ]
    return {
        "account_margin": accounts,
        "book_depth": depths,
        "trades": [trade(ms, 100.0 + n) for n, ms in enumerate(times[::3])],
        "liquidation_events": [event("bob", ms, n, f"reason {n}") for n, ms in enumerate(times[::30])],
        "trading_controls": [control("venue:sim_beta", mode, ms) for mode, ms in (("halt", 1_000), ("run", 3_000))],
    }


@pytest.fixture(scope="module")
def rows() -> Rows:
    return history()


@pytest.fixture(scope="module")
def folder(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    for table, given in rows.items():
        write_rows(out, table, given)
    write_rows(out, "dead_letters", [letter(7, "eyJh")])
    return out


@pytest.mark.parametrize("ms", [-1, 0, 775, 2_000, 3_000, 5_999, 9_000])
def test_it_is_what_a_store_would_know_that_had_heard_the_rows_up_to_then(folder: Path, rows: Rows, ms: int) -> None:
    moment, store = Moment(Run(folder), T0 + ms), Store()
    for table, given in rows.items():
        store.put(table, [row for row in given if to_ms(row["event_at"]) <= T0 + ms])
    for table in rows:
        key = TABLES[table].key
        if key:
            assert by(key, moment.newest(table)) == by(key, store.newest(table)), table
    assert moment.newest("account_margin", account="bob") == store.newest("account_margin", account="bob")
    assert moment.newest("book_depth", **BOOK) == store.newest("book_depth", **BOOK)
    for table, equal in (
        ("trades", BOOK),
        ("book_depth", BOOK),
        ("account_margin", {"account": "ann"}),
        ("liquidation_events", {}),
    ):
        assert moment.since(table, 0, **equal)[0] == store.since(table, 0, **equal)[0], table


def by(key: tuple[str, ...], rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    named = {tuple(row[column] for column in key): row for row in rows}
    assert len(named) == len(rows)
    return named


def test_as_time_goes_on_each_row_of_a_ring_is_told_once(folder: Path, rows: Rows) -> None:
    run, mark = Run(folder), 0
    told: list[dict[str, Any]] = []
    for ms in range(0, 7_000, 333):
        fresh, mark = Moment(run, T0 + ms).since("trades", mark, **BOOK)
        told += fresh
    assert told == rows["trades"]


def test_its_version_changes_with_its_rows_and_each_second(folder: Path) -> None:
    run = Run(folder)
    early, same, late = (Moment(run, T0 + ms) for ms in (3_000, 3_001, 5_900))
    assert early.version(["trading_controls", "trades"]) == same.version(["trading_controls", "trades"])
    assert early.version(["trades"]) != late.version(["trades"])
    assert early.version([SECOND]) + 2 == late.version([SECOND])


def test_the_slider_goes_from_the_first_row_to_the_last(folder: Path, rows: Rows) -> None:
    times = [to_ms(row["event_at"]) for table in rows for row in rows[table] if table != "trading_controls"]
    head = Finished(folder).head()
    assert (head["first_ms"], head["last_ms"]) == (min(times), max(times))
    assert head["counts"]["trades"] == len(rows["trades"])


def test_time_goes_on_at_the_speed_asked_for_and_ends_with_the_run(folder: Path) -> None:
    source = Finished(folder)
    still, fast = source.looking(T0 + 1_000, 0.0), source.looking(T0 + 1_000, 1e9)
    assert still()[0].clock_ms == T0 + 1_000
    assert fast()[0].clock_ms == source.run.span_ms[1]


def test_a_story_ends_at_the_instant(folder: Path) -> None:
    source = Finished(folder)
    whole, early = source.story("bob", None), source.story("bob", T0 + 2_000)
    assert early["lines"] == [line for line in whole["lines"] if to_ms(line[0]) <= T0 + 2_000]
    assert 0 < len(early["lines"]) < len(whole["lines"])


def test_bytes_and_decimals_stand_as_in_the_topic(tmp_path: Path) -> None:
    write_rows(tmp_path, "dead_letters", [letter(7, "eyJh")])
    fund = {
        "entry_id": "USDC/1",
        "currency": "USDC",
        "event_at": "2024-12-20T12:00:00.000Z",
        "number": 1,
        "kind": "fee",
        "account": "a",
    }
    fund |= {"claim_id": "c", "amount": "12.50", "balance": "1000000", "amount_usd": 12.5, "reason": "r"}
    write_rows(tmp_path, "fund_entries", [fund])
    moment = Moment(Run(tmp_path), 2**45)
    assert moment.since("dead_letters", 0)[0][0]["original"] == "eyJh"
    (row,) = moment.newest("fund_entries")
    assert (row["amount"], row["balance"], row["counter_account"]) == ("12.5", "1000000", None)


def test_a_folder_that_is_no_run_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="no such folder"):
        Run(tmp_path / "nothing")
    with pytest.raises(RunError, match="no Parquet files"):
        Run(tmp_path)
    write_rows(tmp_path, "trades", [trade(1, 1.0), trade(2, 1.0)])
    monkeypatch.setattr("page.finished.MOST_ROWS", 1)
    with pytest.raises(RunError, match="2 rows"):
        Run(tmp_path)
    assert MOST_ROWS > 1

"""What is kept of the rows that come: the newest of each key, and short rings."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from page.store import MOST_RINGS, Store
from page.tables import TABLES
from schemas.records import TABLES as TOPICS
from tests.page.given import PERP, T0, VENUE, control, depth, margin, trade

BOOK = {"venue": VENUE, "instrument": PERP}


def test_every_table_and_key_that_is_kept_is_one_of_the_topics() -> None:
    for table, kept in TABLES.items():
        assert set(kept.key) | set(kept.ring_by) <= TOPICS[table].columns.keys(), table
        assert kept.key or kept.ring, table


def test_the_newest_row_by_event_time_counts_however_rows_come() -> None:
    store = Store()
    store.put("account_margin", [margin("ann", 2_000, 0.5), margin("ann", 1_000, 0.9), margin("ann", 2_000, 0.6)])
    assert [row["margin_ratio"] for row in store.newest("account_margin", account="ann")] == [0.6]


def test_of_controls_the_newest_in_the_log_counts_and_one_that_is_taken_back_is_gone() -> None:
    store = Store()
    store.put("trading_controls", [control("all", "halt", 9_000), control("all", "run", 1_000)])
    assert [row["mode"] for row in store.newest("trading_controls")] == ["run"]
    before = store.version(["trading_controls"])
    store.remove("trading_controls", ("all",))
    assert store.newest("trading_controls") == []
    assert store.version(["trading_controls"]) != before


@given(st.lists(st.integers(0, 5), max_size=12))
def test_whoever_asks_now_and_then_gets_each_row_of_a_ring_once_and_in_order(portions: list[int]) -> None:
    store, told, mark, sent = Store(), [], 0, 0
    for portion in portions:
        store.put("trades", [trade(sent + n, 100.0) for n in range(portion)])
        sent += portion
        rows, mark = store.since("trades", mark, **BOOK)
        told += [int(row["trade_id"]) for row in rows]
    assert told == list(range(sent))


def test_a_ring_keeps_its_newest_rows_and_a_mark_from_before_them_gets_no_more() -> None:
    store, most = Store(), TABLES["trades"].ring
    store.put("trades", [trade(n, 100.0) for n in range(most + 7)])
    rows, _ = store.since("trades", 1, **BOOK)
    assert [int(row["trade_id"]) for row in rows] == list(range(7, most + 7))


def test_rows_of_a_thinned_ring_are_so_far_apart_and_the_newest_row_is_the_newest_all_the_same() -> None:
    store, apart = Store(), TABLES["book_depth"].every_ms
    store.put("book_depth", [depth(ms, 100.0 + ms) for ms in range(0, 1_001, 100)])
    times = [row["sequence"] for row in store.since("book_depth", 0, **BOOK)[0]]
    assert all(later - earlier >= apart for earlier, later in pairwise(times))
    assert store.newest("book_depth", **BOOK)[0]["sequence"] == 1_000


def test_rings_are_no_more_than_so_many_and_the_one_that_was_longest_silent_goes() -> None:
    store = Store()
    store.put("book_depth", [depth(n, 1.0, f"B{n}") for n in range(MOST_RINGS + 1)])
    assert store.since("book_depth", 0, venue=VENUE, instrument="B0")[0] == []
    assert len(store.since("book_depth", 0, venue=VENUE, instrument="B1")[0]) == 1


def test_a_heartbeat_moves_the_clock_and_a_clock_on_the_wall_does_not() -> None:
    store = Store()
    store.put("trades", [], T0 + 500)
    store.put("trading_controls", [control("all", "halt", 9_000_000)])
    assert store.clock_ms == T0 + 500
    assert store.reached()["trades"] == (T0 + 500, 0)


def test_when_all_is_forgotten_it_is_another_epoch() -> None:
    store = Store()
    store.put("trades", [trade(1, 100.0)])
    store.forget("trades")
    assert (store.since("trades", 0, **BOOK)[0], store.epoch) == ([], 0)
    store.forget()
    assert store.epoch == 1

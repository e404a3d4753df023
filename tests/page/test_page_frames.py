"""What a browser is told: all at first, then what has changed, and never what is old by then."""

from typing import Any

import orjson

from page import views
from page.frames import Framing
from page.store import Store
from page.views import danger
from tests.page.given import PERP, VENUE, depth, margin, market, trade

BOOK = {"book": f"{VENUE}:{PERP}"}


def told(framing: Framing, store: Store, now_s: float) -> dict[str, Any] | None:
    frame = framing.frame(store, store.trouble, now_s)
    if frame is None:
        return None
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    parsed: dict[str, Any] = orjson.loads(frame[6:])
    return parsed


def test_every_view_has_its_parts_and_each_part_has_a_value_where_nothing_is_known() -> None:
    for view in views.VIEWS:
        query = {"chain": "v:BTC", "expiry": "2024-12-27T08:00:00.000Z", "account": "ann", **BOOK}
        frame = told(Framing(views.wants(view, query), {"kind": "live"}), Store(), 0.0)
        assert frame is not None
        assert frame["kind"] == "live"
        assert all(
            value in ([], {"count": 0, "statuses": {}, "rows": []}) or name == "flow" for name, value in frame["parts"].items()
        )


def test_what_comes_between_two_frames_is_told_by_its_newest_row_alone() -> None:
    store, framing = Store(), Framing(views.wants("trader", BOOK), {})
    market(store)
    assert told(framing, store, 0.0) is not None
    store.put("book_depth", [depth(200 + n, 100.0 + n) for n in range(1_000)])
    frame = told(framing, store, 0.2)
    assert frame is not None
    assert frame["parts"]["depth"] == [depth(1_199, 1_099.0)]


def test_where_nothing_has_changed_nothing_is_told() -> None:
    store, framing = Store(), Framing(views.wants("risk", {}), {})
    market(store)
    assert told(framing, store, 0.0) is not None
    assert told(framing, store, 5.0) is None


def test_a_part_is_told_no_more_often_than_it_may() -> None:
    store, framing = Store(), Framing(views.wants("risk", {}), {})
    market(store)
    told(framing, store, 0.0)
    store.put("account_margin", [margin("ann", 150, 0.9)])
    early, late = told(framing, store, 0.1), told(framing, store, 0.6)
    assert early is not None  # the clock has moved
    assert "accounts" not in early["parts"]
    assert late is not None
    assert [row["account"] for row in late["parts"]["accounts"]["rows"]] == ["bob", "ann", "cid"]


def test_a_ring_is_told_once_and_again_after_everything_was_read_anew() -> None:
    store, framing = Store(), Framing(views.wants("trader", BOOK), {})
    market(store)
    first = told(framing, store, 0.0)
    store.put("trades", [trade(70, 102.0)])
    second = told(framing, store, 1.0)
    assert first is not None
    assert second is not None
    assert [row["trade_id"] for row in first["parts"]["trades"]] == ["50", "60"]
    assert [row["trade_id"] for row in second["parts"]["trades"]] == ["70"]
    assert "is_new" not in second
    store.forget()
    store.put("trades", [trade(70, 102.0)])
    third = told(framing, store, 2.0)
    assert third is not None
    assert third["is_new"]
    assert [row["trade_id"] for row in third["parts"]["trades"]] == ["70"]


def test_trouble_is_told_at_once_and_its_end_too() -> None:
    store, framing = Store(), Framing(views.wants("audit", {}), {})
    told(framing, store, 0.0)
    store.trouble = "no broker"
    frame = told(framing, store, 0.1)
    assert frame is not None
    assert frame["trouble"] == "no broker"
    store.trouble = None
    assert told(framing, store, 0.2) is not None
    assert told(framing, store, 0.3) is None


def test_accounts_are_ordered_by_ratio_those_without_equity_first_and_those_without_positions_last() -> None:
    rows = [
        margin("a", 0, 0.2),
        margin("b", 0, None),
        margin("c", 0, 0.9),
        margin("d", 0, None) | {"maintenance_margin_usd": 0.0},
    ]
    assert [row["account"] for row in sorted(rows, key=danger, reverse=True)] == ["b", "c", "a", "d"]


def test_a_position_that_the_newest_valuation_does_not_have_is_not_held_any_more() -> None:
    store = Store()
    base = {"account": "ann", "venue": VENUE, "size": 1.0, "mark_price": 1.0}
    none = dict.fromkeys(
        ("initial_margin_usd", "maintenance_margin_usd", "contribution_usd", "worst_scenario", "worst_loss_usd")
    )
    old, new = margin("ann", 0, 0.5)["event_at"], margin("ann", 1_000, 0.5)["event_at"]
    store.put("position_margin", [base | none | {"instrument": name, "event_at": old} for name in ("X", "Y")])
    store.put("position_margin", [base | none | {"instrument": "Y", "event_at": new}])
    frame = told(Framing(views.wants("risk", {"account": "ann"}), {}), store, 0.0)
    assert frame is not None
    assert [row["instrument"] for row in frame["parts"]["positions"]] == ["Y"]

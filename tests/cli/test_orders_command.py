"""`gammaflow order`: a person's requests, and the story of an order."""

from typing import Any

import pytest
from typer.testing import CliRunner

from cli import explain, order_story, orders
from engine.contract import Message
from kernels.orders import KERNEL, wrong_request
from schemas.rows import fault, instant_ms, instant_us
from tests.kernels.order_path import Path, at, fill, guard, report, request

T0 = 1_700_000_000_000
RUNNER = CliRunner()


def test_a_request_is_a_row_that_the_job_takes_and_the_same_command_twice_is_two() -> None:
    row = orders.requested("new", "a", "v:P", side="buy", quantity="1e1", price="100.5", now_ms=T0)
    assert fault("order_requests", row) is None and wrong_request(dict(row)) is None
    assert (row["quantity"], row["order_type"], row["source"]) == ("10", "limit", "person")
    later = orders.requested("new", "a", "v:P", side="buy", quantity="1e1", price="100.5", now_ms=T0 + 1)
    assert later["client_order_id"] != row["client_order_id"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"market": "P"}, "venue:instrument"),
        ({"quantity": "many"}, "quantity: expected a number"),
        ({"price": "NaN"}, "price: expected a number"),
        ({"name": "a-b"}, "client_order_id"),
        ({"orig": "X"}, "orig_client_order_id"),
    ],
)
def test_what_is_no_request_is_refused_with_the_field_and_what_was_expected(fields: dict[str, str], wrong: str) -> None:
    given = {"market": "v:P", "side": "buy", "quantity": "1"} | fields
    with pytest.raises(ValueError, match=wrong):
        orders.requested("new", "a", given.pop("market"), **given)  # type: ignore[arg-type]


def test_the_story_of_an_order_has_each_transition_once_with_its_cause() -> None:
    state = KERNEL.new()
    name = {"account": "a", "venue": "v", "instrument": "P", "event_at": instant_ms(T0)}
    report = name | {"received_at": instant_us(T0 * 1000), "exec_id": "e", "side": "buy", "client_order_id": "X"}
    batches = [
        [
            Message(
                "order_requests", 0, 0, dict(orders.requested("new", "a", "v:P", side="buy", quantity="1", name="X", now_ms=T0))
            )
        ],
        [Message("execution_reports", 0, 0, report | {"exec_type": "trade", "last_quantity": "1", "last_price": "7"})],
    ]
    rows = [
        dict(output.row)
        for number, batch in enumerate(batches)
        for output in KERNEL.step(state, batch, T0 + 50 * (number + 1))
        if output.table == "order_states"
    ]
    lines = orders.transitions([*rows, *rows], "X")
    unread = "controls unread: the topic of controls has not been read yet"
    assert [line.split("  ")[1:] for line in lines] == [
        ["X", f"refused by gate (request X) -> rejected, 0 of 1 traded, 0 left: {unread}"],
        ["X", "trade 1 at 7 (report e) -> filled, 1 of 1 traded, 0 left"],
    ]
    assert orders.transitions(rows, "Y") == []


def whole_story() -> dict[str, list[dict[str, Any]]]:
    """What the order path reads and writes of an order that is replaced, filled in part, and cancelled with all others."""
    path, rows = Path(), {table: [] for table in (*order_story.SOURCES, "order_guards")}  # type: ignore[var-annotated]
    booking = {"account": "a", "venue": "v", "instrument": "P", "fill_id": "2", "side": "buy", "size": "4", "price": "100"}
    entry = {"cause_kind": "fills", "cause_id": "2", "entry_id": "e", "number": 1, "kind": "trade", "asset": "v:P"}
    entry |= {"amount": "4", "balance": "4", "price": "100", "corrected_id": None, "caused_at": instant_ms(T0 + 120)}
    for messages in (
        [request("X", reason="the plan"), request("Z", quantity="9999")],
        [report("1", "new", ms=T0 + 110, order_id="o"), fill("2", "4", T0 + 120, fee="0.1", fee_currency="USDT")],
        [request("Y", "replace", "X", T0 + 160, quantity="12")],
        [guard("M", "cancel_all", T0 + 210)],
    ):
        outputs = path.step(*messages)
        for table, row in [*((m.table, m.row) for m in messages), *((o.table, o.row) for o in outputs)]:
            rows[table] += [dict(row), dict(row)]  # everything comes twice
    rows["fills"].append(booking | at(T0 + 120) | {"fee": "0.1"})
    rows["ledger_entries"].append(entry | {"account": "a", "event_at": instant_ms(T0 + 149)})
    return rows


def test_the_whole_story_of_an_order_goes_from_request_and_checks_to_fills_and_ledger() -> None:
    lines = order_story.story(whole_story(), "a", "X")
    assert [line.what for line in lines] == [
        "request X: new",
        "order X: requested",
        "sent X: new",
        "report 1: new",
        "report 2: trade",
        "fill 2",
        "order X: new",
        "order X: trade",
        f"fills 2 of {explain.clock(instant_ms(T0 + 120))}",
        "request Y: replace",
        "order X: replace_requested",
        "sent Y: replace",
        "request M: cancel_all",
        "order X: cancel_requested",
        lines[-1].what,
    ]
    assert lines[0].why == "person buy 10 limit 100: the plan"
    assert lines[4].why == "4 at 100, fee 0.1 USDT" and lines[-1].what.endswith(": cancel")
    assert [line.what for line in order_story.story(whole_story(), "a", "Y")] == [line.what for line in lines]


def test_the_story_of_a_refused_order_has_the_check_and_its_figures() -> None:
    lines = order_story.story(whole_story(), "a", "Z")
    assert [line.what for line in lines] == ["request Z: new", "order Z: refused by credit"]
    assert "of which 900.00 is free" in lines[1].why
    with pytest.raises(ValueError, match="no order Q of account a is known"):
        order_story.story(whole_story(), "a", "Q")


def test_what_became_of_a_request_for_all_orders_is_told_by_its_id() -> None:
    rows = whole_story()
    (line,) = orders.guard_lines(rows["order_guards"], "M")
    assert line.endswith("cancel_all cancelled  every market (M), 1 orders to be cancelled")
    assert "cancel_all: cancelled" in {line.what for line in explain.story({t: rows.get(t, []) for t in explain.SOURCES}).lines}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("cancel_all", {"scope": "v:P"}),
        ("timer", {"scope": "v", "after_s": 60.0}),
        ("mmp", {"underlying": "BTC", "window_s": 5.0, "frozen_s": 0.0, "max_fills": 3, "max_delta": 2.5}),
        ("mmp_reset", {"underlying": "BTC"}),
    ],
)
def test_a_request_for_all_orders_is_a_row_that_the_job_takes(kind: str, fields: dict[str, Any]) -> None:
    row = orders.guarding(kind, "a", now_ms=T0, **fields)
    assert fault("order_requests", row) is None and wrong_request(dict(row)) is None
    assert row["client_order_id"] != orders.guarding(kind, "a", now_ms=T0 + 1, **fields)["client_order_id"]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["timer", "a", "soon"], "AFTER: expected a time such as 60s or 500ms, or 0, got 'soon'"),
        (["mmp", "a", "BTC"], "max_fills: expected at least one of max_fills, max_quantity, max_delta, got NULL"),
        (["cancel-all", "a", "--of", ":P"], "venue: expected not NULL, where an instrument is given, got NULL"),
        (["timer", "a", "48h"], "AFTER"),
        (["timer", "a", "100000s"], "after_s: expected seconds from 0 to 86400"),
    ],
)
def test_a_guard_that_is_none_is_refused_before_it_is_sent(arguments: list[str], wrong: str) -> None:
    done = RUNNER.invoke(orders.app, arguments)
    assert done.exit_code == 1 and wrong in done.output


def test_each_verb_says_in_its_help_what_it_does() -> None:
    for verb, words in {"cancel-all": "once", "timer": "dead man", "mmp": "marked"}.items():
        assert words in RUNNER.invoke(orders.app, [verb, "--help"]).output

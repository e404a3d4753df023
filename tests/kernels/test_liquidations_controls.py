"""Liquidations obey the gate: an operator stops them where he names them, and they go on when he lets them."""

from typing import Any

import pytest

from engine.contract import Message
from kernels import liquidations
from schemas.controls import CANCEL_ALL, GATE, HALT, REDUCE_ONLY, RUN
from schemas.rows import instant_ms
from tests.kernels.obeying import READ, applied
from tests.kernels.stored import Stored
from tests.kernels.test_liquidations import (
    SECOND,
    T0,
    balance,
    begun,
    depth,
    fallen,
    halt,
    index,
    instrument,
    kinds,
    long,
    position,
    rows,
    step,
    ticker,
)

NAMED: dict[str, Any] = {"liquidations": True}


def test_without_a_word_of_the_controls_nothing_is_ordered_and_the_event_says_so() -> None:
    state, asked = liquidations.new(), [instrument("AAA"), index("AAA", 100.0, T0), *long()]
    liquidations.step(state, asked, T0 + 10)
    fall = [ticker("AAA", 89.0, T0 + SECOND), index("AAA", 89.0, T0 + SECOND)]
    outputs = liquidations.step(state, fall, T0 + SECOND + 50)
    assert kinds(outputs) == ["held"] and rows(outputs) == []
    assert "the topic of controls has not been read yet" in rows(outputs, "liquidation_events")[0]["reason"]
    assert kinds(liquidations.step(state, [READ], T0 + SECOND + 100)) == ["resumed", "locked", "round"]


@pytest.mark.parametrize(
    "scope", ["all", "venue:v", "underlying:AAA", "instrument:v:AAA-PERP", "account:a", "algo:liquidations"]
)
@pytest.mark.parametrize("mode", [HALT, CANCEL_ALL])
def test_a_control_that_names_liquidations_holds_them_until_it_ends(scope: str, mode: str) -> None:
    state = begun(*long())
    outputs = fallen(state, 89.0, T0 + SECOND, applied(scope, mode, **NAMED))
    assert kinds(outputs) == ["held"] and state.decisions.cases["a"].held == f"control {mode}: {scope}"
    assert rows(outputs, "liquidation_events")[0]["reason"].startswith(f"held: ops said {mode} of {scope}")
    assert fallen(state, 89.0, T0 + 1500) == []
    assert kinds(step(state, applied(scope, RUN), until_ms=T0 + 1600)) == ["resumed", "locked", "round"]


@pytest.mark.parametrize(
    "control",
    [
        applied("all", CANCEL_ALL),  # without their name
        applied("all", REDUCE_ONLY, **NAMED),  # they only reduce
        applied("venue:other", CANCEL_ALL, **NAMED),
    ],
)
def test_a_control_that_is_not_about_them_lets_liquidations_pass(control: Any) -> None:
    assert kinds(fallen(begun(*long()), 89.0, T0 + SECOND, control)) == ["locked", "round"]


def test_a_kill_cancels_what_is_open_and_afterwards_it_is_ordered_anew() -> None:
    state = begun(*long())
    assert kinds(fallen(state)) == ["locked", "round"]
    outputs = step(state, applied("all", CANCEL_ALL, **NAMED), until_ms=T0 + 1200)
    assert kinds(outputs) == ["cancelled", "held"]
    cancelled = rows(outputs, "liquidation_events")[0]
    assert cancelled["instrument"] == "v:AAA-PERP" and "cancel what is open of 25 v:AAA-PERP" in cancelled["reason"]
    assert state.decisions.cases["a"].open == {}
    outputs = fallen(state, 89.0, T0 + 2100, applied("all", RUN))
    assert kinds(outputs) == ["resumed", "round"]
    assert [(order["size"], order["round"]) for order in rows(outputs)] == [(25.0, 2)]


def test_a_halt_leaves_open_orders_where_they_are() -> None:
    state = begun(*long())
    fallen(state)
    assert kinds(step(state, applied("all", HALT, **NAMED), until_ms=T0 + 1200)) == ["held"]
    assert state.decisions.cases["a"].open == {"v:AAA-PERP": 25.0}


def two_contracts(*messages: Any) -> liquidations.State:
    state = begun(instrument("BBB"), index("BBB", 100.0, T0), ticker("BBB", 100.0, T0 + 10), *messages)
    step(state, position("a", "AAA", 100.0, 100.0), position("a", "BBB", 10.0, 100.0), balance("a", 1_590.0), until_ms=T0 + 60)
    return state


def test_where_one_contract_is_stopped_the_others_are_liquidated_and_its_open_orders_cancelled() -> None:
    state = two_contracts()
    outputs = fallen(state)
    assert [order["instrument"] for order in rows(outputs)] == ["AAA-PERP"]
    kill = applied("instrument:v:AAA-PERP", CANCEL_ALL, **NAMED)
    outputs = fallen(state, 88.0, T0 + 2100, kill)
    assert [order["instrument"] for order in rows(outputs)] == ["BBB-PERP"]
    assert kinds(outputs) == ["cancelled", "round"]
    assert state.decisions.cases["a"].open.keys() == {"v:BBB-PERP"}


def test_an_operators_word_comes_before_a_halt_and_before_a_book() -> None:
    state = begun(*long())
    stale = depth("AAA", [[99.0, 1.0]], [], T0 + SECOND, True)
    fallen(state, 89.0, T0 + SECOND, applied("all", HALT, **NAMED), halt(None, True, T0 + SECOND), stale)
    assert state.decisions.cases["a"].held == "control halt: all"
    step(state, applied("all", RUN), until_ms=T0 + 1100)
    assert state.decisions.cases["a"].held == "halted: v"
    step(state, halt(None, False, T0 + 1150), until_ms=T0 + 1200)
    assert state.decisions.cases["a"].held == "stale book: v:AAA-PERP"


def test_a_topic_that_is_not_read_any_more_holds_and_lets_go_without_ordering_twice() -> None:
    state = begun(*long())
    fallen(state)
    # As a host says it: the newest row of a scope counts.
    unread = applied(GATE, HALT, T0 + 1100, why="last read 1.2 s ago")
    outputs = liquidations.step(state, [unread, ticker("AAA", 88.0, T0 + 2000)], T0 + 2050)
    assert kinds(outputs) == ["held"]
    outputs = liquidations.step(state, [READ], T0 + 2100)
    assert kinds(outputs) == ["resumed", "round"]
    assert state.decisions.cases["a"].open == {"v:AAA-PERP": 50.0}


def test_controls_outlive_a_restart() -> None:
    shard = Stored(liquidations, begun(*long()))
    fallen(shard.state, 89.0, T0 + SECOND, applied("all", HALT, **NAMED), applied("account:b", CANCEL_ALL))
    shard.store()
    before = dict(liquidations.obeyed(shard.state))
    shard.restart()
    assert liquidations.obeyed(shard.state) == before
    assert before.keys() == {GATE, "all", "account:b"}
    assert rows(liquidations.step(shard.state, [ticker("AAA", 88.0, T0 + 2000)], T0 + 2050)) == []
    assert shard.state.decisions.cases["a"].held == "control halt: all"
    step(shard.state, applied("all", RUN), until_ms=T0 + 2100)
    shard.store()
    assert "control/all" not in shard.entries


def circuit_break(is_halted: bool, ms: int, **named: str) -> Message:
    row: dict[str, Any] = {"break_id": "b/1", "subject": "v:AAA-PERP", "event_at": instant_ms(ms)}
    row |= {"rule": "band_5", "kind": "price_band"}
    row |= {"state": "halted" if is_halted else "resumed", "is_halted": is_halted, "venue": None, "instrument": None}
    return Message(
        "circuit_breaks", 0, ms - T0, row | {"underlying": None, "planned_end_at": None, "reason": "5.1 % off"} | named
    )


@pytest.mark.parametrize("named", [{"venue": "v"}, {"underlying": "AAA"}, {"venue": "v", "instrument": "AAA-PERP"}])
def test_a_circuit_break_holds_what_it_names_until_it_resumes_in_whatever_order_its_rows_come(named: dict[str, str]) -> None:
    state = begun(*long())
    state.decisions.learn([circuit_break(True, T0 + 900, **named)])
    assert kinds(fallen(state)) == ["held"]
    held = state.decisions.cases["a"].held
    assert held == f"circuit break: {':'.join(named.values())}"
    shard = Stored(liquidations, state)
    shard.store()
    shard.restart()
    shard.state.decisions.learn([circuit_break(False, T0 + 1900, **named), circuit_break(True, T0 + 1800, **named)])
    assert kinds(fallen(shard.state, 89.0, T0 + 2000)) == ["resumed", "locked", "round"]
    assert shard.state.decisions.breaks.forget(T0 + 90_000_000) == ["break/b/1"]


def test_a_circuit_break_of_something_else_holds_nothing() -> None:
    state = begun(*long())
    state.decisions.learn([circuit_break(True, T0, venue="other"), circuit_break(True, T0, venue="v", instrument="BBB-PERP")])
    assert kinds(fallen(state)) == ["locked", "round"]

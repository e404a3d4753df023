"""The gate that every kernel asks before it puts out an order."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.gate import DRIFT, EVERY, FORCED, KIND, ORDER, REDUCING, STRICT, Act, Gate, Held, Reason, Request, act_of
from kernels.liquidations.guards import CHECKS, CLASSES
from schemas.controls import CANCEL_ALL, GATE, HALT, MODES, REDUCE_ONLY, RUN
from tests.kernels.obeying import READ, applied

REQUEST = Request(
    Act.INCREASE, "deribit", "BTC-PERPETUAL", "BTC", account="a", algo="twap", client="c", desk="options", trader="ann"
)
SCOPES = ["all", "venue:deribit", "underlying:BTC", "instrument:deribit:BTC-PERPETUAL"]
SCOPES += ["account:a", "algo:twap", "client:c", "desk:options", "trader:ann"]
OTHERS = ["venue:okx", "underlying:ETH", "instrument:okx:BTC-PERPETUAL", "account:b", "account:deribit", "trader:bob"]
Told = Mapping[str, Any]
CONTROLS = st.lists(
    st.builds(
        lambda scope, mode, named: applied(scope, mode, liquidations=named).row,
        st.sampled_from(SCOPES + OTHERS),
        st.sampled_from(MODES),
        st.booleans(),
    ),
    max_size=12,
)


def gate(*controls: Told, is_read: bool = True) -> Gate:
    made = Gate()
    for row in ([READ.row] if is_read else []) + list(controls):
        made.learn(row)
    return made


@pytest.mark.parametrize("act", sorted(EVERY))
def test_what_nobody_has_read_the_controls_for_is_held_and_a_cancel_is_not(act: Act) -> None:
    held = Gate().held(REQUEST._replace(act=act))
    assert held is not None and held.kind == "controls unread"
    assert "has not been read yet" in held.why
    assert Gate().held(REQUEST._replace(act=Act.CANCEL)) is None
    assert gate().held(REQUEST._replace(act=act)) is None


def test_a_topic_that_cannot_be_read_any_more_closes_the_gate_for_liquidations_too() -> None:
    closed = gate(applied(GATE, HALT, why="last read 1.2 s ago").row)
    held = closed.held(REQUEST._replace(act=Act.LIQUIDATE))
    assert held == Held(Reason.UNREAD, "", "last read 1.2 s ago")
    closed.learn(READ.row)
    assert closed.held(REQUEST._replace(act=Act.LIQUIDATE)) is None


@pytest.mark.parametrize("scope", SCOPES)
def test_a_control_holds_what_is_in_its_scope_until_it_ends_and_says_who_and_why(scope: str) -> None:
    stopped = gate(applied(scope, HALT, who="ann", why="the clock jumps").row)
    held = stopped.held(REQUEST)
    assert held is not None and held.kind == f"control halt: {scope}"
    assert "ann said halt" in held.why and "the clock jumps" in held.why
    stopped.learn(applied(scope, RUN).row)
    assert stopped.held(REQUEST) is None


@pytest.mark.parametrize("scope", OTHERS)
def test_a_control_of_another_scope_holds_nothing(scope: str) -> None:
    assert gate(applied(scope, CANCEL_ALL, liquidations=True).row).held(REQUEST) is None


def test_run_of_a_narrow_scope_does_not_lift_a_halt_of_a_wide_one() -> None:
    stopped = gate(applied("all", HALT).row, applied("account:a", RUN).row, applied("account:a", REDUCE_ONLY).row)
    held = stopped.held(REQUEST)
    assert held is not None and held.kind == "control halt: all"


@given(CONTROLS, st.sampled_from(sorted(EVERY)), st.randoms())
def test_of_all_scopes_the_strictest_counts_in_whatever_order_they_come(rows: list[Told], act: Act, chance: Any) -> None:
    newest = {row["scope"]: row for row in rows}
    shuffled = list(newest.values())
    chance.shuffle(shuffled)
    request = REQUEST._replace(act=act)
    held = gate(*rows).held(request)
    assert gate(*shuffled).held(request) == held
    acting = [
        row["mode"]
        for row in newest.values()
        if row["scope"] in SCOPES
        and (row["liquidations"] or act not in FORCED)
        and row["mode"] in ((HALT, CANCEL_ALL) if act in REDUCING else (REDUCE_ONLY, HALT, CANCEL_ALL))
    ]
    strictest = max(acting, key=MODES.index, default=None)
    assert (None if held is None else held.reason) == (None if strictest is None else f"control {strictest}")


@given(CONTROLS, st.sampled_from(sorted(Act)), st.integers(0, 12))
def test_a_gate_goes_on_with_what_is_stored_of_it(rows: list[Told], act: Act, cut: int) -> None:
    straight, before = gate(*rows), gate(*rows[:cut])
    after = Gate()
    for scope in before.controls:
        data = before.encode(scope)
        assert data is not None
        after.decode(scope, data)
    names = [after.learn(row) for row in rows[cut:]]
    assert after.controls == straight.controls
    assert after.held(REQUEST._replace(act=act)) == straight.held(REQUEST._replace(act=act))
    assert all(name.startswith(f"{KIND}/") for name in names)


@given(CONTROLS, st.booleans(), st.lists(st.sampled_from(sorted(STRICT))))
def test_a_cancel_always_passes(rows: list[Told], is_read: bool, reasons: list[Reason]) -> None:
    conditions = [Held(reason, "x", "y") for reason in reasons]
    assert gate(*rows, is_read=is_read).held(REQUEST._replace(act=Act.CANCEL), conditions) is None


@given(CONTROLS, st.sampled_from(sorted(EVERY)))
def test_where_it_is_quiet_nothing_is_held_by_a_control(rows: list[Told], act: Act) -> None:
    if gate(*rows).is_quiet(act):
        assert gate(*rows).control(REQUEST._replace(act=act)) is None


@pytest.mark.parametrize("act", sorted(FORCED))
@pytest.mark.parametrize("mode", [HALT, CANCEL_ALL])
def test_liquidations_stop_only_where_they_are_named(act: Act, mode: str) -> None:
    assert gate(applied("all", mode).row).held(REQUEST._replace(act=act)) is None
    named = gate(applied("all", mode, liquidations=True).row)
    held = named.held(REQUEST._replace(act=act))
    assert held is not None and held.reason == f"control {mode}"


@pytest.mark.parametrize("act", sorted(REDUCING))
def test_reduce_only_lets_out_and_nobody_in(act: Act) -> None:
    reduced = gate(applied("all", REDUCE_ONLY, liquidations=True).row)
    assert reduced.held(REQUEST._replace(act=act)) is None
    assert reduced.held(REQUEST) is not None


@pytest.mark.parametrize(
    ("position", "reducing", "order", "act"),
    [
        (5.0, 0.0, -5.0, Act.REDUCE),
        (-5.0, 0.0, 2.0, Act.REDUCE),
        (5.0, 0.0, 1.0, Act.INCREASE),
        (5.0, 0.0, -5.1, Act.INCREASE),  # it would turn the position round
        (5.0, 3.0, -3.0, Act.INCREASE),  # with what is ordered already, too
        (5.0, 3.0, -2.0, Act.REDUCE),
        (0.0, 0.0, -1.0, Act.INCREASE),
    ],
)
def test_an_exit_is_proven_against_the_position(position: float, reducing: float, order: float, act: Act) -> None:
    assert act_of(position, reducing, order) is act


def test_a_kill_cancels_what_rests_in_its_scope_and_a_halt_does_not() -> None:
    resting = [REQUEST, REQUEST._replace(venue="okx"), REQUEST._replace(act=Act.LIQUIDATE)]
    assert gate(applied("venue:deribit", CANCEL_ALL).row).to_cancel(resting) == [True, False, False]
    assert gate(applied("venue:deribit", CANCEL_ALL, liquidations=True).row).to_cancel(resting) == [True, False, True]
    assert gate(applied("all", HALT).row).to_cancel(resting) == [False] * 3
    assert Gate().to_cancel(resting) == [False] * 3


def test_reasons_are_told_in_one_order_in_whatever_order_they_are_found() -> None:
    every = [Held(reason, "x", "y") for reason in Reason if reason in STRICT]
    some = every[::3]
    for found in permutations(some):
        assert gate().held(REQUEST, found) == some[0]
    assert gate().held(REQUEST, reversed(every)) == Held(Reason.HALTED, "x", "y")
    held = gate(applied("all", HALT).row).held(REQUEST, every)
    assert held is not None and held.reason is Reason.HALT


def test_the_order_is_controls_then_halts_then_prices_then_the_book() -> None:
    names = ["controls unread", "control cancel-all", "control halt", "control reduce-only", "halted", "circuit break"]
    prices = ["non-positive", "too volatile", "too uncertain", "stale for margin", "insufficient", "stale"]
    assert [str(reason) for reason in ORDER] == [*names, "no valuation", *prices, "stale book", "unknown unit", "no depth"]
    assert {*CHECKS, *CLASSES.values()} <= set(STRICT)


def test_a_rule_may_let_exits_pass() -> None:
    limit_state = Held(Reason.CIRCUIT_BREAK, "underlying:BTC", "outside its band", REDUCING)
    assert gate().held(REQUEST, [limit_state]) == limit_state
    assert gate().held(REQUEST._replace(act=Act.REDUCE), [limit_state]) is None
    later = Held(Reason.STALE_BOOK, "deribit:BTC-PERPETUAL", "3 s old")
    assert gate().held(REQUEST._replace(act=Act.REDUCE), [limit_state, later]) == later


@pytest.mark.parametrize("reason", [Reason.NON_POSITIVE, Reason.TOO_VOLATILE])
def test_by_drifts_table_only_two_reasons_hold_a_liquidation(reason: Reason) -> None:
    drift = Gate(DRIFT)
    drift.learn(READ.row)
    liquidate = REQUEST._replace(act=Act.LIQUIDATE)
    assert drift.held(liquidate, [Held(reason, "x", "y")]) is not None
    for mild in (Reason.TOO_UNCERTAIN, Reason.STALE_FOR_MARGIN, Reason.INSUFFICIENT, Reason.STALE):
        assert drift.held(liquidate, [Held(mild, "x", "y")]) is None
        assert drift.held(REQUEST, [Held(mild, "x", "y")]) is not None


def test_its_gauges_tell_what_is_in_force_and_whether_it_knows() -> None:
    assert Gate().gauges() == {"controls_in_force": 0, "is_gate_closed": 1}
    assert gate(applied("all", HALT).row).gauges() == {"controls_in_force": 1, "is_gate_closed": 0}

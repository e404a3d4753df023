"""What guards all orders of an account: cancels of all, timers, market-maker protection; and contracts that end."""

import random
from decimal import Decimal
from typing import Any

import orjson
import pytest

from engine.contract import Message, Output
from kernels import orders as kernel
from kernels.orders import KERNEL
from kernels.orders.requests import wrong_request
from kernels.orders.worth import Mark, underlying_quantity, unit_delta
from schemas.rows import fault, instant_ms
from tests.kernels.obeying import READ
from tests.kernels.order_path import (
    DAY,
    T0,
    Path,
    cancels,
    contract,
    fill,
    guard,
    guarded,
    liquidation,
    margin,
    market,
    refusals,
    report,
    request,
    sent,
    transitions,
)
from tests.kernels.stored import Stored
from tests.kernels.test_order_checks import INVERSE, NOW, OPTION, PERPETUAL

TIMER: dict[str, Any] = {"kind": "timer", "after_s": 1.0}
MMP: dict[str, Any] = {"kind": "mmp", "underlying": "BTC", "window_s": 1.0, "frozen_s": 2.0}


def two_markets() -> Path:
    """Orders A and B on v:P, C on v:Q, D on w:P, and O of another account."""
    path = Path()
    elsewhere = [Message(m.table, 0, 0, m.row | {"venue": "w"}) for m in contract("P")]
    path.step(*contract("Q"), *elsewhere, Message("account_margin", 0, 0, margin(T0).row | {"account": "b"}))
    path.step(
        *(request("A"), request("B", price="99"), request("C", instrument="Q"), request("D", venue="w")),
        request("O", account="b"),
    )
    return path


@pytest.mark.parametrize(
    ("scope", "ended"),
    [
        ({}, ["A", "B", "C", "D"]),
        ({"venue": "v"}, ["A", "B", "C"]),
        ({"venue": "v", "instrument": "P"}, ["A", "B"]),
        ({"venue": "x"}, []),
    ],
)
def test_a_mass_cancel_asks_for_the_cancel_of_each_open_order_of_its_scope(scope: dict[str, Any], ended: list[str]) -> None:
    path = two_markets()
    outputs = path.step(guard("M", "cancel_all", **scope))
    assert cancels(outputs) == ended
    assert [o.row["orders"] for o in outputs if o.table == "order_guards"] == [len(ended)]
    assert {(o.row["cause"], o.row["cause_id"]) for o in outputs if o.table == "order_states"} <= {("request", "M")}


def test_a_repeated_mass_cancel_ends_no_order_that_came_after_it() -> None:
    path = two_markets()
    path.step(guard("M", "cancel_all"))
    path.step(report("1", "cancelled", "A"), request("E"))
    assert path.step(guard("M", "cancel_all")) == []
    assert guarded(path.step(guard("M", "cancel_all", venue="v"))) == [("cancel_all", "refused")], "other contents"
    path.step(ms=60_000)
    outputs = path.step(guard("M", "cancel_all"))
    assert (guarded(outputs), cancels(outputs)) == ([("cancel_all", "refused")], []), "too old to tell"


def test_a_mass_cancel_asks_again_where_a_cancel_has_no_answer_and_leaves_liquidations_alone() -> None:
    path = Path()
    path.step(request("A"))
    path.step(liquidation(side="buy", limit=99.0))
    assert cancels(path.step(guard("M", "cancel_all"))) == [], "the liquidation has asked for that of A"
    path.step(ms=5_100)
    assert cancels(path.step(guard("N", "cancel_all", path.until_ms))) == ["A"]


def test_a_timer_cancels_all_open_orders_of_its_scope_with_the_cause_timer() -> None:
    path = two_markets()
    assert guarded(path.step(guard("T", **TIMER, venue="v"))) == [("timer", "set")]
    assert path.step(ms=T0 + 1_000 - path.until_ms) == [], "the batch ends before it runs out"
    outputs = path.step()
    assert cancels(outputs) == ["A", "B", "C"] and guarded(outputs) == [("timer", "ran_out")]
    assert {(o.row["cause"], o.row["cause_id"]) for o in outputs if o.table == "order_states"} == {("timer", "T")}
    assert {o.row["source"] for o in outputs if o.table == "orders"} == {"timer"}
    assert transitions(path.step(report("1", "cancelled", "A", path.until_ms))) == [("cancelled", "cancelled")]


def test_a_timer_runs_out_also_in_a_window_without_a_message_and_once() -> None:
    path = two_markets()
    path.step(guard("T", **TIMER, venue="v"))
    assert KERNEL.end_window is not None
    assert KERNEL.end_window(path.state, T0 + 1_000) == []
    (orders,) = [part for part in KERNEL.end_window(path.state, T0 + 1_050) if part.table == "orders"]
    assert [orjson.loads(row)["orig_client_order_id"] for row in orders.values.split(b"\n")] == ["A", "B", "C"]
    assert KERNEL.end_window(path.state, T0 + 1_050) == []


def test_a_timer_that_is_renewed_in_time_does_not_run_out_and_zero_clears_it() -> None:
    path = two_markets()
    path.step(guard("T", **TIMER))
    for number in range(3):
        path.step(ms=700)
        assert guarded(path.step(guard(f"T{number}", **TIMER, ms=path.until_ms))) == [("timer", "set")]
    assert guarded(path.step(guard("Z", "timer", path.until_ms, after_s=0.0))) == [("timer", "cleared")]
    assert cancels(path.step(ms=4_000)) == []


def test_a_timer_runs_out_once_and_then_none_is_set() -> None:
    path = two_markets()
    path.step(guard("T", **TIMER))
    path.step(ms=2_000)
    path.step(request("E", ms=path.until_ms, price="98"))
    assert cancels(path.step(ms=2_000)) == []


def test_a_timer_goes_by_the_time_of_its_request_whatever_the_order_in_which_they_come() -> None:
    path = two_markets()
    path.step(guard("T2", **TIMER, ms=T0 + 500), guard("T1", **TIMER, ms=T0))
    assert guarded(path.step(guard("T0", "timer", T0 - 1, after_s=0.0))) == [("timer", "refused")], "it is older"
    assert cancels(path.step(ms=1_100)) == []
    assert cancels(path.step(ms=500)) == ["A", "B", "C", "D"]


def test_a_renewal_after_the_end_comes_too_late_also_within_one_batch() -> None:
    path = two_markets()
    path.step(guard("T", **TIMER))
    outputs = path.step(guard("U", **TIMER, ms=T0 + 1_001), ms=1_000)
    assert guarded(outputs) == [("timer", "ran_out"), ("timer", "set")] and len(cancels(outputs)) == 4


def test_timers_of_several_scopes_run_side_by_side() -> None:
    path = two_markets()
    path.step(guard("T", **TIMER, venue="w"), guard("U", "timer", after_s=3.0, venue="v", instrument="Q"))
    assert cancels(path.step(ms=1_000)) == ["D"]
    assert cancels(path.step(ms=2_000)) == ["C"]


def protected(**limits: float) -> Path:
    """Marked orders A and B, and C that is not, under market-maker protection."""
    path = Path()
    setting = guard("S", **MMP, max_fills=None, max_quantity=None, max_delta=None)
    setting.row.update(limits)
    path.step(setting, request("A", is_mmp=True), request("B", price="99", is_mmp=True), request("C"))
    return path


@pytest.mark.parametrize(
    ("limits", "sizes", "figures"),
    [
        ({"max_fills": 2}, ["1", "1", "1"], "3 fills within 1 s, more than 2"),
        ({"max_quantity": 2.0}, ["1.5", "1"], "2.5 quantity within 1 s, more than 2"),
        ({"max_delta": 2.0}, ["1", "1.5"], "2.5 delta within 1 s, more than 2"),
    ],
)
def test_each_limit_of_a_protection_is_hit_by_the_fill_that_exceeds_it(
    limits: dict[str, float], sizes: list[str], figures: str
) -> None:
    path = protected(**limits)
    for number, size in enumerate(sizes):
        outputs = path.step(fill(str(number), size, path.until_ms, "A"))
        assert (cancels(outputs) == ["A", "B"]) == (number == len(sizes) - 1)
    (row,) = [output.row for output in outputs if output.table == "order_guards"]
    assert row["event"] == "hit" and figures in str(row["reason"]) and row["orders"] == 2
    assert row["ends_at"] == instant_ms(path.until_ms - 1 + 2_000)
    assert {o.row["cause"] for o in outputs if o.table == "order_states" and o.row["event"] == "cancel_requested"} == {"mmp"}


def test_delta_is_of_what_is_bought_less_what_is_sold() -> None:
    path = protected(max_delta=2.0)
    path.step(request("D", side="sell", price="100", quantity="9", is_mmp=True))
    path.step(fill("1", "2", path.until_ms, "A"))
    outputs = path.step(fill("2", "4", path.until_ms, "D", side="sell"))
    assert guarded(outputs) == [], "-2 is not more than 2"
    assert guarded(path.step(fill("3", "0.5", path.until_ms, "D", side="sell"))) == [("mmp", "hit")]


def test_fills_that_took_that_are_older_than_the_window_or_that_come_twice_do_not_count() -> None:
    path = protected(max_fills=2)
    path.step(fill("1", "1", path.until_ms, "A", is_maker=False), fill("2", "1", path.until_ms, "C"))
    path.step(fill("3", "1", path.until_ms, "A"))
    path.step(fill("3", "1", path.until_ms - 50, "A"))
    path.step(ms=1_000)
    outputs = path.step(fill("4", "1", path.until_ms, "A"), fill("5", "1", path.until_ms + 1, "B"))
    assert guarded(outputs) == []
    assert guarded(path.step(fill("6", "1", path.until_ms, "A"))) == [("mmp", "hit")]


def test_marked_orders_are_refused_for_the_frozen_time_and_others_are_not() -> None:
    path = protected(max_fills=0)
    path.step(fill("1", "1", path.until_ms, "A"))
    later = path.until_ms
    outputs = path.step(request("D", ms=later, is_mmp=True), request("E", ms=later, price="98"))
    assert refusals(outputs) == ["mmp"] and sent(outputs) == [("new", "E", None)]
    path.step(report("2", "cancelled", "A"), report("3", "cancelled", "B"), ms=2_000)
    assert sent(path.step(request("F", ms=path.until_ms, price="97", is_mmp=True))) == [("new", "F", None)]


def test_a_frozen_time_of_zero_lasts_until_the_reset_also_after_other_limits() -> None:
    path = protected(max_fills=0, frozen_s=0.0)
    path.step(fill("1", "1", path.until_ms, "A"))
    assert refusals(path.step(guard("S2", **MMP, ms=path.until_ms, max_fills=9), request("D", is_mmp=True))) == ["mmp"]
    path.step(ms=8_000)
    outputs = path.step(
        guard("R", "mmp_reset", path.until_ms, underlying="BTC"), request("E", ms=path.until_ms + 1, price="97", is_mmp=True)
    )
    assert guarded(outputs) == [("mmp", "reset")] and sent(outputs) == [("new", "E", None)]


def test_a_marked_order_without_a_protection_is_refused() -> None:
    path = Path()
    assert refusals(path.step(request("A", is_mmp=True))) == ["mmp"]
    path.step(guard("S", **MMP, max_fills=9))
    assert refusals(path.step(request("B", is_mmp=True))) == []
    assert guarded(path.step(guard("Z", "mmp", path.until_ms, underlying="BTC", window_s=0.0))) == [("mmp", "cleared")]
    assert refusals(path.step(request("C", is_mmp=True))) == ["mmp"]


def test_quantities_are_in_units_of_the_underlying_and_options_count_by_their_delta() -> None:
    assert underlying_quantity(PERPETUAL._replace(contract_size=0.1), Decimal(5), 100.0) == 0.5
    assert underlying_quantity(INVERSE, Decimal(1_000), 50_000.0) == 0.2, "1,000 contracts of 10 USD"
    year = 365 * DAY
    call = OPTION._replace(expiry_ms=NOW + year, strike_usd=100.0, option_type="call")
    mark = Mark(NOW, 0.1, NOW, 100.0, 0.2)
    assert unit_delta(call, mark, NOW) == pytest.approx(0.539827837277029, abs=1e-12), "N(0.1)"
    assert unit_delta(call._replace(option_type="put"), mark, NOW) == pytest.approx(0.539827837277029 - 1, abs=1e-12)
    assert unit_delta(call, mark._replace(mark_iv=None), NOW) == 1.0, "not known: the whole quantity"
    assert unit_delta(call._replace(option_type="put"), mark, NOW + year) == -1.0


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"kind": "timer"}, "after_s"),
        ({"kind": "timer", "after_s": -1.0}, "after_s"),
        ({"kind": "cancel_all", "instrument": "P"}, "venue"),
        ({**MMP, "underlying": None}, "underlying"),
        ({**MMP, "window_s": None, "max_fills": 1}, "window_s"),
        ({**MMP, "frozen_s": None, "max_fills": 1}, "frozen_s"),
        (MMP, "max_fills"),
        ({**MMP, "max_delta": -1.0}, "max_delta"),
        ({"kind": "mmp_reset"}, "underlying"),
        ({"kind": "cancel_all", "orig_client_order_id": "A"}, "orig_client_order_id"),
        ({"kind": "new"}, "venue"),
    ],
)
def test_what_guards_nothing_is_a_dead_letter_that_names_the_field(fields: dict[str, Any], wrong: str) -> None:
    message = guard("X", **fields)
    assert fault("order_requests", message.row) is None
    answer = wrong_request(message.row)
    assert answer is not None and answer.field == wrong
    assert [o.row["field"] for o in Path().step(message) if o.table == "dead_letters"] == [wrong]


def test_an_order_that_outlives_its_contract_is_told_once_and_no_end_is_made_up() -> None:
    path = Path()
    ends_at = instant_ms(T0 + 1_000)
    path.step(*contract("F", kind="future", expiry_at=ends_at, last_trading_at=ends_at), request("A", instrument="F"))
    path.step(report("1", "new", "A", instrument="F"), request("B", instrument="F"))
    path.step(report("2", "expired", "B", T0 + 1_000, instrument="F"))
    assert path.step(ms=T0 + 6_000 - path.until_ms) == []
    outputs = path.step()
    assert transitions(outputs) == [("overdue", "new")] and outputs[0].row["leaves_quantity"] == "10"
    assert refusals(path.step(request("C", ms=path.until_ms, instrument="F"))) == ["instrument"]
    assert path.step(ms=1_000) == []
    expired = path.step(report("3", "expired", "A", path.until_ms, instrument="F"))
    assert transitions(expired) == [("expired", "expired")]


def test_what_the_venue_never_ended_is_forgotten_with_its_contract_and_credit_is_free() -> None:
    path = Path()
    path.step(*contract("F", kind="future", expiry_at=instant_ms(T0 + 1_000)), request("A", instrument="F", quantity="90"))
    assert refusals(path.step(request("B", quantity="90"))) == ["credit"]
    path.step(ms=DAY + 2_000)
    assert path.state.accounts["a"].open == {} and path.state.accounts["a"].orders.by_key.keys() <= {"B"}
    path.step(*market(path.until_ms))
    assert refusals(path.step(request("C", ms=path.until_ms, quantity="90"))) == []


STORY = [
    [READ, *market(), *contract("F", kind="future", expiry_at=instant_ms(T0 + 250))],
    [guard("S", **MMP, max_fills=1), guard("T", "timer", after_s=0.2), request("A", is_mmp=True), request("F", instrument="F")],
    [fill("1", "1", T0 + 90, "A"), guard("U", "timer", T0 + 95, after_s=0.12), request("C", ms=T0 + 99, price="98")],
    [fill("2", "1", T0 + 140, "A"), request("D", ms=T0 + 145, is_mmp=True), guard("U", "timer", T0 + 95, after_s=0.12)],
    [guard("R", "mmp_reset", T0 + 160, underlying="BTC"), request("E", ms=T0 + 170, is_mmp=True, price="97")],
    [fill("3", "1", T0 + 220, "E"), guard("M", "cancel_all", T0 + 230, venue="v")],
    [report("4", "cancelled", "E", T0 + 260)],
]


def play(cut: int | None = None) -> list[Output]:
    """Every row of the story; from the cut on by a state that was restored."""
    stored, outputs = Stored(kernel), []
    for number, messages in enumerate(STORY):
        if number == cut:
            stored.restart(random.Random(cut))
        outputs += kernel.step(stored.state, messages, T0 + 50 * (number + 1))
        stored.store()
    if cut == len(STORY):
        stored.restart()
    return outputs + kernel.step(stored.state, [], T0 + 20_000)


def test_guards_go_on_equally_after_a_restore_at_any_cut() -> None:
    whole = play()
    assert {("mmp", "hit"), ("timer", "ran_out"), ("cancel_all", "cancelled"), ("mmp", "reset")} <= set(guarded(whole))
    assert ("overdue", "pending_new") in transitions(whole)
    for cut in range(1, len(STORY) + 1):
        assert play(cut) == whole

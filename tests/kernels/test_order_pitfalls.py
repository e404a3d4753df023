"""Faults that others had on the order path: what must hold instead, each with the report of the fault."""

import json
from collections.abc import Callable
from pathlib import Path as File

import pytest

from engine.contract import Message, Output
from kernels.orders.rules import RULES, Limits
from kernels.orders.worth import Mark
from tests.kernels import test_order_checks as checks
from tests.kernels import test_order_rule as rule
from tests.kernels import test_orders as path_tests
from tests.kernels.obeying import applied
from tests.kernels.order_path import DAY, T0, Path, at, cancels, fill, refusals, report, request, sent, transitions

PITFALLS = File(__file__).parents[2] / "../shared/truth/trading_pitfalls.json"
AREAS = {
    *("overfill", "duplicate fill", "replace", "pending cancel", "late fill", "cancel unknown", "halt", "kill switch"),
    "oracle staleness",
}
"""Those of the order path; of the others only what is named here."""
NAUTILUS, QUICKFIX = "https://github.com/nautechsystems/nautilus_trader/", "https://github.com/quickfix/quickfix/"
ELSEWHERE: dict[str, Callable[[], None]] = {
    "https://github.com/hummingbot/hummingbot/issues/2945": (
        path_tests.test_what_follows_is_the_same_after_a_restore_at_any_cut
    ),
    "https://github.com/hummingbot/hummingbot/issues/1663": (rule.test_the_same_fill_by_the_session_and_by_a_drop_copy_is_one),
    f"{NAUTILUS}issues/4154": rule.test_a_fill_before_the_answer_to_a_replace_stays_counted,
    f"{NAUTILUS}issues/4270": path_tests.test_a_cancel_goes_to_the_order_by_whatever_id_the_chain_has,
    "https://github.com/Elenjical-Solutions/HedgeLab/issues/148": (rule.test_a_replaced_order_and_its_replacement_are_one),
    f"{NAUTILUS}issues/4152": path_tests.test_a_request_without_an_answer_is_told_once_and_no_state_is_made_up,
    "https://github.com/paritytrading/parity/issues/70": (rule.test_a_fill_that_bears_the_id_of_a_cancel_is_one_of_the_order),
    "https://github.com/deepentropy/ibx/pull/379": (rule.test_the_cancel_of_an_unknown_order_puts_none_back_to_work),
    f"{NAUTILUS}pull/4761": (path_tests.test_reduce_only_lets_an_exit_out_and_a_circuit_break_only_where_its_rule_does),
    "https://github.com/QuantConnect/Lean/issues/5275": (
        path_tests.test_a_halted_instrument_takes_no_order_and_lets_cancels_through
    ),
    "https://github.com/hummingbot/hummingbot/issues/2534": (
        path_tests.test_nothing_but_a_cancel_leaves_before_the_topic_of_controls_is_read
    ),
    "https://github.com/richkuo/go-trader/issues/1462": (
        path_tests.test_a_kill_cancels_every_working_order_of_its_scope_and_lets_none_out
    ),
    "https://github.com/connamara/quickfixn/issues/825": path_tests.test_an_old_request_is_declined_and_reported,
}
HERE: dict[str, Callable[[], None]] = {}


def pitfall(link: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Whose fault a test is about."""

    def named(test: Callable[[], None]) -> Callable[[], None]:
        HERE[link] = test
        return test

    return named


@pytest.mark.parametrize("link", ELSEWHERE)
def test_a_fault_that_a_test_of_the_order_path_has_already(link: str) -> None:
    ELSEWHERE[link]()


def test_every_pitfall_of_the_order_path_has_a_test() -> None:
    if not PITFALLS.exists():
        pytest.skip(f"{PITFALLS.resolve()} is not here")
    known = {row["link"]: row["area"] for row in json.loads(PITFALLS.read_text())}
    tested = HERE.keys() | ELSEWHERE.keys()
    assert {link for link, area in known.items() if area in AREAS} <= tested <= known.keys()


def last(outputs: list[Output]) -> dict[str, object]:
    return dict(next(output.row for output in reversed(outputs) if output.table == "order_states"))


@pitfall(f"{NAUTILUS}issues/3221")
def test_an_overfill_is_a_row_with_a_reason_and_never_a_stop() -> None:
    path = Path()
    path.step(request("A", quantity="5", time_in_force="fok"))
    row = last(path.step(fill("1", "5.012345", name="A")))
    assert (row["order_status"], row["leaves_quantity"], row["reason"]) == ("filled", "0", "traded 5.012345 of 5")
    assert sent(path.step(request("B", price="99"))) == [("new", "B", None)], "all goes on"


@pitfall(f"{NAUTILUS}issues/3770")
def test_a_status_that_counts_a_fill_already_does_not_make_it_two() -> None:
    path = Path()
    path.step(request("A", quantity="20"))
    path.step(report("1", "status", "A", order_status="filled", cum_quantity="20"))
    row = last(path.step(fill("2", "20", name="A")))
    assert (row["cum_quantity"], row["leaves_quantity"]) == ("20", "0")


@pitfall(f"{NAUTILUS}issues/3317")
def test_the_same_inputs_give_the_same_ids_also_of_what_nobody_has_requested() -> None:
    def rows() -> list[Output]:
        path = Path()
        return [
            *path.step(request("A"), request("B", price="99")),
            *path.step(fill("1", "1", name="A"), applied("all", "cancel-all")),
            *path.step(fill("1", "1", name="A")),
        ]

    assert rows() == rows()
    assert len(cancels(rows())) == 2


@pitfall(f"{NAUTILUS}pull/3493")
def test_no_fill_is_inferred_and_what_corrects_one_waits_for_it() -> None:
    path = Path()
    path.step(request("A", quantity="20"))
    path.step(report("1", "status", "A", order_status="partially_filled", cum_quantity="8"))
    path.step(report("2", "trade_correct", "A", T0 + 9, last_quantity="7", last_price="100", exec_ref_id="3"))
    assert path.state.accounts["a"].position("v:P") == 0
    row = last(path.step(fill("3", "8", name="A")))
    assert row["cum_quantity"] == "7" and path.state.accounts["a"].position("v:P") == 7


@pitfall("https://github.com/alpacahq/alpaca-py/issues/400")
def test_a_cancel_that_stays_pending_is_reported_by_event_time() -> None:
    path = Path()
    path.step(request("A"), report("1", "new", "A"))
    path.step(request("C", "cancel", "A", path.until_ms))
    path.step(report("2", "pending_cancel", "C", path.until_ms, orig_client_order_id="A"))
    outputs = path.step(ms=DAY)
    assert transitions(outputs) == [("unanswered", "pending_cancel")] and last(outputs)["cause"] == "timer"


@pitfall("https://github.com/pst-group/pysystemtrade/issues/1580")
def test_a_fill_after_cancelled_is_booked_and_the_order_stays_cancelled() -> None:  # J.1.b
    path = Path()
    path.step(request("A"))
    path.step(report("1", "new", "A"), report("2", "cancelled", "A", T0 + 1))
    row = last(path.step(fill("3", "4", T0 + 2, "A")))
    assert (row["order_status"], row["cum_quantity"], row["leaves_quantity"]) == ("cancelled", "4", "0")
    assert path.state.accounts["a"].position("v:P") == 4


@pitfall("https://github.com/nkaz001/hftbacktest/issues/239")
def test_the_refusal_of_a_cancel_leaves_a_filled_order_filled() -> None:  # C.2.a
    path = Path()
    path.step(request("A"))
    path.step(request("C", "cancel", "A"))
    path.step(fill("1", "10", name="A"))
    row = last(path.step(report("2", "cancel_rejected", "C", T0 + 1, orig_client_order_id="A", reason="too late")))
    assert (row["order_status"], row["leaves_quantity"]) == ("filled", "0")


@pitfall(f"{QUICKFIX}issues/268")
def test_a_fill_counts_once_by_its_exec_id_whatever_a_repeat_says_of_itself() -> None:
    path = Path()
    path.step(request("A"))
    path.step(fill("1", "4", name="A"))
    for table in ("execution_reports", "venue_reports"):
        again = fill("1", "4", name="A")
        more = {"account_partition": 0} if table == "venue_reports" else {}
        assert path.step(Message(table, 0, 1, again.row | at(T0 + 5) | more)) == []


@pitfall("https://github.com/pattertj/LoopTrader/issues/75")
def test_the_gate_is_asked_for_each_order_also_within_one_batch() -> None:
    path = Path()
    outputs = path.step(request("A"), applied("account:a", "halt"), request("B"), request("O", account="b", price="99"))
    assert refusals(outputs) == ["gate", "gate", "credit"], "of b no margin is known"


@pitfall("https://github.com/velocity-exchange/protocol-v2/pull/2115")
def test_the_age_of_a_mark_grows_with_event_time() -> None:
    path = Path()
    assert refusals(path.step(request("A", ms=T0 + 30_000), ms=29_950)) == []
    outputs = path.step(request("B", ms=path.until_ms), ms=1_000)
    assert refusals(outputs) == ["collar"] and "30.999 s old" in str(last(outputs)["reason"])
    outputs = path.step(request("C", ms=path.until_ms), ms=3_000)
    assert "33.999 s old" in str(last(outputs)["reason"])


@pitfall("https://github.com/euler-xyz/euler-price-oracle/issues/24")
def test_an_instant_is_no_age_and_every_time_has_its_unit_in_its_name() -> None:
    assert {name for name in Limits._fields if "age" in name or "ahead" in name} == {
        *("max_age_s", "max_ahead_s", "max_mark_age_s", "mark_ages_s")
    }
    assert [name for name in Mark._fields if name.endswith("_ms")] == ["event_ms", "index_ms"]
    assert checks.refused() is None, "a mark of this instant, some 1.7e12 ms after 1970"


@pitfall("https://github.com/dcccrypto/percolator-launch/pull/625")
def test_a_mark_is_as_old_as_its_venue_says_not_as_it_was_received() -> None:
    path = Path()
    path.step(ms=59_950)
    now_ms = path.until_ms
    late = {"venue": "v", "instrument": "P", "mark_price": 100.0}
    late |= {"event_at": at(now_ms - 31_000)["event_at"], "received_at": at(now_ms)["received_at"]}
    outputs = path.step(Message("tickers", 0, 0, late), request("A", ms=now_ms))
    assert refusals(outputs) == ["collar"] and "31.049 s old" in str(last(outputs)["reason"])


@pitfall("https://github.com/aprin-labs/archimedes/issues/934")
def test_a_mark_of_the_future_is_refused_instead_of_fresh() -> None:
    path = Path()
    ahead = {"venue": "v", "instrument": "P", "mark_price": 100.0} | at(T0 + 20_000)
    outputs = path.step(Message("tickers", 0, 0, ahead), request("A"))
    assert refusals(outputs) == ["collar"] and "19.901 s in the future" in str(last(outputs)["reason"])
    outputs = path.step(Message("tickers", 0, 0, ahead | at(T0 + DAY)), request("B"))
    assert [output.row["field"] for output in outputs if output.table == "dead_letters"] == ["event_at"]


@pitfall("https://github.com/sherlock-audit/2024-08-sentiment-v2-judging/issues/126")
def test_each_feed_and_underlying_may_have_its_own_age_of_a_mark() -> None:
    view = checks.VIEW._replace(mark=checks.VIEW.mark._replace(event_ms=checks.NOW - 6_000))
    for limit_s, answer in ((5.0, "collar"), (7.0, None)):
        refused = checks.refused(view=view, limits=RULES.limits._replace(mark_ages_s={"v:BTC": limit_s}))
        assert (None if refused is None else refused[0]) == answer
    assert checks.refused(view=view, limits=RULES.limits._replace(mark_ages_s={"w:BTC": 5.0})) is None

"""The job hedges: which orders it requests, and why it requests none."""

import itertools
from typing import Any

import pytest

from engine.contract import Message
from kernels.hedges.rules import RULES
from schemas.rows import instant_ms, to_ms
from tests.kernels.executing import halt
from tests.kernels.hedging import T0, Hedging, book, delta, exposure, limit, member, option, terms, ticker

CELL = ("BTC", "perpetual")


def market(ms: int, **changed: Any) -> list[Message]:
    return [book(ms, **changed), ticker(ms, mark_price=60_000.0)]


def begun(*more: Message) -> Hedging:
    """A perpetual of 60 USD a contract, a limit of 10,000 that is over at 9,000, and a book."""
    return Hedging(terms(), limit(), *more, *market(T0 + 50))


def test_a_breach_is_traded_back_to_the_edge_of_leave_and_no_further() -> None:
    hedging = begun()
    rows = hedging.run(*delta(hedging.now_ms, 12_000.0))
    (request,), (decision,) = rows["hedge_requests"], rows["hedge_decisions"]
    assert (request["side"], request["quantity"], request["time_in_force"]) == ("sell", "50", "ioc")
    assert request["source"] == "hedge"
    assert float(request["price"]) == 59_999.0
    assert to_ms(request["event_at"]) == hedging.now_ms - 1 + RULES.latency_ms
    assert decision["state"] == "hedged"
    assert (decision["exposure_before"], decision["exposure_after"]) == (12_000.0, pytest.approx(9_000.0))
    assert decision["cost_usd"] == pytest.approx(50 * 0.001 * 1.0 + 50 * 60 * 0.0005)
    assert request["parent_client_order_id"] == decision["decision_id"]


@pytest.mark.parametrize("usd", [10_000.0, -9_999.0, 0.0])
def test_within_the_outer_band_nothing_is_traded(usd: float) -> None:
    hedging = begun()
    for _ in range(30):
        assert not hedging.run(*delta(hedging.now_ms, usd), *market(hedging.now_ms))


def test_after_a_hedge_there_is_none_before_the_exposure_is_beyond_the_outer_band_again() -> None:
    hedging = begun()
    hedging.run(*delta(hedging.now_ms, 12_000.0))
    for usd in [12_000.0] * 5 + [9_000.0] * 10 + [9_900.0, 8_000.0, -2_000.0, -9_900.0] * 5:
        hedging.run(*delta(hedging.now_ms, usd), *market(hedging.now_ms))
    assert len(hedging.told()) == 1
    hedging.run(*delta(hedging.now_ms, -10_100.0), *market(hedging.now_ms))
    assert [row["side"] for row in hedging.told()] == ["sell", "buy"]


def test_nothing_is_decided_while_an_order_is_on_its_way_or_its_fill_is_not_in_exposures() -> None:
    hedging = begun()
    hedging.run(*delta(hedging.now_ms, 12_000.0))
    for _ in range(30):
        hedging.run(*delta(hedging.now_ms, 12_000.0), *market(hedging.now_ms))
    times = [to_ms(row["event_at"]) for row in hedging.told()]
    done = sorted(order.done_ms for order in hedging.state.orders.values() if order.done_ms is not None)
    assert len(times) >= 3
    for first, second, over in zip(times, times[1:], done, strict=False):
        assert second - first >= RULES.pause_ms
        assert second >= over + RULES.settled_ms


def test_the_cheaper_of_two_is_traded_and_of_equals_the_first_by_name() -> None:
    both = [terms(venue="w"), book(T0 + 50, venue="w", half=0.5), ticker(T0 + 50, venue="w", mark_price=60_000.0)]
    (request,) = begun(*both).run(*delta(T0 + 100, 12_000.0))["hedge_requests"]
    assert request["venue"] == "w"
    alike = [terms(venue="w"), book(T0 + 50, venue="w"), ticker(T0 + 50, venue="w", mark_price=60_000.0)]
    (request,) = begun(*alike).run(*delta(T0 + 100, 12_000.0))["hedge_requests"]
    assert request["venue"] == "v"
    named = Hedging(terms(), limit(hedge_venue="w"), *market(T0 + 50), *both)
    (request,) = named.run(*delta(T0 + 100, 12_000.0))["hedge_requests"]
    assert request["venue"] == "w"


def test_funding_that_is_paid_makes_another_contract_the_cheaper_one() -> None:
    dear = ticker(T0 + 60, mark_price=60_000.0, funding_rate=-0.001)
    other = [terms("F", "future", expiry_at=instant_ms(T0 + 10**9)), book(T0 + 50, name="F", half=3.0)]
    (request,) = begun(*other).run(*delta(T0 + 100, 12_000.0))["hedge_requests"]
    assert request["instrument"] == "P"
    (request,) = begun(*other, dear).run(*delta(T0 + 100, 12_000.0))["hedge_requests"]
    assert request["instrument"] == "F"


def test_an_order_takes_no_more_of_a_book_than_its_part_and_says_that_it_is_not_enough() -> None:
    hedging = Hedging(terms(), limit(participation=0.1), *market(T0 + 50, size=10.0))
    rows = hedging.run(*delta(T0 + 100, 12_000.0))
    (request,), (decision,) = rows["hedge_requests"], rows["hedge_decisions"]
    assert request["quantity"] == "20"  # a tenth of 20 levels of 10
    assert decision["state"] == "partial"
    assert decision["exposure_after"] == pytest.approx(12_000.0 - 20 * 60.0)


def test_a_lot_that_is_too_large_is_not_traded_and_this_is_said_once() -> None:
    hedging = Hedging(terms(lot_size=1_000.0), limit(), *market(T0 + 50, size=1e5))
    for _ in range(30):
        hedging.run(*delta(hedging.now_ms, 12_000.0), *market(hedging.now_ms, size=1e5))
    (decision,) = hedging.told()
    assert decision["state"] == "nothing"
    assert "a lot is too much" in decision["reason"]
    assert not hedging.told("hedge_requests")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ([book(T0 + 60, is_stale=True)], "v:P stale book"),
        ([halt(T0 + 60)], "v:P halted"),
        ([book(T0 + 60, size=0.0)], "nothing can be traded"),
    ],
)
def test_what_cannot_be_traded_is_named(more: list[Message], why: str) -> None:
    (decision,) = begun(*more).run(*delta(T0 + 100, 12_000.0))["hedge_decisions"]
    assert decision["state"] == "nothing"
    assert why in decision["reason"]


def test_what_is_refused_comes_again_ever_later_until_an_order_trades() -> None:
    hedging = begun()
    hedging.refuses = "gate"
    while hedging.now_ms < T0 + 60_000:
        hedging.run(*delta(hedging.now_ms, 12_000.0), *market(hedging.now_ms))
    asked = [to_ms(row["event_at"]) for row in hedging.told("hedge_requests")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert 4 <= len(asked) <= 6
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(gaps))
    refused = [row for row in hedging.told() if row["state"] == "refused"]
    assert len(refused) == len(asked)
    assert refused[0]["reason"].startswith("gate: no; the next try is after ")


def options(ms: int) -> list[Message]:
    rows: list[Message] = []
    for name, strike in (("60-C", 60_000.0), ("60-P", 60_000.0), ("70-C", 70_000.0)):
        rows += [option(name, strike), ticker(ms, name, mark_iv=0.6, forward_usd=60_000.0, mark_price=2_000.0)]
        rows.append(book(ms, 2_000.0, name, half=20.0, size=200.0))
    return rows


def test_gamma_and_vega_are_mended_by_options_and_their_delta_by_the_perpetual() -> None:
    limits = [limit(), limit("gamma", 500.0), limit("vega", 20.0)]
    hedging = Hedging(terms(), *limits, *options(T0 + 50), *market(T0 + 50))
    short = {("BTC", "month"): (0.0, -900.0, -35.0)}
    rows = hedging.run(*exposure(T0 + 100, short))
    decisions = rows["hedge_decisions"]
    assert {row["state"] for row in decisions} == {"hedged"}
    gamma, vega, usd = (sum(row[name] for row in decisions) for name in ("gamma_usd", "vega_usd", "delta_usd"))
    assert gamma - 900.0 >= -450.0 - 1e-6
    assert vega - 35.0 >= -18.0 - 1e-6
    assert abs(usd) <= 9_000.0
    lots = sum(float(row["quantity"]) for row in decisions if row["instrument"] != "P")
    assert vega * (lots - 1) / lots < 17.0  # a lot less would not do
    assert sum(row["cost_usd"] for row in decisions) == pytest.approx(decisions[0]["total_cost_usd"])


def test_a_hedge_takes_no_other_limit_out_of_its_band() -> None:
    # Gamma comes only with delta, and there is no perpetual.
    limits = [limit(enter=100.0), limit("gamma", 500.0)]
    hedging = Hedging(*limits, option("70-C", 70_000.0), *options(T0 + 50)[-2:])
    (decision,) = hedging.run(*exposure(T0 + 100, {("BTC", "month"): (0.0, -900.0, 0.0)}))["hedge_decisions"]
    assert decision["state"] in ("partial", "nothing")
    assert abs(decision["delta_usd"] or 0.0) <= 90.0 + 1e-6


def test_a_group_is_judged_by_the_sum_of_its_parts_and_hedged_on_the_account_of_its_hedger() -> None:
    whole = {"subject_kind": "group", "subject": "desk"}
    hedging = Hedging(terms(), limit(**whole), member("a"), member("b", is_hedger=True), *market(T0 + 50))
    for _ in range(30):
        parts = [delta(hedging.now_ms, 8_000.0, part=number, **whole) for number in (0, 1)]
        hedging.run(*(row for part in parts for row in part), *market(hedging.now_ms))
    breach = hedging.told("group_breaches")[0]
    assert (breach["state"], breach["exposure"]) == ("breached", 16_000.0)
    request = hedging.told("hedge_requests")[0]
    assert (request["account"], request["side"], request["quantity"]) == ("b", "sell", "117")  # 7,000 over 60, and a lot


def test_a_group_without_a_hedger_says_so() -> None:
    whole = {"subject_kind": "group", "subject": "desk"}
    hedging = Hedging(terms(), limit(**whole), member("a"), *market(T0 + 50))
    for _ in range(30):
        hedging.run(*delta(hedging.now_ms, 18_000.0, **whole), *market(hedging.now_ms))
    assert hedging.told()[0]["reason"] == "no account of the group is its hedger"


def test_a_target_keeps_an_exposure_that_is_wanted() -> None:
    hedging = Hedging(terms(), limit(target=50_000.0), *market(T0 + 50))
    (request,) = hedging.run(*delta(T0 + 100, 30_000.0))["hedge_requests"]
    assert (request["side"], request["quantity"]) == ("buy", "184")  # 11,000 over 60, and a lot


def test_a_limit_that_is_lifted_or_not_hedged_trades_nothing() -> None:
    for last in (limit(enter=None, ms=T0 + 60), limit(is_hedged=False, ms=T0 + 60)):
        assert not begun(last).run(*delta(T0 + 100, 12_000.0))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"measure": "rho"}, "measure"),
        ({"enter": 0.0}, "enter"),
        ({"leave": 10_000.0}, "leave"),
        ({"expiry_bucket": "year"}, "expiry_bucket"),
        ({"measure": "leverage"}, "underlying"),
        ({"subject_kind": "desk"}, "subject_kind"),
        ({"participation": 0.0}, "participation"),
    ],
)
def test_a_limit_that_is_none_is_a_dead_letter(wrong: dict[str, Any], field: str) -> None:
    hedging = Hedging(limit(**wrong))
    (letter,) = hedging.told("dead_letters")
    assert (letter["source"], letter["field"]) == ("risk_limits.v1", field)


def test_prices_of_instruments_that_no_limit_needs_are_not_even_read() -> None:
    hedging = Hedging(terms(), terms("E", underlying="ETH"), *market(T0 + 50), book(T0 + 50, name="E"))
    assert not hedging.state.markets
    hedging.run(limit(), *market(T0 + 150), book(T0 + 150, name="E"))
    assert set(hedging.state.markets) == {"v:P"}
    hedging.run(book(T0 + 250, name="E"), book(T0 + 250, mid=61_000.0))
    assert set(hedging.state.markets) == {"v:P"}
    assert hedging.state.markets["v:P"].mid == 61_000.0


@pytest.mark.parametrize("cut", [3, 6, 9, 14])
def test_a_restored_state_goes_on_to_the_same_bytes(cut: int) -> None:
    def played(is_cut: bool) -> dict[str, list[dict[str, Any]]]:
        hedging = Hedging(terms(), limit(), limit("gamma", 500.0), *options(T0 + 50), *market(T0 + 50))
        hedging.fills = 0.5
        for number in range(40):
            if is_cut and number == cut:
                hedging.restore()
            ms = hedging.now_ms
            cells = {("BTC", "month"): (12_000.0 + number, -900.0, -500.0)}
            hedging.run(*exposure(ms, cells), *market(ms), *options(ms))
        return hedging.rows

    rows = played(False)
    assert len(rows["hedge_requests"]) > 2
    assert played(True) == rows


@pytest.mark.parametrize("cut", [1, 12, 25])
def test_a_group_is_judged_at_the_same_instant_after_a_restore(cut: int) -> None:
    def played(is_cut: bool) -> list[dict[str, Any]]:
        whole = {"subject_kind": "group", "subject": "desk"}
        hedging = Hedging(
            terms(), limit(**whole), member("a", is_hedger=True), *market(T0 + 50), *delta(T0 + 50, 16_000.0, **whole)
        )
        for number in range(30):
            if is_cut and number == cut:
                hedging.restore()
            hedging.run(*market(hedging.now_ms))
        return hedging.told("group_breaches")

    (breach,) = played(False)
    assert breach["state"] == "breached"
    assert played(True) == [breach]

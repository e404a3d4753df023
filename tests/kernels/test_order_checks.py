"""The checks before a trade: each refuses by its limit, with the figures, and what is not known refuses."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from kernels.gate import Held, Reason
from kernels.market.terms import Tradable
from kernels.orders.checks import CHECKS, Intent, View, act_of, refusal, request_of
from kernels.orders.rules import RULES, Limits
from kernels.orders.worth import Mark, notional_usd, reserve_usd

NOW = 1_700_000_000_000
PERPETUAL = Tradable(0, "perpetual", "BTC", "USDT", "USDT", False, 1.0, None, None, 0.5, 0.001)
INVERSE = PERPETUAL._replace(quote_currency="USD", is_inverse=True, contract_size=10.0)
OPTION = Tradable(0, "option", "BTC", "BTC", "BTC", True, 1.0, NOW + 1, NOW + 1, 0.0005, 0.1)
VIEW = View(NOW, PERPETUAL, Mark(NOW, 100.0, NOW, 50_000.0), free_usd=1_000.0)
INTENT = Intent("a", "v", "BTC-P", "person", "buy", "limit", "gtc", Decimal(100), Decimal(10), decided_ms=NOW)


def refused(
    intent: Intent = INTENT, view: View = VIEW, limits: Limits = RULES.limits, **changed: Any
) -> tuple[str, str] | None:
    return refusal(intent._replace(**changed), view, limits)


def test_an_order_within_all_limits_may_leave() -> None:
    assert refused() is None


@pytest.mark.parametrize(
    ("rule", "figures", "intent", "view", "limits"),
    [
        ("gate", "halt", {}, {"held": Held(Reason.HALT, "all", "halt of everything")}, {}),
        ("form", "hold", {"side": "hold"}, {}, {}),
        ("form", "not above zero", {"quantity": Decimal(0)}, {}, {}),
        ("form", "gtd", {"time_in_force": "gtd"}, {}, {}),
        ("form", "never takes", {"order_type": "market", "price": None, "time_in_force": "post_only"}, {}, {}),
        ("form", "10 has traded", {"traded": Decimal(10)}, {}, {}),
        ("age", "11 s ago, more than 10 s", {"decided_ms": NOW - 11_000}, {}, {}),
        ("age", "2 s in the future", {"decided_ms": NOW + 2_000}, {}, {}),
        ("instrument", "not known", {}, {"contract": None}, {}),
        ("instrument", "restricted", {}, {"is_restricted": True}, {}),
        ("instrument", "ended 5 s ago", {}, {"contract": PERPETUAL._replace(expiry_ms=NOW - 5_000)}, {}),
        ("mmp", "BTC: frozen", {}, {"unprotected": "BTC: frozen"}, {}),
        ("grid", "100.2 is no multiple of 0.5", {"price": Decimal("100.2")}, {}, {}),
        ("grid", "0.0005 is no multiple of 0.001", {"quantity": Decimal("0.0005")}, {}, {}),
        ("size", "10 contracts, more than 9", {}, {}, {"max_quantity": 9.0}),
        ("collar", "limit 106 is above 105, for the mark is 100", {"price": Decimal(106)}, {}, {}),
        ("collar", "limit 94 is below 95, for the mark is 100", {"side": "sell", "price": Decimal(94)}, {}, {}),
        ("collar", "31 s old", {}, {"mark": Mark(NOW - 31_000, 100.0)}, {}),
        ("collar", "31 s old, more than 30 s", {}, {"mark": Mark(NOW - 31_000, 100.0)}, {"mark_ages_s": {"w:BTC": 60.0}}),
        ("collar", "6 s old, more than 5 s", {}, {"mark": Mark(NOW - 6_000, 100.0)}, {"mark_ages_s": {"v:BTC": 5.0}}),
        ("collar", "2 s in the future", {}, {"mark": Mark(NOW + 2_000, 100.0)}, {}),
        ("collar", "not known", {}, {"mark": Mark()}, {}),
        ("notional", "1000.00 USD, more than 999.00", {}, {}, {"max_notional_usd": 999.0}),
        ("notional", "1000.00 USD, more than 500.00", {"max_notional_usd": 500.0}, {}, {}),
        ("position", "2510 contracts", {}, {"position": Decimal(2_000), "buying": Decimal(500)}, {"max_position_usd": 2e5}),
        ("credit", "needs 100.00 USD, of which 99.00", {}, {"free_usd": 99.0}, {}),
        ("credit", "not known", {}, {"free_usd": None}, {}),
        ("open_orders", "7 orders are open, at most 7", {}, {"open_orders": 7}, {"max_open_orders": 7}),
        ("rate", "500 requests", {}, {"lately": 500}, {}),
        ("duplicate", "10 orders like it", {}, {"alike_lately": 10}, {}),
    ],
)
def test_each_check_refuses_by_its_limit_with_the_figures(
    rule: str, figures: str, intent: dict[str, Any], view: dict[str, Any], limits: dict[str, Any]
) -> None:
    answer = refused(INTENT, VIEW._replace(**view), RULES.limits._replace(**limits), **intent)
    assert answer is not None and answer[0] == rule
    assert all(part in answer[1] for part in figures.replace(" contracts", "").split(", more")), answer


def test_every_check_has_a_case_that_it_refuses() -> None:
    (mark,) = (m for m in test_each_check_refuses_by_its_limit_with_the_figures.pytestmark if m.name == "parametrize")
    assert {case[0] for case in mark.args[1]} == set(CHECKS)


def test_an_exit_that_is_proven_against_the_position_needs_neither_credit_nor_room() -> None:
    broke = VIEW._replace(free_usd=None, position=Decimal(-10))
    assert refused(view=broke, limits=RULES.limits._replace(max_position_usd=0.0)) is None
    assert refused(view=broke._replace(buying=Decimal(1))) is not None, "with the other order it could turn round"
    assert act_of(INTENT, broke) == "reduce" and act_of(INTENT, VIEW) == "increase"
    assert act_of(INTENT._replace(source="liquidation"), VIEW) == "liquidate"


def test_a_replace_that_needs_no_more_than_is_kept_back_passes_without_credit() -> None:
    assert refused(view=VIEW._replace(free_usd=-5.0, kept_usd=100.0)) is None
    assert refused(view=VIEW._replace(free_usd=-5.0, kept_usd=99.0)) is not None


def test_a_liquidation_needs_no_credit_and_keeps_the_collar() -> None:
    broke = VIEW._replace(free_usd=-5.0, lately=10_000)
    assert refusal(INTENT, broke, RULES.limits, RULES.exempt["liquidation"]) is None
    far = INTENT._replace(price=Decimal(200))
    assert refusal(far, broke, RULES.limits, RULES.exempt["liquidation"]) is not None


def test_the_gate_is_asked_whose_order_it_is_and_what_it_does() -> None:
    request = request_of(INTENT._replace(source="liquidation"), VIEW)
    assert request.scopes() == ["all", "venue:v", "underlying:BTC", "account:a", "algo:liquidations", "instrument:v:BTC-P"]
    assert request.act == "liquidate"


def test_a_market_order_may_fill_as_far_as_the_collar_and_a_limit_at_its_edge_is_within() -> None:
    market = INTENT._replace(order_type="market", price=None)
    assert VIEW.limit(market, RULES.limits) == 105.0
    assert VIEW.limit(market._replace(side="sell"), RULES.limits) == 95.0
    assert refused(price=Decimal(105)) is None, "Paradex: mark ± 5 %"
    assert refused(side="sell", price=Decimal(95)) is None


def test_a_mark_of_the_future_is_no_younger_and_an_old_ticker_does_not_replace_it() -> None:
    mark = Mark().after(NOW, {"mark_price": 100.0}).after(NOW - 1, {"mark_price": 1.0})
    assert mark.price == 100.0 and mark.event_ms == NOW


@pytest.mark.parametrize(
    ("worth", "usd"),
    [
        (lambda: notional_usd(PERPETUAL, VIEW.mark, Decimal(10), 100.0), 1_000.0),
        (lambda: notional_usd(INVERSE, VIEW.mark, Decimal(10), 50_000.0), 100.0),
        (lambda: notional_usd(OPTION, VIEW.mark, Decimal(2), 0.01), 100_000.0),
        (lambda: reserve_usd(OPTION, VIEW.mark, "buy", Decimal(2), 0.01, RULES.limits), 1_000.0),
        (lambda: reserve_usd(OPTION, VIEW.mark, "sell", Decimal(2), 0.01, RULES.limits), 15_000.0),
        (lambda: notional_usd(PERPETUAL._replace(quote_currency="EUR"), VIEW.mark, Decimal(1), 1.0), None),
    ],
)
def test_worth_and_reserve_follow_from_the_terms(worth: Callable[[], float | None], usd: float | None) -> None:
    assert worth() == (usd if usd is None else pytest.approx(usd, rel=1e-12))

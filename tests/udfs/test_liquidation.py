import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from udfs import liquidation, margin_parameters, portfolio_margin, portfolio_positions
from udfs.liquidation import DEFAULT, Rules
from udfs.portfolio_positions import Instruments
from udfs.portfolio_values import Market

TRUTH = Path(__file__).resolve().parents[2].parent / "shared" / "truth"

prices = st.floats(0.01, 1e6)
sizes = st.floats(-1e4, 1e4)
money = st.floats(-1e6, 1e6)


def truth(name: str) -> Any:
    path = TRUTH / name
    if not path.exists():
        pytest.skip(f"the reference values {path} are not here")
    return json.loads(path.read_text())


class Account:
    """Net notional, requirement and collateral of a published case."""

    def __init__(self, cases: Any, case: Any) -> None:
        rate, positions = cases["maintenance_margin_fraction"], case["positions"]
        self.price = cases["prices_usd"][case["perpetual"]]
        self.size = positions[case["perpetual"]]
        nnv = {name: n * cases["prices_usd"][name] for name, n in positions.items()}
        self.nnv = nnv[case["perpetual"]]
        self.mmr = abs(self.nnv) * rate
        self.tmmr = sum(abs(value) for value in nnv.values()) * rate
        self.tnc = sum(nnv.values()) + case["quote_usd"]
        closed = case.get("delta") or -self.size
        self.delta_nnv = closed * self.price
        self.delta_mmr = (abs(self.size + closed) - abs(self.size)) * self.price * rate

    def bankruptcy_quote(self) -> Any:
        return liquidation.bankruptcy_quote(self.delta_nnv, self.delta_mmr, self.tnc, self.tmmr)


def test_the_published_bankruptcy_quotes() -> None:
    cases = truth("perpetual_liquidation_cases.json")
    for case in cases["bankruptcy"]:
        # The source counts in millionths of a dollar.
        expected = pytest.approx(case["expected_bankruptcy_quote_usd"], abs=1e-6)
        assert Account(cases, case).bankruptcy_quote() == expected


def test_the_published_fillable_prices() -> None:
    cases = truth("perpetual_liquidation_cases.json")
    for case in cases["fillable"]:
        account = Account(cases, case)
        rules = Rules(
            bankruptcy_adjustment=case["bankruptcy_adjustment"], spread_to_maintenance=case["spread_to_maintenance_ratio"]
        )
        price = liquidation.fillable_price(account.size, account.nnv, account.mmr, account.tnc, account.tmmr, rules)
        assert price == pytest.approx(case["expected_fillable_price_usd"])


def test_the_published_insurance_deltas() -> None:
    cases = truth("perpetual_liquidation_cases.json")
    for case in cases["insurance_fund"]:
        fill = case["fill_quote_usd"] * (-1 if case["is_buy"] else 1)
        delta = liquidation.insurance_delta(fill, Account(cases, case).bankruptcy_quote(), Rules(max_fee=case["max_fee"]))
        assert delta == pytest.approx(case["expected_insurance_delta_usd"], abs=1e-6)


def test_the_published_sizes_that_cover_a_shortage() -> None:
    for case in truth("exchange_margin_examples.json")["drift_base_to_cover_margin_shortage"]["cases"]:
        fees = case["liq_fee"], case["if_fee"]
        size = liquidation.size_to_cover(case["shortage"], case["px"], case["margin_ratio"], *fees, case["quote_px"])
        assert size == pytest.approx(case["base"])


def test_the_published_price_band() -> None:
    example = truth("exchange_margin_examples.json")["paradex_price_band"]
    mark, rules = example["mark"], Rules(price_band=example["bandwidth"])
    assert liquidation.band(mark, rules) == (example["down"], example["up"])
    assert liquidation.band(mark, rules)[1] == example["market_buy_limit"]
    for is_accepted, orders in ((False, example["reject"]), (True, example["accept"])):
        for order in orders:
            is_buy, limit = "buy" in order, float(order.split()[-1])
            assert liquidation.is_within_band(limit, mark, is_buy, rules) == is_accepted


def test_the_published_span_array_of_a_long_future() -> None:
    example = truth("exchange_margin_examples.json")["span_long_future"]
    nothing = np.empty(0)
    future = Instruments(np.empty(0, dtype=np.int64), nothing, np.empty(0, dtype=np.bool_), 0, 1, 0)
    market = Market(
        spot=100_000.0, spot_confidence=1.0, stable=1.0, expiry_s=nothing, forward=nothing, rate=nothing,
        expiry_confidence=nothing, vol=nothing, future_price=np.array([100_000.0]), future_confidence=np.ones(1),
        collateral_usd=nothing, collateral_confidence=nothing, collateral_threshold=nothing, mmhaircut=nothing,
        imhaircut=nothing, is_risk_cancelling=np.empty(0, dtype=np.bool_),
    )  # fmt: skip
    long = portfolio_positions.hold(future, [0], [0], [1.0])
    span = margin_parameters.parameter_set("span_futures")
    pnl = portfolio_margin.scenario_pnl(span, market, long)[0, :-1]
    assert sorted(pnl) == pytest.approx(sorted(example["array"]))
    assert portfolio_margin.requirements(span, market, long).maintenance == pytest.approx(example["requirement"])


@given(money, st.floats(0, 1e6))
def test_liquidatable_is_a_requirement_that_exceeds_the_collateral(tnc: float, tmmr: float) -> None:
    assert liquidation.is_liquidatable(tnc, tmmr) == (tmmr > 0 and tmmr > tnc)
    assert not liquidation.is_liquidatable(tmmr, tmmr)
    assert not liquidation.is_liquidatable(-1.0, 0.0)


@given(st.lists(st.tuples(sizes, prices), min_size=1, max_size=5), money)
def test_closing_a_whole_account_at_bankruptcy_quotes_uses_up_its_collateral(
    held: list[tuple[float, float]], cash: float
) -> None:
    nnv = np.array([size * price for size, price in held])
    mmr = 0.1 * np.abs(nnv)
    assume(mmr.sum() > 1e-3)
    tnc = cash + nnv.sum()
    quotes = liquidation.bankruptcy_quote(-nnv, -mmr, tnc, mmr.sum())
    assert cash + quotes.sum() == pytest.approx(0.0, abs=1e-9 * (np.abs(nnv).sum() + abs(cash) + 1))


@given(st.floats(0.01, 1e3), prices, st.floats(-2.0, 2.0))
def test_the_fillable_price_is_worse_than_the_oracles_and_mirrors_between_long_and_short(
    size: float, price: float, health: float
) -> None:
    mmr = 0.1 * size * price
    long = liquidation.fillable_price(size, size * price, mmr, health * mmr, mmr)
    short = liquidation.fillable_price(-size, -size * price, mmr, health * mmr, mmr)
    assert long <= price * (1 + 1e-12) and short >= price * (1 - 1e-12)
    assert long + short == pytest.approx(2 * price)
    assert price - long <= DEFAULT.spread_to_maintenance * 0.1 * price * (1 + 1e-9)


@given(money, money)
def test_the_fund_gains_no_more_than_the_fee_cap_and_pays_every_shortfall(fill: float, bankruptcy: float) -> None:
    delta = liquidation.insurance_delta(fill, bankruptcy)
    assert delta <= DEFAULT.max_fee * abs(fill)
    if fill < bankruptcy:
        assert delta == fill - bankruptcy


def test_a_round_closes_a_quarter_and_of_a_large_position_a_fifth() -> None:
    mark = 100.0
    assert liquidation.round_size([400.0, -400.0], mark, np.inf) == pytest.approx([-100.0, 100.0])
    assert liquidation.round_size([4000.0, -4000.0], mark, np.inf) == pytest.approx([-800.0, 800.0])


def test_a_round_waits_for_the_pause_before_it() -> None:
    small, large = 400.0, 4000.0
    assert liquidation.round_size(small, 100.0, [0.5, 1.0]) == pytest.approx([0.0, -100.0])
    assert liquidation.round_size(large, 100.0, [1.0, 29.9, 30.0]) == pytest.approx([0.0, 0.0, -800.0])


def test_a_rest_too_small_to_leave_is_closed_too() -> None:
    assert liquidation.round_size([13.0, 14.0], 100.0, np.inf) == pytest.approx([-13.0, -3.5])


@given(sizes, prices, st.floats(0, 100))
def test_a_round_reduces_a_position_and_never_turns_it(size: float, price: float, since: float) -> None:
    closed = float(liquidation.round_size(size, price, since))
    assert closed * size <= 0.0
    assert abs(closed) <= abs(size)


@given(st.floats(1.0, 1e4), prices, st.floats(0.02, 0.2), st.floats(0.0, 0.01))
def test_closing_the_covering_size_restores_the_requirement_to_the_collateral(
    size: float, price: float, rate: float, fee: float
) -> None:
    # At mark, closing leaves the collateral but for the fee, and frees the requirement.
    tmmr = rate * size * price
    tnc = 0.5 * tmmr
    closed = float(liquidation.size_to_cover(tmmr - tnc, price, rate, fee))
    assert rate * (size - closed) * price == pytest.approx(tnc - fee * closed * price, abs=1e-9 * tmmr)


def test_fees_above_what_is_freed_need_everything_closed_and_no_shortage_nothing() -> None:
    assert liquidation.size_to_cover([10.0, 0.0, -5.0], 100.0, 0.01, 0.02).tolist() == [np.inf, 0.0, 0.0]


def test_deleveraging_takes_the_profitable_and_levered_first() -> None:
    # Entry 100 each; leverage 10, 2, 10 and 2.
    mark = np.array([120.0, 120.0, 90.0, 90.0, 100.0])
    bankrupt = mark * np.array([0.9, 0.5, 0.9, 0.5, 0.9])
    score = liquidation.adl_score(mark - 100.0, 100.0, mark, bankrupt)
    assert score == pytest.approx([2.0, 0.4, -0.01, -0.05, 0.0])
    assert liquidation.adl_order(score).tolist() == [0, 1, 4, 2, 3]
    assert liquidation.adl_order([1.0, 2.0, 1.0]).tolist() == [1, 0, 2]


@given(sizes, prices, money, st.floats(0.001, 0.2))
def test_at_the_liquidation_price_the_collateral_is_the_requirement(size: float, mark: float, tnc: float, rate: float) -> None:
    assume(abs(size) > 1e-3)
    price = float(liquidation.liquidation_price(size, mark, tnc, rate))
    assume(not np.isnan(price))
    scale = abs(size) * (mark + price) + abs(tnc)
    assert tnc + size * (price - mark) == pytest.approx(rate * abs(size) * price, abs=1e-9 * scale)


def test_a_long_that_is_all_paid_for_has_no_liquidation_price() -> None:
    assert np.isnan(liquidation.liquidation_price([1.0, 0.0], 100.0, 100.0, 0.01)).all()
    assert liquidation.liquidation_price([1.0, -1.0], 100.0, 10.0, 0.0) == pytest.approx([90.0, 110.0])


def test_arguments_broadcast_and_nan_gives_nan() -> None:
    assert liquidation.fillable_price([[1.0], [-1.0]], [[100.0], [-100.0]], 10.0, [5.0, np.nan], 10.0).shape == (2, 2)
    for answer in (
        liquidation.bankruptcy_quote(np.nan, 1.0, 1.0, 1.0),
        liquidation.bankruptcy_quote(1.0, 1.0, 1.0, 0.0),
        liquidation.fillable_price(0.0, 0.0, 0.0, 1.0, 1.0),
        liquidation.insurance_delta(np.nan, 1.0),
        liquidation.size_to_cover(np.nan, 1.0, 0.1),
        liquidation.size_to_cover(1.0, np.nan, 0.1),
        liquidation.adl_score(np.nan, 1.0, 1.0, 0.5),
    ):
        assert np.isnan(answer)

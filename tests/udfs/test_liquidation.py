import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
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
        self.size = positions[case["perpetual"]]
        nnv = {name: n * cases["prices_usd"][name] for name, n in positions.items()}
        self.nnv = nnv[case["perpetual"]]
        self.mmr = abs(self.nnv) * rate
        self.tmmr = sum(abs(value) for value in nnv.values()) * rate
        self.tnc = sum(nnv.values()) + case["quote_usd"]


def test_the_published_fillable_prices() -> None:
    cases = truth("perpetual_liquidation_cases.json")
    for case in cases["fillable"]:
        account = Account(cases, case)
        rules = Rules(
            bankruptcy_adjustment=case["bankruptcy_adjustment"], spread_to_maintenance=case["spread_to_maintenance_ratio"]
        )
        price = liquidation.fillable_price(account.size, account.nnv, account.mmr, account.tnc, account.tmmr, *rules.spread)
        assert price == pytest.approx(case["expected_fillable_price_usd"])


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


@given(st.floats(0.01, 1e3), prices, st.floats(-2.0, 2.0))
def test_the_fillable_price_is_worse_than_the_oracles_and_mirrors_between_long_and_short(
    size: float, price: float, health: float
) -> None:
    mmr = 0.1 * size * price
    long = liquidation.fillable_price(size, size * price, mmr, health * mmr, mmr, *DEFAULT.spread)
    short = liquidation.fillable_price(-size, -size * price, mmr, health * mmr, mmr, *DEFAULT.spread)
    assert long <= price * (1 + 1e-12) and short >= price * (1 - 1e-12)
    assert long + short == pytest.approx(2 * price)
    assert price - long <= DEFAULT.spread_to_maintenance * 0.1 * price * (1 + 1e-9)


@given(sizes, prices, st.floats(0, 100))
def test_a_round_reduces_a_position_and_never_turns_it(size: float, price: float, since: float) -> None:
    closed = closed_in_round(size, price, since)
    assert closed * size <= 0.0
    assert abs(closed) <= abs(size)


def test_deleveraging_takes_the_profitable_and_levered_first() -> None:
    # Entry 100 each; leverage 10, 2, 10 and 2.
    mark = np.array([120.0, 120.0, 90.0, 90.0, 100.0])
    bankrupt = mark * np.array([0.9, 0.5, 0.9, 0.5, 0.9])
    score = liquidation.adl_score(mark - 100.0, 100.0, mark, bankrupt)
    assert score == pytest.approx([2.0, 0.4, -0.01, -0.05, 0.0])
    assert np.argsort(-score).tolist() == [0, 1, 4, 2, 3]


def closed_in_round(size: float, mark: float, since_s: float) -> float:
    return liquidation.round_size(size, mark, since_s, *DEFAULT.rounds)


@pytest.mark.parametrize(
    ("size", "since_s", "closed"),
    [
        (400.0, math.inf, -100.0),  # a quarter
        (-400.0, math.inf, 100.0),
        (4000.0, math.inf, -800.0),  # of a large position a fifth
        (-4000.0, math.inf, 800.0),
        (400.0, 0.5, 0.0),  # within the pause
        (400.0, 1.0, -100.0),
        (4000.0, 1.0, 0.0),
        (4000.0, 29.9, 0.0),
        (4000.0, 30.0, -800.0),
        (13.0, math.inf, -13.0),  # a quarter would leave 975 USD, which is too little
        (14.0, math.inf, -3.5),
    ],
)
def test_a_round_closes_its_share_after_the_pause_and_a_small_rest_with_it(size: float, since_s: float, closed: float) -> None:
    assert closed_in_round(size, 100.0, since_s) == pytest.approx(closed)


def test_the_published_price_band() -> None:
    example = truth("exchange_margin_examples.json")["paradex_price_band"]
    low, high = liquidation.band(example["mark"], Rules(price_band=example["bandwidth"]))
    assert (low, high) == (example["down"], example["up"])
    assert high == example["market_buy_limit"]


def test_arguments_broadcast_and_nan_gives_nan() -> None:
    assert liquidation.adl_score([[1.0], [2.0]], 100.0, 120.0, [100.0, 110.0]).shape == (2, 2)
    assert np.isnan(liquidation.adl_score(np.nan, 1.0, 1.0, 0.5))
    assert not liquidation.is_liquidatable([np.nan, 1.0], [1.0, np.nan]).any()
    assert math.isnan(liquidation.fillable_price(0.0, 0.0, 0.0, 1.0, 1.0, *DEFAULT.spread))


def test_the_published_insurance_deltas() -> None:
    cases = truth("perpetual_liquidation_cases.json")
    for case in cases["insurance_fund"]:
        account = Account(cases, case)
        fill = case["fill_quote_usd"] * (-1 if case["is_buy"] else 1)
        figures = -account.nnv, -account.mmr, account.tnc, account.tmmr, case["max_fee"]
        # The source counts in millionths of a dollar.
        assert liquidation.insurance_delta(fill, *figures) == pytest.approx(case["expected_insurance_delta_usd"], abs=1e-6)


def test_the_fund_gains_what_is_better_than_the_published_bankruptcy_quotes_and_pays_what_is_worse() -> None:
    cases = truth("perpetual_liquidation_cases.json")
    for case in cases["bankruptcy"]:
        account, price = Account(cases, case), cases["prices_usd"][case["perpetual"]]
        delta_mmr = (abs(account.size + case["delta"]) - abs(account.size)) * price * cases["maintenance_margin_fraction"]
        for better in (-10.0, 0.0, 10.0):
            fill = case["expected_bankruptcy_quote_usd"] + better
            figures = case["delta"] * price, delta_mmr, account.tnc, account.tmmr
            assert liquidation.insurance_delta(fill, *figures, max_fee=1e9) == pytest.approx(better, abs=1e-6)
    assert math.isnan(liquidation.insurance_delta(1.0, -1.0, 0.0, 1.0, 0.0, 0.005))

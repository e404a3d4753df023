import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from udfs import black76, standard_margin
from udfs.standard_margin import FUTURES, Rates, by_itself, cash, futures_schedule, totals

TRUTH = Path(__file__).resolve().parents[2].parent / "shared" / "truth"

sizes = st.floats(-1e4, 1e4)
prices = st.floats(1.0, 1e6)
underlyings = st.sampled_from([*FUTURES, "DOGE"])


@pytest.fixture(scope="module")
def examples() -> Any:
    path = TRUTH / "exchange_margin_examples.json"
    if not path.exists():
        pytest.skip(f"the reference values {path} are not here")
    return json.loads(path.read_text())


def test_deribits_linear_perpetual_examples(examples: Any) -> None:
    for case in examples["deribit_linear_perp_standard_margin"]["cases"]:
        schedule = futures_schedule(case["sym"].partition("_")[0])
        margin = standard_margin.linear_future(case["pos"], case["price"], *schedule)
        assert margin.initial == pytest.approx(case["im_usdc"])
        if "mm_usdc" in case:
            assert margin.maintenance == pytest.approx(case["mm_usdc"])


def test_a_short_call_at_the_money_by_the_same_rule_elsewhere(examples: Any) -> None:
    given, expected = examples["derive_srm_test1"]["inputs"], examples["derive_srm_test1"]["expected"]
    mark_usd = black76.price(given["fwd"], given["K"], given["sec"] / (365 * 86_400), given["vol"], True)
    assert mark_usd == pytest.approx(-expected["mtm"], rel=1e-6)
    margin = standard_margin.option(given["qty"], mark_usd / given["spot"], given["spot"], given["K"], True)
    assert margin.initial * given["spot"] == pytest.approx(-expected["im"], rel=1e-6)
    assert margin.maintenance * given["spot"] == pytest.approx(-expected["mm"], rel=1e-6)


@pytest.mark.parametrize(
    ("is_call", "F", "K", "m", "initial", "maintenance"),
    [
        (True, 100.0, 100.0, 0.05, 0.20, 0.125),  # at the money
        (True, 100.0, 103.0, 0.04, 0.16, 0.115),  # 0.03 out: 0.15 - 0.03
        (True, 100.0, 150.0, 0.01, 0.11, 0.085),  # far out: the floor of 0.1
        (True, 100.0, 50.0, 0.51, 0.66, 0.585),  # in the money counts as none out
        (False, 100.0, 98.0, 0.04, 0.17, 0.115),
        (False, 100.0, 50.0, 0.01, 0.11, 0.085),
        (False, 100.0, 500.0, 4.0, 4.30, 4.30),  # 0.075 m = 0.3 exceeds 0.15: the maintenance is the initial
    ],
)
def test_a_short_option_by_hand(is_call: bool, F: float, K: float, m: float, initial: float, maintenance: float) -> None:
    margin = standard_margin.option(-2.0, m, F, K, is_call)
    assert margin.initial == pytest.approx(2 * initial)
    assert margin.maintenance == pytest.approx(2 * maintenance)


@given(sizes, prices, underlyings)
def test_an_inverse_future_requires_what_a_linear_one_of_as_many_coins_does(
    coins: float, price: float, underlying: str
) -> None:
    schedule = futures_schedule(underlying)
    linear = standard_margin.linear_future(coins, price, *schedule)
    inverse = standard_margin.inverse_future(coins * price, price, *schedule)
    assert inverse.initial * price == pytest.approx(linear.initial)
    assert inverse.maintenance * price == pytest.approx(linear.maintenance)


@given(sizes, prices, underlyings)
def test_futures_require_the_same_long_and_short_and_more_to_open_than_to_keep(
    coins: float, price: float, underlying: str
) -> None:
    schedule = futures_schedule(underlying)
    one = standard_margin.linear_future(coins, price, *schedule)
    other = standard_margin.linear_future(-coins, price, *schedule)
    assert one == other
    assert one.initial >= one.maintenance >= 0


@given(st.floats(0, 100), st.floats(0, 5), prices, prices, st.booleans())
def test_only_short_options_require_margin(coins: float, m: float, F: float, K: float, is_call: bool) -> None:
    long = standard_margin.option(coins, m, F, K, is_call)
    short = standard_margin.option(-coins, m, F, K, is_call)
    assert long.initial == long.maintenance == 0
    assert short.initial >= short.maintenance >= coins * (0.075 + m) * (1 - 1e-12)


def test_arguments_broadcast_and_nan_gives_nan() -> None:
    margin = standard_margin.linear_future([[1.0], [2.0]], [100.0, np.nan], 0.02, 0.01, 0.0)
    assert margin.initial[:, 0].tolist() == [2.0, 4.0]
    assert np.isnan(margin.maintenance[:, 1]).all()


def test_totals_are_the_sums_of_each_position_by_itself_whatever_their_order() -> None:
    rng = np.random.default_rng(3)
    contracts, accounts, positions = 6, 40, 500
    unit, basis_unit, *five = rng.uniform(0.1, 9.0, (7, contracts))
    rates = Rates(unit, basis_unit, np.arange(contracts) % 2 == 1, five[0], five[1], five[2], five[3], five[4])
    account, contract = rng.integers(0, accounts, positions), rng.integers(0, contracts, positions)
    size, average = rng.normal(0.0, 50.0, positions), rng.uniform(1.0, 100.0, positions)
    size[::7] = 0.0  # flat
    expected = np.zeros((3, accounts))
    for by, of, held, bought in zip(account, contract, size, average, strict=True):
        basis = held / bought if rates.is_inverse[of] else held * bought
        initial = rates.initial_long[of] if held > 0 else rates.initial_short[of]
        maintenance = rates.maintenance_long[of] if held > 0 else rates.maintenance_short[of]
        square = rates.square[of] * held**2
        amounts = (
            rates.unit[of] * held - rates.basis_unit[of] * basis,
            initial * abs(held) + square,
            maintenance * abs(held) + square,
        )
        expected[:, by] += amounts
    found = totals(rates, accounts, account, contract, size, average)
    np.testing.assert_allclose(np.array(found) / 1e6, expected, rtol=1e-12, atol=1e-4)
    alone = by_itself(rates, contract, size)
    assert (np.bincount(account, np.rint(alone.initial * 1e6), accounts) == found.initial).all()
    assert (np.bincount(account, np.rint(alone.maintenance * 1e6), accounts) == found.maintenance).all()

    order = rng.permutation(positions)
    again = totals(rates, accounts, account[order], contract[order], size[order], average[order])
    for ours, theirs in zip(found, again, strict=True):
        assert (ours == theirs).all()


@given(st.floats(0.0, 1e6), st.floats(0.0, 10.0), st.floats(-1e12, 1e12))
@example(math.nan, 0.0, 1.0)
@example(math.inf, 0.0, -1.0)
@example(1e300, 1e300, 1e12)
@example(0.0000005, 0.0, 1.0)
@example(0.0000015, 0.0, 1.0)
@example(354394.03515625, 3.0, 387814.03515625)
def test_what_a_position_requires_is_the_same_by_numbers_and_by_arrays(rate: float, square: float, size: float) -> None:
    with np.errstate(all="ignore"):
        expected = float(standard_margin.required(rate, square, size))
    assert standard_margin.position_required(rate, square, size) == pytest.approx(expected, rel=0.0, abs=0.0, nan_ok=True)


def test_an_account_with_a_position_that_has_no_price_has_no_total_and_others_have() -> None:
    one = np.array([np.nan, 1.0])
    rates = Rates(one, one, np.zeros(2, dtype=np.bool_), one, one, one, one, one)
    found = totals(rates, 3, [0, 1, 2], [0, 1, 0], [1.0, 1.0, 0.0], [0.5, 0.5, 0.5])
    assert np.isnan(found.value).tolist() == [True, False, False]
    assert found.value[1:].tolist() == [500_000.0, 0.0]


def test_cash_is_the_sum_of_balances_at_their_prices_and_nothing_needs_no_price() -> None:
    usd, account, currency = [1.0, 60_000.0, np.nan], [0, 0, 1, 2, 2], [0, 1, 2, 2, 0]
    found = cash(usd, 3, account, currency, amount=[5.0, 0.5, 1.0, 0.0, -2.0])
    np.testing.assert_array_equal(found, [30_005e6, np.nan, -2e6])

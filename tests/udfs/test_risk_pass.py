import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from udfs import black76, risk_contributions, risk_measures, risk_pass, risk_values
from udfs.risk_values import CALL, COIN, INVERSE, LINEAR, PUT

SCENARIOS, INSTRUMENTS, ACCOUNTS = 200, 12, 5
LEVELS = (0.95, 0.975, 0.99)


def changes(seed: int = 1, scenarios: int = SCENARIOS) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(INSTRUMENTS, scenarios))


def positions(seed: int, count: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, ACCOUNTS, count), rng.integers(0, INSTRUMENTS, count), rng.normal(size=count)


@settings(max_examples=30)
@given(st.integers(0, 1_000), st.integers(0, 60), st.sampled_from([20, 127, 128, 200, 513]))
def test_the_pass_keeps_what_sorting_all_losses_of_an_account_gives(seed: int, count: int, scenarios: int) -> None:
    held, matrix = risk_pass.book(ACCOUNTS, *positions(seed, count)), changes(seed, scenarios)
    kept = risk_pass.kept_losses(scenarios, LEVELS)
    worst = risk_pass.worst_losses(held, matrix, kept)
    tails = risk_pass.tails(worst, LEVELS)
    for account in range(ACCOUNTS):
        rows = slice(held.first[account], held.first[account + 1])
        losses = -(held.size[rows] @ matrix[held.instrument[rows]])
        assert worst.loss[account] == pytest.approx(np.sort(losses)[::-1][:kept], abs=1e-12)
        assert losses[worst.scenario[account]] == pytest.approx(worst.loss[account], abs=1e-12)
        for column, p in enumerate(LEVELS):
            assert (tails.var[account, column], tails.es[account, column]) == pytest.approx(
                risk_measures.tail(losses, p), abs=1e-12
            )


def test_many_equal_losses_keep_the_earliest_scenarios() -> None:
    matrix = np.zeros((1, 600))
    matrix[0, ::2] = -1.0
    worst = risk_pass.worst_losses(risk_pass.book(1, [0], [0], [1.0]), matrix, 30)
    assert worst.scenario[0].tolist() == list(range(0, 60, 2))


@given(st.integers(0, 1_000), st.randoms())
def test_the_order_of_positions_changes_not_a_bit(seed: int, chance: object) -> None:
    columns = positions(seed, 40)
    order = list(range(40))
    chance.shuffle(order)  # type: ignore[attr-defined]
    mixed = tuple(column[order] for column in columns)
    one, other = (risk_pass.worst_losses(risk_pass.book(ACCOUNTS, *given), changes(), 10) for given in (columns, mixed))
    assert one.loss.tobytes() == other.loss.tobytes() and one.scenario.tobytes() == other.scenario.tobytes()


def test_an_unknown_value_concerns_its_holders_alone() -> None:
    matrix = changes()
    matrix[3, 77] = math.nan
    held = risk_pass.book(4, [0, 1, 1, 2, 3, 3], [2, 2, 3, 4, 3, 3], [1.0, 1.0, 1.0, math.nan, 5.0, -5.0])
    worst = risk_pass.worst_losses(held, matrix, 10)
    tails = risk_pass.tails(worst, [0.99])
    # The last has closed its position in it.
    assert np.isnan(tails.var[:, 0]).tolist() == np.isnan(tails.es[:, 0]).tolist() == [False, True, True, False]
    assert [(tails.scenario[account, 0] == risk_pass.UNKNOWN) for account in range(4)] == [False, True, True, False]
    assert np.isnan(risk_pass.components(held, matrix, worst, 0.99)[0]).tolist() == [False, True, True, True]
    assert np.isnan(risk_pass.stress_losses(held, matrix)).any(axis=1).tolist() == [False, True, True, False]


def test_an_account_without_positions_loses_nothing() -> None:
    tails = risk_pass.tails(risk_pass.worst_losses(risk_pass.book(2, [1], [0], [1.0]), changes(), 10), [0.99])
    assert (tails.var[0, 0], tails.es[0, 0]) == (0.0, 0.0)
    assert risk_pass.worst_losses(risk_pass.book(0, [], [], []), changes(), 10).loss.shape == (0, 10)


@given(st.integers(0, 1_000), st.sampled_from(LEVELS))
def test_components_add_up_to_the_whole(seed: int, p: float) -> None:
    held, matrix = risk_pass.book(ACCOUNTS, *positions(seed, 50)), changes(seed)
    worst = risk_pass.worst_losses(held, matrix, 10)
    tails = risk_pass.tails(worst, [p])
    var, es = risk_pass.components(held, matrix, worst, p)
    for account in range(ACCOUNTS):
        rows = slice(held.first[account], held.first[account + 1])
        assert var[rows].sum() == pytest.approx(tails.var[account, 0], rel=1e-9, abs=1e-12)
        assert es[rows].sum() == pytest.approx(tails.es[account, 0], rel=1e-9, abs=1e-12)


def test_stress_losses_are_those_of_each_scenario() -> None:
    held, matrix = risk_pass.book(ACCOUNTS, *positions(3, 30)), changes(3, 7)
    for account in range(ACCOUNTS):
        rows = slice(held.first[account], held.first[account + 1])
        expected = -(held.size[rows] @ matrix[held.instrument[rows]])
        assert risk_pass.stress_losses(held, matrix)[account] == pytest.approx(expected)


def test_what_does_not_fit_is_refused() -> None:
    held = risk_pass.book(1, [0], [20], [1.0])
    with pytest.raises(ValueError, match="a row for each of 21 instruments, got 12"):
        risk_pass.worst_losses(held, changes(), 5)
    with pytest.raises(ValueError, match="from 1 to 200 losses"):
        risk_pass.worst_losses(risk_pass.book(1, [0], [0], [1.0]), changes(), 201)
    with pytest.raises(ValueError, match="expected 10 losses of each account"):
        risk_pass.tails(risk_pass.worst_losses(risk_pass.book(1, [0], [0], [1.0]), changes(), 5), [0.95])
    with pytest.raises(ValueError, match="accounts from 0 to 0"):
        risk_pass.book(1, [1], [0], [1.0])
    with pytest.raises(ValueError, match="at least one level"):
        risk_pass.kept_losses(100, [])


def test_changes_are_differences_of_full_values() -> None:
    rng = np.random.default_rng(6)
    shocks = risk_values.moves(rng.normal(0, 0.2, (2, 60)), rng.normal(0, 0.3, (2, 60)))
    price = np.array([60_000.0, 3_000.0])
    kind, underlying = np.array([COIN, LINEAR, INVERSE, CALL, PUT, CALL, PUT, CALL]), np.array([0, 1, 0, 0, 1, 1, 0, 0])
    size = np.array([1.0, 0.1, 10.0, 1.0, 1.0, 0.5, 2.0, 1.0])
    strike, expiry_s, vol = price[underlying] * 1.1, np.array([1, 1, 1, 86_400, 3e6, 600, 1e7, -5.0]), np.full(8, 0.7)
    listed = risk_values.contracts(
        kind, underlying, price[underlying], multiplier=size, strike=strike, expiry_s=expiry_s, vol=vol
    )
    found = risk_values.changes(listed, shocks, passed_s=300.0)
    F, m, w = price[underlying][:, None], shocks.spot[underlying], shocks.vol[underlying]
    T, later = (np.maximum(expiry_s - passed, 0)[:, None] / risk_values.SECONDS_PER_YEAR for passed in (0, 300.0))
    K, is_call = strike[:, None], (kind == CALL)[:, None]
    option = black76.price(F * (1 + m), K, later, 0.7 * (1 + w), is_call) - black76.price(F, K, T, 0.7, is_call)
    linear = np.where(kind == INVERSE, 1.0, price[underlying])[:, None] * m
    expected = size[:, None] * np.where((kind >= CALL)[:, None], option, linear)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    # The coins that an inverse contract wins are worth its profit at the new price.
    moved = 60_000.0 * (1 + shocks.spot[0])
    assert found[2] == pytest.approx(10.0 * (1 / 60_000.0 - 1 / moved) * moved)


def test_slices_make_the_same_matrix() -> None:
    shocks = risk_values.moves(*np.random.default_rng(8).normal(0, 0.1, (2, 1, 30)))
    listed = risk_values.contracts([CALL] * 10, 0, 100.0, strike=np.linspace(80, 120, 10), expiry_s=1e6, vol=0.5)
    sliced = np.full((10, 30), np.nan)
    for first in range(0, 10, 3):
        risk_values.fill(sliced, listed, shocks, first, min(first + 3, 10))
    assert (sliced == risk_values.changes(listed, shocks)).all()
    with pytest.raises(ValueError, match="moves of 2 underlyings, got 1"):
        risk_values.changes(risk_values.contracts([COIN], 1, 1.0), shocks)
    with pytest.raises(ValueError, match="kinds from 0 to 4"):
        risk_values.contracts([5], 0, 1.0)


@pytest.mark.parametrize("field", ["price", "multiplier", "strike", "expiry_s", "vol", "spot", "vol move"])
def test_what_is_not_known_of_an_option_makes_its_row_unknown(field: str) -> None:
    given = {"price": 100.0, "multiplier": 1.0, "strike": 100.0, "expiry_s": 1e6, "vol": 0.5, "spot": 0.1, "vol move": 0.1}
    given[field] = math.nan
    shocks = risk_values.moves([[given.pop("spot")]], [[given.pop("vol move")]])
    assert np.isnan(risk_values.changes(risk_values.contracts([CALL], 0, given.pop("price"), **given), shocks)).all()


@given(st.integers(0, 500), st.sampled_from(LEVELS))
def test_contributions_of_scenarios_and_of_the_normal_add_up_and_are_derivatives(seed: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    sizes, unit = rng.normal(size=4), rng.normal(size=(4, 100))
    root = rng.normal(size=(4, 4))
    covariance = root @ root.T
    whole = [*risk_contributions.scenarios(sizes, unit, p), risk_contributions.normal(sizes, covariance, p)]
    for made in whole:
        assert made.component.sum() == pytest.approx(made.total, rel=1e-9, abs=1e-9)
    bumped = sizes + np.array([1e-7, 0, 0, 0])
    again = [*risk_contributions.scenarios(bumped, unit, p), risk_contributions.normal(bumped, covariance, p)]
    for before, after in zip(whole, again, strict=True):
        assert (after.total - before.total) / 1e-7 == pytest.approx(before.marginal[0], rel=1e-4, abs=1e-5)
    without = risk_contributions.normal(sizes[1:], covariance[1:, 1:], p).total
    assert whole[2].incremental[0] == pytest.approx(whole[2].total - without, abs=1e-9)
    assert risk_contributions.scenarios(sizes[1:], unit[1:], p)[1].total == pytest.approx(
        whole[1].total - whole[1].incremental[0]
    )


def test_a_hedge_lowers_risk_by_its_increment() -> None:
    losses = np.random.default_rng(9).normal(size=500)
    added = risk_contributions.incremental(losses, -0.5 * losses, 0.99)
    assert added.var < 0 and added.es == pytest.approx(-0.5 * risk_measures.tail(losses, 0.99).es)


def test_a_covariance_without_risk_or_with_a_contradiction() -> None:
    assert risk_contributions.normal([1.0, -1.0], np.ones((2, 2)), 0.99).component.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="repair it first"):
        risk_contributions.normal([1.0, -1.0], [[1.0, 2.0], [2.0, 1.0]], 0.99)


@given(st.integers(0, 500))
def test_a_models_profit_is_explained_and_a_wrong_price_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    K, is_call = rng.uniform(70, 130, 20), rng.random(20) < 0.5
    move, vol_move, days = rng.uniform(-15, 15), rng.uniform(-0.2, 0.2), 1.0
    u = np.linspace(0, 1, 33)[:, None]
    greeks = black76.greeks(100 + u * move, K, 0.1 - u * days / 365, 0.6 + u * vol_move, is_call)
    path = risk_contributions.PathGreeks(greeks.delta, greeks.gamma, 100 * greeks.vega, greeks.theta)
    profit = black76.price(100 + move, K, 0.1 - days / 365, 0.6 + vol_move, is_call) - black76.price(100, K, 0.1, 0.6, is_call)
    found = risk_contributions.attribution(profit, path, move, vol_move, days)
    assert found.is_explained.all()
    assert found.delta + found.gamma + found.vega + found.theta + found.residual == pytest.approx(profit)
    assert not risk_contributions.attribution(profit + 100.0, path, move, vol_move, days).is_explained.any()
    still = risk_contributions.PathGreeks(*(part[[0, 0]] for part in path))
    nothing = risk_contributions.attribution(np.zeros(20), still, 0.0, 0.0, 0.0)
    assert (nothing.residual == 0).all() and (nothing.bound == 0).all() and nothing.is_explained.all()

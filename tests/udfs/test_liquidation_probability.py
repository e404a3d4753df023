import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from udfs import liquidation_probability
from udfs.liquidation_probability import HORIZONS_S, SECONDS_PER_YEAR, Exposures, first_passage, monte_carlo

TRUTH = Path(__file__).resolve().parents[2].parent / "shared" / "truth"
WEEK = HORIZONS_S["7d"] / SECONDS_PER_YEAR

spots = st.floats(10.0, 1000.0)
moneyness = st.floats(0.3, 3.0)
vols = st.floats(0.05, 3.0)
horizons = st.floats(1e-4, 2.0)


def test_the_published_probabilities() -> None:
    path = TRUTH / "published_vectors.json"
    if not path.exists():
        pytest.skip(f"the reference values {path} are not here")
    for case in json.loads(path.read_text())["first_passage"]:
        P = first_passage(case["S"], case["barrier"], case["T"], case["vol"], case["mu"], case["q"])
        assert float(P) == pytest.approx(case["P_hit"], rel=1e-12)


@given(spots, moneyness, horizons, vols, st.floats(-1.0, 1.0))
def test_it_is_a_probability_that_grows_with_the_horizon(S: float, m: float, T: float, v: float, mu: float) -> None:
    P = first_passage(S, S * m, [0.0, 0.5 * T, T], v, mu)
    assert ((P >= 0.0) & (P <= 1.0)).all()
    assert P[0] == (m == 1.0)
    assert P[1] <= P[2] + 1e-12


@given(spots, st.floats(0.3, 0.99), horizons, vols)
def test_a_nearer_barrier_is_likelier(S: float, m: float, T: float, v: float) -> None:
    assert first_passage(S, S * m, T, v) <= first_passage(S, S * 0.5 * (1 + m), T, v) + 1e-12


@given(spots, moneyness, horizons, vols, st.floats(-1.0, 1.0))
def test_the_price_of_one_in_the_other_touches_as_likely(S: float, m: float, T: float, v: float, mu: float) -> None:
    # 1/S is a geometric Brownian motion too, whose drift is v² - μ.
    assert first_passage(S, S * m, T, v, mu) == pytest.approx(first_passage(1 / S, 1 / (S * m), T, v, v * v - mu), abs=1e-9)


@given(spots, moneyness, horizons, vols)
def test_to_end_beyond_the_barrier_is_no_likelier_than_to_touch_it(S: float, m: float, T: float, v: float) -> None:
    side = 1.0 if m < 1.0 else -1.0
    beyond = ndtr(side * (np.log(m) + 0.5 * v * v * T) / (v * np.sqrt(T)))
    assert first_passage(S, S * m, T, v) >= beyond - 1e-12


def test_the_limits() -> None:
    assert first_passage(100.0, 100.0, 0.0, 0.5) == 1.0
    assert first_passage(100.0, 99.0, 0.0, 0.5) == 0.0
    assert first_passage(100.0, 99.0, 1.0, 0.0, mu=[-0.1, 0.1]).tolist() == [1.0, 0.0]
    assert first_passage(100.0, 101.0, 1.0, 0.0, mu=[-0.1, 0.1]).tolist() == [0.0, 1.0]
    assert first_passage(100.0, 1.0, 1e4, 1.0) == pytest.approx(1.0)
    assert first_passage(100.0, 1e-12, 1e-6, 0.01) == 0.0
    for bad in ((0.0, 90.0, 1.0, 0.5), (100.0, -1.0, 1.0, 0.5), (100.0, 90.0, -1.0, 0.5), (100.0, 90.0, 1.0, np.nan)):
        assert np.isnan(first_passage(*bad))


def linear(size: float, barrier: float, S: float) -> Exposures:
    return Exposures(np.array([size * (S - barrier)]), np.array([[size]]), np.zeros((1, 1)))


@pytest.mark.parametrize(("size", "barrier"), [(1.0, 97.0), (2.0, 90.0), (1.0, 80.0), (-1.0, 104.0), (-3.0, 115.0)])
def test_the_two_agree_on_one_underlying(size: float, barrier: float) -> None:
    estimate = monte_carlo(linear(size, barrier, 100.0), [100.0], [0.8], [[1.0]], WEEK, seed=7, paths=16_384)
    P = first_passage(100.0, barrier, WEEK, 0.8)
    assert abs(estimate.probability - P) <= 4 * estimate.standard_error + 1e-3
    assert 0.0 < estimate.standard_error < 0.005


def test_the_bridge_mends_what_looking_at_ends_of_steps_misses() -> None:
    account, market = linear(1.0, 95.0, 100.0), ([100.0], [0.8], [[1.0]], WEEK, 7)
    P = first_passage(100.0, 95.0, WEEK, 0.8)
    plain = {steps: monte_carlo(account, *market, steps=steps, bridge=False).probability - P for steps in (4, 16)}
    assert plain[4] < plain[16] < -0.05
    # The size of what is missed: as if the barrier stood further away (Broadie, Glasserman and Kou 1997).
    shifted = first_passage(100.0, 95.0 * np.exp(-0.5826 * 0.8 * np.sqrt(WEEK / 16)), WEEK, 0.8)
    assert plain[16] == pytest.approx(float(shifted - P), abs=0.02)
    for steps in (4, 16):
        mended = monte_carlo(account, *market, steps=steps)
        assert abs(mended.probability - P) <= 4 * mended.standard_error + 2e-3


def test_what_the_bridge_leaves_is_of_the_order_of_a_step() -> None:
    P = first_passage(100.0, 80.0, 1.0, 0.8)
    left = [
        monte_carlo(linear(1.0, 80.0, 100.0), [100.0], [0.8], [[1.0]], 1.0, 3, steps=steps, paths=16_384).probability[0] - P
        for steps in (8, 32)
    ]
    assert abs(left[1]) < 0.6 * abs(left[0]) < 0.03


def test_the_standard_error_is_what_seeds_scatter_by() -> None:
    runs = [monte_carlo(linear(1.0, 92.0, 100.0), [100.0], [0.8], [[1.0]], WEEK, seed, paths=512) for seed in range(60)]
    scatter = np.std([run.probability for run in runs], ddof=1)
    assert scatter == pytest.approx(np.mean([run.standard_error for run in runs]), rel=0.35)


def test_two_underlyings_that_move_as_one_are_one() -> None:
    both = Exposures(np.array([10.0]), np.array([[0.5, 0.5]]), np.zeros((1, 2)))
    together = monte_carlo(both, [100.0, 100.0], [0.8, 0.8], np.ones((2, 2)), WEEK, 5, paths=16_384)
    assert abs(together.probability - first_passage(100.0, 90.0, WEEK, 0.8)) <= 4 * together.standard_error + 1e-3


def test_a_spread_of_two_that_move_as_one_is_safe_and_diversification_helps() -> None:
    spread = Exposures(np.array([1.0, 10.0]), np.array([[1.0, -1.0], [0.5, 0.5]]), np.zeros((2, 2)))
    market = [100.0, 100.0], [0.8, 0.8]
    as_one = monte_carlo(spread, *market, np.ones((2, 2)), WEEK, 5).probability
    apart = monte_carlo(spread, *market, np.eye(2), WEEK, 5).probability
    assert as_one[0] == pytest.approx(0.0, abs=1e-12)
    assert apart[0] > 0.5
    assert apart[1] < as_one[1]


def test_gamma_makes_a_short_straddle_liquidatable_on_both_sides() -> None:
    # X = 50 - dS²/2 is 0 where the price has moved by 10 either way.
    straddle = Exposures(np.array([50.0]), np.zeros((1, 1)), np.array([[-1.0]]))
    estimate = monte_carlo(straddle, [100.0], [0.8], [[1.0]], WEEK, 11, paths=16_384, steps=64)
    either = first_passage(100.0, [90.0, 110.0], WEEK, 0.8)
    margin = 4 * estimate.standard_error + 5e-3
    assert either.max() - margin < estimate.probability < either.sum() + margin


def test_the_same_seed_gives_the_same_answer_whoever_else_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    many = Exposures(rng.uniform(1.0, 20.0, 7), rng.normal(size=(7, 2)), 0.01 * rng.normal(size=(7, 2)))
    market = [100.0, 50.0], [0.8, 1.0], [[1.0, 0.6], [0.6, 1.0]], WEEK
    whole = monte_carlo(many, *market, seed=1, paths=1000)
    assert np.array_equal(whole.probability, monte_carlo(many, *market, seed=1, paths=1000).probability)
    assert not np.array_equal(whole.probability, monte_carlo(many, *market, seed=2, paths=1000).probability)
    monkeypatch.setattr(liquidation_probability, "ACCOUNTS_PER_BLOCK", 3)
    assert monte_carlo(many, *market, seed=1, paths=1000).probability == pytest.approx(whole.probability, rel=1e-12)
    alone = monte_carlo(Exposures(*(part[4:5] for part in many)), *market, seed=1, paths=1000)
    assert alone.probability == pytest.approx(whole.probability[4:5], rel=1e-12)


def test_an_account_already_there_is_certain_and_one_without_exposure_is_safe() -> None:
    accounts = Exposures(np.array([0.0, -5.0, 5.0]), np.array([[1.0], [1.0], [0.0]]), np.zeros((3, 1)))
    estimate = monte_carlo(accounts, [100.0], [0.8], [[1.0]], WEEK, 1, paths=64)
    assert estimate.probability.tolist() == [1.0, 1.0, 0.0]
    assert estimate.standard_error.tolist() == [0.0, 0.0, 0.0]


def test_a_liquidation_price_is_the_barrier_of_an_account_of_one_position() -> None:
    size, tnc, rate = 3.0, 30.0, 0.01
    # The price S at which TNC + size (S - mark) = rate · size · S.
    barrier = (size * 100.0 - tnc) / (size - rate * size)
    # The excess falls by size (1 - rate) for each dollar.
    excess = np.array([tnc - rate * size * 100.0])
    account = Exposures(excess, np.array([[size * (1.0 - rate)]]), np.zeros((1, 1)))
    estimate = monte_carlo(account, [100.0], [0.8], [[1.0]], WEEK, 9, paths=16_384)
    assert abs(estimate.probability - first_passage(100.0, barrier, WEEK, 0.8)) <= 4 * estimate.standard_error + 1e-3


def test_what_does_not_fit_is_refused() -> None:
    account = linear(1.0, 90.0, 100.0)
    with pytest.raises(ValueError, match="shapes do not fit"):
        monte_carlo(account, [100.0, 1.0], [0.8, 1.0], np.eye(2), WEEK, 1)
    with pytest.raises(ValueError, match="expected correlations"):
        monte_carlo(account, [100.0], [0.8], [[2.0]], WEEK, 1)
    with pytest.raises(ValueError, match="expected S > 0"):
        monte_carlo(account, [-100.0], [0.8], [[1.0]], WEEK, 1)
    with pytest.raises(ValueError, match="at least 2 paths"):
        monte_carlo(account, [100.0], [0.8], [[1.0]], WEEK, 1, paths=1)

"""The moves of simulated prices have the moments of the model that they claim."""

import numpy as np
import pytest

from feeds.simulator.prices import SECONDS_PER_YEAR, Dynamics, Prices
from udfs.black76 import FloatArray

VOL = np.array([0.6, 0.9])


def paths(dynamics: Dynamics, seconds: int, seed: int = 7) -> tuple[FloatArray, FloatArray]:
    """Log returns of each second, and the volatility after it: shape (seconds, underlyings)."""
    prices = Prices(np.random.default_rng(seed), np.array([100.0, 10.0]), VOL, dynamics)
    logs, vols = [np.log(prices.now_usd)], []
    for _ in range(seconds):
        logs.append(np.log(prices.second()[:, -1]))
        vols.append(prices.vol)
    return np.diff(np.array(logs), axis=0), np.array(vols)


def test_without_more_it_is_brownian_motion_of_a_correlation_of_eight_tenths() -> None:
    returns, vols = paths(Dynamics(), 15_000)
    assert returns.std(axis=0) * np.sqrt(SECONDS_PER_YEAR) == pytest.approx(VOL, rel=0.02)
    assert np.corrcoef(returns.T)[0, 1] == pytest.approx(0.8, abs=0.01)
    assert (vols == VOL).all()


def test_the_variance_reverts_to_where_it_began_with_the_spread_of_its_stationary_law() -> None:
    # Fast, so that some thousand seconds are many times the memory of the variance.
    reversion, vol_of_vol = SECONDS_PER_YEAR / 20, 0.3 * np.sqrt(SECONDS_PER_YEAR / 20)
    _, vols = paths(Dynamics(reversion=reversion, vol_of_vol=vol_of_vol), 15_000)
    variance = vols**2
    assert variance.mean(axis=0) == pytest.approx(VOL**2, rel=0.05)
    # Of the square-root process: xi^2 theta / (2 kappa), Cox, Ingersoll and Ross 1985.
    assert variance.var(axis=0) == pytest.approx(vol_of_vol**2 * VOL**2 / (2 * reversion), rel=0.15)


def test_prices_fall_when_the_variance_rises_under_negative_leverage() -> None:
    returns, vols = paths(Dynamics(reversion=1e5, vol_of_vol=300.0, leverage=-0.9), 15_000)
    changes = np.diff(vols**2, axis=0)
    for underlying in range(len(VOL)):
        assert np.corrcoef(returns[1:, underlying], changes[:, underlying])[0, 1] < -0.6


def test_jumps_come_at_their_rate_and_the_drift_takes_their_mean_off() -> None:
    dynamics = Dynamics(jumps=SECONDS_PER_YEAR / 10, jump_mean=-0.02, jump_deviation=0.002)
    returns, _ = paths(dynamics, 15_000)
    # A second of diffusion moves less than a thousandth.
    assert (np.abs(returns[:, 0]) > 0.005).mean() == pytest.approx(1 - np.exp(-0.1), abs=0.0075)
    # The price is a martingale: 4 standard errors.
    growth = np.exp(returns)
    assert (np.abs(growth.mean(axis=0) - 1) < 4 * growth.std(axis=0) / np.sqrt(len(growth))).all()


def test_the_same_seed_gives_the_same_prices() -> None:
    wild = Dynamics(reversion=10.0, vol_of_vol=2.0, leverage=-0.5, jumps=1e6, jump_mean=-0.01, jump_deviation=0.02)
    assert (paths(wild, 50)[0] == paths(wild, 50)[0]).all()

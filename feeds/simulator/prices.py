"""How prices move: correlated, with a volatility that moves itself and with jumps, where the scenario says so.

Bates 1996 (https://doi.org/10.1093/rfs/9.1.69): the variance of Heston, by the full truncation scheme of Lord, Koekkoek and van
Dijk 2010 in steps of a second, and lognormal jumps, whose mean the drift takes off again.
"""

from typing import NamedTuple

import numpy as np

from udfs.black76 import MS_PER_YEAR, FloatArray

SECONDS_PER_YEAR = MS_PER_YEAR / 1000
CORRELATION = 0.8  # of the underlyings' returns, and of their jumps


class Dynamics(NamedTuple):
    """How volatility and price jump; rates are per year.  The default is geometric Brownian motion."""

    reversion: float = 0.0  # of the variance to where it began
    vol_of_vol: float = 0.0
    leverage: float = 0.0  # correlation of return and variance
    jumps: float = 0.0  # a year
    jump_mean: float = 0.0  # of the logarithm
    jump_deviation: float = 0.0


BROWNIAN = Dynamics()


class Prices:
    """The prices of some underlyings, second by second."""

    def __init__(self, rng: np.random.Generator, prices_usd: FloatArray, vol: FloatArray, dynamics: Dynamics) -> None:
        self._rng = rng
        self._dynamics = dynamics
        self._log_prices: FloatArray = np.log(prices_usd)
        self._first_variance: FloatArray = vol**2
        self._variance: FloatArray = vol**2
        self.vol = vol  # fraction, a year

    @property
    def now_usd(self) -> FloatArray:
        """The newest prices."""
        prices_usd: FloatArray = np.exp(self._log_prices)
        return prices_usd

    def second(self) -> FloatArray:
        """The prices of the next 1000 ms: shape (underlyings, 1000)."""
        noise = self._correlated((len(self.vol), 1000))
        deviation = self.vol[:, None] / np.sqrt(MS_PER_YEAR)
        moves = deviation * noise - 0.5 * deviation**2
        if self._dynamics.jumps:
            moves = moves + self._jumps()
        path = self._log_prices[:, None] + np.cumsum(moves, axis=1)
        self._log_prices = path[:, -1]
        if self._dynamics.vol_of_vol:
            self._move_variance(noise.sum(axis=1) / np.sqrt(1000))
        path_usd: FloatArray = np.exp(path)
        return path_usd

    def _correlated(self, shape: tuple[int, ...]) -> FloatArray:
        noise: FloatArray = self._rng.standard_normal(shape)
        noise[1:] = CORRELATION * noise[0] + np.sqrt(1 - CORRELATION**2) * noise[1:]
        return noise

    def _jumps(self) -> FloatArray:
        """Jumps at some milliseconds, of all underlyings at once, and the drift against them."""
        d = self._dynamics
        moves = np.zeros((len(self.vol), 1000))
        for _ in range(self._rng.poisson(d.jumps / SECONDS_PER_YEAR)):
            moves[:, self._rng.integers(1000)] += d.jump_mean + d.jump_deviation * self._correlated((len(self.vol),))
        drift = d.jumps / MS_PER_YEAR * (np.exp(d.jump_mean + 0.5 * d.jump_deviation**2) - 1)
        moves -= drift
        return moves

    def _move_variance(self, returns: FloatArray) -> None:
        """One second of the variance; `returns` are the standard normal moves of the prices in it."""
        d = self._dynamics
        own = self._rng.standard_normal(len(self.vol))
        noise = d.leverage * returns + np.sqrt(1 - d.leverage**2) * own
        variance = np.maximum(self._variance, 0.0)
        drawn = d.vol_of_vol * np.sqrt(variance / SECONDS_PER_YEAR) * noise
        self._variance = self._variance + d.reversion * (self._first_variance - variance) / SECONDS_PER_YEAR + drawn
        self.vol = np.sqrt(np.maximum(self._variance, 0.0))

"""Probability that an account becomes liquidatable before a horizon.

First passage of one underlying, a geometric Brownian motion with drift μ, yield q and vol v, to a barrier B from S, with
ν = μ - q - v²/2 and b = ln(B/S):

    P = N((±b - ±νT)/(v√T)) + e^(2νb/v²) N((±b + ±νT)/(v√T)),   + for a barrier below, - above

Reiner and Rubinstein (1991); Haug (2007), chapter 4.

Several underlyings: Monte Carlo.  An account's excess over its maintenance requirement is X = X0 + Σ δ dS + ½ Σ γ dS², and
it is liquidated when X ≤ 0.  A path is looked at only at the ends of `steps` intervals; what happens between would be missed,
as if the barrier stood e^(0.5826 v √dt) further away (Broadie, Glasserman and Kou 1997), which makes the plain estimate too
low by an error of order √dt.  The Brownian bridge mends this: between X1 > 0 and X2 > 0, a dt apart, the probability to have
been at 0 is

    exp(-2 X1 X2/(σ² dt)),   σ² = g'Rg,   g = (δ + γ dS) S v

with R the correlations; σ² is averaged over both ends.  What is left is of order v² dt, for X is no Brownian motion but over
one step nearly is: a few 0.001 at most for the default steps over seven days at 80 % of vol (v² dt = 0.0008), 0.03 at 0.08.
A path counts as 1 - Π(1 - p) over its steps, not as 0 or 1, which also lowers the variance.

The draws come from a counter (Philox): those of a block of paths depend on the seed and its number only, whatever accounts
are asked about together, and all accounts see the same paths.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

FloatArray = NDArray[np.float64]

HORIZONS_S = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400}
SECONDS_PER_YEAR = 365 * 86_400
PATHS_PER_BLOCK = 512
ACCOUNTS_PER_BLOCK = 1_000


class Estimate(NamedTuple):
    """A Monte Carlo estimate."""

    probability: FloatArray
    standard_error: FloatArray


class Exposures(NamedTuple):
    """Accounts' excess over their maintenance requirement, to second order in the prices."""

    excess: FloatArray  # X0 of each account, in USD
    delta: FloatArray  # accounts × underlyings: USD for each USD of price
    gamma: FloatArray  # accounts × underlyings: delta for each USD of price


def first_passage(
    S: ArrayLike, barrier: ArrayLike, T: ArrayLike, v: ArrayLike, mu: ArrayLike = 0.0, q: ArrayLike = 0.0
) -> FloatArray:
    """Probability that a price now at S touches the barrier within T years of 365 days; all arguments broadcast.

    1 where it is there already, 0 where T is 0.  Without vol the price follows its drift.  NaN where S or the barrier is
    not positive, or T or v is negative.
    """
    S, B, T, v, mu, q = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (S, barrier, T, v, mu, q)))
    with np.errstate(all="ignore"):
        is_valid = (S > 0.0) & (B > 0.0) & (T >= 0.0) & (v >= 0.0) & np.isfinite(mu - q)
        b, nu = np.log(B / S), mu - q - 0.5 * v * v
        side = np.where(b < 0.0, 1.0, -1.0)
        deviation = v * np.sqrt(T)
        # The exponential may overflow where the normal probability beside it vanishes: they are multiplied as logarithms.
        reflected = np.exp(2.0 * nu * b / (v * v) + log_ndtr(side * (b + nu * T) / deviation))
        P = np.exp(log_ndtr(side * (b - nu * T) / deviation)) + reflected
        drifts_there = np.where(side * (nu * T - b) <= 0.0, 1.0, 0.0)
        P = np.where(deviation > 0.0, np.clip(P, 0.0, 1.0), drifts_there)
        P = np.where(b == 0.0, 1.0, P)
    return np.asarray(np.where(is_valid, P, np.nan), dtype=np.float64)


def monte_carlo(
    exposures: Exposures,
    S: ArrayLike,
    v: ArrayLike,
    correlation: ArrayLike,
    T: float,
    seed: int,
    *,
    mu: ArrayLike = 0.0,
    paths: int = 4_096,
    steps: int = 16,
    bridge: bool = True,
) -> Estimate:
    """Probability that each account becomes liquidatable within T years, and the standard error of the estimate.

    `S` and `v` are price and vol of each underlying, `mu` its drift, one or one each, `correlation` a matrix, positive
    semi-definite.  The same arguments give the same answer to the last digit.  `bridge=False` looks at the ends of steps only.
    Raises `ValueError` where shapes do not fit, S is not positive, v or T is negative, or the matrix is no correlation.
    """
    S, v, R = (np.asarray(x, dtype=np.float64) for x in (S, v, correlation))
    root, drift = _checked(exposures, S, v, R, np.broadcast_to(np.asarray(mu, dtype=np.float64), S.shape), T)
    if paths < 2 or steps < 1:
        raise ValueError(f"expected at least 2 paths and 1 step, got {paths} and {steps}")
    accounts = len(exposures.excess)
    total, squares = np.zeros(accounts), np.zeros(accounts)
    dt = T / steps
    for block, first in enumerate(range(0, paths, PATHS_PER_BLOCK)):
        count = min(PATHS_PER_BLOCK, paths - first)
        draws = Generator(Philox(key=seed, counter=block << 64)).standard_normal((PATHS_PER_BLOCK, steps, len(S)))[:count]
        log_moves = np.cumsum(drift * dt + draws @ root.T * (v * np.sqrt(dt)), axis=1)
        moves = S * np.expm1(log_moves)
        for low in range(0, accounts, ACCOUNTS_PER_BLOCK):
            some = slice(low, low + ACCOUNTS_PER_BLOCK)
            hit = _hit(Exposures(*(part[some] for part in exposures)), S, v, root, moves, dt, bridge)
            total[some] += hit.sum(axis=0)
            squares[some] += (hit * hit).sum(axis=0)
    mean = total / paths
    variance = np.maximum(squares / paths - mean * mean, 0.0)
    return Estimate(mean, np.sqrt(variance / (paths - 1)))


def _hit(
    exposures: Exposures, S: FloatArray, v: FloatArray, root: FloatArray, moves: FloatArray, dt: float, bridge: bool
) -> FloatArray:
    """Probability that each path has liquidated each account, given its ends of steps; paths × accounts."""
    slopes = np.concatenate([exposures.delta.T, exposures.gamma.T])

    def at(move: FloatArray) -> tuple[FloatArray, FloatArray]:
        """X and its variance a year, paths × accounts, where prices have moved by so much."""
        X = exposures.excess + np.concatenate([move, 0.5 * move * move], axis=1) @ slopes
        variance = np.zeros_like(X)
        # g'Rg is the sum of the squares of root' g, one for each independent draw.
        for draw in root.T if bridge else ():
            weight = (S + move) * v * draw
            variance += (np.concatenate([weight, weight * move], axis=1) @ slopes) ** 2
        return X, variance

    before, variance_before = at(np.zeros((len(moves), len(S))))
    survives = np.where(before > 0.0, 1.0, 0.0)
    for step in range(moves.shape[1]):
        now, variance_now = at(moves[:, step])
        is_above = (before > 0.0) & (now > 0.0)
        if bridge:
            with np.errstate(divide="ignore", invalid="ignore"):
                exponent = -4.0 * before * now / ((variance_before + variance_now) * dt)
            survives *= np.where(is_above, -np.expm1(np.where(is_above, exponent, 0.0)), 0.0)
        else:
            survives *= is_above
        before, variance_before = now, variance_now
    return 1.0 - survives


def _checked(
    exposures: Exposures, S: FloatArray, v: FloatArray, R: FloatArray, mu: FloatArray, T: float
) -> tuple[FloatArray, FloatArray]:
    """A square root of the correlations, and the drift of each logarithm; raises `ValueError`."""
    number, accounts = len(S), len(exposures.excess)
    if v.shape != (number,) or R.shape != (number, number) or exposures.delta.shape != (accounts, number):
        raise ValueError(f"shapes do not fit: S {S.shape}, v {v.shape}, correlation {R.shape}, delta {exposures.delta.shape}")
    if exposures.gamma.shape != exposures.delta.shape:
        raise ValueError(f"shapes do not fit: gamma {exposures.gamma.shape}, delta {exposures.delta.shape}")
    if not ((S > 0.0).all() and (v >= 0.0).all() and T >= 0.0):
        raise ValueError("expected S > 0, v >= 0 and T >= 0")
    weights, vectors = np.linalg.eigh(R)
    is_correlation = np.allclose(R, R.T) and np.allclose(np.diag(R), 1.0) and weights.min(initial=0.0) > -1e-9
    if not is_correlation:
        raise ValueError("expected correlations: symmetric, 1 on the diagonal, no negative eigenvalue")
    return vectors * np.sqrt(np.maximum(weights, 0.0)), mu - 0.5 * v * v

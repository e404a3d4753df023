"""Which position is the risk, and what made the money: contributions that add up, and a day's P&L taken apart.

VaR and ES double when all positions do, so by Euler's theorem each is the sum of size × derivative (Tasche 1999, "Risk
contributions and performance measurement"):

    marginal      what one unit more adds, the derivative
    component     marginal × size: the parts of the whole
    incremental   the whole less what it would be without the position

Of scenarios the derivative of VaR is the loss of one unit in the scenario of VaR, that of ES its mean loss in the tail.

A P&L over a step is delta dS + ½ gamma dS² + vega dv + theta dt and a residual.  With the Greeks along the straight path
from the start to the end, the residual of the model's own P&L cannot exceed

    |dS| max |Δ(u) - Δ - Γ u dS| + |dv| max |vega(u) - vega| + |dt| max |theta(u) - theta|,   0 <= u <= 1

A residual beyond the bound did not come from these moves: a trade, a fee, a rate, or a wrong price.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from udfs.risk_measures import Tail, level, tail, tail_shares

FloatArray = NDArray[np.float64]


class Contributions(NamedTuple):
    """Of each position, in the unit of the losses."""

    total: float
    individual: FloatArray  # alone
    marginal: FloatArray  # for one unit of size
    component: FloatArray  # their sum is the total
    incremental: FloatArray


class Attribution(NamedTuple):
    """A P&L, taken apart; the parts and the residual sum to it."""

    delta: FloatArray
    gamma: FloatArray
    vega: FloatArray
    theta: FloatArray
    residual: FloatArray
    bound: FloatArray  # of the residual
    is_explained: NDArray[np.bool_]  # whether the residual is within the bound


class PathGreeks(NamedTuple):
    """Greeks at points of the straight path, evenly from start to end: points × positions.  USD for 1.00 of each move."""

    delta: FloatArray
    gamma: FloatArray
    vega: FloatArray
    theta: FloatArray


def normal(sizes: ArrayLike, covariance: ArrayLike, p: float | None = None, z: float | None = None) -> Contributions:
    """VaR of a normal P&L with mean 0, of positions of these sizes whose units have that covariance; at a level or a given z.

    Without any risk every contribution is 0.  Raises `ValueError` where shapes do not fit or a variance is negative.
    """
    w, cov = np.asarray(sizes, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if cov.shape != (len(w), len(w)) or not (np.isfinite(w).all() and np.isfinite(cov).all()):
        raise ValueError(f"expected a covariance of {len(w)} finite positions, got the shape {cov.shape}")
    if z is None:
        if p is None:
            raise ValueError("expected a level or z")
        z = float(ndtri(level(p)))
    variance = float(w @ cov @ w)
    if variance < -1e-12 * float(np.abs(w) @ np.abs(cov) @ np.abs(w)):
        raise ValueError("expected a positive semi-definite covariance: repair it first")
    deviation = float(np.sqrt(max(variance, 0.0)))
    marginal = z * (cov @ w) / deviation if deviation > 0.0 else np.zeros(len(w))
    # Without position i: w'Σw - 2 w_i (Σw)_i + w_i² Σ_ii.
    without = np.sqrt(np.maximum(variance - 2.0 * w * (cov @ w) + w * w * np.diagonal(cov), 0.0))
    individual = z * np.abs(w) * np.sqrt(np.diagonal(cov))
    return Contributions(z * deviation, individual, marginal, marginal * w, z * (deviation - without))


def scenarios(sizes: ArrayLike, changes: ArrayLike, p: float) -> tuple[Contributions, Contributions]:
    """VaR and ES of positions by the scenarios' changes of one unit each, positions × scenarios.

    Raises `ValueError` where shapes do not fit or a change is not finite.
    """
    w, unit = np.asarray(sizes, dtype=np.float64), np.asarray(changes, dtype=np.float64)
    if unit.ndim != 2 or len(unit) != len(w):
        raise ValueError(f"expected changes of {len(w)} positions, got the shape {unit.shape}")
    losses = -w[:, np.newaxis] * unit
    whole = losses.sum(axis=0) if len(w) else np.zeros(unit.shape[1])
    total, shares = tail(whole, p), tail_shares(whole, p)
    alone = [tail(loss, p) for loss in losses]
    without = [tail(whole - loss, p) for loss in losses]
    var_unit = -unit[:, shares.scenario[-1]]
    es_unit = -unit[:, shares.scenario] @ shares.share

    def parts(name: str, marginal: FloatArray) -> Contributions:
        value = float(getattr(total, name))
        rest = np.array([getattr(other, name) for other in without])
        return Contributions(value, np.array([getattr(other, name) for other in alone]), marginal, marginal * w, value - rest)

    return parts("var", var_unit), parts("es", es_unit)


def incremental(held: ArrayLike, added: ArrayLike, p: float) -> Tail:
    """What a trade adds to VaR and ES: losses of the portfolio and of the trade by scenario."""
    before, change = np.asarray(held, dtype=np.float64), np.asarray(added, dtype=np.float64)
    if before.shape != change.shape:
        raise ValueError(f"expected losses in the same scenarios, got {before.shape} and {change.shape}")
    with_it, without = tail(before + change, p), tail(before, p)
    return Tail(with_it.var - without.var, with_it.es - without.es)


def attribution(profit: ArrayLike, path: PathGreeks, spot_move: ArrayLike, vol_move: ArrayLike, days: ArrayLike) -> Attribution:
    """Take the P&L of positions apart by the Greeks at the start of the path.

    Moves are in units of the Greeks: USD of spot, 1.00 of vol (or points with vega a point), days.  Without points between,
    the bound is that of the path's ends alone; 9 points find the extremes of an option's Greeks.  NaN in gives NaN and is not
    explained.
    """
    total = np.asarray(profit, dtype=np.float64)
    spot, vol, time = (np.broadcast_to(np.asarray(x, dtype=np.float64), total.shape) for x in (spot_move, vol_move, days))
    D, G, V, H = (np.asarray(x, dtype=np.float64) for x in path)
    if not (D.shape == G.shape == V.shape == H.shape and D.ndim >= 1 and D.shape[1:] == total.shape and len(D) >= 2):
        raise ValueError(
            f"expected Greeks at 2 or more points of {total.shape}, got {D.shape}, {G.shape}, {V.shape}, {H.shape}"
        )
    delta, gamma, vega, theta = D[0] * spot, 0.5 * G[0] * spot * spot, V[0] * vol, H[0] * time
    residual = total - (delta + gamma + vega + theta)
    u = np.linspace(0.0, 1.0, len(D)).reshape(-1, *([1] * total.ndim))
    bound = (
        np.abs(spot) * np.abs(D - D[0] - G[0] * u * spot).max(axis=0)
        + np.abs(vol) * np.abs(V - V[0]).max(axis=0)
        + np.abs(time) * np.abs(H - H[0]).max(axis=0)
    )
    rounding = 1e-9 * (np.abs(total) + np.abs(delta) + np.abs(gamma) + np.abs(vega) + np.abs(theta))
    return Attribution(delta, gamma, vega, theta, residual, bound, np.abs(residual) <= bound + rounding)

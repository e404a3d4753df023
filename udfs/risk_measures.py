"""Value at Risk and Expected Shortfall of scenarios' losses, and of a normal distribution.

One convention for all jobs.  Losses are positive, p is the level (0.99), and of n scenarios the tail is n(1 - p) of them:

    VaR(p)   the ⌈n(1 - p) - 1e-9⌉-th worst loss
    ES(p)    the mean of the worst n(1 - p) losses, the last one in part

The guard keeps 500 · (1 - 0.99), which is a little above 5 in binary, at 5.  With weights, a scenario counts as much as its
weight: VaR is the worst loss at which the weights of the losses so far reach 1 - p.  ES is that of Rockafellar and Uryasev
(2002), "Conditional value-at-risk for general loss distributions", which is subadditive; VaR is not.

Published figures follow other conventions: `quantile` and `mean_below` have those that the reference values use.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

GUARD = 1e-9
MEASURES = ("var", "es")
ROOT_2_PI = math.sqrt(2.0 * math.pi)


class Tail(NamedTuple):
    """What may be lost, in the unit of the losses; negative where even the tail gains."""

    var: float
    es: float


class Shares(NamedTuple):
    """The scenarios of a tail, worst first, and the share of each in the tail; the shares sum to 1."""

    scenario: IntArray
    share: FloatArray


def tail_rank(count: int, p: float) -> int:
    """Which of `count` losses is VaR, 1 for the worst.  Raises `ValueError` where p is not between 0 and 1, or count is 0."""
    level(p)
    if count < 1:
        raise ValueError("expected at least one loss, got none")
    return min(max(math.ceil(count * (1.0 - p) - GUARD), 1), count)


def level(p: float) -> float:
    """The level itself.  Raises `ValueError` where it is not above 0 and below 1."""
    if not 0.0 < p < 1.0:
        raise ValueError(f"expected a level above 0 and below 1, such as 0.99, got {p}")
    return p


def measure(name: str, losses: ArrayLike, p: float) -> float:
    """VaR or ES by its name.  Raises `ValueError` for an unknown one, or where losses or level are wrong."""
    if name not in MEASURES:
        raise ValueError(f"unknown measure {name!r}; there are {', '.join(MEASURES)}")
    return float(getattr(tail(losses, p), name))


def tail(losses: ArrayLike, p: float, weights: ArrayLike | None = None, *, leaves_out_nan: bool = False) -> Tail:
    """VaR and ES of scenarios.  `weights` are not negative and have a sum above 0; without them every scenario counts the same.

    Raises `ValueError` where there is no loss or no level, or a loss is not finite; with `leaves_out_nan` NaN is left out.
    """
    losses, weights = _checked(losses, weights, leaves_out_nan)
    shares = tail_shares(losses, p, weights)
    return Tail(float(losses[shares.scenario[-1]]), float(shares.share @ losses[shares.scenario]))


def tail_shares(losses: ArrayLike, p: float, weights: ArrayLike | None = None) -> Shares:
    """The scenarios of the tail: the last one is that of VaR, and ES is the mean by the shares.  Raises as `tail`.

    Of equal losses the earlier scenario is the worse one.
    """
    losses, weights = _checked(losses, weights, False)
    order = np.argsort(-losses, kind="stable")
    if weights is None:
        rank, size = tail_rank(len(losses), p), len(losses) * (1.0 - p)
        share = np.ones(rank)
        share[-1] = size - (rank - 1)
        # Half a scenario, as of ten at 95 %, is the worst one.
        share = share / size if size >= 1.0 else np.ones(1)
        return Shares(order[:rank].astype(np.int64), share)
    target = level(1.0 - level(p)) * weights.sum()
    order = order[weights[order] > 0.0]
    reached = np.cumsum(weights[order])
    rank = min(int(np.searchsorted(reached, target * (1.0 - GUARD))) + 1, len(order))
    share = weights[order[:rank]].copy()
    share[-1] = max(target - (reached[rank - 2] if rank > 1 else 0.0), 0.0)
    return Shares(order[:rank].astype(np.int64), share / share.sum())


def age_weights(ages: ArrayLike, count: int, decay: float) -> FloatArray:
    """Weights of scenarios that are `ages` days old, 0 the newest of `count`: decay^age (1 - decay)/(1 - decay^count).

    Boudoukh, Richardson and Whitelaw (1998), "The best of both worlds", Risk 11(5).  The sum over all ages is 1.
    """
    if not 0.0 < decay < 1.0:
        raise ValueError(f"expected a decay above 0 and below 1, got {decay}")
    return np.asarray(decay ** np.asarray(ages, dtype=np.float64) * (1.0 - decay) / (1.0 - decay**count), dtype=np.float64)


def standard_errors(losses: ArrayLike, p: float) -> Tail:
    """Standard errors of VaR and ES of independent draws.

    Of VaR: half the distance between the losses whose ranks are √(n p (1 - p)) better and worse, for the number beyond the
    true VaR varies by so much (Conover 1999).  Of ES: the deviation of the excess over VaR, over (1 - p) √n, as VaR's error has
    no effect of first order (Rockafellar and Uryasev 2002).
    """
    array, _ = _checked(losses, None, False)
    count, rank = len(array), tail_rank(len(array), p)
    ordered = np.sort(array)[::-1]
    step = math.sqrt(count * p * (1.0 - p))
    high, low = ordered[max(round(rank - step), 1) - 1], ordered[min(round(rank + step), count) - 1]
    excess = np.maximum(array - ordered[rank - 1], 0.0)
    return Tail(float(0.5 * (high - low)), float(excess.std() / ((1.0 - p) * math.sqrt(count))))


def worst_until(losses: ArrayLike, weights: ArrayLike, share: float) -> Tail:
    """VaR and ES where only the worst losses are known, with their weights in the whole: the tail has the weight `share`.

    Raises `ValueError` where the weights of the losses given do not reach it.
    """
    worst, known = np.asarray(losses, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    order = np.argsort(-worst, kind="stable")
    reached = np.cumsum(known[order])
    if not reached[-1] >= share * (1.0 - GUARD):
        raise ValueError(f"expected losses with a weight of at least {share}, got {reached[-1]:g}")
    rank = int(np.searchsorted(reached, share * (1.0 - GUARD))) + 1
    part = known[order[:rank]].copy()
    part[-1] = share - (reached[rank - 2] if rank > 1 else 0.0)
    return Tail(float(worst[order[rank - 1]]), float(part @ worst[order[:rank]] / share))


def normal_tail(mean: float, deviation: float, p: float, periods: float = 1.0, z: float | None = None) -> Tail:
    """VaR and ES of a normal P&L of mean and deviation a period, over several: the mean grows with time, the deviation with
    its root.

    VaR = z σ√h - μh and ES = σ√h φ(z)/(1 - p) - μh, z = N⁻¹(p) or as given, with which 1 - p is N(-z).  McNeil, Frey and
    Embrechts (2015), "Quantitative Risk Management", section 2.3.  Raises `ValueError` for a negative or unknown deviation.
    """
    if not (deviation >= 0.0 and math.isfinite(deviation) and math.isfinite(mean) and periods > 0.0):
        raise ValueError(f"expected a finite mean, a deviation of at least 0 and time, got {mean}, {deviation}, {periods}")
    if z is None:
        z = float(ndtri(level(p)))
    tail_share = 0.5 * math.erfc(z / math.sqrt(2.0))
    spread, shift = deviation * math.sqrt(periods), mean * periods
    density = math.exp(-0.5 * z * z) / ROOT_2_PI
    return Tail(z * spread - shift, density / tail_share * spread - shift)


def quantile(values: ArrayLike, p: float, *, is_interpolated: bool = False) -> float:
    """The ⌈n p - 1e-9⌉-th smallest value, the inverse of the empirical distribution; or interpolated between neighbours.

    The latter is type 7 of Hyndman and Fan (1996), "Sample quantiles in statistical packages".
    """
    ordered = np.sort(_checked(values, None, False)[0])
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"expected a probability from 0 to 1, got {p}")
    if is_interpolated:
        return float(np.quantile(ordered, p))
    return float(ordered[max(math.ceil(len(ordered) * p - GUARD), 1) - 1])


def mean_below(values: ArrayLike, p: float) -> float:
    """The mean of the ⌈n p - 1e-9⌉ smallest values, each as a whole."""
    ordered = np.sort(_checked(values, None, False)[0])
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"expected a probability from 0 to 1, got {p}")
    return float(ordered[: max(math.ceil(len(ordered) * p - GUARD), 1)].mean())


def _checked(losses: ArrayLike, weights: ArrayLike | None, leaves_out_nan: bool) -> tuple[FloatArray, FloatArray | None]:
    array = np.asarray(losses, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected a list of losses, got the shape {array.shape}")
    weight = None if weights is None else np.asarray(weights, dtype=np.float64)
    if weight is not None and (weight.shape != array.shape or not (weight >= 0.0).all() or not 0.0 < weight.sum() < np.inf):
        raise ValueError("expected a weight for each loss, none negative, with a finite sum above 0")
    if leaves_out_nan:
        is_known = ~np.isnan(array)
        array, weight = array[is_known], None if weight is None else weight[is_known]
    if not len(array):
        raise ValueError("expected at least one loss, got none")
    if not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"expected finite losses, got {array[first]} in scenario {first}")
    return array, weight

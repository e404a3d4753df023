"""Was Expected Shortfall right?  The tests Z1 and Z2 of Acerbi and Székely (2014), "Back-testing expected shortfall", Risk 27.

With losses L_t, forecasts VaR_t and ES_t at the level p, an exception I_t where L_t > VaR_t, N exceptions in T days:

    Z1 = 1 - Σ L_t I_t/ES_t / N            given the exceptions, are they as great as forecast?  None without one
    Z2 = 1 - Σ L_t I_t/ES_t / (T (1 - p))  their number and their size

Both are 0 on average for right forecasts, and negative where losses were greater.  Their distribution depends on the law
of a loss beyond VaR in units of ES: `Law`.  It is computed, not drawn: a sum of losses has the Fourier transform

    Z1   φ^N                   Z2   (p + (1 - p) φ)^T

with φ that of one loss beyond VaR.  A loss is spread over the two nearest points of a grid so that its mean is kept; the grid
is twice as long as what is asked for, and a factor e^-at damps what comes around its end.  Halving the step changes
p-values by less than 1e-4.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

from udfs.risk_measures import level

FloatArray = NDArray[np.float64]

STEPS = 2**13
QUANTILES = 20_000
DAMPING = 30.0
"""What comes around the grid's end is less by e^-30."""
NO_EXCEPTION = "no loss was beyond VaR"


class Law(NamedTuple):
    """Losses beyond VaR in units of ES: values, not above the next, and the probability of each.  Their mean is 1."""

    ratio: FloatArray
    probability: FloatArray


class ShortfallVerdict(NamedTuple):
    """A statistic with its p-value: how likely one as low is for right forecasts.  None with a reason."""

    statistic: float | None
    p_value: float | None
    reason: str | None = None


def normal_law(p: float) -> Law:
    """Of a normal P&L of mean 0."""
    return _quantile_law(p, 0.0)


def student_law(p: float, freedom: float) -> Law:
    """Of a P&L with Student's distribution.  Raises `ValueError` for at most one degree of freedom: it has no ES."""
    if not freedom > 1.0:
        raise ValueError(f"expected more than one degree of freedom, got {freedom}")
    return _quantile_law(p, freedom)


def scenario_law(ratios: ArrayLike, weights: ArrayLike | None = None) -> Law:
    """Of losses given in units of the ES forecast with them, as of the scenarios of all forecasts' tails."""
    ratio = np.asarray(ratios, dtype=np.float64)
    weight = np.ones(len(ratio)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(ratio) or not np.isfinite(ratio).all() or not (weight >= 0.0).all() or not weight.sum() > 0.0:
        raise ValueError("expected finite losses in units of ES")
    if ratio.min() < 0.0:
        raise ValueError(f"expected losses beyond VaR, got the gain {-ratio.min():g} in units of ES")
    order = np.argsort(ratio, kind="stable")
    return Law(ratio[order], weight[order] / weight.sum())


def z1(losses: ArrayLike, var: ArrayLike, es: ArrayLike, law: Law) -> ShortfallVerdict:
    """The first test, given the number of exceptions.  Raises `ValueError` where lengths differ or an ES is not positive."""
    ratios, count, days = _exceptions(losses, var, es)
    if not days:
        return ShortfallVerdict(None, None, "no day was judged")
    if not count:
        return ShortfallVerdict(None, None, NO_EXCEPTION)
    statistic = 1.0 - ratios / count
    return ShortfallVerdict(statistic, z1_p_value(count, law, statistic))


def z2(losses: ArrayLike, var: ArrayLike, es: ArrayLike, p: float, law: Law) -> ShortfallVerdict:
    """The second test; 1 without an exception.  Raises as `z1`."""
    ratios, _, days = _exceptions(losses, var, es)
    if not days:
        return ShortfallVerdict(None, None, "no day was judged")
    statistic = 1.0 - ratios / (days * (1.0 - level(p)))
    return ShortfallVerdict(statistic, z2_p_value(days, p, law, statistic))


def z1_p_value(exceptions: int, law: Law, statistic: float) -> float:
    """P(Z1 <= statistic) of so many exceptions."""
    if exceptions < 1:
        raise ValueError("expected at least one exception")
    return _upper_tail(law, exceptions, 1.0, (1.0 - statistic) * exceptions)


def z2_p_value(observations: int, p: float, law: Law, statistic: float) -> float:
    """P(Z2 <= statistic) of so many days."""
    return _upper_tail(law, observations, 1.0 - level(p), (1.0 - statistic) * observations * (1.0 - p))


def z2_critical_value(observations: int, p: float, law: Law, size: float) -> float:
    """The statistic below which a test of that size rejects."""
    low, high = 0.0, -1.0
    while z2_p_value(observations, p, law, high) > size:
        high *= 2.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        if z2_p_value(observations, p, law, middle) > size:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _upper_tail(law: Law, times: int, share: float, least: float) -> float:
    """P(S >= least), S the sum of `times` losses of which each is there with the probability `share`."""
    if least <= 0.0:
        return 1.0
    step = least / STEPS
    size = 4 * STEPS
    place = law.ratio / step
    is_within = place < 2 * STEPS
    # What is beyond is beyond the sum too: it is left out, and what is missing counts as beyond.
    lower = np.floor(place[is_within]).astype(np.int64)
    part = place[is_within] - lower
    mass = law.probability[is_within]
    grid = np.bincount(lower, mass * (1.0 - part), size) + np.bincount(lower + 1, mass * part, size)
    damping = DAMPING / size
    points = np.arange(size)
    transform = np.fft.rfft(grid * np.exp(-damping * points))
    sums = np.fft.irfft((1.0 - share + share * transform) ** times, size) * np.exp(damping * points)
    below = float(sums[:STEPS].sum() + 0.5 * sums[STEPS])
    return min(max(1.0 - below, 0.0), 1.0)


@lru_cache(maxsize=64)
def _quantile_law(p: float, freedom: float) -> Law:
    """Of the normal distribution where `freedom` is 0: quantiles of equal probability, finer towards the end."""
    share = 1.0 - level(p)
    edges = share * np.concatenate([[0.0], np.geomspace(1e-9, 1.0, QUANTILES)])
    middles = 0.5 * (edges[1:] + edges[:-1])
    loss = -(ndtri(middles) if freedom == 0.0 else stdtrit(freedom, middles))
    probability = np.diff(edges) / share
    return Law((loss / _shortfall(share, freedom))[::-1], probability[::-1])


def _shortfall(share: float, freedom: float) -> float:
    if freedom == 0.0:
        z = float(ndtri(share))
        return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) / share
    t = float(stdtrit(freedom, share))
    log_density = math.lgamma(0.5 * (freedom + 1)) - math.lgamma(0.5 * freedom) - 0.5 * math.log(freedom * math.pi)
    density = math.exp(log_density - 0.5 * (freedom + 1) * math.log1p(t * t / freedom))
    return density * (freedom + t * t) / (freedom - 1.0) / float(stdtr(freedom, t))


def _exceptions(losses: ArrayLike, var: ArrayLike, es: ArrayLike) -> tuple[float, int, int]:
    """The sum of losses beyond VaR in units of ES, their number, and the number of days."""
    loss, limit, shortfall = (np.asarray(x, dtype=np.float64) for x in (losses, var, es))
    if not loss.shape == limit.shape == shortfall.shape or loss.ndim != 1:
        raise ValueError(f"expected a VaR and an ES for each loss, got {loss.shape}, {limit.shape}, {shortfall.shape}")
    if not np.isfinite([loss, limit, shortfall]).all() or not (shortfall > 0.0).all():
        raise ValueError("expected finite losses, VaR and ES, and each ES above 0")
    is_exception = loss > limit
    return float((loss[is_exception] / shortfall[is_exception]).sum()), int(is_exception.sum()), len(loss)

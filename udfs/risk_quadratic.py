"""VaR and ES from Greeks alone: delta, gamma and vega under normal moves.

    P&L = theta + δ'x + ½ x'Γx,   x normal with mean 0 and covariance Σ

x are moves of spots, and of vols after them where vegas are given; δ, Γ and Σ must be in the same units of moves: relative spot
moves go with USD for each 1.00 of move (δ S, Γ S²), vol moves in points with USD a vol point.  δ contains coin balances.

    normal          the normal with mean tr(ΓΣ)/2 and variance δ'Σδ + tr((ΓΣ)²)/2
    cornish_fisher  that corrected by skewness and kurtosis; refused where the corrected quantiles would not increase
    imhof           exact, by inversion of the transform (`risk_transforms`)
    saddlepoint     VaR by an approximation of the exact one; ES is exact beyond that VaR
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtri

from udfs.risk_correlations import root
from udfs.risk_measures import Tail, level, normal_tail
from udfs.risk_transforms import Form, form, mean_excess, saddlepoint_tail, upper_quantile

FloatArray = NDArray[np.float64]

METHODS = ("normal", "cornish_fisher", "imhof", "saddlepoint")


class Cumulants(NamedTuple):
    """Of a P&L."""

    mean: float
    deviation: float
    skewness: float
    excess_kurtosis: float


class Answer(NamedTuple):
    """VaR and ES, or a reason why a method has none."""

    tail: Tail | None
    reason: str | None = None


def quadratic(delta: ArrayLike, gamma: ArrayLike, covariance: ArrayLike, theta: float = 0.0) -> Form:
    """The P&L as a form of independent factors.  Raises `ValueError` where shapes do not fit or Σ has a negative eigenvalue."""
    return form(delta, gamma, root(covariance), theta)


def with_vega(
    delta: ArrayLike, gamma: ArrayLike, vega: ArrayLike, vanna: ArrayLike | None = None, volga: ArrayLike | None = None
) -> tuple[FloatArray, FloatArray]:
    """δ and Γ of spots and vols together, of n spots and m vols; vanna (n × m) and volga (m × m) are 0 if not given."""
    d, G, v = (np.asarray(x, dtype=np.float64) for x in (delta, gamma, vega))
    cross = np.zeros((len(d), len(v))) if vanna is None else np.asarray(vanna, dtype=np.float64)
    own = np.zeros((len(v), len(v))) if volga is None else np.asarray(volga, dtype=np.float64)
    if G.shape != (len(d), len(d)) or cross.shape != (len(d), len(v)) or own.shape != (len(v), len(v)):
        raise ValueError(f"shapes do not fit: gamma {G.shape}, vanna {cross.shape}, volga {own.shape}")
    return np.concatenate([d, v]), np.block([[G, cross], [cross.T, own]])


def cumulants(given: Form) -> Cumulants:
    """Mean, deviation, skewness and excess kurtosis; the latter are 0 where nothing moves."""
    a, b, deviation = given.a, given.b, given.deviation
    if deviation == 0.0:
        return Cumulants(given.mean, 0.0, 0.0, 0.0)
    third = float((3.0 * a * b**2 + a**3).sum())
    fourth = float((12.0 * a**2 * b**2 + 3.0 * a**4).sum())
    return Cumulants(given.mean, deviation, third / deviation**3, fourth / deviation**4)


def cornish_fisher_expansion(given: Cumulants, share: float) -> float:
    """The quantile of P(X <= x) = share by the formula, inside its domain or not: for comparison with published figures.

    z + (z² - 1) S/6 + (z³ - 3z) K/24 - (2z³ - 5z) S²/36 deviations above the mean (Abramowitz and Stegun 26.2.49).
    """
    z, S, K = float(ndtri(share)), given.skewness, given.excess_kurtosis
    corrected = z + (z * z - 1.0) * S / 6.0 + (z**3 - 3.0 * z) * K / 24.0 - (2.0 * z**3 - 5.0 * z) * S * S / 36.0
    return given.mean + given.deviation * corrected


def is_in_domain(skewness: float, excess_kurtosis: float) -> bool:
    """Whether the expansion increases for every probability, so that it is a quantile at all.

    Maillard (2012), "A user's guide to the Cornish Fisher expansion": its derivative (a parabola in z) has no root.
    """
    S, K = skewness, excess_kurtosis
    lead = K / 8.0 - S * S / 6.0
    rest = 1.0 - K / 8.0 + 5.0 * S * S / 36.0
    if lead <= 0.0:
        return lead == 0.0 and S == 0.0 and rest > 0.0
    return S * S / 9.0 - 4.0 * lead * rest <= 0.0


def answer(given: Form, p: float, method: str = "imhof") -> Answer:
    """VaR and ES at the level p.  Raises `ValueError` for an unknown method or level."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
    level(p)
    moments = cumulants(given)
    if given.deviation == 0.0:
        return Answer(Tail(-given.c, -given.c))
    if method == "normal":
        return Answer(normal_tail(moments.mean, moments.deviation, p))
    if method == "cornish_fisher":
        return _cornish_fisher(moments, p)
    loss = given.negated
    if method == "imhof":
        var = upper_quantile(loss, 1.0 - p)
        return Answer(Tail(var, var + mean_excess(loss, var) / (1.0 - p)))
    return _saddlepoint(loss, p)


def _cornish_fisher(moments: Cumulants, p: float) -> Answer:
    if not is_in_domain(moments.skewness, moments.excess_kurtosis):
        figures = f"skewness {moments.skewness:.4g} and excess kurtosis {moments.excess_kurtosis:.4g}"
        return Answer(None, f"outside the domain of Cornish-Fisher: {figures}")
    var = -cornish_fisher_expansion(moments, 1.0 - p)
    # The mean of the expansion over the tail: each power of z has a closed integral against the density.
    z, S, K = float(ndtri(1.0 - p)), moments.skewness, moments.excess_kurtosis
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    means = -density / (1.0 - p) * np.array([1.0, z, z * z + 2.0])
    first, second, third = means[0], 1.0 + means[1], means[2]
    corrected = first + (second - 1.0) * S / 6.0 + (third - 3.0 * first) * K / 24.0 - (2.0 * third - 5.0 * first) * S * S / 36.0
    return Answer(Tail(var, -(moments.mean + moments.deviation * float(corrected))))


def _saddlepoint(loss: Form, p: float) -> Answer:
    share, start, spread = 1.0 - p, loss.mean, loss.deviation
    high = min(start + 2.0 * spread, 0.5 * (start + loss.greatest))
    for _ in range(200):
        if saddlepoint_tail(loss, high) <= share:
            break
        high = high + 2.0 * spread if math.isinf(loss.greatest) else 0.5 * (high + loss.greatest)
    low = start + 1e-3 * min(spread, high - start)
    if not saddlepoint_tail(loss, low) > share >= saddlepoint_tail(loss, high):
        return Answer(None, "the saddlepoint approximation does not reach this level above the mean")
    var = float(brentq(lambda x: saddlepoint_tail(loss, x) - share, low, high, xtol=1e-12 * spread))
    return Answer(Tail(var, var + mean_excess(loss, var) / share))

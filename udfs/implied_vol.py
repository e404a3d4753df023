"""Implied volatility under Black (1976), to the last digits that a price determines.

The value out of the money is divided by √(F K): b(x, s) with x = |ln(F/K)| and s = v √T, see `black76.normalised`.  Of b and
its complement c = exp(-x/2) - b, the share of the bound not reached, the smaller one is inverted, by its logarithm.  With the
vega of b, E = exp(-(h² + t²)/2)/√(2π), h = x/s, t = s/2, every derivative is at hand:

    b' = E,   b''/b' = x²/s³ - s/4,   b'''/b' = (b''/b')² - 3 x²/s⁴ - 1/4

so that Householder's third-order step is as cheap as Newton's: Jäckel (2015), "Let's Be Rational", Wilmott 75.  The first
guess differs from his.  For b < c it is that of the normal model, the limit of small s, where A = ln(1 + x/(2b)) alone fixes h:
a rational function of A, right to 0.6 %.  Else ln c is taken as a parabola of curvature -1/4 from where E is greatest,
s = √(2x).  From there no more than four steps, two on average, bring the step's own error below the last digit.

How exact: |v'/v - 1| <= 1e-12 for the price that `black76.price` gives of an option at or out of the money, over
1e-3 <= v √T <= 5 and x <= 6 v √T.  In the money the price holds the value out of the money only as the last digits of a
greater number, and an error of one such digit moves v by ε price/(v vega) relative to it: so much is lost whatever the method,
and no more.  The same holds where v √T is so great that the price is its bound but for the last digits.
"""

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs import black76
from udfs.black76 import FloatArray, value_over_vega
from udfs.compiled import compiled, inlined
from udfs.normal import ROOT_2_PI, exp, log_ratio, mills


class Reason(IntEnum):
    """Why there is no implied volatility."""

    NONE = 0  # there is one
    NO_QUOTE = 1  # the price is NaN or 0
    EXPIRED = 2  # T <= 0
    BELOW_INTRINSIC = 3  # the price is not above what exercise would give
    ABOVE_BOUND = 4  # the price is not below the forward (a call's bound) or the strike (a put's)
    BAD_INPUT = 5  # F, K or T is not positive and finite, or the price is negative or infinite
    NOT_CONVERGED = 6  # no price is known for which this happens


TEXTS = {
    Reason.NONE: "",
    Reason.NO_QUOTE: "There is no quote.",
    Reason.EXPIRED: "The option has expired.",
    Reason.BELOW_INTRINSIC: "The price is not above the intrinsic value.",
    Reason.ABOVE_BOUND: "The price is not below its bound: the forward for a call, the strike for a put.",
    Reason.BAD_INPUT: "Forward, strike, time or price is not a positive number.",
    Reason.NOT_CONVERGED: "The iteration did not converge.",
}


class ImpliedVol(NamedTuple):
    """Volatility as a fraction, NaN where there is none, and then the `Reason`."""

    vol: FloatArray
    reason: NDArray[np.int8]


def implied_vol(price: ArrayLike, F: ArrayLike, K: ArrayLike, T: ArrayLike, is_call: ArrayLike) -> ImpliedVol:
    """The volatility at which `black76.price` is `price`, for bid, ask, mid and mark alike.

    Price, forward F and strike K in USD, undiscounted, T in years; multiply a price in coin by the forward.  All broadcast.
    """
    shape, c = black76.columns(F, K, T, price, is_call)
    vol, reason = np.empty(c.F.size), np.empty(c.F.size, dtype=np.int8)
    _implied_vols(c.v, c.F, c.K, c.T, c.sign, vol, reason)
    return ImpliedVol(vol.reshape(shape), reason.reshape(shape))


_MAX_STEPS = 12
_EXACT_AFTER = 1e-4
"""The error after a third-order step is of the fourth power of the step."""


@compiled
def _implied_vols(
    price: FloatArray,
    F: FloatArray,
    K: FloatArray,
    T: FloatArray,
    sign: FloatArray,
    vol: FloatArray,
    reason: NDArray[np.int8],
) -> None:
    for i in range(price.size):
        vol[i] = np.nan
        reason[i] = _refused(price[i], F[i], K[i], T[i], sign[i])
        if reason[i]:
            continue
        root = math.sqrt(F[i]) * math.sqrt(K[i])
        bound = math.sqrt(min(F[i], K[i]) / max(F[i], K[i]))
        b = (price[i] - max(sign[i] * (F[i] - K[i]), 0.0)) / root
        # √(F K) rounds, so the quotient may touch a bound that the price does not.
        c = max(bound - b, 1e-17 * bound)
        x = max(abs(log_ratio(F[i], K[i])), 1e-300)
        s = _deviation(x, b, c)
        if s > 0.0:
            vol[i] = s / math.sqrt(T[i])
        else:
            reason[i] = Reason.NOT_CONVERGED


@inlined
def _refused(price: float, F: float, K: float, T: float, sign: float) -> int:
    if not (0.0 < F < np.inf and 0.0 < K < np.inf and math.isfinite(T)):
        return Reason.BAD_INPUT
    if T <= 0.0:
        return Reason.EXPIRED
    if np.isnan(price) or price == 0.0:
        return Reason.NO_QUOTE
    if price < 0.0 or price == np.inf:
        return Reason.BAD_INPUT
    if price <= sign * (F - K):
        return Reason.BELOW_INTRINSIC
    if price >= (F if sign > 0.0 else K):
        return Reason.ABOVE_BOUND
    return Reason.NONE


@inlined
def _deviation(x: float, b: float, c: float) -> float:
    """The s of which b is the value and c its complement; NaN where the steps do not end."""
    by_value = b < c
    goal = math.log(b if by_value else c)
    s = _guess_by_value(x, b) if by_value else _guess_by_complement(x, c)
    for _ in range(_MAX_STEPS):
        h, t = x / s, 0.5 * s
        # f is ln b or ln c, and slope, f2, f3 are f', f''/f', f'''/f'.
        if by_value:
            ratio = value_over_vega(h, t)
            slope = 1.0 / ratio
        else:
            ratio = _complement_over_vega(h, t)
            slope = -1.0 / ratio
        f = math.log(ratio / ROOT_2_PI) - 0.5 * (h * h + t * t) - goal
        b2 = h * h / s - 0.5 * t
        b3 = b2 * b2 - 3.0 * h * h / (s * s) - 0.25
        f2 = b2 - slope
        f3 = b3 - 3.0 * slope * b2 + 2.0 * slope * slope
        newton = -f / slope
        step = newton * (1.0 + 0.5 * f2 * newton) / (1.0 + newton * (f2 + f3 * newton / 6.0))
        s += step
        if abs(step) < _EXACT_AFTER * s:
            return s
    return np.nan


@inlined
def _complement_over_vega(h: float, t: float) -> float:
    if t >= h:
        return mills(t - h) + mills(t + h)
    return ROOT_2_PI * math.exp(0.5 * (h - t) * (h - t)) - mills(h - t) + mills(h + t)


@inlined
def _guess_by_value(x: float, b: float) -> float:
    # The coefficients are fitted to h(A) of the normal model, b/x = φ(h)/h - N(-h); both ends are its limits.
    A = math.log1p(0.5 * x / b)
    above = 1.0 + A * (0.89911677 + A * 0.34638773)
    below = 1.0 + A * (1.87443444 + A * (1.13680084 + A * (0.34638773 / math.pi)))
    return x / (math.sqrt(2.0 / math.pi * above / below) * A)


@inlined
def _guess_by_complement(x: float, c: float) -> float:
    s = math.sqrt(2.0 * x)
    vega = exp(-0.5 * x) / ROOT_2_PI
    most = vega * (mills(0.0) + mills(s))
    slope = vega / most
    return s + 4.0 * (math.sqrt(slope * slope + 0.5 * max(math.log(most / c), 0.0)) - slope)

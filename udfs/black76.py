"""European options on a forward: Black (1976), "The pricing of commodity contracts".

    C = F N(d1) - K N(d2),   P = K N(-d2) - F N(-d1),   d1 = ln(F/K)/(v √T) + v √T/2,   d2 = d1 - v √T

F is the forward and K the strike in USD, T the time to expiry in years of 365 days, v the volatility as a fraction (0.8
is 80 %).  Every argument is an array or a number and all broadcast; NaN where there is no answer.  The first-order
Greeks are one pass of compiled code over the options; `black_scholes` has the whole set, with rates, in USD and in coin.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs.compiled import compiled, inlined
from udfs.normal import ROOT_2_PI, exp, log_ratio, mills

FloatArray = NDArray[np.float64]

DAYS_PER_YEAR = 365.0
MS_PER_YEAR = 365 * 86_400_000


class Greeks(NamedTuple):
    """Sensitivities of a long option, in USD."""

    delta: FloatArray  # USD of option per USD of forward
    gamma: FloatArray  # delta per USD of forward
    vega: FloatArray  # USD per vol point (0.01)
    theta: FloatArray  # USD per day
    rho: FloatArray  # USD per 1 % of rate


class DeribitGreeks(NamedTuple):
    """The figures of an option in Deribit's ticker."""

    price_coin: FloatArray  # option value over forward
    delta: FloatArray  # USD of option per USD of forward; not premium-adjusted
    gamma: FloatArray  # delta per USD of forward
    vega: FloatArray  # USD per vol point (0.01)
    theta: FloatArray  # USD per day, no more than the option is worth
    rho: FloatArray  # USD per 1 % of rate


def price(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> FloatArray:
    """Undiscounted value in USD.

    The value above the intrinsic value has a relative error below 1e-12, however small it is (`normalised`).  Where
    v √T is 0 it is the intrinsic value, the limit.  NaN where F or K is not positive and finite, or T or v is negative or
    not finite.
    """
    shape, c = columns(F, K, T, v, is_call)
    value = np.empty(c.F.size)
    _prices(c.F, c.K, c.T, c.v, c.sign, value)
    return value.reshape(shape)


def greeks(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> Greeks:
    """Sensitivities of the value at rate 0.

    Theta is per calendar day.  Rho is that of Black-Scholes on a spot of F: the rate moves the forward with the
    discount.  Haug (2007), "The Complete Guide to Option Pricing Formulas", chapter 2.  NaN where F, K, T or v is not
    positive and finite: at expiry the slopes do not exist.
    """
    _, *slopes = _first_order(F, K, T, v, is_call)
    return Greeks(*slopes)


def deribit_greeks(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> DeribitGreeks:
    """Price and Greeks as Deribit publishes them, before its rounding.

    F is the ticker's underlying price, v its mark volatility, T = (expiry - ticker time)/`MS_PER_YEAR`; the rate is 0.
    Theta is -min(|θ| · min(1, T in days), option price in USD): the decay to come within a day.  The rule is inferred
    from 780 published tickers, all of which it fits.  NaN where F, K, T or v is not positive and finite.
    """
    value, delta, gamma, vega, theta, rho = _first_order(F, K, T, v, is_call)
    with np.errstate(all="ignore"):
        decay = np.minimum(-theta * np.minimum(1.0, np.asarray(T, dtype=np.float64) * DAYS_PER_YEAR), value)
        return DeribitGreeks(value / np.asarray(F, dtype=np.float64), delta, gamma, vega, -decay, rho)


@inlined
def normalised(x: float, s: float) -> float:
    """Value out of the money over √(F K): b(x, s) with x = |ln(F/K)| and s = v √T > 0.

    With h = x/s, t = s/2, the density's product E = exp(-(h² + t²)/2)/√(2π), which is the vega of b, and Mills' ratio Y,

        b = E (Y(h - t) - Y(h + t))               where h >= t
        b = exp(-x/2) - E (Y(t - h) + Y(t + h))   where h < t

    so that no difference of nearly equal numbers is left but that of two ratios close together: see `value_over_vega`.
    After Jäckel (2015), "Let's Be Rational", Wilmott 75.
    """
    h, t = x / s, 0.5 * s
    if h > 40.0:
        return 0.0
    vega = exp(-0.5 * (h * h + t * t)) / ROOT_2_PI
    if h >= t or t < SMALL:
        return vega * value_over_vega(h, t)
    return math.exp(-0.5 * x) - vega * (mills(t - h) + mills(t + h))


SMALL = 0.05
"""Below it the series stops within a unit of the last place; above it the difference loses at most a dozen."""


@inlined
def value_over_vega(h: float, t: float) -> float:
    """Y(h - t) - Y(h + t), for h >= t or t < `SMALL`; where t is small, by the series in t.

    The derivatives of Y follow from Y' = h Y - 1.
    """
    if t < SMALL and h * t < 0.5:
        y0 = mills(h)
        y1 = h * y0 - 1.0
        y2 = h * y1 + y0
        y3 = h * y2 + 2.0 * y1
        y4 = h * y3 + 3.0 * y2
        y5 = h * y4 + 4.0 * y3
        y6 = h * y5 + 5.0 * y4
        y7 = h * y6 + 6.0 * y5
        y8 = h * y7 + 7.0 * y6
        y9 = h * y8 + 8.0 * y7
        z = t * t
        return -2.0 * t * (y1 + z / 6.0 * (y3 + z / 20.0 * (y5 + z / 42.0 * (y7 + z / 72.0 * y9))))
    if h >= t:
        return mills(h - t) - mills(h + t)
    return ROOT_2_PI * math.exp(0.5 * (h - t) * (h - t)) - mills(t - h) - mills(t + h)


@compiled
def _prices(F: FloatArray, K: FloatArray, T: FloatArray, v: FloatArray, sign: FloatArray, value: FloatArray) -> None:
    for i in range(F.size):
        if not (0.0 < F[i] < np.inf and 0.0 < K[i] < np.inf and 0.0 <= T[i] < np.inf and 0.0 <= v[i] < np.inf):
            value[i] = np.nan
            continue
        value[i] = max(sign[i] * (F[i] - K[i]), 0.0)
        s = v[i] * math.sqrt(T[i])
        if s > 0.0:
            # √F √K cannot overflow where F K would.
            time_value = math.sqrt(F[i]) * math.sqrt(K[i]) * normalised(abs(log_ratio(F[i], K[i])), s)
            value[i] += min(time_value, min(F[i], K[i]))


def _first_order(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> list[FloatArray]:
    """Value, delta, gamma, vega, theta, rho."""
    shape, c = columns(F, K, T, v, is_call)
    answers = [np.empty(c.F.size) for _ in range(6)]
    _first_order_loop(*c, *answers)
    return [answer.reshape(shape) for answer in answers]


@compiled
def _first_order_loop(
    F: FloatArray,
    K: FloatArray,
    T: FloatArray,
    v: FloatArray,
    sign: FloatArray,
    value: FloatArray,
    delta: FloatArray,
    gamma: FloatArray,
    vega: FloatArray,
    theta: FloatArray,
    rho: FloatArray,
) -> None:
    # Without a branch, so that one pass of the loop serves as many options as the processor has lanes.
    for i in range(F.size):
        f, k, t, vol, call = F[i], K[i], T[i], v[i], sign[i]
        answers = (f > 0.0) & (f < np.inf) & (k > 0.0) & (k < np.inf) & (t > 0.0) & (t < np.inf) & (vol > 0.0) & (vol < np.inf)
        nothing = 0.0 if answers else np.nan
        root_t = math.sqrt(t)
        deviation = vol * root_t
        d1 = max(min(log_ratio(f, k) / deviation + 0.5 * deviation, 1e3), -1e3)
        d2 = d1 - deviation
        density = exp(-0.5 * d1 * d1) / ROOT_2_PI
        # F φ(d1) = K φ(d2)
        tail1, tail2 = density * mills(abs(d1)), density * f / k * mills(abs(d2))
        n1 = tail1 if call * d1 < 0.0 else 1.0 - tail1
        n2 = tail2 if call * d2 < 0.0 else 1.0 - tail2
        out = 1.0 if f < k else -1.0
        out1 = tail1 if out * d1 < 0.0 else 1.0 - tail1
        out2 = tail2 if out * d2 < 0.0 else 1.0 - tail2
        value[i] = max(call * (f - k), 0.0) + max(out * (f * out1 - k * out2), 0.0) + nothing
        delta[i] = call * n1 + nothing
        gamma[i] = density / (f * deviation) + nothing
        vega[i] = f * density * root_t * 0.01 + nothing
        theta[i] = -f * density * vol / (2.0 * root_t * DAYS_PER_YEAR) + nothing
        rho[i] = call * k * t * n2 * 0.01 + nothing


class Columns(NamedTuple):
    """Arguments as arrays of one size."""

    F: FloatArray
    K: FloatArray
    T: FloatArray
    v: FloatArray
    sign: FloatArray  # +1 call, -1 put


def columns(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> tuple[tuple[int, ...], Columns]:
    """The shape that the arguments broadcast to, and each as one column of that size."""
    sign = np.where(np.asarray(is_call, dtype=np.bool_), 1.0, -1.0)
    numbers = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (F, K, T, v)), sign)
    return numbers[0].shape, Columns(*(np.ascontiguousarray(x).reshape(-1) for x in numbers))

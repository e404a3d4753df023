"""European options on a forward: Black (1976), "The pricing of commodity contracts".

    C = F N(d1) - K N(d2),   P = K N(-d2) - F N(-d1),   d1 = ln(F/K)/(v √T) + v √T/2,   d2 = d1 - v √T

F is the forward and K the strike in USD, T the time to expiry in years of 365 days, v the volatility as a fraction (0.8
is 80 %).  Every argument is an array or a number and all broadcast; NaN stands where there is no answer.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

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
    """What Deribit's ticker says of an option."""

    price_coin: FloatArray  # option value over forward
    delta: FloatArray  # USD of option per USD of forward; not premium-adjusted
    gamma: FloatArray  # delta per USD of forward
    vega: FloatArray  # USD per vol point (0.01)
    theta: FloatArray  # USD per day, no more than the option is worth
    rho: FloatArray  # USD per 1 % of rate


class _Terms(NamedTuple):
    F: FloatArray
    K: FloatArray
    T: FloatArray
    v: FloatArray
    sign: FloatArray  # +1 call, -1 put
    d1: FloatArray
    d2: FloatArray


def price(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> FloatArray:
    """Undiscounted value in USD.

    Where v √T is 0 it is the intrinsic value, the limit.  NaN where F or K is not positive and finite, or T or v is
    negative or not finite.
    """
    with np.errstate(all="ignore"):
        return _price(_terms(F, K, T, v, is_call))


def greeks(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> Greeks:
    """Sensitivities of the value at rate 0.

    Theta is per calendar day.  Rho is that of Black-Scholes on a spot of F: the rate moves the forward with the
    discount.  Haug (2007), "The Complete Guide to Option Pricing Formulas", chapter 2.  NaN where F, K, T or v is not
    positive and finite: at expiry the slopes do not exist.
    """
    with np.errstate(all="ignore"):
        return _greeks(_terms(F, K, T, v, is_call))


def deribit_greeks(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> DeribitGreeks:
    """Price and Greeks as Deribit publishes them, before its rounding.

    F is the ticker's underlying price, v its mark volatility, T = (expiry - ticker time)/`MS_PER_YEAR`; the rate is 0.
    Theta is -min(|θ| · min(1, T in days), option price in USD): the decay to come within a day.  The rule is inferred
    from 780 published tickers, all of which it fits.  NaN where F, K, T or v is not positive and finite.
    """
    with np.errstate(all="ignore"):
        terms = _terms(F, K, T, v, is_call)
        plain = _greeks(terms)
        value = _price(terms)
        decay = np.minimum(-plain.theta * np.minimum(1.0, terms.T * DAYS_PER_YEAR), value)
        price_coin = np.where(np.isnan(plain.delta), np.nan, value / terms.F)
        return DeribitGreeks(price_coin, plain.delta, plain.gamma, plain.vega, -decay, plain.rho)


def _terms(F: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike) -> _Terms:
    F, K, T, v = (np.asarray(x, dtype=np.float64) for x in (F, K, T, v))
    F, K = (np.where((x > 0) & np.isfinite(x), x, np.nan) for x in (F, K))
    T, v = (np.where((x >= 0) & np.isfinite(x), x, np.nan) for x in (T, v))
    sign = np.where(np.asarray(is_call, dtype=np.bool_), 1.0, -1.0)
    deviation = v * np.sqrt(T)
    d1 = np.log(F / K) / deviation + 0.5 * deviation
    return _Terms(F, K, T, v, sign, d1, d1 - deviation)


def _price(t: _Terms) -> FloatArray:
    # Only the out-of-the-money side is computed as a difference: deep in the money its small time value would otherwise
    # be lost beside the intrinsic value.
    otm = np.where(t.F < t.K, 1.0, -1.0)
    time_value = np.maximum(otm * (t.F * ndtr(otm * t.d1) - t.K * ndtr(otm * t.d2)), 0.0)
    intrinsic = np.maximum(t.sign * (t.F - t.K), 0.0)
    return _array(np.where(t.v * np.sqrt(t.T) == 0.0, intrinsic, intrinsic + time_value))


def _greeks(t: _Terms) -> Greeks:
    answer = np.where((t.T > 0) & (t.v > 0), 1.0, np.nan)
    root_T = np.sqrt(t.T)
    density = np.exp(-0.5 * t.d1 * t.d1) / np.sqrt(2.0 * np.pi)
    return Greeks(
        delta=_array(answer * t.sign * ndtr(t.sign * t.d1)),
        gamma=_array(answer * density / (t.F * t.v * root_T)),
        vega=_array(answer * t.F * density * root_T * 0.01),
        theta=_array(-answer * t.F * density * t.v / (2.0 * root_T) / DAYS_PER_YEAR),
        rho=_array(answer * t.sign * t.K * t.T * ndtr(t.sign * t.d2) * 0.01),
    )


def _array(x: Any) -> FloatArray:
    return np.asarray(x, dtype=np.float64)

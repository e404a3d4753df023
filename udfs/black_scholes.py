"""European options on a spot with carry, and every Greek: Black and Scholes (1973), Merton (1973).

    C = S e^(-qT) N(d1) - K e^(-rT) N(d2),   P = K e^(-rT) N(-d2) - S e^(-qT) N(-d1),
    d1 = (ln(S/K) + (r - q + v²/2) T)/(v √T),   d2 = d1 - v √T

S is the spot and K the strike in USD, T the time to expiry in years of 365 days, v the volatility, r the rate and q the
yield of the underlying, fractions (0.8 is 80 %), continuously compounded.  With r = q = 0 and S the forward it is Black (1976).
Formulae of the Greeks: Haug (2007), "The Complete Guide to Option Pricing Formulas", chapter 2.  Every argument is an array
or a number and all broadcast; NaN where there is no answer.

A linear contract is worth V USD.  An inverse one is settled in coin and worth V/S coin; its sensitivities are those of that
quotient.  "Per vol" is per 1.00 of volatility, "per rate" per 1.00 of rate, "per day" per calendar day that passes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from udfs import black76
from udfs.black76 import DAYS_PER_YEAR, FloatArray


class UsdGreeks(NamedTuple):
    """Value and sensitivities of a long linear option."""

    price_usd: FloatArray
    delta: FloatArray  # USD per USD of spot, which is coins per coin
    premium_adjusted_delta: FloatArray  # delta less the value in coin: the coins that hedge where the premium was paid in coin
    gamma_per_usd: FloatArray  # delta per USD of spot
    vega_usd_per_vol: FloatArray
    theta_usd_per_day: FloatArray
    rho_usd_per_rate: FloatArray  # spot and yield stay
    yield_rho_usd_per_rate: FloatArray  # spot and rate stay
    vanna_per_vol: FloatArray  # delta per volatility
    volga_usd_per_vol2: FloatArray  # vega per volatility
    charm_per_day: FloatArray  # delta per day
    speed_per_usd2: FloatArray  # gamma per USD of spot
    zomma_per_usd_vol: FloatArray  # gamma per volatility
    color_per_usd_day: FloatArray  # gamma per day


class CoinGreeks(NamedTuple):
    """Value and sensitivities of a long inverse option, in coin, against the spot in USD."""

    price_coin: FloatArray
    delta_coin_per_usd: FloatArray  # times S it is the premium-adjusted delta
    gamma_coin_per_usd2: FloatArray
    vega_coin_per_vol: FloatArray
    theta_coin_per_day: FloatArray
    rho_coin_per_rate: FloatArray
    yield_rho_coin_per_rate: FloatArray
    vanna_coin_per_usd_vol: FloatArray
    volga_coin_per_vol2: FloatArray
    charm_coin_per_usd_day: FloatArray
    speed_coin_per_usd3: FloatArray
    zomma_coin_per_usd2_vol: FloatArray
    color_coin_per_usd2_day: FloatArray


def price(
    S: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike, r: ArrayLike = 0.0, q: ArrayLike = 0.0
) -> FloatArray:
    """Value in USD: that of Black (1976) on the forward S e^((r - q)T), discounted.

    NaN where S or K is not positive and finite, T or v negative or not finite, or r or q not finite.
    """
    S, T, r, q = (np.asarray(x, dtype=np.float64) for x in (S, T, r, q))
    with np.errstate(all="ignore"):
        value: FloatArray = np.exp(-r * T) * black76.price(S * np.exp((r - q) * T), K, T, v, is_call)
    return value


def usd_greeks(
    S: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike, r: ArrayLike = 0.0, q: ArrayLike = 0.0
) -> UsdGreeks:
    """Value and sensitivities of a linear option.

    NaN where S, K, T or v is not positive and finite, or r or q not finite: at expiry the slopes do not exist.
    """
    sign = np.where(np.asarray(is_call, dtype=np.bool_), 1.0, -1.0)
    S, K, T, v, r, q, sign = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (S, K, T, v, r, q)), sign)
    S, K, T, v = (np.where((x > 0.0) & np.isfinite(x), x, np.nan) for x in (S, K, T, v))
    with np.errstate(all="ignore"):
        carried, discounted = S * np.exp(-q * T), K * np.exp(-r * T)
        root_T = np.sqrt(T)
        deviation = v * root_T
        d1 = np.log(carried / discounted) / deviation + 0.5 * deviation
        d2 = d1 - deviation
        density = np.exp(-0.5 * d1 * d1) / np.sqrt(2.0 * np.pi)
        asset, cash = sign * carried * ndtr(sign * d1), sign * discounted * ndtr(sign * d2)
        value = price(S, K, T, v, is_call, r, q) + 0.0 * deviation
        delta = asset / S
        gamma = carried * density / (S * S * deviation)
        vega = carried * density * root_T
        drift = (r - q) / deviation - d2 / (2.0 * T)  # ∂d1/∂T
        per_year = UsdGreeks(
            price_usd=value,
            delta=delta,
            premium_adjusted_delta=delta - value / S,
            gamma_per_usd=gamma,
            vega_usd_per_vol=vega,
            theta_usd_per_day=q * asset - r * cash - carried * density * v / (2.0 * root_T),
            rho_usd_per_rate=T * cash,
            yield_rho_usd_per_rate=-T * asset,
            vanna_per_vol=-carried / S * density * d2 / v,
            volga_usd_per_vol2=vega * d1 * d2 / v,
            charm_per_day=q * delta - carried / S * density * drift,
            speed_per_usd2=-gamma / S * (d1 / deviation + 1.0),
            zomma_per_usd_vol=gamma * (d1 * d2 - 1.0) / v,
            color_per_usd_day=gamma * (q + d1 * drift + 1.0 / (2.0 * T)),
        )
    return per_year._replace(
        theta_usd_per_day=per_year.theta_usd_per_day / DAYS_PER_YEAR,
        charm_per_day=per_year.charm_per_day / DAYS_PER_YEAR,
        color_per_usd_day=per_year.color_per_usd_day / DAYS_PER_YEAR,
    )


def coin_greeks(
    S: ArrayLike, K: ArrayLike, T: ArrayLike, v: ArrayLike, is_call: ArrayLike, r: ArrayLike = 0.0, q: ArrayLike = 0.0
) -> CoinGreeks:
    """Value and sensitivities of an inverse option: derivatives of V/S by the quotient rule.  NaN as in `usd_greeks`."""
    g = usd_greeks(S, K, T, v, is_call, r, q)
    S = np.asarray(S, dtype=np.float64)

    with np.errstate(all="ignore"):

        def slope(value: FloatArray, first: FloatArray) -> FloatArray:
            answer: FloatArray = (first - value / S) / S
            return answer

        def curvature(value: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
            answer: FloatArray = (second - 2.0 * slope(value, first)) / S
            return answer

        gamma = curvature(g.price_usd, g.delta, g.gamma_per_usd)
        return CoinGreeks(
            price_coin=g.price_usd / S,
            delta_coin_per_usd=slope(g.price_usd, g.delta),
            gamma_coin_per_usd2=gamma,
            vega_coin_per_vol=g.vega_usd_per_vol / S,
            theta_coin_per_day=g.theta_usd_per_day / S,
            rho_coin_per_rate=g.rho_usd_per_rate / S,
            yield_rho_coin_per_rate=g.yield_rho_usd_per_rate / S,
            vanna_coin_per_usd_vol=slope(g.vega_usd_per_vol, g.vanna_per_vol),
            volga_coin_per_vol2=g.volga_usd_per_vol2 / S,
            charm_coin_per_usd_day=slope(g.theta_usd_per_day, g.charm_per_day),
            speed_coin_per_usd3=(g.speed_per_usd2 - 3.0 * gamma) / S,
            zomma_coin_per_usd2_vol=curvature(g.vega_usd_per_vol, g.vanna_per_vol, g.zomma_per_usd_vol),
            color_coin_per_usd2_day=curvature(g.theta_usd_per_day, g.charm_per_day, g.color_per_usd_day),
        )

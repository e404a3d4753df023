"""Chains of options as a venue quotes them, for the tests and the benchmark of the surface.  Seeded: one seed, one chain.

The true prices are those of Bates (1996), "Jumps and stochastic volatility", by Lewis's (2001) integral over the characteristic
function: free of arbitrage between strikes and between expiries, steep in the wings a few hours before expiry, and no SVI.
They run on a market clock: weekends are slow, so that expiries on both sides of one are almost equal in total variance, and an
event adds the variance of days to the expiries after it.  Far from the money, makers charge and pay a small extra price: from a
fraction of a tick to a few ticks, which no smile of such a process explains, and which decays more slowly than a price free of
arbitrage.

The quotes follow Deribit's conventions for coin options: expiries at 08:00 UTC on the next days, Fridays, and last Fridays of
months and quarters; prices in coin, in ticks of 0.0001 below 0.005 and of 0.0005 from there; few and wide quotes far from the
money and far in time.  Makers lean to one side, so the true price is rarely in the middle.  A bid below one tick is left out.

They are as difficult as chains of the market.  A fit that only penalised arbitrage, out to one span beyond the quotes, and then
mixed its parameters with those of a flat smile left 4.4% of the slices of the first 100 with less than half of their quotes
inside, and 6.8% outside bid and ask at the money, half a vol point off or more.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from udfs import black76
from udfs.black76 import FloatArray
from udfs.implied_vol import implied_vol

DAY = 1.0 / 365.0
"""In years."""


_REACH, _NODES = 14.0, 300
"""The integral of a price: its upper bound, divided by the standard deviation, and the number of points."""


class Chain(NamedTuple):
    """Quotes of one underlying at one instant, as `udfs.vol_surface.fit` takes them; NaN for a missing side."""

    T: FloatArray  # years, one an expiry
    expiry: NDArray[np.int64]  # index in `T`
    k: FloatArray
    bid_iv: FloatArray
    ask_iv: FloatArray


class _Market(NamedTuple):
    """Bates's parameters, per year of the market clock, and that clock."""

    v0: float
    mean_v: float
    reversion: float
    vol_of_vol: float
    rho: float
    jumps: float  # a year
    jump_mean: float
    jump_vol: float
    start: float  # day of the week, from Monday 08:00
    weekend: float  # pace of the clock
    event_at: float  # days from the start
    event_days: float  # what it adds to the clock


def chain(seed: int) -> Chain:
    """A chain of 8 to 13 expiries, hours to a year away."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.3, 0.8)
    market = _Market(
        v0=level**2 * rng.uniform(0.6, 1.5),
        mean_v=level**2,
        reversion=rng.uniform(1.0, 6.0),
        vol_of_vol=rng.uniform(0.5, 2.5) * level,
        rho=rng.uniform(-0.8, 0.5),
        jumps=rng.uniform(80.0, 200.0),
        jump_mean=rng.uniform(-0.03, 0.015),
        jump_vol=rng.uniform(0.02, 0.06),
        start=rng.uniform(0.0, 7.0),
        weekend=rng.uniform(0.05, 0.4),
        event_at=rng.uniform(0.5, 25.0),
        event_days=rng.choice([0.0, 1.0, 3.0]),
    )
    forward = float(np.exp(rng.uniform(np.log(2e4), np.log(1.2e5))))
    days = _expiry_days(market.start)
    quotes = [_quotes(rng, market, day, forward) for day in days]
    expiry = np.repeat(np.arange(days.size), [k.size for k, _, _ in quotes])
    k, bid_iv, ask_iv = (np.concatenate(parts) for parts in zip(*quotes, strict=True))
    return Chain(days * DAY, expiry, k, bid_iv, ask_iv)


def _expiry_days(start: float) -> FloatArray:
    """Days from a start in the week to the expiries: the next three days, four Fridays, then months and quarters."""
    day = math.floor(start) + 1 - start
    friday = (4.0 - start) % 7.0
    listed = {day, day + 1, day + 2, friday, friday + 7, friday + 14, friday + 21}
    listed |= {friday + 28 * month for month in (1, 2, 3, 6, 9, 12)}
    days = np.array(sorted(listed))
    return days[(days > 0.05) & (np.diff(days, prepend=-1.0) > 0.5)]


def _clock(market: _Market, days: float) -> float:
    """Years of the market clock from the start to an expiry."""
    edges = np.union1d(np.arange(0.0, days, 0.05), [days])
    middle = 0.5 * (edges[1:] + edges[:-1])
    pace = np.where((market.start + middle) % 7.0 >= 5.0, market.weekend, 1.0)
    return float(np.sum(pace * np.diff(edges)) + market.event_days * (days > market.event_at)) * DAY


def _call(market: _Market, tau: float, k: FloatArray) -> FloatArray:
    """Prices of calls over the forward: Lewis (2001), with Heston's characteristic function without its branch cut."""
    step = _REACH / math.sqrt(tau * min(market.v0, market.mean_v)) / _NODES
    u = step * (np.arange(_NODES) + 0.5)
    z = u - 0.5j
    xi = market.reversion - 1j * market.rho * market.vol_of_vol * z
    d = np.sqrt(xi * xi + market.vol_of_vol**2 * (z * z + 1j * z))
    g, decay = (xi - d) / (xi + d), np.exp(-d * tau)
    by_v0 = (xi - d) / market.vol_of_vol**2 * (1.0 - decay) / (1.0 - g * decay)
    log_ratio = np.log((1.0 - g * decay) / (1.0 - g))
    by_mean = market.reversion / market.vol_of_vol**2 * ((xi - d) * tau - 2.0 * log_ratio)
    mean, variance = market.jump_mean, market.jump_vol**2
    growth = math.exp(mean + 0.5 * variance) - 1.0
    jump = market.jumps * tau * (np.exp(1j * z * mean - 0.5 * variance * z * z) - 1.0 - 1j * z * growth)
    # Minus Black's, whose price is known: the difference has no pole close to the real axis.
    w = tau * market.mean_v
    bates = np.exp(by_v0 * market.v0 + by_mean * market.mean_v + jump)
    density = (bates - np.exp(-0.5 * w * (u * u + 0.25))) / (u * u + 0.25)
    integral = np.sum(np.exp(-1j * np.outer(k, u)) * density, axis=1) * step
    known: FloatArray = black76.price(1.0, np.exp(k), tau, math.sqrt(market.mean_v), True)
    price: FloatArray = known - np.exp(0.5 * k) / math.pi * integral.real
    return price


def _quotes(
    rng: np.random.Generator, market: _Market, days: float, forward: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """k, bid and ask volatility of one expiry."""
    T, tau = days * DAY, _clock(market, days)
    deviation = math.sqrt(tau * market.mean_v + market.jumps * tau * market.jump_vol**2)
    down, up = rng.uniform(2.0, 8.0, 2)
    number = int(rng.integers(18, 60)) if days < 60 else int(rng.integers(9, 24))
    step = 500.0 * max(1.0, round(forward * deviation * (down + up) / number / 500.0))
    first, last = forward * math.exp(-down * deviation), forward * math.exp(up * deviation)
    K = np.arange(math.ceil(first / step) * step, last, step)
    K, is_call = np.repeat(K, 2), np.tile([True, False], K.size)
    k = np.log(K / forward)
    z = k / deviation
    # In the money only near it.
    is_listed = np.where(is_call, z > -0.7, z < 0.7)
    k, K, z, is_call = k[is_listed], K[is_listed], z[is_listed], is_call[is_listed]
    has_lottery = rng.uniform() < 0.6
    call = _call(market, tau, k)
    true = np.maximum(np.where(is_call, call, call - 1.0 + K / forward), 0.0)
    if has_lottery:
        true = true + min(rng.lognormal(math.log(0.0001), 1.0), 0.0005) * np.exp(-0.35 * np.abs(z))
    vega = math.sqrt(T / (2.0 * math.pi)) * np.exp(-0.5 * z * z)  # coin per 1.00 of volatility
    wide = rng.uniform(0.001, 0.006) * (1.0 if days < 200 else 1.5)
    half = vega * wide * rng.uniform(0.6, 1.6, k.size) * (1.0 + 0.15 * z * z) + 0.004 * true + 1e-5
    # One lean of the expiry, and one of each option.
    lean = np.clip(rng.uniform(-0.3, 0.3) + rng.uniform(-0.5, 0.5, k.size), -0.9, 0.9)
    bid, ask = true + half * (lean - 1.0), true + half * (lean + 1.0)
    tick = np.where(true < 0.005, 0.0001, 0.0005)
    bid, ask = np.floor(bid / tick) * tick, np.maximum(np.ceil(ask / tick), 1.0) * tick
    far = np.abs(z) > 2.0
    bid = np.where((bid > 0.5 * tick) & ~(far & (rng.uniform(size=k.size) < 0.15)), bid, np.nan)
    ask = np.where(far & (rng.uniform(size=k.size) < 0.05), np.nan, ask)
    bid_iv, ask_iv = (implied_vol(price * forward, forward, K, T, is_call).vol for price in (bid, ask))
    return k, bid_iv, ask_iv

"""One volatility smile as raw SVI, and its static arbitrage.

    w(k) = a + b (ρ (k - m) + √((k - m)² + σ²)),      k = ln(K/F),   w = v² T

is the total variance of one expiry.  It has no butterfly arbitrage where Durrleman's function is nowhere negative,

    g(k) = (1 - k w'/(2w))² - w'²/4 (1/w + 1/4) + w''/2,

and its wings are no steeper than `MAX_SLOPE`; it has no calendar arbitrage with the next expiry where it is nowhere above it.
Gatheral (2004); Gatheral and Jacquier (2014), "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14.
Functions of a `Slice` take arrays and broadcast; the compiled ones below take one slice as a row (a, b, ρ, m, σ).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from udfs.black76 import FloatArray
from udfs.compiled import allocating, compiled, inlined

MAX_SLOPE = 2.0
"""Of a wing, in total variance per k: Lee (2004), "The moment formula for implied volatility at extreme strikes"."""


NO_SLICE = np.full(5, np.nan)


class Slice(NamedTuple):
    """Raw SVI parameters; numbers, or arrays with one element an expiry."""

    a: FloatArray
    b: FloatArray
    rho: FloatArray
    m: FloatArray
    sigma: FloatArray


def total_variance(raw: Slice, k: ArrayLike) -> FloatArray:
    """w(k); all broadcast."""
    a, b, rho, m, sigma = (np.asarray(x, dtype=np.float64) for x in raw)
    u = np.asarray(k, dtype=np.float64) - m
    w: FloatArray = a + b * (rho * u + np.sqrt(u * u + sigma * sigma))
    return w


@inlined
def variance(row: FloatArray, k: float) -> float:
    """w(k) of one slice."""
    u = k - row[3]
    return float(row[0] + row[1] * (row[2] * u + math.sqrt(u * u + row[4] * row[4])))


@inlined
def least_variance(row: FloatArray) -> float:
    """The least w of a slice with |ρ| < 1."""
    return float(row[0] + row[1] * row[4] * math.sqrt(1.0 - row[2] * row[2]))


@inlined
def durrleman_at(row: FloatArray, k: float) -> float:
    """g(k) of one slice."""
    u = k - row[3]
    root = math.sqrt(u * u + row[4] * row[4])
    w = row[0] + row[1] * (row[2] * u + root)
    w1 = row[1] * (row[2] + u / root)
    w2 = row[1] * row[4] * row[4] / (root * root * root)
    x = 1.0 - 0.5 * k * w1 / w
    return float(x * x - 0.25 * w1 * w1 * (1.0 / w + 0.25) + 0.5 * w2)


_GRID = np.sinh(0.12 * np.arange(-60, 61))
"""Dense in the middle, and reaching 670 to either side."""
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)


@inlined
def _window(row: FloatArray, number: int) -> tuple[float, float]:
    """Centre and scale of the three grids on which a slice is evaluated.

    They are those over which w doubles from its least value, over which it bends, and over which its wings outgrow its level.
    """
    s = math.sqrt(1.0 - row[2] * row[2])
    least, slope, sigma = max(least_variance(row), 0.0), max(row[1], 1e-12), row[4]
    if number == 0:
        return row[3] - row[2] * sigma / s, min(math.sqrt(2.0 * least * sigma / (slope * s * s * s)), sigma)
    return row[3], sigma if number == 1 else max(sigma, least / slope, abs(row[3]))


@allocating
def g_min(row: FloatArray) -> float:
    """The least g of a slice, every local minimum of its grids to the last digits; -inf where w is not positive."""
    return minima(row, NO_SLICE, 0.0, np.empty(0))


@allocating
def calendar_min(row: FloatArray, after: FloatArray) -> float:
    """Least total variance of the slice after above this one, over this one's; over all k, the wings' slopes included."""
    least = minima(row, after, 0.0, np.empty(0))
    for sign in (-1.0, 1.0):
        if row[1] * (1.0 + sign * row[2]) > after[1] * (1.0 + sign * after[2]) * (1.0 + 1e-12):
            least = -1.0
    return least


@compiled
def minima(row: FloatArray, after: FloatArray, below: float, k: FloatArray) -> float:
    """The least g of a slice or, where there is a slice `after`, the least relative gap up to it.

    The local minima that are less than `below` are written to `k`, as many as it takes; NaN for the rest.
    """
    is_gap = not np.isnan(after[0])
    k[:] = np.nan
    if not (least_variance(row) > 0.0 and row[4] > 0.0):
        return -np.inf
    if row[1] == 0.0 and not is_gap:
        return 1.0
    least, number = watched(row, after, is_gap, 0.0), 0
    for window in range(6 if is_gap else 3):
        centre, scale = _window(row if window < 3 else after, window % 3)
        before, here = np.inf, np.inf
        for i in range(_GRID.size):
            nearby = watched(row, after, is_gap, centre + scale * _GRID[i])
            if here <= before and here <= nearby and here < max(0.1, below) and i > 1:
                low, high = centre + scale * _GRID[i - 2], centre + scale * _GRID[i]
                for _ in range(30):
                    span = _GOLDEN * (high - low)
                    if watched(row, after, is_gap, high - span) < watched(row, after, is_gap, low + span):
                        high = low + span
                    else:
                        low = high - span
                here = min(here, watched(row, after, is_gap, 0.5 * (low + high)))
                least = min(least, here)
                if here < below and number < k.size:
                    k[number] = 0.5 * (low + high)
                    number += 1
            least = min(least, nearby)
            before, here = here, nearby
    return least


@inlined
def watched(row: FloatArray, after: FloatArray, is_gap: bool, k: float) -> float:
    """The relative gap between two slices, or g of the first."""
    return _gap(row, after, k) if is_gap else durrleman_at(row, k)


@inlined
def _gap(row: FloatArray, after: FloatArray, k: float) -> float:
    here = variance(row, k)
    return (variance(after, k) - here) / here


_G_MARGIN, _CALENDAR_MARGIN = 1e-5, 1e-4
"""What g and `calendar_min` keep above zero, for the points between those of the grid."""


@allocating
def is_free(row: FloatArray, after: FloatArray) -> bool:
    """Whether a slice has no arbitrage, neither in itself nor with the next expiry's (`NO_SLICE` if there is none)."""
    if row[1] * (1.0 + abs(row[2])) > MAX_SLOPE or not g_min(row) >= _G_MARGIN:
        return False
    return bool(np.isnan(after[0]) or calendar_min(row, after) >= _CALENDAR_MARGIN)


@allocating
def repair(row: FloatArray, after: FloatArray) -> bool:
    """Move a slice to the first one without arbitrage on a path along which w changes evenly; returns whether it had to move.

    The path of Gatheral and Jacquier, or else the path to a flat smile, removes butterflies; both keep the variance at the
    money.  A factor θ < 1 brings it below the next expiry's slice, `after`.  That causes no butterfly: with w times θ, g is at
    least θ times its earlier value.
    """
    if is_free(row, after):
        return False
    if not is_free(row, NO_SLICE):
        first = row.copy()
        for path in (1, 2):
            _towards(first, after, path, 1.0, row)
            if is_free(row, NO_SLICE):
                break
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = 0.5 * (low + high)
            _towards(first, after, path, middle, row)
            if is_free(row, NO_SLICE):
                high = middle
            else:
                low = middle
        _towards(first, after, path, high, row)
    if not np.isnan(after[0]):
        _lower(row, after)
    return True


@allocating
def _lower(row: FloatArray, after: FloatArray) -> None:
    """Multiply a slice by the greatest θ that leaves it below `after`."""
    theta = 1.0
    for sign in (-1.0, 1.0):
        slope, limit = row[1] * (1.0 + sign * row[2]), after[1] * (1.0 + sign * after[2])
        if slope > limit:
            theta = min(theta, limit / slope)
    row[0] *= theta
    row[1] *= theta
    gap = calendar_min(row, after)
    if not gap >= _CALENDAR_MARGIN:
        # Rounding must not bring it back above.
        theta = (1.0 + gap) / (1.0 + _CALENDAR_MARGIN) * (1.0 - 1e-9)
        row[0] *= theta
        row[1] *= theta


@compiled
def _towards(first: FloatArray, after: FloatArray, path: int, share: float, row: FloatArray) -> None:
    """The slice at a share of the path: 1 Gatheral and Jacquier's, 2 to a flat smile of w(0), or less if `after` is lower."""
    b, rho, m, sigma = first[1], first[2], first[3], first[4]
    w = variance(first, 0.0)
    if path == 1:
        # The jump wings times √w: T does not matter.
        skew = 0.5 * b * (rho - m / math.sqrt(m * m + sigma * sigma))
        put, call, least = b * (1.0 - rho), b * (1.0 + rho), least_variance(first)
        free_call = put + 2.0 * skew
        free_least = w * 4.0 * put * free_call / ((put + free_call) * (put + free_call))
        call += share * (free_call - call)
        least += share * (free_least - least)
        b = 0.5 * (put + call)
        rho = 1.0 - put / b
        beta = rho - 2.0 * skew / b
        ratio = beta / math.sqrt(1.0 - beta * beta)
        sigma = (w - least) / (b * (math.sqrt(1.0 + ratio * ratio) - rho * ratio - math.sqrt(1.0 - rho * rho)))
        row[0], row[1], row[2], row[3], row[4] = least - b * sigma * math.sqrt(1.0 - rho * rho), b, rho, ratio * sigma, sigma
        return
    if not np.isnan(after[0]):
        w = min(w, 0.999 * least_variance(after))
    # ρ, m and σ stay, so that w is linear in the share.
    row[0], row[1], row[2], row[3], row[4] = first[0] + share * (w - first[0]), (1.0 - share) * b, rho, m, sigma

"""Realised volatility from bars, annualised, as a fraction.

Bars are equally long and follow one another without a gap, the last axis being time; `bars_per_year` is 365 · 24 for hours of a
market that never closes.  Every function answers for each bar from it and those before; NaN where there are too few, or where a
bar within the window is NaN or not positive.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from udfs.black76 import FloatArray


def ewma(close: ArrayLike, bars_per_year: float, half_life: float) -> FloatArray:
    """Exponentially weighted mean of squared log returns, about zero; a return weighs half after `half_life` bars.

    RiskMetrics (1996), "Technical Document", section 5.2, with the weights of the returns so far scaled to 1.  A return that is
    NaN takes no part, and the answer there is that of the bar before.
    """
    close = np.asarray(close, dtype=np.float64)
    squares = np.diff(_log(close), axis=-1) ** 2
    keep = 0.5 ** (1.0 / half_life)
    vol = np.full(close.shape, np.nan)
    total, weight = np.zeros(close.shape[:-1]), np.zeros(close.shape[:-1])
    for bar in range(squares.shape[-1]):
        square = squares[..., bar]
        known = np.isfinite(square)
        total = np.where(known, keep * total + np.where(known, square, 0.0), total)
        weight = np.where(known, keep * weight + 1.0, weight)
        with np.errstate(all="ignore"):
            vol[..., bar + 1] = np.sqrt(total / weight * bars_per_year)
    return vol


def parkinson(high: ArrayLike, low: ArrayLike, bars_per_year: float, window: int) -> FloatArray:
    """Mean of ln(high/low)²/(4 ln 2) over `window` bars: without drift, five times as efficient as closes.

    Parkinson (1980), "The extreme value method for estimating the variance of the rate of return", Journal of Business 53.
    """
    high, low = (np.asarray(x, dtype=np.float64) for x in (high, low))
    variance = (_log(high) - _log(low)) ** 2 / (4.0 * np.log(2.0))
    variance = np.where(high >= low, variance, np.nan)
    return _annual(_windows(variance, window).mean(axis=-1), high.shape, bars_per_year)


def yang_zhang(
    open_: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike, bars_per_year: float, window: int
) -> FloatArray:
    """Free of drift and of the jumps between a close and the next open, over `window` >= 2 bars.

        V = V_open + k V_close + (1 - k) V_RS,      k = 0.34/(1.34 + (n + 1)/(n - 1))

    V_open is the variance of ln(open/previous close), V_close of ln(close/open), V_RS Rogers and Satchell's.  Yang and Zhang
    (2000), "Drift-independent volatility estimation based on high, low, open, and close prices", Journal of Business 73.
    """
    o, h, l, c = (_log(np.asarray(x, dtype=np.float64)) for x in (open_, high, low, close))  # noqa: E741
    if window < 2:
        return np.full(c.shape, np.nan)
    jump = np.full(c.shape, np.nan)
    jump[..., 1:] = o[..., 1:] - c[..., :-1]
    rogers_satchell = (h - c) * (h - o) + (l - c) * (l - o)
    rogers_satchell = np.where((h >= np.maximum(o, c)) & (l <= np.minimum(o, c)), rogers_satchell, np.nan)
    k = 0.34 / (1.34 + (window + 1) / (window - 1))
    variance = _windows(jump, window).var(axis=-1, ddof=1) + k * _windows(c - o, window).var(axis=-1, ddof=1)
    variance += (1.0 - k) * _windows(rogers_satchell, window).mean(axis=-1)
    return _annual(variance, c.shape, bars_per_year)


def _log(x: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):
        logs: FloatArray = np.where((x > 0.0) & np.isfinite(x), np.log(x), np.nan)
    return logs


def _windows(x: FloatArray, window: int) -> FloatArray:
    """The last `window` elements at each bar that has as many, as a last axis."""
    if not 1 <= window <= x.shape[-1]:
        return np.empty((*x.shape[:-1], 0, max(window, 1)))
    return sliding_window_view(x, window, axis=-1)


def _annual(variance: FloatArray, shape: tuple[int, ...], bars_per_year: float) -> FloatArray:
    vol = np.full(shape, np.nan)
    if variance.shape[-1]:
        vol[..., shape[-1] - variance.shape[-1] :] = np.sqrt(variance * bars_per_year)
    return vol

"""The cheapest trade that brings exposures inside their bands: a small linear program, and its rounding to whole lots.

Of each piece of a book (an instrument, a side, a price up to which it is taken) x contracts are traded, 0 <= x <= most:

    minimise  cost · x   such that   low <= exposure + effect · x <= high   for each limit

Where no x is enough, first the sum of what is left beyond the bands, each in parts of its scale, is made as small as it can be,
and then the cost at that.  HiGHS (Huangfu and Hall 2018, "Parallelizing the dual revised simplex method") solves both.  It ends
at the edge of a band that is nearest: no trade is larger than it must be.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from udfs.black76 import FloatArray

SLACK = 1e-9
"""Of a scale: what counts as within a band."""


class Bands(NamedTuple):
    """Of each limit: the exposure, where it should be, and a size by which limits compare.  Above zero is the scale."""

    exposure: FloatArray
    low: FloatArray
    high: FloatArray
    scale: FloatArray

    def beyond(self, exposure: FloatArray) -> FloatArray:
        """How far each exposure is outside, in parts of its scale."""
        outside = np.maximum(np.maximum(self.low - exposure, exposure - self.high), 0.0) / self.scale
        return np.asarray(np.where(outside > SLACK, outside, 0.0))


class Solution(NamedTuple):
    """Contracts of each piece, and whether all exposures are within their bands then."""

    quantity: FloatArray
    is_enough: bool


def cheapest(cost: FloatArray, most: FloatArray, effect: FloatArray, bands: Bands) -> Solution:
    """The cheapest contracts of each piece.

    cost    by piece, in USD for a contract, not below zero
    most    by piece, contracts
    effect  a row for each limit, a column for each piece: what a contract adds to the exposure, negative where it lowers it
    """
    pieces, limits = len(cost), len(bands.exposure)
    nothing = np.zeros(pieces)
    if not bands.beyond(bands.exposure).any():
        return Solution(nothing, True)
    if not pieces or not effect.any():
        return Solution(nothing, False)
    # Each piece in parts of itself: columns of contracts may differ by orders of magnitude.
    rows = effect / bands.scale[:, np.newaxis] * most
    low, high = (bands.low - bands.exposure) / bands.scale, (bands.high - bands.exposure) / bands.scale
    price = cost * most
    price = price / (price.max() or 1.0)
    whole = np.ones(pieces)
    if (parts := _solved(price, rows, low, high, whole)) is not None:
        return Solution(parts * most, True)
    # What is left above or below the band of a limit is one more variable each.
    wide = np.concatenate([rows, -np.eye(limits), np.eye(limits)], axis=1)
    upper = np.concatenate([whole, np.full(2 * limits, np.inf)])
    outside = np.concatenate([nothing, np.ones(2 * limits)])
    least = _solved(outside, wide, low, high, upper)
    if least is None:
        return Solution(nothing, False)
    wide, low = np.concatenate([wide, outside[np.newaxis]]), np.append(low, -np.inf)
    high = np.append(high, (outside @ least) * (1 + 1e-9) + SLACK)
    best = _solved(np.concatenate([price, np.zeros(2 * limits)]), wide, low, high, upper)
    return Solution((least if best is None else best)[:pieces] * most, False)


def _solved(cost: FloatArray, rows: FloatArray, low: FloatArray, high: FloatArray, upper: FloatArray) -> FloatArray | None:
    """The x of least cost with low <= rows · x <= high and 0 <= x <= upper; None where there is none.

    By `milp` without whole numbers, which is the same solver as `linprog` and takes half as long to call; so small a program is
    not worth to be simplified first.
    """
    limits, bounds = LinearConstraint(rows, low, high), Bounds(0.0, upper)
    solved = milp(cost, constraints=limits, bounds=bounds, options={"presolve": False})
    return np.clip(solved.x, 0.0, upper) if solved.status == 0 else None


def whole_lots(wanted: FloatArray, most: FloatArray, cost: FloatArray, effect: FloatArray, bands: Bands) -> FloatArray:
    """Lots of each order, rounded so that no exposure is taken through its band to the other side.

    Down first; then lots are added one at a time, as long as one brings exposures nearer to their bands and takes none further
    out: that which does most for its cost, the first of equals.

    wanted, most  by order, in lots that need not be whole; never more than `most`
    cost          by order, in USD for a lot
    effect        a row for each limit, a column for each order: what a lot adds
    """
    most = np.floor(most + SLACK)
    lots = np.minimum(np.floor(wanted + SLACK), most)
    is_below, is_above = bands.exposure < bands.low, bands.exposure > bands.high
    for _ in range(4 * len(lots) + 4):
        now = bands.exposure + effect @ lots
        beyond = bands.beyond(now)
        if not beyond.any():
            break
        best, best_gain = None, 0.0
        for order in range(len(lots)):
            if lots[order] >= most[order]:
                continue
            later = now + effect[:, order]
            if (bands.beyond(later) > beyond + SLACK).any():
                continue
            edge = SLACK * bands.scale
            if (is_above & (later < bands.low - edge)).any() or (is_below & (later > bands.high + edge)).any():
                continue
            gain = (beyond - bands.beyond(later)).sum() / max(cost[order], 1e-300)
            if gain > best_gain * (1 + SLACK):
                best, best_gain = order, gain
        if best is None:
            break
        lots[best] += 1
    return np.asarray(lots)

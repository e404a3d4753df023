"""All smiles of a surface brought under the conditions of no arbitrage: g ≥ 0, and w nowhere above the next expiry's.

Most slices meet them and are left alone.  Slices that meet are fitted together, so a neighbour in the way gives way too; that
makes the normal equations a band.  The conditions hold for all k, which makes them a semi-infinite program: they are kept
at the local minima of g and of the gap, far wings included, which are searched again after each minimisation (exchange method:
Hettich and Kortanek (1993), "Semi-infinite programming", SIAM Review 35).  They are kept exactly, not by a penalty that leaves
something over: each is a squared residual whose target moves by what was missing, until nothing is (method of multipliers:
Powell (1969), "A method for nonlinear constraints in minimization problems").
"""

import math

import numpy as np

from udfs import svi
from udfs.black76 import FloatArray
from udfs.compiled import allocating, compiled
from udfs.smile_fit import descend
from udfs.smile_loss import G_GOAL, GAP_GOAL, POINTS, Problem
from udfs.svi import NO_SLICE

_MAX_EXCHANGES = 40
_SETTLED = 0.02
"""In half-spreads: by how much no target moves any more."""


@allocating
def bind(rows: FloatArray, p: Problem) -> None:
    """Bring all slices under the conditions, in place: to where the loss is least."""
    n, none = rows.shape[0], NO_SLICE.copy()
    change = 0.0
    for _ in range(_MAX_EXCHANGES):
        is_below = False
        for i in range(n):
            is_below |= _watch(rows[i], none, G_GOAL, p.butterfly_k[i], p.butterfly_target[i])
            if i + 1 < n:
                is_below |= _watch(rows[i], rows[i + 1], GAP_GOAL, p.calendar_k[i], p.calendar_target[i])
        if not is_below and change < _SETTLED:
            break
        first = 0
        while first < n:
            end = first + 1
            while end < n and not np.isnan(p.calendar_k[end - 1]).all():
                end += 1
            if end > first + 1 or not np.isnan(p.butterfly_k[first]).all():
                descend(rows, p, first, end, True, 30)
            first = end
        change = 0.0
        for i in range(n):
            moved = _shift(rows[i], none, G_GOAL, p.butterfly_k[i], p.butterfly_target[i])
            change = max(change, p.weight[i] * moved)
            if i + 1 < n:
                moved = _shift(rows[i], rows[i + 1], GAP_GOAL, p.calendar_k[i], p.calendar_target[i])
                change = max(change, max(p.weight[i], p.weight[i + 1]) * moved)


_FAR = 1e4
"""k so far out that only the slopes of the wings count."""


@allocating
def _watch(row: FloatArray, after: FloatArray, goal: float, points: FloatArray, targets: FloatArray) -> bool:
    """Take up where g, or the gap up to `after`, is least; whether it is below half of the goal anywhere."""
    lows = np.empty(POINTS)
    is_gap, is_below = not math.isnan(after[0]), svi.minima(row, after, 4.0 * goal, lows) < 0.5 * goal
    for i in range(lows.size + 2):
        x = lows[i] if i < lows.size else (_FAR if i == lows.size else -_FAR)
        if math.isnan(x):
            continue
        value = svi.watched(row, after, is_gap, x)
        is_below |= value < 0.5 * goal
        width = 0.1 * math.sqrt((x - row[3]) ** 2 + row[4] ** 2)
        slot, slack = -1, 4.0 * goal
        for j in range(POINTS):
            if math.isnan(points[j]):
                slot, slack = j, np.inf
                continue
            known = svi.watched(row, after, is_gap, points[j])
            if abs(points[j] - x) < width:
                if value < known:
                    points[j] = x
                slot = -1
                break
            if targets[j] == goal and known > slack:
                slot, slack = j, known
        if slot >= 0 and value < goal:
            points[slot], targets[slot] = x, goal
    return is_below


@compiled
def _shift(row: FloatArray, after: FloatArray, goal: float, points: FloatArray, targets: FloatArray) -> float:
    """Move each target so that at the goal it will press as hard as it does now; the greatest move."""
    is_gap, greatest = not math.isnan(after[0]), 0.0
    for j in range(points.size):
        if not math.isnan(points[j]):
            target = goal + max(targets[j] - svi.watched(row, after, is_gap, points[j]), 0.0)
            greatest = max(greatest, abs(target - targets[j]))
            targets[j] = target
    return greatest

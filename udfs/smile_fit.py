"""One smile fitted by itself, without a condition: Levenberg's and Marquardt's method on the loss of `smile_loss`.

It starts from the last fit.  Where that leaves half of the quotes outside, it starts from the best of a grid of (m, σ), for
each of which the other three parameters are a linear fit: Zeliade (2009), "Quasi-explicit calibration of Gatheral's SVI model".
The
cutoff c is `CUTOFF`, or twice the median |z| while the model is further from its quotes than that.
"""

import math

import numpy as np

from udfs.black76 import FloatArray
from udfs.compiled import allocating
from udfs.smile_loss import (
    CUTOFF,
    Problem,
    bound,
    distance,
    median,
    median_distance,
    normal_equations,
    solve,
    to_point,
    to_slice,
)

_MAX_STEPS = 80
_HOPELESS = 1e8
_ENOUGH = 1e-6


@allocating
def descend(rows: FloatArray, p: Problem, first: int, end: int, is_bound: bool, steps: int) -> float:
    """Levenberg's and Marquardt's method for some expiries at once, from their slices and in place; the loss."""
    size = rows.size
    H, new_H, L = np.zeros((size, 10)), np.zeros((size, 10)), np.zeros((size, 10))
    y, new_y, step = np.zeros(size), np.zeros(size), np.zeros(size)
    points, trials = np.zeros(rows.shape), np.zeros(rows.shape)
    for i in range(first, end):
        to_point(rows[i], 1e-4 * p.level[i], trials[i])
        bound(trials[i], p.level[i], p.k[p.starts[i]], p.k[p.ends[i] - 1])
    points[:] = trials
    loss, damping = np.inf, 1e-3
    for _ in range(steps):
        for i in range(first, end):
            to_slice(trials[i], rows[i])
        new_loss = normal_equations(trials, rows, p, first, end, is_bound, new_H, new_y)
        if new_loss < loss:
            gain = loss - new_loss
            loss = new_loss
            points, trials = trials, points
            H, new_H = new_H, H
            y, new_y = new_y, y
            damping *= 0.2
            if gain < _ENOUGH * loss:
                break
        else:
            damping *= 5.0
        while damping <= _HOPELESS and not solve(H, y, 5 * first, 5 * end, damping, L, step):
            damping = 10.0 * max(damping, 1e-6)
        if damping > _HOPELESS:
            break
        for i in range(first, end):
            for n in range(5):
                trials[i, n] = points[i, n] + step[5 * i + n]
            bound(trials[i], p.level[i], p.k[p.starts[i]], p.k[p.ends[i] - 1])
    for i in range(first, end):
        to_slice(points[i], rows[i])
    return loss


_CENTRES = 9
_WIDTHS = (0.02, 0.06, 0.15, 0.4, 1.0)


@allocating
def _coarse(row: FloatArray, p: Problem, expiry: int) -> None:
    """The best slice of a grid of (m, σ): for each, a, d = ρσb and e = σb by reweighted least squares of total variance."""
    T, level, k = p.T[expiry], p.level[expiry], p.k[p.starts[expiry] : p.ends[expiry]]
    middle, half = p.middle[p.starts[expiry] : p.ends[expiry]], p.half[p.starts[expiry] : p.ends[expiry]]
    span = k[-1] - k[0]
    w, unit = np.empty(k.size), np.empty(k.size)
    for i in range(w.size):
        w[i] = T * middle[i] * middle[i]
        unit[i] = 1.0 / (2.0 * T * middle[i] * half[i])
    typical = median(unit)
    best = np.inf
    trial = np.empty(5)
    for index in range(_CENTRES * len(_WIDTHS)):
        m = k[0] + span * (index % _CENTRES) / (_CENTRES - 1)
        sigma = span * _WIDTHS[index // _CENTRES]
        a, d, e = level, 0.0, 0.0
        for _ in range(4):
            s00 = s01 = s02 = s11 = s12 = s22 = y0 = y1 = y2 = 0.0
            for i in range(w.size):
                x1 = (k[i] - m) / sigma
                x2 = math.sqrt(x1 * x1 + 1.0)
                # Least absolute deviations, with no quote weighing more than a typical one.
                weight = min(unit[i], typical) / max(abs(a + d * x1 + e * x2 - w[i]) * unit[i], 1.0)
                s00 += weight
                s01 += weight * x1
                s02 += weight * x2
                s11 += weight * x1 * x1
                s12 += weight * x1 * x2
                s22 += weight * x2 * x2
                y0 += weight * w[i]
                y1 += weight * w[i] * x1
                y2 += weight * w[i] * x2
            c00, c01, c02 = s11 * s22 - s12 * s12, s02 * s12 - s01 * s22, s01 * s12 - s02 * s11
            c11, c12, c22 = s00 * s22 - s02 * s02, s01 * s02 - s00 * s12, s00 * s11 - s01 * s01
            determinant = s00 * c00 + s01 * c01 + s02 * c02
            if not abs(determinant) > 1e-12 * s00 * s11 * s22:
                break
            a = (c00 * y0 + c01 * y1 + c02 * y2) / determinant
            d = (c01 * y0 + c11 * y1 + c12 * y2) / determinant
            e = (c02 * y0 + c12 * y1 + c22 * y2) / determinant
        e = max(e, 1e-6 * level)
        d = max(min(d, 0.95 * e), -0.95 * e)
        trial[0] = max(a, 1e-3 * level - math.sqrt(e * e - d * d))
        trial[1], trial[2], trial[3], trial[4] = e / sigma, d / e, m, sigma
        loss = 0.0
        for i in range(w.size):
            loss += math.log1p(distance(trial, p, expiry, p.starts[expiry] + i) ** 2)
        if loss < best:
            best = loss
            for i in range(5):
                row[i] = trial[i]


_MAX_CUTOFFS = 32
"""Enough from a model that is 10⁹ half-spreads away; what is further, or no number, comes to no end otherwise."""


@allocating
def fit_alone(rows: FloatArray, p: Problem, i: int) -> None:
    """Fit one expiry by itself, from its slice if it has one, in place."""
    row = rows[i]
    is_near = median_distance(row, p, i) <= 1.0
    if not (is_near and abs(row[2]) < 1.0 and row[4] > 0.0):
        _coarse(row, p, i)
    p.cutoff[i] = np.inf
    for _ in range(_MAX_CUTOFFS):
        p.cutoff[i] = max(CUTOFF, min(0.5 * p.cutoff[i], 2.0 * median_distance(row, p, i)))
        descend(rows, p, i, i + 1, False, _MAX_STEPS)
        if p.cutoff[i] <= CUTOFF:
            break

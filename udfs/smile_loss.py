"""The loss of the quotes of a smile, and the normal equations of one step of the fit.

With z the distance of the model from the middle of bid and ask in units of half the spread, in volatility (which is price over
vega, so that spread and vega are the weight), and e what of |z| exceeds `INSIDE`,

    loss = Σ `PULL` ρ(z) + ρ(e),      ρ(x) = x²/(2 (1 + x²/c²))

The band decides; the middle decides only inside the band.  ρ is Geman and McClure's: the force of a quote vanishes with the
third power of its distance beyond c half-spreads.  SSVI's law is a faint prior: what the quotes do not determine is taken from
the next expiry, in proportion to √w.

Under the conditions of `smile_conditions` a quote may have to stay outside.  So that it still counts, its force there has a
bound instead of an end (Huber's loss), and its weight is what it counted for in the slice alone.

A slice is a row (a, b, ρ, m, σ), a point of the minimisation (ln w_min, ln b, artanh ρ, m, ln σ).  Every point is a slice.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from udfs import svi
from udfs.black76 import FloatArray
from udfs.compiled import allocating, compiled, inlined
from udfs.svi import MAX_SLOPE

IntArray = NDArray[np.int64]

INSIDE, PULL, CUTOFF = 0.95, 0.02, 3.0
"""In half-spreads but for the pull."""
PRIOR = 0.2
"""Root of the weight of a squared unit by which ln b, artanh ρ, m/σ or ln σ differ from what the next expiry suggests."""


class Problem(NamedTuple):
    """The data of a fit: an element or a line for each expiry that can be fitted, and the quotes of all."""

    T: FloatArray
    starts: IntArray  # first of its quotes
    ends: IntArray
    k: FloatArray
    middle: FloatArray  # of bid and ask volatility
    half: FloatArray  # half of their distance
    trust: FloatArray  # weight of a quote under the conditions
    level: FloatArray  # typical total variance
    prior: FloatArray  # points; their first coordinates are not used
    cutoff: FloatArray  # c
    butterfly_k: FloatArray  # where g is kept above a target; NaN is nowhere
    butterfly_target: FloatArray
    calendar_k: FloatArray  # the same of the relative gap to the next expiry
    calendar_target: FloatArray
    weight: FloatArray  # of both: half-spreads for a unit


@inlined
def to_slice(point: FloatArray, row: FloatArray) -> None:
    """Write the slice of a point to `row`."""
    b, rho, sigma = math.exp(point[1]), math.tanh(point[2]), math.exp(point[4])
    row[0] = math.exp(point[0]) - b * sigma * math.sqrt(1.0 - rho * rho)
    row[1], row[2], row[3], row[4] = b, rho, point[3], sigma


@inlined
def to_point(row: FloatArray, least: float, point: FloatArray) -> None:
    """Write the point of a slice to `point`; its least variance counts as `least` where it is below."""
    point[0] = math.log(max(svi.least_variance(row), least))
    point[1], point[2], point[3], point[4] = math.log(max(row[1], 1e-9)), math.atanh(row[2]), row[3], math.log(row[4])


@inlined
def bound(point: FloatArray, level: float, first: float, last: float) -> None:
    """Keep a point where its parameters still show in the quotes."""
    span = last - first
    point[0] = min(max(point[0], math.log(1e-4 * level)), math.log(1e2 * level))
    point[1] = min(max(point[1], math.log(1e-3 * level / span)), math.log(MAX_SLOPE))
    point[2] = min(max(point[2], -3.8), 3.8)
    point[3] = min(max(point[3], first - span), last + span)
    point[4] = min(max(point[4], math.log(1e-3 * span)), math.log(10.0 * span))


@inlined
def _rho(x: float, c: float) -> float:
    return 0.5 * x * x / (1.0 + x * x / (c * c))


@inlined
def weight(x: float, c: float) -> float:
    """Slope of ρ over x."""
    root = 1.0 + x * x / (c * c)
    return 1.0 / (root * root)


@inlined
def _huber(x: float) -> float:
    """Huber's loss: its force is that of one half-spread from there on."""
    return 0.5 * x * x if abs(x) < 1.0 else abs(x) - 0.5


@inlined
def _huber_weight(x: float) -> float:
    """Its slope over x."""
    return 1.0 if abs(x) < 1.0 else 1.0 / abs(x)


@inlined
def distance(row: FloatArray, p: Problem, i: int, quote: int) -> float:
    """z of a quote."""
    return float((math.sqrt(max(svi.variance(row, p.k[quote]), 0.0) / p.T[i]) - p.middle[quote]) / p.half[quote])


@allocating
def median(x: FloatArray) -> float:
    """The upper median."""
    return float(np.sort(x)[x.size // 2])


@allocating
def median_distance(row: FloatArray, p: Problem, i: int) -> float:
    """The median |z| of the quotes of expiry `i`."""
    z = np.empty(p.ends[i] - p.starts[i])
    for j in range(z.size):
        z[j] = abs(distance(row, p, i, p.starts[i] + j))
    return median(z)


POINTS = 12
"""At most as many for each condition of an expiry."""
G_GOAL, GAP_GOAL = 1e-3, 5e-4
"""What g and the gap keep above zero, so that there is some left between the points."""


@allocating
def normal_equations(
    points: FloatArray, rows: FloatArray, p: Problem, first: int, end: int, is_bound: bool, H: FloatArray, y: FloatArray
) -> float:
    """The loss of some expiries, and the sums of Gauss and Newton: H of products of slopes, y of slopes times residuals.

    H is the lower half of a matrix in which only expiries next to each other meet: H[i, j] is its element (i, i - j).
    """
    J = np.empty(10)
    loss = 0.0
    H[5 * first : 5 * end] = 0.0
    y[5 * first : 5 * end] = 0.0
    for i in range(first, end):
        row, at = rows[i], 5 * i
        b, rho, sigma, T = row[1], row[2], row[4], p.T[i]
        c = p.cutoff[i]
        for j in range(p.starts[i], p.ends[i]):
            w = _slopes_of_variance(row, p.k[j], J)
            vol = math.sqrt(w / T)
            z = (vol - p.middle[j]) / p.half[j]
            e = math.copysign(max(abs(z) - INSIDE, 0.0), z)
            if is_bound:
                trust = p.trust[j]
                loss += trust * (PULL * _huber(z) + _huber(e))
                pull, push = trust * PULL * _huber_weight(z), (trust * _huber_weight(e) if e != 0.0 else 0.0)
            else:
                loss += PULL * _rho(z, c) + _rho(e, c)
                pull, push = PULL * weight(z, c), (weight(e, c) if e != 0.0 else 0.0)
            unit = 1.0 / (2.0 * vol * T * p.half[j])
            for n in range(5):
                J[n] *= unit
            _add(H, y, at, J, 5, pull + push, pull * z + push * e)
        for n in range(1, 5):
            unit = PRIOR * (1.0 / math.exp(p.prior[i, 4]) if n == 3 else 1.0)
            residual = unit * (points[i, n] - p.prior[i, n])
            loss += 0.5 * residual * residual
            H[at + n, 0] += unit * unit
            y[at + n] += unit * residual
        if not is_bound:
            continue
        for j in range(POINTS):
            x = p.butterfly_k[i, j]
            if math.isnan(x):
                continue
            w = _slopes_of_variance(row, x, J)
            u = x - row[3]
            root = math.sqrt(u * u + sigma * sigma)
            w1 = b * (rho + u / root)
            w2 = b * sigma * sigma / (root * root * root)
            f = 1.0 - 0.5 * x * w1 / w
            g = f * f - 0.25 * w1 * w1 * (1.0 / w + 0.25) + 0.5 * w2
            unit = p.weight[i]
            residual = unit * (g - p.butterfly_target[i, j])
            if residual < 0.0:
                by_w = f * x * w1 / (w * w) + 0.25 * w1 * w1 / (w * w)
                by_w1 = -f * x / w - 0.5 * w1 * (1.0 / w + 0.25)
                bend = sigma * sigma / (root * root)
                J[0] = unit * by_w * J[0]
                J[1] = unit * (by_w * J[1] + by_w1 * w1 + 0.5 * w2)
                J[2] = unit * (by_w * J[2] + by_w1 * b * (1.0 - rho * rho))
                J[3] = unit * (by_w * J[3] - by_w1 * w2 + 1.5 * w2 * u / (root * root))
                J[4] = unit * (by_w * J[4] - by_w1 * w2 * u + 0.5 * w2 * (2.0 - 3.0 * bend))
                loss += 0.5 * residual * residual
                _add(H, y, at, J, 5, 1.0, residual)
        if i + 1 == end:
            continue
        for j in range(POINTS):
            x = p.calendar_k[i, j]
            if math.isnan(x):
                continue
            w, after = _slopes_of_variance(row, x, J), _slopes_of_variance(rows[i + 1], x, J[5:])
            unit = max(p.weight[i], p.weight[i + 1])
            residual = unit * (after / w - 1.0 - p.calendar_target[i, j])
            if residual < 0.0:
                for n in range(5):
                    J[n] *= -unit * after / (w * w)
                    J[5 + n] *= unit / w
                loss += 0.5 * residual * residual
                _add(H, y, at, J, 10, 1.0, residual)
    return loss


@inlined
def _slopes_of_variance(row: FloatArray, k: float, J: FloatArray) -> float:
    """w, and its slopes along a point's coordinates."""
    b, rho, sigma = row[1], row[2], row[4]
    s = math.sqrt(1.0 - rho * rho)
    u = k - row[3]
    root = math.sqrt(u * u + sigma * sigma)
    above = b * (rho * u + root - sigma * s)
    J[0] = row[0] + b * sigma * s
    J[1] = above
    J[2] = b * s * (u * s + sigma * rho)
    J[3] = -b * (rho + u / root)
    J[4] = b * sigma * (sigma / root - s)
    return float(J[0] + above)


@compiled
def _add(H: FloatArray, y: FloatArray, at: int, J: FloatArray, size: int, weight: float, residual: float) -> None:
    for i in range(size):
        y[at + i] += J[i] * residual
        for j in range(i + 1):
            H[at + i, i - j] += weight * J[i] * J[j]


@compiled
def solve(H: FloatArray, y: FloatArray, start: int, end: int, damping: float, L: FloatArray, step: FloatArray) -> bool:
    """(H + damping diag H) step = -y from start to end, by Cholesky's factor L, which is kept as H is."""
    for i in range(start, end):
        for j in range(max(start, i - 9), i + 1):
            total = H[i, i - j] + (damping * H[i, 0] if i == j else 0.0)
            for n in range(max(start, i - 9), j):
                total -= L[i, i - n] * L[j, j - n]
            if i > j:
                L[i, i - j] = total / L[j, 0]
            elif total > 0.0:
                L[i, 0] = math.sqrt(total)
            else:
                return False
    for i in range(start, end):
        total = -y[i]
        for n in range(max(start, i - 9), i):
            total -= L[i, i - n] * step[n]
        step[i] = total / L[i, 0]
    for i in range(end - 1, start - 1, -1):
        total = step[i]
        for n in range(i + 1, min(end, i + 10)):
            total -= L[n, n - i] * step[n]
        step[i] = total / L[i, 0]
    return True

"""A volatility surface from quotes: an SVI slice an expiry, without static arbitrage; the formulae are in `svi`.

Fit of a slice.  With z the distance of the model from the middle of bid and ask in units of half the spread, in volatility
(which is price over vega, so that spread and vega are the weight), and e what of |z| exceeds `INSIDE`,

    loss = Σ `PULL` ρ(z) + ρ(e),      ρ(x) = x²/(2 (1 + x²/c²))

The band decides; the middle only where the band does not.  ρ is Geman and McClure's: the force of a quote vanishes with the
third power of its distance beyond c half-spreads.  c is `CUTOFF`, or twice the median |z| while the model is further from its
quotes than that.  The loss is minimised by Levenberg and Marquardt's method with analytic slopes, in (ln w_min, ln b, artanh ρ,
m, ln σ), where every point is a slice.  It starts from the last fit; where that leaves half of the quotes outside, from the
best of a grid of (m, σ), for each of which the other three parameters are a linear fit: Zeliade (2009), "Quasi-explicit
calibration of Gatheral's SVI model".

Arbitrage is a penalty in the fit, and what that leaves over is removed exactly (`svi.repair`).  Penalties, not SSVI: it is
free by construction but has one skew and one curvature law for all expiries, too few to stay inside bid and ask of each.  Its
law serves as a faint prior instead: what the quotes do not determine is taken from the next expiry, in proportion to √w.  So
expiries are fitted from the last to the first, each below the one after it, which is quoted over the wider range of k, and
then once more, so that the later one has made room for the earlier where its quotes allow.
"""

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs import svi
from udfs.black76 import FloatArray
from udfs.compiled import allocating, compiled, inlined
from udfs.svi import MAX_SLOPE, NO_SLICE, Slice

IntArray = NDArray[np.int64]

INSIDE, PULL, CUTOFF = 0.95, 0.005, 3.0
"""In half-spreads but for the pull."""
PRIOR = 0.2
"""Root of the weight of a squared unit by which ln b, artanh ρ, m/σ or ln σ differ from what the next expiry suggests."""
MIN_HALF_SPREAD = 1e-4
"""In volatility; no quote weighs more than one of this half-spread."""
MIN_STRIKES = 5
"""As many as a slice has parameters."""


class Reason(IntEnum):
    """Why an expiry has no slice."""

    NONE = 0  # it has one
    EXPIRED = 1  # T is not positive and finite
    NO_FORWARD = 2  # no quote has a finite k
    NO_QUOTES = 3  # no quote has both sides, in order
    TOO_FEW_STRIKES = 4  # fewer than `MIN_STRIKES` distinct ones with a quote
    NOT_FITTED = 5  # no finite slice was found
    NOT_ASCENDING = 6  # T is not above that of the expiry before


TEXTS = {
    Reason.NONE: "",
    Reason.EXPIRED: "The expiry has passed.",
    Reason.NO_FORWARD: "There is no forward.",
    Reason.NO_QUOTES: "No option has both a bid and an ask above it.",
    Reason.TOO_FEW_STRIKES: f"Fewer than {MIN_STRIKES} strikes have a bid and an ask.",
    Reason.NOT_FITTED: "No smile was found that fits the quotes.",
    Reason.NOT_ASCENDING: "The expiry is not later than the one before it in the list.",
}


class Surface(NamedTuple):
    """Slices of several expiries, ascending in T, and how good each is; one element an expiry.  NaN where `reason` says why."""

    T: FloatArray  # years
    a: FloatArray
    b: FloatArray
    rho: FloatArray
    m: FloatArray
    sigma: FloatArray
    quotes: IntArray  # that were fitted
    excluded: IntArray  # one-sided, crossed, or not a positive number
    inside_share: FloatArray  # of the fitted quotes
    rmse_vol_points: FloatArray  # to the middle of bid and ask, by the weights of the fit
    g_min: FloatArray  # least of Durrleman's function, at the money or wherever it is
    calendar_min: FloatArray  # least total variance above the fitted expiry before, over that of the latter; NaN for the first
    is_repaired: NDArray[np.bool_]  # the fit itself was not free of arbitrage
    reason: NDArray[np.int8]

    @property
    def slices(self) -> Slice:
        """The parameters alone."""
        return Slice(self.a, self.b, self.rho, self.m, self.sigma)


def fit(
    T: ArrayLike, expiry: ArrayLike, k: ArrayLike, bid_iv: ArrayLike, ask_iv: ArrayLike, last: Slice | None = None
) -> Surface:
    """A surface from quotes.

    `T` are the years to each expiry, ascending; `expiry` is for each quote the place of its expiry in `T`, a quote of no such
    place being passed over; `k` is ln(K/F) with the forward of that expiry.  Calls and puts alike, bid and ask volatility from
    `implied_vol`.  A quote counts where both are positive numbers and the ask is not below the bid.  `last` has a slice for
    each expiry to start from, NaN where there is none.  Never raises for values; an expiry that cannot be fitted says why.
    """
    T, k, bid_iv, ask_iv = (np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (T, k, bid_iv, ask_iv))
    expiry = np.atleast_1d(np.asarray(expiry, dtype=np.int64))
    order = np.lexsort((k, expiry))
    starts = np.searchsorted(expiry[order], np.arange(T.size + 1)).astype(np.int64)
    nothing = np.full(T.shape, np.nan)
    start = Slice(*(np.array(np.broadcast_to(x, T.shape), dtype=np.float64) for x in last or [nothing] * 5))
    surface = Surface(
        T=T.copy(),
        a=start.a,
        b=start.b,
        rho=start.rho,
        m=start.m,
        sigma=start.sigma,
        quotes=np.zeros(T.shape, dtype=np.int64),
        excluded=np.zeros(T.shape, dtype=np.int64),
        inside_share=nothing.copy(),
        rmse_vol_points=nothing.copy(),
        g_min=nothing.copy(),
        calendar_min=nothing.copy(),
        is_repaired=np.zeros(T.shape, dtype=np.bool_),
        reason=np.zeros(T.shape, dtype=np.int8),
    )
    k, bid_iv, ask_iv = k[order], bid_iv[order], ask_iv[order]
    _admit(surface, starts, k, bid_iv, ask_iv)
    _fit(surface, np.flatnonzero(surface.reason == Reason.NONE), starts, k, bid_iv, ask_iv)
    return surface


def total_variance(surface: Surface, k: ArrayLike, T: ArrayLike) -> FloatArray:
    """w(k, T) between and beyond the fitted expiries; k and T broadcast.  NaN where none was fitted or T is not positive.

    Between two expiries it is linear in T at the same k, so that w increases in T if it does from slice to slice.  Before the
    first and after the last w grows in proportion to T: the volatility at each k stays.  Beyond the strikes it is the slice's
    own wing.  That no butterfly is an arbitrage is assured at the fitted expiries, not in between.
    """
    k, T = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(T, dtype=np.float64))
    fitted = np.flatnonzero(surface.reason == Reason.NONE)
    if not fitted.size:
        return np.full(T.shape, np.nan)
    years = surface.T[fitted]
    after = np.searchsorted(years, T)
    low, high = fitted[np.maximum(after - 1, 0)], fitted[np.minimum(after, years.size - 1)]
    w_low, w_high = (svi.total_variance(Slice(*(x[i] for x in surface.slices)), k) for i in (low, high))
    with np.errstate(all="ignore"):
        share = np.where(high > low, (T - surface.T[low]) / (surface.T[high] - surface.T[low]), 0.0)
        w: FloatArray = np.where(high > low, w_low + share * (w_high - w_low), w_low * T / surface.T[low])
    return np.where(T > 0.0, w, np.nan)


def vol(surface: Surface, k: ArrayLike, T: ArrayLike) -> FloatArray:
    """Volatility as a fraction, from `total_variance`."""
    with np.errstate(all="ignore"):
        v: FloatArray = np.sqrt(total_variance(surface, k, T) / np.asarray(T, dtype=np.float64))
    return v


class _Problem(NamedTuple):
    """What is fitted: an element or a line for each expiry that can be, and the quotes of all."""

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
    calendar_weight: FloatArray


# A slice is a row (a, b, ρ, m, σ), a point of the minimisation (ln w_min, ln b, artanh ρ, m, ln σ).


@inlined
def _to_slice(point: FloatArray, row: FloatArray) -> None:
    b, rho, sigma = math.exp(point[1]), math.tanh(point[2]), math.exp(point[4])
    row[0] = math.exp(point[0]) - b * sigma * math.sqrt(1.0 - rho * rho)
    row[1], row[2], row[3], row[4] = b, rho, point[3], sigma


@inlined
def _to_point(row: FloatArray, least: float, point: FloatArray) -> None:
    point[0] = math.log(max(svi.least_variance(row), least))
    point[1], point[2], point[3], point[4] = math.log(max(row[1], 1e-9)), math.atanh(row[2]), row[3], math.log(row[4])


@inlined
def _bound(point: FloatArray, level: float, first: float, last: float) -> None:
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
def _weight(x: float, c: float) -> float:
    """Slope of ρ over x."""
    root = 1.0 + x * x / (c * c)
    return 1.0 / (root * root)


_HUBER = 1.0


@inlined
def _huber(x: float) -> float:
    return 0.5 * x * x if abs(x) < _HUBER else _HUBER * (abs(x) - 0.5 * _HUBER)


@inlined
def _huber_weight(x: float) -> float:
    return 1.0 if abs(x) < _HUBER else _HUBER / abs(x)


@inlined
def _distance(row: FloatArray, p: _Problem, i: int, quote: int) -> float:
    """z of a quote."""
    return float((math.sqrt(max(svi.variance(row, p.k[quote]), 0.0) / p.T[i]) - p.middle[quote]) / p.half[quote])


@allocating
def _median(x: FloatArray) -> float:
    return float(np.sort(x)[x.size // 2])


@allocating
def _median_distance(row: FloatArray, p: _Problem, i: int) -> float:
    z = np.empty(p.ends[i] - p.starts[i])
    for j in range(z.size):
        z[j] = abs(_distance(row, p, i, p.starts[i] + j))
    return _median(z)


_POINTS = 12
_G_WEIGHT = 50.0
_G_GOAL, _GAP_GOAL = 1e-3, 5e-4


@allocating
def _normal_equations(
    points: FloatArray, rows: FloatArray, p: _Problem, first: int, end: int, is_bound: bool, H: FloatArray, y: FloatArray
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
                pull, push = PULL * _weight(z, c), (_weight(e, c) if e != 0.0 else 0.0)
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
        for j in range(_POINTS):
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
            residual = _G_WEIGHT * (g - p.butterfly_target[i, j])
            if residual < 0.0:
                by_w = f * x * w1 / (w * w) + 0.25 * w1 * w1 / (w * w)
                by_w1 = -f * x / w - 0.5 * w1 * (1.0 / w + 0.25)
                bend = sigma * sigma / (root * root)
                J[0] = _G_WEIGHT * by_w * J[0]
                J[1] = _G_WEIGHT * (by_w * J[1] + by_w1 * w1 + 0.5 * w2)
                J[2] = _G_WEIGHT * (by_w * J[2] + by_w1 * b * (1.0 - rho * rho))
                J[3] = _G_WEIGHT * (by_w * J[3] - by_w1 * w2 + 1.5 * w2 * u / (root * root))
                J[4] = _G_WEIGHT * (by_w * J[4] - by_w1 * w2 * u + 0.5 * w2 * (2.0 - 3.0 * bend))
                loss += 0.5 * residual * residual
                _add(H, y, at, J, 5, 1.0, residual)
        if i + 1 == end:
            continue
        for j in range(_POINTS):
            x = p.calendar_k[i, j]
            if math.isnan(x):
                continue
            w, after = _slopes_of_variance(row, x, J), _slopes_of_variance(rows[i + 1], x, J[5:])
            residual = p.calendar_weight[i] * (after / w - 1.0 - p.calendar_target[i, j])
            if residual < 0.0:
                for n in range(5):
                    J[n] *= -p.calendar_weight[i] * after / (w * w)
                    J[5 + n] *= p.calendar_weight[i] / w
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
def _solve(H: FloatArray, y: FloatArray, start: int, end: int, damping: float, L: FloatArray, step: FloatArray) -> bool:
    """(H + damping diag H) step = -y from start to end, by Cholesky's factor L, which is kept as H is."""
    for i in range(start, end):
        for j in range(max(start, i - 9), i + 1):
            total = H[i, i - j] + (damping * H[i, 0] if i == j else 0.0)
            for n in range(max(start, i - 9), j):
                total -= L[i, i - n] * L[j, j - n] if j - n < 10 else 0.0
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


_MAX_STEPS = 80
_HOPELESS = 1e8
_ENOUGH = 1e-6


@allocating
def _descend(rows: FloatArray, p: _Problem, first: int, end: int, is_bound: bool, steps: int) -> float:
    """Levenberg's and Marquardt's method for some expiries at once, from their slices and in place; the loss."""
    size = rows.size
    H, new_H, L = np.zeros((size, 10)), np.zeros((size, 10)), np.zeros((size, 10))
    y, new_y, step = np.zeros(size), np.zeros(size), np.zeros(size)
    points, trials = np.zeros(rows.shape), np.zeros(rows.shape)
    for i in range(first, end):
        _to_point(rows[i], 1e-4 * p.level[i], trials[i])
        _bound(trials[i], p.level[i], p.k[p.starts[i]], p.k[p.ends[i] - 1])
    points[:] = trials
    loss, damping = np.inf, 1e-3
    for _ in range(steps):
        for i in range(first, end):
            _to_slice(trials[i], rows[i])
        new_loss = _normal_equations(trials, rows, p, first, end, is_bound, new_H, new_y)
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
        while damping <= _HOPELESS and not _solve(H, y, 5 * first, 5 * end, damping, L, step):
            damping = 10.0 * max(damping, 1e-6)
        if damping > _HOPELESS:
            break
        for i in range(first, end):
            for n in range(5):
                trials[i, n] = points[i, n] + step[5 * i + n]
            _bound(trials[i], p.level[i], p.k[p.starts[i]], p.k[p.ends[i] - 1])
    for i in range(first, end):
        _to_slice(points[i], rows[i])
    return loss


_CENTRES = 9
_WIDTHS = (0.02, 0.06, 0.15, 0.4, 1.0)


@allocating
def _coarse(row: FloatArray, p: _Problem, expiry: int) -> None:
    """The best slice of a grid of (m, σ): for each, a, d = ρσb and e = σb by reweighted least squares of total variance."""
    T, level, k = p.T[expiry], p.level[expiry], p.k[p.starts[expiry] : p.ends[expiry]]
    middle, half = p.middle[p.starts[expiry] : p.ends[expiry]], p.half[p.starts[expiry] : p.ends[expiry]]
    span = k[-1] - k[0]
    w, unit = np.empty(k.size), np.empty(k.size)
    for i in range(w.size):
        w[i] = T * middle[i] * middle[i]
        unit[i] = 1.0 / (2.0 * T * middle[i] * half[i])
    typical = _median(unit)
    best = np.inf
    trial = np.empty(5)
    for place in range(_CENTRES * len(_WIDTHS)):
        m = k[0] + span * (place % _CENTRES) / (_CENTRES - 1)
        sigma = span * _WIDTHS[place // _CENTRES]
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
            loss += math.log1p(_distance(trial, p, expiry, p.starts[expiry] + i) ** 2)
        if loss < best:
            best = loss
            for i in range(5):
                row[i] = trial[i]


@allocating
def _fit_alone(rows: FloatArray, p: _Problem, i: int) -> None:
    """Fit one expiry by itself, from its slice if it has one, in place."""
    row = rows[i]
    is_near = _median_distance(row, p, i) <= 1.0
    if not (is_near and abs(row[2]) < 1.0 and row[4] > 0.0):
        _coarse(row, p, i)
    p.cutoff[i] = np.inf
    while p.cutoff[i] > CUTOFF:
        p.cutoff[i] = max(CUTOFF, min(0.5 * p.cutoff[i], 2.0 * _median_distance(row, p, i)))
        _descend(rows, p, i, i + 1, False, _MAX_STEPS)


_SETTLED = 0.02
_SWEEPS = 40
_STEPS = 30


@allocating
def _fit(surface: Surface, fitted: IntArray, starts: IntArray, k: FloatArray, middle: FloatArray, half: FloatArray) -> None:
    """Fit every expiry by itself, then all under the conditions."""
    n = fitted.size
    p = _Problem(
        surface.T[fitted],
        starts[fitted],
        starts[fitted] + surface.quotes[fitted],
        k,
        middle,
        half,
        np.empty(k.size),
        np.empty(n),
        np.empty((n, 5)),
        np.empty(n),
        np.full((n, _POINTS), np.nan),
        np.empty((n, _POINTS)),
        np.full((n, _POINTS), np.nan),
        np.empty((n, _POINTS)),
        np.empty(n),
    )
    rows = np.empty((n, 5))
    none = NO_SLICE.copy()
    for i in range(n - 1, -1, -1):
        start, end = p.starts[i], p.ends[i]
        _get(surface, fitted[i], rows[i])
        vol = _median(middle[start:end])
        p.level[i] = p.T[i] * vol * vol
        p.calendar_weight[i] = 0.5 * vol / _median(half[start:end])
        if i + 1 < n:
            _to_point(rows[i + 1], 0.1 * p.level[i + 1], p.prior[i])
            factor = math.sqrt(p.level[i] / p.level[i + 1])
            p.prior[i, 1] += math.log(factor)
            p.prior[i, 3] *= factor
            p.prior[i, 4] += math.log(factor)
            p.calendar_weight[i] = max(p.calendar_weight[i], p.calendar_weight[i + 1])
        else:
            span = k[end - 1] - k[start]
            p.prior[i, 1], p.prior[i, 2], p.prior[i, 3], p.prior[i, 4] = math.log(p.level[i] / span), 0.0, 0.0, math.log(0.5 * span)
        _fit_alone(rows, p, i)
        cutoff = max(CUTOFF, 2.0 * _median_distance(rows[i], p, i))
        for j in range(start, end):
            p.trust[j] = _weight(_distance(rows[i], p, i, j), cutoff)
    alone = rows.copy()
    _bind(rows, p)
    later = -1
    after = none.copy()
    for i in range(n - 1, -1, -1):
        expiry, row = fitted[i], rows[i]
        is_active = not (np.isnan(p.butterfly_k[i]).all() and np.isnan(p.calendar_k[i]).all() and (i == 0 or np.isnan(p.calendar_k[i - 1]).all()))
        svi.repair(row, after)
        if not svi.is_free(row, after):
            surface.reason[expiry] = Reason.NOT_FITTED
            continue
        inside = weight = squares = 0.0
        for j in range(p.starts[i], p.ends[i]):
            distance = _distance(row, p, i, j)
            inside += abs(distance) <= 1.0
            weight += 1.0 / (half[j] * half[j])
            squares += distance * distance
        surface.inside_share[expiry] = inside / surface.quotes[expiry]
        surface.rmse_vol_points[expiry] = 100.0 * math.sqrt(squares / weight)
        surface.g_min[expiry] = svi.g_min(row)
        surface.is_repaired[expiry] = is_active
        surface.a[expiry], surface.b[expiry], surface.rho[expiry] = row[0], row[1], row[2]
        surface.m[expiry], surface.sigma[expiry] = row[3], row[4]
        if later >= 0:
            surface.calendar_min[later] = svi.calendar_min(row, after)
        later = expiry
        after[:] = row
    for expiry in range(surface.T.size):
        if surface.reason[expiry]:
            surface.a[expiry] = surface.b[expiry] = surface.rho[expiry] = surface.m[expiry] = surface.sigma[expiry] = np.nan


@allocating
def _bind(rows: FloatArray, p: _Problem) -> int:
    """Bring all slices under the conditions."""
    n, none = rows.shape[0], NO_SLICE.copy()
    change = 0.0
    for sweep in range(_SWEEPS):
        is_any = False
        for i in range(n):
            is_any |= _watch(rows[i], none, _G_GOAL, p.butterfly_k[i], p.butterfly_target[i])
            if i + 1 < n:
                is_any |= _watch(rows[i], rows[i + 1], _GAP_GOAL, p.calendar_k[i], p.calendar_target[i])
        if not is_any and change < _SETTLED:
            break
        change = 0.0
        first = 0
        while first < n:
            end = first + 1
            while end < n and not np.isnan(p.calendar_k[end - 1]).all():
                end += 1
            if end > first + 1 or not np.isnan(p.butterfly_k[first]).all():
                _descend(rows, p, first, end, True, _STEPS)
            first = end
        for i in range(n):
            change = max(change, _shift(rows[i], none, _G_GOAL, p.butterfly_k[i], p.butterfly_target[i]) * _G_WEIGHT)
            if i + 1 < n:
                change = max(change, _shift(rows[i], rows[i + 1], _GAP_GOAL, p.calendar_k[i], p.calendar_target[i]) * p.calendar_weight[i])
    return sweep


@allocating
def _watch(row: FloatArray, after: FloatArray, goal: float, points: FloatArray, targets: FloatArray) -> bool:
    """Take up where g, or the gap up to `after`, is least; whether it is below half of the goal anywhere."""
    lows = np.empty(_POINTS)
    is_gap, is_below = not math.isnan(after[0]), svi.minima(row, after, 4.0 * goal, lows) < 0.5 * goal
    for i in range(lows.size + 2):
        x = lows[i] if i < lows.size else (_FAR if i == lows.size else -_FAR)
        if math.isnan(x):
            continue
        value = svi.watched(row, after, is_gap, x)
        is_below |= value < 0.5 * goal
        width = 0.1 * math.sqrt((x - row[3]) ** 2 + row[4] ** 2)
        slot, slack = -1, 4.0 * goal
        for j in range(_POINTS):
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


_FAR = 1e4
"""k so far out that only the slopes of the wings count."""


@compiled
def _shift(row: FloatArray, after: FloatArray, goal: float, points: FloatArray, targets: FloatArray) -> float:
    """Move the targets so that they press as hard from the goal as they do now; the greatest distance to the goal or of the move."""
    greatest = 0.0
    is_gap = not math.isnan(after[0])
    for j in range(points.size):
        if math.isnan(points[j]):
            continue
        missing = targets[j] - svi.watched(row, after, is_gap, points[j])
        target = goal + max(missing, 0.0)
        greatest = max(greatest, abs(target - targets[j]))
        targets[j] = target
    return greatest


@compiled
def _admit(surface: Surface, starts: IntArray, k: FloatArray, bid: FloatArray, ask: FloatArray) -> None:
    """Move each expiry's good quotes to the front, as k, middle and half spread, and say why there are too few."""
    before = 0.0
    for expiry in range(surface.T.size):
        n = start = starts[expiry]
        strikes = finite = 0
        for i in range(start, starts[expiry + 1]):
            finite += math.isfinite(k[i])
            if math.isfinite(k[i]) and bid[i] > 0.0 and ask[i] >= bid[i] and ask[i] < np.inf:
                middle, half = 0.5 * (bid[i] + ask[i]), max(0.5 * (ask[i] - bid[i]), MIN_HALF_SPREAD)
                k[n], bid[n], ask[n] = k[i], middle, half
                strikes += n == start or k[n] > k[n - 1]
                n += 1
        surface.quotes[expiry], surface.excluded[expiry] = n - start, starts[expiry + 1] - n
        reason = Reason.NONE
        if not (surface.T[expiry] > 0.0 and math.isfinite(surface.T[expiry])):
            reason = Reason.EXPIRED
        elif surface.T[expiry] <= before:
            reason = Reason.NOT_ASCENDING
        elif start < starts[expiry + 1] and not finite:
            reason = Reason.NO_FORWARD
        elif n == start:
            reason = Reason.NO_QUOTES
        elif strikes < MIN_STRIKES:
            reason = Reason.TOO_FEW_STRIKES
        surface.reason[expiry] = reason
        if surface.T[expiry] > before:
            before = surface.T[expiry]


@inlined
def _get(surface: Surface, expiry: int, row: FloatArray) -> None:
    """The slice of an expiry; none for -1."""
    if expiry < 0:
        row[:] = np.nan
    else:
        row[0], row[1], row[2] = surface.a[expiry], surface.b[expiry], surface.rho[expiry]
        row[3], row[4] = surface.m[expiry], surface.sigma[expiry]

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
    _fit(surface, starts, k[order], bid_iv[order], ask_iv[order])
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


class _Quotes(NamedTuple):
    """What a slice is fitted to: quotes ascending in k, and what the next expiry says."""

    T: float
    k: FloatArray
    middle: FloatArray  # of bid and ask volatility
    half: FloatArray  # half of their distance
    level: float  # typical total variance
    scale: float  # half a typical spread in total variance: the unit of the calendar penalty
    before: FloatArray  # the slice of the expiry before, or `NO_SLICE`
    after: FloatArray  # and of the next one
    prior: FloatArray  # a point; its first coordinate is not used
    penalty: float  # one of `_PENALTIES`


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
def _bound(point: FloatArray, q: _Quotes) -> None:
    """Keep a point where its parameters still show in the quotes."""
    first, last = q.k[0], q.k[-1]
    span = last - first
    point[0] = min(max(point[0], math.log(1e-4 * q.level)), math.log(1e2 * q.level))
    point[1] = min(max(point[1], math.log(1e-3 * q.level / span)), math.log(MAX_SLOPE))
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


@inlined
def _distance(row: FloatArray, q: _Quotes, i: int) -> float:
    """z of a quote."""
    return float((math.sqrt(max(svi.variance(row, q.k[i]), 0.0) / q.T) - q.middle[i]) / q.half[i])


@allocating
def _median(x: FloatArray) -> float:
    return float(np.sort(x)[x.size // 2])


@allocating
def _median_distance(row: FloatArray, q: _Quotes) -> float:
    z = np.empty(q.k.size)
    for i in range(z.size):
        z[i] = abs(_distance(row, q, i))
    return _median(z)


_PENALTIES = (100.0, 1000.0)
"""Of g and of the wings' slopes; the second where the first leaves an arbitrage."""
_YIELD = 0.1
"""Of the penalty for being above the next expiry, for being below the one before: that one still gives way."""
_G_GOAL = 2e-3
_GRID = 61
"""Points on which the penalties are taken: the quoted range and as much again to either side."""


@allocating
def _normal_equations(point: FloatArray, row: FloatArray, q: _Quotes, c: float, H: FloatArray, y: FloatArray) -> float:
    """The loss, and the sums of Gauss and Newton: H of products of slopes, y of slopes times residuals."""
    b, rho, m, sigma = row[1], row[2], row[3], row[4]
    s = math.sqrt(1.0 - rho * rho)
    least = row[0] + b * sigma * s
    J = np.empty(5)
    loss = 0.0
    for i in range(5):
        y[i] = 0.0
        for j in range(5):
            H[i, j] = 0.0
    for i in range(q.k.size):
        u = q.k[i] - m
        root = math.sqrt(u * u + sigma * sigma)
        w = row[0] + b * (rho * u + root)
        vol = math.sqrt(w / q.T)
        z = (vol - q.middle[i]) / q.half[i]
        e = math.copysign(max(abs(z) - INSIDE, 0.0), z)
        loss += PULL * _rho(z, c) + _rho(e, c)
        pull, push = PULL * _weight(z, c), (_weight(e, c) if e != 0.0 else 0.0)
        _slopes_of_variance(b, rho, sigma, s, least, u, root, w, 1.0 / (2.0 * vol * q.T * q.half[i]), J)
        _add(H, y, J, pull + push, pull * z + push * e)
    span = q.k[-1] - q.k[0]
    for i in range(_GRID):
        x = q.k[0] - span + 3.0 * span * i / (_GRID - 1)
        u = x - m
        root = math.sqrt(u * u + sigma * sigma)
        w = row[0] + b * (rho * u + root)
        w1 = b * (rho + u / root)
        w2 = b * sigma * sigma / (root * root * root)
        f = 1.0 - 0.5 * x * w1 / w
        g = f * f - 0.25 * w1 * w1 * (1.0 / w + 0.25) + 0.5 * w2
        if g < _G_GOAL:
            _slopes_of_variance(b, rho, sigma, s, least, u, root, w, 1.0, J)
            by_w = f * x * w1 / (w * w) + 0.25 * w1 * w1 / (w * w)
            by_w1 = -f * x / w - 0.5 * w1 * (1.0 / w + 0.25)
            bend = sigma * sigma / (root * root)
            J[0] = q.penalty * by_w * J[0]
            J[1] = q.penalty * (by_w * J[1] + by_w1 * w1 + 0.5 * w2)
            J[2] = q.penalty * (by_w * J[2] + by_w1 * b * s * s)
            J[3] = q.penalty * (by_w * J[3] - by_w1 * w2 + 1.5 * w2 * u / (root * root))
            J[4] = q.penalty * (by_w * J[4] - by_w1 * w2 * u + 0.5 * w2 * (2.0 - 3.0 * bend))
            residual = q.penalty * (g - _G_GOAL)
            loss += 0.5 * residual * residual
            _add(H, y, J, 1.0, residual)
        for side in range(2):
            # Above the expiry before, below the one after.
            sign = 2.0 * side - 1.0
            residual = sign * (w - svi.variance(q.after if side else q.before, x)) / q.scale * (1.0 if side else _YIELD)
            if residual > 0.0:
                unit = sign / q.scale * (1.0 if side else _YIELD)
                _slopes_of_variance(b, rho, sigma, s, least, u, root, w, unit, J)
                loss += 0.5 * residual * residual
                _add(H, y, J, 1.0, residual)
    for wing in range(2):
        right = 2.0 * wing - 1.0
        slope = b * (1.0 + right * rho)
        for side in range(2):
            other = q.after if side else q.before
            limit = other[1] * (1.0 + right * other[2])
            if side:
                limit = 0.99 * min(MAX_SLOPE, limit if limit > 0.0 else MAX_SLOPE)
            unit = (q.penalty if side else -_YIELD * q.penalty) / limit
            residual = unit * (slope - limit)
            if residual > 0.0:
                J[0], J[1], J[2], J[3], J[4] = 0.0, unit * slope, unit * b * right * s * s, 0.0, 0.0
                loss += 0.5 * residual * residual
                _add(H, y, J, 1.0, residual)
    for i in range(1, 5):
        unit = PRIOR * (1.0 / math.exp(q.prior[4]) if i == 3 else 1.0)
        residual = unit * (point[i] - q.prior[i])
        loss += 0.5 * residual * residual
        H[i, i] += unit * unit
        y[i] += unit * residual
    return loss


@inlined
def _slopes_of_variance(
    b: float, rho: float, sigma: float, s: float, least: float, u: float, root: float, w: float, unit: float, J: FloatArray
) -> None:
    """Slopes of w along a point's coordinates, times `unit`."""
    J[0] = least * unit
    J[1] = (w - least) * unit
    J[2] = b * s * (u * s + sigma * rho) * unit
    J[3] = -b * (rho + u / root) * unit
    J[4] = b * sigma * (sigma / root - s) * unit


@compiled
def _add(H: FloatArray, y: FloatArray, J: FloatArray, weight: float, residual: float) -> None:
    for i in range(5):
        y[i] += J[i] * residual
        for j in range(i + 1):
            H[i, j] += weight * J[i] * J[j]


@compiled
def _solve(H: FloatArray, y: FloatArray, damping: float, L: FloatArray, step: FloatArray) -> bool:
    """(H + damping diag H) step = -y, by Cholesky's factor L."""
    for i in range(5):
        for j in range(i + 1):
            total = H[i, j] + (damping * H[i, i] if i == j else 0.0)
            for n in range(j):
                total -= L[i, n] * L[j, n]
            if i > j:
                L[i, j] = total / L[j, j]
            elif total > 0.0:
                L[i, i] = math.sqrt(total)
            else:
                return False
    for i in range(5):
        total = -y[i]
        for n in range(i):
            total -= L[i, n] * step[n]
        step[i] = total / L[i, i]
    for i in range(4, -1, -1):
        total = step[i]
        for n in range(i + 1, 5):
            total -= L[n, i] * step[n]
        step[i] = total / L[i, i]
    return True


_MAX_STEPS = 80
_HOPELESS = 1e8
_ENOUGH = 1e-6


@allocating
def _descend(row: FloatArray, q: _Quotes, c: float) -> None:
    """Levenberg's and Marquardt's method, from the slice and in place."""
    H, y, new_H, new_y, L = np.zeros((5, 5)), np.zeros(5), np.empty((5, 5)), np.empty(5), np.empty((5, 5))
    point, trial, step = np.empty(5), np.empty(5), np.empty(5)
    _to_point(row, 1e-4 * q.level, trial)
    _bound(trial, q)
    for i in range(5):
        point[i] = trial[i]
    loss, damping = np.inf, 1e-3
    for _ in range(_MAX_STEPS):
        _to_slice(trial, row)
        new_loss = _normal_equations(trial, row, q, c, new_H, new_y)
        if new_loss < loss:
            gain = loss - new_loss
            loss = new_loss
            point, trial = trial, point
            H, new_H = new_H, H
            y, new_y = new_y, y
            damping *= 0.2
            if gain < _ENOUGH * loss:
                break
        else:
            damping *= 5.0
        while damping <= _HOPELESS and not _solve(H, y, damping, L, step):
            damping = 10.0 * max(damping, 1e-6)
        if damping > _HOPELESS:
            break
        for i in range(5):
            trial[i] = point[i] + step[i]
        _bound(trial, q)
    _to_slice(point, row)


_CENTRES = 9
_WIDTHS = (0.02, 0.06, 0.15, 0.4, 1.0)


@allocating
def _coarse(row: FloatArray, q: _Quotes) -> None:
    """The best slice of a grid of (m, σ): for each, a, d = ρσb and e = σb by reweighted least squares of total variance."""
    span = q.k[-1] - q.k[0]
    w, unit = np.empty(q.k.size), np.empty(q.k.size)
    for i in range(w.size):
        w[i] = q.T * q.middle[i] * q.middle[i]
        unit[i] = 1.0 / (2.0 * q.T * q.middle[i] * q.half[i])
    typical = _median(unit)
    best = np.inf
    trial = np.empty(5)
    for place in range(_CENTRES * len(_WIDTHS)):
        m = q.k[0] + span * (place % _CENTRES) / (_CENTRES - 1)
        sigma = span * _WIDTHS[place // _CENTRES]
        a, d, e = q.level, 0.0, 0.0
        for _ in range(4):
            s00 = s01 = s02 = s11 = s12 = s22 = y0 = y1 = y2 = 0.0
            for i in range(w.size):
                x1 = (q.k[i] - m) / sigma
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
        e = max(e, 1e-6 * q.level)
        d = max(min(d, 0.95 * e), -0.95 * e)
        trial[0] = max(a, 1e-3 * q.level - math.sqrt(e * e - d * d))
        trial[1], trial[2], trial[3], trial[4] = e / sigma, d / e, m, sigma
        loss = 0.0
        for i in range(w.size):
            loss += math.log1p(_distance(trial, q, i) ** 2)
        if loss < best:
            best = loss
            for i in range(5):
                row[i] = trial[i]


@allocating
def _fit_slice(row: FloatArray, q: _Quotes) -> None:
    """Fit one expiry, from the slice if it has one, in place."""
    is_near = _median_distance(row, q) <= 1.0
    if not (is_near and abs(row[2]) < 1.0 and row[4] > 0.0):
        _coarse(row, q)
    c = np.inf
    while c > CUTOFF:
        c = max(CUTOFF, min(0.5 * c, 2.0 * _median_distance(row, q)))
        _descend(row, q, c)


@allocating
def _fit(surface: Surface, starts: IntArray, k: FloatArray, bid: FloatArray, ask: FloatArray) -> None:
    """Fit every expiry by itself, then twice between its neighbours.  k, bid and ask are overwritten."""
    _admit(surface, starts, k, bid, ask)
    for sweep in range(3):
        _sweep(surface, starts, k, bid, ask, sweep > 0)
    row, after = np.empty(5), np.empty(5)
    later = -1
    for expiry in range(surface.T.size - 1, -1, -1):
        if surface.reason[expiry]:
            surface.a[expiry] = surface.b[expiry] = surface.rho[expiry] = surface.m[expiry] = surface.sigma[expiry] = np.nan
            surface.is_repaired[expiry] = False
            continue
        _get(surface, expiry, row)
        inside = weights = squares = 0.0
        for i in range(starts[expiry], starts[expiry] + surface.quotes[expiry]):
            half = ask[i]
            distance = math.sqrt(svi.variance(row, k[i]) / surface.T[expiry]) - bid[i]
            inside += abs(distance) <= half
            weights += 1.0 / (half * half)
            squares += distance * distance / (half * half)
        surface.inside_share[expiry] = inside / surface.quotes[expiry]
        surface.rmse_vol_points[expiry] = 100.0 * math.sqrt(squares / weights)
        surface.g_min[expiry] = svi.g_min(row)
        if later >= 0:
            _get(surface, later, after)
            surface.calendar_min[later] = svi.calendar_min(row, after)
        later = expiry


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


@allocating
def _sweep(
    surface: Surface, starts: IntArray, all_k: FloatArray, middles: FloatArray, halves: FloatArray, is_bound: bool
) -> None:
    """Fit the expiries from the last to the first, each from its slice in the surface, bound by its neighbours or not."""
    row, before, after, prior = np.empty(5), np.empty(5), NO_SLICE.copy(), np.empty(5)
    later, later_level = -1, np.nan
    for expiry in range(surface.T.size - 1, -1, -1):
        if surface.reason[expiry]:
            continue
        T, start, end = surface.T[expiry], starts[expiry], starts[expiry] + surface.quotes[expiry]
        k, middle, half = all_k[start:end], middles[start:end], halves[start:end]
        vol = _median(middle)
        level = T * vol * vol
        if later < 0:
            span = k[-1] - k[0]
            prior[0], prior[1], prior[2], prior[3], prior[4] = 0.0, math.log(level / span), 0.0, 0.0, math.log(0.5 * span)
        else:
            _get(surface, later, after)
            _to_point(after, 0.1 * later_level, prior)
            factor = math.sqrt(level / later_level)
            prior[1] += math.log(factor)
            prior[3] *= factor
            prior[4] += math.log(factor)
        _get(surface, expiry, row)
        scale = 2.0 * T * vol * _median(half)
        earlier = expiry - 1
        while earlier >= 0 and surface.reason[earlier]:
            earlier -= 1
        _get(surface, earlier if is_bound else -1, before)
        for penalty in _PENALTIES:
            _fit_slice(row, _Quotes(T, k, middle, half, level, scale, before, after if is_bound else NO_SLICE, prior, penalty))
            if not is_bound or svi.is_free(row, after):
                break
        if is_bound:
            surface.is_repaired[expiry] = svi.repair(row, after)
            if not svi.is_free(row, after):
                surface.reason[expiry] = Reason.NOT_FITTED
                continue
        surface.a[expiry], surface.b[expiry], surface.rho[expiry] = row[0], row[1], row[2]
        surface.m[expiry], surface.sigma[expiry] = row[3], row[4]
        later, later_level = expiry, level


@inlined
def _get(surface: Surface, expiry: int, row: FloatArray) -> None:
    """The slice of an expiry; none for -1."""
    if expiry < 0:
        row[:] = np.nan
    else:
        row[0], row[1], row[2] = surface.a[expiry], surface.b[expiry], surface.rho[expiry]
        row[3], row[4] = surface.m[expiry], surface.sigma[expiry]

"""A volatility surface from quotes: an SVI slice an expiry, without static arbitrage; the formulae are in `svi`.

Each slice alone.  With z the distance of the model from the middle of bid and ask in units of half the spread, in volatility
(which is price over vega, so that spread and vega are the weight), and e what of |z| exceeds `INSIDE`,

    loss = Σ `PULL` ρ(z) + ρ(e),      ρ(x) = x²/(2 (1 + x²/c²))

The band decides; the middle only where the band does not.  ρ is Geman and McClure's: the force of a quote vanishes with the
third power of its distance beyond c half-spreads.  c is `CUTOFF`, or twice the median |z| while the model is further from its
quotes than that.  The loss is minimised by Levenberg and Marquardt's method with analytic slopes, in (ln w_min, ln b, artanh ρ,
m, ln σ), where every point is a slice.  It starts from the last fit; where that leaves half of the quotes outside, from the
best of a grid of (m, σ), for each of which the other three parameters are a linear fit: Zeliade (2009), "Quasi-explicit
calibration of Gatheral's SVI model".  SSVI's law is a faint prior: what the quotes do not determine is taken from the next
expiry, in proportion to √w.

All slices together.  Most have no arbitrage then, and are left alone.  Where some have, the loss is minimised under the
conditions that g ≥ 0 and that w is nowhere above the next expiry's, for all k.  A neighbour that is in the way gives way too:
slices that meet are fitted together, which makes the normal equations a band.  The conditions are a semi-infinite program:
they are kept at the local minima of g and of the gap, far wings included, which are searched anew after each minimisation
(exchange method: Hettich and Kortanek (1993), "Semi-infinite programming", SIAM Review 35).  They are kept exactly, not by a
penalty that leaves something over: each is a squared residual whose target moves by what was missing, until nothing is (method
of multipliers: Powell (1969), "A method for nonlinear constraints in minimization problems").  Under the conditions a quote may
have to stay outside; so that it is not let go, as what is far is by ρ, its force has a bound instead of an end (Huber's
loss), and counts by what it counted for in the slice alone.

What rounding leaves over `svi.repair` removes.  A slice that is worse than the slice alone by more than `LEAST_SHARE` of its
quotes, or by `MOST_POINTS`, says so in `reason`, and so does one that is off by `MOST_POINTS` at the money.
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

INSIDE, PULL, CUTOFF = 0.95, 0.02, 3.0
"""In half-spreads but for the pull."""
PRIOR = 0.2
"""Root of the weight of a squared unit by which ln b, artanh ρ, m/σ or ln σ differ from what the next expiry suggests."""
MIN_HALF_SPREAD = 1e-4
"""In volatility; no quote weighs more than one of this half-spread."""
MIN_STRIKES = 5
"""As many as a slice has parameters."""


MOST_POINTS = 0.5
"""In points of 0.01 of volatility: how much worse a slice may be than the best with arbitrage, at the money or on average, or
how far outside of its quotes at the money, before its `reason` says so."""
LEAST_SHARE = 0.1
"""How much less of its quotes a slice may be inside of than the best with arbitrage, before its `reason` says so."""


class Reason(IntEnum):
    """Why an expiry has no slice, or one that is far from its quotes."""

    NONE = 0  # it has one, and that is near them
    EXPIRED = 1  # T is not positive and finite
    NO_FORWARD = 2  # no quote has a finite k
    NO_QUOTES = 3  # no quote has both sides, in order
    TOO_FEW_STRIKES = 4  # fewer than `MIN_STRIKES` distinct ones with a quote
    NOT_FITTED = 5  # no finite slice was found
    NOT_ASCENDING = 6  # T is not above that of the expiry before
    ARBITRAGE = 7  # it has one, which is worse than one with arbitrage by more than the bound
    OFF_AT_MONEY = 8  # it has one, which is off at the money by more than the bound


TEXTS = {
    Reason.NONE: "",
    Reason.EXPIRED: "The expiry has passed.",
    Reason.NO_FORWARD: "There is no forward.",
    Reason.NO_QUOTES: "No option has both a bid and an ask above it.",
    Reason.TOO_FEW_STRIKES: f"Fewer than {MIN_STRIKES} strikes have a bid and an ask.",
    Reason.NOT_FITTED: "No smile was found that fits the quotes.",
    Reason.NOT_ASCENDING: "The expiry is not later than the one before it in the list.",
    Reason.ARBITRAGE: (
        f"The quotes have an arbitrage: a smile without it is worse by more than {MOST_POINTS} vol points "
        f"or {LEAST_SHARE:.0%} of the quotes."
    ),
    Reason.OFF_AT_MONEY: (
        f"At the money the smile is outside bid and ask and more than {MOST_POINTS} vol points from their middle."
    ),
}


class Surface(NamedTuple):
    """Slices of several expiries, ascending in T, and how good each is; one element an expiry.

    NaN where there is no slice, and `reason` says why.  A slice may have a reason too: why it is far from its quotes.
    """

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
    is_repaired: NDArray[np.bool_]  # the best fit is not free of arbitrage: this is the best that is
    reason: NDArray[np.int8]

    @property
    def slices(self) -> Slice:
        """The parameters alone."""
        return Slice(self.a, self.b, self.rho, self.m, self.sigma)

    @property
    def is_fitted(self) -> NDArray[np.bool_]:
        """Whether an expiry has a slice."""
        return np.isfinite(self.a)


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
    quoted_k, middle, half = (np.asarray(x, dtype=np.float64)[order] for x in (k, bid_iv, ask_iv))
    _admit(surface, starts, quoted_k, middle, half)
    is_quoted = surface.reason == Reason.NONE
    for x in surface.slices:
        x[~is_quoted] = np.nan
    _fit(surface, np.flatnonzero(is_quoted), starts, quoted_k, middle, half)
    return surface


def total_variance(surface: Surface, k: ArrayLike, T: ArrayLike) -> FloatArray:
    """w(k, T) between and beyond the fitted expiries; k and T broadcast.  NaN where none was fitted or T is not positive.

    Between two expiries it is linear in T at the same k, so that w increases in T if it does from slice to slice.  Before the
    first and after the last w grows in proportion to T: the volatility at each k stays.  Beyond the strikes it is the slice's
    own wing.  That no butterfly is an arbitrage is assured at the fitted expiries, not in between.
    """
    k, T = np.broadcast_arrays(np.asarray(k, dtype=np.float64), np.asarray(T, dtype=np.float64))
    fitted = np.flatnonzero(surface.is_fitted)
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
    weight: FloatArray  # of both: half-spreads for a unit


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


@inlined
def _huber(x: float) -> float:
    """Huber's loss: its force is that of one half-spread from there on."""
    return 0.5 * x * x if abs(x) < 1.0 else abs(x) - 0.5


@inlined
def _huber_weight(x: float) -> float:
    """Its slope over x."""
    return 1.0 if abs(x) < 1.0 else 1.0 / abs(x)


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
"""At most as many for each condition of an expiry."""
_G_GOAL, _GAP_GOAL = 1e-3, 5e-4
"""What g and the gap keep above zero, so that there is some left between the points."""


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
        for j in range(_POINTS):
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
def _solve(H: FloatArray, y: FloatArray, start: int, end: int, damping: float, L: FloatArray, step: FloatArray) -> bool:
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


_MAX_CUTOFFS = 32
"""Enough from a model that is 10⁹ half-spreads away; what is further, or no number, comes to no end otherwise."""


@allocating
def _fit_alone(rows: FloatArray, p: _Problem, i: int) -> None:
    """Fit one expiry by itself, from its slice if it has one, in place."""
    row = rows[i]
    is_near = _median_distance(row, p, i) <= 1.0
    if not (is_near and abs(row[2]) < 1.0 and row[4] > 0.0):
        _coarse(row, p, i)
    p.cutoff[i] = np.inf
    for _ in range(_MAX_CUTOFFS):
        p.cutoff[i] = max(CUTOFF, min(0.5 * p.cutoff[i], 2.0 * _median_distance(row, p, i)))
        _descend(rows, p, i, i + 1, False, _MAX_STEPS)
        if p.cutoff[i] <= CUTOFF:
            break


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
        np.zeros((n, 5)),
        np.empty(n),
        np.full((n, _POINTS), np.nan),
        np.empty((n, _POINTS)),
        np.full((n, _POINTS), np.nan),
        np.empty((n, _POINTS)),
        np.empty(n),
    )
    rows = np.empty((n, 5))
    for i in range(n - 1, -1, -1):
        start, end, vol = p.starts[i], p.ends[i], _median(middle[p.starts[i] : p.ends[i]])
        p.level[i] = p.T[i] * vol * vol
        p.weight[i] = 0.5 * vol / _median(half[start:end])
        if i + 1 < n:
            factor = math.sqrt(p.level[i] / p.level[i + 1])
            _to_point(rows[i + 1], 0.1 * p.level[i + 1], p.prior[i])
            p.prior[i, 1] += math.log(factor)
            p.prior[i, 3] *= factor
            p.prior[i, 4] += math.log(factor)
        else:
            span = k[end - 1] - k[start]
            p.prior[i, 1], p.prior[i, 4] = math.log(p.level[i] / span), math.log(0.5 * span)
        _get(surface, fitted[i], rows[i])
        _fit_alone(rows, p, i)
        cutoff = max(CUTOFF, 2.0 * _median_distance(rows[i], p, i))
        for j in range(start, end):
            p.trust[j] = _weight(_distance(rows[i], p, i, j), cutoff)
    alone = rows.copy()
    _bind(rows, p)
    after, later = NO_SLICE.copy(), -1
    for i in range(n - 1, -1, -1):
        expiry, row = fitted[i], rows[i]
        svi.repair(row, after)
        if not svi.is_free(row, after):
            surface.reason[expiry] = Reason.NOT_FITTED
            surface.a[expiry] = surface.b[expiry] = surface.rho[expiry] = surface.m[expiry] = surface.sigma[expiry] = np.nan
            continue
        inside, rmse, vol = _quality(row, p, i)
        surface.a[expiry], surface.b[expiry], surface.rho[expiry] = row[0], row[1], row[2]
        surface.m[expiry], surface.sigma[expiry] = row[3], row[4]
        surface.inside_share[expiry], surface.rmse_vol_points[expiry] = inside, rmse
        surface.g_min[expiry] = svi.g_min(row)
        surface.is_repaired[expiry] = np.any(row != alone[i])
        best_inside, best_rmse, best_vol = _quality(alone[i], p, i)
        if max(rmse - best_rmse, 100.0 * abs(vol - best_vol)) > MOST_POINTS or best_inside - inside > LEAST_SHARE:
            surface.reason[expiry] = Reason.ARBITRAGE
        elif _is_off(vol, p, i):
            surface.reason[expiry] = Reason.OFF_AT_MONEY
        if later >= 0:
            surface.calendar_min[later] = svi.calendar_min(row, after)
        later = expiry
        after[:] = row


@allocating
def _quality(row: FloatArray, p: _Problem, i: int) -> tuple[float, float, float]:
    """Share of quotes inside, root mean square distance to their middle in vol points, and volatility at the money."""
    inside = weights = squares = 0.0
    for j in range(p.starts[i], p.ends[i]):
        z = _distance(row, p, i, j)
        inside += abs(z) <= 1.0
        weights += 1.0 / (p.half[j] * p.half[j])
        squares += z * z
    share = inside / (p.ends[i] - p.starts[i])
    return share, 100.0 * math.sqrt(squares / weights), math.sqrt(max(svi.variance(row, 0.0), 0.0) / p.T[i])


@compiled
def _is_off(vol: float, p: _Problem, i: int) -> bool:
    """Whether a volatility is outside the bid and ask at the money, and further than `MOST_POINTS` from their middle.

    They are interpolated between the strikes next to the forward, at each from its narrowest quote; where all strikes are on
    one side, the nearest counts.
    """
    low = high = -1
    for j in range(p.starts[i], p.ends[i]):
        k, half = p.k[j], p.half[j]
        if k <= 0.0 and (low < 0 or k > p.k[low] or half < p.half[low]):
            low = j
        if k >= 0.0 and (high < 0 or (k == p.k[high] and half < p.half[high])):
            high = j
    low, high = (high if low < 0 else low), (low if high < 0 else high)
    share = -p.k[low] / (p.k[high] - p.k[low]) if p.k[high] > p.k[low] else 0.0
    middle = p.middle[low] + share * (p.middle[high] - p.middle[low])
    half = p.half[low] + share * (p.half[high] - p.half[low])
    return bool(abs(vol - middle) > max(half, 0.01 * MOST_POINTS))


_MAX_EXCHANGES = 40
_SETTLED = 0.02
"""In half-spreads: by how much no target moves any more."""


@allocating
def _bind(rows: FloatArray, p: _Problem) -> None:
    """Bring all slices under the conditions, in place: to where the loss is least."""
    n, none = rows.shape[0], NO_SLICE.copy()
    change = 0.0
    for _ in range(_MAX_EXCHANGES):
        is_below = False
        for i in range(n):
            is_below |= _watch(rows[i], none, _G_GOAL, p.butterfly_k[i], p.butterfly_target[i])
            if i + 1 < n:
                is_below |= _watch(rows[i], rows[i + 1], _GAP_GOAL, p.calendar_k[i], p.calendar_target[i])
        if not is_below and change < _SETTLED:
            break
        first = 0
        while first < n:
            end = first + 1
            while end < n and not np.isnan(p.calendar_k[end - 1]).all():
                end += 1
            if end > first + 1 or not np.isnan(p.butterfly_k[first]).all():
                _descend(rows, p, first, end, True, 30)
            first = end
        change = 0.0
        for i in range(n):
            moved = _shift(rows[i], none, _G_GOAL, p.butterfly_k[i], p.butterfly_target[i])
            change = max(change, p.weight[i] * moved)
            if i + 1 < n:
                moved = _shift(rows[i], rows[i + 1], _GAP_GOAL, p.calendar_k[i], p.calendar_target[i])
                change = max(change, max(p.weight[i], p.weight[i + 1]) * moved)


_FAR = 1e4
"""k so far out that only the slopes of the wings count."""


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

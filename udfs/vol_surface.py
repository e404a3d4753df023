"""A volatility surface from quotes: an SVI slice for each expiry, without static arbitrage.  The formulas are in `svi`.

Each slice is first fitted alone (`smile_fit`, by the loss of `smile_loss`), then all slices together under the conditions that
there is no arbitrage (`smile_conditions`).  `svi.repair` removes what rounding leaves over.  A slice that is worse than the
slice alone by more than `LEAST_SHARE` of its quotes, or by `MOST_POINTS`, has a `reason`, and so does one that is off by
`MOST_POINTS` at the money.
"""

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs import svi
from udfs.black76 import FloatArray
from udfs.compiled import allocating, compiled, inlined
from udfs.smile_conditions import bind
from udfs.smile_fit import fit_alone
from udfs.smile_loss import CUTOFF, POINTS, IntArray, Problem, distance, median, median_distance, to_point, weight
from udfs.svi import NO_SLICE, Slice

MIN_HALF_SPREAD = 1e-4
"""In volatility; no quote weighs more than one of this half-spread."""
MIN_STRIKES = 5
"""As many as a slice has parameters."""


MOST_POINTS = 0.5
"""In points of 0.01 of volatility: how much worse a slice may be than the best with arbitrage, at the money or on average, or
how far outside of its quotes at the money, before it has a `reason`."""
LEAST_SHARE = 0.1
"""How much smaller the share of quotes inside may be than that of the best slice with arbitrage, before it has a `reason`."""


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

    NaN where there is no slice, with the cause in `reason`.  A slice may have a reason too: why it is far from its quotes.
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

    `T` are the years to each expiry, ascending; `expiry` is for each quote the index of its expiry in `T`; quotes with any
    other index are skipped; `k` is ln(K/F) with the forward of that expiry.  Calls and puts alike, bid and ask volatility from
    `implied_vol`.  A quote counts where both are positive numbers and the ask is not below the bid.  `last` has a slice for
    each expiry to start from, NaN where there is none.  Never raises for values; an expiry that cannot be fitted has a
    `reason`.
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


@allocating
def _fit(surface: Surface, fitted: IntArray, starts: IntArray, k: FloatArray, middle: FloatArray, half: FloatArray) -> None:
    """Fit every expiry alone, then all under the conditions."""
    n = fitted.size
    p = Problem(
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
        np.full((n, POINTS), np.nan),
        np.empty((n, POINTS)),
        np.full((n, POINTS), np.nan),
        np.empty((n, POINTS)),
        np.empty(n),
    )
    rows = np.empty((n, 5))
    for i in range(n - 1, -1, -1):
        start, end, vol = p.starts[i], p.ends[i], median(middle[p.starts[i] : p.ends[i]])
        p.level[i] = p.T[i] * vol * vol
        p.weight[i] = 0.5 * vol / median(half[start:end])
        if i + 1 < n:
            factor = math.sqrt(p.level[i] / p.level[i + 1])
            to_point(rows[i + 1], 0.1 * p.level[i + 1], p.prior[i])
            p.prior[i, 1] += math.log(factor)
            p.prior[i, 3] *= factor
            p.prior[i, 4] += math.log(factor)
        else:
            span = k[end - 1] - k[start]
            p.prior[i, 1], p.prior[i, 4] = math.log(p.level[i] / span), math.log(0.5 * span)
        _get(surface, fitted[i], rows[i])
        fit_alone(rows, p, i)
        cutoff = max(CUTOFF, 2.0 * median_distance(rows[i], p, i))
        for j in range(start, end):
            p.trust[j] = weight(distance(rows[i], p, i, j), cutoff)
    alone = rows.copy()
    bind(rows, p)
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
def _quality(row: FloatArray, p: Problem, i: int) -> tuple[float, float, float]:
    """Share of quotes inside, root mean square distance to their middle in vol points, and volatility at the money."""
    inside = weights = squares = 0.0
    for j in range(p.starts[i], p.ends[i]):
        z = distance(row, p, i, j)
        inside += abs(z) <= 1.0
        weights += 1.0 / (p.half[j] * p.half[j])
        squares += z * z
    share = inside / (p.ends[i] - p.starts[i])
    return share, 100.0 * math.sqrt(squares / weights), math.sqrt(max(svi.variance(row, 0.0), 0.0) / p.T[i])


@compiled
def _is_off(vol: float, p: Problem, i: int) -> bool:
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


@compiled
def _admit(surface: Surface, starts: IntArray, k: FloatArray, bid: FloatArray, ask: FloatArray) -> None:
    """Move each expiry's good quotes to the front, as k, middle and half spread; returns the reason if there are too few."""
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

"""The forward of each expiry: from its future, else from put-call parity, else the venue's own for its options, else the index.

    C - P = F - K        in USD, at rate 0
    c - p = 1 - K/F      in coin, if a premium is paid in the coin itself: c = C/F

Each strike with a call and a put, both quoted on both sides, gives a forward and, from the spreads, its uncertainty.  The
forward of an expiry is their weighted median, weights the inverse of the uncertainty: half of the weight must be wrong to
move it beyond the good ones.

A future or a parity is only as good as its quotes: if half of the distance between its bounds is more than `WIDE` of it,
the forward with which the venue marks its options comes before it.  The index, which has no basis, comes last.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs.black76 import FloatArray


class Source(IntEnum):
    """The source of a forward."""

    NONE = 0
    FUTURE = 1
    PARITY = 2
    INDEX = 3
    VENUE = 4


WIDE = 0.01
"""Of the forward: as much as the basis of a month at 12 % a year."""

RANKS = {Source.FUTURE: 0, Source.PARITY: 0, Source.VENUE: 0, Source.INDEX: 1, Source.NONE: 2}
"""A forward from the contracts of an expiry comes before a bare index."""

TEXTS = {
    Source.NONE: "There is neither a future, nor a call and a put of one strike with bid and ask, nor a forward of the venue, "
    "nor an index.",
    Source.FUTURE: "The middle of the bid and ask of the future with this expiry.",
    Source.PARITY: "Put-call parity: the weighted median over the strikes with a call and a put.",
    Source.VENUE: "The forward that the venue marks the options of this expiry with.",
    Source.INDEX: "The index, as if the rate were 0.",
}


class Parity(NamedTuple):
    """One element an expiry; NaN where no strike has both."""

    forward_usd: FloatArray
    strikes: NDArray[np.int64]  # that took part
    half_width_usd: FloatArray  # weighted median of half the distance between the bounds that bid and ask set


class Forwards(NamedTuple):
    """One element an expiry."""

    forward_usd: FloatArray  # NaN where there is none
    source: NDArray[np.int8]  # `Source`, in words in `TEXTS`


def parity(
    expiry: ArrayLike,
    expiries: int,
    K: ArrayLike,
    call_bid: ArrayLike,
    call_ask: ArrayLike,
    put_bid: ArrayLike,
    put_ask: ArrayLike,
    in_coin: ArrayLike = False,
) -> Parity:
    """Forwards by put-call parity.

    One element a strike that has a call and a put: the index of its expiry among `expiries`, the strike in USD, and their
    quotes, in USD or, where `in_coin`, in coin.  A strike counts where all four are positive and neither is crossed.
    """
    K, call_bid, call_ask, put_bid, put_ask = (
        np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (K, call_bid, call_ask, put_bid, put_ask)
    )
    expiry, in_coin = np.broadcast_to(np.asarray(expiry, dtype=np.int64), K.shape), np.asarray(in_coin, dtype=np.bool_)
    with np.errstate(all="ignore"):
        least, most = (np.where(in_coin, K / (1.0 - x), K + x) for x in (call_bid - put_ask, call_ask - put_bid))
        good = (K > 0.0) & (call_bid > 0.0) & (put_bid > 0.0) & (call_ask >= call_bid) & (put_ask >= put_bid)
        good &= (least > 0.0) & (most >= least) & np.isfinite(most) & (expiry >= 0) & (expiry < expiries)
    expiry, middle, half = expiry[good], 0.5 * (least + most)[good], 0.5 * (most - least)[good]
    weight = 1.0 / np.maximum(half, 1e-6 * middle)
    strikes = np.bincount(expiry, minlength=expiries)
    return Parity(
        _weighted_medians(expiry, expiries, middle, weight), strikes, _weighted_medians(expiry, expiries, half, weight)
    )


def choose(
    future_bid: ArrayLike,
    future_ask: ArrayLike,
    parity_usd: ArrayLike,
    index_usd: ArrayLike,
    venue_usd: ArrayLike = np.nan,
    parity_half_width_usd: ArrayLike = 0.0,
) -> Forwards:
    """The forward of each expiry and its source; all in USD, all broadcast, NaN where there is none.

    A future counts where its bid is positive and its ask not below it.
    """
    bid, ask, by_parity, index, by_venue, half = np.broadcast_arrays(
        *(
            np.asarray(x, dtype=np.float64)
            for x in (future_bid, future_ask, parity_usd, index_usd, venue_usd, parity_half_width_usd)
        )
    )
    with np.errstate(all="ignore"):
        by_future = np.where((bid > 0.0) & (ask >= bid), 0.5 * (bid + ask), np.nan)
        tight_future = np.where(0.5 * (ask - bid) <= WIDE * by_future, by_future, np.nan)
        tight_parity = np.where(half <= WIDE * by_parity, by_parity, np.nan)
        choices = [tight_future, tight_parity, by_venue, by_future, by_parity, index]
        usable = [(x > 0.0) & np.isfinite(x) for x in choices]
    source = np.select(usable, _SOURCES, Source.NONE).astype(np.int8)
    return Forwards(np.select(usable, choices, np.nan), source)


_SOURCES = [Source.FUTURE, Source.PARITY, Source.VENUE, Source.FUTURE, Source.PARITY, Source.INDEX]


def _weighted_medians(group: NDArray[np.int64], groups: int, x: FloatArray, weight: FloatArray) -> FloatArray:
    """The least x of each group at which half of the group's weight is reached; NaN for an empty group."""
    order = np.lexsort((x, group))
    group, x, weight = group[order], x[order], weight[order]
    total = np.bincount(group, weight, groups)
    before = np.concatenate(([0.0], np.cumsum(total)))[group]
    reached = np.cumsum(weight) - before >= 0.5 * total[group] * (1.0 - 1e-9)
    medians = np.full(groups, np.nan)
    rows = np.flatnonzero(reached)[::-1]
    # Written from the last to the first, so that the first one is kept.
    medians[group[rows]] = x[rows]
    return medians

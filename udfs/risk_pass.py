"""One pass over all accounts: each one's losses in every scenario, of which only the worst are kept.

No matrix of accounts × scenarios exists.  An account's profits are summed in one row that stays in the core's first cache,
from the rows of its instruments (`risk_values.changes`); then the k worst are picked, k being the rank that the lowest level
needs.

The book is sorted by account and instrument, and positions in one instrument are one, so the order in which positions came
does not change a bit of the answer.  A position in an instrument with an unknown value makes its holder's answer NaN, scenario
-1, and nobody else's.  Of equal losses the earlier scenario is the worse one.  An account without positions loses 0 in every
scenario.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs.compiled import allocating
from udfs.risk_measures import tail_rank

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ScenarioArray = NDArray[np.int32]

UNKNOWN = -1
SAMPLE = 64


class Book(NamedTuple):
    """Positions by account and instrument: those of account a are from `first[a]` to before `first[a + 1]`."""

    first: IntArray
    instrument: IntArray  # row of the matrix of changes
    size: FloatArray  # units, short is negative

    @property
    def accounts(self) -> int:
        """How many there are."""
        return len(self.first) - 1


class Worst(NamedTuple):
    """The worst losses of each account, worst first; accounts × kept."""

    loss: FloatArray  # positive, in USD
    scenario: ScenarioArray  # -1 where the answer is not known
    scenarios: int  # how many there were


class Tails(NamedTuple):
    """VaR and ES of each account and level, in USD; accounts × levels."""

    var: FloatArray
    es: FloatArray
    scenario: ScenarioArray  # that of VaR


def book(accounts: int, account: ArrayLike, instrument: ArrayLike, size: ArrayLike) -> Book:
    """A book from positions in any order, whose accounts are numbered from 0.

    Positions of one account in one instrument are summed exactly rounded, whatever their order.  Those that are 0 are left
    out.  Raises `ValueError` where lengths differ or a number is out of its range.
    """
    who, what = np.asarray(account, dtype=np.int64), np.asarray(instrument, dtype=np.int64)
    how_much = np.asarray(size, dtype=np.float64)
    if not who.shape == what.shape == how_much.shape or who.ndim != 1:
        raise ValueError(f"expected columns of one length, got {who.shape}, {what.shape}, {how_much.shape}")
    if len(who) and (who.min() < 0 or who.max() >= accounts or what.min() < 0):
        raise ValueError(f"expected accounts from 0 to {accounts - 1}, and instruments from 0")
    order = np.lexsort((what, who))
    who, what, how_much = who[order], what[order], how_much[order]
    is_new = np.ones(len(who), dtype=np.bool_)
    is_new[1:] = (who[1:] != who[:-1]) | (what[1:] != what[:-1])
    if not is_new.all():
        starts = np.flatnonzero(is_new)
        lengths = np.diff(np.append(starts, len(who)))
        sums = np.add.reduceat(how_much, starts)
        # The sum of two is the same in either order.
        for at in np.flatnonzero(lengths > 2):
            sums[at] = _sum(how_much[starts[at] : starts[at] + lengths[at]])
        who, what, how_much = who[is_new], what[is_new], sums
    is_held = how_much != 0.0
    counts = np.bincount(who[is_held], minlength=accounts)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Book(first, np.ascontiguousarray(what[is_held]), np.ascontiguousarray(how_much[is_held]))


def kept_losses(scenarios: int, levels: Sequence[float]) -> int:
    """How many losses must be kept for these levels.  Raises `ValueError` for a level that is none, or without any."""
    if not levels:
        raise ValueError("expected at least one level")
    return max(tail_rank(scenarios, p) for p in levels)


def worst_losses(held: Book, changes: FloatArray, kept: int) -> Worst:
    """The `kept` worst losses of each account.  `changes` is instruments × scenarios, USD for one unit.

    Raises `ValueError` where more are to be kept than there are scenarios, or an instrument has no row.
    """
    matrix = _matrix(held, changes)
    if not 1 <= kept <= matrix.shape[1]:
        raise ValueError(f"expected from 1 to {matrix.shape[1]} losses to keep, got {kept}")
    loss = np.empty((held.accounts, kept))
    scenario = np.empty((held.accounts, kept), dtype=np.int32)
    knows = np.isfinite(matrix).all(axis=1)
    _worst(held.first, held.instrument, held.size, matrix, knows, loss, scenario)
    return Worst(loss, scenario, matrix.shape[1])


def tails(worst: Worst, levels: Sequence[float]) -> Tails:
    """VaR and ES by the convention of `risk_measures`.  Raises `ValueError` where a level needs more losses than were kept."""
    needed = kept_losses(worst.scenarios, levels)
    if needed > worst.loss.shape[1]:
        raise ValueError(f"expected {needed} losses of each account for these levels, got {worst.loss.shape[1]}")
    ranks = [tail_rank(worst.scenarios, p) for p in levels]
    shares = [_shares(worst.scenarios, p) for p in levels]
    var = np.stack([worst.loss[:, rank - 1] for rank in ranks], axis=1)
    es = np.stack([worst.loss[:, : len(share)] @ share for share in shares], axis=1)
    return Tails(var, es, np.stack([worst.scenario[:, rank - 1] for rank in ranks], axis=1))


def components(held: Book, changes: FloatArray, worst: Worst, p: float) -> tuple[FloatArray, FloatArray]:
    """What each position adds to its account's VaR and ES at the level p, in the order of the book.

    A position's part of VaR is its loss in the scenario of VaR, and of ES its mean loss in the tail: Euler's allocation, for
    both are homogeneous in the sizes.  The parts of an account add up to the whole.
    """
    matrix = _matrix(held, changes)
    share = _shares(worst.scenarios, p)
    if len(share) > worst.loss.shape[1]:
        raise ValueError(f"expected {len(share)} losses of each account for this level, got {worst.loss.shape[1]}")
    var, es = np.empty(len(held.size)), np.empty(len(held.size))
    _components(held.first, held.instrument, held.size, matrix, worst.scenario, share, var, es)
    return var, es


def stress_losses(held: Book, changes: FloatArray) -> FloatArray:
    """Every loss of each account, accounts × scenarios: for a handful of named scenarios."""
    matrix = _matrix(held, changes)
    worst = worst_losses(held, matrix, matrix.shape[1])
    losses = np.full((held.accounts, matrix.shape[1]), np.nan)
    known = worst.scenario[:, 0] != UNKNOWN
    rows = losses[known]
    np.put_along_axis(rows, worst.scenario[known].astype(np.int64), worst.loss[known], axis=1)
    losses[known] = rows
    return losses


def _sum(sizes: FloatArray) -> float:
    return math.fsum(sizes) if np.isfinite(sizes).all() else math.nan


def _shares(scenarios: int, p: float) -> FloatArray:
    rank, size = tail_rank(scenarios, p), scenarios * (1.0 - p)
    share = np.ones(rank)
    share[-1] = size - (rank - 1)
    return share / size if size >= 1.0 else np.ones(1)


def _matrix(held: Book, changes: FloatArray) -> FloatArray:
    matrix = np.ascontiguousarray(changes, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise ValueError(f"expected instruments × scenarios, got the shape {matrix.shape}")
    if len(held.instrument) and held.instrument.max() >= len(matrix):
        raise ValueError(f"expected a row for each of {int(held.instrument.max()) + 1} instruments, got {len(matrix)}")
    return matrix


@allocating
def _worst(
    first: IntArray,
    instrument: IntArray,
    size: FloatArray,
    matrix: FloatArray,
    knows: NDArray[np.bool_],
    loss: FloatArray,
    scenario: ScenarioArray,
) -> None:
    scenarios, kept = matrix.shape[1], loss.shape[1]
    row, candidate = np.empty(scenarios), np.empty(scenarios, dtype=np.int64)
    top = np.empty(min(3 * kept * SAMPLE // scenarios + 4, SAMPLE))
    for account in range(first.size - 1):
        low, high = first[account], first[account + 1]
        worst, where = loss[account], scenario[account]
        is_known = True
        for at in range(low, high):
            is_known &= knows[instrument[at]] & (size[at] - size[at] == 0.0)
        if not is_known:
            worst[:] = np.nan
            where[:] = -1
            continue
        _sum_rows(row, instrument, size, matrix, low, high)
        least, chosen = _least(row, top, kept), 0
        for s in range(scenarios):
            candidate[chosen] = s
            chosen += 1 if row[s] >= least else 0
        count, limit = 0, -np.inf
        for number in range(chosen):
            s = candidate[number]
            value = row[s]
            if count == kept and value <= limit:
                continue
            at = count if count < kept else kept - 1
            while at > 0 and worst[at - 1] < value:
                worst[at], where[at] = worst[at - 1], where[at - 1]
                at -= 1
            worst[at], where[at] = value, s
            if count < kept:
                count += 1
            limit = worst[count - 1]
        # Sums of finite numbers may overflow.
        if count < kept or not abs(worst[0]) < np.inf:
            worst[:] = np.nan
            where[:] = -1


@allocating
def _least(row: FloatArray, top: FloatArray, kept: int) -> float:
    """A loss that at least `kept` losses reach, and few more: of a sample's worst ones, the first that is low enough.

    To count is to compare whole registers, while each loss that is kept for a while moves many.
    """
    size, count = row.size, 0
    if size < 2 * SAMPLE:
        return -np.inf
    for number in range(SAMPLE):
        value = row[number * size // SAMPLE]
        if count == top.size and value <= top[count - 1]:
            continue
        at = count if count < top.size else count - 1
        while at > 0 and top[at - 1] < value:
            top[at] = top[at - 1]
            at -= 1
        top[at] = value
        count = min(count + 1, top.size)
    rank = min(kept * SAMPLE // size, top.size - 1)
    while rank < top.size:
        above, limit = 0, top[rank]
        for s in range(size):
            above += 1 if row[s] >= limit else 0
        if above >= kept:
            return float(limit)
        rank += 1
    return -np.inf


@allocating
def _sum_rows(row: FloatArray, instrument: IntArray, size: FloatArray, matrix: FloatArray, low: int, high: int) -> None:
    """Losses of one account: four positions at a time, so that the row is read and written less often."""
    row[:] = 0.0
    at = low
    while at + 4 <= high:
        a, b, c, d = matrix[instrument[at]], matrix[instrument[at + 1]], matrix[instrument[at + 2]], matrix[instrument[at + 3]]
        x, y, z, w = size[at], size[at + 1], size[at + 2], size[at + 3]
        for s in range(row.size):
            row[s] -= (x * a[s] + y * b[s]) + (z * c[s] + w * d[s])
        at += 4
    while at < high:
        a, x = matrix[instrument[at]], size[at]
        for s in range(row.size):
            row[s] -= x * a[s]
        at += 1


@allocating
def _components(
    first: IntArray,
    instrument: IntArray,
    size: FloatArray,
    matrix: FloatArray,
    scenario: ScenarioArray,
    share: FloatArray,
    var: FloatArray,
    es: FloatArray,
) -> None:
    for account in range(first.size - 1):
        for at in range(first[account], first[account + 1]):
            if scenario[account, 0] == -1:
                var[at], es[at] = np.nan, np.nan
                continue
            line, total = matrix[instrument[at]], 0.0
            for k in range(share.size):
                total -= share[k] * line[scenario[account, k]]
            es[at] = size[at] * total
            var[at] = -size[at] * line[scenario[account, share.size - 1]]

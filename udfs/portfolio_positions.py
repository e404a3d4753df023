"""What accounts hold on one underlying, arranged for `portfolio_margin`: sorted by account, expiry and strike.

Rows are accounts, columns what can be held: the options, then the futures, then the collaterals.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
IndexArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]


class Instruments(NamedTuple):
    """What can be held on one underlying; one entry for each column."""

    expiry: IntArray  # of each option: which of the market's expiries
    strike: FloatArray
    is_call: BoolArray
    expiries: int
    futures: int
    collaterals: int

    @property
    def columns(self) -> int:
        """How many there are in all."""
        return len(self.strike) + self.futures + self.collaterals


class Positions(NamedTuple):
    """What accounts hold on one underlying, as `hold` arranges it: sorted by account, expiry and strike.

    A group is what an account holds of one expiry; its futures and collaterals are one too, of the expiry past the last.
    """

    instruments: Instruments
    accounts: IntArray  # of each row: the number that `hold` was given
    row_at: IndexArray  # where each row's groups start, and the end
    group_at: IndexArray  # where each group's positions start, and the end
    group_expiry: IndexArray
    column: IndexArray  # of each position
    amount: FloatArray
    short_share: FloatArray  # what each position adds to its account's net-short options
    short: FloatArray  # of each row: its net-short options
    holds_future: BoolArray  # of each row

    @property
    def group(self) -> IntArray:
        """Of each position."""
        return np.repeat(np.arange(len(self.group_expiry)), np.diff(self.group_at))

    @property
    def row(self) -> IntArray:
        """Of each position."""
        return np.repeat(np.arange(len(self.accounts)), np.diff(self.row_at))[self.group]

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        return sum(part.nbytes for part in self[1:])


def hold(instruments: Instruments, accounts: ArrayLike, columns: ArrayLike, amounts: ArrayLike) -> Positions:
    """Positions from their accounts (any numbers), columns and signed amounts, in any order; those of one column add up.

    Raises `ValueError` where a column does not exist or an amount is not finite.
    """
    held_by, held = np.asarray(accounts, dtype=np.int64), np.asarray(columns, dtype=np.int64)
    size = np.asarray(amounts, dtype=np.float64)
    options, width = len(instruments.strike), instruments.columns
    if not np.isfinite(size).all():
        raise ValueError("an amount is not finite")
    if len(held) and not 0 <= held.min() <= held.max() < width:
        raise ValueError(f"there are {width} columns; got {held.min()} to {held.max()}")
    expiry = np.full(width, instruments.expiries)
    expiry[:options] = instruments.expiry
    strike = np.zeros(width)
    strike[:options] = instruments.strike

    # Sorted by account, expiry and strike, so that each of these is a run.
    names, row_of = np.unique(held_by, return_inverse=True)
    rows = len(names)
    by_rank = np.lexsort((strike, expiry))
    rank = np.empty(width, dtype=np.int64)
    rank[by_rank] = np.arange(width)
    key, where = np.unique(row_of * width + rank[held], return_inverse=True)
    amount = np.zeros(len(key)) + np.bincount(where, weights=size, minlength=len(key))
    key, amount = key[amount != 0], amount[amount != 0]
    column = by_rank[key % max(width, 1)].astype(np.int32)

    row = (key // max(width, 1)).astype(np.int32)
    is_group = _starts(row, expiry[column])
    group_at = np.append(np.flatnonzero(is_group), len(key)).astype(np.int32)
    is_option = column < options
    is_call = np.append(instruments.is_call, np.zeros(width - options, dtype=np.bool_))[column]
    at_strike = np.cumsum(_starts(row, expiry[column], strike[column])) - 1
    short_share = np.where(is_option, _short_share(amount, is_call, at_strike), 0.0)
    holds_future = np.zeros(rows, dtype=np.bool_)
    holds_future[row[~is_option & (column < options + instruments.futures)]] = True
    return Positions(
        instruments=instruments,
        accounts=names,
        row_at=np.searchsorted(row[group_at[:-1]], np.arange(rows + 1)).astype(np.int32),
        group_at=group_at,
        group_expiry=expiry[column[is_group]].astype(np.int32),
        column=column,
        amount=amount,
        short_share=short_share,
        short=np.zeros(rows) + np.bincount(row, weights=short_share, minlength=rows),
        holds_future=holds_future,
    )


def _short_share(amount: FloatArray, is_call: BoolArray, strike: IntArray) -> FloatArray:
    """Each option's part in what its account is net short at a strike, where a call and a put of opposite sign net."""
    strikes = int(strike[-1]) + 1 if len(strike) else 0
    calls = np.bincount(strike, weights=np.where(is_call, amount, 0.0), minlength=strikes)
    puts = np.bincount(strike, weights=np.where(is_call, 0.0, amount), minlength=strikes)
    other = np.where(is_call, puts[strike], calls[strike])
    short: FloatArray = np.maximum(-amount - np.maximum(other, 0.0), 0.0)
    return short


def _starts(*keys: NDArray[Any]) -> BoolArray:
    """Where a run of equal keys starts."""
    is_start = np.ones(len(keys[0]), dtype=np.bool_)
    is_start[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return is_start

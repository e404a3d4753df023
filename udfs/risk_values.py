"""How the value of each instrument changes in each scenario: a matrix of instruments × scenarios, made in slices.

Each scenario moves the spot of an underlying by a fraction m of it and its vols by a fraction of them.  Of one unit,

    coin, or a share of an underlying   multiplier · S · m
    future, perpetual, linear           multiplier · F · m
    future, perpetual, inverse          multiplier · m       (c (1/F - 1/F') coins are worth c m at F' = F (1 + m); c in USD)
    option                              multiplier · (V(F (1 + m), v (1 + w), T - passed) - V(F, v, T)), Black (1976), in USD

An inverse contract is taken as marked now: the coins that it has won so far, like all balances in coins, are positions of their
own in the coin.  An option that is paid in coin is worth the same USD.  Forwards move with their spot.

An option's value is its intrinsic value and the out-of-the-money side, without a branch, so that the processor's lanes work on
several scenarios at once; the logarithm of F' is that of F and one of the scenario's.  It is within 1e-15 F of `black76.price`.
A cell is NaN where a price, vol or move is not known; whoever holds that instrument has no answer (`risk_pass`).
"""

import math
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs.compiled import compiled, inlined
from udfs.normal import ROOT_2_PI, exp, mills

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

COIN, LINEAR, INVERSE, CALL, PUT = range(5)
KINDS = ("coin", "linear", "inverse", "call", "put")
SECONDS_PER_YEAR = 365 * 86_400.0


class Contracts(NamedTuple):
    """Instruments, a column each."""

    kind: IntArray  # index in `KINDS`
    underlying: IntArray  # which column of the moves
    multiplier: FloatArray  # coins of one unit; of an inverse contract USD
    price: FloatArray  # spot of a coin, forward of others, in USD
    strike: FloatArray  # of options, USD
    expiry_s: FloatArray  # of options: seconds left; 0 or less is past it
    vol: FloatArray  # of options, a fraction a year

    def some(self, rows: slice | IntArray) -> Self:
        """Those rows."""
        chosen: list[Any] = [column[rows] for column in self]
        return type(self)(*chosen)


class Moves(NamedTuple):
    """Joint moves, underlyings × scenarios; fractions, above -1."""

    spot: FloatArray
    vol: FloatArray


def contracts(
    kind: ArrayLike,
    underlying: ArrayLike,
    price: ArrayLike,
    *,
    multiplier: ArrayLike = 1.0,
    strike: ArrayLike = 1.0,
    expiry_s: ArrayLike = 1.0,
    vol: ArrayLike = 0.0,
) -> Contracts:
    """Instruments from columns or numbers.  Raises `ValueError` for an unknown kind, or a negative underlying."""
    kinds, underlyings = np.atleast_1d(np.asarray(kind, dtype=np.int64)), np.asarray(underlying, dtype=np.int64)
    if kinds.min(initial=0) < 0 or kinds.max(initial=0) >= len(KINDS) or underlyings.min(initial=0) < 0:
        raise ValueError(f"expected kinds from 0 to {len(KINDS) - 1}, and underlyings from 0")
    columns = np.broadcast_arrays(
        kinds, underlyings, *(np.asarray(x, dtype=np.float64) for x in (multiplier, price, strike, expiry_s, vol))
    )
    filled: list[Any] = [np.ascontiguousarray(column) for column in columns]
    return Contracts(*filled)


def moves(spot: ArrayLike, vol: ArrayLike) -> Moves:
    """Moves that are contiguous.  Raises `ValueError` where the shapes differ."""
    spots, vols = (np.ascontiguousarray(np.atleast_2d(np.asarray(x, dtype=np.float64))) for x in (spot, vol))
    if spots.shape != vols.shape:
        raise ValueError(f"expected as many vol moves as spot moves, got {vols.shape} and {spots.shape}")
    return Moves(spots, vols)


def changes(listed: Contracts, shocks: Moves, passed_s: float = 0.0) -> FloatArray:
    """The whole matrix: USD for one unit of each instrument in each scenario, `passed_s` seconds from now."""
    matrix = np.empty((len(listed.kind), shocks.spot.shape[1]))
    fill(matrix, listed, shocks, 0, len(matrix), passed_s)
    return matrix


def fill(matrix: FloatArray, listed: Contracts, shocks: Moves, first: int, last: int, passed_s: float = 0.0) -> None:
    """Make the rows from `first` to before `last` of the matrix, in place.

    Raises `ValueError` where the matrix does not fit, or an instrument has an underlying without moves.
    """
    expected = len(listed.kind), shocks.spot.shape[1]
    if matrix.shape != expected or not 0 <= first <= last <= expected[0]:
        raise ValueError(f"expected a matrix of {expected} and rows in it, got {matrix.shape} and {first} to {last}")
    if len(listed.kind) and listed.underlying.max() >= len(shocks.spot):
        raise ValueError(f"expected moves of {int(listed.underlying.max()) + 1} underlyings, got {len(shocks.spot)}")
    with np.errstate(all="ignore"):
        log_moves = np.log1p(np.where(shocks.spot > -1.0, shocks.spot, np.nan))
    _fill(matrix, *listed, shocks.spot, shocks.vol, log_moves, first, last, passed_s / SECONDS_PER_YEAR)


@inlined
def _value(F: float, K: float, log_ratio: float, deviation: float, sign: float) -> float:
    d1 = max(min(log_ratio / deviation + 0.5 * deviation, 1e3), -1e3)
    d2 = d1 - deviation
    density = exp(-0.5 * d1 * d1) / ROOT_2_PI
    # F φ(d1) = K φ(d2)
    tail1, tail2 = F * density * mills(abs(d1)), F * density * mills(abs(d2))
    out = 1.0 if log_ratio < 0.0 else -1.0
    out1 = tail1 if out * d1 < 0.0 else F - tail1
    out2 = tail2 if out * d2 < 0.0 else K - tail2
    return max(sign * (F - K), 0.0) + max(out * (out1 - out2), 0.0) + 0.0 * log_ratio


@compiled
def _fill(
    matrix: FloatArray,
    kind: IntArray,
    underlying: IntArray,
    multiplier: FloatArray,
    price: FloatArray,
    strike: FloatArray,
    expiry_s: FloatArray,
    vol: FloatArray,
    spot_moves: FloatArray,
    vol_moves: FloatArray,
    log_moves: FloatArray,
    first: int,
    last: int,
    passed: float,
) -> None:
    for row in range(first, last):
        line, u = matrix[row], underlying[row]
        spot, size, F = spot_moves[u], multiplier[row], price[row]
        scale = size if kind[row] == INVERSE else size * F
        if not (0.0 < F < np.inf and -np.inf < size < np.inf):
            scale = np.nan
        if kind[row] <= INVERSE:
            for s in range(line.size):
                line[s] = scale * spot[s]
            continue
        # Log-moves are NaN where the price would not be positive.
        K, v, T = strike[row], vol[row], expiry_s[row] / 31_536_000.0
        later = max(T - passed, 0.0)
        nothing = 0.0 if 0.0 < K < np.inf and 0.0 <= v < np.inf and -np.inf < T < np.inf else np.nan
        nothing += scale - scale
        sign = 1.0 if kind[row] == CALL else -1.0
        log_K, now = math.log(F / K), v * math.sqrt(max(T, 0.0))
        value_now = _value(F, K, log_K, max(now, 1e-12), sign)
        deviation, logs, vols = v * math.sqrt(later), log_moves[u], vol_moves[u]
        for s in range(line.size):
            moved = F * (1.0 + spot[s])
            width = max(deviation * (1.0 + vols[s]), 1e-12)
            unknown = 0.0 if vols[s] >= -1.0 else np.nan
            line[s] = size * (_value(moved, K, log_K + logs[s], width, sign) - value_now) + nothing + unknown

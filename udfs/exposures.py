"""Exposures of accounts: delta, gamma and vega in USD, by underlying and time to expiry; and limits on them.

delta  USD that a holding gains if its underlying gains 100 %, by its slope dV/d(ln S), V in USD.  A linear contract has its
       notional; a coin its value.  A position of an inverse contract has contracts · size · S / average price: what it has won
       is coin, and moves as well
gamma  how much delta grows if the underlying gains 1 %, by the slope of an option's delta alone: Γ · F² / 100
vega   USD that a holding gains if vol rises by one point (0.01)
gross  the sum over positions of the amount of delta, each without its sign

An inverse option pays its value in coin, so F counts as the coin's price in delta, gamma and vega.  Each amount is rounded to a
millionth before it is summed: sums of whole numbers do not depend on their order (`standard_margin`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from udfs import black76
from udfs.black76 import FloatArray
from udfs.compiled import allocating, compiled

IntArray = NDArray[np.int64]
DAY_S = 86_400
YEAR_S = 365 * DAY_S
BUCKETS = ("perpetual", "week", "month", "quarter", "later")
"""By time to expiry; what never expires is in the first."""
BUCKET_DAYS = (7, 31, 92)
"""The longest time of those between the first and the last."""
MEASURES = ("delta", "gamma", "vega", "leverage", "concentration")
DELTA, GAMMA, VEGA, GROSS = range(4)
LEVERAGE, CONCENTRATION = 3, 4
ANY = -1
"""In place of an underlying or a bucket: the sum over all."""
WITHIN, BREACHED, UNKNOWN = range(3)
"""The states of a limit."""


class Contracts(NamedTuple):
    """Contracts, one entry each; prices in USD, NaN where none is known."""

    is_future: NDArray[np.bool_]  # a future or a perpetual
    is_option: NDArray[np.bool_]
    is_inverse: NDArray[np.bool_]
    contract_size: FloatArray
    mark: FloatArray  # of a future or perpetual, in the quote currency
    settlement: FloatArray  # USD of a unit of the settlement currency
    forward: FloatArray  # of an option
    strike: FloatArray
    vol: FloatArray  # fraction
    is_call: NDArray[np.bool_]
    seconds: FloatArray  # to expiry; infinite if it does not expire


class Sensitivities(NamedTuple):
    """Of one contract."""

    delta: FloatArray  # USD
    basis_delta: FloatArray  # USD × price: of an inverse future, to be divided by the position's average price; else 0
    gamma: FloatArray
    vega: FloatArray
    bucket: IntArray


class Holdings(NamedTuple):
    """What the accounts of some slots hold, in the order of the slots."""

    start: IntArray  # of each slot, and the end of the last
    cell: IntArray  # underlying × number of buckets + bucket
    amount: FloatArray  # a column each of delta, gamma, vega, gross; millionths


def bucket(seconds: FloatArray) -> IntArray:
    """The bucket of each time to expiry."""
    limits = np.array([days * DAY_S for days in BUCKET_DAYS], dtype=np.float64)
    return np.where(np.isfinite(seconds), 1 + np.searchsorted(limits, seconds, side="left"), 0).astype(np.int64)


def sensitivities(contracts: Contracts) -> Sensitivities:
    """Of one contract each.  NaN where a price is missing; zero of what has expired, whose value is fixed."""
    c = contracts
    with np.errstate(all="ignore"):
        g = black76.greeks(c.forward, c.strike, c.seconds / YEAR_S, c.vol, c.is_call)
        paid = np.where(c.is_inverse, 1.0, c.settlement) * c.contract_size
        is_linear = c.is_future & ~c.is_inverse
        is_future_inverse = c.is_future & c.is_inverse
        delta = np.where(is_linear, c.contract_size * c.mark * c.settlement, np.nan)
        delta = np.where(c.is_option, g.delta * c.forward * paid, delta)
        delta = np.where(is_future_inverse, 0.0, delta)
        basis = np.where(is_future_inverse, c.contract_size * c.settlement, 0.0)
        gamma = np.where(c.is_option, g.gamma * c.forward**2 * 0.01 * paid, 0.0)
        vega = np.where(c.is_option, g.vega * paid, 0.0)
    is_over = c.seconds <= 0
    delta, basis, gamma, vega = (np.where(is_over, 0.0, column) for column in (delta, basis, gamma, vega))
    return Sensitivities(delta, basis, gamma, vega, bucket(c.seconds))


def columns_of(sensitivities: Sensitivities, underlying: IntArray) -> tuple[FloatArray, IntArray]:
    """Sensitivities as rows of four numbers, and the cell of each contract: arguments of `held`."""
    s = sensitivities
    rates = np.column_stack([s.delta, s.basis_delta, s.gamma, s.vega])
    return np.ascontiguousarray(rates), underlying.astype(np.int64) * len(BUCKETS) + s.bucket


@allocating
def held(
    slot: IntArray,
    slots: int,
    account: IntArray,
    contract: IntArray,
    size: FloatArray,
    average: FloatArray,
    rates: FloatArray,
    cells: IntArray,
    holder: IntArray,
    currency: IntArray,
    balance: FloatArray,
    coin_usd: FloatArray,
    coin_cell: IntArray,
) -> tuple[IntArray, IntArray, FloatArray]:
    """What accounts hold, as `Holdings`.

    slot       by account: which of the `slots` it is in; -1: in none.  Several accounts may share one
    account …  positions; flat ones do not count
    rates, cells    by contract: `columns_of`
    holder …   balances; `coin_cell` is -1 for a currency that is no coin
    """
    start = np.zeros(slots + 1, dtype=np.int64)
    for i in range(len(size)):
        if size[i] != 0.0 and slot[account[i]] >= 0:
            start[slot[account[i]] + 1] += 1
    for i in range(len(balance)):
        if balance[i] != 0.0 and slot[holder[i]] >= 0 and coin_cell[currency[i]] >= 0:
            start[slot[holder[i]] + 1] += 1
    for s in range(slots):
        start[s + 1] += start[s]
    filled = start.copy()
    cell = np.empty(start[slots], dtype=np.int64)
    amount = np.empty((start[slots], 4))
    for i in range(len(size)):
        s = slot[account[i]]
        if size[i] == 0.0 or s < 0:
            continue
        rate, to = rates[contract[i]], filled[s]
        filled[s] += 1
        delta = rate[0] * size[i]
        if rate[1] != 0.0:
            delta += rate[1] * size[i] / average[i]
        cell[to] = cells[contract[i]]
        amount[to, 0] = np.rint(delta * 1e6)
        amount[to, 1] = np.rint(rate[2] * size[i] * 1e6)
        amount[to, 2] = np.rint(rate[3] * size[i] * 1e6)
        amount[to, 3] = abs(amount[to, 0])
    for i in range(len(balance)):
        s = slot[holder[i]]
        if balance[i] == 0.0 or s < 0 or coin_cell[currency[i]] < 0:
            continue
        to = filled[s]
        filled[s] += 1
        cell[to] = coin_cell[currency[i]]
        amount[to, 0] = np.rint(balance[i] * coin_usd[currency[i]] * 1e6)
        amount[to, 1] = amount[to, 2] = amount[to, 3] = 0.0
    return start, cell, amount


@allocating
def figures(
    start: IntArray,
    cell: IntArray,
    amount: FloatArray,
    cells: int,
    buckets: int,
    equity: FloatArray,
    limit_slot: IntArray,
    measure: IntArray,
    underlying: IntArray,
    expiry: IntArray,
) -> FloatArray:
    """The exposure that each limit is about; NaN where it is not known.

    cells       how many there are
    equity      by slot, in USD
    limit_slot  by limit: whose exposure; -1 leaves it out, and the answer is NaN
    underlying, expiry  of the limit; -1: any
    """
    slots = len(start) - 1
    first = np.full(slots, -1)
    following = np.full(len(limit_slot), -1)
    for i in range(len(limit_slot) - 1, -1, -1):
        if limit_slot[i] >= 0:
            following[i] = first[limit_slot[i]]
            first[limit_slot[i]] = i
    answers = np.full(len(limit_slot), np.nan)
    gross = np.zeros(cells // buckets)
    for s in range(slots):
        if first[s] < 0:
            continue
        total = 0.0
        for i in range(start[s], start[s + 1]):
            gross[cell[i] // buckets] += amount[i, 3]
            total += amount[i, 3]
        limit = first[s]
        while limit >= 0:
            if measure[limit] == LEVERAGE:
                worth = equity[s]
                if total == 0.0:
                    answers[limit] = 0.0
                elif np.isnan(worth) or np.isnan(total):
                    answers[limit] = np.nan
                else:
                    answers[limit] = total / 1e6 / worth if worth > 0.0 else np.inf
            elif measure[limit] == CONCENTRATION:
                most = 0.0
                for i in range(start[s], start[s + 1]):
                    most = max(most, gross[cell[i] // buckets])
                answers[limit] = most / total if total != 0.0 else 0.0
            else:
                value = 0.0
                for i in range(start[s], start[s + 1]):
                    is_meant = underlying[limit] == ANY or cell[i] // buckets == underlying[limit]
                    if is_meant and (expiry[limit] == ANY or cell[i] % buckets == expiry[limit]):
                        value += amount[i, measure[limit]]
                answers[limit] = value / 1e6
            limit = following[limit]
        for i in range(start[s], start[s + 1]):
            gross[cell[i] // buckets] = 0.0
    return answers


def by_cell(cell: IntArray, amount: FloatArray, cells: int) -> FloatArray:
    """The sums of one slot's holdings in USD, a row for each cell."""
    sums = np.zeros((cells, 4))
    _add(cell, amount, sums)
    return np.asarray(sums / 1e6)


@compiled
def _add(cell: IntArray, amount: FloatArray, sums: FloatArray) -> None:
    for i in range(len(cell)):
        for m in range(4):
            sums[cell[i], m] += amount[i, m]


def judged(
    state: IntArray | int,
    figure: FloatArray | float,
    target: FloatArray | float,
    enter: FloatArray | float,
    leave: FloatArray | float,
) -> IntArray:
    """The state of limits after a look: breached beyond `enter`, and until the exposure is within `leave`."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(np.subtract(figure, target))
        is_breached = np.where(np.equal(state, BREACHED), distance > leave, distance > enter)
    return np.where(np.isnan(distance), UNKNOWN, np.where(is_breached, BREACHED, WITHIN)).astype(np.int64)

"""Standard margin: each position on its own, by the exchange's schedule.  The portfolio model is a separate module.

Formulae and figures: Deribit's knowledge base, "Linear Perpetual" and "11 January 2022" (futures and perpetuals), and
its rules for options.  Sizes are signed, short is negative; every argument is an
array or a number and all broadcast; NaN in gives NaN out.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs.compiled import compiled, elementwise, inlined, unfused

FloatArray = NDArray[np.float64]


class Margin(NamedTuple):
    """Requirement of a position, in the unit of the function; never negative."""

    initial: FloatArray  # to open it
    maintenance: FloatArray  # to keep it


class FuturesSchedule(NamedTuple):
    """Margin of futures and perpetuals on one underlying, as fractions of notional."""

    initial: float
    maintenance: float
    per_coin: float  # added to both for each unit of the underlying in the position


FUTURES = {
    "BTC": FuturesSchedule(0.02, 0.01, 0.00005),
    "ETH": FuturesSchedule(0.02, 0.01, 0.000004),
    "SOL": FuturesSchedule(0.04, 0.02, 0.000005),
}
OTHER_FUTURES = FuturesSchedule(0.10, 0.05, 0.0)
"""Our own choice for an underlying without a published schedule: two and a half times the strictest above."""

OPTION_INITIAL = 0.15
OPTION_INITIAL_FLOOR = 0.1
OPTION_MAINTENANCE = 0.075


def futures_schedule(underlying: str) -> FuturesSchedule:
    """The schedule of an underlying ("BTC"): `FUTURES`, else `OTHER_FUTURES`."""
    return FUTURES.get(underlying, OTHER_FUTURES)


def linear_future(
    coins: ArrayLike, mark_price: ArrayLike, initial: ArrayLike, maintenance: ArrayLike, per_coin: ArrayLike
) -> Margin:
    """Linear futures and perpetuals, in the quote currency: (rate + per_coin·|coins|) · |coins| · mark price.

    `coins` is the position in units of the underlying; the three rates are those of `FuturesSchedule`.
    """
    coins = np.abs(np.asarray(coins, dtype=np.float64))
    notional = coins * np.asarray(mark_price, dtype=np.float64)
    slope = np.asarray(per_coin, dtype=np.float64) * coins
    return Margin((initial + slope) * notional, (maintenance + slope) * notional)


def inverse_future(
    usd: ArrayLike, mark_price: ArrayLike, initial: ArrayLike, maintenance: ArrayLike, per_coin: ArrayLike
) -> Margin:
    """Inverse futures and perpetuals, in coin: the linear rule on usd/mark price coins, whose notional in coin it is.

    `usd` is the position in USD; the three rates are those of `FuturesSchedule`.
    """
    coins = np.asarray(usd, dtype=np.float64) / np.asarray(mark_price, dtype=np.float64)
    return linear_future(coins, 1.0, initial, maintenance, per_coin)


def option(coins: ArrayLike, mark_coin: ArrayLike, forward_usd: ArrayLike, strike_usd: ArrayLike, is_call: ArrayLike) -> Margin:
    """Options by Deribit's rule, in coin; a long option requires nothing, because its premium is paid.

    A short one requires, for each coin, with m its mark in coin, F the forward and OTM how far it is out of the money,
        call   initial max(0.15 - OTM/F, 0.1) + m,              maintenance 0.075 + m
        put    initial max(the call's initial, maintenance),    maintenance max(0.075, 0.075 m) + m
    `coins` is the position in units of the underlying.  For an option settled in USD take m as its mark over F and
    multiply the answer by F.
    """
    coins, m, F, K = (np.asarray(x, dtype=np.float64) for x in (coins, mark_coin, forward_usd, strike_usd))
    is_call = np.asarray(is_call, dtype=np.bool_)
    otm = np.maximum(np.where(is_call, K - F, F - K), 0.0)
    maintenance = np.where(is_call, OPTION_MAINTENANCE, np.maximum(OPTION_MAINTENANCE, OPTION_MAINTENANCE * m)) + m
    initial = np.maximum(OPTION_INITIAL - otm / F, OPTION_INITIAL_FLOOR) + m
    initial = np.where(is_call, initial, np.maximum(initial, maintenance))
    short = np.maximum(-coins, 0.0)
    return Margin(_owed(short, initial), _owed(short, maintenance))


class Rates(NamedTuple):
    """Value and requirement of one contract, long or short; an entry for each kind of contract, in any one currency.

    Of a position of `size` contracts bought at `average` on average:
        value        unit · size - basis_unit · basis, whose basis is size / average of what `is_inverse`, else size · average
        requirement  rate · |size| + square · size², the rate being the long or the short one
    """

    unit: FloatArray
    basis_unit: FloatArray
    is_inverse: NDArray[np.bool_]
    initial_long: FloatArray
    initial_short: FloatArray
    maintenance_long: FloatArray
    maintenance_short: FloatArray
    square: FloatArray


_UNIT, _BASIS_UNIT, _IS_INVERSE, _INITIAL, _, _MAINTENANCE, _, _SQUARE = range(len(Rates._fields))
"""Columns of a row of rates; of a requirement the long rate, followed by the short one."""


class Totals(NamedTuple):
    """Of every account, in millionths, each position's amount rounded to one."""

    value: FloatArray
    initial: FloatArray
    maintenance: FloatArray


def totals(rates: Rates, accounts: int, account: ArrayLike, contract: ArrayLike, size: ArrayLike, average: ArrayLike) -> Totals:
    """All positions valued, and summed by account; one entry of the last four arguments is a position, which may be flat.

    Sums are of whole numbers, so that they do not depend on the order of positions.  NaN where an amount is not finite.
    """
    account_rows, contracts = np.asarray(account, dtype=np.int64), np.asarray(contract, dtype=np.int64)
    sizes, averages = np.asarray(size, dtype=np.float64), np.asarray(average, dtype=np.float64)
    # Accounts and contracts are in no order, so each row is a cache miss: all numbers of one are in one row.
    sums = np.zeros((accounts, len(Totals._fields)))
    _sum(account_rows, contracts, sizes, averages, np.column_stack(rates), sums)
    return Totals(*sums.T)


def cash(usd: ArrayLike, accounts: int, account: ArrayLike, currency: ArrayLike, amount: ArrayLike) -> FloatArray:
    """Value of every account's balances in millionths, given the price of each currency; the last three are of each balance."""
    prices, amounts = np.asarray(usd, dtype=np.float64), np.asarray(amount, dtype=np.float64)
    account_rows, currencies = np.asarray(account, dtype=np.int64), np.asarray(currency, dtype=np.int64)
    value = np.zeros(accounts)
    _sum_cash(account_rows, currencies, amounts, prices, value)
    return value


def by_itself(rates: Rates, contract: ArrayLike, size: ArrayLike) -> Margin:
    """Requirement of each position alone, rounded to a millionth."""
    contracts, sizes = np.asarray(contract, dtype=np.int64), np.asarray(size, dtype=np.float64)
    sides = (rates.initial_long, rates.initial_short), (rates.maintenance_long, rates.maintenance_short)
    return Margin(
        *(
            required(np.where(sizes > 0.0, long[contracts], short[contracts]), rates.square[contracts], sizes)
            for long, short in sides
        )
    )


@inlined
def _micro(amount: float) -> float:
    return np.rint(amount * 1e6) if np.isfinite(amount) else np.nan


@compiled
def _sum(
    account: NDArray[np.int64],
    contract: NDArray[np.int64],
    size: FloatArray,
    average: FloatArray,
    rates: FloatArray,
    sums: FloatArray,
) -> None:
    """Fill the sums, zero before: a row an account, a column each of `Totals`.  A row of rates is `Rates`."""
    for i in range(len(size)):
        contracts = size[i]
        if contracts == 0.0:
            continue
        rate, total = rates[contract[i]], sums[account[i]]
        side = 0 if contracts > 0.0 else 1
        basis = contracts / average[i] if rate[_IS_INVERSE] != 0.0 else contracts * average[i]
        total[0] += _micro(rate[_UNIT] * contracts - rate[_BASIS_UNIT] * basis)
        total[1] += _micro(_required(rate[_INITIAL + side], rate[_SQUARE], contracts))
        total[2] += _micro(_required(rate[_MAINTENANCE + side], rate[_SQUARE], contracts))


@compiled
def _sum_cash(
    account: NDArray[np.int64], currency: NDArray[np.int64], amount: FloatArray, usd: FloatArray, value: FloatArray
) -> None:
    for i in range(len(amount)):
        # A balance of zero is worth zero, even in a currency without a price.
        if amount[i] != 0.0:
            value[account[i]] += _micro(amount[i] * usd[currency[i]])


def _requirement(rate: float, square: float, size: float) -> float:
    return rate * abs(size) + square * size * size


_required = unfused(_requirement)


@elementwise
def required(rate: float, square: float, size: float) -> float:
    """Requirement of one position, rounded to a millionth; its rate is that of `Rates`, the long or the short one."""
    return float(np.rint(_required(rate, square, size) * 1e6)) / 1e6


def position_required(rate: float, square: float, size: float) -> float:
    """`required` of a single position in plain Python: for few positions the call costs less than numpy's."""
    amount = _requirement(rate, square, size) * 1e6
    return round(amount) / 1e6 if math.isfinite(amount) else amount / 1e6


def _owed(short: FloatArray, each: FloatArray) -> FloatArray:
    owed: Any = short * each
    return np.asarray(owed, dtype=np.float64)

"""Value and requirement of contracts, and the valuation that the stages read.

mark     the venue's mark price; for futures and perpetuals without one the middle of bid and ask, else the last trade, each
         the newest by its own time (`kernels.market.tickers`)
index    1 for USD, USDC and USDT; for a coin the newest of `oracle_prices`, else of `index_prices`, else of its tickers' index
         prices, which are in the currency of their contract.  Cash is valued in USD, a contract in its own currency: see
         `kernels.market.indices`

Each amount is rounded to a micro-dollar before it is summed.  Sums of whole numbers do not depend on their order (up to
9e9 USD an account), so a restored state values accounts to the same bit as one that never stopped.
"""

from typing import NamedTuple

import numpy as np

from kernels.liquidations.accounts import Accounts
from kernels.liquidations.columns import Array
from udfs import standard_margin
from udfs.standard_margin import Margin


class Valuation(NamedTuple):
    """Every account in USD, by its row in the columns; NaN where a price is missing."""

    equity: Array
    initial: Array
    maintenance: Array
    rates: standard_margin.Rates  # by contract: standard margin
    mark: Array  # by contract, in the quote currency
    worst_loss: Array  # portfolio margin; 0 where none loses
    worst: Array  # the index of that scenario in `scenarios`; -1 if there is none
    scenarios: list[str]  # their names, with their underlying


def mark_prices(accounts: Accounts) -> Array:
    """Of each contract, in the quote currency; NaN where there is none."""
    contracts = accounts.contract_columns
    is_option, own = contracts["is_option"] > 0, contracts["mark"]
    mark = np.where(is_option | ~np.isnan(own), own, contracts["traded"])
    is_good = (is_option & (mark >= 0)) | ((contracts["is_future"] > 0) & (mark > 0))
    return np.asarray(np.where(is_good, mark, np.nan))


def forward_prices(accounts: Accounts) -> Array:
    """Of each contract, in USD: its options' own, else the index; NaN where there is none."""
    forward = accounts.contract_columns["forward_usd"]
    index = accounts.index_columns["usd"][accounts.contract_columns["index"]]
    return np.asarray(np.where(forward > 0, forward, index))


def rates_of(accounts: Accounts, mark: Array) -> standard_margin.Rates:
    """Value and requirement of one contract, in USD."""
    contracts, forward = accounts.contract_columns, forward_prices(accounts)
    is_future, is_option = contracts["is_future"] > 0, contracts["is_option"] > 0
    is_inverse, contract_size = contracts["is_inverse"] > 0, contracts["contract_size"]
    settlement = accounts.currency_columns["usd"][contracts["settlement"]]
    required = settlement * accounts.currency_columns["factor"][contracts["underlying"]]
    nothing = np.zeros(len(contract_size))

    def future(initial: Array, maintenance: Array, per_coin: Array) -> Margin:
        rates = initial, maintenance, per_coin
        linear, inverse = (
            standard_margin.linear_future(contract_size, mark, *rates),
            standard_margin.inverse_future(contract_size, mark, *rates),
        )
        return Margin(*(np.where(is_inverse, *margins) for margins in zip(inverse, linear, strict=True)))

    with np.errstate(all="ignore"):
        # Options settled in USD have their mark in USD.
        mark_coin = np.where(is_inverse, mark, mark / forward)
        short = standard_margin.option(-contract_size, mark_coin, forward, contracts["strike_usd"], contracts["is_call"])
        in_coin = np.where(is_inverse, 1.0, forward)

        def rate(of_future: Array, of_short_option: Array) -> Array:
            return np.asarray(np.where(is_future, of_future, np.where(is_option, of_short_option * in_coin, 0.0)) * required)

        flat = future(contracts["initial"], contracts["maintenance"], nothing)
        return standard_margin.Rates(
            unit=np.where(is_inverse & is_future, -contract_size / mark, contract_size * mark) * settlement,
            # Profit is linear in a basis that does not move with prices.
            basis_unit=np.where(is_future, np.where(is_inverse, -contract_size, contract_size), 0.0) * settlement,
            is_inverse=is_inverse & is_future,
            # Zero, but NaN if that of a short one is unknown: a missing price must not make an account healthy.
            initial_long=rate(flat.initial, 0.0 * short.initial),
            initial_short=rate(flat.initial, short.initial),
            maintenance_long=rate(flat.maintenance, 0.0 * short.maintenance),
            maintenance_short=rate(flat.maintenance, short.maintenance),
            square=rate(future(nothing, nothing, contracts["per_coin"]).initial, nothing),
        )


def usable(accounts: Accounts) -> Array:
    """Whether each contract is known and has a margin."""
    kinds = accounts.contract_columns
    return np.asarray((kinds["is_future"] + kinds["is_option"] > 0) & ~np.isnan(kinds["contract_size"]))


def units(accounts: Accounts, rows: Array) -> Array:
    """Positions, by their rows, in units of their contract size."""
    with np.errstate(over="ignore"):
        contract = accounts.position_columns["contract"][rows]
        return np.asarray(accounts.position_columns["size"][rows] * accounts.contract_columns["contract_size"][contract])


def micro(amounts: Array) -> Array:
    """Amounts in USD as whole micro-dollars."""
    return np.where(np.isfinite(amounts), np.rint(amounts * 1e6), np.nan)

"""All accounts valued at once: equity and requirements.

equity     cash at the index, unrealised profit of futures and perpetuals, and options at their mark, in USD
required   standard margin (udfs/standard_margin.py), or, for an account with a parameter set, portfolio margin
"""

import numpy as np

from kernels.liquidations.accounts import Accounts
from kernels.liquidations.portfolios import value_portfolios
from kernels.liquidations.pricing import Valuation, mark_prices, rates_of
from udfs import standard_margin


def value(accounts: Accounts) -> Valuation:
    """Value all accounts at once.  All amounts are in USD; sums are of whole micro-dollars."""
    if accounts.is_relisted:
        accounts.held.clear()
        accounts.is_relisted = False
    usd, mark = accounts.currency_columns["usd"], mark_prices(accounts)
    held, balances, count = accounts.position_columns, accounts.balance_columns, len(accounts.account_columns.rows)
    columns = (held[name] for name in ("account", "contract", "size", "average"))
    rates = rates_of(accounts, mark)
    totals = standard_margin.totals(rates, count, *columns)
    cash = standard_margin.cash(usd, count, *(balances[name] for name in ("account", "currency", "amount")))
    valuation = Valuation(
        (totals.value + cash) / 1e6,
        totals.initial / 1e6,
        totals.maintenance / 1e6,
        rates,
        mark,
        np.zeros(count),
        np.full(count, -1),
        [],
    )
    for model in accounts.sets:
        value_portfolios(accounts, model, valuation)
    accounts.moved.clear()
    accounts.is_valued = True
    return valuation


def is_past(accounts: Accounts, second: int) -> bool:
    """Whether accounts were valued in a later second: a sweep of the host may come after newer batches."""
    return accounts.second is not None and second < accounts.second


def keep_time(accounts: Accounts, second: int) -> bool:
    """Note the whole second of event time; returns whether it has changed."""
    if accounts.second == second:
        return False
    is_first, accounts.second = accounts.second is None, second
    accounts.moved |= {underlying for _, underlying, _ in accounts.held}
    if accounts.held:
        accounts.is_valued = False
    accounts.touched.add("clock")
    return not is_first

"""Portfolio margin of the accounts with a parameter set, by underlying (udfs/portfolio_margin.py).

Options are valued at their mark vols and the forward of their expiry (the median over its options), rate 0; futures at their
mark; the coin itself as collateral.  All accounts of a set are revalued at once, and only on underlyings with a change, or when
a second has passed: time to expiry is counted in whole seconds.
"""

import math

import numpy as np

from kernels.liquidations.accounts import Accounts, Held, Required
from kernels.liquidations.columns import Array
from kernels.liquidations.pricing import Valuation, micro, units, usable
from kernels.market.indices import DOLLARS
from udfs import portfolio_margin, portfolio_positions, portfolio_values
from udfs.margin_parameters import Haircut, Parameters

RESTLESS = 0.02
"""The greatest part of the accounts of a model that is arranged separately after a trade."""


def value_portfolios(accounts: Accounts, model: str, valuation: Valuation) -> None:
    """Replace standard margin by the requirement of one parameter set, for its accounts."""
    base, is_mine = accounts.sets[model], accounts.account_columns["model"] == accounts.number(model)
    rows = np.flatnonzero(is_mine)
    if not len(rows):
        return
    _arrange(accounts, model, is_mine)
    names = portfolio_margin.scenario_names(base)
    initial, maintenance = np.zeros(len(is_mine)), np.zeros(len(is_mine))
    for (chosen, underlying, is_restless), held in sorted(accounts.held.items(), key=lambda item: item[0]):
        if chosen != model:
            continue
        made = held.required
        if made is None or underlying in accounts.moved:
            others = accounts.held.get((chosen, underlying, False)) if is_restless else None
            if others and others.required and others.positions.instruments is held.positions.instruments:
                parameters, market, worth, _ = others.required
            else:
                parameters = base.scaled(accounts.factors.get(underlying, 1.0))
                market = _market(accounts, parameters, underlying, held, valuation)
                worth = portfolio_values.values(parameters, market, held.positions.instruments)
            required = portfolio_margin.requirements(parameters, market, held.positions, worth)
            made = Required(parameters, market, worth, required)
            accounts.held[chosen, underlying, is_restless] = held._replace(required=made)
        holders, required = held.positions.accounts[held.is_current], made.requirements
        initial[holders] += micro(required.initial[held.is_current])
        maintenance[holders] += micro(required.maintenance[held.is_current])
        worst_pnl = required.worst_pnl[held.is_current]
        loss = np.where(np.isfinite(worst_pnl), -worst_pnl, 0.0)
        worse = loss > valuation.worst_loss[holders]
        valuation.worst_loss[holders[worse]] = loss[worse]
        valuation.worst[holders[worse]] = len(valuation.scenarios) + required.worst[held.is_current][worse]
        valuation.scenarios.extend(f"{underlying}: {name}" for name in names)
    initial[list(accounts.priceless[model])] = np.nan
    valuation.initial[rows] = initial[rows] / 1e6
    valuation.maintenance[rows] = np.where(np.isnan(initial[rows]), np.nan, maintenance[rows] / 1e6)


def _arrange(accounts: Accounts, model: str, is_mine: Array) -> None:
    """Arrange the current holdings of the accounts of one model.

    Few accounts trade between two prices.  Those that have traded since all were arranged are arranged separately, until they
    are many.
    """
    restless, keys = (
        accounts.restless.setdefault(model, set()),
        [held_key for held_key in accounts.held if held_key[0] == model],
    )
    is_anew = not keys or len(restless) > RESTLESS * is_mine.sum()
    if is_anew:
        for held_key in keys:
            del accounts.held[held_key]
        restless.clear()
        at, funded = (
            np.flatnonzero((columns[amount] != 0) & is_mine[columns["account"]])
            for columns, amount in ((accounts.position_columns, "size"), (accounts.balance_columns, "amount"))
        )
        arranged = _arranged(accounts, at, funded, {})
        accounts.priceless[model] = set()
    elif not restless or any(held_key[2] for held_key in keys):
        return
    else:
        at, funded = _holdings(accounts, model, restless)
        arranged = _arranged(accounts, at, funded, {held_key[1]: accounts.held[held_key] for held_key in keys})
        accounts.priceless[model] -= restless
    for underlying, held in arranged.items():
        accounts.held[model, underlying, not is_anew] = held
    wrong = ~usable(accounts)[accounts.position_columns["contract"][at]] | ~np.isfinite(units(accounts, at))
    accounts.priceless[model] |= set(accounts.position_columns["account"][at][wrong].tolist())


def _holdings(accounts: Accounts, model: str, rows: set[int]) -> tuple[Array, Array]:
    """Rows of positions and of balances of some accounts, given the accounts' rows; only of those with this model."""
    own = [(name, accounts.accounts[name]) for name in map(accounts.account_names.__getitem__, sorted(rows))]
    own = [(name, account) for name, account in own if account.model == model]
    positions, balances = accounts.position_columns.rows, accounts.balance_columns.rows
    at = [positions[name, key] for name, account in own for key, (_, size, _) in account.positions.items() if size]
    funded = [balances[name, key] for name, account in own for key, (_, amount) in account.balances.items() if amount]
    return np.array(at, dtype=np.int64), np.array(funded, dtype=np.int64)


def _arranged(accounts: Accounts, at: Array, funded: Array, known: dict[str, Held]) -> dict[str, Held]:
    """The holdings of some accounts, by underlying, given the rows of their positions and balances.

    Columns are in the order of names.  If all contracts are among those of `known`, the columns are the same as there: both are
    then worth the same.
    """
    contract, account = accounts.position_columns["contract"][at], accounts.position_columns["account"][at]
    amounts = units(accounts, at)
    names = {row: name for name, row in accounts.contract_columns.rows.items()}
    by_underlying: dict[str, list[str]] = {}
    for row in np.unique(contract):
        terms = accounts.terms.get(names[int(row)])
        if terms is not None and terms.kind != "spot" and terms.contract_size is not None:
            by_underlying.setdefault(terms.underlying, []).append(names[int(row)])
    coins = {name: row for name, row in accounts.currency_columns.rows.items() if name not in DOLLARS}
    currency = accounts.balance_columns["currency"][funded]
    for coin, row in coins.items():
        if (currency == row).any():
            by_underlying.setdefault(coin, [])

    arranged: dict[str, Held] = {}
    for underlying, contracts in sorted(by_underlying.items()):
        like = known.get(underlying)
        if like and set(contracts) <= set(like.contracts):
            ordered, expiries, instruments = like.contracts, like.expiries, like.positions.instruments
        else:
            ordered, expiries, instruments = _instruments(accounts, contracts)
        columns = np.full(len(accounts.contract_columns["is_option"]), -1)
        columns[[accounts.contract_columns.row(name) for name in ordered]] = np.arange(len(ordered))
        own = np.flatnonzero((columns[contract] >= 0) & np.isfinite(amounts))
        coin = funded[currency == coins.get(underlying, -1)]
        positions = portfolio_positions.hold(
            instruments,
            np.concatenate([account[own], accounts.balance_columns["account"][coin]]),
            np.concatenate([columns[contract[own]], np.full(len(coin), len(ordered))]),
            np.concatenate([amounts[own], accounts.balance_columns["amount"][coin]]),
        )
        arranged[underlying] = Held(ordered, expiries, positions, np.ones(len(positions.accounts), dtype=np.bool_), None)
    return arranged


def _instruments(accounts: Accounts, contracts: list[str]) -> tuple[list[str], Array, portfolio_positions.Instruments]:
    """Contracts on one underlying in the order of their columns, options first; the expiries of the options, in s; and their
    terms."""
    options = sorted(name for name in contracts if accounts.terms[name].kind == "option")
    ordered = options + sorted(set(contracts) - set(options))
    expiry_s = np.array([(accounts.terms[name].expiry_ms or 0) / 1000 for name in options])
    expiries, expiry = np.unique(expiry_s, return_inverse=True)
    instruments = portfolio_positions.Instruments(
        expiry=expiry,
        strike=np.array([accounts.terms[name].strike_usd or math.nan for name in options], dtype=np.float64),
        is_call=np.array([accounts.terms[name].option_type == "call" for name in options], dtype=np.bool_),
        expiries=len(expiries),
        futures=len(ordered) - len(options),
        collaterals=1,
    )
    return ordered, expiries, instruments


def _market(
    accounts: Accounts, parameters: Parameters, underlying: str, held: Held, valuation: Valuation
) -> portfolio_values.Market:
    """The prices of one underlying, all in USD."""
    contracts, instruments = accounts.contract_columns, held.positions.instruments
    rows = np.array([contracts.row(name) for name in held.contracts], dtype=np.int64)
    options, futures = rows[: len(instruments.strike)], rows[len(instruments.strike) :]
    usd = accounts.currency_columns["usd"]
    spot = float(usd[accounts.currency(underlying)])
    # All options, held or not: a requirement must not depend on the positions of other accounts.
    is_quoted = (contracts["is_option"] > 0) & (contracts["underlying"] == accounts.currency(underlying))
    is_quoted &= contracts["forward_usd"] > 0
    quotes = (contracts["forward_usd"][is_quoted & (contracts["expiry_s"] == expiry)] for expiry in held.expiries)
    forward = np.array([np.median(quoted) if len(quoted) else spot for quoted in quotes], dtype=np.float64)
    haircut = parameters.collaterals.get(underlying, Haircut(0.0, 0.0, True))
    # A unit of an inverse contract is a USD: its value in USD is the same at any price, because the coins that it pays move
    # too.
    is_inverse = contracts["is_inverse"][futures] > 0
    settlement = usd[contracts["settlement"][futures]]
    sure = np.ones(1)
    return portfolio_values.Market(
        spot=spot,
        spot_confidence=1.0,
        stable=1.0,
        expiry_s=np.asarray(held.expiries - (accounts.second or 0), dtype=np.float64),
        forward=forward,
        rate=np.zeros(instruments.expiries),
        expiry_confidence=np.ones(instruments.expiries),
        vol=contracts["vol"][options],
        future_price=np.where(is_inverse, settlement / valuation.mark[futures], valuation.mark[futures] * settlement),
        future_confidence=np.ones(len(futures)),
        collateral_usd=spot * sure,
        collateral_confidence=sure,
        collateral_threshold=0.0 * sure,
        mmhaircut=haircut.mmhaircut * sure,
        imhaircut=haircut.imhaircut * sure,
        is_risk_cancelling=np.array([haircut.is_risk_cancelling]),
    )

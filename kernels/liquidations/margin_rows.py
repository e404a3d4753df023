"""The rows of an account and of each of its positions: equity, requirements, and the contribution of each position."""

import math

import numpy as np

from engine.contract import Output
from kernels.liquidations.accounts import STANDARD, Account, Accounts
from kernels.liquidations.columns import Array
from kernels.liquidations.pricing import Valuation, units, usable
from kernels.market.indices import DOLLARS
from schemas.rows import instant_ms
from udfs import liquidation_probability, portfolio_margin, portfolio_positions, standard_margin

STATUS = ("healthy", "margin_call", "liquidation", "unpriced")
HEALTHY, MARGIN_CALL, LIQUIDATION, UNPRICED = range(len(STATUS))


def account_row(
    accounts: Accounts, valuation: Valuation, name: str, status: int, chances: Array, errors: Array, event_ms: int
) -> Output:
    """The row of one account."""
    account, row = accounts.accounts[name], accounts.account_columns.row(name)
    equity, initial, maintenance = (float(x[row]) for x in (valuation.equity, valuation.initial, valuation.maintenance))
    reason = None
    if status == UNPRICED:
        reason = missing(accounts, valuation, account)
    elif status == LIQUIDATION:
        reason = f"maintenance margin {maintenance:.2f} USD exceeds equity {equity:.2f} USD"
    elif status == MARGIN_CALL:
        reason = f"initial margin {initial:.2f} USD exceeds equity {equity:.2f} USD"
    is_priced = status != UNPRICED
    margin = {
        "account": name,
        "event_at": instant_ms(event_ms),
        "model": account.model,
        "equity_usd": equity if is_priced else None,
        "initial_margin_usd": initial if is_priced else None,
        "maintenance_margin_usd": maintenance if is_priced else None,
        "margin_ratio": maintenance / equity if is_priced and equity > 0 else None,
        "status": STATUS[status],
        "reason": reason,
        "worst_scenario": valuation.scenarios[valuation.worst[row]] if is_priced and valuation.worst[row] >= 0 else None,
        "worst_loss_usd": float(valuation.worst_loss[row]) if is_priced and account.model != STANDARD else None,
    }
    for horizon, chance in zip(liquidation_probability.HORIZONS_S, chances, strict=True):
        margin[f"liquidation_probability_{horizon}"] = None if np.isnan(chance) else float(chance)
    for horizon, error in zip(liquidation_probability.HORIZONS_S, errors, strict=True):
        margin[f"liquidation_probability_{horizon}_error"] = None if np.isnan(error) else float(error)
    return Output("account_margin", event_ms, margin)


def position_rows(accounts: Accounts, valuation: Valuation, names: list[str], event_ms: int) -> list[Output]:
    """The rows of these accounts' positions, by account and instrument."""
    held = [
        (name, contract_name)
        for name in names
        for contract_name, (_, size, _) in sorted(accounts.accounts[name].positions.items())
        if size
    ]
    if not held:
        return []
    rows = np.array([accounts.position_columns.rows[pair] for pair in held])
    contract = accounts.position_columns["contract"][rows]
    alone = standard_margin.by_itself(valuation.rates, contract, accounts.position_columns["size"][rows])
    initial, maintenance = (np.where(usable(accounts)[contract], margin, np.nan) for margin in alone)
    added, loss, worst = _contributions(accounts, names, rows, maintenance)
    amounts = (_known(np.rint(amount * 1e6) / 1e6) for amount in (initial, maintenance, added, loss))
    numbers = zip(
        accounts.position_columns["size"][rows].tolist(), _known(valuation.mark[contract]), *amounts, worst, strict=True
    )
    event_at, outputs = instant_ms(event_ms), []
    for (name, contract_name), (size, mark, *margins, scenario) in zip(held, numbers, strict=True):
        venue, _, instrument = contract_name.partition(":")
        row = {
            "account": name,
            "venue": venue,
            "instrument": instrument,
            "event_at": event_at,
            "size": size,
            "mark_price": mark,
            "initial_margin_usd": margins[0],
            "maintenance_margin_usd": margins[1],
            "contribution_usd": margins[2],
            "worst_scenario": scenario,
            "worst_loss_usd": margins[3],
        }
        outputs.append(Output("position_margin", event_ms, row))
    return outputs


def _contributions(accounts: Accounts, names: list[str], rows: Array, standard: Array) -> tuple[Array, Array, list[str | None]]:
    """What positions, by their rows, add to their accounts' maintenance margin and lose in the worst scenario, and its name.

    Positions of accounts with standard margin add `standard`; they have no scenario.
    """
    account, contract = accounts.position_columns["account"][rows], accounts.position_columns["contract"][rows]
    contracts, model = accounts.contract_columns, accounts.account_columns["model"][account]
    is_usable, amounts = usable(accounts)[contract], units(accounts, rows)
    holders_by_row = {accounts.account_columns.row(name): name for name in names}
    added, loss = np.where(model == accounts.number(STANDARD), standard, np.nan), np.full(len(rows), np.nan)
    worst: list[str | None] = [None] * len(rows)
    for (chosen, underlying, _), held in sorted(accounts.held.items(), key=lambda item: item[0]):
        is_on = (model == accounts.number(chosen)) & (contracts["underlying"][contract] == accounts.currency(underlying))
        is_here = np.isin(account, held.positions.accounts[held.is_current])
        own = np.flatnonzero(is_on & is_here & is_usable & np.isfinite(amounts))
        if held.required is None or not len(own):
            continue
        column = np.zeros(len(contracts["underlying"]), dtype=np.int64)
        column[[contracts.row(name) for name in held.contracts]] = np.arange(len(held.contracts))
        holders, coin = np.unique(account[own]), len(held.contracts)
        coins = [
            accounts.accounts[holders_by_row[row]].balances.get(underlying, (0, 0.0))[1] * (underlying not in DOLLARS)
            for row in holders
        ]
        positions = portfolio_positions.hold(
            held.positions.instruments,
            np.concatenate([account[own], holders]),
            np.concatenate([column[contract[own]], np.full(len(holders), coin)]),
            np.concatenate([amounts[own], coins]),
        )
        parameters, market, worth, required = held.required
        parts = portfolio_margin.contributions(parameters, market, positions, worth)
        _, own_index, part_index = np.intersect1d(
            account[own] * (coin + 1) + column[contract[own]], parts.account * (coin + 1) + parts.column, return_indices=True
        )
        added[own[own_index]], loss[own[own_index]] = parts.maintenance[part_index], 0.0 - parts.worst_pnl[part_index]
        scenarios = portfolio_margin.scenario_names(parameters)
        for index, scenario in zip(own, required.worst[np.searchsorted(held.positions.accounts, account[own])], strict=True):
            if scenario >= 0 and not math.isnan(loss[index]):
                worst[index] = f"{underlying}: {scenarios[scenario]}"
    return added, loss, worst


def _known(numbers: Array) -> list[float | None]:
    return [number if math.isfinite(number) else None for number in numbers.tolist()]


def missing(accounts: Accounts, valuation: Valuation, account: Account) -> str:
    """Why an account cannot be valued: the first reason by name."""
    usd, row_of = accounts.currency_columns["usd"], accounts.contract_columns.row
    for name, (_, size, _) in sorted(account.positions.items()):
        if size == 0:
            continue
        terms = accounts.terms.get(name)
        if terms is None:
            return f"the terms of {name} are not known"
        if terms.contract_size is None:
            return f"the contract size of {name} is not known"
        if terms.kind == "spot":
            return f"{name} is spot, which is held as a balance and not as a position"
        if np.isnan(valuation.mark[accounts.contract_columns.row(name)]):
            return f"{name} has no mark price"
        for currency in (terms.settlement_currency, *([terms.underlying] if terms.kind == "option" else [])):
            if np.isnan(usd[accounts.currency(currency)]):
                return f"{currency} has no index price"
        if account.model != STANDARD and terms.kind == "option" and np.isnan(accounts.contract_columns["vol"][row_of(name)]):
            return f"{name} has no mark volatility"
        if account.model != STANDARD and np.isnan(usd[accounts.currency(terms.underlying)]):
            return f"{terms.underlying} has no index price"
    for currency, (_, amount) in sorted(account.balances.items()):
        if amount != 0 and np.isnan(usd[accounts.currency(currency)]):
            return f"{currency} has no index price"
    return "its numbers are too large to be valued"

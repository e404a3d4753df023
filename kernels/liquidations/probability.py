"""The probability that an account becomes liquidatable.

If one underlying drives the account, it is the first passage (udfs/liquidation_probability.py) of that underlying to the price
at which the excess over the maintenance margin, taken to be linear in that price, is zero.  If several do, it is a Monte Carlo
estimate with its standard error; the excess is taken to be linear in their prices, which move together by `CORRELATION`.  The
estimate uses `PATHS` paths of `PATH_STEPS` steps, whose seed is the account and the second, so it does not depend on other
accounts.  The estimates of a batch are for the accounts nearest to liquidation by their margin ratio.
"""

import math
from hashlib import blake2b

import numpy as np

from kernels.liquidations.accounts import STANDARD, Accounts
from kernels.liquidations.columns import Array
from kernels.liquidations.pricing import Valuation, forward_prices, micro
from kernels.liquidations.volatility import short_vol
from kernels.market.indices import DOLLARS
from udfs import black76, liquidation_probability, standard_margin

SECONDS_PER_YEAR = 365 * 86_400
PATHS, PATH_STEPS = 512, 8
CORRELATION = 0.8
"""Between the returns of any two coins.  Our own choice: coins fall together, and no topic has their correlation."""


def probabilities(accounts: Accounts, valuation: Valuation, names: list[str], estimates: int) -> tuple[Array, Array, int]:
    """The probability that accounts, by sorted names, become liquidatable within each of `HORIZONS_S`, and its standard error.

    NaN if there is no answer.  The third value is the number of estimates made, at most `estimates`.
    """
    rows = np.array([accounts.account_columns.row(name) for name in names])
    usd, count = accounts.currency_columns["usd"], len(rows)
    # Only the holdings of these accounts, each by the index of its account in `names`.
    index = np.full(len(valuation.equity), -1)
    index[rows] = np.arange(count)
    at = np.flatnonzero((accounts.position_columns["size"] != 0) & (index[accounts.position_columns["account"]] >= 0))
    coins = _deltas(accounts, at)
    contract, account = (accounts.position_columns[name][at] for name in ("contract", "account"))
    underlying_row, balances = accounts.contract_columns["underlying"][contract], accounts.balance_columns
    funded = np.flatnonzero((balances["amount"] != 0) & (index[balances["account"]] >= 0))
    currency, holder = balances["currency"][funded], balances["account"][funded]
    coins_by_row = {row: name for name, row in accounts.currency_columns.rows.items()}
    drives: dict[int, Array] = {}
    for row in np.unique(np.concatenate([underlying_row, currency])).astype(int):
        if coins_by_row.get(row) not in DOLLARS:
            is_held, is_funded, S = underlying_row == row, currency == row, usd[row]
            total = _sums(index[account[is_held]], coins[is_held] * S, count)
            total = total + _sums(index[holder[is_funded]], balances["amount"][funded[is_funded]] * S, count)
            drives[row] = np.where(total == 0, 0.0, total / 1e6 / S)
    answer = np.full((len(rows), len(liquidation_probability.HORIZONS_S)), np.nan)
    moving = sum(((delta != 0).astype(int) for delta in drives.values()), np.zeros(len(rows), dtype=int))
    excess = valuation.equity[rows] - valuation.maintenance[rows]
    answer[(moving == 0) & ~np.isnan(excess)] = 0.0
    years = np.array([*liquidation_probability.HORIZONS_S.values()]) / SECONDS_PER_YEAR
    vols = {row: short_vol(accounts, coins_by_row[row]) for row in drives}
    for row, delta in drives.items():
        vol, S = vols[row], float(usd[row])
        picked = np.flatnonzero((moving == 1) & (delta != 0))
        if math.isnan(vol) or not S > 0 or not len(picked):
            continue
        with np.errstate(all="ignore"):
            slope = delta[picked] - valuation.maintenance[rows][picked] / S
            barrier = S - excess[picked] / slope
        P = liquidation_probability.first_passage(S, np.where(barrier > 0, barrier, S)[:, np.newaxis], years, vol)
        P = np.where((barrier > 0)[:, np.newaxis], P, 0.0)
        answer[picked] = np.where((excess[picked] <= 0)[:, np.newaxis], 1.0, P)
    answer[(moving > 1) & (excess <= 0)] = 1.0
    is_open = (moving > 1) & (excess > 0) & (valuation.maintenance[rows] > 0)
    is_known = ~np.isnan(excess)
    for row, delta in drives.items():
        is_known &= ~np.isnan(delta)
        if math.isnan(vols[row]) or not usd[row] > 0:
            is_open &= delta == 0
    errors = np.full_like(answer, np.nan)
    picked = np.flatnonzero(is_open & is_known)
    ratio = valuation.maintenance[rows[picked]] / valuation.equity[rows[picked]]
    # By name if ratios are equal: `names` is sorted, and the sort is stable.
    chosen = picked[np.argsort(-ratio, kind="stable")[:estimates]]
    for spot in chosen:
        needs = _needs(accounts, valuation, names[spot])
        moved = sorted(
            (coins_by_row[row], vols[row], float(usd[row]), float(delta[spot]))
            for row, delta in drives.items()
            if delta[spot] != 0
        )
        slope = [delta - needs.get(underlying, 0.0) / S for underlying, _, S, delta in moved]
        answer[spot], errors[spot] = _estimate(
            float(excess[spot]),
            slope,
            [S for _, _, S, _ in moved],
            [vol for _, vol, _, _ in moved],
            (names[spot], accounts.second),
        )
    answer[~is_known & ~(excess <= 0)] = np.nan
    # An account without a requirement cannot be liquidated.
    answer[(valuation.maintenance[rows] == 0) & ~np.isnan(excess)] = 0.0
    return answer, errors, len(chosen)


def _deltas(accounts: Accounts, at: Array) -> Array:
    """Deltas of positions, by their rows, in units of their underlying."""
    contracts = accounts.contract_columns
    contract, size, average = (accounts.position_columns[name][at] for name in ("contract", "size", "average"))
    is_future, contract_size = contracts["is_future"][contract] > 0, contracts["contract_size"]
    years = np.maximum(contracts["expiry_s"] - (accounts.second or 0), 0.0) / SECONDS_PER_YEAR
    is_call = contracts["is_call"].astype(bool)
    with np.errstate(all="ignore"):
        # An inverse contract pays its profit in coin: size/average coins, less a fixed amount of USD.
        future = size * contract_size[contract] / np.where(contracts["is_inverse"][contract] > 0, average, 1.0)
        slope = black76.greeks(forward_prices(accounts), contracts["strike_usd"], years, contracts["vol"], is_call).delta
        option = np.where(contracts["is_option"][contract] > 0, size * (contract_size * slope)[contract], 0.0)
    return np.where(is_future, future, option)


def _needs(accounts: Accounts, valuation: Valuation, name: str) -> dict[str, float]:
    """Maintenance requirement of an account, by underlying."""
    account, row = accounts.accounts[name], accounts.account_columns.row(name)
    needs: dict[str, float] = {}
    if account.model != STANDARD:
        for (model, underlying, _), held in accounts.held.items():
            rows = np.flatnonzero((held.positions.accounts == row) & held.is_current)
            if model == account.model and held.required is not None and len(rows):
                needs[underlying] = float(held.required.requirements.maintenance[rows].sum())
        return needs
    for contract_name, (_, size, _) in sorted(account.positions.items()):
        if size:
            underlying, contract = accounts.terms[contract_name].underlying, accounts.contract_columns.row(contract_name)
            maintenance = float(standard_margin.by_itself(valuation.rates, contract, size).maintenance)
            needs[underlying] = needs.get(underlying, 0.0) + maintenance
    return needs


def _estimate(
    excess: float, slope: list[float], S: list[float], vol: list[float], seed: tuple[str, int | None]
) -> tuple[list[float], list[float]]:
    """Probabilities and standard errors for one account, by horizon."""
    exposures = liquidation_probability.Exposures(np.array([excess]), np.array([slope]), np.zeros((1, len(slope))))
    correlation = np.full((len(S), len(S)), CORRELATION)
    np.fill_diagonal(correlation, 1.0)
    number = int.from_bytes(blake2b(repr(seed).encode(), digest_size=8).digest())
    estimates = [
        liquidation_probability.monte_carlo(
            exposures, S, vol, correlation, seconds / SECONDS_PER_YEAR, number, paths=PATHS, steps=PATH_STEPS
        )
        for seconds in liquidation_probability.HORIZONS_S.values()
    ]
    return [float(estimate.probability[0]) for estimate in estimates], [
        float(estimate.standard_error[0]) for estimate in estimates
    ]


def _sums(account: Array, amounts: Array, count: int) -> Array:
    return np.bincount(account, micro(amounts), minlength=count)

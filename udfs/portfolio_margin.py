"""Portfolio margin: every account revalued in every scenario, what it holds on one underlying netted.

For one underlying, with V the value of what an account holds of one expiry, M that value now, and f the discounted value of
`portfolio_values`,

    scenario          dampening · (Σ_expiries (f(V') - M) + (shock - 1) (futures at their price + risk-cancelling collateral))
    skew scenario     dampening · Σ_expiries -|f(V') - M|
    basis             Σ_expiries min(V_up - M, V_down - M, 0) (add + mult T), which competes with the scenarios
    maintenance       mm_factor · worst loss + contingencies
    initial           (im_factor + max(0, peg threshold - stable) peg_factor) · worst loss + those and the initial contingencies

Contingencies are those of `portfolio_values`, and fractions of net-short options times the spot.  Requirements on several
underlyings add up, without offset.

All of this is one pass of compiled code: a sparse product of positions and values, whose rows are accounts.  It nets one expiry
before it goes on to the next, so that nothing of the size of positions times scenarios is ever written.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from udfs.compiled import allocating
from udfs.margin_parameters import Parameters
from udfs.portfolio_positions import FloatArray, IndexArray, IntArray, Positions
from udfs.portfolio_values import Market, Values, values

BASIS = "basis"


class Requirements(NamedTuple):
    """What the accounts of one `Positions` require on that underlying; one entry for each row."""

    mark: FloatArray  # value of options and collateral now; a future's gain is cash
    initial: FloatArray
    maintenance: FloatArray
    worst_pnl: FloatArray  # of the worst scenario, 0 or less
    worst: IntArray  # which that is, of `scenario_names`; -1 where none loses


class Margins(NamedTuple):
    """Margin of whole accounts, one entry for each; liquidatable where maintenance is negative."""

    mark: FloatArray  # value of everything, cash included
    initial: FloatArray  # what of it is left after the initial requirement
    maintenance: FloatArray  # what of it is left after the maintenance requirement
    ratio: FloatArray  # maintenance requirement over mark; above 1 is liquidatable, infinite where nothing is there to cover it
    worst_underlying: IntArray  # which of the requirements given has the worst loss; -1 where none has
    worst: IntArray  # its worst scenario; -1 where none loses


class Contributions(NamedTuple):
    """What each position adds; over an account's positions they sum to its requirement and mark."""

    account: IntArray
    column: IntArray
    mark: FloatArray
    initial: FloatArray  # requirement; negative where the position offsets others
    maintenance: FloatArray
    worst_pnl: FloatArray


def scenario_names(parameters: Parameters) -> list[str]:
    """The scenarios as `worst` counts them: those of the set, then `BASIS`."""
    return [*(scenario.name for scenario in parameters.scenarios), BASIS]


def requirements(parameters: Parameters, market: Market, positions: Positions, worth: Values | None = None) -> Requirements:
    """What every account requires on one underlying: a row for each of `positions.accounts`.

    `worth` is what `values` gives for the same market and instruments; made here where it is not given.
    NaN where a price that the account needs is NaN.  When one underlying has moved, only its requirements need to be made
    again: `margins` adds them to those of the others.
    Raises `ValueError` where market and instruments do not fit each other.
    """
    worth = values(parameters, market, positions.instruments) if worth is None else worth
    net = _net(parameters, worth, positions, with_pnl=False)
    other = parameters.other_contingency
    short_value = positions.short * market.spot
    maintenance_cost = net.costs[:, 0] + short_value * other.mm_option_percent
    initial_cost = np.where(positions.holds_future, net.costs[:, 2], net.costs[:, 1]) + short_value * other.im_option_percent
    return Requirements(
        mark=net.mark,
        initial=_initial_factor(parameters, market) * -net.worst_pnl + maintenance_cost + initial_cost,
        maintenance=parameters.margin.mm_loss_factor * -net.worst_pnl + maintenance_cost,
        worst_pnl=net.worst_pnl,
        worst=np.append(worth.order, -1)[net.worst],
    )


def scenario_pnl(parameters: Parameters, market: Market, positions: Positions) -> FloatArray:
    """Gain or loss of every account in every scenario: rows × `scenario_names`.  Raises as `requirements` does."""
    worth = values(parameters, market, positions.instruments)
    pnl = np.empty((len(positions.accounts), len(worth.order)))
    pnl[:, worth.order] = _net(parameters, worth, positions, with_pnl=True).pnl
    return pnl


def margins(accounts: int, cash: ArrayLike, held: Sequence[tuple[Positions, Requirements]]) -> Margins:
    """Margin of accounts 0 to `accounts` - 1, the numbers that `hold` was given, from cash and what they require.

    `cash` is one number for each account, or one for all: cash, and gains not yet paid.  `held` has a pair for each
    underlying.
    """
    mark = np.zeros(accounts) + np.asarray(cash, dtype=np.float64)
    initial, maintenance, worst_pnl = np.zeros(accounts), np.zeros(accounts), np.zeros(accounts)
    worst, worst_underlying = np.full(accounts, -1), np.full(accounts, -1)
    for number, (positions, required) in enumerate(held):
        rows = positions.accounts
        mark[rows] += required.mark
        initial[rows] += required.initial
        maintenance[rows] += required.maintenance
        is_worse = required.worst_pnl < worst_pnl[rows]
        worse = rows[is_worse]
        worst_pnl[worse], worst[worse] = required.worst_pnl[is_worse], required.worst[is_worse]
        worst_underlying[worse] = number
    with np.errstate(divide="ignore", invalid="ignore"):
        uncovered = np.where((mark < 0.0) | (maintenance > 0.0), np.inf, 0.0)
        ratio = np.where(mark > 0.0, maintenance / mark, np.where(np.isnan(mark + maintenance), np.nan, uncovered))
    return Margins(mark, mark - initial, mark - maintenance, ratio, worst_underlying, worst)


def contributions(parameters: Parameters, market: Market, positions: Positions, worth: Values | None = None) -> Contributions:
    """What each position adds to the requirement of its account: amount times the slope of the requirement along it.

    The requirement is homogeneous of degree one in the amounts, so that these add up to it exactly (Euler's theorem; Tasche
    1999).  At a kink it is the slope of the branch that `requirements` takes.  `worth` is as there, and what is raised too.
    """
    worth = values(parameters, market, positions.instruments) if worth is None else worth
    required = requirements(parameters, market, positions, worth)
    row, column, amount, group = positions.row, positions.column, positions.amount, positions.group
    worst, expiry = required.worst[row], positions.group_expiry[group]
    scenarios = len(parameters.scenarios)
    index = np.empty(scenarios + 1, dtype=np.int64)
    index[worth.order] = np.arange(scenarios + 1)
    factor = np.append([scenario.dampening_factor for scenario in parameters.scenarios], 1.0)[worst]

    def group_sum(each: FloatArray) -> FloatArray:
        """The sum over what each position's account holds of its expiry."""
        summed = np.bincount(group, weights=amount * each, minlength=len(positions.group_expiry))
        return np.asarray(summed[group], dtype=np.float64)

    now, up, down = (worth.netted[column, at] for at in (-3, -2, -1))
    value = worth.netted[column, np.where(worst == scenarios, 0, index[worst])]
    unit = value * np.where(group_sum(value) >= 0.0, worth.longs[expiry], worth.shorts[expiry]) - now
    is_skew = np.isin(worst, worth.order[-1 - worth.skews : -1])
    unit = np.where(is_skew & (group_sum(unit) > 0.0), -unit, unit)
    sum_up, sum_down = group_sum(up - now), group_sum(down - now)
    basis = (
        np.where(sum_up <= sum_down, up - now, down - now) * (np.minimum(sum_up, sum_down) < 0.0) * worth.basis_factor[expiry]
    )
    pnl = np.where(worst < 0, 0.0, amount * factor * np.where(worst == scenarios, basis, unit))

    cost = np.abs(amount)[:, np.newaxis] * worth.costs[column]
    short = positions.short_share * market.spot
    contingency = parameters.other_contingency
    maintenance_cost = cost[:, 0] + short * contingency.mm_option_percent
    initial_cost = np.where(positions.holds_future[row], cost[:, 2], cost[:, 1]) + short * contingency.im_option_percent
    return Contributions(
        account=positions.accounts[row],
        column=column.astype(np.int64),
        mark=amount * worth.mark[column],
        initial=_initial_factor(parameters, market) * -pnl + maintenance_cost + initial_cost,
        maintenance=parameters.margin.mm_loss_factor * -pnl + maintenance_cost,
        worst_pnl=pnl,
    )


class _Net(NamedTuple):
    """The result of netting, one entry for each row; scenarios in the order of `Values`."""

    mark: FloatArray
    costs: FloatArray  # rows × 3
    worst_pnl: FloatArray
    worst: IntArray
    pnl: FloatArray  # rows × scenarios, where asked for


def _net(parameters: Parameters, worth: Values, positions: Positions, with_pnl: bool) -> _Net:
    rows, scenarios = len(positions.accounts), len(worth.order)
    net = _Net(
        mark=np.zeros(rows),
        costs=np.zeros((rows, 3)),
        worst_pnl=np.zeros(rows),
        worst=np.full(rows, -1),
        pnl=np.zeros((rows if with_pnl else 0, scenarios)),
    )
    factor = np.append([scenario.dampening_factor for scenario in parameters.scenarios], 1.0)[worth.order]
    held = positions.row_at, positions.group_at, positions.group_expiry, positions.column, positions.amount
    each = worth.mark, worth.netted, worth.costs, worth.longs, worth.shorts, worth.basis_factor
    _net_rows(*held, *each, factor, worth.skews, *net)
    return net


@allocating
def _net_rows(
    row_at: IndexArray,
    group_at: IndexArray,
    group_expiry: IndexArray,
    column: IndexArray,
    amount: FloatArray,
    mark: FloatArray,
    netted: FloatArray,
    costs: FloatArray,
    longs: FloatArray,
    shorts: FloatArray,
    basis_factor: FloatArray,
    factor: FloatArray,
    skews: int,
    row_mark: FloatArray,
    row_costs: FloatArray,
    worst_pnl: FloatArray,
    worst: IntArray,
    pnl: FloatArray,
) -> None:
    """Fill the last five arguments, the fields of `_Net`, which hold zeros and -1 before."""
    width = netted.shape[1]
    basis = width - 3  # the index of `now` in a row of values, and of the basis in one of gains
    regular = basis - skews
    value, gain = np.empty(width), np.empty(basis + 1)
    for row in range(len(row_mark)):
        gain[:] = 0.0
        for group in range(row_at[row], row_at[row + 1]):
            value[:] = 0.0
            for position in range(group_at[group], group_at[group + 1]):
                n, instrument = amount[position], column[position]
                row_mark[row] += n * mark[instrument]
                for cost in range(3):
                    row_costs[row, cost] += abs(n) * costs[instrument, cost]
                for scenario in range(width):
                    value[scenario] += n * netted[instrument, scenario]
            expiry = group_expiry[group]
            p, q, now = longs[expiry], shorts[expiry], value[basis]
            for scenario in range(regular):
                V = value[scenario]
                gain[scenario] += (p if V >= 0.0 else q) * V - now
            for scenario in range(regular, basis):
                V = value[scenario]
                gain[scenario] -= abs((p if V >= 0.0 else q) * V - now)
            gain[basis] += min(value[basis + 1] - now, value[basis + 2] - now, 0.0) * basis_factor[expiry]
        for scenario in range(basis + 1):
            loss = gain[scenario] * factor[scenario]
            # A missing price (NaN) must not look like no loss.
            if loss < worst_pnl[row] or np.isnan(loss):
                worst_pnl[row], worst[row] = loss, scenario
            if len(pnl):
                pnl[row, scenario] = loss


def _initial_factor(parameters: Parameters, market: Market) -> float:
    other = parameters.other_contingency
    return parameters.margin.im_loss_factor + max(0.0, other.peg_loss_threshold - market.stable) * other.peg_loss_factor

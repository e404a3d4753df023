"""Portfolio margin: every account revalued in every scenario, what it holds on one underlying netted.

For one underlying, with V the value of what an account holds of one expiry and M that value now,

    option value      Black (1976) times D = e^(-rT), r = max(rate, 0); at or past expiry the intrinsic value
    forward           F (1 - u) + F u · shock, u = min(s/1800, 1): what the settlement average has fixed stays, s seconds before
    vol               up max(v (1 + range_up m), minimum), down v max(0, 1 - range_down m), m = (30/max(days, floor))^power
    skew              v max(0, 1 + x), x = k cap/k*, not beyond cap on its side of k = ln(K/F) (ABS: |k|);
                      cap = c_base √T + scale_cap, k* = max(min_k*, √T width (static + √T scale))
    discounted value  f(V) = p V for V ≥ 0 and n V for V < 0,
                      p = static e^(-T (r long_mult + long_add)), n = min(1/D, static_neg e^(T (r short_mult + short_add)))
    scenario          dampening · (Σ_expiries (f(V') - M) + (shock - 1) (futures at their price + risk-cancelling collateral))
    skew scenario     dampening · Σ_expiries -|f(V') - M|
    basis             Σ_expiries min(V_up - M, V_down - M, 0) (add + mult T), which competes with the scenarios
    maintenance       mm_factor · worst loss + contingencies
    initial           (im_factor + max(0, peg threshold - stable) peg_factor) · worst loss + those and the initial contingencies

Contingencies are fractions of futures and of net-short options times the spot, haircuts of collateral, and for initial
margin (1 - c) conf_margin times the notional where an oracle's confidence c is below its threshold.  Requirements on several
underlyings add up, without offset.

All of this is one pass of compiled code: a sparse product of positions and values, whose rows are accounts, which nets an
expiry before it goes on to the next, so that nothing of the size of positions times scenarios is ever written.

Money is in the currency that accounts settle in, whose price in USD is the stable price; rows are accounts, columns what can
be held: the options, then the futures, then the collaterals.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs import black76
from udfs.compiled import allocating
from udfs.margin_parameters import SKEWS, VOL_DIRECTIONS, Parameters

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
IndexArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]

SETTLEMENT_S = 1800.0
SECONDS_PER_YEAR = 365 * 86_400.0
BASIS = "basis"


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


class Market(NamedTuple):
    """Prices on one underlying at one instant, confidences from 0 to 1 with them."""

    spot: float
    spot_confidence: float
    stable: float  # USD for one unit of the settlement currency
    expiry_s: FloatArray  # seconds to each expiry; 0 or less is past it
    forward: FloatArray  # of each expiry
    rate: FloatArray  # a year, as a fraction
    expiry_confidence: FloatArray  # the least of those of forward, rate and vols
    vol: FloatArray  # of each option
    future_price: FloatArray
    future_confidence: FloatArray
    collateral_usd: FloatArray  # price of each collateral
    collateral_confidence: FloatArray
    collateral_threshold: FloatArray  # a confidence below it counts
    mmhaircut: FloatArray
    imhaircut: FloatArray
    is_risk_cancelling: BoolArray


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


class Values(NamedTuple):
    """What one unit of every instrument is worth.  R scenarios move the spot and Q the skew."""

    mark: FloatArray  # columns; 0 for a future
    netted: FloatArray  # columns × (R, Q, now, up, down): options' values, undiscounted, and the others' gains in R, else 0
    costs: FloatArray  # columns × (maintenance, initial, initial beside a future): contingencies for one unit of |amount|
    longs: FloatArray  # p of each expiry, and 1 for what has none
    shorts: FloatArray  # n, likewise
    basis_factor: FloatArray  # of each expiry, and 0
    order: IntArray  # which scenario each of R and Q is, then the basis
    skews: int  # Q


def scenario_names(parameters: Parameters) -> list[str]:
    """The scenarios as `worst` counts them: those of the set, then `BASIS`."""
    return [*(scenario.name for scenario in parameters.scenarios), BASIS]


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


def values(parameters: Parameters, market: Market, instruments: Instruments) -> Values:
    """What one unit of every instrument is worth now and in the scenarios, before anything is netted.

    Raises `ValueError` where market and instruments do not fit each other.
    """
    _check(market, instruments)
    regular, skew = _split(parameters)
    scenarios = parameters.scenarios
    shock = np.array([scenarios[at].spot_shock for at in regular])
    direction = [VOL_DIRECTIONS.index(scenarios[at].vol_shock_direction) for at in regular]
    loss, basis = parameters.margin, parameters.basis_contingency

    left_s = np.maximum(market.expiry_s, 0.0)
    T, r, F = left_s / SECONDS_PER_YEAR, np.maximum(market.rate, 0.0), market.forward
    D = np.exp(-r * T)
    expiry, K, is_call = instruments.expiry, instruments.strike[:, np.newaxis], instruments.is_call[:, np.newaxis]
    T_, D_ = T[expiry, np.newaxis], D[expiry, np.newaxis]
    unfixed = np.minimum(left_s / SETTLEMENT_S, 1.0)

    def value(shocks: FloatArray, vol: FloatArray) -> FloatArray:
        shocked = F[:, np.newaxis] * (1.0 + unfixed[:, np.newaxis] * (shocks - 1.0))
        return np.asarray(D_ * black76.price(shocked[expiry], K, T_, vol, is_call), dtype=np.float64)

    vols = np.stack([market.vol, *_shocked_vols(parameters, market, instruments)], axis=1)
    is_linear = [scenarios[at].vol_shock_direction == SKEWS[0] for at in skew]
    skewed = {which: _skewed_vol(parameters, market, instruments, which) for which in sorted(set(is_linear))}
    each_vol = np.stack([*vols[:, direction].T, *(skewed[which] for which in is_linear), *[market.vol] * 3], axis=1)
    around = [1.0, basis.scenario_spot_up, basis.scenario_spot_down]
    worth = value(np.concatenate([shock, np.ones(len(skew)), around]), each_vol)

    collateral = market.collateral_usd / market.stable
    moving = np.append(market.future_price, np.where(market.is_risk_cancelling, collateral, 0.0))
    netted = np.zeros((instruments.columns, len(scenarios) + 3))
    netted[: len(expiry)] = worth
    netted[len(expiry) :, : len(regular)] = moving[:, np.newaxis] * (shock - 1.0)
    longs = loss.base_static_discount * np.exp(-T * (r * loss.long_rate_multscale + loss.long_rate_addscale))
    markup = loss.base_static_discount_neg * np.exp(T * (r * loss.short_rate_multscale + loss.short_rate_addscale))
    return Values(
        mark=np.concatenate([worth[:, -3], np.zeros(instruments.futures), collateral]),
        netted=netted,
        costs=_costs(parameters, market, instruments, collateral),
        longs=np.append(longs, 1.0),
        shorts=np.append(np.minimum(1.0 / D, markup), 1.0),
        basis_factor=np.append(basis.basis_cont_add_factor + basis.basis_cont_mult_factor * T, 0.0),
        order=np.concatenate([regular, skew, [len(scenarios)]]),
        skews=len(skew),
    )


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
    of_short = positions.short * market.spot
    maintenance_cost = net.costs[:, 0] + of_short * other.mm_option_percent
    initial_cost = np.where(positions.holds_future, net.costs[:, 2], net.costs[:, 1]) + of_short * other.im_option_percent
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
    place = np.empty(scenarios + 1, dtype=np.int64)
    place[worth.order] = np.arange(scenarios + 1)
    factor = np.append([one.dampening_factor for one in parameters.scenarios], 1.0)[worst]

    def of_group(each: FloatArray) -> FloatArray:
        """The sum over what each position's account holds of its expiry."""
        summed = np.bincount(group, weights=amount * each, minlength=len(positions.group_expiry))
        return np.asarray(summed[group], dtype=np.float64)

    now, up, down = (worth.netted[column, at] for at in (-3, -2, -1))
    value = worth.netted[column, np.where(worst == scenarios, 0, place[worst])]
    unit = value * np.where(of_group(value) >= 0.0, worth.longs[expiry], worth.shorts[expiry]) - now
    is_skew = np.isin(worst, worth.order[-1 - worth.skews : -1])
    unit = np.where(is_skew & (of_group(unit) > 0.0), -unit, unit)
    of_up, of_down = of_group(up - now), of_group(down - now)
    basis = np.where(of_up <= of_down, up - now, down - now) * (np.minimum(of_up, of_down) < 0.0) * worth.basis_factor[expiry]
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
    """What netting comes to, one entry for each row; scenarios in the order of `Values`."""

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
    factor = np.append([one.dampening_factor for one in parameters.scenarios], 1.0)[worth.order]
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
    """Fill the last five, which are those of `_Net`, zero and -1 before."""
    width = netted.shape[1]
    basis = width - 3  # where `now` stands in a row of values, and the basis in one of gains
    regular = basis - skews
    value, gain = np.empty(width), np.empty(basis + 1)
    for row in range(len(row_mark)):
        gain[:] = 0.0
        for group in range(row_at[row], row_at[row + 1]):
            value[:] = 0.0
            for at in range(group_at[group], group_at[group + 1]):
                n, what = amount[at], column[at]
                row_mark[row] += n * mark[what]
                for cost in range(3):
                    row_costs[row, cost] += abs(n) * costs[what, cost]
                for one in range(width):
                    value[one] += n * netted[what, one]
            expiry = group_expiry[group]
            p, q, now = longs[expiry], shorts[expiry], value[basis]
            for one in range(regular):
                V = value[one]
                gain[one] += (p if V >= 0.0 else q) * V - now
            for one in range(regular, basis):
                V = value[one]
                gain[one] -= abs((p if V >= 0.0 else q) * V - now)
            gain[basis] += min(value[basis + 1] - now, value[basis + 2] - now, 0.0) * basis_factor[expiry]
        for one in range(basis + 1):
            loss = gain[one] * factor[one]
            # A price that is not there (NaN) must not look like no loss.
            if loss < worst_pnl[row] or np.isnan(loss):
                worst_pnl[row], worst[row] = loss, one
            if len(pnl):
                pnl[row, one] = loss


def _shocked_vols(parameters: Parameters, market: Market, instruments: Instruments) -> tuple[FloatArray, FloatArray]:
    """Each option's vol, shocked up and down."""
    rule = parameters.vol_shock
    days = np.maximum(market.expiry_s, 0.0) / 86_400.0
    power = np.where(days <= 30.0, rule.shorttermpower, rule.longtermpower)
    # A floor of a second keeps what expires now, whose vol does not matter, finite.
    m = (30.0 / np.maximum(days, max(rule.dte_floor, 1.0 / 86_400.0))) ** power
    m = m[instruments.expiry]
    up = np.maximum(market.vol * (1.0 + rule.volrangeup * m), rule.min_vol_eval_shocked)
    return up, market.vol * np.maximum(1.0 - rule.volrangedown * m, 0.0)


def _skewed_vol(parameters: Parameters, market: Market, instruments: Instruments, is_linear: bool) -> FloatArray:
    """Each option's vol in a skew scenario."""
    rule = parameters.skew_shock
    root_T = np.sqrt(np.maximum(market.expiry_s, 0.0) / SECONDS_PER_YEAR)
    base, scale = (rule.linear_cbase, rule.linear_scale_cap) if is_linear else (rule.abs_cbase, rule.abs_scale_cap)
    cap = (base * root_T + scale)[instruments.expiry]
    width = root_T * rule.min_width_scale * (rule.vol_param_static + root_T * rule.vol_param_scale)
    k_star = np.maximum(rule.min_k_star, width)[instruments.expiry]
    k = np.log(instruments.strike / market.forward[instruments.expiry])
    k = k if is_linear else np.abs(k)
    # A width of zero moves every vol but that of the forward itself by the whole cap.
    share = np.divide(k, k_star, out=np.where(k == 0.0, 0.0, np.copysign(np.inf, k)), where=k_star > 0.0)
    with np.errstate(invalid="ignore"):
        x = np.nan_to_num(share * cap, nan=0.0, posinf=np.inf, neginf=-np.inf)
    x = np.where(k >= 0.0, np.minimum(cap, x), np.maximum(-cap, x))
    return np.asarray(market.vol * np.maximum(1.0 + x, 0.0), dtype=np.float64)


def _costs(parameters: Parameters, market: Market, instruments: Instruments, collateral: FloatArray) -> FloatArray:
    """Contingencies for one unit of |amount|; see `Values`."""
    other, spot = parameters.other_contingency, market.spot

    def doubt(confidence: FloatArray, threshold: FloatArray | float = other.conf_threshold) -> FloatArray:
        # A confidence that is not there (NaN) is not a high one.
        return np.where(confidence >= threshold, 0.0, 1.0 - confidence) * other.conf_margin

    # The least of the futures' confidences, where there are several, stands for all of them.
    of_futures = np.minimum(market.spot_confidence, market.future_confidence)
    of_futures = np.full_like(of_futures, of_futures.min(initial=1.0))
    alone = np.minimum(market.expiry_confidence, market.spot_confidence)
    beside = np.minimum(alone, of_futures.min(initial=1.0))
    future = spot * (other.im_perp_percent + doubt(of_futures))
    of_collateral = np.minimum(market.collateral_confidence, market.spot_confidence)
    held = collateral * (market.imhaircut + doubt(of_collateral, market.collateral_threshold))
    of_option = np.zeros(len(instruments.strike))
    maintenance = [of_option, np.full(len(future), spot * other.mm_perp_percent), collateral * market.mmhaircut]
    initial = [[spot * doubt(one)[instruments.expiry], future, held] for one in (alone, beside)]
    return np.stack([np.concatenate(parts) for parts in (maintenance, *initial)], axis=1)


def _initial_factor(parameters: Parameters, market: Market) -> float:
    other = parameters.other_contingency
    return parameters.margin.im_loss_factor + max(0.0, other.peg_loss_threshold - market.stable) * other.peg_loss_factor


def _split(parameters: Parameters) -> tuple[IntArray, IntArray]:
    """Which scenarios move the spot, and which the skew."""
    is_skew = np.array([one.is_skew for one in parameters.scenarios])
    return np.flatnonzero(~is_skew), np.flatnonzero(is_skew)


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


def _check(market: Market, instruments: Instruments) -> None:
    expected = {
        **dict.fromkeys(("expiry_s", "forward", "rate", "expiry_confidence"), instruments.expiries),
        "vol": len(instruments.strike),
        **dict.fromkeys(("future_price", "future_confidence"), instruments.futures),
        **dict.fromkeys(("collateral_usd", "collateral_confidence", "collateral_threshold"), instruments.collaterals),
        **dict.fromkeys(("mmhaircut", "imhaircut", "is_risk_cancelling"), instruments.collaterals),
    }
    for name, count in expected.items():
        if len(getattr(market, name)) != count:
            raise ValueError(f"{name}: expected {count} of them, got {len(getattr(market, name))}")

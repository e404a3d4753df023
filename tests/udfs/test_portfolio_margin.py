import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs import margin_parameters, portfolio_margin
from udfs.margin_parameters import Parameters
from udfs.portfolio_positions import Instruments, Positions, hold
from udfs.portfolio_values import Market

SETS = margin_parameters.names()
EXPIRY_S = np.array([-100.0, 900.0, 86_400.0, 30 * 86_400.0, 31 * 86_400.0, 400 * 86_400.0])
EXPIRIES = len(EXPIRY_S)
INSTRUMENTS = Instruments(
    expiry=np.repeat(np.arange(EXPIRIES), 6),
    strike=np.tile([80.0, 80.0, 100.0, 100.0, 130.0, 130.0], EXPIRIES),
    is_call=np.tile([True, False], 3 * EXPIRIES),
    expiries=EXPIRIES,
    futures=2,
    collaterals=3,
)
OPTIONS = len(INSTRUMENTS.strike)
FUTURE, STABLE_COIN, COIN = OPTIONS, OPTIONS + 2, OPTIONS + 3


def market(seed: int = 0, **changes: Any) -> Market:
    rng = np.random.default_rng(seed)
    made = Market(
        spot=100.0,
        spot_confidence=0.9,
        stable=0.97,
        expiry_s=EXPIRY_S,
        forward=100.0 * np.exp(rng.normal(0.0, 0.02, EXPIRIES)),
        rate=rng.normal(0.05, 0.1, EXPIRIES),
        expiry_confidence=rng.uniform(0.3, 1.0, EXPIRIES),
        vol=rng.uniform(0.3, 1.2, OPTIONS),
        future_price=np.array([100.5, 101.0]),
        future_confidence=np.array([0.5, 0.5]),
        collateral_usd=np.array([1.0, 100.0, 30.0]),
        collateral_confidence=np.array([1.0, 0.8, 0.2]),
        collateral_threshold=np.full(3, 0.55),
        mmhaircut=np.array([0.01, 0.02, 0.1]),
        imhaircut=np.array([0.01, 0.01, 0.05]),
        is_risk_cancelling=np.array([False, True, False]),
    )
    return made._replace(**changes)


def portfolio(seed: int, accounts: int = 30, each: int = 9) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    account = np.repeat(np.arange(accounts) * 7 + 3, each)
    column = rng.integers(0, INSTRUMENTS.columns, len(account))
    amount = rng.normal(0.0, 10.0, len(account)).round(2)
    return account, column, np.where(column >= STABLE_COIN, abs(amount), amount)


def reference(p: Parameters, m: Market, held: dict[int, float]) -> tuple[list[float], float, float, float]:
    """One account, one number at a time: loss of every scenario, mark, initial and maintenance requirement."""
    S = m.spot

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2.0))

    def black(F: float, K: float, T: float, v: float, is_call: bool) -> float:
        if T <= 0 or v <= 0:
            return max(F - K if is_call else K - F, 0.0)
        d1 = math.log(F / K) / (v * math.sqrt(T)) + v * math.sqrt(T) / 2
        d2 = d1 - v * math.sqrt(T)
        return F * phi(d1) - K * phi(d2) if is_call else K * phi(-d2) - F * phi(-d1)

    def shocked_vol(i: int, e: int, direction: str) -> float:
        v, days, T = float(m.vol[i]), max(m.expiry_s[e], 0.0) / 86400, max(m.expiry_s[e], 0.0) / 86400 / 365
        rule, skew = p.vol_shock, p.skew_shock
        power = rule.shorttermpower if days <= 30 else rule.longtermpower
        by = (30 / max(days, rule.dte_floor)) ** power
        if direction == "Up":
            return float(max(v * (1 + rule.volrangeup * by), rule.min_vol_eval_shocked))
        if direction == "Down":
            return float(v * max(0.0, 1 - rule.volrangedown * by))
        if direction == "None":
            return v
        k = math.log(INSTRUMENTS.strike[i] / m.forward[e])
        if direction == "ABS":
            k, cap = abs(k), skew.abs_cbase * math.sqrt(T) + skew.abs_scale_cap
        else:
            cap = skew.linear_cbase * math.sqrt(T) + skew.linear_scale_cap
        width = math.sqrt(T) * skew.min_width_scale * (skew.vol_param_static + math.sqrt(T) * skew.vol_param_scale)
        x = k * cap / max(skew.min_k_star, width)
        return v * max(0.0, 1 + (min(cap, x) if k >= 0 else max(-cap, x)))

    def value(e: int, shock: float, direction: str) -> float:
        s, total = max(m.expiry_s[e], 0.0), 0.0
        T, r, F = s / 86400 / 365, max(m.rate[e], 0.0), m.forward[e]
        moved = F * shock if s >= 1800 else F * (1800 - s) / 1800 + F * s / 1800 * shock
        for i, n in held.items():
            if i < OPTIONS and INSTRUMENTS.expiry[i] == e:
                K, is_call = float(INSTRUMENTS.strike[i]), bool(INSTRUMENTS.is_call[i])
                total += n * math.exp(-r * T) * black(moved, K, T, shocked_vol(i, e, direction), is_call)
        return total

    def discounted(e: int, V: float) -> float:
        T, r, loss = max(m.expiry_s[e], 0.0) / 86400 / 365, max(m.rate[e], 0.0), p.margin
        if V >= 0:
            return V * loss.base_static_discount * math.exp(-T * (r * loss.long_rate_multscale + loss.long_rate_addscale))
        more = loss.base_static_discount_neg * math.exp(T * (r * loss.short_rate_multscale + loss.short_rate_addscale))
        return V * min(1 / math.exp(-r * T), more)

    expiries = sorted({int(INSTRUMENTS.expiry[i]) for i in held if i < OPTIONS})
    now = {e: value(e, 1.0, "None") for e in expiries}
    futures = {i: n for i, n in held.items() if OPTIONS <= i < STABLE_COIN}
    coins = {i - STABLE_COIN: n for i, n in held.items() if i >= STABLE_COIN}
    moving = sum(n * m.future_price[i - OPTIONS] for i, n in futures.items())
    moving += sum(n * m.collateral_usd[c] / m.stable for c, n in coins.items() if m.is_risk_cancelling[c])
    losses = []
    for one in p.scenarios:
        if one.vol_shock_direction in ("LINEAR", "ABS"):
            pnl = -sum(abs(discounted(e, value(e, 1.0, one.vol_shock_direction)) - now[e]) for e in expiries)
        else:
            pnl = sum(discounted(e, value(e, one.spot_shock, one.vol_shock_direction)) - now[e] for e in expiries)
            pnl += moving * (one.spot_shock - 1)
        losses.append(pnl * one.dampening_factor)
    basis, other = p.basis_contingency, p.other_contingency
    losses.append(
        sum(
            min(*(value(e, s, "None") - now[e] for s in (basis.scenario_spot_up, basis.scenario_spot_down)), 0.0)
            * (basis.basis_cont_add_factor + basis.basis_cont_mult_factor * max(m.expiry_s[e], 0.0) / 86400 / 365)
            for e in expiries
        )
    )

    def doubt(*confidences: float) -> float:
        c = min(confidences)
        return (1 - c) * other.conf_margin if c < other.conf_threshold else 0.0

    of_spot = min([m.spot_confidence, *([float(m.future_confidence.min())] if futures else [])])
    mm = im = 0.0
    for e in expiries:
        at = {i: n for i, n in held.items() if i < OPTIONS and INSTRUMENTS.expiry[i] == e}
        im += doubt(of_spot, m.expiry_confidence[e]) * S * sum(abs(n) for n in at.values())
        for K in set(INSTRUMENTS.strike[list(at)]):
            call, put = (
                sum(n for i, n in at.items() if INSTRUMENTS.strike[i] == K and INSTRUMENTS.is_call[i] == c)
                for c in (True, False)
            )
            short = max(-(call + put), 0.0) if call * put < 0 else max(-call, 0.0) + max(-put, 0.0)
            mm, im = mm + short * S * other.mm_option_percent, im + short * S * other.im_option_percent
    for n in futures.values():
        mm, im = mm + abs(n) * S * other.mm_perp_percent, im + abs(n) * S * (other.im_perp_percent + doubt(of_spot))
    for c, n in coins.items():
        worth, sure = n * m.collateral_usd[c] / m.stable, min(m.collateral_confidence[c], m.spot_confidence)
        low = (1 - sure) * other.conf_margin if sure < m.collateral_threshold[c] else 0.0
        mm, im = mm + worth * m.mmhaircut[c], im + worth * (m.imhaircut[c] + low)
    mark = sum(now.values()) + sum(n * m.collateral_usd[c] / m.stable for c, n in coins.items())
    worst = -min(*losses, 0.0)
    peg = max(0.0, other.peg_loss_threshold - m.stable) * other.peg_loss_factor
    return losses, mark, worst * (p.margin.im_loss_factor + peg) + mm + im, worst * p.margin.mm_loss_factor + mm


def netted(account: Any, column: Any, amount: Any) -> dict[int, dict[int, float]]:
    held: dict[int, dict[int, float]] = {}
    for a, c, n in zip(account, column, amount, strict=True):
        of_account = held.setdefault(int(a), {})
        of_account[int(c)] = of_account.get(int(c), 0.0) + float(n)
    return held


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", range(3))
def test_every_account_is_what_the_scalar_reference_says(name: str, seed: int) -> None:
    p, m, (account, column, amount) = margin_parameters.parameter_set(name), market(seed), portfolio(seed)
    positions = hold(INSTRUMENTS, account, column, amount)
    required = portfolio_margin.requirements(p, m, positions)
    pnl = portfolio_margin.scenario_pnl(p, m, positions)
    names = portfolio_margin.scenario_names(p)
    assert pnl.shape == (len(positions.accounts), len(names))
    for row, held in enumerate(netted(account, column, amount).values()):
        losses, mark, initial, maintenance = reference(p, m, held)
        assert pnl[row] == pytest.approx(losses, rel=1e-9, abs=1e-8)
        assert required.mark[row] == pytest.approx(mark, rel=1e-9, abs=1e-9)
        assert required.initial[row] == pytest.approx(initial, rel=1e-9)
        assert required.maintenance[row] == pytest.approx(maintenance, rel=1e-9)
        assert pnl[row][required.worst[row]] == pytest.approx(min(losses))


@pytest.mark.parametrize("name", SETS)
def test_contributions_sum_to_the_requirement(name: str) -> None:
    p, m = margin_parameters.parameter_set(name), market(5)
    positions = hold(INSTRUMENTS, *portfolio(5, accounts=60))
    required = portfolio_margin.requirements(p, m, positions)
    parts = portfolio_margin.contributions(p, m, positions)
    for part, whole in (
        (parts.mark, required.mark),
        (parts.initial, required.initial),
        (parts.maintenance, required.maintenance),
        (parts.worst_pnl, required.worst_pnl),
    ):
        assert np.bincount(positions.row, weights=part, minlength=len(whole)) == pytest.approx(whole, rel=1e-9, abs=1e-8)


def test_contributions_sum_where_skew_or_basis_is_the_worst() -> None:
    p = margin_parameters.parameter_set("scenario_grid")
    skew = p.skew_shock._replace(linear_scale_cap=9.0, abs_scale_cap=9.0)
    basis = p.basis_contingency._replace(basis_cont_add_factor=50.0)
    seen = set()
    for changed in (p._replace(skew_shock=skew), p._replace(basis_contingency=basis)):
        positions = hold(INSTRUMENTS, *portfolio(8, accounts=60))
        required = portfolio_margin.requirements(changed, market(), positions)
        parts = portfolio_margin.contributions(changed, market(), positions)
        seen |= set(required.worst)
        summed = np.bincount(positions.row, weights=parts.worst_pnl)
        assert summed == pytest.approx(required.worst_pnl, rel=1e-9, abs=1e-8)
    assert seen >= {len(p.scenarios) - 2, len(p.scenarios) - 1, len(p.scenarios)}


def test_an_account_requires_the_same_whoever_is_beside_it() -> None:
    p, (account, column, amount) = margin_parameters.parameter_set("scenario_grid"), portfolio(2)
    together = hold(INSTRUMENTS, account, column, amount)
    required = portfolio_margin.requirements(p, market(), together)
    for at, name in enumerate(together.accounts):
        mine = account == name
        alone = hold(INSTRUMENTS, account[mine], column[mine], amount[mine])
        assert [x[0] for x in portfolio_margin.requirements(p, market(), alone)] == [x[at] for x in required]


def test_a_price_that_is_missing_makes_the_accounts_that_need_it_unknown_and_no_others() -> None:
    p = margin_parameters.parameter_set("scenario_grid")
    vol = market().vol.copy()
    vol[20] = np.nan
    positions = hold(INSTRUMENTS, [0, 0, 1], [20, FUTURE, 21], [-1.0, 5.0, -1.0])
    required = portfolio_margin.requirements(p, market(vol=vol), positions)
    assert np.isnan(required.maintenance).tolist() == np.isnan(required.mark).tolist() == [True, False]
    margins = portfolio_margin.margins(2, 0.0, [(positions, required)])
    assert np.isnan(margins.maintenance).tolist() == np.isnan(margins.ratio).tolist() == [True, False]


def test_a_confidence_that_is_missing_is_not_a_high_one() -> None:
    p, unsure = margin_parameters.parameter_set("scenario_grid"), np.full(EXPIRIES, np.nan)
    required = portfolio_margin.requirements(p, market(expiry_confidence=unsure), held(20, -1.0))
    assert np.isnan(required.initial)
    assert required.maintenance > 0.0


def test_the_order_of_positions_and_how_they_are_split_change_nothing() -> None:
    p, (account, column, amount) = margin_parameters.parameter_set("scenario_grid"), portfolio(3)
    at = np.random.default_rng(0).permutation(len(account))
    once = hold(INSTRUMENTS, account, column, amount)
    twice = hold(INSTRUMENTS, np.tile(account[at], 2), np.tile(column[at], 2), np.append(0.25 * amount[at], 0.75 * amount[at]))
    for one, other in zip(*(portfolio_margin.requirements(p, market(), x) for x in (once, twice)), strict=True):
        assert one == pytest.approx(other, rel=1e-12)


@given(st.integers(0, 1000), st.floats(0.01, 1e6))
@settings(max_examples=25)
def test_a_portfolio_k_times_as_large_requires_k_times_as_much(seed: int, k: float) -> None:
    p, (account, column, amount) = margin_parameters.parameter_set("scenario_grid"), portfolio(seed, accounts=3)
    one = portfolio_margin.requirements(p, market(), hold(INSTRUMENTS, account, column, amount))
    more = portfolio_margin.requirements(p, market(), hold(INSTRUMENTS, account, column, k * amount))
    assert more.initial == pytest.approx(k * one.initial, rel=1e-9)
    assert more.maintenance == pytest.approx(k * one.maintenance, rel=1e-9)


@given(st.integers(0, 1000), st.sampled_from(SETS))
@settings(max_examples=25)
def test_the_initial_requirement_is_the_larger_and_neither_is_negative(seed: int, name: str) -> None:
    p = margin_parameters.parameter_set(name)
    required = portfolio_margin.requirements(p, market(), hold(INSTRUMENTS, *portfolio(seed)))
    assert (required.initial >= required.maintenance).all()
    assert (required.maintenance >= 0.0).all()


@given(st.integers(0, OPTIONS - 1), st.sampled_from(SETS))
@settings(max_examples=25)
def test_a_long_option_loses_at_most_what_it_is_worth_when_the_spot_moves(column: int, name: str) -> None:
    p, long = margin_parameters.parameter_set(name), held(column, 1.0)
    moves_spot = [not scenario.is_skew for scenario in p.scenarios] + [False]
    pnl = portfolio_margin.scenario_pnl(p, market(), long)[0, moves_spot]
    mark = portfolio_margin.requirements(p, market(), long).mark
    assert pnl.min() >= -mark - 1e-9
    assert portfolio_margin.requirements(p, market(), held(column, -1.0)).mark == -mark


def held(column: int, amount: float) -> Positions:
    return hold(INSTRUMENTS, [0], [column], [amount])


def test_futures_require_as_much_long_as_short_where_the_moves_are_symmetric() -> None:
    p = margin_parameters.parameter_set("span_futures")
    long, short = (portfolio_margin.requirements(p, market(), held(FUTURE, n)) for n in (3.0, -3.0))
    assert long.maintenance == pytest.approx(3.0 * 100.5 * 0.1)
    assert short.maintenance == pytest.approx(3.0 * 100.5 * 0.1)
    assert long.mark == 0.0


def test_a_hedge_lowers_the_requirement_and_a_perfect_one_leaves_the_contingencies() -> None:
    p, m = margin_parameters.parameter_set("deribit_like"), market(future_price=np.array([100.0, 100.0]))
    hedged = hold(INSTRUMENTS, [0, 0], [FUTURE, FUTURE + 1], [5.0, -5.0])
    required = portfolio_margin.requirements(p, m, hedged)
    assert required.worst_pnl == pytest.approx(0.0)
    assert required.maintenance == pytest.approx(10.0 * 100.0 * p.other_contingency.mm_perp_percent)
    assert required.maintenance < portfolio_margin.requirements(p, m, held(FUTURE, 5.0)).maintenance


def test_collateral_that_moves_with_the_spot_offsets_a_short_future_and_other_collateral_does_not() -> None:
    p = margin_parameters.parameter_set("scenario_grid")
    m = market(spot_confidence=1.0, stable=1.0)
    alone = portfolio_margin.requirements(p, m, held(FUTURE, -1.0))
    covered = portfolio_margin.requirements(p, m, hold(INSTRUMENTS, [0, 0], [FUTURE, COIN], [-1.0, 1.0]))
    paid = portfolio_margin.requirements(p, m, hold(INSTRUMENTS, [0, 0], [FUTURE, STABLE_COIN], [-1.0, 100.0]))
    assert covered.worst_pnl > alone.worst_pnl
    assert paid.worst_pnl == alone.worst_pnl
    assert paid.maintenance == pytest.approx(alone.maintenance + 100.0 * m.mmhaircut[0])
    assert paid.mark == 100.0


def test_an_expired_option_is_worth_its_intrinsic_value_and_no_longer_moves() -> None:
    p = margin_parameters.parameter_set("deribit_like")
    call_80 = held(0, -2.0)
    required = portfolio_margin.requirements(p, market(), call_80)
    assert required.mark == pytest.approx(-2.0 * (market().forward[0] - 80.0))
    assert portfolio_margin.scenario_pnl(p, market(), call_80) == pytest.approx(0.0)


def test_cash_and_underlyings_add_up_and_only_what_moved_need_be_done_again() -> None:
    p = margin_parameters.parameter_set("scenario_grid")
    btc = hold(INSTRUMENTS, [0, 2], [FUTURE, FUTURE], [1.0, -4.0])
    eth = hold(INSTRUMENTS, [2, 1, 2], [14, 15, FUTURE], [-3.0, 2.0, 1.0])
    before, moved = market(0), market(1, spot=120.0)
    of_btc, of_eth = portfolio_margin.requirements(p, before, btc), portfolio_margin.requirements(p, before, eth)
    again = portfolio_margin.requirements(p, moved, eth)
    cash = np.array([100.0, 200.0, 300.0, 50.0])
    margins = portfolio_margin.margins(4, cash, [(btc, of_btc), (eth, again)])
    assert margins.mark == pytest.approx([100.0, 200.0 + again.mark[0], 300.0 + again.mark[1], 50.0])
    assert margins.maintenance[2] == pytest.approx(margins.mark[2] - of_btc.maintenance[1] - again.maintenance[1])
    assert margins.initial[3] == margins.maintenance[3] == 50.0
    assert margins.ratio[3] == 0.0 and margins.worst[3] == -1 == margins.worst_underlying[3]
    assert margins.worst_underlying.tolist() == [0, 1, 0 if of_btc.worst_pnl[1] < again.worst_pnl[1] else 1, -1]
    assert not np.array_equal(of_eth.maintenance, again.maintenance)


def test_the_ratio_is_above_one_exactly_where_maintenance_is_negative() -> None:
    p = margin_parameters.parameter_set("scenario_grid")
    positions = hold(INSTRUMENTS, *portfolio(4, accounts=200))
    required = portfolio_margin.requirements(p, market(), positions)
    everyone = portfolio_margin.margins(int(positions.accounts.max()) + 1, 500.0, [(positions, required)])
    assert ((everyone.ratio > 1.0) == (everyone.maintenance < 0.0)).all()
    assert 0 < (everyone.ratio > 1.0).sum() < len(positions.accounts)
    assert portfolio_margin.margins(1, -1.0, []).ratio == np.inf


def test_nothing_held_requires_nothing() -> None:
    p = margin_parameters.parameter_set("scenario_grid")
    for accounts, columns, amounts in (([], [], []), ([5], [3], [0.0]), ([5, 5], [3, 3], [1.0, -1.0])):
        positions = hold(INSTRUMENTS, accounts, columns, amounts)
        required = portfolio_margin.requirements(p, market(), positions)
        assert [x.sum() for x in required[:4]] == [0.0] * 4
        assert (required.worst == -1).all()
        assert portfolio_margin.scenario_pnl(p, market(), positions).sum() == 0.0
        assert len(portfolio_margin.contributions(p, market(), positions).mark) == 0


def test_a_market_of_futures_alone_works() -> None:
    nothing = np.empty(0)
    bare = Instruments(np.empty(0, dtype=np.int64), nothing, np.empty(0, dtype=np.bool_), 0, 1, 0)
    m = Market(
        spot=100.0, spot_confidence=1.0, stable=1.0, expiry_s=nothing, forward=nothing, rate=nothing, expiry_confidence=nothing,
        vol=nothing, future_price=np.array([100.0]), future_confidence=np.ones(1), collateral_usd=nothing,
        collateral_confidence=nothing, collateral_threshold=nothing, mmhaircut=nothing, imhaircut=nothing,
        is_risk_cancelling=np.empty(0, dtype=np.bool_),
    )  # fmt: skip
    p = margin_parameters.parameter_set("span_futures")
    assert portfolio_margin.requirements(p, m, hold(bare, [0], [0], [2.0])).maintenance == pytest.approx(20.0)


def test_very_large_and_very_small_positions_stay_finite() -> None:
    p = margin_parameters.parameter_set("scenario_grid")
    positions = hold(INSTRUMENTS, [0, 0, 1], [20, FUTURE, 20], [1e12, -1e12, 1e-18])
    required = portfolio_margin.requirements(p, market(), positions)
    assert all(np.isfinite(x).all() for x in required[:4])
    assert 0.0 < required.maintenance[1] < 1e-14


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="there are 41 columns; got 41 to 41"):
        hold(INSTRUMENTS, [0], [41], [1.0])
    with pytest.raises(ValueError, match="an amount is not finite"):
        hold(INSTRUMENTS, [0], [0], [np.nan])
    with pytest.raises(ValueError, match="vol: expected 36 of them, got 3"):
        portfolio_margin.requirements(margin_parameters.parameter_set(SETS[0]), market(vol=np.ones(3)), held(0, 1.0))

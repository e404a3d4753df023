"""Exposures by their definitions: slopes of values, and what limits make of them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs import black76, exposures
from udfs.exposures import ANY, BREACHED, BUCKETS, CONCENTRATION, DELTA, GAMMA, LEVERAGE, UNKNOWN, VEGA, WITHIN

S = 60_000.0
MONTH_S = 30 * 86_400.0
KINDS = ("linear", "inverse", "inverse option", "linear option")


def one(kind: str, spot: float = S, vol: float = 0.6, is_call: bool = True, seconds: float = MONTH_S) -> exposures.Contracts:
    """A contract of 0.1 coins, or of 10 USD, whose forward is the coin's price."""
    is_option, is_inverse = "option" in kind, kind.startswith("inverse")
    size = 10.0 if kind == "inverse" else 0.1
    values = (
        not is_option,
        is_option,
        is_inverse,
        size,
        spot,
        spot if is_inverse else 1.0,
        spot,
        65_000.0,
        vol,
        is_call,
        seconds,
    )
    return exposures.Contracts(*(np.array([value]) for value in values))


def value_usd(kind: str, size: float, average: float, spot: float, vol: float = 0.6, is_call: bool = True) -> float:
    """What a position is worth in USD, with what it has won."""
    if kind == "linear":
        return size * 0.1 * (spot - average)
    if kind == "inverse":
        return size * 10.0 * (1 / average - 1 / spot) * spot
    return size * 0.1 * float(black76.price(spot, 65_000.0, MONTH_S / exposures.YEAR_S, vol, is_call))


def exposed(kind: str, size: float, average: float, **changed: Any) -> Any:
    """Delta, gamma, vega and gross of a position."""
    contracts = one(kind, **changed)
    rates, cell = exposures.columns_of(exposures.sensitivities(contracts), np.array([0]))
    zero, nothing = np.array([0]), np.empty(0, dtype=np.int64)
    _, cells, amount = exposures.held(
        *(zero, 1, zero, zero, np.array([size]), np.array([average]), rates, cell),
        *(nothing, nothing, np.empty(0), np.empty(0), nothing),
    )
    return exposures.by_cell(cells, amount, len(BUCKETS)).sum(axis=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [7.0, -3.0])
def test_delta_is_the_slope_of_the_value_by_the_logarithm_of_the_price(kind: str, size: float) -> None:
    h = 1e-5
    slope = (value_usd(kind, size, 50_000.0, S * math.exp(h)) - value_usd(kind, size, 50_000.0, S * math.exp(-h))) / (2 * h)
    delta = exposed(kind, size, 50_000.0)[DELTA]
    assert delta == pytest.approx(slope, rel=1e-6)
    assert exposed(kind, size, 50_000.0)[exposures.GROSS] == abs(delta)


@pytest.mark.parametrize("is_call", [True, False])
def test_gamma_and_vega_are_slopes_by_a_percent_and_by_a_vol_point(is_call: bool) -> None:
    delta_up, delta_down = (
        black76.greeks(S * (1 + step), 65_000.0, MONTH_S / exposures.YEAR_S, 0.6, is_call).delta for step in (1e-4, -1e-4)
    )
    amounts = exposed("inverse option", -3.0, 0.01, is_call=is_call)
    per_percent = -3.0 * 0.1 * S * float(delta_up - delta_down) / 2e-4 * 0.01
    assert amounts[GAMMA] == pytest.approx(per_percent, rel=1e-6)
    up, down = (value_usd("linear option", -3.0, 0.0, S, vol, is_call) for vol in (0.6001, 0.5999))
    assert amounts[VEGA] == pytest.approx((up - down) / 2e-4 * 0.01, rel=1e-6)


def test_a_coin_and_as_many_dollars_short_of_it_make_a_dollar_at_any_price() -> None:
    contracts = one("inverse", spot=30_000.0)
    rates, cell = exposures.columns_of(exposures.sensitivities(contracts), np.array([0]))
    zero = np.array([0])
    _, cells, amount = exposures.held(
        *(zero, 1, zero, zero, np.array([-6_000.0]), np.array([60_000.0]), rates, cell),
        *(zero, zero, np.array([1.0]), np.array([30_000.0]), zero),
    )
    sums = exposures.by_cell(cells, amount, len(BUCKETS)).sum(axis=0)
    assert sums[DELTA] == pytest.approx(0.0, abs=1e-5)
    assert sums[exposures.GROSS] == pytest.approx(30_000.0)


def test_what_has_expired_moves_no_more_and_a_missing_price_is_no_zero() -> None:
    assert not exposed("linear option", 5.0, 100.0, seconds=0.0).any()
    assert np.isnan(exposed("linear option", 5.0, 100.0, vol=math.nan)[:3]).all()
    assert np.isnan(exposed("linear", 5.0, 100.0, spot=math.nan)[DELTA])


def test_a_bucket_ends_with_its_last_second() -> None:
    days = np.array([0.5, 7, 7.1, 31, 31.1, 92, 92.1, math.inf]) * 86_400.0
    expected = ["week", "week", "month", "month", "quarter", "quarter", "later", "perpetual"]
    assert [BUCKETS[at] for at in exposures.bucket(days)] == expected


AMOUNT = st.integers(-(10**9), 10**9).map(float)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), AMOUNT, AMOUNT, AMOUNT), max_size=30), st.randoms())
def test_figures_are_the_sums_that_limits_name_in_any_order(
    rows: list[tuple[int, int, float, float, float]], chance: Any
) -> None:
    equity = np.array([100.0, 2_000.0, 0.0, 50.0])
    limits = [(slot, m, u, e) for slot in range(4) for m in (DELTA, GAMMA, VEGA) for u in (ANY, 0, 1) for e in (ANY, 0, 3)]
    limits += [(slot, m, ANY, ANY) for slot in range(4) for m in (LEVERAGE, CONCENTRATION)]
    slot, measure, underlying, expiry = (np.array(column) for column in zip(*limits, strict=True))

    def answered(held: list[tuple[int, int, float, float, float]]) -> Any:
        held = sorted(held, key=lambda row: row[0])
        start = np.array([sum(row[0] < s for row in held) for s in range(5)])
        amount = np.array([[*row[2:], abs(row[2])] for row in held]).reshape(-1, 4)
        cell = np.array([row[1] for row in held], dtype=np.int64)
        return exposures.figures(start, cell, amount, 10, 5, equity, slot, measure, underlying, expiry)

    for (own, m, u, e), figure in zip(limits, answered(rows), strict=True):
        mine = [row for row in rows if row[0] == own]
        gross = {coin: sum(abs(row[2]) for row in mine if row[1] // 5 == coin) for coin in (0, 1)}
        if m == LEVERAGE:
            total = sum(gross.values()) / 1e6
            assert figure == (total / equity[own] if equity[own] else math.inf if total else 0.0)
        elif m == CONCENTRATION:
            assert figure == (max(gross.values()) / sum(gross.values()) if sum(gross.values()) else 0.0)
        else:
            meant = [row for row in mine if u in (ANY, row[1] // 5) and e in (ANY, row[1] % 5)]
            assert figure == sum(row[2 + m] for row in meant) / 1e6
    chance.shuffle(rows)
    assert np.array_equal(answered(rows), answered(rows[::-1]), equal_nan=True)


def test_a_limit_is_breached_beyond_enter_until_within_leave() -> None:
    path = [99.0, 101.0, 95.0, 90.0, 95.0, -101.0, math.nan, -95.0]
    states, state = [], WITHIN
    for figure in path:
        state = int(exposures.judged(state, figure, 0.0, 100.0, 90.0))
        states.append(state)
    assert states == [WITHIN, BREACHED, BREACHED, WITHIN, WITHIN, BREACHED, UNKNOWN, WITHIN]
    assert int(exposures.judged(WITHIN, 205.0, 100.0, 100.0, 90.0)) == BREACHED
    assert int(exposures.judged(WITHIN, math.inf, 0.0, 3.0, 2.0)) == BREACHED

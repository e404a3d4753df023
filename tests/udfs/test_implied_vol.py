import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import black76
from udfs.implied_vol import TEXTS, Reason, implied_vol

EPSILON = 2.0**-52

forwards = st.floats(1e-3, 1e6)
years = st.floats(1e-4, 5.0)


@given(forwards, years, st.floats(math.log(1e-3), math.log(5.0)), st.floats(-6.0, 6.0))
def test_the_vol_of_a_price_out_of_the_money_is_exact(F: float, T: float, log_s: float, z: float) -> None:
    s = math.exp(log_s)
    v, K = s / math.sqrt(T), F * math.exp(z * s)
    answer = implied_vol(black76.price(F, K, T, v, K >= F), F, K, T, K >= F)
    assert answer.vol == pytest.approx(v, rel=1e-12, abs=0)
    assert answer.reason == Reason.NONE


def test_the_vol_of_a_price_out_of_the_money_is_exact_on_a_grid() -> None:
    s, z, T = np.meshgrid(np.geomspace(1e-3, 5.0, 200), np.linspace(-6.0, 6.0, 241), [0.003, 1.0])
    K = np.exp(z * s)
    vol, reason = implied_vol(black76.price(1.0, K, T, s / np.sqrt(T), K >= 1.0), 1.0, K, T, K >= 1.0)
    assert not reason.any()
    assert np.abs(vol / (s / np.sqrt(T)) - 1.0).max() < 1e-13


@given(forwards, years, st.floats(math.log(1e-3), math.log(5.0)), st.floats(-6.0, 6.0))
def test_in_the_money_it_is_as_exact_as_the_price(F: float, T: float, log_s: float, z: float) -> None:
    s = math.exp(log_s)
    v, K = s / math.sqrt(T), F * math.exp(z * s)
    price = black76.price(F, K, T, v, K < F)
    vega = black76.greeks(F, K, T, v, K < F).vega * 100
    lost = 4 * EPSILON * float(price / (v * vega))
    if lost < 1e-2:
        assert implied_vol(price, F, K, T, K < F).vol == pytest.approx(v, rel=1e-12 + lost, abs=0)


@given(st.floats(math.log(1e-6), math.log(40.0)), st.floats(-35.0, 35.0), st.booleans())
def test_whatever_the_price_there_is_a_vol_or_a_reason(log_s: float, z: float, is_call: bool) -> None:
    s = math.exp(log_s)
    K = math.exp(min(max(z * s, -600.0), 600.0))
    price = black76.price(1.0, K, 1.0, s, is_call)
    vol, reason = implied_vol(price, 1.0, K, 1.0, is_call)
    assert np.isnan(vol) == (reason != Reason.NONE)
    assert reason != Reason.NOT_CONVERGED
    if reason == Reason.NONE:
        assert black76.price(1.0, K, 1.0, vol, is_call) == pytest.approx(float(price), rel=1e-12)


@pytest.mark.parametrize(
    ("price", "F", "K", "T", "is_call", "reason"),
    [
        (np.nan, 100.0, 90.0, 1.0, True, Reason.NO_QUOTE),
        (0.0, 100.0, 90.0, 1.0, True, Reason.NO_QUOTE),
        (15.0, 100.0, 90.0, 0.0, True, Reason.EXPIRED),
        (15.0, 100.0, 90.0, -1.0, True, Reason.EXPIRED),
        (10.0, 100.0, 90.0, 1.0, True, Reason.BELOW_INTRINSIC),
        (9.0, 100.0, 90.0, 1.0, True, Reason.BELOW_INTRINSIC),
        (5.0, 90.0, 100.0, 1.0, False, Reason.BELOW_INTRINSIC),
        (100.0, 100.0, 90.0, 1.0, True, Reason.ABOVE_BOUND),
        (90.0, 100.0, 90.0, 1.0, False, Reason.ABOVE_BOUND),
        (np.inf, 100.0, 90.0, 1.0, True, Reason.BAD_INPUT),
        (-1.0, 100.0, 90.0, 1.0, True, Reason.BAD_INPUT),
        (15.0, np.nan, 90.0, 1.0, True, Reason.BAD_INPUT),
        (15.0, 100.0, 0.0, 1.0, True, Reason.BAD_INPUT),
        (15.0, 100.0, -90.0, 1.0, True, Reason.BAD_INPUT),
        (15.0, 100.0, 90.0, np.nan, True, Reason.BAD_INPUT),
        (15.0, 100.0, 90.0, np.inf, True, Reason.BAD_INPUT),
    ],
)
def test_where_there_is_none_the_reason_is_given(
    price: float, F: float, K: float, T: float, is_call: bool, reason: Reason
) -> None:
    answer = implied_vol(price, F, K, T, is_call)
    assert np.isnan(answer.vol)
    assert answer.reason == reason


def test_every_reason_has_a_text() -> None:
    assert set(TEXTS) == set(Reason)


def test_arguments_broadcast() -> None:
    answer = implied_vol([[10.0], [12.0]], 100.0, [100.0, 105.0, 110.0], 0.5, True)
    assert answer.vol.shape == answer.reason.shape == (2, 3)
    assert np.isfinite(answer.vol).all()


@pytest.mark.parametrize("side", ["bid", "ask"])
def test_deribit_publishes_the_same(tickers: Any, side: str) -> None:
    F = tickers["underlying_price"]
    # Deribit inverts bid and ask with the time from the last full minute.  Inferred from 89 published tickers: with the
    # ticker's own time the error is up to 0.1 vol points on an option of nine hours.
    T = (tickers["expiry_ms"] - np.floor(tickers["ts_ms"] / 60_000) * 60_000) / black76.MS_PER_YEAR
    vol, reason = implied_vol(tickers[side] * F, F, tickers["strike"], T, tickers["is_call"])
    quoted = tickers[f"{side}_iv"] > 0
    assert (reason[quoted] == Reason.NONE).all()
    assert (reason[tickers[side] == 0] == Reason.NO_QUOTE).all()
    error = np.abs(100 * vol[quoted] - tickers[f"{side}_iv"][quoted])
    assert np.median(error) <= 0.005
    assert error.max() <= 0.01

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erfcx, ndtr

from udfs import black76, normal

forwards = st.floats(1.0, 200_000.0)
log_moneyness = st.floats(-1.0, 1.0)  # in five standard deviations: from deep in to deep out of the money
years = st.floats(1e-3, 3.0)
vols = st.floats(0.05, 2.5)
calls = st.booleans()


def strike(F: float, k: float, T: float, v: float) -> float:
    """A strike that lies k times five standard deviations from the forward, but not beyond e^5 of it."""
    return F * float(np.exp(5.0 * k * min(v * np.sqrt(T), 1.0)))


@given(forwards, log_moneyness, years, vols)
def test_a_call_less_a_put_is_forward_less_strike(F: float, k: float, T: float, v: float) -> None:
    K = strike(F, k, T, v)
    call, put = black76.price(F, K, T, v, [True, False])
    assert call - put == pytest.approx(F - K, abs=1e-13 * max(F, K))


@given(forwards, log_moneyness, years, vols, calls)
def test_price_lies_between_intrinsic_value_and_what_it_delivers(F: float, k: float, T: float, v: float, is_call: bool) -> None:
    K = strike(F, k, T, v)
    value = black76.price(F, K, T, v, is_call)
    assert max(F - K if is_call else K - F, 0.0) <= value <= (F if is_call else K) * (1 + 1e-15)


@given(forwards, log_moneyness, years, vols, calls)
def test_delta_is_the_slope_of_price(F: float, k: float, T: float, v: float, is_call: bool) -> None:
    K, h = strike(F, k, T, v), 1e-4 * F * v * np.sqrt(T)
    up, down = black76.price([F + h, F - h], K, T, v, is_call)
    assert black76.greeks(F, K, T, v, is_call).delta == pytest.approx((up - down) / (2 * h), abs=1e-6)


@given(forwards, log_moneyness, years, vols, calls)
def test_gamma_is_the_slope_of_delta(F: float, k: float, T: float, v: float, is_call: bool) -> None:
    K, h = strike(F, k, T, v), 1e-4 * F * v * np.sqrt(T)
    up, down = black76.greeks([F + h, F - h], K, T, v, is_call).delta
    scale = 1 / (F * v * np.sqrt(T))
    assert black76.greeks(F, K, T, v, is_call).gamma == pytest.approx((up - down) / (2 * h), abs=1e-6 * scale)


@given(forwards, log_moneyness, years, vols, calls)
def test_vega_is_a_hundredth_of_the_slope_in_volatility(F: float, k: float, T: float, v: float, is_call: bool) -> None:
    K, h = strike(F, k, T, v), 1e-4 * v
    up, down = black76.price(F, K, T, [v + h, v - h], is_call)
    assert black76.greeks(F, K, T, v, is_call).vega == pytest.approx((up - down) / (2 * h) / 100, abs=1e-6 * F * np.sqrt(T))


@given(forwards, log_moneyness, years, vols, calls)
def test_theta_is_what_a_365th_of_a_year_takes(F: float, k: float, T: float, v: float, is_call: bool) -> None:
    K, h = strike(F, k, T, v), 1e-4 * T
    later, earlier = black76.price(F, K, [T - h, T + h], v, is_call)
    assert black76.greeks(F, K, T, v, is_call).theta == pytest.approx(
        (later - earlier) / (2 * h) / 365, abs=1e-6 * F * v / np.sqrt(T)
    )


@given(forwards, log_moneyness, years, vols, calls)
def test_rho_is_a_hundredth_of_the_slope_in_the_rate_of_black_scholes(
    F: float, k: float, T: float, v: float, is_call: bool
) -> None:
    K, h = strike(F, k, T, v), np.array([1e-5, -1e-5])
    up, down = np.exp(-h * T) * black76.price(F * np.exp(h * T), K, T, v, is_call)
    assert black76.greeks(F, K, T, v, is_call).rho == pytest.approx((up - down) / 2e-5 / 100, abs=1e-6 * (F + K) * T)


@given(forwards, years, vols)
def test_price_tends_to_intrinsic_value_with_volatility_and_with_time(F: float, T: float, v: float) -> None:
    for K in (0.5 * F, F, 2.0 * F):
        for is_call in (True, False):
            intrinsic = max(F - K if is_call else K - F, 0.0)
            assert black76.price(F, K, T, 0.0, is_call) == intrinsic
            assert black76.price(F, K, 0.0, v, is_call) == intrinsic
            assert black76.price(F, K, T, 1e-9, is_call) == pytest.approx(intrinsic, abs=1e-8 * F)


def test_price_tends_to_the_forward_or_the_strike_with_infinite_volatility() -> None:
    assert black76.price(100.0, 80.0, 1.0, 100.0, [True, False]).tolist() == pytest.approx([100.0, 80.0])


@pytest.mark.parametrize("K", [1.0, 5.0, 20.0, 60.0, 100.0])
def test_the_smallest_values_are_those_of_the_integral(K: float) -> None:
    F, T, v = 100.0, 1.0, 0.5

    def payoff(z: float) -> float:
        return max(K - F * math.exp(v * z - v * v / 2), 0.0) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    top = (np.log(K / F) + v * v / 2) / v
    value, _ = quad(payoff, top - 8, top, epsabs=0, epsrel=1e-12)
    assert black76.price(F, K, T, v, False) == pytest.approx(value, rel=1e-10, abs=0)
    assert black76.price(K, F, T, v, True) == pytest.approx(value, rel=1e-10, abs=0)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_there_is_no_answer_for_what_is_not_positive_and_finite(bad: float) -> None:
    for F, K, T, v in ((bad, 1.0, 1.0, 1.0), (1.0, bad, 1.0, 1.0), (1.0, 1.0, bad, 1.0), (1.0, 1.0, 1.0, bad)):
        assert np.isnan(black76.price(F, K, T, v, True))
        assert np.isnan(black76.greeks(F, K, T, v, True)).all()
        assert np.isnan(black76.deribit_greeks(F, K, T, v, True)).all()


def test_at_expiry_there_are_no_slopes() -> None:
    assert np.isnan(black76.greeks(100.0, 90.0, 0.0, 0.5, True)).all()
    assert np.isnan(black76.deribit_greeks(100.0, 90.0, 0.0, 0.5, True)).all()


def test_arguments_broadcast() -> None:
    table = black76.deribit_greeks(np.full((3, 1), 100.0), [90.0, 100.0], 0.5, 0.5, True)
    assert {column.shape for column in table} == {(3, 2)}


@pytest.mark.parametrize(
    ("field", "column", "median", "worst"),
    [
        ("price_coin", "mark_price", 1e-5, 1.1e-3),
        ("delta", "delta", 1e-4, 1e-4),
        ("gamma", "gamma", 5e-6, 5e-6),
        ("vega", "vega", 0.02, 0.02),
        ("theta", "theta", 5e-4, 5e-3),
        ("rho", "rho", 0.01, 0.01),
    ],
)
def test_deribit_publishes_the_same(tickers: Any, field: str, column: str, median: float, worst: float) -> None:
    F, K, T, v = tickers["underlying_price"], tickers["strike"], tickers["years"], tickers["mark_iv"] / 100
    error = np.abs(getattr(black76.deribit_greeks(F, K, T, v, tickers["is_call"]), field) - tickers[column])
    assert len(error) == 89
    assert np.median(error) < median
    assert error.max() <= worst


@given(forwards, log_moneyness, st.floats(1e-6, 2.0), vols, calls)
def test_deribits_theta_takes_no_more_than_the_option_is_worth(F: float, k: float, T: float, v: float, is_call: bool) -> None:
    K = strike(F, k, T, v)
    answer = black76.deribit_greeks(F, K, T, v, is_call)
    assert 0 <= -answer.theta <= answer.price_coin * F * (1 + 1e-12)


@given(st.floats(0.0, 1e3))
def test_mills_ratio_is_the_tail_over_the_density(x: float) -> None:
    assert normal.mills(x) == pytest.approx(math.sqrt(math.pi / 2) * float(erfcx(x / math.sqrt(2))), rel=1e-15)


@given(st.floats(-700.0, 700.0))
def test_the_exponential_is_the_c_librarys(x: float) -> None:
    assert normal.exp(x) == pytest.approx(math.exp(x), rel=4e-16, abs=0)


@given(st.floats(1e-8, 1e8), st.floats(-30.0, 30.0))
def test_the_logarithm_of_a_ratio_is_exact_near_one_too(b: float, x: float) -> None:
    assert normal.log_ratio(b * math.exp(x), b) == pytest.approx(x, rel=1e-15, abs=4e-16)
    near = b * (1.0 + 1e-9 * x)
    assert normal.log_ratio(near, b) == pytest.approx(math.log1p((near - b) / b), rel=1e-15, abs=0)


@given(forwards, log_moneyness, years, vols, calls)
def test_greeks_are_those_of_scipys_distribution(F: float, k: float, T: float, v: float, is_call: bool) -> None:
    K, sign = strike(F, k, T, v), 1 if is_call else -1
    d1 = math.log(F / K) / (v * math.sqrt(T)) + v * math.sqrt(T) / 2
    g = black76.greeks(F, K, T, v, is_call)
    assert g.delta == pytest.approx(sign * ndtr(sign * d1), rel=1e-11, abs=1e-15)
    assert g.rho == pytest.approx(sign * K * T * ndtr(sign * (d1 - v * math.sqrt(T))) / 100, rel=1e-11, abs=1e-13 * K * T)


@given(forwards, log_moneyness, years, vols)
def test_swapping_forward_and_strike_swaps_call_and_put(F: float, k: float, T: float, v: float) -> None:
    K = strike(F, k, T, v)
    assert black76.price(F, K, T, v, True) == pytest.approx(black76.price(K, F, T, v, False), rel=1e-14)

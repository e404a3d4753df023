from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import black76
from udfs.black_scholes import CoinGreeks, UsdGreeks, coin_greeks, price, usd_greeks

spots = st.floats(1.0, 200_000.0)
deviations = st.floats(-3.0, 3.0)  # of the strike from the spot
years = st.floats(1e-2, 2.0)
vols = st.floats(0.1, 2.0)
rates = st.floats(-0.2, 0.2)
calls = st.booleans()
options = st.tuples(spots, deviations, years, vols, rates, rates, calls)
Option = tuple[float, float, float, float, float, float, bool]


def arguments(option: Option) -> dict[str, Any]:
    S, z, T, v, r, q, is_call = option
    return {"S": S, "K": S * float(np.exp(z * v * np.sqrt(T))), "T": T, "v": v, "is_call": is_call, "r": r, "q": q}


def slope(function: Callable[..., Any], field: str, of: str, option: Option, share: float = 1e-4) -> tuple[float, float]:
    """The derivative of a field by an argument from differences, and the size of what it is taken from."""
    at = arguments(option)
    deviation = at["v"] * np.sqrt(at["T"])
    h = {"S": share * at["S"] * deviation, "T": share * at["T"], "v": share * at["v"], "r": share, "q": share}[of]
    values = [getattr(function(**{**at, of: at[of] + shift * h}), field) for shift in (-2, -1, 1, 2)]
    return float((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)), max(abs(x) for x in values) / h


@pytest.mark.parametrize(
    ("field", "base", "of", "factor"),
    [
        ("delta", "price_usd", "S", 1),
        ("gamma_per_usd", "delta", "S", 1),
        ("vega_usd_per_vol", "price_usd", "v", 1),
        ("theta_usd_per_day", "price_usd", "T", -1 / 365),
        ("rho_usd_per_rate", "price_usd", "r", 1),
        ("yield_rho_usd_per_rate", "price_usd", "q", 1),
        ("vanna_per_vol", "delta", "v", 1),
        ("volga_usd_per_vol2", "vega_usd_per_vol", "v", 1),
        ("charm_per_day", "delta", "T", -1 / 365),
        ("speed_per_usd2", "gamma_per_usd", "S", 1),
        ("zomma_per_usd_vol", "gamma_per_usd", "v", 1),
        ("color_per_usd_day", "gamma_per_usd", "T", -1 / 365),
    ],
)
@given(options)
def test_each_greek_in_usd_is_the_slope_of_the_one_below(field: str, base: str, of: str, factor: float, option: Option) -> None:
    expected, scale = slope(usd_greeks, base, of, option)
    assert getattr(usd_greeks(**arguments(option)), field) == pytest.approx(
        factor * expected, rel=1e-6, abs=abs(factor) * 1e-11 * scale
    )


@pytest.mark.parametrize(
    ("field", "base", "of", "factor"),
    [
        ("delta_coin_per_usd", "price_coin", "S", 1),
        ("gamma_coin_per_usd2", "delta_coin_per_usd", "S", 1),
        ("vega_coin_per_vol", "price_coin", "v", 1),
        ("theta_coin_per_day", "price_coin", "T", -1 / 365),
        ("rho_coin_per_rate", "price_coin", "r", 1),
        ("yield_rho_coin_per_rate", "price_coin", "q", 1),
        ("vanna_coin_per_usd_vol", "delta_coin_per_usd", "v", 1),
        ("volga_coin_per_vol2", "vega_coin_per_vol", "v", 1),
        ("charm_coin_per_usd_day", "delta_coin_per_usd", "T", -1 / 365),
        ("speed_coin_per_usd3", "gamma_coin_per_usd2", "S", 1),
        ("zomma_coin_per_usd2_vol", "gamma_coin_per_usd2", "v", 1),
        ("color_coin_per_usd2_day", "gamma_coin_per_usd2", "T", -1 / 365),
    ],
)
@given(options)
def test_each_greek_in_coin_is_the_slope_of_the_one_below(
    field: str, base: str, of: str, factor: float, option: Option
) -> None:
    expected, scale = slope(coin_greeks, base, of, option)
    assert getattr(coin_greeks(**arguments(option)), field) == pytest.approx(
        factor * expected, rel=1e-6, abs=abs(factor) * 1e-10 * scale
    )


@given(options)
def test_premium_adjusted_delta_is_spot_times_the_coin_delta(option: Option) -> None:
    at = arguments(option)
    g = usd_greeks(**at)
    assert g.premium_adjusted_delta == pytest.approx(at["S"] * coin_greeks(**at).delta_coin_per_usd, rel=1e-12, abs=1e-15)
    assert g.premium_adjusted_delta == pytest.approx(g.delta - g.price_usd / at["S"], abs=1e-15)


@given(options)
def test_a_call_less_a_put_is_what_the_carry_says(option: Option) -> None:
    at = arguments(option)
    call, put = price(**{**at, "is_call": [True, False]})
    parity = at["S"] * np.exp(-at["q"] * at["T"]) - at["K"] * np.exp(-at["r"] * at["T"])
    assert call - put == pytest.approx(parity, abs=1e-12 * (at["S"] + at["K"]))


@given(options)
def test_without_carry_it_is_black_on_the_forward(option: Option) -> None:
    at = {**arguments(option), "r": 0.0, "q": 0.0}
    g, b = usd_greeks(**at), black76.greeks(at["S"], at["K"], at["T"], at["v"], at["is_call"])
    assert g.delta == pytest.approx(b.delta, rel=1e-11, abs=1e-14)
    assert g.gamma_per_usd == pytest.approx(b.gamma, rel=1e-11)
    assert g.vega_usd_per_vol == pytest.approx(b.vega * 100, rel=1e-11)
    assert g.theta_usd_per_day == pytest.approx(b.theta, rel=1e-11)
    assert g.rho_usd_per_rate == pytest.approx(b.rho * 100, rel=1e-11, abs=1e-13 * at["K"])


@pytest.mark.parametrize("function", [usd_greeks, coin_greeks])
@pytest.mark.parametrize("name", ["S", "K", "T", "v"])
@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_there_is_no_answer_for_what_is_not_positive_and_finite(function: Any, name: str, bad: float) -> None:
    at: dict[str, Any] = {"S": 100.0, "K": 90.0, "T": 0.5, "v": 0.8, "is_call": True, name: bad}
    assert np.isnan(function(**at)).all()


def test_negative_rates_have_answers() -> None:
    answer = usd_greeks(100.0, 90.0, 0.5, 0.8, [True, False], r=-0.05)
    assert np.isfinite(answer).all()
    assert {column.shape for column in answer} == {(2,)}


def test_arguments_broadcast() -> None:
    for function, fields in ((usd_greeks, UsdGreeks._fields), (coin_greeks, CoinGreeks._fields)):
        table = function(np.full((3, 1), 100.0), [90.0, 100.0], 0.5, 0.5, True, 0.01, [[0.0]])
        assert {name: column.shape for name, column in table._asdict().items()} == dict.fromkeys(fields, (3, 2))


def test_published_option_values(published: Any) -> None:
    for case in published["haug_values"]:
        value = price(case["S"], case["K"], case["t"], case["vol"], case["type"] == "call", case["r"], case["q"])
        assert value == pytest.approx(case["expected"], abs=6e-5), case  # half of the last digit; one is rounded up at 0.41


def test_published_greeks(published: Any) -> None:
    seen = set()
    for case in published["haug_greeks"]:
        g = usd_greeks(case["S"], case["K"], case["t"], case["vol"], case["type"] == "call", case["r"], case["q"])
        answers = {
            "delta": g.delta,
            "elasticity": g.delta * case["S"] / g.price_usd,
            "gamma": g.gamma_per_usd,
            "vega": g.vega_usd_per_vol,
            "theta": g.theta_usd_per_day * 365,
            "theta_per_day": g.theta_usd_per_day,
            "rho": g.rho_usd_per_rate,
            "dividendRho": g.yield_rho_usd_per_rate,
        }
        seen.add(case["greek"])
        assert answers[case["greek"]] == pytest.approx(case["expected"], abs=5.1e-5), case
    assert len(seen) == 8

import csv
import json
import math
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.udfs.conftest import truth
from udfs import risk_forecasts, risk_scenarios
from udfs.margin_parameters import Entry
from udfs.risk_correlations import ewma_covariances
from udfs.risk_scenarios import History

PORTFOLIOS = {"BTC": (1.0, 0.0), "ETH": (0.0, 1.0), "half and half": (0.5, 0.5), "long-short": (1.0, -1.0)}
LEVELS = (0.95, 0.975, 0.99)


@cache
def daily_returns() -> NDArray[Any]:
    rows = csv.DictReader(truth("market/btc_eth_daily_2018_2022.csv").splitlines())
    return np.diff(np.log([[float(row["btc_close"]), float(row["eth_close"])] for row in rows]), axis=0)


def history(days: int = 600, underlyings: int = 2) -> History:
    returns = np.random.default_rng(1).normal(0.0, 0.03, (days, underlyings))
    return History(tuple(f"day {day}" for day in range(days)), tuple("ABCDE"[:underlyings]), returns)


@pytest.mark.parametrize("name", PORTFOLIOS)
def test_the_filtered_set_passes_its_backtest_and_the_normal_one_fails_at_99(name: str) -> None:
    returns, weights = daily_returns(), PORTFOLIOS[name]
    for p, made in risk_forecasts.forecasts(returns, weights, LEVELS, "filtered").items():
        backtest = risk_forecasts.judged(made, p)
        assert backtest.coverage.observations == 1_325
        assert not {"unconditional", "conditional", "z2"} & set(backtest.failures()), p
    normal = risk_forecasts.judged(risk_forecasts.forecasts(returns, weights, [0.99], "ewma_normal")[0.99], 0.99)
    assert 24 <= normal.coverage.exceptions <= 39
    assert {"unconditional", "conditional", "z2"} <= set(normal.failures())


def test_a_forecast_does_not_know_its_day() -> None:
    returns = daily_returns()[:620].copy()
    before = risk_forecasts.forecasts(returns, (1.0, -1.0), [0.99])[0.99]
    returns[610:] *= 3.0
    after = risk_forecasts.forecasts(returns, (1.0, -1.0), [0.99])[0.99]
    assert (before.var[:111] == after.var[:111]).all() and before.var[111] != after.var[111]


def test_the_stresses_are_the_moves_of_their_days() -> None:
    given = risk_scenarios.scenario_set("stresses")
    moves = json.loads(truth("market/stress_moves.json"))
    assert given.underlyings == ("BTC", "ETH") and given.is_vol_assumed.all() and all(given.sources)
    names = {"2020-03-12": "2020-03-12", "2021-05-19": "2021-05-19", "2022-11-08..09 (FTX)": "2022-11-08..09"}
    for key, name in (names | {"2024-08-05": "2024-08-05", "2025-10-10": "2025-10-10"}).items():
        for kind in ("close", "low"):
            column = given.scenarios.index(f"{name} {kind}")
            assert given.spot[:, column] == pytest.approx(moves[key][f"{kind}_move"], abs=6e-5)
    first, day = given.scenarios.index("2022-11-08 close"), (date(2022, 11, 8) - date(2018, 1, 2)).days
    assert given.spot[:, first] == pytest.approx(np.expm1(daily_returns()[day]), abs=1e-6)


def test_scaled_by_vols_alone_each_day_is_hull_and_whites() -> None:
    given = history()
    made = risk_scenarios.historical(given, noise=None)
    vols = np.sqrt(np.einsum("tii->ti", ewma_covariances(given.returns)))
    assert np.log1p(made.spot.T) == pytest.approx(given.returns[100:] / vols[100:-1] * vols[-1])
    assert made.version == made.scenarios[-1] == "day 599" and len(made.scenarios) == 500
    plain = risk_scenarios.historical(given, decay=None)
    assert np.log1p(plain.spot.T) == pytest.approx(given.returns[100:])


def test_scaled_jointly_the_days_have_todays_correlation() -> None:
    rng = np.random.default_rng(7)
    # The correlation turns from 0.9 to -0.5.
    early = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 600)
    late = rng.multivariate_normal([0, 0], [[1, -0.5], [-0.5, 1]], 100)
    returns = 0.02 * np.concatenate([early, late])
    alone, joint = (risk_scenarios.joint_filter(returns, 500, noise=noise) for noise in (None, 0.05))
    today = ewma_covariances(returns)[-1]
    correlation = today[0, 1] / math.sqrt(today[0, 0] * today[1, 1])
    assert np.corrcoef(alone.T)[0, 1] > 0.4
    assert np.corrcoef(joint.T)[0, 1] == pytest.approx(correlation, abs=0.12)


def test_a_missing_history_is_a_reason_or_a_named_proxy_and_never_zero() -> None:
    given = history(600, 3)
    given.returns[300, 2] = math.nan
    made = risk_scenarios.historical(given)
    assert made.reasons == {"C": "has 499 of 500 days of history, none on day 300"}
    fitted = risk_scenarios.fitted(made, ["A", "C", "X"], {"X": "B"})
    assert fitted.sources == {"A": "A", "X": "B"} and list(fitted.missing) == ["C"]
    assert np.isnan(fitted.moves.spot[1]).all() and np.isnan(fitted.moves.vol[1]).all()
    assert (fitted.moves.spot[2] == made.spot[1]).all()
    assert "nor its proxy C" in risk_scenarios.fitted(made, ["X"], {"X": "C"}).missing["X"]
    stresses = risk_scenarios.scenario_set("stresses")
    assert "not in every scenario of the set stresses" in risk_scenarios.fitted(stresses, ["SOL"]).missing["SOL"]
    # The others have the moves that they would have without it.
    assert (made.spot[:2] == risk_scenarios.historical(history(600, 3)._replace(returns=given.returns)).spot[:2]).all()


def test_a_history_of_3_days_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 100 days, got 3"):
        risk_scenarios.historical(history(3))
    with pytest.raises(ValueError, match="at least 501 days, got 3"):
        risk_forecasts.forecasts(history(3).returns, (1.0, 0.0), [0.99])
    with pytest.raises(ValueError, match="unknown method 'garch'"):
        risk_forecasts.forecasts(history().returns, (1.0, 0.0), [0.99], "garch")


def test_moves_of_vols_with_a_history_are_measured_and_others_assumed() -> None:
    given = history()
    vols = np.full((600, 2), 0.1)
    vols[:, 1] = math.nan
    made = risk_scenarios.historical(given._replace(vol_returns=vols))
    assert made.vol[0] == pytest.approx(np.full(500, math.expm1(0.1))) and not made.is_vol_assumed[0].any()
    assert made.vol[1] == pytest.approx(np.maximum(-made.spot[1], -0.9)) and made.is_vol_assumed[1].all()


def test_drawn_scenarios_have_their_covariance_and_are_drawn_the_same_again() -> None:
    covariance = np.array([[4e-4, 3e-4], [3e-4, 9e-4]])
    made = risk_scenarios.monte_carlo(["A", "B"], covariance, 20_000, 3)
    assert np.cov(np.log1p(made.spot)) == pytest.approx(covariance, rel=0.05)
    assert (risk_scenarios.monte_carlo(["A", "B"], covariance, 20_000, 3).spot == made.spot).all()
    heavy = risk_scenarios.monte_carlo(["A"], covariance, 20_000, 3, freedom=4.0)
    assert not heavy.is_vol_assumed.any() and heavy.vol.shape == (1, 20_000)
    assert np.log1p(heavy.spot).var() == pytest.approx(4e-4, rel=0.15)
    with pytest.raises(ValueError, match="repair it first"):
        risk_scenarios.monte_carlo(["A", "B"], [[1.0, 2.0], [2.0, 1.0]], 10, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenarios": []}, "own.json: scenarios expected at least one scenario"),
        ({"scenarios": [{"name": "x", "spot": {"BTC": -1.0}}]}, r"scenarios\[0\].spot.BTC expected a number above -1"),
        ({"scenarios": [{"name": "x", "spot": {"BTC": None}}]}, r"scenarios\[0\].spot.BTC expected a number"),
        ({"scenarios": [{"name": "x", "spot": {"BTC": 0.1}, "vol": {"ETH": 1}}]}, "ETH has no move of its spot"),
        ({"scenarios": [{"name": "x", "spot": {"BTC": 0.1}}] * 2}, "two scenarios are named 'x'"),
        ({"version": 7}, "version expected a string"),
    ],
)
def test_a_users_file_is_read_or_the_field_that_is_wrong_named(change: dict[str, object], message: str) -> None:
    right = {"version": "1", "scenarios": [{"name": "x", "spot": {"BTC": -0.3}, "vol": {"BTC": 0.5}}]}
    given = risk_scenarios.from_file(Entry.of_text(json.dumps(right), "own.json"), "own")
    assert (given.spot.tolist(), given.vol.tolist(), given.is_vol_assumed.tolist()) == ([[-0.3]], [[0.5]], [[False]])
    with pytest.raises(ValueError, match=message):
        risk_scenarios.from_file(Entry.of_text(json.dumps(right | change), "own.json"), "own")


def test_an_unknown_set_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match="no scenario set 'moon'; there are stresses"):
        risk_scenarios.scenario_set("moon")

"""Cases of portfolio risk: by the fields that a case has, for one kind has several forms."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from tests.truth.answers import TRUTH
from udfs import (
    risk_backtests,
    risk_contributions,
    risk_correlations,
    risk_measures,
    risk_programs,
    risk_quadratic,
    risk_shortfall_tests,
    risk_transforms,
    risk_zones,
)

MARKET: Path = TRUTH / "market"


def share_of(inputs: Any) -> float:
    return float(inputs["p"] if inputs["p"] < 0.5 else 1.0 - inputs["p"])


def alike(figures: dict[str, Any], case: Any) -> Any:
    """Those figures that a case expects, in its form; a number or list alone is the first of them."""
    expected = case["expected"]
    if not isinstance(expected, dict):
        return shaped(next(iter(figures.values())), expected)
    return {name: shaped(figures[name], expected[name]) for name in expected}


def shaped(value: Any, expected: Any) -> Any:
    """A number where one is expected, of the first position; a list where one is."""
    if isinstance(value, list) and not isinstance(expected, list):
        return value[0]
    return [value] if isinstance(expected, list) and not isinstance(value, list) else value


def verdict(given: risk_backtests.Verdict, name: str = "lr") -> dict[str, Any]:
    return {name: given.statistic, "p_value": given.p_value, "exact_p_value": given.exact_p_value}


def coverage(case: Any) -> Any:
    inputs, expected = case["inputs"], case["expected"]
    if "n00" in inputs:
        transitions = risk_backtests.Transitions(*(inputs[name] for name in risk_backtests.Transitions._fields))
        return alike(verdict(risk_backtests.independence(transitions)), case)
    if "first_failure" in inputs:
        return alike(verdict(risk_backtests.first_failure(inputs["first_failure"], share_of(inputs))), case)
    if "exceptions_at" in inputs:
        series = [day in inputs["exceptions_at"] for day in range(1, inputs["observations"] + 1)]
        return alike(verdict(risk_backtests.conditional_coverage(series, share_of(inputs))), case)
    numbers = inputs["observations"], inputs["exceptions"], share_of(inputs)
    if not isinstance(expected, dict):
        return risk_backtests.binomial_tail(*numbers)
    if "z" in expected:
        return alike(verdict(risk_backtests.binomial_z(*numbers), "z"), case)
    return alike(verdict(risk_backtests.kupiec(*numbers)), case)


def traffic_light(case: Any) -> Any:
    inputs = case["inputs"]
    if "exceptions" in inputs:
        cumulative = risk_zones.cumulative_probabilities(inputs["observations"], share_of(inputs))
        chosen = inputs["exceptions"]
        return [float(cumulative[x]) for x in chosen] if isinstance(chosen, list) else float(cumulative[chosen])
    portfolios = inputs.get("portfolios", 1)
    answer = risk_zones.zones(
        inputs["observations"],
        share_of(inputs),
        tuple(inputs.get("levels", risk_zones.LEVELS)),
        horizon_days=inputs.get("horizon_days", 1),
        portfolios=portfolios,
        correlation=inputs.get("correlation", 0.0),
        paths=risk_zones.PATHS if portfolios == 1 else 400_000,
    )
    return answer._asdict()


def shortfall_test(case: Any) -> Any:
    inputs = case["inputs"]
    p, name = inputs["var_level"], inputs.get("distribution", "normal")
    freedom = inputs.get("degrees_of_freedom") or (float(name[1:]) if name.startswith("t") else None)
    law = risk_shortfall_tests.student_law(p, freedom) if freedom else risk_shortfall_tests.normal_law(p)
    days, answer = inputs["observations"], {}
    if "test_level" in inputs:
        answer["critical_value"] = risk_shortfall_tests.z2_critical_value(days, p, law, 1.0 - inputs["test_level"])
    if "statistic" in inputs:
        answer["p_value"] = risk_shortfall_tests.z2_p_value(days, p, law, inputs["statistic"])
    return alike(answer, case)


def historical(case: Any) -> Any:
    inputs = case["inputs"]
    if "csv" in inputs:
        with (MARKET / inputs["csv"]).open(encoding="utf-8") as file:
            profits = [float(row[inputs["column"]]) for row in csv.DictReader(file)]
        levels = inputs["probabilities"]
        return {
            "quantile": [risk_measures.quantile(profits, p) for p in levels],
            "mean_below": [risk_measures.mean_below(profits, p) for p in levels],
        }
    if "levels_by_day" in inputs:
        return scenario_levels(case)
    if "losses_thousands" in inputs:
        ages = [inputs["scenarios"] - number for number in inputs["scenario"]]
        weights = risk_measures.age_weights(ages, inputs["scenarios"], inputs["decay"])
        return risk_measures.worst_until(inputs["losses_thousands"], weights, inputs["tail"])._asdict()
    returns = [np.nan if value is None else value for value in inputs["returns"]]
    if "level" in inputs:
        losses = [-value for value in returns]
        return alike(risk_measures.tail(losses, inputs["level"], leaves_out_nan=True)._asdict(), case)
    is_interpolated = "interpolat" in case.get("rule", "")
    return [risk_measures.quantile(returns, p, is_interpolated=is_interpolated) for p in inputs["probabilities"]]


def scenario_levels(case: Any) -> Any:
    inputs = case["inputs"]
    names = list(inputs["levels_by_day"])
    past = np.array([inputs["levels_by_day"][name] for name in names])
    ratios = past[:, 1:] / past[:, :-1]
    today, invested = (np.array([inputs[field][name] for name in names]) for field in ("today", "invested_thousands"))
    if isinstance(case["expected"][0], list):
        return (today[:, np.newaxis] * ratios).T.tolist()
    return (invested @ ratios).tolist()


def parametric(case: Any) -> Any:
    inputs = case["inputs"]
    if "positions" in inputs:
        answer = risk_contributions.normal(inputs["positions"], covariance_of(inputs), inputs.get("level"), inputs.get("z"))
        root_time = inputs.get("days", 1) ** 0.5
        alone, total = answer.individual * root_time, answer.total * root_time
        figures = {"together": total, "alone": alone.tolist(), "diversification": float(alone.sum()) - total}
        return alike(figures, case)
    periods = inputs.get("horizon", 1) / inputs.get("periods", 1)
    if "z" in inputs:
        return risk_measures.normal_tail(inputs["mean"], inputs["deviation"], 0.5, periods, inputs["z"]).var
    return alike(risk_measures.normal_tail(inputs["mean"], inputs["deviation"], inputs["level"], periods)._asdict(), case)


def covariance_of(inputs: Any) -> Any:
    vols = np.array(inputs["daily_vols"] if "daily_vols" in inputs else inputs["vols"])
    correlation = np.array(inputs["correlation"], dtype=np.float64)
    if correlation.ndim == 0:
        correlation = np.full((len(vols), len(vols)), float(correlation))
        np.fill_diagonal(correlation, 1.0)
    return correlation * np.outer(vols, vols)


def delta_gamma(case: Any) -> Any:
    inputs = case["inputs"]
    given = risk_quadratic.quadratic(inputs["delta"], inputs["gamma"], inputs["covariance"], inputs.get("theta", 0.0))
    if "probabilities" in inputs:
        # Of the normal one the quantile at p is the VaR at 1 - p with its sign turned.
        tails = [risk_quadratic.answer(given, 1.0 - p, "normal").tail for p in inputs["probabilities"]]
        return [-answer.var for answer in tails if answer]
    return risk_transforms.upper_quantile(given, 1.0 - inputs["probability"])


def cornish_fisher(case: Any) -> Any:
    inputs = case["inputs"]
    if "delta" in inputs:
        given = risk_quadratic.quadratic(inputs["delta"], inputs["gamma"], inputs["covariance"], inputs.get("theta", 0.0))
        return risk_quadratic.cornish_fisher_expansion(risk_quadratic.cumulants(given), inputs["probability"])
    excess = inputs["kurtosis"] - 3.0 if "kurtosis" in inputs else inputs["excess_kurtosis"]
    moments = risk_quadratic.Cumulants(inputs["mean"], inputs["deviation"], inputs["skewness"], excess)
    return -risk_quadratic.cornish_fisher_expansion(moments, 1.0 - inputs["level"])


def contribution(case: Any) -> Any:
    inputs = case["inputs"]
    answer = risk_contributions.normal(inputs["positions"], covariance_of(inputs), inputs.get("level"), inputs.get("z"))
    figures: dict[str, Any] = {"total": answer.total}
    for name in ("individual", "marginal", "component", "incremental"):
        figures[name] = getattr(answer, name).tolist()
    return alike(figures, case)


def ewma(case: Any) -> Any:
    inputs = case["inputs"]
    decay = inputs["decay"]
    if "vol" in inputs:
        variance = float(risk_correlations.ewma_step(inputs["vol"] ** 2, inputs["move"], decay))
        return alike({"variance": variance, "vol": variance**0.5}, case)
    before = covariance_of(inputs)
    moves = inputs.get("moves")
    if moves is None:
        moves = [now / then - 1.0 for now, then in zip(inputs["prices"], inputs["prices_before"], strict=True)]
    after = risk_correlations.ewma_step(before, moves, decay)
    vols, correlation = risk_correlations.vols_and_correlations(after)
    figures = {"covariance": float(after[0, 1]), "covariance_before": float(before[0, 1]), "variance": float(after[0, 0])}
    figures |= {"correlation": float(correlation[0, 1])}
    return alike(figures | {"variances": np.diagonal(after).tolist(), "vols": vols.tolist()}, case)


def correlation(case: Any) -> Any:
    inputs = case["inputs"]
    if "data" in inputs:
        return alike(risk_correlations.moments(inputs["data"])._asdict(), case)
    given = inputs["correlation"] if "correlation" in inputs else inputs["matrix"]
    about = f"{case['name']} {case.get('source', '')} {case.get('note', '')}".lower()
    if "spectral" in about or "scaled back" in about:
        method = "spectral"
    else:
        method = "alternating" if "nearpd" in about and "dodykstra=true" not in about else "nearest"
    return risk_correlations.repaired(given, method).correlation.tolist()


def optimisation(case: Any) -> Any:
    inputs = case["inputs"]
    answer = risk_programs.quadratic_program(
        *(inputs[name] for name in ("P", "q")), **{name: inputs.get(name) for name in ("G", "h", "A", "b")}
    )
    return alike({"x": answer.x.tolist(), "value": answer.value}, case)


WHOLE = {
    "coverage": coverage,
    "traffic_light": traffic_light,
    "expected_shortfall_test": shortfall_test,
    "historical": historical,
    "parametric": parametric,
    "delta_gamma": delta_gamma,
    "cornish_fisher": cornish_fisher,
    "contribution": contribution,
    "ewma": ewma,
    "correlation": correlation,
    "optimisation": optimisation,
}

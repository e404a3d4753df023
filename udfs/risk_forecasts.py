"""VaR and ES forecasts for each day of a history, made from the days before it, as a backtest needs them.

    ewma_normal   a normal P&L of mean 0 whose deviation is that of the EWMA covariances (RiskMetrics 1996)
    historical    the last `WINDOW` days as they were
    filtered      the same, each scaled to the covariances forecast for the day: `risk_scenarios.rescaled`

A portfolio has the same value of each series every day, in units of its money: 1 is long for 1, -1 short.  A day's loss is
-Σ w (e^r - 1), full revaluation; the normal one takes the log-return r for the return.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs.risk_backtests import Coverage, coverage, exceptions_of
from udfs.risk_correlations import DECAY, ewma_covariances, returns_of
from udfs.risk_measures import normal_tail, tail, tail_shares
from udfs.risk_scenarios import LEAST_DAYS, NOISE, WINDOW, rescaled
from udfs.risk_shortfall_tests import Law, ShortfallVerdict, normal_law, scenario_law, z1, z2

FloatArray = NDArray[np.float64]

METHODS = ("ewma_normal", "historical", "filtered")


class Forecasts(NamedTuple):
    """What each judged day was forecast to lose at one level, and what it lost."""

    loss: FloatArray
    var: FloatArray
    es: FloatArray
    law: Law  # of losses beyond VaR in units of ES, as forecast


class Backtest(NamedTuple):
    """How forecasts have done."""

    coverage: Coverage
    z1: ShortfallVerdict
    z2: ShortfallVerdict

    def failures(self, size: float = 0.05) -> list[str]:
        """The tests that reject: of unconditional, independence, conditional and z2.  Z1 is told, not required."""
        named = [
            (name, getattr(self.coverage, name).rejects(size)) for name in ("unconditional", "independence", "conditional")
        ]
        if self.z2.p_value is not None and self.z2.p_value <= size:
            named.append(("z2", True))
        return [name for name, is_rejected in named if is_rejected]


def forecasts(
    returns: ArrayLike,
    weights: ArrayLike,
    levels: Sequence[float],
    method: str = "filtered",
    *,
    window: int = WINDOW,
    decay: float = DECAY,
    noise: float | None = NOISE,
) -> dict[float, Forecasts]:
    """Forecasts of one method for each day after the first `window`, by level.

    `returns` are daily log-returns, days × series; `weights` the value of each series.  Raises `ValueError` for an unknown
    method, where the window is shorter than `LEAST_DAYS` or not shorter than the history, or a return is not finite.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
    if window < LEAST_DAYS:
        raise ValueError(f"expected a window of at least {LEAST_DAYS} days, got {window}")
    array = returns_of(returns, window + 1)
    held = np.atleast_1d(np.asarray(weights, dtype=np.float64))
    if held.shape != (array.shape[1],) or not np.isfinite(held).all():
        raise ValueError(f"expected {array.shape[1]} finite weights, got {held.tolist()}")
    judged = range(window, len(array))
    loss = -np.expm1(array[window:]) @ held
    covariances = ewma_covariances(array, decay)
    if method == "ewma_normal":
        deviations = np.sqrt(np.maximum(np.einsum("i,tij,j->t", held, covariances[window:-1], held), 0.0))
        unit = {p: normal_tail(0.0, 1.0, p) for p in levels}
        return {p: Forecasts(loss, unit[p].var * deviations, unit[p].es * deviations, normal_law(p)) for p in levels}
    answers: dict[float, list[tuple[float, float, FloatArray, FloatArray]]] = {p: [] for p in levels}
    for day in judged:
        past = array[day - window : day]
        if method == "filtered":
            past = rescaled(past, covariances[day - window : day + 1], noise)
        losses = -np.expm1(past) @ held
        for p in levels:
            answer, shares = tail(losses, p), tail_shares(losses, p)
            answers[p].append((answer.var, answer.es, losses[shares.scenario] / answer.es, shares.share))
    made = {}
    for p, rows in answers.items():
        law = scenario_law(np.concatenate([row[2] for row in rows]), np.concatenate([row[3] for row in rows]))
        made[p] = Forecasts(loss, np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), law)
    return made


def judged(given: Forecasts, p: float) -> Backtest:
    """All tests of forecasts at the level p."""
    return Backtest(
        coverage(exceptions_of(given.loss, given.var), 1.0 - p),
        z1(given.loss, given.var, given.es, given.law),
        z2(given.loss, given.var, given.es, p, given.law),
    )

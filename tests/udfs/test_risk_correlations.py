import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from udfs import risk_correlations, risk_programs


@st.composite
def contradictions(draw: st.DrawFn) -> NDArray[Any]:
    """Symmetric, 1 on the diagonal, entries from -1 to 1."""
    size = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    matrix = rng.uniform(-1.0, 1.0, (size, size))
    matrix = 0.5 * (matrix + matrix.T)
    np.fill_diagonal(matrix, 1.0)
    return matrix


@given(contradictions())
def test_a_repaired_matrix_is_a_correlation_and_none_is_nearer(matrix: NDArray[Any]) -> None:
    near = risk_correlations.repaired(matrix)
    assert np.linalg.eigvalsh(near.correlation).min() > -1e-9
    assert np.diagonal(near.correlation) == pytest.approx(np.ones(len(matrix)))
    assert near.distance == pytest.approx(float(np.linalg.norm(near.correlation - matrix)))
    for method in ("alternating", "spectral"):
        assert risk_correlations.repaired(matrix, method).distance >= near.distance - 1e-6
    # Nor is one on the way to another correlation matrix: the set is convex.
    for other in (np.eye(len(matrix)), np.ones_like(matrix)):
        assert np.linalg.norm(0.99 * near.correlation + 0.01 * other - matrix) >= near.distance - 1e-8


def test_a_correlation_is_left_as_it_is() -> None:
    matrix = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert risk_correlations.repaired(matrix).distance == 0.0
    assert (risk_correlations.repaired(matrix).correlation == matrix).all()


def test_a_repaired_covariance_keeps_its_variances() -> None:
    vols, correlation = np.array([1.0, 2.0, 3.0]), np.array([[1, 0.9, 0.7], [0.9, 1, 0.3], [0.7, 0.3, 1]])
    covariance, distance = risk_correlations.repaired_covariance(correlation * np.outer(vols, vols))
    assert np.sqrt(np.diagonal(covariance)) == pytest.approx(vols) and distance > 0
    assert np.allclose(risk_correlations.root(covariance) @ risk_correlations.root(covariance).T, covariance)
    with pytest.raises(ValueError, match="repair it first"):
        risk_correlations.root(correlation)


def test_the_forecast_for_a_day_is_made_of_the_days_before_it() -> None:
    returns = np.random.default_rng(2).normal(size=(60, 2))
    forecasts = risk_correlations.ewma_covariances(returns, 0.9, warm_days=20)
    assert forecasts.shape == (61, 2, 2)
    for day in range(20, 60):
        assert forecasts[day + 1] == pytest.approx(risk_correlations.ewma_step(forecasts[day], returns[day], 0.9))
    later = returns.copy()
    later[50:] *= 100.0
    assert (risk_correlations.ewma_covariances(later, 0.9, warm_days=20)[:51] == forecasts[:51]).all()


def test_bad_returns_are_named_by_day_and_series() -> None:
    returns = np.zeros((40, 2))
    returns[7, 1] = math.nan
    with pytest.raises(ValueError, match="got nan on day 7 of series 1"):
        risk_correlations.ewma_covariances(returns)
    with pytest.raises(ValueError, match="finite returns"):
        risk_correlations.ewma_step(np.eye(2), [math.inf, 0.0])
    with pytest.raises(ValueError, match="at least 2 days, got 1"):
        risk_correlations.ewma_covariances([0.1])
    with pytest.raises(ValueError, match="symmetric"):
        risk_correlations.repaired([[1.0, 0.2], [0.3, 1.0]])
    with pytest.raises(ValueError, match="variances of at least 0"):
        risk_correlations.vols_and_correlations([[-1.0]])


def test_a_minimum_cannot_be_improved_within_its_conditions() -> None:
    rng = np.random.default_rng(3)
    root, q = rng.normal(size=(4, 4)), rng.normal(size=4)
    P, A, b = root @ root.T, np.ones((1, 4)), np.array([1.0])
    answer = risk_programs.quadratic_program(P, q, A=A, b=b, lower=0.0, upper=0.6)
    assert answer.x.sum() == pytest.approx(1.0) and answer.x.min() > -1e-9 and answer.x.max() < 0.6 + 1e-9
    for x in rng.dirichlet(np.ones(4), 300):
        if x.max() <= 0.6:
            assert 0.5 * x @ P @ x + q @ x >= answer.value - 1e-9
    with pytest.raises(ValueError, match="no x meets"):
        risk_programs.quadratic_program(P, q, A=A, b=b, lower=0.5)
    with pytest.raises(ValueError, match="positive semi-definite"):
        risk_programs.quadratic_program(-np.eye(2), [0.0, 0.0])

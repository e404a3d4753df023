import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from udfs import risk_measures, risk_quadratic, risk_transforms
from udfs.risk_transforms import Form


def drawn(given: Form, count: int, seed: int) -> NDArray[Any]:
    z = np.random.default_rng(seed).normal(size=(count, len(given.a)))
    return given.c + z @ given.b + 0.5 * (z * z) @ given.a


@pytest.mark.parametrize("seed", range(4))
def test_monte_carlo_is_within_3_of_its_standard_errors_of_the_inversion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 2 + seed
    root, gamma = rng.normal(size=(size, size)), rng.normal(size=(size, size))
    given = risk_quadratic.quadratic(rng.normal(size=size), gamma + gamma.T, root @ root.T, 0.1)
    exact = risk_quadratic.answer(given, 0.99).tail
    losses = -drawn(given, 200_000, 10 + seed)
    sample, errors = risk_measures.tail(losses, 0.99), risk_measures.standard_errors(losses, 0.99)
    assert exact is not None
    assert abs(sample.var - exact.var) < 3 * errors.var and abs(sample.es - exact.es) < 3 * errors.es


def test_tails_are_those_of_known_distributions_to_all_digits() -> None:
    normal = Form(1.0, np.array([3.0, 4.0]), np.zeros(2))
    assert risk_transforms.upper_tail(normal, 31.0) == pytest.approx(norm.sf(6.0), rel=1e-10)
    assert risk_transforms.mean_excess(normal, 11.0) == pytest.approx(5 * (norm.pdf(2) - 2 * norm.sf(2)), rel=1e-10)
    # A sum of 4 squares with two scales that are nearly one is nearly chi-squared.
    squares = Form(0.0, np.zeros(4), np.array([2.0, 2.0, 2.0, 2.0 + 1e-9]))
    assert risk_transforms.upper_tail(squares, 9.0) == pytest.approx(chi2.sf(9.0, 4), rel=1e-8)
    # Two squares of both signs have a symmetric difference.
    difference = Form(0.0, np.zeros(2), np.array([1.0, -1.0]))
    assert risk_transforms.upper_tail(difference, 0.0) == pytest.approx(0.5, abs=1e-7)
    # A sum of two squares is exponential.
    assert risk_transforms.upper_tail(Form(0.0, np.zeros(2), np.array([2.0, 2.0])), 3.0) == pytest.approx(
        math.exp(-1.5), rel=1e-9
    )


def test_what_is_bounded_ends_at_its_bound() -> None:
    short = risk_quadratic.quadratic([0.5, 0.0], [[-2.0, 0.0], [0.0, -3.0]], np.eye(2))
    assert short.greatest == pytest.approx(0.0625)
    assert risk_transforms.upper_tail(short, 0.0625) == 0.0 and risk_transforms.upper_tail(short.negated, -0.0626) == 1.0
    assert 0.0 < risk_transforms.upper_tail(short, 0.0) < 0.2


def test_the_quantile_inverts_the_tail() -> None:
    given = risk_quadratic.quadratic([1.0, -0.5], [[0.3, 0.1], [0.1, -0.4]], [[1.0, 0.4], [0.4, 2.0]])
    for share in (0.999, 0.6, 0.05, 1e-6):
        assert risk_transforms.upper_tail(given, risk_transforms.upper_quantile(given, share)) == pytest.approx(share, rel=1e-6)


def test_the_saddlepoint_is_near_and_cornish_fisher_too_inside_its_domain() -> None:
    given = risk_quadratic.quadratic([1.0, 0.5], [[-0.1, 0.0], [0.0, 0.05]], np.eye(2))
    exact, near, corrected = (
        risk_quadratic.answer(given, 0.99, name).tail for name in ("imhof", "saddlepoint", "cornish_fisher")
    )
    assert near == pytest.approx(exact, rel=0.005) and corrected == pytest.approx(exact, rel=0.02)


def test_cornish_fisher_is_refused_outside_its_domain_with_a_reason() -> None:
    given = risk_quadratic.quadratic([0.0], [[-10_000.0]], [[1.0]])
    refused = risk_quadratic.answer(given, 0.99, "cornish_fisher")
    assert refused.tail is None and "skewness -2.828 and excess kurtosis 12" in str(refused.reason)
    # Inside, the expansion is a quantile: it increases; outside it does not everywhere.
    z = norm.cdf(np.linspace(-8, 8, 400))
    for skewness, kurtosis in ((0.0, 0.0), (0.5, 1.0), (-1.0, 3.0), (2.0, 0.0), (0.0, 9.0), (0.0, -0.5)):
        moments = risk_quadratic.Cumulants(0.0, 1.0, skewness, kurtosis)
        quantiles = [risk_quadratic.cornish_fisher_expansion(moments, share) for share in z]
        assert risk_quadratic.is_in_domain(skewness, kurtosis) == bool(np.all(np.diff(quantiles) > 0))


def test_cornish_fishers_shortfall_is_the_mean_of_its_quantiles() -> None:
    given = risk_quadratic.quadratic([1.0, 0.5], [[-0.1, 0.0], [0.0, 0.05]], np.eye(2))
    found = risk_quadratic.answer(given, 0.975, "cornish_fisher").tail
    assert found is not None
    moments, shares = risk_quadratic.cumulants(given), (np.arange(20_000) + 0.5) / 20_000 * 0.025
    mean = np.mean([risk_quadratic.cornish_fisher_expansion(moments, share) for share in shares[::10]])
    assert found.es == pytest.approx(-mean, rel=2e-3)


def test_vega_adds_a_factor() -> None:
    delta, gamma = risk_quadratic.with_vega([3.0], [[0.0]], [4.0])
    given = risk_quadratic.quadratic(delta, gamma, np.eye(2))
    assert given.deviation == pytest.approx(5.0)
    assert risk_quadratic.answer(given, 0.99).tail == pytest.approx(risk_measures.normal_tail(0.0, 5.0, 0.99), rel=1e-9)
    with pytest.raises(ValueError, match="vanna"):
        risk_quadratic.with_vega([3.0], [[0.0]], [4.0], vanna=[[1.0, 2.0]])


def test_bad_input_is_refused_and_no_risk_is_none() -> None:
    assert risk_quadratic.answer(risk_quadratic.quadratic([0.0], [[0.0]], [[1.0]], 2.0), 0.99).tail == (-2.0, -2.0)
    with pytest.raises(ValueError, match="repair it first"):
        risk_quadratic.quadratic([1.0, 1.0], np.zeros((2, 2)), [[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="finite sensitivities"):
        risk_quadratic.quadratic([math.nan], [[0.0]], [[1.0]])
    with pytest.raises(ValueError, match="unknown method 'delta'"):
        risk_quadratic.answer(risk_quadratic.quadratic([1.0], [[0.0]], [[1.0]]), 0.99, "delta")

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

from udfs import risk_backtests, risk_shortfall_tests, risk_zones


def test_kupiecs_regions_and_ratios_are_the_published_ones(published: Any) -> None:
    for days, share, low, high in published["kupiec_nonrejection"]:
        assert risk_backtests.kupiec_region(days, share) == (low, high)
    for case in published["kupiec_LR"]:
        assert risk_backtests.kupiec(case["n"], case["x"], case["p"]).statistic == pytest.approx(case["LR"], rel=1e-12)


def test_of_right_models_chi_squared_rejects_twice_as_many_as_it_says_and_the_exact_test_no_more() -> None:
    """10,000 drawn series of 250 days at 1 %, against the enumerated sizes, 9.5 % and 1.4 %."""
    verdicts = [risk_backtests.kupiec(250, count, 0.01) for count in range(251)]
    weights = binom.pmf(np.arange(251), 250, 0.01)
    sizes = [
        sum(weight for weight, verdict in zip(weights, verdicts, strict=True) if getattr(verdict, name) <= 0.05)
        for name in ("p_value", "exact_p_value")
    ]
    assert sizes == pytest.approx([0.095, 0.014], abs=5e-4)
    counts = np.random.default_rng(4).binomial(250, 0.01, 10_000)
    for size, name in zip(sizes, ("p_value", "exact_p_value"), strict=True):
        rate = np.mean([getattr(verdicts[count], name) <= 0.05 for count in counts])
        assert abs(rate - size) < 4 * math.sqrt(size * (1 - size) / 10_000)


def test_exact_p_values_are_those_of_all_series() -> None:
    """Every one of the 2^9 series, weighed by its probability."""
    days, share = 9, 0.2
    series = [np.array(bits, dtype=bool) for bits in itertools.product([False, True], repeat=days)]
    tests = [risk_backtests.coverage(bits, share) for bits in series]
    weights = np.array([share ** bits.sum() * (1 - share) ** (days - bits.sum()) for bits in series])
    counts = np.array([bits.sum() for bits in series])
    conditional, chain = (
        np.array([getattr(test, name).statistic for test in tests]) for name in ("conditional", "independence")
    )
    for test, count in list(zip(tests, counts, strict=True))[::37]:
        at_least = conditional >= (test.conditional.statistic or 0.0) - 1e-9
        assert test.conditional.exact_p_value == pytest.approx(weights[at_least].sum(), abs=1e-9)
        alike = counts == count
        assert test.independence.exact_p_value == pytest.approx(
            np.mean(chain[alike] >= (test.independence.statistic or 0.0) - 1e-9)
        )
    # So none rejects more often than it says.
    for name in ("unconditional", "independence", "conditional"):
        assert weights[[getattr(test, name).exact_p_value <= 0.05 for test in tests]].sum() <= 0.05


@pytest.mark.parametrize("count", [0, 250])
def test_every_statistic_is_finite_without_and_with_only_exceptions(count: int) -> None:
    days = np.full(250, count > 0)
    for verdict in [*risk_backtests.coverage(days, 0.01)[2:], risk_backtests.binomial_z(250, count, 0.01)]:
        assert verdict.reason is None
        assert all(value is not None and math.isfinite(value) for value in verdict[:3])
    assert risk_backtests.kupiec(0, 0, 0.01) == (None, None, None, "no day was judged")
    assert risk_backtests.conditional_coverage([True], 0.01).reason == "fewer than two days were judged"


def test_exceptions_in_a_row_are_rejected_by_independence_alone() -> None:
    days = np.zeros(500, dtype=bool)
    days[100:105] = True
    found = risk_backtests.coverage(days, 0.01)
    assert not found.unconditional.rejects() and found.independence.rejects() and found.conditional.rejects()


def test_bad_numbers_of_days_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 10 exceptions, got 11"):
        risk_backtests.kupiec(10, 11, 0.01)
    with pytest.raises(ValueError, match=r"such as 0\.01"):
        risk_backtests.kupiec(10, 1, 99.0)
    with pytest.raises(ValueError, match="finite"):
        risk_backtests.exceptions_of([math.nan], [1.0])


def test_zones_are_basels_and_overlapping_ones_are_wider() -> None:
    assert risk_zones.zones(250, 0.01) == (4, 9)
    assert [risk_zones.zones(250, 0.01).zone(count) for count in (4, 5, 9, 10)] == ["green", "amber", "amber", "red"]
    counted = risk_zones.counted(250, 0.01, 1, 1, 0.0, 40_000, 1)
    assert np.abs(counted - risk_zones.cumulative_probabilities(250, 0.01)).max() < 0.01
    wide = risk_zones.zones(200, 0.01, (0.9, 0.99), horizon_days=10, paths=20_000)
    assert wide.last_green > risk_zones.zones(200, 0.01, (0.9, 0.99)).last_green and wide.last_amber > 6


def test_critical_values_of_z2_are_the_published_ones(published: Any) -> None:
    case = published["acerbi_szekely_Z2"]
    law = risk_shortfall_tests.normal_law(1 - case["alpha"])
    for size, name, tolerance in ((0.05, "crit5", 0.01), (0.0001, "crit001", 0.05)):
        value = risk_shortfall_tests.z2_critical_value(case["T"], 1 - case["alpha"], law, size)
        assert value == pytest.approx(case[name], abs=tolerance)


def test_z1_and_z2_of_right_forecasts_are_0_on_average_and_distributed_as_computed() -> None:
    rng = np.random.default_rng(5)
    es = norm.pdf(norm.isf(0.025)) / 0.025
    law = risk_shortfall_tests.normal_law(0.975)
    assert float(law.ratio @ law.probability) == pytest.approx(1.0, abs=1e-6)
    draws = rng.normal(size=(4_000, 250))
    is_exception = draws > norm.isf(0.025)
    sums = np.where(is_exception, draws, 0.0).sum(axis=1) / es
    z2 = 1 - sums / (250 * 0.025)
    assert abs(z2.mean()) < 4 * z2.std() / math.sqrt(len(z2))
    for limit in (-0.7, -0.3, 0.2):
        computed = risk_shortfall_tests.z2_p_value(250, 0.975, law, limit)
        assert np.mean(z2 <= limit) == pytest.approx(computed, abs=4 * math.sqrt(computed * (1 - computed) / len(z2)))
    six = is_exception.sum(axis=1) == 6
    z1 = 1 - sums[six] / 6
    computed = risk_shortfall_tests.z1_p_value(6, law, -0.05)
    assert np.mean(z1 <= -0.05) == pytest.approx(computed, abs=4 * math.sqrt(computed * (1 - computed) / six.sum()))


def test_z1_has_a_reason_without_an_exception_and_z2_is_1() -> None:
    law = risk_shortfall_tests.normal_law(0.975)
    quiet, var, es = np.zeros(100), np.ones(100), np.full(100, 1.2)
    assert risk_shortfall_tests.z1(quiet, var, es, law) == (None, None, "no loss was beyond VaR")
    assert risk_shortfall_tests.z2(quiet, var, es, 0.975, law)[:2] == (1.0, 1.0)
    everywhere = risk_shortfall_tests.z2(np.full(100, 9.0), var, es, 0.975, law)
    assert everywhere.p_value == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="each ES above 0"):
        risk_shortfall_tests.z1(quiet, var, np.zeros(100), law)

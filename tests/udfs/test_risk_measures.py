import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from udfs import risk_measures

LEVELS = st.sampled_from([0.9, 0.95, 0.975, 0.99])
AMOUNTS = st.floats(-1e6, 1e6, allow_subnormal=False)
LOSSES = arrays(np.float64, 40, elements=AMOUNTS)


def test_var_is_the_loss_of_the_rank_and_es_the_mean_of_the_tail_with_the_last_in_part() -> None:
    losses = np.arange(1.0, 251.0)
    assert risk_measures.tail(losses, 0.99).var == 248.0  # 2.5 of 250: the third worst
    assert risk_measures.tail(losses, 0.99).es == pytest.approx((250 + 249 + 0.5 * 248) / 2.5)
    # 500 (1 - 0.99) is a little above 5 in binary, and is 5.
    assert risk_measures.tail_rank(500, 0.99) == 5
    assert risk_measures.tail(np.arange(500.0), 0.99).es == pytest.approx(np.mean([499, 498, 497, 496, 495]))
    assert risk_measures.tail([3.0, 1.0], 0.95) == (3.0, 3.0)


@given(LOSSES, LOSSES, LEVELS)
def test_es_is_subadditive_and_not_below_var(a: NDArray[Any], b: NDArray[Any], p: float) -> None:
    together, one, other = (risk_measures.tail(losses, p) for losses in (a + b, a, b))
    assert together.es <= one.es + other.es + 1e-6
    assert together.es >= together.var - 1e-6


def test_var_is_not_subadditive() -> None:
    # Two bonds that default in scenarios of their own, each in 4 of 100.
    a, b = np.zeros(100), np.zeros(100)
    a[:4], b[4:8] = 1.0, 1.0
    assert [risk_measures.tail(losses, 0.95).var for losses in (a, b, a + b)] == [0.0, 0.0, 1.0]


@given(LOSSES, LEVELS, st.floats(0.1, 10.0), AMOUNTS, st.randoms())
def test_both_scale_shift_and_do_not_see_the_order(
    losses: NDArray[Any], p: float, scale: float, shift: float, chance: object
) -> None:
    mixed = list(losses)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    plain = risk_measures.tail(losses, p)
    assert risk_measures.tail(mixed, p) == pytest.approx(plain, abs=1e-9, rel=1e-12)
    moved = risk_measures.tail(scale * losses + shift, p)
    assert moved == pytest.approx((scale * plain.var + shift, scale * plain.es + shift), rel=1e-9, abs=1e-6)


@given(LOSSES, LEVELS)
def test_equal_weights_change_nothing(losses: NDArray[Any], p: float) -> None:
    weighted = risk_measures.tail(losses, p, np.full(40, 0.025))
    assert weighted == pytest.approx(risk_measures.tail(losses, p), rel=1e-6, abs=1e-6)


def test_a_normal_sample_has_the_normal_tail_within_its_standard_errors() -> None:
    draws = np.random.default_rng(1).normal(0.0, 2.0, 200_000)
    sample, errors = risk_measures.tail(draws, 0.99), risk_measures.standard_errors(draws, 0.99)
    true = risk_measures.normal_tail(0.0, 2.0, 0.99)
    assert abs(sample.var - true.var) < 3 * errors.var and abs(sample.es - true.es) < 3 * errors.es
    assert errors.var == pytest.approx(2.0 * math.sqrt(0.99 * 0.01 / 2e5) / 0.02665, rel=0.2)  # √(p (1 - p)/n)/density


@pytest.mark.parametrize(
    ("losses", "p", "message"),
    [
        ([1.0, math.nan], 0.9, "finite losses, got nan in scenario 1"),
        ([], 0.9, "at least one loss"),
        ([1.0], 1.0, "level above 0 and below 1"),
        ([1.0], 99.0, "level above 0 and below 1"),
        ([[1.0]], 0.9, "a list of losses"),
    ],
)
def test_bad_losses_and_levels_are_named(losses: list[float], p: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        risk_measures.tail(losses, p)


def test_an_unknown_measure_is_named_with_those_there_are() -> None:
    assert risk_measures.measure("es", [1.0, 2.0], 0.9) == 2.0
    with pytest.raises(ValueError, match="unknown measure 'cvar'; there are var, es"):
        risk_measures.measure("cvar", [1.0], 0.9)

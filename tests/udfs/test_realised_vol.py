from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import realised_vol

VOL, BARS_PER_YEAR = 0.8, 365 * 24


def bars(number: int, drift: float = 0.0, jump: float = 0.0, seed: int = 1) -> tuple[Any, Any, Any, Any]:
    """Open, high, low, close of a geometric Brownian motion of a thousand steps a bar; `jump` is its share between bars."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(number, 1000)) * VOL * np.sqrt((1 - jump) / BARS_PER_YEAR / 1000) + drift / BARS_PER_YEAR / 1000
    gaps = rng.normal(size=number) * VOL * np.sqrt(jump / BARS_PER_YEAR)
    path = np.concatenate([np.zeros((number, 1)), np.cumsum(steps, axis=1)], axis=1)
    start = np.cumsum(gaps + np.concatenate([[0.0], path[:-1, -1]]))
    path = 100 * np.exp(path + start[:, None])
    return path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1]


def test_each_finds_the_volatility_of_a_brownian_motion() -> None:
    o, h, l, c = bars(4000)  # noqa: E741
    assert realised_vol.ewma(c, BARS_PER_YEAR, half_life=2000)[-1] == pytest.approx(VOL, rel=0.05)
    # The extremes of a thousand steps lie a little within those of the motion.
    assert realised_vol.parkinson(h, l, BARS_PER_YEAR, 4000)[-1] == pytest.approx(VOL, rel=0.05)
    assert realised_vol.yang_zhang(o, h, l, c, BARS_PER_YEAR, 3999)[-1] == pytest.approx(VOL, rel=0.05)


def test_yang_and_zhang_see_jumps_between_bars_and_not_the_drift() -> None:
    o, h, l, c = bars(4000, drift=80.0, jump=0.4)  # noqa: E741
    assert realised_vol.yang_zhang(o, h, l, c, BARS_PER_YEAR, 3999)[-1] == pytest.approx(VOL, rel=0.05)
    _, h, l, _ = bars(4000, jump=0.4)  # noqa: E741
    assert realised_vol.parkinson(h, l, BARS_PER_YEAR, 4000)[-1] == pytest.approx(VOL * np.sqrt(0.6), rel=0.05)


@given(st.floats(1e-3, 1e3), st.floats(0.01, 0.2))
def test_they_do_not_depend_on_the_currency_and_scale_with_the_moves(scale: float, size: float) -> None:
    o, h, l, c = bars(40)  # noqa: E741
    for name, args in (("parkinson", (h, l)), ("yang_zhang", (o, h, l, c))):
        function = getattr(realised_vol, name)
        base = function(*args, 365.0, 10)
        assert function(*(scale * x for x in args), 365.0, 10) == pytest.approx(base, rel=1e-9, nan_ok=True)
        assert function(*((x / 100) ** size for x in args), 365.0, 10) == pytest.approx(base * size, rel=1e-9, nan_ok=True)


def test_ewma_halves_the_weight_after_a_half_life() -> None:
    close = np.exp([0.0, 0.1, 0.1, 0.1])
    vol = realised_vol.ewma(close, 1.0, half_life=2)
    weights = 0.5 ** (np.array([2, 1, 0]) / 2)
    assert vol[3] ** 2 == pytest.approx(0.01 * weights[0] / weights.sum())
    assert np.isnan(vol[0])


def test_parkinson_is_his_formula() -> None:
    assert realised_vol.parkinson([np.e], [1.0], 1.0, 1) == pytest.approx([1 / np.sqrt(4 * np.log(2))])


def test_a_bad_bar_leaves_no_answer_while_it_is_in_the_window() -> None:
    o, h, l, c = (x.copy() for x in bars(10))  # noqa: E741
    h[4] = np.nan
    assert np.isnan(realised_vol.parkinson(h, l, 365.0, 3)).tolist() == [True] * 2 + [False] * 2 + [True] * 3 + [False] * 3
    l[8] = 0.0
    assert np.isnan(realised_vol.yang_zhang(o, h, l, c, 365.0, 2)).tolist() == [
        True,
        True,
        False,
        False,
        True,
        True,
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("window", [0, 1, 11])
def test_a_window_that_does_not_fit_has_no_answer(window: int) -> None:
    o, h, l, c = bars(10)  # noqa: E741
    assert np.isnan(realised_vol.yang_zhang(o, h, l, c, 365.0, window)).all()


def test_the_last_axis_is_time() -> None:
    o, h, l, c = bars(30)  # noqa: E741
    two = [np.stack([x, 2 * x]) for x in (o, h, l, c)]
    stacked = realised_vol.yang_zhang(two[0], two[1], two[2], two[3], 365.0, 10)
    assert stacked[1] == pytest.approx(realised_vol.yang_zhang(o, h, l, c, 365.0, 10), nan_ok=True)
    assert realised_vol.ewma(np.stack([c, 2 * c]), 365.0, 5).shape == (2, 30)

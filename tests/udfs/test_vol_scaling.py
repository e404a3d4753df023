import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import vol_scaling
from udfs.vol_scaling import DEFAULT, Scaling

vols = st.floats(0.01, 5.0)


@given(vols)
def test_the_first_level_is_the_ratio_to_the_reference_within_floor_and_cap(vol: float) -> None:
    level, changed = vol_scaling.scale(vol)
    assert changed
    assert level == min(max(vol / DEFAULT.reference_vol, DEFAULT.floor), DEFAULT.cap)


@given(vols, vols)
def test_asked_again_it_stays(vol: float, before: float) -> None:
    first = vol_scaling.scale(vol, vol_scaling.scale(before).level)
    again = vol_scaling.scale(vol, first.level)
    assert not again.changed
    assert again.level == first.level


@given(vols, vols, st.floats(1.0, 2.5))
def test_more_vol_never_lowers_the_level(vol: float, more: float, before: float) -> None:
    low, high = sorted((vol, more))
    assert vol_scaling.scale(low, before).level <= vol_scaling.scale(high, before).level


@given(st.floats(1.1, 2.2), st.floats(-0.099, 0.099))
def test_within_the_band_it_stays(before: float, share: float) -> None:
    level, changed = vol_scaling.scale(DEFAULT.reference_vol * before * (1 + share), before)
    if DEFAULT.floor < before * (1 + share) < DEFAULT.cap:
        assert level == before and not changed


@pytest.mark.parametrize(
    ("vol", "before", "level", "changed"),
    [
        (0.9, 1.0, 1.5, True),  # beyond the band
        (0.63, 1.0, 1.0, False),  # 5 % is within it
        (0.60, 1.05, 1.0, True),  # within it, but the floor is reached in full
        (9.0, 2.4, 2.5, True),  # and so is the cap
        (9.0, 2.5, 2.5, False),
        (np.nan, 1.7, 1.7, False),  # no vol: as before
        (0.0, 1.7, 1.7, False),
        (np.nan, np.nan, 1.0, True),
    ],
)
def test_the_rule_by_hand(vol: float, before: float, level: float, changed: bool) -> None:
    got = vol_scaling.scale(vol, before)
    assert got.level == pytest.approx(level)
    assert got.changed == changed


def test_a_vol_that_wanders_round_an_edge_changes_the_level_once() -> None:
    level, changes = np.array(1.0), 0
    for vol in [0.65, 0.67, 0.65, 0.67, 0.65, 0.67]:
        level, changed = vol_scaling.scale(vol, level)
        changes += int(changed)
    assert changes == 1


def test_arguments_broadcast() -> None:
    level, changed = vol_scaling.scale([0.6, 1.2], [[1.0], [2.0]])
    assert level.tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert changed.tolist() == [[False, True], [True, False]]


def test_a_rule_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="0 < floor <= cap"):
        vol_scaling.scale(0.6, 1.0, Scaling(floor=2.0, cap=1.0))

"""Slices sum to their order, in whole lots."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import execution_schedules as schedules

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e9)), min_size=1, max_size=60).filter(any)


@given(st.integers(1, 10**9), WEIGHTS, st.integers(1, 1000))
def test_slices_are_whole_lots_that_sum_exactly_and_none_is_below_the_smallest_order(
    lots: int, weights: list[float], least: int
) -> None:
    lots = max(lots, least)
    sizes = schedules.slices(lots, weights, least)
    assert sum(sizes) == lots
    assert all(size == 0 or size >= least for size in sizes)
    assert all(not size for size, weight in zip(sizes, weights, strict=True) if not weight)
    whole, sent, share = sum(map(Fraction, weights)), 0, Fraction(0)
    for size, weight in zip(sizes, weights, strict=True):
        sent += size
        share += Fraction(weight)
        assert abs(lots * share / whole - sent) < least + 1


@given(st.integers(1, 10**9), st.integers(1, 500), st.integers(1, 50))
def test_even_slices_differ_by_a_lot_at_most(lots: int, count: int, least: int) -> None:
    lots = max(lots, least)
    sizes = schedules.even(lots, count, least)
    assert sum(sizes) == lots
    assert len(sizes) <= count
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= least


@given(st.integers(1, 10**6), st.integers(1, 100), st.lists(st.integers(0, 10**5), max_size=50), st.integers(1, 20))
def test_of_volume_sends_no_more_than_its_rate_of_what_was_seen(
    lots: int, percent: int, volumes: list[int], least: int
) -> None:
    sent = seen = 0
    for size, volume in zip(schedules.of_volume(lots, percent / 100, volumes, least), volumes, strict=True):
        seen += volume
        sent += size
        assert sent * 100 <= percent * seen
        assert sent <= lots


@given(st.integers(1, 2000), st.integers(1, 500), st.integers(1, 20))
def test_an_iceberg_shows_its_part_and_a_rest_below_the_smallest_order_joins(lots: int, display: int, least: int) -> None:
    display, lots = max(display, least), max(lots, least)
    sizes = schedules.shown(lots, display, least)
    assert sum(sizes) == lots
    assert all(least <= size <= display for size in sizes[:-1])
    assert least <= sizes[-1] < display + least


def test_a_profile_has_the_volumes_of_other_days_at_the_same_time_of_the_day() -> None:
    day = 86_400
    bars = [(10.0, 5.0), (70.0, 7.0), (day + 20.0, 3.0), (119.9, 1.0), (500.0, 9.0)]
    assert schedules.profile(bars, 7 * day, 7 * day + 120, 2) == [8.0, 8.0]
    around_midnight = [(day - 1.0, 2.0), (0.0, 4.0)]
    assert schedules.profile(around_midnight, day - 60.0, day + 60.0, 2) == [2.0, 4.0]


def test_weights_that_make_no_schedule_are_an_error() -> None:
    for weights in ([], [0.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="weights: expected"):
            schedules.slices(5, weights)
    with pytest.raises(ValueError, match="lots: expected at least 6"):
        schedules.slices(5, [1.0], 6)

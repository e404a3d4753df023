"""The cheapest hedge against all others, and rounding that does not overshoot."""

from itertools import product

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from udfs.black76 import FloatArray
from udfs.hedging import Bands, cheapest, whole_lots


def bands(*limits: tuple[float, float, float]) -> Bands:
    """Of (exposure, low, high); the scale is the width."""
    exposure, low, high = (np.array(column) for column in zip(*limits, strict=True))
    return Bands(exposure, low, high, np.maximum(high - low, 1.0))


def array(*rows: list[float]) -> FloatArray:
    return np.array(rows, dtype=np.float64)


def test_a_delta_is_brought_to_the_nearest_edge_by_the_cheapest_and_no_further() -> None:
    solved = cheapest(
        np.array([3.0, 2.0, 1.0]), np.array([10.0, 10.0, 4.0]), array([-1.0, -1.0, -1.0]), bands((11.0, -5.0, 5.0))
    )
    assert solved.is_enough
    assert np.allclose(solved.quantity, [0.0, 2.0, 4.0])


def test_an_option_brings_gamma_and_the_delta_that_it_adds_goes_to_the_future() -> None:
    # The option has gamma 2 and delta 0.5, the future delta 1.
    effect = array([0.5, 1.0, -1.0], [2.0, 0.0, 0.0])
    solved = cheapest(np.array([4.0, 1.0, 1.0]), np.full(3, 100.0), effect, bands((0.0, -1.0, 1.0), (-20.0, -10.0, 10.0)))
    assert solved.is_enough
    assert np.allclose(solved.quantity, [5.0, 0.0, 1.5])


def test_where_books_do_not_suffice_all_that_helps_is_taken_and_nothing_else() -> None:
    solved = cheapest(np.array([1.0, 1.0]), np.array([3.0, 9.0]), array([-1.0, 1.0]), bands((11.0, -5.0, 5.0)))
    assert not solved.is_enough
    assert np.allclose(solved.quantity, [3.0, 0.0])


def test_within_its_bands_nothing_is_traded_and_without_pieces_nothing_can_be() -> None:
    assert cheapest(np.ones(1), np.ones(1), array([1.0]), bands((4.0, -5.0, 5.0))).quantity.tolist() == [0.0]
    assert not cheapest(np.empty(0), np.empty(0), np.empty((1, 0)), bands((9.0, -5.0, 5.0))).is_enough


SMALL = st.integers(-3, 3).map(float)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5).map(float), st.integers(1, 3).map(float), SMALL, SMALL), min_size=1, max_size=4),
    st.integers(-8, 8).map(float),
    st.integers(-8, 8).map(float),
)
def test_no_whole_trade_is_cheaper_than_the_cheapest(
    pieces: list[tuple[float, float, float, float]], first: float, second: float
) -> None:
    cost, most, *rows = (np.array(column) for column in zip(*pieces, strict=True))
    effect, limits = np.array(rows), bands((first, -2.0, 2.0), (second, -3.0, 3.0))
    solved = cheapest(cost, most, effect, limits)
    left = limits.beyond(limits.exposure + effect @ solved.quantity).sum()
    assert solved.is_enough == (left < 1e-6)
    assert (solved.quantity >= -1e-9).all()
    assert (solved.quantity <= most + 1e-9).all()
    for whole in product(*(range(int(each) + 1) for each in most)):
        other = np.array(whole, dtype=np.float64)
        other_left = limits.beyond(limits.exposure + effect @ other).sum()
        assert other_left >= left - 1e-6
        if other_left <= left + 1e-9:
            assert cost @ other >= cost @ solved.quantity - 1e-6


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 8), st.integers(0, 9), SMALL, SMALL), min_size=1, max_size=4),
    st.floats(-20, 20),
    st.floats(-20, 20),
)
def test_lots_take_no_exposure_further_out_nor_through_its_band(
    orders: list[tuple[float, int, float, float]], first: float, second: float
) -> None:
    wanted, most, *rows = (np.array(column, dtype=np.float64) for column in zip(*orders, strict=True))
    effect, limits = np.array(rows), bands((first, -1.0, 1.0), (second, -0.5, 0.5))
    whole = np.minimum(np.floor(wanted), most)
    base = limits.exposure + effect @ whole
    crossed = ((limits.exposure > limits.high) & (base < limits.low)) | ((limits.exposure < limits.low) & (base > limits.high))
    assume(not crossed.any())
    lots = whole_lots(wanted, most, np.ones(len(orders)), effect, limits)
    after = limits.exposure + effect @ lots
    assert (lots == np.rint(lots)).all()
    assert (lots <= most).all()
    assert (limits.beyond(after) <= limits.beyond(base) + 1e-9).all()
    assert not ((limits.exposure > limits.high) & (after < limits.low - 1e-6)).any()
    assert not ((limits.exposure < limits.low) & (after > limits.high + 1e-6)).any()


def test_a_lot_more_is_taken_where_it_ends_within_the_band_and_not_where_it_ends_beyond() -> None:
    small, large = array([-4.0]), array([-40.0])
    assert whole_lots(np.array([1.5]), np.array([9.0]), np.ones(1), small, bands((11.0, -5.0, 5.0))).tolist() == [2.0]
    assert whole_lots(np.array([0.15]), np.array([9.0]), np.ones(1), large, bands((11.0, -5.0, 5.0))).tolist() == [0.0]

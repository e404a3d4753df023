import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import black76, forwards
from udfs.forwards import RANKS, TEXTS, Source


@pytest.mark.parametrize("in_coin", [False, True])
@given(st.floats(1.0, 1e5), st.floats(0.01, 2.0), st.floats(0.2, 1.5))
def test_parity_finds_the_forward_of_model_prices(in_coin: bool, F: float, T: float, v: float) -> None:
    K = F * np.linspace(0.7, 1.4, 9)
    call, put = (black76.price(F, K, T, v, is_call) / (F if in_coin else 1) for is_call in (True, False))
    half = 1e-4 * (1 if in_coin else F)
    call, put = np.maximum(call, 2 * half), np.maximum(put, 2 * half)
    answer = forwards.parity(np.zeros(9), 1, K, call - half, call + half, put - half, put + half, in_coin)
    assert answer.forward_usd == pytest.approx([F], rel=1e-3)
    assert answer.strikes == [9]
    assert answer.half_width_usd[0] > 0


@pytest.mark.parametrize("wrong", range(4))
def test_as_long_as_most_of_the_weight_is_right_so_is_the_forward(wrong: int) -> None:
    F, K = 50_000.0, np.linspace(40_000.0, 60_000.0, 9)
    call, put = (black76.price(F, K, 0.1, 0.6, is_call) for is_call in (True, False))
    call[:wrong] *= 10
    answer = forwards.parity(np.zeros(9), 1, K, call - 5, call + 5, put - 5, put + 5)
    assert answer.forward_usd == pytest.approx([F], abs=10)


def test_strikes_without_four_good_quotes_take_no_part() -> None:
    K = np.array([0.0, 90.0, 90.0, 90.0, 90.0, 100.0])
    call_bid = [10.0, np.nan, 10.0, 12.0, 0.0, 5.0]
    answer = forwards.parity([0, 0, 0, 0, 0, 2], 3, K, call_bid, 11.0 + 0 * K, [1, 1, 0, 1, 1, 5.0], [2, 2, 2, 2, 2, 6.0])
    assert answer.strikes.tolist() == [0, 0, 1]
    assert np.isnan(answer.forward_usd[:2]).all()
    assert answer.forward_usd[2] == pytest.approx(102.5)


def test_the_future_comes_before_parity_and_parity_before_the_index() -> None:
    answer = forwards.choose(
        [99.0, 99.0, np.nan, np.nan, np.nan], [101.0, 98.0, 101.0, np.nan, np.nan], [7.0, 7, 7, 0, -1], [5, 5, 5, 5, np.nan]
    )
    assert answer.source.tolist() == [Source.FUTURE, Source.PARITY, Source.PARITY, Source.INDEX, Source.NONE]
    assert answer.forward_usd[:4].tolist() == [100.0, 7.0, 7.0, 5.0]
    assert np.isnan(answer.forward_usd[4])


def test_the_venues_own_forward_comes_before_the_index_and_before_what_wide_quotes_tell() -> None:
    answer = forwards.choose(
        future_bid=[99.5, 50.0, 50.0, 50.0, np.nan, np.nan, np.nan, np.nan],
        future_ask=[100.5, 150.0, 150.0, 150.0, np.nan, np.nan, np.nan, np.nan],
        parity_usd=[101.0, 101.0, 101.0, 101.0, 101.0, 101.0, np.nan, np.nan],
        parity_half_width_usd=[0.1, 0.1, 9.0, 9.0, 9.0, 9.0, np.nan, np.nan],
        venue_usd=[102.0, 102.0, 102.0, np.nan, 102.0, np.nan, 102.0, 0.0],
        index_usd=90.0,
    )
    future, parity, venue, index = Source.FUTURE, Source.PARITY, Source.VENUE, Source.INDEX
    assert answer.source.tolist() == [future, parity, venue, future, venue, parity, venue, index]
    assert answer.forward_usd.tolist() == [100.0, 101.0, 102.0, 100.0, 102.0, 101.0, 102.0, 90.0]


def test_every_source_has_a_text_and_a_rank() -> None:
    assert set(TEXTS) == set(RANKS) == set(Source)


def test_no_expiry_and_no_strike_are_no_error() -> None:
    assert forwards.parity([], 0, [], [], [], [], []).forward_usd.size == 0
    assert np.isnan(forwards.parity([], 2, [], [], [], [], []).forward_usd).all()

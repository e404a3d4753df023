import pytest

from udfs.depth import depth_within, slippage_bps

ASKS = "[[100.5,10.0],[101.0,20.0],[110.0,1.0]]"
BIDS = "[[99.5,10.0],[99.0,30.0]]"


@pytest.mark.parametrize(("bps", "size"), [(49.0, 0.0), (50.0, 10.0), (99.0, 10.0), (100.0, 30.0), (2000.0, 31.0)])
def test_depth_is_the_sum_of_sizes_up_to_the_edge_of_the_band(bps: float, size: float) -> None:
    assert depth_within(ASKS, 100.0, bps) == size


def test_a_band_below_the_mid_is_as_wide_as_one_above() -> None:
    assert [depth_within(BIDS, 100.0, bps) for bps in (50.0, 100.0)] == [10.0, 40.0]


def test_a_level_on_the_edge_counts_however_its_distance_is_rounded() -> None:
    # 0.1 % of 1.1 is 0.0011, and 1.1 + 0.0011 - 1.1 is a little more.
    assert depth_within("[[1.1011,7.0]]", 1.1, 10.0) == 7.0


def test_slippage_is_the_average_price_against_the_mid() -> None:
    assert slippage_bps(ASKS, 100.0, 1005.0) == pytest.approx(50.0)
    # 10 at 100.5 and 10 at 101: 20 for 2015.
    assert slippage_bps(ASKS, 100.0, 2015.0) == pytest.approx(75.0)
    # 10 at 99.5 and 5 at 99: 15 for 1490.
    assert slippage_bps(BIDS, 100.0, 1490.0) == pytest.approx(1e4 * (100 - 1490 / 15) / 100)


def test_what_the_levels_do_not_bear_has_no_slippage() -> None:
    assert slippage_bps(BIDS, 100.0, 995.0 + 2970.0) is not None
    assert slippage_bps(BIDS, 100.0, 995.0 + 2971.0) is None
    assert slippage_bps("[]", 100.0, 1.0) is None


def test_without_levels_or_mid_there_is_no_answer() -> None:
    assert depth_within(None, 100.0, 5.0) is slippage_bps(None, 100.0, 5.0) is None
    assert depth_within(ASKS, None, 5.0) is slippage_bps(ASKS, None, 5.0) is None
    assert depth_within("[]", 100.0, 5.0) == 0.0

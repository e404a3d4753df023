"""What execution costs: identities of the formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import execution_quality as quality

PRICES = st.floats(1, 1e5)
FILLS = st.lists(st.tuples(st.floats(0.01, 1e4), PRICES), max_size=8)
SIDES = st.sampled_from(["buy", "sell"])


@given(SIDES, FILLS, st.floats(0, 1e5), PRICES, PRICES, PRICES, st.floats(-100, 100))
def test_the_splits_of_cfa_and_wagner_have_perolds_total(
    side: str, fills: list[quality.Fill], left: float, decision: float, arrival: float, last: float, fees: float
) -> None:
    filled, worth = quality.traded(fills)
    quantity = filled + left
    cfa = quality.shortfall(side, quantity, decision, fills, released=arrival, last=last, fees=fees)
    other = quality.wagner(side, quantity, decision, arrival, fills, last, fees)
    D = quality.sign(side)
    paper, real = D * quantity * (last - decision), D * (filled * last - worth) - fees
    scale = 1e-12 * (quantity + 1) * 1e6
    assert cfa.total == pytest.approx(paper - real, abs=scale)
    assert other.total == pytest.approx(paper - real, abs=scale)


@given(SIDES, PRICES, PRICES, PRICES)
def test_effective_is_realised_spread_and_twice_how_far_the_mid_moves_with_the_order(
    side: str, price: float, mid: float, later: float
) -> None:
    impact = 2 * quality.sign(side) * (later - mid) / mid
    realised = quality.realised_spread(side, price, mid, later)
    assert quality.effective_spread(side, price, mid) == pytest.approx(realised + impact, abs=1e-9 * (price + later) / mid)


def test_what_the_visible_book_does_not_have_is_taken_at_its_last_level() -> None:
    asks = [[100.0, 2.0], [101.0, 2.0]]
    assert quality.book_price(asks, 1) == 100
    assert quality.book_price(asks, 4) == 100.5
    assert quality.book_price(asks, 8) == (200 + 202 + 4 * 101) / 8
    assert quality.book_price([], 1) is None


def test_figures_of_nothing_are_none_and_a_missing_last_price_is_an_error() -> None:
    assert quality.participation(1.0, 0.0) is None
    with pytest.raises(ValueError, match="last: expected the price at the end"):
        quality.shortfall("buy", 2, 10, [(1, 10)])
    with pytest.raises(ValueError, match="expected buy or sell"):
        quality.sign("up")

"""Aggregates of oracles, prices with exponents, and validity."""

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from udfs import oracle_rules, oracle_validity, oracles, scaled_prices
from udfs.margin_parameters import Entry
from udfs.oracle_validity import ACTIONS, CLASSES, Limits
from udfs.oracles import Quote, SlotQuote
from udfs.scaled_prices import ScaledPrice

RULES = oracle_rules.rules()
LIMITS = Limits(10, 120, 0.02, 5)
prices = st.floats(0.5, 2.0)
confidences = st.floats(0.0, 0.01)
quotes = st.builds(Quote, prices, confidences, st.floats(0.1, 1.0), st.floats(0.05, 1.0))
liars = st.builds(Quote, st.floats(1e-6, 1e6), st.floats(0.0, 1e6), st.floats(0.1, 1.0), st.floats(0.05, 1.0))


@given(st.lists(quotes, min_size=1, max_size=7), st.lists(liars, max_size=6), st.randoms())
def test_with_less_than_half_of_the_weight_lying_the_price_is_within_the_honest_range(
    honest: list[Quote], lying: list[Quote], chance: Any
) -> None:
    """Weight is that before quality: whatever quality the liars have earned, and the honest have lost."""
    # Exactly: a sum of floats might call half of the weight less than that.
    assume(sum(Fraction(quote.weight) for quote in lying) * 1000 < 999 * sum(Fraction(quote.weight) for quote in honest))
    every = honest + lying
    chance.shuffle(every)
    answer = oracles.weighted_median(every, RULES.most_deviation, RULES.half_deviation)
    assert answer is not None
    low = min(quote.price - quote.confidence for quote in honest)
    high = max(quote.price + quote.confidence for quote in honest)
    assert low <= answer.price <= high


@given(st.lists(quotes, min_size=1, max_size=6), st.sampled_from(sorted(oracle_rules.SETS)))
def test_the_order_of_arrival_changes_no_digit(every: list[Quote], name: str) -> None:
    answers = set()
    for shuffled in itertools.islice(itertools.permutations(every), 24):
        answer = oracle_rules.aggregate(oracle_rules.rules(name), shuffled)
        assert answer is not None
        answers.add((answer.price, answer.confidence))
    assert len(answers) == 1


@given(st.lists(quotes, min_size=1, max_size=7))
def test_every_method_gives_a_price_between_the_ends_of_all_intervals_and_shares_that_add_up_to_one(every: list[Quote]) -> None:
    for name in oracle_rules.SETS:
        answer = oracle_rules.aggregate(oracle_rules.rules(name), every)
        assert answer is not None
        low, high = min(one.price - one.confidence for one in every), max(one.price + one.confidence for one in every)
        assert low - 1e-12 <= answer.price <= high + 1e-12
        assert answer.confidence >= 0
        assert math.isclose(sum(answer.weights), 1.0)


def test_one_source_gives_its_own_price_and_confidence_by_every_set() -> None:
    for name in oracle_rules.SETS:
        answer = oracle_rules.aggregate(oracle_rules.rules(name), [Quote(100.0, 0.5, 1.0)])
        assert answer is not None
        assert (answer.price, answer.confidence, answer.weights) == (100.0, 0.5, [1.0])
        assert oracle_rules.aggregate(oracle_rules.rules(name), []) is None


def test_a_source_far_from_the_rest_is_left_out_and_two_that_disagree_both_count_with_a_wide_confidence() -> None:
    rest = [Quote(100.0, 0.01, 1.0), Quote(100.02, 0.01, 1.0), Quote(9_999.0, 0.01, 1.0)]
    answer = oracles.weighted_median(rest, 0.02, 0.001)
    assert answer is not None
    assert answer.weights[2] == 0 and 100.0 <= answer.price <= 100.02
    both = oracles.weighted_median([Quote(90.0, 0.01, 1.0), Quote(110.0, 0.01, 1.0)], 0.02, 0.001)
    assert both is not None
    assert (both.price, both.weights) == (100.0, [0.5, 0.5]) and both.confidence >= 10.0


def test_quality_moves_the_price_only_between_the_medians_of_the_lower_and_the_upper_ends() -> None:
    close = [Quote(100.0, 0.1, 1.0, 0.05), Quote(100.2, 0.1, 1.0, 1.0), Quote(100.1, 0.1, 1.0, 0.05)]
    answer = oracles.weighted_median(close, 0.02, 0.001)
    assert answer is not None
    assert answer.price == pytest.approx(100.2)
    sharp = oracles.weighted_median([quote._replace(confidence=0.0) for quote in close], 0.02, 0.001)
    assert sharp is not None
    assert sharp.price == 100.1


@given(st.lists(st.tuples(st.integers(-(10**12), 10**12), st.integers(1, 10**9)), min_size=1, max_size=20))
def test_pyths_price_is_a_median_and_does_not_depend_on_the_order(every: list[tuple[int, int]]) -> None:
    slot = 1000
    forward = oracles.pyth_aggregate([SlotQuote(*quote, 1, slot) for quote in every], slot)
    backward = oracles.pyth_aggregate([SlotQuote(*quote, 1, slot) for quote in reversed(every)], slot)
    assert (forward.price, forward.confidence) == (backward.price, backward.confidence)
    assert forward.price is not None
    items = [price + side * confidence for price, confidence in every for side in (-1, 0, 1)]
    assert 2 * sum(item <= forward.price for item in items) >= len(items)
    assert 2 * sum(item >= forward.price for item in items) >= len(items)


@pytest.mark.parametrize(
    "quote",
    [
        SlotQuote(100, 0, 1, 1000),
        SlotQuote(100, 1, 0, 1000),
        SlotQuote(100, 1, 1, 1000 - 26),
        SlotQuote(100, 1, 1, 1001),
        SlotQuote(2**63 - 1, 1, 1, 1000),
    ],
)
def test_a_quote_without_confidence_not_trading_too_old_from_the_future_or_too_wide_is_none_of_pyths(quote: SlotQuote) -> None:
    assert oracles.pyth_aggregate([quote], 1000) == (None, None, [])
    assert oracles.pyth_aggregate([quote, SlotQuote(50, 1, 1, 1000 - 25)], 1000) == (50, 1, [1])


def test_chainlinks_median_is_the_upper_one_of_two_middle_ones() -> None:
    assert oracles.upper_median([4, 1, 3, 2]) == 3
    assert oracles.upper_median([3, 1, 2]) == 2
    assert oracles.upper_median([]) is None


@given(st.lists(prices, min_size=1, max_size=9), st.floats(0.0, 0.5))
def test_a_mean_of_capped_prices_is_within_the_cap_of_the_median(every: list[float], share: float) -> None:
    answer = oracles.capped_mean(every, share)
    assert answer is not None
    assert answer.median * (1 - share) - 1e-12 <= answer.mean <= answer.median * (1 + share) + 1e-12
    assert oracles.capped_mean(every, share, [0.0] * len(every)) is None


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**9), st.integers(-8, 8), st.integers(-8, 8))
def test_another_exponent_is_the_same_price_less_the_digits_that_it_cannot_hold(
    price: int, confidence: int, exponent: int, target: int
) -> None:
    answer = scaled_prices.at_exponent(ScaledPrice(price, confidence, exponent), target)
    if answer is not None:
        exact = Fraction(price) * Fraction(10) ** exponent
        assert abs(exact) - Fraction(10) ** target < abs(answer.price * Fraction(10) ** target) <= abs(exact)


def test_wild_exponents_cost_nothing() -> None:
    assert scaled_prices.at_exponent(ScaledPrice(1, 1, 0), 10**18) == (0, 0, 10**18)
    assert scaled_prices.at_exponent(ScaledPrice(1, 1, 0), -(10**18)) is None
    with pytest.raises(OverflowError, match="exponent"):
        scaled_prices.scaled(1, 10**9)
    assert scaled_prices.scaled(123, -2) == 1.23
    assert scaled_prices.scaled(123, 2) == 12_300.0


@given(*[st.integers(1, 10**4)] * 2, *[st.integers(0, 10)] * 2)
def test_the_quotient_of_a_product_is_the_factor(a: int, b: int, confidence_a: int, confidence_b: int) -> None:
    whole = scaled_prices.product(ScaledPrice(a, confidence_a, -2), ScaledPrice(b, confidence_b, -3))
    assert whole is not None
    assert whole.value == pytest.approx(a * b * 1e-5)
    part = scaled_prices.quotient(whole, ScaledPrice(b, 0, -3))
    assert part is not None
    assert part.value == pytest.approx(a * 1e-2, rel=1e-5)
    assert scaled_prices.quotient(whole, ScaledPrice(0, 1, 0)) is None


def test_of_several_classes_the_worst_is_told() -> None:
    def told(
        price: float = 100.0, average: float = 100.0, confidence: float = 1.0, age: float = 0.0, enough: bool = True
    ) -> str:
        return oracle_validity.validity(price, average, confidence, age, LIMITS, enough)

    assert told(0.0, 1.0, 99.0, 999.0, False) == told(-1.0) == told(math.nan) == "non_positive"
    assert told(100.0, 19.0, 99.0, 999.0, False) == told(100.0, 501.0) == "too_volatile"
    assert told(100.0, 100.0, 2.1, 999.0, False) == told(confidence=math.nan) == "too_uncertain"
    assert told(age=121, enough=False) == "stale_for_margin"
    assert told(age=11, enough=False) == "insufficient_data"
    assert told(age=11) == "stale"
    assert told(100.0, 500.0, 2.0, 10.0) == "valid"
    assert oracle_validity.validity(100.0, None, 1.0, 0.0, LIMITS) == "valid"


def test_a_price_from_the_future_is_as_stale_as_one_from_the_past() -> None:
    assert oracle_validity.validity(1.0, 1.0, 0.0, -11.0, LIMITS) == "stale"
    assert oracle_validity.validity(1.0, 1.0, 0.0, -1e9, LIMITS) == "stale_for_margin"


def test_only_a_price_of_zero_or_a_wild_one_holds_a_liquidation_as_in_drift() -> None:
    held = {name for name in CLASSES if oracle_validity.holds(RULES.holds, name, "liquidate")}
    assert held == {"non_positive", "too_volatile"}
    assert {action for action in ACTIONS if oracle_validity.holds(RULES.holds, "valid", action)} == set()
    with pytest.raises(ValueError, match="increase"):
        oracle_validity.holds(RULES.holds, "valid", "dance")


def test_every_set_is_whole_and_a_wrong_one_names_its_field() -> None:
    for name in oracle_rules.SETS:
        assert oracle_rules.rules(name).label == f"{name}/1"
    with pytest.raises(KeyError, match="default"):
        oracle_rules.rules("nobody's")
    broken = Entry.of_text(oracle_rules.SETS["default"].replace('"half_age_ms": 2000', '"half_age_ms": -1'), "mine.json")
    with pytest.raises(ValueError, match=r"mine\.json: quality\.half_age_ms expected a number above 0, got -1"):
        oracle_rules.from_entry("mine", broken)

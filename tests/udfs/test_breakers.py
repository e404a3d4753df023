"""Bands and breakers, by their published rules."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.truth.breakers import ANSWERS
from udfs import bands, breaker_rules
from udfs.breakers import DepthCollapse, Luld, MarketWide, Prices, Spread, Volatility, Window, depth_near_middle
from udfs.margin_parameters import Entry

TRUTH = Path(__file__).resolve().parents[3] / "shared" / "truth" / "breakers_and_bands.json"
RULE: dict[str, Any] = {
    "name": "a",
    "kind": "price_band",
    "stops": "instrument",
    "reference": "mark",
    "down": 0.05,
    "up": 0.05,
    "halt_s": 1,
}


def test_every_published_case_has_its_figures() -> None:
    if not TRUTH.exists():
        pytest.skip(f"no cases at {TRUTH}")
    cases = json.loads(TRUTH.read_text())["cases"]
    assert {case["kind"] for case in cases} == set(ANSWERS)
    for case in cases:
        got, expected = ANSWERS[case["kind"]](case["inputs"]), case["expected"]
        assert (got if not isinstance(expected, dict) else {name: got[name] for name in expected}) == expected, case["id"]


@pytest.mark.parametrize(("price", "side", "is_broken"), [(106, "buy", True), (106, "sell", False), (94, "sell", True)])
def test_a_band_stops_aggressive_prices_and_not_passive_ones(price: float, side: str, is_broken: bool) -> None:
    assert bands.around(100, 0.05).is_broken(price, side) == is_broken
    assert bands.around(100, 0.05).is_broken(price)


def test_an_order_without_a_price_gets_the_limit_of_the_band() -> None:
    band = bands.around(100, 0.05)
    assert bands.capped(band, "buy", None) == 105
    assert bands.capped(band, "sell", None) == 95


@pytest.mark.parametrize(("reference", "lower", "upper"), [(0.1, 0.03, 0.18), (0.05, 0.01, 0.09), (0.74, 0.59, 0.89)])
def test_below_75_cents_the_lesser_of_15_cents_and_75_percent_counts(reference: float, lower: float, upper: float) -> None:
    band = bands.luld_band(reference, breaker_rules.luld_steps("luld_2019"), 1)
    assert (band.lower, band.upper) == (lower, upper)


def test_a_doubled_band_of_a_penny_stock_ends_at_nothing() -> None:
    assert bands.luld_band(0.1, breaker_rules.luld_steps("luld_2019"), 2, "closing").lower == 0.0


def test_a_window_forgets_steps_that_have_left_it_and_late_prices_find_theirs() -> None:
    window = Window(60_000)
    for second in range(61):
        window.add(1000 * second, 100.0 + second)
    assert (window.low, window.high) == (100.0, 160.0)
    window.add(61_500, 161.0)
    window.add(30_200, 500.0)
    window.add(0, 1.0)  # it has left
    assert (window.low, window.high) == (101.0, 500.0)
    assert len(window.steps) == 61
    assert window.mean == pytest.approx((math.fsum(range(101, 162)) + 500.0) / 62)


def test_realised_volatility_is_that_of_the_closes() -> None:
    window = Window(60_000)
    for second in range(11):
        window.add(1000 * second, 100.0 * math.exp(0.001 * (second % 2)))
    assert window.volatility == pytest.approx(0.001 * math.sqrt(365 * 86_400))
    assert Volatility(5.0).check(Prices(window=window))
    assert Volatility(6.0).check(Prices(window=window)) is None
    assert Volatility(0.1).check(Prices(window=Window(60_000))) is None


def test_the_deepest_level_that_is_reached_breaks() -> None:
    condition = MarketWide(((0.07, 900.0), (0.13, 900.0), (0.2, None)))
    levels = [condition.check(Prices(price=price, fixings={"settlement": 100.0})) for price in (93.01, 93.0, 86.9, 80.0)]
    assert [level and (level.level, level.halt_s) for level in levels] == [None, (1, 900.0), (2, 900.0), (3, None)]
    assert condition.check(Prices(price=1.0)) is None


def test_a_quote_at_its_band_is_a_limit_state_and_one_inside_is_none() -> None:
    condition = Luld(breaker_rules.luld_steps("luld_2019"), 1, 1.0, 0.01, 30_000)
    fixings = {"reference": 100.0}
    assert condition.check(Prices(bid=94.0, ask=95.0, has_book=True, fixings=fixings))
    assert condition.check(Prices(bid=105.0, ask=106.0, has_book=True, fixings=fixings))
    assert condition.check(Prices(bid=94.0, ask=95.01, has_book=True, fixings=fixings)) is None
    assert condition.check(Prices(price=94.99, fixings=fixings))
    assert condition.check(Prices(price=95.0, fixings=fixings)) is None


def test_a_wide_spread_breaks_and_so_does_a_side_without_quotes_but_not_a_book_that_is_unknown() -> None:
    assert Spread(0.01).check(Prices(bid=99.0, ask=101.0, has_book=True))
    assert Spread(0.02).check(Prices(bid=99.0, ask=101.0, has_book=True)) is None
    assert Spread(0.02).check(Prices(bid=99.0, has_book=True))
    assert Spread(0.02).check(Prices(bid=99.0)) is None


def test_depth_is_that_of_the_thinner_side_near_the_middle() -> None:
    bids, asks = [[99.9, 2.0], [99.0, 5.0]], [[100.1, 1.0], [100.4, 4.0], [102.0, 9.0]]
    assert depth_near_middle(bids, asks, 0.005) == 2.0
    assert depth_near_middle(bids, asks, 0.01) == 5.0
    assert depth_near_middle([], asks, 0.01) == 0.0
    window = Window(60_000)
    for second in range(3):
        window.add(1000 * second, 10.0)
    assert DepthCollapse(0.01, 0.2).check(Prices(depth=1.9, window=window))
    assert DepthCollapse(0.01, 0.2).check(Prices(depth=2.0, window=window)) is None


@pytest.mark.parametrize("name", ["published", "suite"])
def test_every_set_can_be_read_and_its_rules_have_names_of_their_own(name: str) -> None:
    rules = breaker_rules.rule_set(name)
    assert len({rule.name for rule in rules}) == len(rules) > 5


def test_a_rule_waits_until_what_it_names_is_known() -> None:
    (rule,) = breaker_rules.rules(Entry({"rules": [RULE | {"underlyings": ["BTC"], "instruments": ["BTC*"]}]}, "set:"))
    assert rule.applies("trades", "v", "BTC-PERP", "BTC", "perpetual")
    assert not rule.applies("trades", "v", "BTC-PERP", None, None)
    assert not rule.applies("trades", "v", "ETH-PERP", "BTC", "perpetual")
    assert not rule.applies("index_prices", "v", None, "BTC", None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "none"}, "kind expected one of price_band"),
        ({"down": -0.1}, "down expected a number above 0"),
        ({"down": float("nan")}, "down expected a number above 0"),
        ({"stops": "all"}, "stops expected what trades tell of"),
        ({"stops": "instrument", "watches": "index_prices"}, "stops expected what index_prices tell of"),
        ({"name": "a/b"}, "a name without a slash"),
        ({"reference": "middle"}, "reference expected one of mark"),
        ({"window_s": 1e9}, "window_s expected a number of at least 0.06 and of at most 86400"),
        ({"fixings": {"settlement": 90_000}}, "settlement expected a number"),
    ],
)
def test_what_is_wrong_in_a_set_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        breaker_rules.rules(Entry({"rules": [RULE | changed]}, "set:"))
    with pytest.raises(ValueError, match="a name that no other rule has"):
        breaker_rules.rules(Entry({"rules": [RULE, RULE]}, "set:"))

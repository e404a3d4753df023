"""The one rule each for contract terms, indices, quotes and parts of tickers: what stands, whatever the order of arrival."""

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.market import indices, quotes, terms
from kernels.market.indices import LAG_MS, Indices, Price, Series
from kernels.market.terms import Listing, Terms
from kernels.market.tickers import NO_READING, Prices
from tests.kernels.market import DAY, EXPIRY, T0, future, instrument, ticker, top

TERMS = st.builds(
    Terms,
    st.integers(0, 2),
    st.sampled_from(["option", "future"]),
    st.sampled_from(["BTC", "ETH"]),
    st.just("USD"),
    st.just("USD"),
    st.booleans(),
    st.sampled_from([None, 1.0, 10.0]),
    st.sampled_from([None, EXPIRY]),
    st.sampled_from([None, "call", "put"]),
    st.sampled_from([None, 1.0]),
)


def test_terms_are_those_of_their_row() -> None:
    assert terms.from_row(instrument().row) == Terms(T0, "option", "BTC", "BTC", "BTC", True, 1.0, EXPIRY, "call", 60_000.0)
    assert terms.from_row(future(contract_size=None).row)[6:] == (None, EXPIRY, None, None)


@given(st.lists(TERMS, min_size=1), st.randoms(use_true_random=False))
def test_the_same_terms_stand_in_any_order_of_arrival_and_they_are_of_the_latest(
    rows: list[Terms], chance: random.Random
) -> None:
    standing = []
    for _ in range(2):
        chance.shuffle(rows)
        listing: Listing[Terms] = Listing()
        for row in rows:
            listing.learn("a", row)
        standing.append(listing.terms["a"])
    assert standing[0] == standing[1]
    assert standing[0].published_ms == max(row.published_ms for row in rows)


def test_contracts_are_forgotten_when_they_have_expired_but_for_those_that_are_held() -> None:
    listing: Listing[Terms] = Listing()
    for name, expiry_ms in (("soon", 10), ("held", 10), ("later", 20), ("never", None)):
        listing.put(name, terms.from_row(instrument().row)._replace(expiry_ms=expiry_ms))
    assert listing.free(9) == set()
    assert listing.free(10, held={"held"}) == {"soon"}
    assert listing.free(10) == {"held"}
    assert listing.free(1 << 50) == {"later"}
    assert listing.terms.keys() == {"never"}


PRICES = st.lists(st.builds(Price, st.integers(0, 3), st.sampled_from([1.0, 2.0, 3.0])), min_size=1)
SERIES = Series("deribit", "BTC", "USD")


@given(PRICES, st.randoms(use_true_random=False))
def test_of_a_series_the_latest_price_stands_and_of_two_at_one_instant_the_greater(
    prices: list[Price], chance: random.Random
) -> None:
    chance.shuffle(prices)
    learned = Indices()
    for price in prices:
        learned.learn(SERIES, price)
    assert learned.get(SERIES) == max(prices)


def priced(**by_venue: tuple[int, float]) -> list[tuple[Series, int, float]]:
    return [(Series(venue, "BTC", "USD"), *price) for venue, price in by_venue.items()]


def test_the_index_is_the_venues_own_even_where_others_are_newer() -> None:
    prices = priced(own=(T0, 1.0), other=(T0 + 5, 2.0))
    assert indices.value(prices, "USD", "own") == 1.0
    assert indices.value([*prices, (Series("own", "BTC", "USD"), T0 + 1, 1.5)], "USD", "own") == 1.5


@pytest.mark.parametrize(
    ("values", "middle"), [([5.0], 5.0), ([5.0, 1.0], 1.0), ([9.0, 1.0, 5.0], 5.0), ([4.0, 3.0, 1.0, 2.0], 2.0)]
)
def test_without_one_of_its_own_it_is_the_middle_one_of_the_others(values: list[float], middle: float) -> None:
    prices = [(Series(str(n), "BTC", "USD"), T0, price) for n, price in enumerate(values)]
    for order in (prices, prices[::-1]):
        assert indices.value(order, "USD", "own") == indices.value(order, "USD") == middle
    assert indices.value([(series, ms, Decimal(price)) for series, ms, price in prices], "USD") == Decimal(middle)


def test_others_that_lag_by_more_than_a_minute_do_not_count() -> None:
    assert indices.value(priced(a=(T0 - LAG_MS, 1.0), b=(T0, 2.0)), "USD") == 1.0
    assert indices.value(priced(a=(T0 - LAG_MS - 1, 1.0), b=(T0, 2.0)), "USD") == 2.0


def test_there_is_no_index_without_prices_and_the_currency_comes_before_the_venue() -> None:
    learned = Indices()
    assert learned.value("BTC", "USD") is None
    learned.put(Series("own", "BTC", "USD"), Price(T0, 1.0))
    learned.put(Series("other", "BTC", "USDC"), Price(T0, 2.0))
    assert learned.value("BTC", "USDC", "own") == 2.0
    assert learned.value("BTC", "USD", "own") == learned.value("BTC", "USDT", "own") == 1.0


def test_series_that_have_been_quiet_are_forgotten() -> None:
    learned = Indices()
    learned.put(Series("a", "BTC", "USD"), Price(T0, 1.0))
    learned.put(Series("b", "BTC", "USD"), Price(T0 + 1, 1.0))
    assert learned.forget(T0) == [Series("a", "BTC", "USD")]
    assert list(learned) == [Series("b", "BTC", "USD")]
    assert learned.forget(T0 + DAY) == [Series("b", "BTC", "USD")] and learned.prices == {}


@given(st.randoms(use_true_random=False))
def test_the_last_quote_is_the_newest_and_at_one_instant_the_books(chance: random.Random) -> None:
    messages = [
        top("A", 1.0, 2.0, T0),
        top("A", 3.0, None, T0 + 5, offset=1, is_stale=True),
        top("A", 3.0, 4.0, T0 + 5, offset=2),
        ticker("A", T0 + 5, 9, bid_price=5.0, ask_price=6.0),
        ticker("A", T0 + 7, 10, mark_price=5.0),
        instrument("A", T0 + 9),
    ]
    chance.shuffle(messages)
    ordered = quotes.in_order(messages)
    assert len(ordered) == 4
    assert ordered[-1] == (T0 + 5, "deribit:A", 3.0, 4.0, False)


COLUMNS = ("mark_price", "last_price", "forward_usd", "mark_iv")
ROWS = st.lists(st.dictionaries(st.sampled_from(COLUMNS), st.sampled_from([None, 1.0, 2.0])))


@given(ROWS)
def test_each_part_is_that_of_the_newest_message_that_has_it(rows: list[dict[str, Any]]) -> None:
    prices = Prices()
    for event_ms, row in enumerate(rows):
        prices = prices.after(event_ms, row)
    for column, reading in zip(COLUMNS, (prices.mark, prices.last, prices.forward_usd, prices.mark_iv), strict=True):
        readings = [(event_ms, row[column]) for event_ms, row in enumerate(rows) if row.get(column) is not None]
        assert reading == (readings[-1] if readings else NO_READING)


def test_a_later_part_of_an_earlier_time_changes_nothing_and_one_missing_side_leaves_no_middle() -> None:
    quote = {"has_quote": True, "bid_price": 1.0, "ask_price": 3.0}
    prices = Prices().after(T0, quote | {"mark_price": 2.0})
    assert prices.middle == (T0, 2.0)
    assert prices.after(T0 - 1, {"has_quote": True, "mark_price": 9.0}) == prices
    assert prices.after(T0 + 1, {"has_quote": False, "mark_price": None}) == prices
    assert prices.after(T0 + 1, {"has_quote": True, "bid_price": 1.0, "ask_price": None}).middle == (T0 + 1, None)

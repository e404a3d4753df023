"""The chain of an expiry: volatilities of the best prices, units, and what is not known."""

import numpy as np
import pytest

from page import chains
from page.store import Store
from schemas.rows import instant_ms, to_ms
from tests.page.given import T0, VENUE, depth
from udfs import black76

EXPIRY = instant_ms(T0 + 7 * 86_400_000)
F = 60_000.0
YEARS = (to_ms(EXPIRY) - T0) / black76.MS_PER_YEAR


def option(strike: float, kind: str) -> dict[str, object]:
    name = f"BTC-{strike:g}-{kind[0].upper()}"
    numbers = dict.fromkeys((*chains.SHOWN,))
    row = {"venue": VENUE, "instrument": name, "event_at": instant_ms(T0), "underlying": "BTC", "option_type": kind}
    return numbers | row | {"strike_usd": strike, "expiry_at": EXPIRY, "surface_iv": 0.6}


def chain(quote_currency: str, vol: float = 0.55) -> Store:
    store, unit = Store(), F if quote_currency == "BTC" else 1.0
    forward = {"venue": VENUE, "underlying": "BTC", "expiry_at": EXPIRY, "event_at": instant_ms(T0), "forward_usd": F}
    store.put("forwards", [forward])
    for strike in (55_000.0, 60_000.0, 66_000.0):
        for kind in ("put", "call"):
            row = option(strike, kind)
            value = float(black76.price(F, strike, YEARS, vol, kind == "call")) / unit
            book = depth(0, 1.0, str(row["instrument"])) | {"bids": [[value, 1.0]], "asks": []}
            terms = {
                "venue": VENUE,
                "instrument": row["instrument"],
                "event_at": instant_ms(T0),
                "quote_currency": quote_currency,
            }
            store.put("chain_greeks", [row])
            store.put("book_depth", [book])
            store.put("instruments", [terms])
    return store


@pytest.mark.parametrize("quote_currency", ["BTC", "USDC"])
def test_the_volatility_of_a_price_is_the_one_that_it_was_made_of_in_coin_and_in_dollars(quote_currency: str) -> None:
    rows = chains.options(chain(quote_currency), VENUE, "BTC", EXPIRY)
    assert len(rows) == 6
    np.testing.assert_allclose([row["bid_iv"] for row in rows], 0.55, rtol=1e-9)
    assert all(row["ask"] is None and row["ask_iv"] is None for row in rows)


def test_options_are_in_order_of_strike_and_calls_come_first() -> None:
    rows = chains.options(chain("BTC"), VENUE, "BTC", EXPIRY)
    assert [(row["strike_usd"], row["option_type"]) for row in rows] == [
        (strike, kind) for strike in (55_000.0, 60_000.0, 66_000.0) for kind in ("call", "put")
    ]


def test_the_forward_of_the_fit_counts_before_the_newest_one() -> None:
    store = chain("USDC")
    slice_ = {"venue": VENUE, "underlying": "BTC", "expiry_at": EXPIRY, "event_at": instant_ms(T0)}
    store.put("vol_surfaces", [slice_ | {"forward_usd": None}])
    np.testing.assert_allclose([row["bid_iv"] for row in chains.options(store, VENUE, "BTC", EXPIRY)], 0.55, rtol=1e-9)
    store.put("vol_surfaces", [slice_ | {"forward_usd": F * 1.01}])
    call = chains.options(store, VENUE, "BTC", EXPIRY)[2]
    assert call["bid_iv"] < 0.55  # the same price of a call, on a higher forward


def test_without_a_forward_there_is_no_volatility_and_without_options_nothing() -> None:
    store = chain("USDC")
    store.forget("forwards")
    assert {row["bid_iv"] for row in chains.options(store, VENUE, "BTC", EXPIRY)} == {None}
    assert chains.options(store, VENUE, "ETH", EXPIRY) == []

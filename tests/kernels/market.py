"""Rows of a market on one venue, for the tests of the kernels that price it."""

from typing import Any

from engine.contract import Message
from schemas.rows import instant_ms, instant_us

T0 = 1_700_000_000_000
DAY = 86_400_000
EXPIRY = T0 + 7 * DAY


def at(ms: int) -> dict[str, str]:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000 + 7)}


def instrument(name: str = "BTC-60000-C", ms: int = T0, offset: int = 0, **changed: Any) -> Message:
    """The terms of an option; of a put where its name ends so."""
    row = {
        "venue": "deribit",
        "instrument": name,
        **at(ms),
        "kind": "option",
        "underlying": "BTC",
        "quote_currency": "BTC",
        "settlement_currency": "BTC",
        "is_inverse": True,
        "option_type": "put" if name.endswith("-P") else "call",
        "strike_usd": 60_000.0,
        "expiry_at": instant_ms(EXPIRY),
        "contract_size": 1.0,
        "amount_per_contract": 1.0,
    }
    return Message("instruments", 0, offset, row | changed)


def future(name: str = "BTC-F", ms: int = T0, **changed: Any) -> Message:
    terms = {"kind": "future", "option_type": None, "strike_usd": None, "quote_currency": "USD"}
    return instrument(name, ms, **terms | changed)


def top(name: str, bid: float | None, ask: float | None, ms: int = T0, offset: int = 0, is_stale: bool = False) -> Message:
    sizes = {"bid_price": bid, "bid_size": 1.0, "ask_price": ask, "ask_size": 1.0}
    row = {"venue": "deribit", "instrument": name, **at(ms), "sequence": 1, **sizes, "is_stale": is_stale}
    return Message("book_tops", 1, offset, row)


def ticker(name: str = "BTC-60000-C", ms: int = T0, offset: int = 0, **values: Any) -> Message:
    return Message("tickers", 2, offset, {"venue": "deribit", "instrument": name, **at(ms)} | values)


def index(usd: float, ms: int = T0, offset: int = 0, venue: str = "oracle", quote: str | None = None) -> Message:
    row = {"venue": venue, "underlying": "BTC", **at(ms), "price_usd": usd}
    return Message("index_prices", 3, offset, row | ({"quote_currency": quote} if quote else {}))


def forward(usd: float | None = 61_000.0, ms: int = T0, expiry_ms: int = EXPIRY, **changed: Any) -> Message:
    row = {"venue": "deribit", "underlying": "BTC", "expiry_at": instant_ms(expiry_ms), "event_at": instant_ms(ms)}
    return Message("forwards", 4, 0, row | {"forward_usd": usd, "source": "future", "strikes": 0} | changed)

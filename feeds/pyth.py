"""Pyth: prices of its oracle network, as Hermes serves them: `/v2/updates/price/latest`, and the same as events of its stream.

A price and its confidence are whole numbers, as text, times a power of ten of either sign.  The publish time is in seconds.  A
feed is named by its id; the pair in a row's `instrument` is looked up in `FEEDS`.  What is read into which table, and what is
not, stands in docs/venues/pyth.md.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson

from feeds import Received, Record, Rejected
from feeds.checks import NUMBERED, Check, Form, each, expect, nullable, numbered, optional
from feeds.oracles import publish_time, update
from feeds.session import Ask, Limits, Session
from schemas.rows import shown

VENUE = "pyth"
MARKETS = (VENUE,)

FEEDS = {
    "e62df6c8b4a85fe1a67db44dc12de5db330f7ac66b72dc658afedf0f4a415b43": ("BTC", "USD"),
    "ff61491a931112ddf1bd8147cd1b641375f79f5825126d665480874634fd0ace": ("ETH", "USD"),
    "ef0d8b6fda2ceba41da15d4095d1da392a0d2f8ed0c6c7bc0f4cfac8c280b56d": ("SOL", "USD"),
    "eaa020c61cc479712813461ce153894a96a6c00b21ed0cfc2798d1f9a9e9c94a": ("USDC", "USD"),
    "2b89b9dc8fdf9f34709a5b106b472f0f39bb6ca9ce04b0fd7f2e971688e2e53b": ("USDT", "USD"),
}
"""The feeds that are read, by their ids (https://docs.pyth.network/price-feeds/core/price-feeds): underlying and currency."""
IDS = {f"{underlying}/{quote}": feed for feed, (underlying, quote) in FEEDS.items()}
_MAX_EXPONENT = 18
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one answer or event of Hermes; none for a comment, which keeps its stream alive.  Raises `Rejected`."""
    text = message.strip()
    if text.startswith(b":") or text == b"":
        return []
    try:
        envelope = orjson.loads(text.removeprefix(b"data:"))
    except orjson.JSONDecodeError:
        raise Rejected(None, "a JSON message, or the data of an event", shown(message)) from None
    parsed = envelope.get("parsed") if type(envelope) is dict else envelope
    if type(parsed) is not list:
        raise Rejected("parsed", "a list of prices", "missing" if parsed is None else shown(parsed))
    return each(map(_flat, parsed), lambda item: _PRICE.record(item, received))


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """None: a price of an oracle is no contract."""
    return None


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is asked of Hermes; `rest_url` replaces its public address.  Raises `KeyError` for another market.

    30 requests in ten seconds are allowed from one address; one answers for all feeds.
    """
    if market != VENUE:
        raise KeyError(market)
    address = f"{rest_url or url or 'https://hermes.pyth.network'}/v2/updates/price/latest"
    return Session(
        venue=VENUE,
        market=VENUE,
        url=address,
        subscribe=lambda symbols: (),
        unsubscribe=lambda symbols: (),
        symbols=tuple(IDS),
        poll=lambda symbols: Ask(f"{address}?{'&'.join(f'ids[]={IDS[symbol]}' for symbol in symbols)}"),
        limits=Limits(symbols_per_connection=len(IDS), asks_per_s=2.0),
    )


def _flat(item: Any) -> Any:
    """The fields of a price beside its id and slot."""
    if type(item) is not dict or type(item.get("price")) is not dict:
        return item
    metadata = item.get("metadata")
    slot = {"slot": metadata["slot"]} if type(metadata) is dict and "slot" in metadata else {}
    return {"id": item.get("id"), **item["price"], **slot}


def _price(data: Any, received: Received) -> Record:
    exponent, slot = _exponent(data["expo"]), data.get("slot")
    return update(
        VENUE,
        _feed(data["id"]),
        data["publish_time"],
        received,
        price=("price", _whole(data["price"]).scaleb(exponent)),
        confidence=("conf", _whole(data["conf"]).scaleb(exponent)),
        sequence=None if slot is None else numbered(slot),
    )


def _feed(value: str) -> tuple[str, str]:
    return FEEDS[value.lower().removeprefix("0x")]


def _exponent(value: int) -> int:
    if value.__class__ is not int or not -_MAX_EXPONENT <= value <= _MAX_EXPONENT:
        raise ValueError
    return value


def _whole(value: str) -> Decimal:
    if _WHOLE.fullmatch(value) is None:
        raise ValueError
    return Decimal(value)


_IS_WHOLE: Check = expect("a whole number, as text", lambda value: [_whole(value)])
_PRICE = Form(
    _price,
    {
        "id": expect(f"the id of a feed that is read: {', '.join(IDS)}", _feed),
        "expo": expect(f"a whole number from -{_MAX_EXPONENT} to {_MAX_EXPONENT}", lambda value: [_exponent(value)]),
        "price": _IS_WHOLE,
        "conf": _IS_WHOLE,
        "publish_time": publish_time,
        "slot": optional(nullable(NUMBERED)),
    },
)

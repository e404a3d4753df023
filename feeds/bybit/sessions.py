"""What is said to the public streams of Bybit, v5, and what its listings are asked with."""

from collections.abc import Sequence
from typing import Any

from feeds.bybit.names import CATEGORIES, OPTIONS, SPOT
from feeds.bybit.rows import WHOLE
from feeds.session import Ask, Limits, Request, Session, batches, object_in

STREAM_URL = "wss://stream.bybit.com"
REST_URL = "https://api.bybit.com"

_ARGS_PER_REQUEST = {SPOT: 10}
_OTHER_ARGS_PER_REQUEST = 100
_SYMBOLS_PER_CONNECTION = 200  # all args of one connection have 21,000 characters at most: three of the longest names are 105
_LISTINGS = {
    "spot": ("category=spot",),
    # Of linear and inverse contracts only those that trade are listed unless others are asked for.
    "linear": tuple(f"category=linear&limit=1000{state}" for state in ("", "&status=PreLaunch", "&status=Delivering")),
    "inverse": tuple(f"category=inverse&limit=1000{state}" for state in ("", "&status=Delivering")),
    "option": ("category=option&limit=1000&baseCoin=All",),
}


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is said to a market of `MARKETS`; `url` and `rest_url` replace the hosts.  Raises `KeyError` for another market.

    A symbol has its deepest book, its ticker and its trades.  The trades of options come by base coin: they are not taken back
    with one option, for the others' sake.
    """
    category = {market_name: name for name, market_name in CATEGORIES.items()}[market]
    book = f"orderbook.{WHOLE[market]}."

    def requests(op: str, topics: Sequence[str]) -> list[Request]:
        size = _ARGS_PER_REQUEST.get(market, _OTHER_ARGS_PER_REQUEST)
        return [{"op": op, "args": batch} for batch in batches(topics, size)]

    def topics(symbols: Sequence[str]) -> list[str]:
        each = [f"{kind}{symbol}" for kind in (book, "tickers.") for symbol in symbols]
        return each if market == OPTIONS else each + [f"publicTrade.{symbol}" for symbol in symbols]

    def subscribe(symbols: Sequence[str]) -> list[Request]:
        coins = sorted({symbol.partition("-")[0] for symbol in symbols}) if market == OPTIONS else []
        return requests("subscribe", topics(symbols) + [f"publicTrade.{coin}" for coin in coins])

    return Session(
        "bybit",
        market,
        f"{(url or STREAM_URL).rstrip('/')}/v5/public/{category}",
        subscribe=subscribe,
        unsubscribe=lambda symbols: requests("unsubscribe", topics(symbols)),
        listings=[
            Ask(f"{(rest_url or REST_URL).rstrip('/')}/v5/market/instruments-info?{query}") for query in _LISTINGS[category]
        ],
        resubscribe=lambda symbol: [{"op": op, "args": [book + symbol]} for op in ("unsubscribe", "subscribe")],
        refusal=refusal,
        ping='{"op":"ping"}',
        ping_s=20.0,
        limits=Limits(symbols_per_connection=_SYMBOLS_PER_CONNECTION),
    )


def refusal(message: bytes) -> str | None:
    """Why Bybit refuses a request, in its own words; None for any other message."""
    if b'"success"' not in message:
        return None
    envelope = object_in(message)
    return None if "topic" in envelope else refused(envelope)


def refused(envelope: dict[str, Any]) -> str | None:
    """The same of a message that is decoded: an answer of an option's stream names each topic that it refuses."""
    data = envelope.get("data")
    failed = data.get("failTopics") if type(data) is dict else None
    if envelope.get("success") is not False and not failed:
        return None
    said = envelope.get("ret_msg")
    words = [said] if type(said) is str and said else []
    return ": ".join([*words, *([f"failTopics {failed}"] if failed else [])]) or "no reason given"

"""Hyperliquid: the public channels of its chain's own order books, and the answers of `info` that say the same.

Prices and sizes come as text, times in ms are those of the block.  Every message of a book is the whole top of it, up to 20
levels a side: none builds on the one before, and a lost one is made good by the next.  Mark, oracle and funding come without
a time; funding is paid every hour.  What no table holds, such as candles and mid prices, is rejected, so that it is kept as a
dead letter.  What is read into which table, and what is not, stands in docs/venues/hyperliquid.md.
"""

import re
from collections.abc import Sequence
from types import NoneType
from typing import Any

import orjson

from feeds import Received, Record, Rejected
from feeds.checks import (
    EVENT_TIME,
    MAX_SIZE,
    NUMBERED,
    PRICE,
    SIZE,
    TRUTH,
    Form,
    Levels,
    amount,
    decoded,
    each,
    every,
    exact_side,
    expect,
    instants,
    listed,
    nullable,
    numbered,
    one_of,
    optional,
    price,
    quiet_ticker,
    text,
    uncrossed,
)
from feeds.session import Ask, Limits, Request, Session, object_in
from schemas.records import IndexPricesRow, OrderBooksRow, TradesRow, TradingHaltsRow
from schemas.rows import instant_ms, shown

VENUE = "hyperliquid"
PERPETUALS, SPOT = "hyperliquid", "hyperliquid_spot"
MARKETS = (PERPETUALS, SPOT)

_NOT_DATA = ("subscriptionResponse", "pong")
_GREETING = b"Websocket connection established."
_DEPTH = 20
"""The most levels a side that a book shows."""
_HOUR_MS = 3_600_000
_MARGIN = "USDC"
"""What a perpetual is priced, margined and settled in: the oracle's dollars count as so many USDC, without conversion."""
_SIDES = {"B": "buy", "A": "sell"}
_PERPETUAL_NAME = re.compile(r"[A-Za-z0-9]+")
_SPOT_NAME = re.compile(r"@[0-9]+|(?P<base>[A-Za-z0-9]+)/(?P<quote>[A-Za-z0-9]+)")
_WS_CHANNELS = ("l2Book", "bbo", "trades", "activeAssetCtx")


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw Hyperliquid message; none for an acknowledgement, a greeting or a pong.

    An answer of `info` does not say what was asked: its fields do.  Raises `Rejected`.
    """
    if message == _GREETING:
        return []
    if message[:1] == b"[":
        return _list(message, received)
    envelope = decoded(message)
    channel = envelope.get("channel")
    if channel is None:
        return _answer(envelope, received)
    if channel in _NOT_DATA:
        return []
    if channel == "error":
        raise Rejected("channel", "a channel with data", shown(envelope))
    data = envelope.get("data")
    if channel == "trades":
        return _trades("data", data, received)
    if type(channel) is not str or channel not in _CHANNELS:
        raise Rejected("channel", f"a channel that is read: trades, {', '.join(_CHANNELS)}", shown(channel))
    if "AssetCtx" in channel:
        data = _context(data.get("coin"), data.get("ctx")) if type(data) is dict else data
    return [form.record(data, received) for form in _CHANNELS[channel]]


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """The contract terms in a name: the coin of a perpetual, or `PURR/USDC`; what `@107` is, its listing alone tells."""
    name = _SPOT_NAME.fullmatch(symbol)
    if venue == SPOT and name is not None and name["base"]:
        return _pair(symbol, name["base"], name["quote"], received)
    return _perpetual(symbol, received) if venue == PERPETUALS and _PERPETUAL_NAME.fullmatch(symbol) else None


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is said to a market of `MARKETS`; `url` and `rest_url` replace the venue's own addresses.  Raises `KeyError`.

    A symbol takes four subscriptions, of the 1000 that an address may have.  It may send 2000 messages a minute, and ask for
    a weight of 1200, of which a listing is 20.
    """
    question = {PERPETUALS: "metaAndAssetCtxs", SPOT: "spotMeta"}[market]
    info = f"{rest_url or 'https://api.hyperliquid.xyz'}/info"

    def ask(**fields: str) -> Ask:
        return Ask(info, orjson.dumps(fields))

    return Session(
        venue=VENUE,
        market=market,
        url=url or "wss://api.hyperliquid.xyz/ws",
        subscribe=lambda symbols: _requests("subscribe", symbols, _WS_CHANNELS),
        unsubscribe=lambda symbols: _requests("unsubscribe", symbols, _WS_CHANNELS),
        listings=(ask(type=question),),
        resubscribe=lambda symbol: [
            *_requests("unsubscribe", [symbol], ["l2Book"]),
            *_requests("subscribe", [symbol], ["l2Book"]),
        ],
        refusal=_refusal,
        ping='{"method":"ping"}',
        limits=Limits(requests_per_s=10.0, symbols_per_connection=100, asks_per_s=1.0),
    )


def _requests(method: str, symbols: Sequence[str], channels: Sequence[str]) -> list[Request]:
    return [{"method": method, "subscription": {"type": channel, "coin": symbol}} for symbol in symbols for channel in channels]


def _refusal(message: bytes) -> str | None:
    if b'"error"' not in message:
        return None
    envelope = object_in(message)
    return str(envelope.get("data")) if envelope.get("channel") == "error" else None


def _list(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """An answer that is a list: recent trades, or the terms of perpetuals with what they are worth."""
    try:
        items = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise Rejected(None, "a JSON message", shown(message)) from None
    if len(items) == 2 and type(items[0]) is dict and "universe" in items[0]:
        meta, contexts = items
        if type(contexts) is not list:
            raise Rejected("answer", "a listing and a list of contexts", shown(contexts))
        return _pairs(meta, contexts, received) if "tokens" in meta else _contracts(meta, contexts, received)
    return _trades("answer", items, received)


def _trades(name: str, value: Any, received: Received) -> list[Record | Rejected]:
    if type(value) is not list:
        raise Rejected(name, "a list of trades", shown(value))
    return each(value, lambda trade: _TRADE.record(trade, received))


def _answer(envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    if "levels" in envelope:
        return [_BOOK.record(envelope, received)]
    if "universe" in envelope and "tokens" in envelope:
        return _pairs(envelope, [], received)
    if "universe" in envelope:
        return _contracts(envelope, [], received)
    raise Rejected("channel", "a channel, or an answer that is read: a book, trades or a listing", "missing")


def _market(coin: Any) -> str:
    """The market that a coin is of, by the whole grammar of its name, else raises one of `ODD`.

    A colon parts the name of another venue's exchange, which is built on the chain, from its coin: what such a contract
    settles in, its name does not tell.
    """
    if _PERPETUAL_NAME.fullmatch(coin):
        return PERPETUALS
    if _SPOT_NAME.fullmatch(coin):
        return SPOT
    raise ValueError


def _now_ms(received: Received) -> int:
    """The time of a message that has none."""
    return received.received_us // 1000 if received.newest_event_ms is None else received.newest_event_ms


def _whole_top(data: Any, received: Received) -> Record:
    bids, asks = map(_side, _both(data["levels"]))
    uncrossed(bids, asks)
    event_ms = data["time"]
    event_at, received_at = instants(event_ms, received.received_us)
    row: OrderBooksRow = {
        "venue": _market(data["coin"]),
        "instrument": data["coin"],
        "event_at": event_at,
        "received_at": received_at,
        "kind": "snapshot",
        "sequence": event_ms,
        "prev_sequence": None,
        "bids": bids,
        "asks": asks,
        "checksum": None,
        "depth": max(_DEPTH, len(bids), len(asks)),
        "block_height": None,
    }
    return Record("order_books", event_ms, row)


def _both(sides: Any) -> tuple[Any, Any]:
    if sides.__class__ is not list:
        raise TypeError
    bids, asks = sides
    return bids, asks


def _side(side: Any) -> Levels:
    if side.__class__ is not list:
        raise TypeError
    return exact_side([[level["px"], level["sz"]] for level in side])


def _best(data: Any, received: Received) -> Record:
    row = quiet_ticker(_market(data["coin"]), data["coin"], data["time"], received)
    row["has_quote"] = True
    bid, ask = (None if level is None else _side([level])[0] for level in _both(data["bbo"]))
    if bid is not None:
        row["bid_price"], row["bid_size"] = map(float, bid)
    if ask is not None:
        row["ask_price"], row["ask_size"] = map(float, ask)
    return Record("tickers", data["time"], row)


def _trade(data: Any, received: Received) -> Record:
    """A trade's `tid` alone is not unique, its block's time, coin and `tid` are."""
    event_ms, size = data["time"], amount(data["sz"])
    event_at, received_at = instants(event_ms, received.received_us)
    if not size:
        raise ValueError
    row: TradesRow = {
        "venue": _market(data["coin"]),
        "instrument": data["coin"],
        "event_at": event_at,
        "received_at": received_at,
        "trade_id": f"{event_ms}-{numbered(data['tid'])}",
        "side": _SIDES[data["side"]],
        "price": price(data["px"]),
        "size": size,
        "off_market": None,
        "block_height": None,
    }
    return Record("trades", event_ms, row)


def _worth(data: Any, received: Received) -> Record:
    """What is said of a perpetual beside its book."""
    event_ms = _now_ms(received)
    if _market(data["coin"]) != PERPETUALS:
        raise ValueError
    row = quiet_ticker(PERPETUALS, data["coin"], event_ms, received)
    row["mark_price"] = amount(data["markPx"])
    row["index_price_usd"] = price(data["oraclePx"])
    row["open_interest"] = amount(data["openInterest"])
    row["funding_rate"] = _rate(data["funding"])
    row["next_funding_at"] = instant_ms((event_ms // _HOUR_MS + 1) * _HOUR_MS)
    return Record("tickers", event_ms, row)


def _oracle(data: Any, received: Received) -> Record:
    event_ms = _now_ms(received)
    event_at, received_at = instants(event_ms, received.received_us)
    row: IndexPricesRow = {
        "venue": PERPETUALS,
        "underlying": text(data["coin"]),
        "event_at": event_at,
        "received_at": received_at,
        "price_usd": price(data["oraclePx"]),
        "confidence_usd": None,
        "quote_currency": _MARGIN,
    }
    return Record("index_prices", event_ms, row)


def _spot_worth(data: Any, received: Received) -> Record:
    event_ms = _now_ms(received)
    if _market(data["coin"]) != SPOT:
        raise ValueError
    row = quiet_ticker(SPOT, data["coin"], event_ms, received)
    row["mark_price"] = amount(data["markPx"])
    return Record("tickers", event_ms, row)


def _rate(value: str) -> float:
    """A funding rate, which may be below 0, from a text of digits, else raises one of `ODD`."""
    rate = -amount(value[1:]) if value[0] == "-" else amount(value)
    if not -1.0 <= rate <= 1.0:
        raise ValueError
    return rate


def _context(coin: Any, context: Any) -> dict[str, Any]:
    """What a coin is worth, with its name beside it."""
    return {**(context if type(context) is dict else {}), "coin": coin}


def _contracts(meta: dict[str, Any], contexts: list[Any], received: Received) -> list[Record | Rejected]:
    """The terms of the perpetuals in a listing, whether each is traded, and what it is worth, where `contexts` tell.

    Raises `Rejected` for a listing of another collateral: which currency it is, another listing says.
    """
    if meta.get("collateralToken", 0) != 0:
        raise Rejected("collateralToken", "0, which is USDC, or none", shown(meta["collateralToken"]))
    contracts = _listed_in(meta, "universe")
    if contexts and len(contexts) != len(contracts):
        raise Rejected("universe", f"{len(contexts)} contracts, as many as contexts", str(len(contracts)))
    names = [contract.get("name") if type(contract) is dict else None for contract in contracts]
    forms = iter([_CONTRACT] * len(contracts) + [_CONTEXT] * len(contexts))
    return every(
        [*contracts, *map(_context, names, contexts)], lambda item: [form.record(item, received) for form in next(forms)]
    )


def _terms(item: Any, received: Received) -> Record:
    if not _PERPETUAL_NAME.fullmatch(item["name"]):
        raise ValueError
    return _perpetual(item["name"], received)


def _status(item: Any, received: Received) -> Record:
    event_ms, is_delisted = _now_ms(received), item.get("isDelisted")
    event_at, received_at = instants(event_ms, received.received_us)
    if is_delisted.__class__ not in (NoneType, bool):
        raise TypeError
    row: TradingHaltsRow = {
        "venue": PERPETUALS,
        "instrument": text(item["name"]),
        "event_at": event_at,
        "received_at": received_at,
        "is_halted": bool(is_delisted),
        "reason": "delisted" if is_delisted else None,
    }
    return Record("trading_halts", event_ms, row)


def _pairs(meta: dict[str, Any], contexts: list[Any], received: Received) -> list[Record | Rejected]:
    """The terms of the spot pairs in a listing, which names the tokens of each by their number, and what they are worth."""
    tokens = {token["index"]: token["name"] for token in _listed_in(meta, "tokens") if _is_token(token)}
    pairs = [
        {**item, "tokens": _named(item.get("tokens"), tokens)} if type(item) is dict else item
        for item in _listed_in(meta, "universe")
    ]
    forms = iter([_PAIR] * len(pairs) + [_SPOT_WORTH] * len(contexts))
    return each([*pairs, *contexts], lambda item: next(forms).record(item, received))


def _is_token(token: Any) -> bool:
    return type(token) is dict and type(token.get("index")) is int and type(token.get("name")) is str and token["name"] != ""


def _named(numbers: Any, tokens: dict[int, str]) -> Any:
    """The names of tokens where all are known; else their numbers, as they are."""
    is_known = type(numbers) is list and all(type(number) is int and number in tokens for number in numbers)
    return [tokens[number] for number in numbers] if is_known else numbers


def _spot_terms(item: Any, received: Received) -> Record:
    if not _SPOT_NAME.fullmatch(item["name"]):
        raise ValueError
    base, quote = map(text, _both(item["tokens"]))
    return _pair(item["name"], base, quote, received)


def _perpetual(coin: str, received: Received) -> Record:
    return listed(
        PERPETUALS,
        coin,
        received,
        kind="perpetual",
        underlying=coin,
        quote_currency=_MARGIN,
        settlement_currency=_MARGIN,
        is_inverse=False,
        contract_size=1.0,
        amount_per_contract=1.0,
    )


def _pair(name: str, base: str, quote: str, received: Received) -> Record:
    return listed(
        SPOT,
        name,
        received,
        kind="spot",
        underlying=base,
        quote_currency=quote,
        settlement_currency=quote,
        is_inverse=False,
        contract_size=1.0,
        amount_per_contract=1.0,
    )


def _listed_in(meta: dict[str, Any], name: str) -> list[Any]:
    if type(meta[name]) is not list:
        raise Rejected(name, "a list", shown(meta[name]))
    return list(meta[name])


_IS_COIN = expect("a perpetual such as BTC, or a spot pair such as PURR/USDC or @107", _market)
_IS_PERPETUAL = expect("a perpetual such as BTC", _PERPETUAL_NAME.fullmatch)
_IS_PAIR = expect("a spot pair such as PURR/USDC or @107", _SPOT_NAME.fullmatch)
_IS_AMOUNT = expect(f"a number from 0 to {MAX_SIZE:g}, as text", lambda value: [amount(value)])
_IS_RATE = expect("a rate from -1 to 1, as text", lambda value: [_rate(value)])
_SIDES_CHECK = expect("bids and asks, lists of levels of a px above 0 and an sz", lambda value: [*map(_side, _both(value))])
_BEST_CHECK = expect(
    "the best bid and ask, each with a px above 0 and an sz, or null",
    lambda value: [[_side([level]) for level in _both(value) if level is not None]],
)
_HEAD = {"coin": _IS_COIN, "time": EVENT_TIME}
_BOOK = Form(_whole_top, {**_HEAD, "levels": _SIDES_CHECK})
_TRADE = Form(
    _trade,
    {
        **_HEAD,
        "tid": NUMBERED,
        "side": one_of(*_SIDES),
        "px": PRICE,
        "sz": SIZE,
    },
)
_WORTH = {"coin": _IS_PERPETUAL, "markPx": _IS_AMOUNT, "oraclePx": PRICE, "openInterest": _IS_AMOUNT, "funding": _IS_RATE}
_CONTEXT = (Form(_worth, _WORTH), Form(_oracle, _WORTH))
_SPOT_WORTH = Form(_spot_worth, {"coin": _IS_PAIR, "markPx": _IS_AMOUNT})
_CHANNELS: dict[Any, Sequence[Form]] = {
    "l2Book": (_BOOK,),
    "bbo": (Form(_best, {**_HEAD, "bbo": _BEST_CHECK}),),
    "activeAssetCtx": _CONTEXT,
    "activeSpotAssetCtx": (_SPOT_WORTH,),
}
_LISTED = {"name": _IS_PERPETUAL, "isDelisted": nullable(optional(TRUTH))}
_CONTRACT = (Form(_terms, _LISTED), Form(_status, _LISTED))
_NAMED = expect("the numbers of two tokens of the listing", lambda value: [*map(text, _both(value))])
_PAIR = Form(_spot_terms, {"name": _IS_PAIR, "tokens": _NAMED})

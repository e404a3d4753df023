"""Bitget: public websocket channels of v2 and v3 (unified accounts), those of v1 that captures hold, and REST answers of v3.

One symbol is traded on spot and on three kinds of futures, so each of these is a venue, told by `instType` or `category`.
Numbers come as text.  The levels of a book keep their digits, for the checksum is over them; a checksum of 0 is none.  v1 and
REST do not number their books: `sequence` is their time then, and no change names the one before it.  All sizes are in the base
coin.  What no table holds, such as candles, is rejected, so that it is kept as a dead letter.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from feeds import Received, Record, Rejected
from feeds.checks import (
    AMOUNT,
    BEST_PRICE,
    CHECKSUM,
    EVENT_TIME_TEXT,
    EXACT_LEVELS,
    NUMBERED,
    PRICE,
    SIZE,
    TEXT,
    Form,
    amount,
    asked,
    best,
    checksum,
    decoded,
    each,
    every,
    exact_side,
    expect,
    expiry,
    first_level,
    instants,
    listed,
    nullable,
    numbered,
    one_of,
    optional,
    optional_amount,
    price,
    push,
    quiet_ticker,
    text,
    uncrossed,
    whole,
)
from feeds.funding import PAID_AT, RATE, tell
from feeds.halts import with_status
from feeds.session import Ask, Limits, Request, Session, batches, object_in
from schemas.records import OrderBooksRow, TradesRow
from schemas.rows import shown

SPOT, USDT, USDC, COIN = "bitget_spot", "bitget_usdt_futures", "bitget_usdc_futures", "bitget_coin_futures"

_NOT_DATA = ("subscribe", "unsubscribe")
_VENUES = {
    "spot": SPOT,
    "sp": SPOT,
    "usdt-futures": USDT,
    "umcbl": USDT,
    "usdc-futures": USDC,
    "cmcbl": USDC,
    "coin-futures": COIN,
    "dmcbl": COIN,
}
_MIXED = "mc"  # v1's one name for all futures, which the symbol tells apart
_TRADE_V1 = ("ts", "price", "size", "side")
_SPOT_QUOTES = ("USDT", "USDC", "BTC", "ETH", "EUR", "BRL")
_COIN = r"(?P<base>[^\W_]+?)"
_PAIRS = {
    SPOT: re.compile(rf"{_COIN}(?P<quote>{'|'.join(_SPOT_QUOTES)})"),
    USDT: re.compile(rf"{_COIN}(?P<quote>USDT)"),
    USDC: re.compile(rf"{_COIN}PERP"),
    COIN: re.compile(rf"{_COIN}(?P<quote>USD)"),
}
_MIXED_NAMES = {USDT: _PAIRS[USDT], USDC: _PAIRS[USDC], COIN: re.compile(rf"{_PAIRS[COIN].pattern}(?:[FGHJKMNQUVXZ]\d\d)?")}
_TOP = re.compile(r"books(?P<levels>[1-9]\d*)")  # a channel that sends as many levels of a book, whole each time
_ACTIONS = ("snapshot", "update")
_TRADING = ("online",)
_STATES = ("listed", "online", "limit_open", "limit_close", "offline", "restrictedAPI")


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw Bitget message; none for an acknowledgement or a pong.

    A trade of v1 has no id and gets one of its time, side, price and size: two alike in one millisecond share it.  After a
    subscription the last trades are sent once more.  Raises `Rejected`.
    """
    if message == b"pong":
        return []
    envelope = decoded(message)
    if "arg" in envelope and "data" in envelope:
        return _pushed(envelope, received)
    if "code" in envelope and "data" in envelope:
        return _answered(envelope, received)
    event = envelope.get("event")
    if event in _NOT_DATA:
        return []
    if event is None:
        raise Rejected("arg", "an arg with data or an event", "missing")
    raise Rejected("event", f"one of {', '.join(_NOT_DATA)}", shown(envelope if event == "error" else event))


def _pushed(envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    """The records of a channel of v1 or v2, or of a topic of v3."""
    arg = envelope["arg"]
    version = _V3 if type(arg) is dict and "topic" in arg else _V2
    if version is _V3:
        if type(arg["topic"]) is not str:
            raise Rejected("topic", "a text", shown(arg["topic"]))
        envelope = {**envelope, "arg": {**arg, "channel": arg["topic"]}}
    channel, items, about = push(envelope, received)
    top = _TOP.fullmatch(channel)
    form = version.forms.get(channel) or (version.top if top else None)
    if form is None:
        raise Rejected(version.name, f"one of {', '.join(version.forms)}, books5 …", shown(channel))
    about["venue"] = _venue(about, version.symbol)
    about["depth"] = int(top["levels"]) if top else None
    # v3 dates a ticker in the envelope alone.
    times = {"ts": envelope["ts"]} if version is _V3 and "ts" in envelope else {}
    return each(items, lambda item: form.record(_merged(times, item, about), received))


def _answered(envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    """The records of a REST answer of v3, which names neither its symbol nor its category where the request did."""
    code, data = envelope["code"], envelope["data"]
    if code not in ("00000", 0, "0"):
        raise Rejected("code", "00000", shown(envelope))
    params = asked(received).params
    if type(data) is dict:
        data = [data]
    if type(data) is not list:
        raise Rejected("data", "a JSON object or a list of them", shown(data))

    def records(item: Any) -> list[Record]:
        merged = _merged({name: params[name] for name in ("category", "symbol") if name in params}, item, {})
        form = next((form for field, form in _ANSWERS.items() if field in merged), None)
        if form is None:
            raise Rejected("data", f"an answer with one of {', '.join(_ANSWERS)}", shown(item))
        category = merged.get("category")
        venue = _VENUES.get(category.lower()) if type(category) is str else None
        if venue is None:
            raise Rejected("category", "SPOT, USDT-FUTURES, USDC-FUTURES or COIN-FUTURES", shown(category))
        # The numbers of the stream's book are missing here, so that this must not take its place.
        depth = max((len(side) for side in (merged.get("b"), merged.get("a")) if type(side) is list), default=0) or 1
        record = form.record({**merged, "venue": venue, "action": "snapshot", "depth": depth}, received)
        return with_status(record, merged.get("status"), _TRADING, received)

    return every(data, records)


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """The contract terms in a Bitget symbol: `BTCUSDT` of spot or futures, `BTCPERP` (in USDC), `BTCUSD` (in the coin).

    Spot and linear contracts count in coins: contract size 1.  So do inverse ones, of which the table wants USD: NULL.  The
    name of a dated future tells no day.
    """
    pattern = _PAIRS.get(venue)
    name = pattern.fullmatch(symbol) if pattern else None
    if name is None:
        return None
    base, quote = name["base"], name.groupdict().get("quote", "USDC")
    return listed(
        venue,
        symbol,
        received,
        kind="spot" if venue == SPOT else "perpetual",
        underlying=base,
        quote_currency=quote,
        settlement_currency=base if venue == COIN else quote,
        is_inverse=venue == COIN,
        contract_size=None if venue == COIN else 1.0,
        amount_per_contract=None if venue == COIN else 1.0,
    )


def _venue(arg: dict[str, Any], symbol_field: str) -> str:
    kind, symbol = arg.get("instType"), arg.get(symbol_field)
    name = kind.lower() if type(kind) is str else None
    if name in _VENUES:
        return _VENUES[name]
    if name != _MIXED:
        raise Rejected("instType", f"one of {', '.join([*_VENUES, _MIXED])}", "missing" if kind is None else shown(kind))
    if type(symbol) is str:
        for venue, pattern in _MIXED_NAMES.items():
            if pattern.fullmatch(symbol):
                return venue
    raise Rejected(
        symbol_field, "a coin with USDT, PERP, or USD and a delivery month", "missing" if symbol is None else shown(symbol)
    )


def _merged(before: dict[str, Any], item: Any, after: dict[str, Any]) -> dict[str, Any]:
    """An item with what holds for all items of its message: where the item says nothing of it, and whatever it says."""
    if type(item) is list and len(item) == len(_TRADE_V1):
        item = dict(zip(_TRADE_V1, item, strict=True))
    if type(item) is not dict:
        raise Rejected("data", "a list of JSON objects, or of trades of v1", shown(item))
    return {**before, **item, **after}


def _book_form(symbol: str, bids: str, asks: str, actions: tuple[str, ...] = _ACTIONS) -> Form:
    def build(data: Any, received: Received) -> Record:
        event_ms, kind, previous = whole(data["ts"]), data["action"], None
        event_at, received_at = instants(event_ms, received.received_us)
        if kind not in actions:
            raise ValueError
        if kind == "update":
            # Each number is large: 0 is none.
            kind, previous = "change", numbered(data["pseq"]) or None if "pseq" in data else None
        row: OrderBooksRow = {
            "venue": data["venue"],
            "instrument": text(data[symbol]),
            "event_at": event_at,
            "received_at": received_at,
            "kind": kind,
            "sequence": numbered(data["seq"]) if "seq" in data else event_ms,
            "prev_sequence": previous,
            "bids": exact_side(data[bids]),
            "asks": exact_side(data[asks]),
            "checksum": checksum(data.get("checksum")),
            "depth": data["depth"],
        }
        if kind == "snapshot":
            uncrossed(row["bids"], row["asks"])
        return Record("order_books", event_ms, row)

    return Form(
        build,
        {
            "action": one_of(*actions),
            "ts": EVENT_TIME_TEXT,
            symbol: TEXT,
            "seq": optional(NUMBERED),
            "pseq": optional(NUMBERED),
            bids: EXACT_LEVELS,
            asks: EXACT_LEVELS,
            "checksum": nullable(optional(CHECKSUM)),
        },
    )


def _best_form(symbol: str, bids: str, asks: str) -> Form:
    def build(data: Any, received: Received) -> Record:
        event_ms = whole(data["ts"])
        row = quiet_ticker(data["venue"], text(data[symbol]), event_ms, received)
        row["sequence"] = numbered(data["seq"]) if "seq" in data else None
        row["has_quote"] = True
        row["bid_price"], row["bid_size"] = first_level(data[bids])
        row["ask_price"], row["ask_size"] = first_level(data[asks])
        return Record("tickers", event_ms, row)

    fields = {"ts": EVENT_TIME_TEXT, symbol: TEXT, "seq": optional(NUMBERED), bids: EXACT_LEVELS, asks: EXACT_LEVELS}
    return Form(build, fields)


def _ticker(data: Any, received: Received) -> Record:
    version = _TICKER_V2 if "lastPr" in data else _TICKER_V1_FUTURES if "systemTime" in data else _TICKER_V1
    return version.record(data, received)


def _ticker_form(
    symbol: str, last: str, bid: str, ask: str, time: str, held: str, bid_size: str = "bidSz", ask_size: str = "askSz"
) -> Form:
    def build(data: Any, received: Received) -> Record:
        event_ms = whole(data[time])
        row = quiet_ticker(data["venue"], text(data[symbol]), event_ms, received)
        row["has_quote"] = True
        row["bid_price"], row["bid_size"] = best(data, bid, bid_size)
        row["ask_price"], row["ask_size"] = best(data, ask, ask_size)
        row["last_price"] = optional_amount(data[last])
        row["mark_price"] = optional_amount(data.get("markPrice"))
        row["index_price_usd"] = optional_amount(data.get("indexPrice"))
        row["open_interest"] = optional_amount(data.get(held))
        tell(row, data.get("fundingRate"), data.get("nextFundingTime"))
        return Record("tickers", event_ms, row)

    return Form(
        build,
        {
            time: EVENT_TIME_TEXT,
            symbol: TEXT,
            bid: BEST_PRICE,
            ask: BEST_PRICE,
            last: AMOUNT,
            **dict.fromkeys((bid_size, ask_size, "markPrice", "indexPrice", held), nullable(optional(AMOUNT))),
            "fundingRate": RATE,
            "nextFundingTime": PAID_AT,
        },
    )


def _trade_form(symbol: str, time: str, trade_id: str, price_field: str, size_field: str, side_field: str) -> Form:
    def build(data: Any, received: Received) -> Record:
        event_ms = whole(data[time])
        event_at, received_at = instants(event_ms, received.received_us)
        side, size = data[side_field], amount(data[size_field])
        if side not in _SIDES or not size:
            raise ValueError
        # A trade of v1 has no id.
        known = text(data[trade_id]) if trade_id in data else f"{event_ms}-{side}-{data[price_field]}-{data[size_field]}"
        row: TradesRow = {
            "venue": data["venue"],
            "instrument": text(data[symbol]),
            "event_at": event_at,
            "received_at": received_at,
            "trade_id": known,
            "side": side,
            "price": price(data[price_field]),
            "size": size,
            "off_market": None,
        }
        return Record("trades", event_ms, row)

    return Form(
        build,
        {
            time: EVENT_TIME_TEXT,
            symbol: TEXT,
            trade_id: optional(TEXT),
            side_field: one_of(*_SIDES),
            price_field: PRICE,
            size_field: SIZE,
        },
    )


def _listed(data: Any, received: Received) -> Record:
    venue, kind, expiry_at = data["venue"], "spot", None
    base, quote = text(data["baseCoin"]), text(data["quoteCoin"])
    if data.get("status", "online") not in _STATES:
        raise ValueError
    if venue != SPOT:
        kind = _FUTURES[data["type"]]
    if kind == "future":
        expiry_at = expiry(whole(data["deliveryTime"]))
    step = optional_amount(data.get("priceMultiplier"))
    return listed(
        venue,
        text(data["symbol"]),
        received,
        kind=kind,
        underlying=base,
        quote_currency=quote,
        settlement_currency=base if venue == COIN else quote,
        is_inverse=venue == COIN,
        expiry_at=expiry_at,
        contract_size=None if venue == COIN else 1.0,
        amount_per_contract=None if venue == COIN else 1.0,
        tick_size=step or None,
    )


class _Version(NamedTuple):
    """How the messages of one version of the API are framed."""

    name: str  # the field of `arg` that names a channel
    symbol: str  # and the one that names a symbol
    forms: Mapping[str, Form]  # of each channel
    top: Form  # of the channels that send the top of a book


_SIDES = ("buy", "sell")
_FUTURES = {"perpetual": "perpetual", "delivery": "future"}
_TICKER_V2 = _ticker_form("instId", "lastPr", "bidPr", "askPr", "ts", "holdingAmount")
_TICKER_V1 = _ticker_form("instId", "last", "bestBid", "bestAsk", "ts", "holding")
_TICKER_V1_FUTURES = _ticker_form("instId", "last", "bestBid", "bestAsk", "systemTime", "holding")
_TICKER_V3 = _ticker_form("symbol", "lastPrice", "bid1Price", "ask1Price", "ts", "openInterest", "bid1Size", "ask1Size")
_V2 = _Version(
    "channel",
    "instId",
    {
        "books": _book_form("instId", "bids", "asks"),
        "books1": _best_form("instId", "bids", "asks"),
        "ticker": Form(_ticker, {}),
        "trade": _trade_form("instId", "ts", "tradeId", "price", "size", "side"),
    },
    top=_book_form("instId", "bids", "asks", ("snapshot",)),
)
_V3 = _Version(
    "topic",
    "symbol",
    {
        "books": _book_form("symbol", "b", "a"),
        "books1": _best_form("symbol", "b", "a"),
        "ticker": _TICKER_V3,
        "publicTrade": _trade_form("symbol", "T", "i", "p", "v", "S"),
    },
    top=_book_form("symbol", "b", "a", ("snapshot",)),
)
_ANSWERS = {
    "baseCoin": Form(
        _listed,
        {
            "symbol": TEXT,
            "baseCoin": TEXT,
            "quoteCoin": TEXT,
            "status": optional(one_of(*_STATES)),
            "type": one_of(*_FUTURES),
            "priceMultiplier": nullable(optional(AMOUNT)),
            "deliveryTime": expect("milliseconds since 1970, before the year 2100", lambda value: expiry(whole(value))),
        },
    ),
    "bid1Price": _TICKER_V3,
    "execId": _trade_form("symbol", "ts", "execId", "price", "size", "side"),
    "b": _V3.top,
}
"""What a REST answer is, by a field that only it has."""


STREAM_URL, REST_URL = "wss://ws.bitget.com/v2/ws/public", "https://api.bitget.com"
_TYPES = {SPOT: "SPOT", USDT: "USDT-FUTURES", USDC: "USDC-FUTURES", COIN: "COIN-FUTURES"}
MARKETS = tuple(_TYPES)
_CHANNELS_PER_REQUEST = 50  # a request has 4096 bytes at most


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is sent to a market of Bitget: books, tickers and trades of the symbols.  Raises `KeyError` for another market."""
    kind = _TYPES[market]

    def channel(name: str, symbol: str) -> Request:
        return {"instType": kind, "channel": name, "instId": symbol}

    def requests(op: str, symbols: Sequence[str]) -> list[Request]:
        channels = [channel(name, symbol) for name in ("books", "ticker", "trade") for symbol in symbols]
        return [{"op": op, "args": batch} for batch in batches(channels, _CHANNELS_PER_REQUEST)]

    return Session(
        "bitget",
        market,
        url or STREAM_URL,
        subscribe=lambda symbols: requests("subscribe", symbols),
        unsubscribe=lambda symbols: requests("unsubscribe", symbols),
        listings=[Ask(f"{rest_url or REST_URL}/api/v3/market/instruments?category={kind}")],
        resubscribe=lambda symbol: [{"op": op, "args": [channel("books", symbol)]} for op in ("unsubscribe", "subscribe")],
        refusal=_refusal,
        ping="ping",
        limits=Limits(requests_per_s=5.0, symbols_per_connection=16),  # 50 channels a connection are recommended
    )


def _refusal(message: bytes) -> str | None:
    # Most messages are data: they need not be decoded for this.
    return str(object_in(message).get("msg")) if b'"event":"error"' in message else None

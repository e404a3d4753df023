"""Bitget: public websocket channels, v2 and those of v1 that captures hold; spot and the three kinds of futures.

One symbol is traded on several of them, so each is a venue, told by `instType`.  Numbers come as text.  The levels of a book
keep their digits, for the checksum is over them; a checksum of 0 is none.  v1 does not number its books: `sequence` is their
time then, and no change names the one before it.  All sizes are in the base coin.  What no table holds, such as candles, is
rejected, so that it is kept as a dead letter.
"""

import re
from collections.abc import Sequence
from typing import Any

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
    best,
    checksum,
    decoded,
    each,
    exact_side,
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
_PARTS = {"USDT": USDT, "PERP": USDC, "USD": COIN}
_TRADE_V1 = ("ts", "price", "size", "side")
_SPOT_QUOTES = ("USDT", "USDC", "BTC", "ETH", "EUR", "BRL")
_PAIRS = {
    SPOT: re.compile(rf"(?P<base>[A-Z0-9]+?)(?P<quote>{'|'.join(_SPOT_QUOTES)})"),
    USDT: re.compile(r"(?P<base>[A-Z0-9]+)(?P<quote>USDT)"),
    USDC: re.compile(r"(?P<base>[A-Z0-9]+)PERP"),
    COIN: re.compile(r"(?P<base>[A-Z0-9]+)(?P<quote>USD)"),
}


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw Bitget message; none for an acknowledgement or a pong.

    A trade of v1 has no id and gets one of its time, side, price and size: two alike in one millisecond share it.  After a
    subscription the last trades are sent once more.  Raises `Rejected`.
    """
    if message == b"pong":
        return []
    envelope = decoded(message)
    if "arg" in envelope and "data" in envelope:
        channel, items, about = push(envelope, received)
        form = _CHANNELS.get(channel)
        if form is None:
            raise Rejected("channel", f"one of {', '.join(_CHANNELS)}", shown(channel))
        about["venue"] = _venue(about)
        return each(items, lambda item: form.record(_merged(about, item), received))
    event = envelope.get("event")
    if event in _NOT_DATA:
        return []
    if event is None:
        raise Rejected("arg", "an arg with data or an event", "missing")
    raise Rejected("event", f"one of {', '.join(_NOT_DATA)}", shown(envelope if event == "error" else event))


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
    )


def _venue(arg: dict[str, Any]) -> str:
    kind, symbol = arg.get("instType"), arg.get("instId")
    name = kind.lower() if type(kind) is str else None
    if name in _VENUES:
        return _VENUES[name]
    if name != _MIXED:
        raise Rejected("instType", f"one of {', '.join([*_VENUES, _MIXED])}", "missing" if kind is None else shown(kind))
    if type(symbol) is str:
        for part, venue in _PARTS.items():
            if part in symbol:
                return venue
    raise Rejected("instId", f"a symbol with {', '.join(_PARTS)}", "missing" if symbol is None else shown(symbol))


def _merged(about: dict[str, Any], item: Any) -> dict[str, Any]:
    if type(item) is list and len(item) == len(_TRADE_V1):
        item = dict(zip(_TRADE_V1, item, strict=True))
    if type(item) is not dict:
        raise Rejected("data", "a list of JSON objects, or of trades of v1", shown(item))
    return {**item, **about}


def _book(data: Any, received: Received) -> Record:
    event_ms, kind, previous = whole(data["ts"]), data["action"], None
    event_at, received_at = instants(event_ms, received.received_us)
    if kind == "update":
        # Each number is large: 0 is none.
        kind, previous = "change", numbered(data["pseq"]) or None if "pseq" in data else None
    elif kind != "snapshot":
        raise ValueError
    row: OrderBooksRow = {
        "venue": data["venue"],
        "instrument": text(data["instId"]),
        "event_at": event_at,
        "received_at": received_at,
        "kind": kind,
        "sequence": numbered(data["seq"]) if "seq" in data else event_ms,
        "prev_sequence": previous,
        "bids": exact_side(data["bids"]),
        "asks": exact_side(data["asks"]),
        "checksum": checksum(data.get("checksum")),
        "depth": None,
    }
    if kind == "snapshot":
        uncrossed(row["bids"], row["asks"])
    return Record("order_books", event_ms, row)


def _best_level(data: Any, received: Received) -> Record:
    event_ms = whole(data["ts"])
    row = quiet_ticker(data["venue"], text(data["instId"]), event_ms, received)
    row["sequence"] = numbered(data["seq"]) if "seq" in data else None
    row["has_quote"] = True
    row["bid_price"], row["bid_size"] = first_level(data["bids"])
    row["ask_price"], row["ask_size"] = first_level(data["asks"])
    return Record("tickers", event_ms, row)


def _ticker(data: Any, received: Received) -> Record:
    version = _TICKER_V2 if "lastPr" in data else _TICKER_V1_FUTURES if "systemTime" in data else _TICKER_V1
    return version.record(data, received)


def _ticker_form(last: str, bid: str, ask: str, time: str, held: str) -> Form:
    def build(data: Any, received: Received) -> Record:
        event_ms = whole(data[time])
        row = quiet_ticker(data["venue"], text(data["instId"]), event_ms, received)
        row["has_quote"] = True
        row["bid_price"], row["bid_size"] = best(data, bid, "bidSz")
        row["ask_price"], row["ask_size"] = best(data, ask, "askSz")
        row["last_price"] = optional_amount(data[last])
        row["mark_price"] = optional_amount(data.get("markPrice"))
        row["index_price_usd"] = optional_amount(data.get("indexPrice"))
        row["open_interest"] = optional_amount(data.get(held))
        return Record("tickers", event_ms, row)

    return Form(
        build,
        {
            time: EVENT_TIME_TEXT,
            "instId": TEXT,
            bid: BEST_PRICE,
            ask: BEST_PRICE,
            last: AMOUNT,
            **dict.fromkeys(("bidSz", "askSz", "markPrice", "indexPrice", held), nullable(optional(AMOUNT))),
        },
    )


def _trade(data: Any, received: Received) -> Record:
    event_ms = whole(data["ts"])
    event_at, received_at = instants(event_ms, received.received_us)
    side, size = data["side"], amount(data["size"])
    if side not in ("buy", "sell") or not size:
        raise ValueError
    row: TradesRow = {
        "venue": data["venue"],
        "instrument": text(data["instId"]),
        "event_at": event_at,
        "received_at": received_at,
        "trade_id": text(data["tradeId"]) if "tradeId" in data else f"{event_ms}-{side}-{data['price']}-{data['size']}",
        "side": side,
        "price": price(data["price"]),
        "size": size,
        "off_market": None,
    }
    return Record("trades", event_ms, row)


_HEAD = {"ts": EVENT_TIME_TEXT, "instId": TEXT}
_LEVELS = {"bids": EXACT_LEVELS, "asks": EXACT_LEVELS}
_TICKER_V2 = _ticker_form("lastPr", "bidPr", "askPr", "ts", "holdingAmount")
_TICKER_V1 = _ticker_form("last", "bestBid", "bestAsk", "ts", "holding")
_TICKER_V1_FUTURES = _ticker_form("last", "bestBid", "bestAsk", "systemTime", "holding")
_BOOK = Form(
    _book,
    {
        "action": one_of("snapshot", "update"),
        **_HEAD,
        "seq": optional(NUMBERED),
        "pseq": optional(NUMBERED),
        **_LEVELS,
        "checksum": nullable(optional(CHECKSUM)),
    },
)
_CHANNELS = {
    "books": _BOOK,
    "books5": _BOOK,
    "books15": _BOOK,
    "books1": Form(_best_level, {**_HEAD, "seq": optional(NUMBERED), **_LEVELS}),
    "ticker": Form(_ticker, {}),
    "trade": Form(
        _trade,
        {**_HEAD, "tradeId": optional(TEXT), "side": one_of("buy", "sell"), "price": PRICE, "size": SIZE},
    ),
}

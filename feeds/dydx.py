"""dYdX v4: the channels of its indexer, and the answers over HTTP that say the same.

Prices and sizes come as text.  Trades and oracle prices bear the time of their block, books and markets none at all.  Nothing
chains the changes of a book: `message_id` counts the messages of a connection over all its channels, an answer where it was
asked for, and starts again with the next one.  So `sequence` is the time of receipt in ms, and `prev_sequence` NULL.
There is no single book on the chain, so that levels may cross: see `kernels.books.UNCHAINED`.  Margin and liquidations go by
the oracle price, which is the mark.  Funding is paid every hour.  What no table holds, such as candles and block heights, is
rejected, so that it is kept as a dead letter.  What is read into which table, and what is not, stands in docs/venues/dydx.md.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from feeds import Received, Record, Rejected
from feeds.checks import (
    EVENT_TIME,
    MAX_SIZE,
    NUMBERED,
    ODD,
    PRICE,
    SIZE,
    TEXT,
    Form,
    Levels,
    amount,
    asked,
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
)
from feeds.session import Ask, Limits, Request, Session, object_in
from schemas.records import IndexPricesRow, OrderBooksRow, TradesRow, TradingHaltsRow
from schemas.rows import instant_ms, shown, to_ms

VENUE = "dydx"
MARKETS = (VENUE,)

_NOT_DATA = ("connected", "unsubscribed", "pong")
_DATA = ("subscribed", "channel_data", "channel_batch_data")
_HOUR_MS = 3_600_000
_STATUSES = ("ACTIVE", "PAUSED", "CANCEL_ONLY", "POST_ONLY", "INITIALIZING", "FINAL_SETTLEMENT")
_SIDES = {"BUY": "buy", "SELL": "sell"}
_OFF_MARKET = {"LIMIT": None, "MARKET": None, "LIQUIDATED": None, "TWAP_SUBORDER": None, "DELEVERAGED": "adl"}
"""Why a trade of a type was none of the market: a liquidation goes through the book, deleveraging does not."""
_NAME = re.compile(r"(?P<base>[^\s/]+)-USD")
_SOCKET = "wss://indexer.dydx.trade/v4/ws"
_REST = "https://indexer.dydx.trade"


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw dYdX message; none for an acknowledgement or a pong.

    Of a batch of changes of a book the last of each level stands: they are of one message.  An answer does not say what was
    asked: its fields do.  Raises `Rejected`.
    """
    envelope = decoded(message)
    kind = envelope.get("type")
    if kind is None:
        return _answer(envelope, received)
    if kind in _NOT_DATA:
        return []
    if kind not in _DATA:
        raise Rejected("type", f"one of {', '.join((*_DATA, *_NOT_DATA))}", shown(envelope if kind == "error" else kind))
    channel = envelope.get("channel")
    if type(channel) is not str or channel not in _CHANNELS:
        raise Rejected("channel", f"a channel that is read: {', '.join(_CHANNELS)}", shown(channel))
    contents = envelope.get("contents")
    parts = contents if kind == "channel_batch_data" else [contents]
    if type(parts) is not list or not all(type(part) is dict for part in parts):
        raise Rejected("contents", "a JSON object, or a list of them in a batch", shown(contents))
    return _CHANNELS[channel](parts, envelope, received)


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """The contract terms in a name: `BTC-USD`."""
    name = _NAME.fullmatch(symbol)
    return None if name is None else _perpetual(symbol, name["base"], None, received)


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is said to the one market; `url` and `rest_url` replace the venue's own addresses.  Raises `KeyError`.

    A connection may have 32 subscriptions to a channel and ask for the same one twice a second; an address may ask 100 times
    in 10 s over HTTP.
    The markets come first, for theirs are the times by which books are told.
    """
    base = f"{rest_url or _REST}/v4"

    def requests(kind: str, symbols: Sequence[str], channels: Sequence[str]) -> list[Request]:
        return [{"type": kind, "channel": channel, "id": symbol} for symbol in symbols for channel in channels]

    return Session(
        venue=VENUE,
        market={VENUE: VENUE}[market],
        url=url or _SOCKET,
        opening=({"type": "subscribe", "channel": "v4_markets"},),
        subscribe=lambda symbols: requests("subscribe", symbols, ["v4_orderbook", "v4_trades"]),
        unsubscribe=lambda symbols: requests("unsubscribe", symbols, ["v4_orderbook", "v4_trades"]),
        listings=(Ask(f"{base}/perpetualMarkets"),),
        resubscribe=lambda symbol: [
            *requests("unsubscribe", [symbol], ["v4_orderbook"]),
            *requests("subscribe", [symbol], ["v4_orderbook"]),
        ],
        refusal=_refusal,
        limits=Limits(requests_per_s=10.0, symbols_per_connection=32, asks_per_s=5.0),
    )


def _refusal(message: bytes) -> str | None:
    if b'"error"' not in message:
        return None
    envelope = object_in(message)
    return str(envelope.get("message")) if envelope.get("type") == "error" else None


def _now_ms(received: Received) -> int:
    """The time of a message that has none."""
    return received.received_us // 1000 if received.newest_event_ms is None else received.newest_event_ms


def _book_channel(parts: list[Any], envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    symbol = envelope.get("id")
    if envelope["type"] == "subscribed":
        return [_WHOLE_BOOK.record({**parts[0], "id": symbol}, received)]
    sides: dict[str, Any] = {"bids": [], "asks": []}
    for part in parts:
        for name, side in sides.items():
            levels = part.get(name, [])
            if type(levels) is not list:
                raise Rejected(name, "a list of levels", shown(levels))
            side += levels
    return [_CHANGES.record({**sides, "id": symbol}, received)]


def _whole_book(data: Any, received: Received) -> Record:
    bids, asks = _uncrossed(_side(data["bids"]), _side(data["asks"]))
    return _book(data, received, "snapshot", bids, asks, None)


def _changes(data: Any, received: Received) -> Record:
    bids, asks = ([[*level] for level in _last(data[name]).items()] for name in ("bids", "asks"))
    return _book(data, received, "change", cast(Levels, bids), cast(Levels, asks), None)


def _book_answer(data: Any, received: Received) -> Record:
    """A book that was asked for: as deep as it is shown, for nothing tells at which of the changes it stands."""
    bids, asks = _uncrossed(_side(data["bids"]), _side(data["asks"]))
    return _book(data, received, "snapshot", bids, asks, max(1, len(bids), len(asks)))


def _book(data: Any, received: Received, kind: str, bids: Levels, asks: Levels, depth: int | None) -> Record:
    event_ms = _now_ms(received)
    event_at, received_at = instants(event_ms, received.received_us)
    row: OrderBooksRow = {
        "venue": VENUE,
        "instrument": _symbol(data["id"]),
        "event_at": event_at,
        "received_at": received_at,
        "kind": kind,
        "sequence": received.received_us // 1000,
        "prev_sequence": None,
        "bids": bids,
        "asks": asks,
        "checksum": None,
        "depth": depth,
        "block_height": None,
    }
    return Record("order_books", event_ms, row)


def _symbol(value: Any) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError
    return str(value)


def _side(side: Any) -> Levels:
    """The levels of a side: objects of price and size in a whole book, pairs in its changes, maybe with an offset."""
    if side.__class__ is not list:
        raise TypeError
    return exact_side([[level["price"], level["size"]] if level.__class__ is dict else level for level in side])


def _last(side: Any) -> dict[Any, Any]:
    return dict(cast(Iterable[tuple[Any, Any]], _side(side)))


def _uncrossed(bids: Levels, asks: Levels) -> tuple[Levels, Levels]:
    """A whole book without levels that cross: the smaller of two is taken off the larger, as the venue says of levels that
    were set at the same time.  Best first.
    """
    bids, asks = sorted(bids, reverse=True), sorted(asks)
    best_bid = best_ask = 0
    while best_bid < len(bids) and best_ask < len(asks) and bids[best_bid][0] >= asks[best_ask][0]:
        bid, ask = bids[best_bid], asks[best_ask]
        least = min(bid[1], ask[1])
        bids[best_bid], asks[best_ask] = [bid[0], bid[1] - least], [ask[0], ask[1] - least]
        best_bid += bid[1] == least
        best_ask += ask[1] == least
    return bids[best_bid:], asks[best_ask:]


def _trades_channel(parts: list[Any], envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    return _trades([trade for part in parts for trade in _list_in(part, "trades")], envelope.get("id"), received)


def _trades(trades: Iterable[Any], symbol: Any, received: Received) -> list[Record | Rejected]:
    named = [{**trade, "market": symbol} if type(trade) is dict else trade for trade in trades]
    return each(named, lambda trade: _TRADE.record(trade, received))


def _list_in(part: dict[str, Any], name: str) -> list[Any]:
    if type(part.get(name)) is not list:
        raise Rejected(name, "a list", shown(part.get(name)) if name in part else "missing")
    return list(part[name])


def _trade(data: Any, received: Received) -> Record:
    event_ms, size = _instant_ms(data["createdAt"]), amount(data["size"])
    event_at, received_at = instants(event_ms, received.received_us)
    if not size:
        raise ValueError
    height = data.get("createdAtHeight")
    row: TradesRow = {
        "venue": VENUE,
        "instrument": _symbol(data["market"]),
        "event_at": event_at,
        "received_at": received_at,
        "trade_id": text(data["id"]),
        "side": _SIDES[data["side"]],
        "price": price(data["price"]),
        "size": size,
        "off_market": _OFF_MARKET[data.get("type", "LIMIT")],
        "block_height": None if height is None else numbered(height),
    }
    return Record("trades", event_ms, row)


def _instant_ms(value: str) -> int:
    """Milliseconds of an instant, as ISO-8601 text in UTC, else raises one of `ODD`."""
    if value.__class__ is not str or not value.endswith("Z"):
        raise ValueError
    return to_ms(value)


def _markets_channel(parts: list[Any], envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    """What is said of markets: all of it at first, then what has changed, and oracle prices with the time of their block."""
    name = "markets" if envelope["type"] == "subscribed" else "trading"
    return _markets([(part[key], key) for part in parts for key in (name, "oraclePrices") if key in part], received)


def _markets(groups: Iterable[tuple[Any, str]], received: Received) -> list[Record | Rejected]:
    items = []
    for markets, name in groups:
        if type(markets) is not dict:
            raise Rejected(name, "a JSON object of markets", shown(markets))
        items += [{name: fields, "ticker": symbol} for symbol, fields in markets.items()]
    return every(items, lambda item: _market(item, received))


def _market(item: dict[str, Any], received: Received) -> list[Record]:
    """What is told of a market: its terms, what it is worth, and whether it is traded, as far as there are fields for it."""
    name, fields = next(iter(item.items()))
    if type(fields) is not dict:
        raise Rejected(name, "a JSON object for each market", shown(fields))
    market = {**fields, "ticker": item["ticker"]}
    if name == "oraclePrices":
        market.setdefault("effectiveAt")
        return [form.record(market, received) for form in (_BLOCK_ORACLE, _BLOCK_WORTH)]
    told = {field for field in _MARKET if market.get(field) is not None}
    if market.get("oraclePrice") == "0":
        told.discard("oraclePrice")  # none yet
    return [form.record(market, received) for fields, form in _FORMS if told & fields]


def _terms(data: Any, received: Received) -> Record:
    symbol = _symbol(data["ticker"])
    return _perpetual(symbol, symbol.removesuffix("-USD"), price(data["tickSize"]), received)


def _perpetual(symbol: str, base: str, tick_size: float | None, received: Received) -> Record:
    return listed(
        VENUE,
        symbol,
        received,
        kind="perpetual",
        underlying=base,
        quote_currency="USD",
        settlement_currency="USDC",
        is_inverse=False,
        contract_size=1.0,
        amount_per_contract=1.0,
        tick_size=tick_size,
    )


def _worth(data: Any, received: Received) -> Record:
    """What is said of a market beside its book: its oracle price, funding and open interest, as far as they are told."""
    event_ms = _instant_ms(data["effectiveAt"]) if "effectiveAt" in data else _now_ms(received)
    row = quiet_ticker(VENUE, _symbol(data["ticker"]), event_ms, received)
    if data.get("oraclePrice") not in (None, "0"):
        row["mark_price"] = row["index_price_usd"] = price(data["oraclePrice"])
    if data.get("openInterest") is not None:
        row["open_interest"] = amount(data["openInterest"])
    if data.get("nextFundingRate") is not None:
        row["funding_rate"] = _rate(data["nextFundingRate"])
        row["next_funding_at"] = instant_ms((event_ms // _HOUR_MS + 1) * _HOUR_MS)
    return Record("tickers", event_ms, row)


def _oracle(data: Any, received: Received) -> Record:
    event_ms = _instant_ms(data["effectiveAt"]) if "effectiveAt" in data else _now_ms(received)
    event_at, received_at = instants(event_ms, received.received_us)
    row: IndexPricesRow = {
        "venue": VENUE,
        "underlying": _symbol(data["ticker"]).removesuffix("-USD"),
        "event_at": event_at,
        "received_at": received_at,
        "price_usd": price(data["oraclePrice"]),
        "confidence_usd": None,
        "quote_currency": "USD",
    }
    return Record("index_prices", event_ms, row)


def _status(data: Any, received: Received) -> Record:
    event_ms, status = _now_ms(received), data["status"]
    event_at, received_at = instants(event_ms, received.received_us)
    if status not in _STATUSES:
        raise ValueError
    row: TradingHaltsRow = {
        "venue": VENUE,
        "instrument": _symbol(data["ticker"]),
        "event_at": event_at,
        "received_at": received_at,
        "is_halted": status != "ACTIVE",
        "reason": None if status == "ACTIVE" else str(status),
    }
    return Record("trading_halts", event_ms, row)


def _rate(value: str) -> float:
    """A funding rate, which may be below 0, from a text of digits, else raises one of `ODD`."""
    rate = -amount(value[1:]) if value[0] == "-" else amount(value)
    if not -1.0 <= rate <= 1.0:
        raise ValueError
    return rate


def _answer(envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    """The records in an answer over HTTP, in a client's envelope too; its symbol is the end of the address."""
    result = envelope.get("result") if envelope.get("status") == "success" else envelope
    if type(result) is not dict:
        raise Rejected("result", "a JSON object", shown(result))
    symbol = asked(received).method or received.symbol
    if "markets" in result:
        return _markets([(result["markets"], "markets")], received)
    if "trades" in result:
        return _trades(_list_in(result, "trades"), symbol, received)
    if "bids" in result and "asks" in result:
        return [_BOOK_ANSWER.record({**result, "id": symbol}, received)]
    raise Rejected("type", "a message of a channel, or an answer that is read: markets, trades or a book", "missing")


def _instant(value: Any, received: Received) -> tuple[str, str] | None:
    try:
        return EVENT_TIME(_instant_ms(value), received)
    except ODD:
        return "an instant in UTC as ISO-8601 text", shown(value)


_IS_SYMBOL = expect("a market such as BTC-USD", _symbol)
_IS_AMOUNT = expect(f"a number from 0 to {MAX_SIZE:g}, as text", lambda value: [amount(value)])
_IS_LEVELS = expect("levels of a price above 0 and a size from 0 on, as text", lambda value: [_side(value)])
_BOOK_FIELDS = {"id": _IS_SYMBOL, "bids": _IS_LEVELS, "asks": _IS_LEVELS}
_WHOLE_BOOK, _CHANGES = Form(_whole_book, _BOOK_FIELDS), Form(_changes, _BOOK_FIELDS)
_BOOK_ANSWER = Form(_book_answer, _BOOK_FIELDS)
_TRADE = Form(
    _trade,
    {
        "market": _IS_SYMBOL,
        "createdAt": _instant,
        "createdAtHeight": nullable(optional(NUMBERED)),
        "id": TEXT,
        "side": one_of(*_SIDES),
        "price": PRICE,
        "size": SIZE,
        "type": optional(one_of(*_OFF_MARKET)),
    },
)
_MARKET = {
    "ticker": _IS_SYMBOL,
    "effectiveAt": optional(_instant),
    "tickSize": nullable(optional(PRICE)),
    "oraclePrice": nullable(optional(expect("a price from 0 on, as text", lambda value: value == "0" or price(value)))),
    "openInterest": nullable(optional(_IS_AMOUNT)),
    "nextFundingRate": nullable(optional(expect("a rate from -1 to 1, as text", lambda value: [_rate(value)]))),
    "status": nullable(optional(one_of(*_STATUSES))),
}
_FORMS = (
    ({"tickSize"}, Form(_terms, _MARKET)),
    ({"oraclePrice", "openInterest", "nextFundingRate"}, Form(_worth, _MARKET)),
    ({"oraclePrice"}, Form(_oracle, _MARKET)),
    ({"status"}, Form(_status, _MARKET)),
)
_OF_A_BLOCK = {"ticker": _IS_SYMBOL, "effectiveAt": _instant, "oraclePrice": PRICE}
_BLOCK_ORACLE, _BLOCK_WORTH = Form(_oracle, _OF_A_BLOCK), Form(_worth, _OF_A_BLOCK)
_CHANNELS: dict[str, Callable[[list[Any], dict[str, Any], Received], Sequence[Record | Rejected]]] = {
    "v4_orderbook": _book_channel,
    "v4_trades": _trades_channel,
    "v4_markets": _markets_channel,
}

"""Binance: spot, USD-M and COIN-M futures and options, streams (combined or bare) and REST answers.

Each of the four is a venue.  Which of them a message comes from is told by the address that it came from, by its stream, by a
symbol's grammar, and else by the fields that only one of them has.  Prices and sizes come as decimal strings; a COIN-M size is
in contracts, an option's in its underlying, any other in the base coin.  Dated futures and options expire at 08:00 UTC.  Times
are milliseconds, or microseconds where a connection asked for them.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson

from feeds import Received, Record, Rejected
from feeds.checks import (
    EVENT_TIME,
    MAX_PRICE,
    MAX_SEQUENCE,
    MAX_SIZE,
    SEQUENCE,
    TEXT,
    TRUTH,
    Form,
    Levels,
    asked,
    each,
    every,
    expect,
    expiry,
    instants,
    levels,
    listed,
    one_of,
    optional,
    quiet_ticker,
    text,
    uncrossed,
)
from feeds.funding import PAID_AT, RATE, tell
from feeds.halts import halt, with_status
from feeds.session import Ask, Limits, Request, Session, batches, object_in
from schemas.records import IndexPricesRow, OrderBooksRow, TickersRow, TradesRow
from schemas.rows import instant_ms, shown

SPOT, USDM, COINM, OPTIONS = "binance_spot", "binance_usdm", "binance_coinm", "binance_options"

_DOLLARS = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD1", "USD")
_QUOTES = (
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD1"),
    *("BTC", "ETH", "BNB", "TRX", "DOGE", "XRP", "SOL", "EUR", "GBP", "TRY", "BRL", "JPY", "AUD", "UAH", "RUB", "ZAR"),
    *("PLN", "RON", "ARS", "MXN", "COP", "CZK", "IDRT", "BIDR", "NGN"),
)
_COIN = r"(?P<base>[^\W_]+?)"  # in any script: some contracts are named in Chinese
_PAIR = re.compile(rf"{_COIN}(?P<quote>{'|'.join(_QUOTES)})")
_USDM = re.compile(rf"{_PAIR.pattern}(?:_(?P<delivery>\d{{6}}))?")
_COINM = re.compile(rf"{_COIN}(?P<quote>USD)_(?:PERP|(?P<delivery>\d{{6}}))")
_OPTION = re.compile(rf"{_COIN}-(?P<delivery>\d{{6}})-(?P<strike>\d+(?:\.\d+)?)-(?P<type>[CP])")
_NAMES = {SPOT: _PAIR, USDM: _USDM, COINM: _COINM, OPTIONS: _OPTION}
_INDEX = re.compile(rf"{_COIN}(?P<quote>{'|'.join(_DOLLARS)})")

_DOMAINS = ("binance.com", "binance.us", "binance.vision", "binancefuture.com")
_HOSTS = {
    **dict.fromkeys(("stream", "data-stream", "api", "api1", "api2", "api3", "api4", "api-gcp", "data-api", "ws-api"), SPOT),
    **dict.fromkeys(("fstream", "fapi", "ws-fapi", "stream.binancefuture.com", "testnet.binancefuture.com"), USDM),
    **dict.fromkeys(("dstream", "dapi", "ws-dapi"), COINM),
    **dict.fromkeys(("nbstream", "vstream", "eapi"), OPTIONS),
}
_PATHS = {"api": SPOT, "fapi": USDM, "dapi": COINM, "eapi": OPTIONS, "eoptions": OPTIONS}
_DEPTH_STREAM = re.compile(r"(?P<symbol>[^@!]+)@(?P<kind>depth|rpiDepth)(?P<levels>\d*)(?:@\d+ms)?")

_MICROSECONDS_FROM = 10**14  # as milliseconds that is the year 5138
_OFF_MARKET = {"MARKET": None, "INSURANCE_FUND": "insurance_fund", "ADL": "adl", "BLOCK": "block"}
_TRADE_IDS = {"trade": ("", "t"), "aggTrade": ("a", "a"), "blockTrade": ("b", "t")}  # prefix and field of each
_SIDES: dict[Any, str] = {"BUY": "buy", "1": "buy", 1: "buy", "SELL": "sell", "-1": "sell", -1: "sell"}
_NOT_READ = {
    **dict.fromkeys(
        ("kline", "continuous_kline", "indexPrice_kline", "markPrice_kline"), "what a table holds: candles are made of trades"
    ),
    "forceOrder": "executions and quotes: a liquidation order is neither",
    **dict.fromkeys(
        (
            *("executionReport", "outboundAccountPosition", "balanceUpdate", "listStatus", "listenKeyExpired"),
            *("ORDER_TRADE_UPDATE", "TRADE_LITE", "ALGO_UPDATE", "ACCOUNT_UPDATE", "ACCOUNT_CONFIG_UPDATE", "MARGIN_CALL"),
        ),
        "market data: an account's own messages are none",
    ),
}
_PERPETUAL = ("PERPETUAL", "TRADIFI_PERPETUAL", "PERPETUAL_DELIVERING", "PERPETUAL DELIVERING")
_DATED = tuple(
    f"{month}{state}"
    for month in ("CURRENT_MONTH", "NEXT_MONTH", "CURRENT_QUARTER", "NEXT_QUARTER")
    for state in ("", "_DELIVERING", " DELIVERING")
)
_STATES = (
    *("PENDING_TRADING", "PRE_TRADING", "TRADING", "POST_TRADING", "END_OF_DAY", "HALT", "BREAK", "AUCTION_MATCH"),
    *("PRE_DELIVERING", "DELIVERING", "DELIVERED", "PRE_SETTLE", "SETTLING", "CLOSE"),
)
_TRADING = ("TRADING",)
_OPTION_TYPES = {"CALL": "call", "PUT": "put"}
_FUTURES_FIELDS = ("contractType", "deliveryDate", "marginAsset", "pair")


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw Binance message; none for an acknowledgement.

    A spot best price and a spot depth snapshot have no time: they take the newest exchange time that the connection has
    shown, else the received time; a listing of instruments takes one before all that could refer to it.  Raises `Rejected`.
    """
    envelope = _decoded(message)
    if envelope.__class__ is list:
        return _items(envelope, None, received)
    if "stream" not in envelope:
        return _records(envelope, None, received)
    stream, data = envelope["stream"], envelope.get("data")
    if stream.__class__ is not str:
        raise Rejected("stream", "a text", shown(stream))
    if data.__class__ is list:
        return _items(data, stream, received)
    if data.__class__ is not dict:
        raise Rejected("data", "a JSON object or a list of them", shown(data))
    return _records(data, stream, received)


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """The contract terms in a Binance symbol: `BTCUSDT`, `BTCUSDT_240927`, `BTCUSD_PERP`, `BTCUSD_240927`,
    `BTC-251226-90000-C`.

    Linear contracts, options and spot count in coins: contract size 1.  COIN-M contracts are 100 USD on BTC, 10 USD on all
    else.  Options are quoted and settled in USDT.
    """
    pattern = _NAMES.get(venue)
    name = pattern.fullmatch(symbol) if pattern else None
    if name is None:
        return None
    terms = name.groupdict()
    base, quote, delivery = terms["base"], terms.get("quote", "USDT"), terms.get("delivery")
    expiry_at = None
    if delivery:
        try:
            expires_at = datetime(2000 + int(delivery[:2]), int(delivery[2:4]), int(delivery[4:]), 8, tzinfo=UTC)
        except ValueError:
            return None
        expiry_at = instant_ms(int(expires_at.timestamp()) * 1000)
    is_option = venue == OPTIONS
    return listed(
        venue,
        symbol,
        received,
        kind="option" if is_option else "spot" if venue == SPOT else "future" if expiry_at else "perpetual",
        underlying=base,
        quote_currency=quote,
        settlement_currency=base if venue == COINM else quote,
        is_inverse=venue == COINM,
        option_type=("call" if terms["type"] == "C" else "put") if is_option else None,
        strike_usd=float(terms["strike"]) if is_option else None,
        expiry_at=expiry_at,
        contract_size=1.0 if venue != COINM else 100.0 if base == "BTC" else 10.0,
        amount_per_contract=1.0,
    )


def _decoded(message: bytes) -> Any:
    """The JSON object that a message is, or the list with objects.  Raises `Rejected`."""
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        value = None
    is_list = value.__class__ is list and (not value or any(item.__class__ is dict for item in value))
    if not is_list and value.__class__ is not dict:
        raise Rejected(None, "a JSON message", shown(message))
    return value


def _items(items: list[Any], stream: str | None, received: Received) -> Sequence[Record | Rejected]:
    def record(item: Any) -> Record:
        if item.__class__ is not dict:
            raise Rejected("data", "a JSON object or a list of them", shown(item))
        return _record(item if stream is None else {**item, "stream": stream}, received)

    return _with_indices(each(items, record))


def _records(data: dict[str, Any], stream: str | None, received: Received) -> Sequence[Record | Rejected]:
    kind = data.get("e")
    if kind is None:
        if "symbols" in data:
            return _listing("symbols", data["symbols"], received)
        if "optionSymbols" in data:
            return _listing("optionSymbols", data["optionSymbols"], received)
        if data.get("error") is not None or "code" in data:
            raise Rejected("error" if "error" in data else "code", "a result", shown(data.get("error") or data))
        if "result" in data:
            return _result(data["result"], received)
    if stream is not None:
        data["stream"] = stream
    record = _record(data, received)
    return _with_indices([record]) if record.table == "tickers" and record.row["index_price_usd"] else [record]


def _result(result: Any, received: Received) -> Sequence[Record | Rejected]:
    """What an answer to a websocket request holds: data, or no more than that the request was heard."""
    if result.__class__ is dict and result:
        if "result" in result:
            raise Rejected("result", "data, or null", shown(result))
        return _records(result, None, received)
    if result.__class__ is list and any(item.__class__ is dict for item in result):
        return _items(result, None, received)
    return []


def _record(data: dict[str, Any], received: Received) -> Record:
    """The record of one message; `stream` is in it where its stream has a name."""
    kind = data.get("e")
    form = _EVENTS.get(kind) if kind.__class__ is str else _form_by_fields(data) if kind is None else None
    if form is None:
        expected = _NOT_READ.get(kind) if kind.__class__ is str else None
        raise Rejected("e", expected or f"one of {', '.join(_EVENTS)}", "missing" if kind is None else shown(kind))
    return form.record(data, received)


def _form_by_fields(data: dict[str, Any]) -> Form | None:
    """The form of a message that names no event."""
    if "B" in data and "u" in data:
        return _BOOK_TICKER
    if "bidPrice" in data and "askPrice" in data:
        return _REST_QUOTE
    if "lastUpdateId" in data:
        return _SNAPSHOT
    if "bids" in data and "u" in data:
        return _OPTION_SNAPSHOT
    if "markPrice" in data:
        return _REST_MARK
    if "price" in data and "qty" in data:
        return _REST_TRADE
    if "a" in data and "p" in data and "f" in data and "l" in data:
        return _REST_AGGREGATE
    return None


def _no_symbol() -> Rejected:
    where = "a symbol: in the message, its stream or its request, or the only one on its connection"
    return Rejected("symbol", where, "missing")


def _no_stream() -> Rejected:
    return Rejected("stream", "the name of the stream, for the connection carries several of one book", "missing")


def _other_book() -> Rejected:
    return Rejected("stream", "a book without orders of retail price improvement", "rpiDepth")


class _Address(NamedTuple):
    """What the address of a connection or a request tells."""

    venue: str | None = None
    streams: tuple[str, ...] = ()  # that a connection was opened for


@lru_cache(maxsize=4096)
def _address(url: str | None) -> _Address:
    try:
        parts = urlsplit(url or "")
        host, names = parts.hostname or "", parse_qs(parts.query).get("streams", [])
    except ValueError:
        return _Address()
    path = parts.path.strip("/").split("/")
    streams = path[path.index("ws") + 1 :] if "ws" in path else "/".join(names).split("/")
    venue = _PATHS.get(path[0])
    if venue is None and host.endswith(tuple(f".{domain}" for domain in _DOMAINS)):
        venue = _HOSTS.get(host) or _HOSTS.get(host.partition(".")[0])
    return _Address(venue, tuple(filter(None, streams)))


@lru_cache(maxsize=16384)
def _family(symbol: str, stream: str | None, url: str | None, otherwise: str) -> str:
    """The venue that a symbol belongs to; `otherwise` is what the fields of its message alone tell."""
    venue = _address(url).venue
    if venue is not None and venue != USDM:
        return venue
    # Options are served at the address of USD-M futures too.
    if _OPTION.fullmatch(symbol) or (stream or "").partition("@")[2].startswith("option"):
        return OPTIONS
    if venue is not None:
        return venue
    return COINM if _COINM.fullmatch(symbol) else otherwise


@lru_cache(maxsize=16384)
def _levels_of_stream(symbol: str, stream: str | None, url: str | None) -> int | None:
    """How many levels a side a symbol's depth stream shows; None where it sends differences.

    A bare message has no stream name: then it must be the only one of its symbol on its connection.  Raises `Rejected`.
    """
    names = (stream,) if stream is not None else _address(url).streams
    streams = [name for name in map(_DEPTH_STREAM.fullmatch, names) if name and (stream or name["symbol"].upper() == symbol)]
    kinds = {(name["kind"], name["levels"]) for name in streams}
    if any(kind != "depth" for kind, _ in kinds):
        raise _other_book()
    if len(kinds) > 1:
        raise _no_stream()
    shown_levels = next((number for _, number in kinds), "")
    return int(shown_levels) if shown_levels else None


def _ms(value: Any) -> Any:
    """An exchange time in milliseconds; what is no number stays as it is, for whoever checks it."""
    return value // 1000 if value.__class__ is int and value >= _MICROSECONDS_FROM else value


def _time(value: Any, received: Received) -> tuple[str, str] | None:
    return EVENT_TIME(_ms(value), received)


def _paid_at(value: Any, received: Received) -> tuple[str, str] | None:
    return PAID_AT(_ms(value), received)


def _borrowed_time(received: Received) -> int:
    newest = received.newest_event_ms
    return received.received_us // 1000 if newest is None else newest


def _told_time(data: Any, received: Received, *fields: str) -> Any:
    """The time in the first of `fields` that a message has, else a borrowed one."""
    for field in fields:
        if field in data:
            return _ms(data[field])
    return _borrowed_time(received)


def _change(data: Any, received: Received) -> Record:
    """A difference, or the top of a book: of futures and options both come as one event, and only the stream's name tells."""
    symbol, stream = data["s"], data.get("stream")
    has_previous = "pu" in data
    venue = _family(symbol, stream, received.url, USDM if has_previous else SPOT)
    depth = _levels_of_stream(symbol, stream, received.url) if has_previous or stream is not None else None
    if depth is not None:
        return _book(data, venue, symbol, _ms(data["E"]), received, "snapshot", data["u"], None, depth)
    if not has_previous and venue != SPOT:
        raise Rejected("pu", "a whole number from 0 to 2^63 - 1", "missing")
    previous = data["pu"] if has_previous else data["U"] - 1
    return _book(data, venue, symbol, _ms(data["E"]), received, "change", data["u"], previous, None)


def _option_top(data: Any, received: Received) -> Record:
    """The top of an option's book as it came before December 2025; where no stream tells how deep, as deep as it is."""
    symbol, stream = data["s"], data.get("stream")
    depth = _levels_of_stream(symbol, stream, received.url) or max(len(data["b"]), len(data["a"]), 1)
    venue = _family(symbol, stream, received.url, OPTIONS)
    return _book(data, venue, symbol, _ms(data["E"]), received, "snapshot", data["u"], None, depth)


def _snapshot(data: Any, received: Received) -> Record:
    """A snapshot: of the whole book where it answers a request, of its top where a stream sends it."""
    method, params = asked(received)
    if method == "rpiDepth":
        raise _other_book()
    names = (data["stream"],) if "stream" in data else _address(received.url).streams
    streams = [name for name in map(_DEPTH_STREAM.fullmatch, names) if name and name["levels"]]
    symbols, depths = {name["symbol"].upper() for name in streams}, {int(name["levels"]) for name in streams}
    symbol = data.get("symbol")
    if symbol is None:
        if len(symbols) > 1:
            raise _no_symbol()
        symbol = next(iter(symbols), None) or params.get("symbol") or received.symbol
    if symbol is None:
        raise _no_symbol()
    if len(depths) > 1:
        raise _no_stream()
    otherwise = COINM if "pair" in data else USDM if "E" in data else OPTIONS if "T" in data else SPOT
    venue = _family(symbol, data.get("stream"), received.url, otherwise)
    event_ms, depth = _told_time(data, received, "E", "T"), next(iter(depths), None)
    return _book(data, venue, symbol, event_ms, received, "snapshot", data["lastUpdateId"], None, depth)


def _option_snapshot(data: Any, received: Received) -> Record:
    """An option's book as REST answered it before December 2025."""
    return _snapshot({**data, "lastUpdateId": data["u"]}, received)


def _book(
    data: Any,
    venue: str,
    symbol: Any,
    event_ms: Any,
    received: Received,
    kind: str,
    sequence: Any,
    previous: Any,
    depth: int | None,
) -> Record:
    bids, asks = ("b", "a") if "b" in data else ("bids", "asks")
    event_at, received_at = instants(event_ms, received.received_us)
    if (
        symbol.__class__ is not str
        or not symbol
        or sequence.__class__ is not int
        or not 0 <= sequence <= MAX_SEQUENCE
        or (kind == "change" and (previous.__class__ is not int or not 0 <= previous <= MAX_SEQUENCE))
    ):
        raise ValueError
    row: OrderBooksRow = {
        "venue": venue,
        "instrument": symbol,
        "event_at": event_at,
        "received_at": received_at,
        "kind": kind,
        "sequence": sequence,
        "prev_sequence": previous,
        "bids": _side(data[bids]),
        "asks": _side(data[asks]),
        "checksum": None,
        "depth": depth,
    }
    if kind == "snapshot":
        uncrossed(row["bids"], row["asks"])
    return Record("order_books", event_ms, row)


def _side(raw: list[Any]) -> Levels:
    if raw.__class__ is not list:
        raise TypeError
    side = []
    for price_text, size_text in raw:
        price, size = float(price_text), float(size_text)
        if not (0.0 < price <= MAX_PRICE and 0.0 <= size <= MAX_SIZE):
            raise ValueError
        side.append([price, size])
    return side


def _book_ticker(data: Any, received: Received) -> Record:
    symbol, sequence = data["s"], data["u"]
    event_ms = _ms(data["E"]) if "e" in data else _borrowed_time(received)
    venue = _family(symbol, data.get("stream"), received.url, USDM if "e" in data else SPOT)
    if symbol.__class__ is not str or not symbol or sequence.__class__ is not int or not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError
    row = quiet_ticker(venue, symbol, event_ms, received)
    row["sequence"] = sequence
    row["has_quote"] = True
    row["bid_price"], row["bid_size"] = _best(data, "b", "B")
    row["ask_price"], row["ask_size"] = _best(data, "a", "A")
    return Record("tickers", event_ms, row)


def _rest_quote(data: Any, received: Received) -> Record:
    event_ms = _told_time(data, received, "time", "closeTime")
    otherwise = USDM if "time" in data else SPOT
    row = _ticker(data, "symbol", event_ms, otherwise, received)
    row["has_quote"] = True
    row["bid_price"], row["bid_size"] = _best(data, "bidPrice", "bidQty" if "bidQty" in data else None)
    row["ask_price"], row["ask_size"] = _best(data, "askPrice", "askQty" if "askQty" in data else None)
    row["last_price"] = _number(data, "lastPrice") or None
    return Record("tickers", event_ms, row)


def _ticker(data: Any, symbol_field: str, event_ms: Any, otherwise: str, received: Received) -> TickersRow:
    symbol = text(data[symbol_field])
    return quiet_ticker(_family(symbol, data.get("stream"), received.url, otherwise), symbol, event_ms, received)


def _best(data: Any, price_field: str, size_field: str | None) -> tuple[float | None, float | None]:
    """A best price and size; price 0 with size 0 is how the venue says that there is none.  Some messages tell no size."""
    price = float(data[price_field])
    size = float(data[size_field]) if size_field is not None else None
    if 0.0 < price <= MAX_PRICE and (size is None or 0.0 <= size <= MAX_SIZE):
        return price, size
    if price == 0 and not size:
        return None, None
    if price == 0:
        raise Rejected(price_field, f"a price above 0 beside a size of {size}", shown(data[price_field]))
    raise ValueError


def _number(data: Any, field: str) -> float | None:
    """A number from 0 on; None where the field is missing, null, empty or negative, which is how the venue says none."""
    value = data.get(field)
    if value is None or value == "":
        return None
    number = float(value)
    if not -MAX_PRICE <= number <= MAX_PRICE:
        raise ValueError
    return number if number >= 0 else None


def _statistics(data: Any, received: Received) -> Record:
    """A day's statistics, of which the last price and the best prices are taken; futures tell no best prices in it."""
    event_ms = _ms(data["E"])
    has_quote = "b" in data and "B" in data
    row = _ticker(data, "s", event_ms, SPOT if has_quote else USDM, received)
    row["last_price"] = _number(data, "c") or None
    if has_quote:
        row["has_quote"] = True
        row["bid_price"], row["bid_size"] = _best(data, "b", "B")
        row["ask_price"], row["ask_size"] = _best(data, "a", "A")
    return Record("tickers", event_ms, row)


def _mark(data: Any, received: Received) -> Record:
    event_ms = _ms(data["E"])
    row = _ticker(data, "s", event_ms, USDM, received)
    row["mark_price"] = _positive(data["p"])
    row["index_price_usd"] = _index_usd(row, _number(data, "i"))
    tell(row, data.get("r"), _ms(data.get("T")))
    return Record("tickers", event_ms, row)


def _contract_info(data: Any, received: Received) -> Record:
    """The status of a contract when it changes, from the stream !contractInfo."""
    symbol, status = text(data["s"]), data["cs"]
    if status not in _STATES:
        raise ValueError
    venue = _family(symbol, data.get("stream"), received.url, USDM)
    return halt(venue, symbol, status, status not in _TRADING, _ms(data["E"]), received)


def _rest_mark(data: Any, received: Received) -> Record:
    """A mark price as REST tells it: with the index for futures, with volatilities for options."""
    event_ms = _told_time(data, received, "time")
    row = _ticker(data, "symbol", event_ms, USDM, received)
    row["mark_price"] = _number(data, "markPrice")
    row["index_price_usd"] = _index_usd(row, _number(data, "indexPrice"))
    tell(row, data.get("lastFundingRate"), _ms(data.get("nextFundingTime")))
    row["mark_iv"], row["bid_iv"], row["ask_iv"] = (_number(data, field) or None for field in ("markIV", "bidIV", "askIV"))
    row["interest_rate"] = _number(data, "riskFreeInterest")
    row["min_price"], row["max_price"] = _number(data, "lowPriceLimit"), _number(data, "highPriceLimit")
    return Record("tickers", event_ms, row)


def _option_mark(data: Any, received: Received) -> Record:
    event_ms = _ms(data["E"])
    row = _ticker(data, "s", event_ms, OPTIONS, received)
    row["mark_price"] = _number(data, "mp")
    row["index_price_usd"] = _number(data, "i") or None
    row["last_price"] = _number(data, "c") or None
    row["mark_iv"], row["bid_iv"], row["ask_iv"] = (_number(data, field) or None for field in ("vo", "b", "a"))
    row["interest_rate"] = _number(data, "rf")
    row["min_price"], row["max_price"] = _number(data, "ll"), _number(data, "hl")
    if "bo" in data and "ao" in data:
        row["has_quote"] = True
        row["bid_price"], row["bid_size"] = _best(data, "bo", "bq" if "bq" in data else None)
        row["ask_price"], row["ask_size"] = _best(data, "ao", "aq" if "aq" in data else None)
    return Record("tickers", event_ms, row)


def _open_interest(data: Any, received: Received) -> Record:
    event_ms = _ms(data["E"])
    row = _ticker(data, "s", event_ms, OPTIONS, received)
    row["open_interest"] = _number(data, "o")
    return Record("tickers", event_ms, row)


def _index_usd(row: TickersRow, index: float | None) -> float | None:
    """The index of a contract where it is in dollars of some kind; None where it is in another coin."""
    return index if index and _underlying(row["venue"], row["instrument"]) else None


@lru_cache(maxsize=16384)
def _underlying(venue: str, symbol: str) -> tuple[str, str] | None:
    """The underlying of a contract and the dollar that its index is in; None where it is in no dollar."""
    name = _NAMES[venue].fullmatch(symbol)
    quote = name.groupdict().get("quote", "USDT") if name else None
    return (name["base"], quote) if name and quote in _DOLLARS else None


def _with_indices(records: list[Record | Rejected]) -> list[Record | Rejected]:
    """The records of a message, and each index that its tickers are told with, once."""
    indices: dict[tuple[str, str, str], Record] = {}
    for record in records:
        if not isinstance(record, Record) or record.table != "tickers" or not record.row["index_price_usd"]:
            continue
        row = record.row
        about = _underlying(row["venue"], row["instrument"])
        if about is None:
            continue
        price_usd = row["index_price_usd"]
        indices[(row["venue"], *about)] = _index_row(row, row["venue"], about, record.event_ms, price_usd)
    return [*records, *indices.values()]


def _index_row(times: Mapping[str, Any], venue: str, about: tuple[str, str], event_ms: int, price_usd: float) -> Record:
    row: IndexPricesRow = {
        "venue": venue,
        "underlying": about[0],
        "event_at": times["event_at"],
        "received_at": times["received_at"],
        "price_usd": price_usd,
        "confidence_usd": None,
        "quote_currency": about[1],
    }
    return Record("index_prices", event_ms, row)


def _index_form(pair_field: str, venue: str) -> Form:
    def build(data: Any, received: Received) -> Record:
        event_ms = _ms(data["E"])
        event_at, received_at = instants(event_ms, received.received_us)
        pair = _INDEX.fullmatch(data[pair_field])
        if pair is None:
            raise ValueError
        times = {"event_at": event_at, "received_at": received_at}
        return _index_row(times, venue, (pair["base"], pair["quote"]), event_ms, _positive(data["p"]))

    is_pair = expect(f"a pair in {', '.join(_DOLLARS)}", _INDEX.fullmatch)
    return Form(build, {"E": _time, pair_field: is_pair, "p": _PRICE})


def _trade(data: Any, received: Received) -> Record:
    if "m" not in data and "S" in data:
        return _OPTION_TRADE.record(data, received)
    is_maker_buyer = data["m"]
    if is_maker_buyer.__class__ is not bool:
        raise TypeError
    # Each numbered apart, so that several streams of one instrument may be taken.
    prefix, id_field = _TRADE_IDS[data["e"]]
    side, venue = "sell" if is_maker_buyer else "buy", SPOT if "M" in data or prefix == "b" else USDM
    return _execution(
        data, received, _ms(data["T"]), data["s"], prefix, data[id_field], side, data["p"], float(data["q"]), venue
    )


def _option_trade(data: Any, received: Received) -> Record:
    """An option's trade as it came before December 2025: a sale has a size below 0."""
    side, size = _SIDES[data["S"]], abs(float(data["q"]))
    return _execution(data, received, _ms(data["T"]), data["s"], "", data["t"], side, data["p"], size, OPTIONS)


def _rest_trade(data: Any, received: Received) -> Record:
    is_maker_buyer, size = data.get("isBuyerMaker"), abs(float(data["qty"]))
    if is_maker_buyer.__class__ is bool:
        trade_id, side, venue = data["id"], "sell" if is_maker_buyer else "buy", SPOT if "isBestMatch" in data else USDM
    else:
        trade_id, side, venue = data["tradeId"], _SIDES[data["side"]], OPTIONS
    symbol = _symbol_asked(data, received)
    return _execution(data, received, _ms(data["time"]), symbol, "", trade_id, side, data["price"], size, venue)


def _rest_aggregate(data: Any, received: Received) -> Record:
    is_maker_buyer = data["m"]
    if is_maker_buyer.__class__ is not bool:
        raise TypeError
    side, venue = "sell" if is_maker_buyer else "buy", SPOT if "M" in data else USDM
    symbol = _symbol_asked(data, received)
    return _execution(data, received, _ms(data["T"]), symbol, "a", data["a"], side, data["p"], float(data["q"]), venue)


def _symbol_asked(data: Any, received: Received) -> Any:
    """The symbol that a REST answer is about.  Raises `Rejected` where nothing tells it."""
    symbol = data.get("symbol") or asked(received).params.get("symbol") or received.symbol
    if symbol is None:
        raise _no_symbol()
    return symbol


def _execution(
    data: Any,
    received: Received,
    event_ms: Any,
    symbol: Any,
    prefix: str,
    trade_id: Any,
    side: str,
    price_text: Any,
    size: float,
    otherwise: str,
) -> Record:
    event_at, received_at = instants(event_ms, received.received_us)
    price = float(price_text)
    if (
        symbol.__class__ is not str
        or not symbol
        or trade_id.__class__ is not int
        or not (0 <= trade_id <= MAX_SEQUENCE and 0.0 < price <= MAX_PRICE and 0.0 < size <= MAX_SIZE)
    ):
        raise ValueError
    row: TradesRow = {
        "venue": _family(symbol, data.get("stream"), received.url, otherwise),
        "instrument": symbol,
        "event_at": event_at,
        "received_at": received_at,
        "trade_id": f"{prefix}{trade_id}",
        "side": side,
        "price": price,
        "size": size,
        "off_market": _OFF_MARKET[data["X"]] if "X" in data else "block" if _is_block(data, received) else None,
    }
    return Record("trades", event_ms, row)


def _is_block(data: Any, received: Received) -> bool:
    return data.get("e") == "blockTrade" or asked(received).method == "blockTrades"


def _listing(field: str, items: Any, received: Received) -> list[Record | Rejected]:
    if type(items) is not list:
        raise Rejected(field, "a list", shown(items))
    venue = _address(received.url).venue or _family_of_listing(field, items)
    form = _LISTED[venue]

    def records(item: Any) -> list[Record]:
        terms = form.record({**item, "venue": venue} if item.__class__ is dict else item, received)
        return with_status(terms, item.get("status", item.get("contractStatus")), _TRADING, received)

    return every(items, records)


def _family_of_listing(field: str, items: list[Any]) -> str:
    """The venue of a listing: its items are all of one, and an odd one among them does not tell otherwise."""
    if field == "optionSymbols":
        return OPTIONS
    told = {name for item in items if item.__class__ is dict for name, value in item.items() if value is not None}
    return COINM if "contractSize" in told else USDM if told.intersection(_FUTURES_FIELDS) else SPOT


def _spot_listed(data: Any, received: Received) -> Record:
    return _contract(data, received, "spot", text(data["baseAsset"]), text(data["quoteAsset"]))


def _future_listed(data: Any, received: Received) -> Record:
    is_dated = data["contractType"] in _DATED
    if not is_dated and data["contractType"] not in _PERPETUAL:
        raise ValueError
    base, settlement = text(data["baseAsset"]), text(data["marginAsset"])
    return _contract(
        data,
        received,
        "future" if is_dated else "perpetual",
        base,
        settlement,
        is_inverse=settlement == base,
        expiry_at=expiry(data["deliveryDate"]) if is_dated else None,
        contract_size=_positive(data["contractSize"]) if data["venue"] == COINM else 1.0,
    )


def _option_listed(data: Any, received: Received) -> Record:
    quote, pair = text(data["quoteAsset"]), text(data["underlying"])
    if not pair.endswith(quote):
        raise Rejected("underlying", f"a pair in {quote}", shown(pair))
    return _contract(
        data,
        received,
        "option",
        pair.removesuffix(quote),
        quote,
        option_type=_OPTION_TYPES[data["side"]],
        strike_usd=_positive(data["strikePrice"]),
        expiry_at=expiry(data["expiryDate"]),
        contract_size=_positive(data["unit"]),
    )


def _contract(
    data: Any,
    received: Received,
    kind: str,
    underlying: str,
    settlement: str,
    *,
    is_inverse: bool = False,
    expiry_at: str | None = None,
    contract_size: float = 1.0,
    option_type: str | None = None,
    strike_usd: float | None = None,
) -> Record:
    for field in ("status", "contractStatus"):
        if data.get(field, "TRADING") not in _STATES:
            raise ValueError
    return listed(
        data["venue"],
        text(data["symbol"]),
        received,
        kind=kind,
        underlying=text(underlying),
        quote_currency=text(data["quoteAsset"]),
        settlement_currency=settlement,
        is_inverse=is_inverse,
        option_type=option_type,
        strike_usd=strike_usd,
        expiry_at=expiry_at,
        contract_size=contract_size,
        amount_per_contract=1.0,
        tick_size=_tick_size(data.get("filters", [])),
    )


def _tick_size(filters: list[Any]) -> float | None:
    for rule in filters:
        if rule["filterType"] == "PRICE_FILTER" and "tickSize" in rule:
            step = float(rule["tickSize"])
            return _positive(step) if step else None  # 0 is how the venue says that any price will do
    return None


def _positive(value: Any) -> float:
    number = float(value)
    if not 0.0 < number <= MAX_SIZE:
        raise ValueError
    return number


_PRICE = expect(f"a price above 0, up to {MAX_PRICE:g}", lambda value: 0.0 < float(value) <= MAX_PRICE)
_BEST_PRICE = expect(f"a price from 0 to {MAX_PRICE:g}", lambda value: 0.0 <= float(value) <= MAX_PRICE)
_BEST_SIZE = expect(f"a size from 0 to {MAX_SIZE:g}", lambda value: 0.0 <= float(value) <= MAX_SIZE)
_SIZE = expect(f"a size above 0, up to {MAX_SIZE:g}", _positive)
_SIGNED_SIZE = expect(f"a size other than 0, up to {MAX_SIZE:g}", lambda value: _positive(abs(float(value))))
_NUMBER = optional(expect("a number, or an empty text", lambda value: [_number({"": value}, "")]))
_LEVELS = levels(lambda level: _side([level]))
_EXECUTION = optional(expect(f"{', '.join(_OFF_MARKET)}: anything else is no execution", _OFF_MARKET.__contains__))
_SIDE = expect("BUY, SELL, 1 or -1", _SIDES.__getitem__)

_CHANGE = Form(
    _change,
    {
        "E": _time,
        "s": TEXT,
        "u": SEQUENCE,
        "pu": optional(SEQUENCE),
        "U": expect("a whole number above 0", lambda value: type(value) is int and 0 < value <= MAX_SEQUENCE),
        "b": _LEVELS,
        "a": _LEVELS,
    },
)
_SNAPSHOT = Form(
    _snapshot,
    {
        "E": optional(_time),
        "T": optional(_time),
        "symbol": optional(TEXT),
        "lastUpdateId": SEQUENCE,
        "bids": _LEVELS,
        "asks": _LEVELS,
    },
)
_OPTION_SNAPSHOT = Form(_option_snapshot, {"T": optional(_time), "u": SEQUENCE, "bids": _LEVELS, "asks": _LEVELS})
_BOOK_TICKER = Form(
    _book_ticker,
    {"s": TEXT, "u": SEQUENCE, "b": _BEST_PRICE, "B": _BEST_SIZE, "a": _BEST_PRICE, "A": _BEST_SIZE},
)
_REST_QUOTE = Form(
    _rest_quote,
    {
        "time": optional(_time),
        "closeTime": optional(_time),
        "symbol": TEXT,
        "bidPrice": _BEST_PRICE,
        "bidQty": optional(_BEST_SIZE),
        "askPrice": _BEST_PRICE,
        "askQty": optional(_BEST_SIZE),
        "lastPrice": _NUMBER,
    },
)
_REST_MARK = Form(
    _rest_mark,
    {
        "time": optional(_time),
        "symbol": TEXT,
        **dict.fromkeys(
            ("markPrice", "indexPrice", "markIV", "bidIV", "askIV", "riskFreeInterest", "lowPriceLimit", "highPriceLimit"),
            _NUMBER,
        ),
        "lastFundingRate": RATE,
        "nextFundingTime": _paid_at,
    },
)
_STATISTICS = Form(
    _statistics,
    {
        "E": _time,
        "s": TEXT,
        "c": _NUMBER,
        "b": optional(_BEST_PRICE),
        "B": optional(_BEST_SIZE),
        "a": optional(_BEST_PRICE),
        "A": optional(_BEST_SIZE),
    },
)
_OPTION_MARK = Form(
    _option_mark,
    {
        "E": _time,
        "s": TEXT,
        **dict.fromkeys(("mp", "i", "c", "vo", "b", "a", "rf", "ll", "hl"), _NUMBER),
        "bo": optional(_BEST_PRICE),
        "bq": optional(_BEST_SIZE),
        "ao": optional(_BEST_PRICE),
        "aq": optional(_BEST_SIZE),
    },
)
_TRADE_FIELDS = {"T": _time, "s": TEXT, "X": _EXECUTION, "p": _PRICE, "q": _SIZE, "m": TRUTH}
_OPTION_TRADE = Form(
    _option_trade,
    {"T": _time, "s": TEXT, "t": SEQUENCE, "X": _EXECUTION, "p": _PRICE, "q": _SIGNED_SIZE, "S": _SIDE},
)
_REST_TRADE = Form(
    _rest_trade,
    {
        "symbol": optional(TEXT),
        "time": _time,
        "price": _PRICE,
        "qty": _SIGNED_SIZE,
        "isBuyerMaker": optional(TRUTH),
        "id": optional(SEQUENCE),
        "tradeId": optional(SEQUENCE),
        "side": optional(_SIDE),
    },
)
_REST_AGGREGATE = Form(
    _rest_aggregate, {"symbol": optional(TEXT), "T": _time, "a": SEQUENCE, "p": _PRICE, "q": _SIZE, "m": TRUTH}
)
_EVENTS = {
    "depthUpdate": _CHANGE,
    "depth": Form(_option_top, {"E": _time, "s": TEXT, "u": SEQUENCE, "b": _LEVELS, "a": _LEVELS}),
    "bookTicker": Form(_book_ticker, {"E": _time, **_BOOK_TICKER.fields}),
    "trade": Form(_trade, {**_TRADE_FIELDS, "t": SEQUENCE}),
    "aggTrade": Form(_trade, {**_TRADE_FIELDS, "a": SEQUENCE}),
    "blockTrade": Form(_trade, {**_TRADE_FIELDS, "t": SEQUENCE}),
    "24hrTicker": Form(lambda data, received: (_OPTION_MARK if "bo" in data else _STATISTICS).record(data, received), {}),
    "markPriceUpdate": Form(_mark, {"E": _time, "s": TEXT, "p": _PRICE, "i": _NUMBER, "r": RATE, "T": _paid_at}),
    "markPrice": _OPTION_MARK,
    "contractInfo": Form(_contract_info, {"E": _time, "s": TEXT, "cs": one_of(*_STATES)}),
    "openInterest": Form(_open_interest, {"E": _time, "s": TEXT, "o": _NUMBER}),
    "indexPriceUpdate": _index_form("i", COINM),
    "indexPrice": _index_form("s", OPTIONS),
    "index": _index_form("s", OPTIONS),
}
_SPOT_FIELDS = {
    "symbol": TEXT,
    "baseAsset": TEXT,
    "quoteAsset": TEXT,
    **dict.fromkeys(("status", "contractStatus"), optional(one_of(*_STATES))),
    "filters": optional(expect("a list of filters, each with a filterType", lambda value: [_tick_size(value)])),
}
_FUTURE_FIELDS = {
    **_SPOT_FIELDS,
    "contractType": one_of(*_PERPETUAL, *_DATED),
    "marginAsset": TEXT,
    "deliveryDate": expect("milliseconds since 1970, before the year 2100", expiry),
}
_LISTED = {
    SPOT: Form(_spot_listed, _SPOT_FIELDS),
    USDM: Form(_future_listed, _FUTURE_FIELDS),
    COINM: Form(_future_listed, {"contractSize": _SIZE, **_FUTURE_FIELDS}),
    OPTIONS: Form(
        _option_listed,
        {
            "symbol": TEXT,
            "quoteAsset": TEXT,
            "underlying": TEXT,
            "status": optional(one_of(*_STATES)),
            "side": one_of(*_OPTION_TYPES),
            "strikePrice": _SIZE,
            "unit": _SIZE,
            "filters": _SPOT_FIELDS["filters"],
            "expiryDate": expect("milliseconds since 1970, before the year 2100", expiry),
        },
    ),
}


_SESSIONS = {  # host of the streams, base of the answers, name of the stream of trades
    SPOT: ("wss://stream.binance.com:9443", "https://api.binance.com/api/v3", "trade"),
    USDM: ("wss://fstream.binance.com", "https://fapi.binance.com/fapi/v1", "aggTrade"),
    COINM: ("wss://dstream.binance.com", "https://dapi.binance.com/dapi/v1", "aggTrade"),
    OPTIONS: ("wss://fstream.binance.com/public", "https://eapi.binance.com/eapi/v1", "optionTrade"),
}
MARKETS = tuple(_SESSIONS)
_STREAMS_PER_REQUEST = 100


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is sent to a market of Binance: depth, best prices, trades and, of futures, marks of the symbols.

    Whole books are asked for over HTTP.  `url` is the base of the combined streams, `rest_url` that of the answers.  Raises
    `KeyError` for another market.
    """
    stream_base, rest_base, trades = _SESSIONS[market]
    kinds = ["depth@100ms", "bookTicker", trades, *(["markPrice@1s"] if market in (USDM, COINM) else [])]
    rest = rest_url or rest_base

    def requests(method: str, symbols: Sequence[str]) -> list[Request]:
        streams = [f"{symbol.lower()}@{kind}" for symbol in symbols for kind in kinds]
        return [
            {"method": method, "params": batch, "id": number}
            for number, batch in enumerate(batches(streams, _STREAMS_PER_REQUEST), 1)
        ]

    return Session(
        "binance",
        market,
        f"{url or stream_base}/stream",
        opening=[{"method": "SUBSCRIBE", "params": ["!contractInfo"], "id": 0}] if market in (USDM, COINM) else [],
        subscribe=lambda symbols: requests("SUBSCRIBE", symbols),
        unsubscribe=lambda symbols: requests("UNSUBSCRIBE", symbols),
        listings=[Ask(f"{rest}/exchangeInfo")],
        snapshot=lambda symbol: Ask(f"{rest}/depth?symbol={symbol}&limit=1000"),
        refusal=_refusal,
        limits=Limits(requests_per_s=4.0, symbols_per_connection=50, asks_per_s=2.0),
    )


def _refusal(message: bytes) -> str | None:
    if b'"error"' not in message[:40]:
        return None
    error = object_in(message).get("error")
    return str(error.get("msg")) if isinstance(error, dict) else None

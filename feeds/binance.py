"""Binance: spot, USD-M and COIN-M futures, streams (combined or bare) and REST answers.

Which of the three a message comes from is told from the message itself.  Prices and sizes come as decimal strings; a
COIN-M size is in contracts, any other in the base coin.  Dated futures expire at 08:00 UTC.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

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
    decoded,
    each,
    expect,
    instants,
    levels,
    listed,
    nullable,
    optional,
    quiet_ticker,
    text,
    uncrossed,
)
from schemas.records import OrderBooksRow, TradesRow
from schemas.rows import instant_ms, shown

SPOT, USDM, COINM = "binance_spot", "binance_usdm", "binance_coinm"

_QUOTES = (
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "DAI", "USD1"),
    *("BTC", "ETH", "BNB", "TRX", "DOGE", "XRP", "SOL", "EUR", "GBP", "TRY", "BRL", "JPY", "AUD", "UAH", "RUB", "ZAR"),
    *("PLN", "RON", "ARS", "MXN", "COP", "CZK", "IDRT", "BIDR", "NGN"),
)
_PAIR = re.compile(rf"(?P<base>[A-Z0-9]+?)(?P<quote>{'|'.join(_QUOTES)})")
_USDM = re.compile(rf"{_PAIR.pattern}(?:_(?P<delivery>\d{{6}}))?")
_COINM = re.compile(r"(?P<base>[A-Z0-9]+)(?P<quote>USD)_(?:PERP|(?P<delivery>\d{6}))")
_NAMES = {SPOT: _PAIR, USDM: _USDM, COINM: _COINM}


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw Binance message; none for an acknowledgement.

    A spot best price and a spot depth snapshot have no time: they take the newest exchange time that the connection has
    shown, else the received time; a listing of instruments takes one before all that could refer to it.  Raises `Rejected`.
    """
    data: Any = decoded(message)
    if "stream" in data:
        data = data.get("data")
        if data.__class__ is not dict:
            raise Rejected("data", "a JSON object", shown(data))
    kind = data.get("e")
    form = _EVENTS.get(kind) if kind.__class__ is str else None
    if form is not None:
        return [form.record(data, received)]
    if kind is not None:
        raise Rejected("e", f"one of {', '.join(_EVENTS)}", shown(kind))
    if "lastUpdateId" in data:
        return [_SNAPSHOT.record(data, received)]
    if "u" in data and "B" in data:
        return [_BOOK_TICKER.record(data, received)]
    if "symbols" in data:
        return _instruments(data["symbols"], received)
    if data.get("error") is not None or "code" in data:
        raise Rejected("error" if "error" in data else "code", "a result", shown(data.get("error") or data))
    if "result" in data:
        return []
    raise Rejected("e", f"one of {', '.join(_EVENTS)}", "missing")


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """The contract terms in a Binance symbol: `BTCUSDT`, `BTCUSDT_240927`, `BTCUSD_PERP`, `BTCUSD_240927`.

    Linear contracts and spot count in coins: contract size 1.  COIN-M contracts are 100 USD on BTC, 10 USD on all else.
    """
    pattern = _NAMES.get(venue)
    name = pattern.fullmatch(symbol) if pattern else None
    if name is None:
        return None
    base, quote = name["base"], name["quote"]
    delivery = name.groupdict().get("delivery")
    expiry_at = None
    if delivery:
        try:
            expiry = datetime(2000 + int(delivery[:2]), int(delivery[2:4]), int(delivery[4:]), 8, tzinfo=UTC)
        except ValueError:
            return None
        expiry_at = instant_ms(int(expiry.timestamp()) * 1000)
    return listed(
        venue,
        symbol,
        received,
        kind="spot" if venue == SPOT else "future" if expiry_at else "perpetual",
        underlying=base,
        quote_currency=quote,
        settlement_currency=base if venue == COINM else quote,
        is_inverse=venue == COINM,
        expiry_at=expiry_at,
        contract_size=1.0 if venue != COINM else 100.0 if base == "BTC" else 10.0,
    )


def _change(data: Any, received: Received) -> Record:
    event_ms, symbol, sequence = data["E"], data["s"], data["u"]
    event_at, received_at = instants(event_ms, received.received_us)
    if "pu" in data:
        venue, previous = COINM if "ps" in data else USDM, data["pu"]
    else:
        venue, previous = SPOT, data["U"] - 1
    if (
        symbol.__class__ is not str
        or not symbol
        or sequence.__class__ is not int
        or previous.__class__ is not int
        or not (0 <= previous <= MAX_SEQUENCE and 0 <= sequence <= MAX_SEQUENCE)
    ):
        raise ValueError
    row: OrderBooksRow = {
        "venue": venue,
        "instrument": symbol,
        "event_at": event_at,
        "received_at": received_at,
        "kind": "change",
        "sequence": sequence,
        "prev_sequence": previous,
        "bids": _side(data["b"]),
        "asks": _side(data["a"]),
        "checksum": None,
        "depth": None,
    }
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


def _snapshot(data: Any, received: Received) -> Record:
    if "pair" in data:
        venue = COINM
    else:
        venue = USDM if "E" in data else SPOT
    event_ms = data["E"] if "E" in data else _borrowed_time(received)
    symbol = data.get("symbol", received.symbol)
    if symbol is None:
        raise Rejected("symbol", "a symbol, in the snapshot or as the only one on its connection", "missing")
    event_at, received_at = instants(event_ms, received.received_us)
    sequence = data["lastUpdateId"]
    if sequence.__class__ is not int or not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError
    row: OrderBooksRow = {
        "venue": venue,
        "instrument": text(symbol),
        "event_at": event_at,
        "received_at": received_at,
        "kind": "snapshot",
        "sequence": sequence,
        "prev_sequence": None,
        "bids": _side(data["bids"]),
        "asks": _side(data["asks"]),
        "checksum": None,
        "depth": None,
    }
    uncrossed(row["bids"], row["asks"])
    return Record("order_books", event_ms, row)


def _book_ticker(data: Any, received: Received) -> Record:
    symbol, sequence = data["s"], data["u"]
    if "e" in data:
        venue, event_ms = COINM if "ps" in data else USDM, data["E"]
    else:
        venue, event_ms = SPOT, _borrowed_time(received)
    if symbol.__class__ is not str or not symbol or sequence.__class__ is not int or not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError
    row = quiet_ticker(venue, symbol, event_ms, received)
    row["sequence"] = sequence
    row["has_quote"] = True
    row["bid_price"], row["bid_size"] = _best(data, "b", "B")
    row["ask_price"], row["ask_size"] = _best(data, "a", "A")
    return Record("tickers", event_ms, row)


def _best(data: Any, price_field: str, size_field: str) -> tuple[float | None, float | None]:
    """A best price and size; price 0 with size 0 is how the venue says that there is none."""
    price, size = float(data[price_field]), float(data[size_field])
    if 0.0 < price <= MAX_PRICE and 0.0 <= size <= MAX_SIZE:
        return price, size
    if price == 0 and size == 0:
        return None, None
    if price == 0:
        raise Rejected(price_field, f"a price above 0 beside a size of {size}", shown(data[price_field]))
    raise ValueError


def _borrowed_time(received: Received) -> int:
    newest = received.newest_event_ms
    return received.received_us // 1000 if newest is None else newest


def _trade(data: Any, received: Received) -> Record:
    event_ms, symbol, is_maker_buyer = data["T"], data["s"], data["m"]
    event_at, received_at = instants(event_ms, received.received_us)
    price, size = float(data["p"]), float(data["q"])
    # Numbered apart from single trades, so that both streams of one instrument may be taken.
    trade_id, prefix = (data["a"], "a") if data["e"] == "aggTrade" else (data["t"], "")
    if (
        symbol.__class__ is not str
        or not symbol
        or is_maker_buyer.__class__ is not bool
        or trade_id.__class__ is not int
        or not (0 <= trade_id <= MAX_SEQUENCE and 0.0 < price <= MAX_PRICE and 0.0 < size <= MAX_SIZE)
    ):
        raise ValueError
    row: TradesRow = {
        "venue": SPOT if "M" in data else COINM if "USD_" in symbol else USDM,
        "instrument": symbol,
        "event_at": event_at,
        "received_at": received_at,
        "trade_id": f"{prefix}{trade_id}",
        "side": "sell" if is_maker_buyer else "buy",
        "price": price,
        "size": size,
        "off_market": None,
    }
    return Record("trades", event_ms, row)


def _instruments(symbols: Any, received: Received) -> list[Record | Rejected]:
    if type(symbols) is not list:
        raise Rejected("symbols", "a list", shown(symbols))
    return each(symbols, lambda symbol: _INSTRUMENT.record(symbol, received))


def _instrument(data: Any, received: Received) -> Record:
    base, quote = text(data["baseAsset"]), text(data["quoteAsset"])
    contract = data.get("contractType")
    venue = COINM if "contractSize" in data else SPOT if contract is None else USDM
    kind, expiry_at = "spot", None
    if contract is not None:
        kind = "perpetual" if contract.endswith("PERPETUAL") else "future"
    if kind == "future":
        expiry_at = instant_ms(data["deliveryDate"])
    settlement = quote if venue == SPOT else text(data["marginAsset"])
    return listed(
        venue,
        text(data["symbol"]),
        received,
        kind=kind,
        underlying=base,
        quote_currency=quote,
        settlement_currency=settlement,
        is_inverse=venue != SPOT and settlement == base,
        expiry_at=expiry_at,
        contract_size=_positive(data["contractSize"]) if venue == COINM else 1.0,
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
_LEVELS = levels(lambda level: _side([level]))

_CHANGE = Form(
    _change,
    {
        "E": EVENT_TIME,
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
    {"E": optional(EVENT_TIME), "symbol": optional(TEXT), "lastUpdateId": SEQUENCE, "bids": _LEVELS, "asks": _LEVELS},
)
_BOOK_TICKER = Form(
    _book_ticker,
    {"s": TEXT, "u": SEQUENCE, "b": _BEST_PRICE, "B": _BEST_SIZE, "a": _BEST_PRICE, "A": _BEST_SIZE},
)
_TRADE_FIELDS = {"T": EVENT_TIME, "s": TEXT, "p": _PRICE, "q": _SIZE, "m": TRUTH}
_EVENTS = {
    "depthUpdate": _CHANGE,
    "bookTicker": Form(_book_ticker, {"E": EVENT_TIME, **_BOOK_TICKER.fields}),
    "trade": Form(_trade, {**_TRADE_FIELDS, "t": SEQUENCE}),
    "aggTrade": Form(_trade, {**_TRADE_FIELDS, "a": SEQUENCE}),
}
_INSTRUMENT = Form(
    _instrument,
    {
        "symbol": TEXT,
        "baseAsset": TEXT,
        "quoteAsset": TEXT,
        "contractType": nullable(optional(expect("a text", lambda value: type(value) is str))),
        "deliveryDate": optional(expect("milliseconds since 1970", instant_ms)),
        "marginAsset": optional(TEXT),
        "contractSize": optional(_SIZE),
        "filters": optional(expect("a list of filters, each with a filterType", lambda value: [_tick_size(value)])),
    },
)

"""Deribit: JSON-RPC 2.0 over websocket, the same over REST.

Prices of inverse options are in coin, strikes and underlying prices in USD, vols come in percent and leave as fractions.
Contracts expire at 08:00 UTC.
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
    OBJECT,
    ODD,
    SEQUENCE,
    TEXT,
    Form,
    Levels,
    decoded,
    diagnosis,
    each,
    expect,
    instants,
    is_number,
    levels,
    listed,
    nullable,
    one_of,
    optional,
    text,
    uncrossed,
)
from schemas.records import IndexPricesRow, OrderBooksRow, TickersRow, TradesRow
from schemas.rows import instant_ms, shown

VENUE = "deribit"

_NUMBERS = (int, float)
_ACTIONS = ("new", "change", "delete")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_USD_PER_CONTRACT = {"BTC": 10.0, "ETH": 1.0}  # inverse futures and perpetuals
_INDEX_QUOTES = ("usd", "usdc", "usdt")
_NAME = re.compile(
    r"(?P<base>[A-Z0-9]+)(?:_(?P<quote>[A-Z0-9]+))?"
    r"(?:-(?:(?P<perpetual>PERPETUAL)"
    r"|(?P<day>\d{1,2})(?P<month>[A-Z]{3})(?P<year>\d{2})(?:-(?P<strike>\d+(?:d\d+)?)-(?P<type>[CP]))?))?"
)


def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
    """The records in one raw Deribit message; none for an acknowledgement or heartbeat.

    A listing of instruments has no time of its own and takes one before all that could refer to it.  Raises `Rejected`.
    """
    envelope = decoded(message)
    method = envelope.get("method")
    if method == "subscription":
        try:
            params = envelope["params"]
            channel, data = params["channel"], params["data"]
            kind = channel.partition(".")[0]
        except ODD:
            params = envelope.get("params")
            raise diagnosis(params, {"channel": TEXT, "data": OBJECT}, received) from None
        if kind == "book":
            return [_book_form(channel, data).record(data, received)]
        if kind == "trades":
            return each(_listed("data", data), lambda trade: _TRADE.record(trade, received))
        if kind in _CHANNELS:
            return [_CHANNELS[kind].record(data, received)]
        known = ", ".join(sorted(["book", "trades", *_CHANNELS]))
        raise Rejected("channel", f"a channel of {known}", shown(channel))
    if method == "heartbeat":
        return []
    if envelope.get("error") is not None:
        raise Rejected("error", "a result", shown(envelope["error"]))
    if "result" in envelope:
        return _instruments(envelope["result"], received)
    raise Rejected("method", "subscription, heartbeat or a result", "missing" if method is None else shown(method))


def describe(venue: str, symbol: str, received: Received) -> Record | None:
    """The contract terms in a Deribit name: `BTC-24SEP21-8000-P`, `BTC_USDC-PERPETUAL`, `XRP_USDC-27DEC24-0d625-C`.

    The contract size of a linear future or of a linear option on anything but BTC and ETH is not in its name: NULL.
    """
    name = _NAME.fullmatch(symbol)
    if name is None:
        return None
    base, quote, is_option = name["base"], name["quote"], name["strike"] is not None
    expiry_at = None
    if name["day"]:
        try:
            month = _MONTHS.index(name["month"]) + 1
            expiry = datetime(2000 + int(name["year"]), month, int(name["day"]), 8, tzinfo=UTC)
        except ValueError:
            return None
        expiry_at = instant_ms(int(expiry.timestamp()) * 1000)
    elif not name["perpetual"] and quote is None:
        return None
    kind = "option" if is_option else "future" if expiry_at else "perpetual" if name["perpetual"] else "spot"
    if is_option:
        contract_size = 1.0 if quote is None or base in ("BTC", "ETH") else None
    else:
        contract_size = _USD_PER_CONTRACT.get(base) if quote is None else None
    return listed(
        venue,
        symbol,
        received,
        kind=kind,
        underlying=base,
        quote_currency=quote or (base if is_option else "USD"),
        settlement_currency=quote or base,
        is_inverse=quote is None,
        option_type={"C": "call", "P": "put"}[name["type"]] if is_option else None,
        strike_usd=float(name["strike"].replace("d", ".")) if is_option else None,
        expiry_at=expiry_at,
        contract_size=contract_size,
    )


def _listed(name: str, value: Any) -> list[Any]:
    if type(value) is not list:
        raise Rejected(name, "a list", shown(value))
    return value


def _book_form(channel: str, data: Any) -> Form:
    # A grouped channel, book.<instrument>.<group>.<depth>.<interval>, sends whole books and does not say so.
    is_grouped = channel.count(".") > 2
    return _SNAPSHOT if is_grouped or (type(data) is dict and data.get("type") == "snapshot") else _CHANGE


def _snapshot(data: Any, received: Received) -> Record:
    row = _book(data, received, "snapshot", None)
    uncrossed(row["bids"], row["asks"])
    return Record("order_books", data["timestamp"], row)


def _change(data: Any, received: Received) -> Record:
    previous = data["prev_change_id"]
    if data["type"] != "change" or previous.__class__ is not int or not 0 <= previous <= MAX_SEQUENCE:
        raise ValueError
    return Record("order_books", data["timestamp"], _book(data, received, "change", previous))


def _book(data: Any, received: Received, kind: str, previous: int | None) -> OrderBooksRow:
    event_at, received_at = instants(data["timestamp"], received.received_us)
    sequence = data["change_id"]
    if sequence.__class__ is not int or not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError
    return {
        "venue": VENUE,
        "instrument": text(data["instrument_name"]),
        "event_at": event_at,
        "received_at": received_at,
        "kind": kind,
        "sequence": sequence,
        "prev_sequence": previous,
        "bids": _side(data["bids"]),
        "asks": _side(data["asks"]),
        "checksum": None,
        "depth": None,
    }


def _side(raw: list[Any]) -> Levels:
    if raw.__class__ is not list:
        raise TypeError
    return [_level(level) for level in raw]


def _level(level: Any) -> list[float]:
    """[price, size] of ["new" | "change" | "delete", price, amount] or of [price, amount]."""
    if len(level) == 3:
        action, price, size = level
        if action == "delete":
            size = 0.0
        elif action not in _ACTIONS:
            raise ValueError
    else:
        price, size = level
    if price.__class__ not in _NUMBERS or size.__class__ not in _NUMBERS:
        raise TypeError
    if not (0.0 < price <= MAX_PRICE and 0.0 <= size <= MAX_SIZE):
        raise ValueError
    return [price, size]


def _ticker(data: Any, received: Received) -> Record:
    event_at, received_at = instants(data["timestamp"], received.received_us)
    bid_price, bid_size = _best(data, "best_bid_price", "best_bid_amount")
    ask_price, ask_size = _best(data, "best_ask_price", "best_ask_amount")
    mark_iv, bid_iv, ask_iv = _amount(data.get("mark_iv")), _amount(data.get("bid_iv")), _amount(data.get("ask_iv"))
    row: TickersRow = {
        "venue": VENUE,
        "instrument": text(data["instrument_name"]),
        "event_at": event_at,
        "received_at": received_at,
        "sequence": None,
        "bid_price": bid_price,
        "bid_size": bid_size,
        "ask_price": ask_price,
        "ask_size": ask_size,
        "last_price": _amount(data.get("last_price")),
        "mark_price": _amount(data["mark_price"]),
        "mark_iv": None if mark_iv is None else mark_iv / 100,
        "bid_iv": bid_iv / 100 if bid_iv else None,
        "ask_iv": ask_iv / 100 if ask_iv else None,
        "forward_usd": _amount(data.get("underlying_price")),
        "index_price_usd": _amount(data.get("index_price")),
        "interest_rate": _number(data.get("interest_rate")),
        "open_interest": _amount(data.get("open_interest")),
        "min_price": _number(data.get("min_price")),
        "max_price": _number(data.get("max_price")),
        "has_quote": True,
    }
    return Record("tickers", data["timestamp"], row)


def _best(data: Any, price_field: str, size_field: str) -> tuple[float | None, float | None]:
    """A best price and size; price 0 with size 0 (or null) is how the venue says that there is none."""
    price, size = data[price_field], data[size_field]
    if not price and not size:
        return None, None
    if price == 0:
        raise Rejected(price_field, f"a price above 0 beside a size of {shown(size)}", shown(price))
    best = _level((price, size))
    return best[0], best[1]


def _number(value: float | None) -> float | None:
    if value is not None and not is_number(value):
        raise ValueError
    return value


def _amount(value: float | None) -> float | None:
    if value is not None and not (value.__class__ in _NUMBERS and 0.0 <= value <= MAX_SIZE):
        raise ValueError
    return value


def _trade(data: Any, received: Received) -> Record:
    event_at, received_at = instants(data["timestamp"], received.received_us)
    side = data["direction"]
    if side not in ("buy", "sell"):
        raise ValueError
    price, size = _level((data["price"], data["amount"]))
    if not size:
        raise ValueError
    row: TradesRow = {
        "venue": VENUE,
        "instrument": text(data["instrument_name"]),
        "event_at": event_at,
        "received_at": received_at,
        "trade_id": text(data["trade_id"]),
        "side": side,
        "price": price,
        "size": size,
        "off_market": None,
    }
    return Record("trades", data["timestamp"], row)


def _index_price(data: Any, received: Received) -> Record:
    event_at, received_at = instants(data["timestamp"], received.received_us)
    underlying, _, quote = data["index_name"].partition("_")
    if not underlying or quote not in _INDEX_QUOTES:
        raise ValueError
    row: IndexPricesRow = {
        "venue": VENUE,
        "underlying": underlying.upper(),
        "event_at": event_at,
        "received_at": received_at,
        "price_usd": _level((data["price"], 0.0))[0],
        "confidence_usd": None,
        "quote_currency": quote.upper(),
    }
    return Record("index_prices", data["timestamp"], row)


def _instruments(result: Any, received: Received) -> list[Record | Rejected]:
    is_listing = type(result) is list and result and type(result[0]) is dict and "instrument_name" in result[0]
    if not is_listing:
        return []
    # A combo is traded as one, but it settles into its legs and has no terms of its own.
    terms = (item for item in result if not _is_combo(item))
    return each(terms, lambda item: _instrument_form(item).record(item, received))


def _is_combo(item: Any) -> bool:
    return type(item) is dict and item.get("kind") in ("option_combo", "future_combo")


def _instrument_form(item: Any) -> Form:
    kind = item.get("kind") if type(item) is dict else None
    return _OPTION if kind == "option" else _SPOT if kind == "spot" else _FUTURE


def _instrument(item: Any, received: Received) -> Record:
    base, quote = text(item["base_currency"]), text(item["quote_currency"])
    kind, option_type, strike_usd, expiry_at = item["kind"], None, None, None
    # Older messages name no settlement currency: there was none but the base currency then.
    settlement = quote if kind == "spot" else text(item.get("settlement_currency") or base)
    if kind == "future" and item["settlement_period"] == "perpetual":
        kind = "perpetual"
    elif kind in ("future", "option"):
        expiry_at = instant_ms(item["expiration_timestamp"])
    elif kind != "spot":
        raise ValueError
    if kind == "option":
        option_type, strike_usd = item["option_type"], _level((item["strike"], 0.0))[0]
        if option_type not in ("call", "put"):
            raise ValueError
    return listed(
        VENUE,
        text(item["instrument_name"]),
        received,
        kind=kind,
        underlying=base,
        quote_currency=quote,
        settlement_currency=settlement,
        is_inverse=settlement == base,
        option_type=option_type,
        strike_usd=strike_usd,
        expiry_at=expiry_at,
        contract_size=_amount(item.get("contract_size")),
        tick_size=_amount(item.get("tick_size")),
    )


def _is_level(level: Any) -> bool:
    return bool(_level(level))


def _is_expiry(value: Any) -> bool:
    return type(value) is int and bool(instant_ms(value))


_PRICE = expect(f"a price above 0, up to {MAX_PRICE:g}", lambda value: is_number(value) and 0 < value <= MAX_PRICE)
_SIZE = expect(f"a size above 0, up to {MAX_SIZE:g}", lambda value: is_number(value) and 0 < value <= MAX_SIZE)
_BEST_PRICE = nullable(expect(f"a price from 0 to {MAX_PRICE:g}", lambda value: is_number(value) and 0 <= value <= MAX_PRICE))
_AMOUNT = expect("a number not below 0", lambda value: is_number(value) and 0 <= value <= MAX_SIZE)
_OPTIONAL_AMOUNT = nullable(optional(_AMOUNT))
_NUMBER = expect("a finite number", is_number)
_LEVELS = levels(_is_level)

_SNAPSHOT = Form(
    _snapshot,
    {"timestamp": EVENT_TIME, "instrument_name": TEXT, "change_id": SEQUENCE, "bids": _LEVELS, "asks": _LEVELS},
)
_CHANGE = Form(
    _change,
    {"type": one_of("snapshot", "change"), "prev_change_id": SEQUENCE, **_SNAPSHOT.fields},
)
_TICKER = Form(
    _ticker,
    {
        "timestamp": EVENT_TIME,
        "instrument_name": TEXT,
        "best_bid_price": _BEST_PRICE,
        "best_bid_amount": nullable(_AMOUNT),
        "best_ask_price": _BEST_PRICE,
        "best_ask_amount": nullable(_AMOUNT),
        "mark_price": _AMOUNT,
        **dict.fromkeys(
            ("last_price", "mark_iv", "bid_iv", "ask_iv", "underlying_price", "index_price", "open_interest"),
            _OPTIONAL_AMOUNT,
        ),
        **dict.fromkeys(("interest_rate", "min_price", "max_price"), nullable(optional(_NUMBER))),
    },
)
_TRADE = Form(
    _trade,
    {
        "timestamp": EVENT_TIME,
        "instrument_name": TEXT,
        "trade_id": TEXT,
        "direction": one_of("buy", "sell"),
        "price": _PRICE,
        "amount": _SIZE,
    },
)
_INDEX_PRICE = Form(
    _index_price,
    {
        "timestamp": EVENT_TIME,
        "index_name": expect(
            f"an index in {', '.join(_INDEX_QUOTES)}",
            lambda value: type(value) is str and value.partition("_")[2] in _INDEX_QUOTES and value[0] != "_",
        ),
        "price": _PRICE,
    },
)
_SPOT = Form(
    _instrument,
    {
        "instrument_name": TEXT,
        "kind": one_of("option", "future", "spot"),
        "base_currency": TEXT,
        "quote_currency": TEXT,
        "contract_size": _OPTIONAL_AMOUNT,
        "tick_size": _OPTIONAL_AMOUNT,
    },
)
_FUTURE = Form(
    _instrument,
    {
        **_SPOT.fields,
        "settlement_period": TEXT,
        "settlement_currency": nullable(optional(TEXT)),
        "expiration_timestamp": expect("milliseconds since 1970", _is_expiry),
    },
)
_OPTION = Form(_instrument, {**_FUTURE.fields, "option_type": one_of("call", "put"), "strike": _PRICE})
_CHANNELS = {"ticker": _TICKER, "deribit_price_index": _INDEX_PRICE}

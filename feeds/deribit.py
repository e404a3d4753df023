"""Deribit: JSON-RPC 2.0 over websocket, the same over REST.

Prices of inverse options are in coin, strikes and underlying prices in USD, vols come in percent and leave as fractions.
Contracts expire at 08:00 UTC.  Combos, such as BTC-FS-25DEC26_PERP, have no terms of their own and prices that may be
negative: what is said of them is rejected, and their legs are told of in the messages of the legs.  What is read into which
table, and what is not, stands in docs/venues/deribit.md.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
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
    asked,
    decoded,
    diagnosis,
    each,
    every,
    expect,
    expiry,
    instants,
    is_number,
    levels,
    listed,
    nullable,
    one_of,
    optional,
    quiet_ticker,
    text,
    uncrossed,
)
from feeds.funding import RATE, rate
from feeds.halts import halt, with_status
from feeds.session import Ask, Limits, Request, Session, batches, object_in
from schemas.records import IndexPricesRow, OrderBooksRow, TickersRow, TradesRow
from schemas.rows import instant_ms, shown

VENUE = "deribit"

_NUMBERS = (int, float)
_ACTIONS = ("new", "change", "delete")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_USD_PER_CONTRACT = {"BTC": 10.0, "ETH": 1.0}  # inverse futures and perpetuals
_INDEX_QUOTES = ("usd", "usdc", "usdt")
_COMBO = re.compile(r"[A-Z0-9_]+-[A-Z][A-Z0-9]*-.+")
_DEPTH = 5  # levels a side of an order book that was asked for without a depth
_TRADING = ("open", "started")
_BEGUN = ("started",)
_STATES = ("created", "started", "settled", "closed", "deactivated", "terminated")
"""What becomes of an instrument, as `instrument.state` tells: https://docs.deribit.com/subscriptions/market-data/instrumentstatekindcurrency"""
_CHANNELS_WITHOUT_DOT = ("announcements", "platform_state")
_OF_AN_ACCOUNT = {"order_id", "user_id", "average_price", "order"}
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
            return _trades("data", data, received)
        if kind == "platform_state":
            return _platform(data, received)
        if (kind in _CHANNELS and not channel.startswith("instrument.")) or channel.startswith("instrument.state."):
            return [_CHANNELS[kind].record(data, received)]
        known = ", ".join(sorted(["book", "trades", "platform_state", *_CHANNELS]))
        raise Rejected("channel", f"a channel that is read: {known}", shown(channel))
    if method == "heartbeat":
        return []
    if envelope.get("error") is not None:
        raise Rejected("error", "a result", shown(envelope["error"]))
    if "result" in envelope:
        return _answer(envelope, received)
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
        amount_per_contract=contract_size,
    )


def _answer(envelope: dict[str, Any], received: Received) -> Sequence[Record | Rejected]:
    """The records in the result of a request: none for an acknowledgement.

    An answer does not say what was asked: its fields do.
    """
    result = envelope["result"]
    if _is_acknowledgement(result):
        return []
    if type(result) is list and any(type(item) is dict and "instrument_name" in item for item in result):
        # A combo is traded as one, but it settles into its legs and has no terms of its own.
        items = (item for item in result if not _is_listed_combo(item))
        return every(items, lambda item: _listed(item, received))
    if type(result) is dict:
        if not _OF_AN_ACCOUNT.isdisjoint(result):
            raise _not_public(result)
        if "trades" in result and "has_more" in result:
            return _trades("trades", result["trades"], received)
        if "bids" in result and "asks" in result:
            forms = iter((_BOOK_ANSWER, _TICKER))  # it is both
            return each([result, result], lambda item: next(forms).record(item, received))
        if "best_bid_price" in result:
            return [_TICKER.record(result, received)]
        if "index_price" in result and "instrument_name" not in result:
            return [_INDEX_PRICE.record(_index_answer(envelope, received), received)]
        if "kind" in result and "instrument_name" in result:
            return [] if _is_listed_combo(result) else _listed(result, received)
    raise Rejected("result", "an order book, trades, a ticker, an index, a summary or instruments", shown(result))


def _is_acknowledgement(result: Any) -> bool:
    """Whether a result holds no data: of a subscription, a test, a login, a clock that was asked for, or an empty list."""
    if type(result) is list:
        return all(type(name) is str and ("." in name or name in _CHANNELS_WITHOUT_DOT) for name in result)
    if type(result) is dict:
        return "version" in result or "access_token" in result
    return result is None or result == "ok" or type(result) is int


def _is_listed_combo(item: Any) -> bool:
    return type(item) is dict and item.get("kind") in ("option_combo", "future_combo")


def _item_form(item: Any) -> Form:
    """What one item of a list is: a summary of an instrument's book, or its terms."""
    if type(item) is dict and not _OF_AN_ACCOUNT.isdisjoint(item):
        raise _not_public(item)
    if type(item) is dict and "bid_price" in item and "ask_price" in item:
        return _SUMMARY
    kind = item.get("kind") if type(item) is dict else None
    return _OPTION if kind == "option" else _SPOT if kind == "spot" else _FUTURE


def _listed(item: Any, received: Received) -> list[Record]:
    """A summary of an instrument's book, or its terms and its state."""
    record = _item_form(item).record(item, received)
    state = item.get("state")
    if type(state) is not str and type(item.get("is_active")) is bool:
        state = "open" if item["is_active"] else "inactive"
    return with_status(record, state, _TRADING, received)


def _platform(data: Any, received: Received) -> list[Record]:
    """The halts in a message about the whole platform: its maintenance, or an index whose instruments are locked.

    Such a message has no time: it takes the newest of the connection, else that of its receipt.
    """
    if type(data) is not dict:
        raise Rejected("data", "a JSON object", shown(data))
    receipt_ms = received.received_us // 1000
    event_ms = receipt_ms if received.newest_event_ms is None else received.newest_event_ms
    if "allow_unauthenticated_public_requests" in data:
        return []
    if "price_index" not in data:
        is_halted = _truth(data, "maintenance")
        return [halt(VENUE, None, "maintenance", is_halted, event_ms, received)]
    is_halted, (base, _, quote) = _truth(data, "locked"), str(data["price_index"]).upper().partition("_")
    if not base.isalnum() or quote.lower() not in _INDEX_QUOTES:
        raise Rejected("price_index", f"an index in {', '.join(_INDEX_QUOTES)}", shown(data["price_index"]))
    names = f"{base}-*" if quote == "USD" else f"{base}_{quote}*"
    return [halt(VENUE, names, f"index {data['price_index']} locked", is_halted, event_ms, received)]


def _truth(data: dict[str, Any], field: str) -> bool:
    if type(data.get(field)) is not bool:
        raise Rejected(field, "true or false", shown(data[field]) if field in data else "missing")
    return bool(data[field])


def _state(data: Any, received: Received) -> Record:
    name, state = _instrument_name(data), data["state"]
    if state not in _STATES:
        raise ValueError
    return halt(VENUE, name, state, state not in _BEGUN, data["timestamp"], received)


def _trades(name: str, value: Any, received: Received) -> list[Record | Rejected]:
    if type(value) is not list:
        raise Rejected(name, "a list", shown(value))
    return each(value, lambda trade: _TRADE.record(trade, received))


def _index_answer(envelope: dict[str, Any], received: Received) -> dict[str, Any]:
    """An answer that is a price alone, with the index that was asked for and the time at which it was given."""
    data = {"price": envelope["result"]["index_price"]}
    if "index_name" in asked(received).params:
        data["index_name"] = asked(received).params["index_name"]
    if type(envelope.get("usOut")) is int:
        data["timestamp"] = envelope["usOut"] // 1000
    return data


def _not_public(data: Any) -> Rejected:
    return Rejected("result", "public data: orders, trades and positions of an account are not read", shown(data))


@lru_cache(65536)
def _is_combo(instrument: str) -> bool:
    return _COMBO.fullmatch(instrument) is not None


def _instrument_name(data: Any) -> str:
    """The instrument that a message is about.  Raises `Rejected` for a combo, else one of `ODD`."""
    name = text(data["instrument_name"])
    if _is_combo(name):
        raise Rejected("instrument_name", "an instrument that is no combo: combos are not read", name)
    return name


def _book_form(channel: str, data: Any) -> Form:
    """Whole books and their changes come on `book.<instrument>.<interval>`, the top of books on
    `book.<instrument>.<group>.<depth>.<interval>`.  Raises `Rejected` for prices that are rounded to a group.
    """
    parts = channel.split(".")
    if len(parts) == 3:
        return _SNAPSHOT if type(data) is dict and data.get("type") == "snapshot" else _CHANGE
    if len(parts) != 5 or not _is_depth(parts[3]):
        raise Rejected("channel", "book.<instrument>.<interval> or book.<instrument>.none.<depth>.<interval>", shown(channel))
    if parts[2] != "none":
        raise Rejected("channel", "a book of group none: rounded prices are no book", shown(channel))
    return _top_form(int(parts[3]))


def _is_depth(value: str) -> bool:
    return 0 < len(value) <= 6 and value.isascii() and value.isdigit() and int(value) > 0


@lru_cache(64)
def _top_form(depth: int) -> Form:
    return Form(partial(_snapshot, depth=depth), _SNAPSHOT.fields)


def _snapshot(data: Any, received: Received, depth: int | None = None) -> Record:
    row = _book(data, received, "snapshot", None, depth)
    uncrossed(row["bids"], row["asks"])
    return Record("order_books", data["timestamp"], row)


def _book_answer(data: Any, received: Received) -> Record:
    """The top of a book, as deep as it was asked for; where that is not known, as deep as it is shown."""
    depth = asked(received).params.get("depth", "")
    shown_levels = max(len(data["bids"]), len(data["asks"]))
    return _snapshot(data, received, int(depth) if _is_depth(depth) else max(_DEPTH, shown_levels))


def _change(data: Any, received: Received) -> Record:
    previous = data["prev_change_id"]
    if data["type"] != "change" or previous.__class__ is not int or not 0 <= previous <= MAX_SEQUENCE:
        raise ValueError
    return Record("order_books", data["timestamp"], _book(data, received, "change", previous, None))


def _book(data: Any, received: Received, kind: str, previous: int | None, depth: int | None) -> OrderBooksRow:
    name = _instrument_name(data)
    event_at, received_at = instants(data["timestamp"], received.received_us)
    sequence = data["change_id"]
    if sequence.__class__ is not int or not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError
    return {
        "venue": VENUE,
        "instrument": name,
        "event_at": event_at,
        "received_at": received_at,
        "kind": kind,
        "sequence": sequence,
        "prev_sequence": previous,
        "bids": _side(data["bids"]),
        "asks": _side(data["asks"]),
        "checksum": None,
        "depth": depth,
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
    name = _instrument_name(data)
    event_at, received_at = instants(data["timestamp"], received.received_us)
    bid_price, bid_size = _best(data, "best_bid_price", "best_bid_amount")
    ask_price, ask_size = _best(data, "best_ask_price", "best_ask_amount")
    mark_iv, bid_iv, ask_iv = _amount(data.get("mark_iv")), _amount(data.get("bid_iv")), _amount(data.get("ask_iv"))
    row: TickersRow = {
        "venue": VENUE,
        "instrument": name,
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
        "funding_rate": rate(data.get("current_funding")),  # of 8 hours, and paid all the time: no instant is the next
        "next_funding_at": None,
    }
    return Record("tickers", data["timestamp"], row)


def _quote(data: Any, received: Received) -> Record:
    row = quiet_ticker(VENUE, _instrument_name(data), data["timestamp"], received)
    row["has_quote"] = True
    row["bid_price"], row["bid_size"] = _best(data, "best_bid_price", "best_bid_amount")
    row["ask_price"], row["ask_size"] = _best(data, "best_ask_price", "best_ask_amount")
    return Record("tickers", data["timestamp"], row)


def _summary(data: Any, received: Received) -> Record:
    event_ms = data["creation_timestamp"]
    row = quiet_ticker(VENUE, _instrument_name(data), event_ms, received)
    mark_iv = _amount(data.get("mark_iv"))
    row["has_quote"] = True
    row["bid_price"], row["ask_price"] = (
        _level((data[name], 0.0))[0] if data[name] else None for name in ("bid_price", "ask_price")
    )
    row["last_price"] = _amount(data.get("last"))
    row["mark_price"] = _amount(data["mark_price"])
    row["mark_iv"] = None if mark_iv is None else mark_iv / 100
    row["forward_usd"] = _amount(data.get("underlying_price"))
    row["interest_rate"] = _number(data.get("interest_rate"))
    row["open_interest"] = _amount(data.get("open_interest"))
    return Record("tickers", event_ms, row)


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
    if not _OF_AN_ACCOUNT.isdisjoint(data):
        raise _not_public(data)
    name = _instrument_name(data)
    event_at, received_at = instants(data["timestamp"], received.received_us)
    side = data["direction"]
    if side not in ("buy", "sell"):
        raise ValueError
    price, size = _level((data["price"], data["amount"]))
    if not size:
        raise ValueError
    row: TradesRow = {
        "venue": VENUE,
        "instrument": name,
        "event_at": event_at,
        "received_at": received_at,
        "trade_id": text(data["trade_id"]),
        "side": side,
        "price": price,
        "size": size,
        "off_market": _off_market(data),
    }
    return Record("trades", data["timestamp"], row)


def _off_market(data: dict[str, Any]) -> str | None:
    """Why a trade was agreed beside the order book.  One of a liquidation was not, nor one of a combo's leg."""
    if data.get("block_rfq_id") is not None:
        return "rfq"
    return "block" if data.get("block_trade_id") is not None else None


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


def _instrument(item: Any, received: Received) -> Record:
    base, quote = text(item["base_currency"]), text(item["quote_currency"])
    kind, option_type, strike_usd, expiry_at = item["kind"], None, None, None
    # Older messages name no settlement currency: there was none but the base currency then.
    settlement = quote if kind == "spot" else text(item.get("settlement_currency") or base)
    if kind == "future" and item["settlement_period"] == "perpetual":
        kind = "perpetual"
    elif kind in ("future", "option"):
        expiry_at = expiry(item["expiration_timestamp"])
    elif kind != "spot":
        raise ValueError
    if kind != "spot" and item.get("instrument_type") not in (None, "reversed" if settlement == base else "linear"):
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
        # Amounts are USD of futures that settle in the coin, and coins of all else: in both a contract is its size.
        amount_per_contract=_amount(item.get("contract_size")),
        tick_size=_amount(item.get("tick_size")),
    )


def _is_level(level: Any) -> bool:
    return bool(_level(level))


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
_BOOK_ANSWER = Form(_book_answer, _SNAPSHOT.fields)
_QUOTE = Form(
    _quote,
    {
        "timestamp": EVENT_TIME,
        "instrument_name": TEXT,
        "best_bid_price": _BEST_PRICE,
        "best_bid_amount": nullable(_AMOUNT),
        "best_ask_price": _BEST_PRICE,
        "best_ask_amount": nullable(_AMOUNT),
    },
)
_TICKER = Form(
    _ticker,
    {
        **_QUOTE.fields,
        "mark_price": _AMOUNT,
        **dict.fromkeys(
            ("last_price", "mark_iv", "bid_iv", "ask_iv", "underlying_price", "index_price", "open_interest"),
            _OPTIONAL_AMOUNT,
        ),
        **dict.fromkeys(("interest_rate", "min_price", "max_price"), nullable(optional(_NUMBER))),
        "current_funding": RATE,
    },
)
_SUMMARY = Form(
    _summary,
    {
        "creation_timestamp": EVENT_TIME,
        "instrument_name": TEXT,
        "bid_price": _BEST_PRICE,
        "ask_price": _BEST_PRICE,
        "mark_price": _AMOUNT,
        **dict.fromkeys(("last", "mark_iv", "underlying_price", "open_interest"), _OPTIONAL_AMOUNT),
        "interest_rate": nullable(optional(_NUMBER)),
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
        "instrument_type": nullable(optional(one_of("linear", "reversed"))),
        "expiration_timestamp": expect("milliseconds since 1970, before 2100", expiry),
    },
)
_OPTION = Form(_instrument, {**_FUTURE.fields, "option_type": one_of("call", "put"), "strike": _PRICE})
_STATE = Form(_state, {"timestamp": EVENT_TIME, "instrument_name": TEXT, "state": one_of(*_STATES)})
_CHANNELS = {"ticker": _TICKER, "quote": _QUOTE, "deribit_price_index": _INDEX_PRICE, "instrument": _STATE}


MARKETS = (VENUE,)
STREAM_URL, REST_URL = "wss://www.deribit.com/ws/api/v2", "https://www.deribit.com/api/v2"
_INTERVAL = "100ms"  # raw is for connections that have logged in
_STATUS = ("platform_state", "instrument.state.any.any")
_CHANNELS_PER_REQUEST = 500
_HEARTBEAT_S = 30


def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
    """What is sent to Deribit: books, tickers and trades of the symbols, and the indices of their pairs."""
    if market != VENUE:
        raise KeyError(market)

    def channels(symbols: Sequence[str]) -> list[str]:
        return [f"{kind}.{symbol}.{_INTERVAL}" for kind in ("book", "ticker", "trades") for symbol in symbols]

    def indices(symbols: Sequence[str]) -> list[str]:
        pairs = {tuple(symbol.partition("-")[0].split("_")) for symbol in symbols}
        return sorted(f"deribit_price_index.{'_'.join(pair if len(pair) > 1 else (*pair, 'usd')).lower()}" for pair in pairs)

    def requests(method: str, names: Sequence[str]) -> list[Request]:
        return [rpc(f"public/{method}", channels=batch) for batch in batches(names, _CHANNELS_PER_REQUEST)]

    return Session(
        VENUE,
        market,
        url or STREAM_URL,
        subscribe=lambda symbols: requests("subscribe", [*channels(symbols), *indices(symbols), *_STATUS]),
        unsubscribe=lambda symbols: requests("unsubscribe", channels(symbols)),
        listings=[Ask(f"{rest_url or REST_URL}/public/get_instruments?currency=any&expired=false")],
        opening=[rpc("public/set_heartbeat", interval=_HEARTBEAT_S)],
        reply=lambda message: rpc("public/test") if b'"test_request"' in message else None,
        resubscribe=lambda symbol: [
            rpc(f"public/{method}", channels=[f"book.{symbol}.{_INTERVAL}"]) for method in ("unsubscribe", "subscribe")
        ],
        refusal=_refusal,
        limits=Limits(symbols_per_connection=150),
    )


def rpc(method: str, **params: Any) -> Request:
    """A request of JSON-RPC, with its method as its id."""
    return {"jsonrpc": "2.0", "id": method, "method": method, "params": params}


def _refusal(message: bytes) -> str | None:
    if b'"error"' not in message:
        return None
    error = object_in(message).get("error")
    return f"{error.get('message')} {error.get('data') or ''}".strip() if isinstance(error, dict) else None

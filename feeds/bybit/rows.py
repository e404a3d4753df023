"""What becomes of one item of a Bybit message: its own fields, with `venue`, and `ts`, `type` and `depth` of its message."""

from typing import Any

from feeds import Received, Record, Rejected
from feeds.bybit.names import INVERSE, LINEAR, OPTION_TYPES, OPTIONS, SPOT, index, told_by
from feeds.checks import (
    AMOUNT,
    BEST_PRICE,
    EVENT_TIME_TEXT,
    EXACT_LEVELS,
    NUMBERED,
    ODD,
    PRICE,
    SIZE,
    TEXT,
    TRUTH,
    Form,
    Levels,
    amount,
    asked,
    best,
    expect,
    expiry,
    instants,
    listed,
    nullable,
    numbered,
    one_of,
    optional,
    optional_amount,
    price,
    quiet_ticker,
    text,
    uncrossed,
    whole,
)
from feeds.funding import PAID_AT, RATE, tell
from schemas.records import IndexPricesRow, OrderBooksRow, TradesRow, TradingHaltsRow
from schemas.rows import shown

WHOLE = {SPOT: 1000, LINEAR: 1000, INVERSE: 1000, OPTIONS: 100}
"""Levels a side of the deepest channel of each market, which counts as the whole book."""

_SIDES = {"Buy": "buy", "Sell": "sell"}
_TYPES = ("snapshot", "delta")
_CONTRACTS = {
    "LinearPerpetual": (LINEAR, "perpetual"),
    "LinearFutures": (LINEAR, "future"),
    "InversePerpetual": (INVERSE, "perpetual"),
    "InverseFutures": (INVERSE, "future"),
}
_TRADING = "Trading"
_STATES = ("PreLaunch", "PendingOpen", "Trading", "Settling", "Delivering", "Closed")
_STOPPED = ("Settling", "Delivering", "Closed")
_OPTIONS_TYPES = {"Call": "call", "Put": "put"}


def _side(raw: Any) -> Levels:
    if raw.__class__ is not list:
        raise TypeError
    return [_level(level) for level in raw]


def _level(level: Any) -> list[float]:
    if level.__class__ is not list:
        raise TypeError
    return [price(level[0]), amount(level[1])]


def _book(data: Any, received: Received) -> Record:
    if data["type"] not in _TYPES:
        raise ValueError
    sequence = numbered(data["u"])
    # Number 1 is a whole book whatever it is called: the service has begun anew.
    is_whole = data["type"] == "snapshot" or sequence <= 1
    return _book_record(data, received, sequence, is_whole, data["depth"] if data["depth"] != WHOLE[data["venue"]] else None)


def _book_answer(data: Any, received: Received) -> Record:
    """A book that was asked for: as deep as that, which is never the whole book of the stream."""
    limit = asked(received).params.get("limit", "")
    shown_levels = max(len(data["b"]), len(data["a"]))
    depth = int(limit) if limit.isdecimal() and len(limit) < 7 else shown_levels
    return _book_record(data, received, numbered(data["u"]), True, max(1, depth))


def _book_record(data: Any, received: Received, sequence: int, is_whole: bool, depth: int | None) -> Record:
    # `cts`, the matching engine's time, is that of the last change: of a quiet book it may be days old when the book is sent.
    event_ms = whole(data["ts"])
    event_at, received_at = instants(event_ms, received.received_us)
    row: OrderBooksRow = {
        "venue": data["venue"],
        "instrument": text(data["s"]),
        "event_at": event_at,
        "received_at": received_at,
        "kind": "snapshot" if is_whole else "change",
        "sequence": sequence,
        "prev_sequence": None if is_whole else sequence - 1,
        "bids": _side(data["b"]),
        "asks": _side(data["a"]),
        "checksum": None,
        "depth": depth,
    }
    if is_whole:
        uncrossed(row["bids"], row["asks"])
    return Record("order_books", event_ms, row)


def _ticker_form(
    bid: str, bid_size: str, ask: str, ask_size: str, bid_iv: str = "", ask_iv: str = "", mark_iv: str = ""
) -> Form:
    def build(data: Any, received: Received) -> Record:
        event_ms = whole(data["ts"])
        row = quiet_ticker(data["venue"], text(data["symbol"]), event_ms, received)
        if bid in data and ask in data:
            # A message of changes may have one side alone; a row speaks of both or of none.
            row["has_quote"] = True
            row["bid_price"], row["bid_size"] = best(data, bid, bid_size)
            row["ask_price"], row["ask_size"] = best(data, ask, ask_size)
        row["last_price"] = optional_amount(data.get("lastPrice")) or None
        mark = optional_amount(data.get("markPrice"))
        row["mark_price"] = mark if data["venue"] == OPTIONS else mark or None  # an option may be worth nothing
        row["bid_iv"], row["ask_iv"], row["mark_iv"] = (
            optional_amount(data.get(iv)) or None for iv in (bid_iv, ask_iv, mark_iv)
        )
        row["forward_usd"] = optional_amount(data.get("underlyingPrice")) or None
        row["index_price_usd"] = optional_amount(data.get("usdIndexPrice" if data["venue"] == SPOT else "indexPrice")) or None
        row["open_interest"] = optional_amount(data.get("openInterest"))
        tell(row, data.get("fundingRate"), data.get("nextFundingTime"))
        return Record("tickers", event_ms, row)

    told = (bid_size, ask_size, bid_iv, ask_iv, mark_iv, "lastPrice", "markPrice", "underlyingPrice", "indexPrice")
    amounts = (*filter(None, told), "usdIndexPrice", "openInterest")
    return Form(
        build,
        {
            "ts": EVENT_TIME_TEXT,
            "symbol": TEXT,
            **dict.fromkeys((bid, ask), nullable(optional(BEST_PRICE))),
            **dict.fromkeys(amounts, nullable(optional(AMOUNT))),
            "fundingRate": RATE,
            "nextFundingTime": PAID_AT,
        },
    )


def index_of(ticker: Record) -> Record | None:
    """The index that a ticker shows, as a record of its own; None where it shows none, or one in an unknown unit."""
    row = ticker.row
    about = index(row["venue"], row["instrument"]) if row["index_price_usd"] else None
    if about is None:
        return None
    shown_index: IndexPricesRow = {
        "venue": row["venue"],
        "underlying": about[0],
        "event_at": row["event_at"],
        "received_at": row["received_at"],
        "price_usd": row["index_price_usd"],
        "confidence_usd": None,
        "quote_currency": about[1],
    }
    return Record("index_prices", ticker.event_ms, shown_index)


def _trade_form(time: str, symbol: str, trade_id: str, side: str, price_field: str, size_field: str, block: str) -> Form:
    def build(data: Any, received: Received) -> Record:
        event_ms = whole(data[time])
        event_at, received_at = instants(event_ms, received.received_us)
        size, is_block = amount(data[size_field]), data.get(block, False)
        if not size or is_block.__class__ is not bool:
            raise ValueError
        row: TradesRow = {
            "venue": data["venue"],
            "instrument": text(data[symbol]),
            "event_at": event_at,
            "received_at": received_at,
            "trade_id": text(data[trade_id]),
            "side": _SIDES[data[side]],
            "price": price(data[price_field]),
            "size": size,
            "off_market": "block" if is_block else None,
        }
        return Record("trades", event_ms, row)

    return Form(
        build,
        {
            time: EVENT_TIME_TEXT,
            symbol: TEXT,
            trade_id: TEXT,
            side: one_of(*_SIDES),
            price_field: PRICE,
            size_field: SIZE,
            block: optional(TRUTH),
        },
    )


def listed_market(item: dict[str, Any]) -> str:
    """The market of one item of a listing, by the fields that it has.  Raises `Rejected`."""
    contract = item.get("contractType")
    if contract is not None:
        if contract.__class__ is not str or contract not in _CONTRACTS:
            raise Rejected("contractType", f"one of {', '.join(_CONTRACTS)}", shown(contract))
        return _CONTRACTS[contract][0]
    return OPTIONS if "optionsType" in item else SPOT


def _terms(data: Any, received: Received) -> Record:
    venue, symbol = data["venue"], text(data["symbol"])
    base, quote = text(data["baseCoin"]), text(data["quoteCoin"])
    if data["status"] not in _STATES:
        raise ValueError
    kind, option_type, strike_usd, expiry_at = "spot", None, None, None
    settlement = quote if venue == SPOT else text(data["settleCoin"])
    if venue == OPTIONS:
        kind, option_type, name = "option", _OPTIONS_TYPES[data["optionsType"]], told_by(OPTIONS, symbol)
        if name is None or name.option_type != option_type or name.base != base:
            raise ValueError
        strike_usd = name.strike_usd
    elif venue != SPOT:
        kind = _CONTRACTS[data["contractType"]][1]
    if kind in ("future", "option"):
        expiry_at = expiry(whole(data["deliveryTime"]))
    return listed(
        venue,
        symbol,
        received,
        kind=kind,
        underlying=base,
        quote_currency=quote,
        settlement_currency=settlement,
        is_inverse=venue == INVERSE,
        option_type=option_type,
        strike_usd=strike_usd,
        expiry_at=expiry_at,
        contract_size=1.0,
        amount_per_contract=1.0,
        tick_size=optional_amount(data["priceFilter"]["tickSize"]) or None,
    )


def halt(terms: Record, status: str, at_ms: Any, received: Received) -> Record | None:
    """Whether trading of a listed contract has stopped or goes on, as its status says; None where it is to begin.

    Raises `Rejected` where it has stopped and the time of the listing is wild.
    """
    if status not in (*_STOPPED, _TRADING):
        return None
    try:
        event_ms = whole(at_ms)
        event_at, received_at = instants(event_ms, received.received_us)
    except ODD:
        if status == _TRADING:
            return None
        raise Rejected("time", "milliseconds since 1970, within a day, of a listing", shown(at_ms)) from None
    row: TradingHaltsRow = {
        "venue": terms.row["venue"],
        "instrument": terms.row["instrument"],
        "event_at": event_at,
        "received_at": received_at,
        "is_halted": status != _TRADING,
        "reason": None if status == _TRADING else f"status {status}",
    }
    return Record("trading_halts", event_ms, row)


def _is_option_name(value: Any) -> bool:
    name = told_by(OPTIONS, value)
    return name is not None and name.option_type in OPTION_TYPES.values()


_BOOK_FIELDS = {"ts": EVENT_TIME_TEXT, "s": TEXT, "u": NUMBERED, "b": EXACT_LEVELS, "a": EXACT_LEVELS}
BOOK = Form(_book, {"type": one_of(*_TYPES), **_BOOK_FIELDS})
BOOK_ANSWER = Form(_book_answer, _BOOK_FIELDS)
TICKER = _ticker_form("bid1Price", "bid1Size", "ask1Price", "ask1Size")
OPTION_TICKER = _ticker_form("bidPrice", "bidSize", "askPrice", "askSize", "bidIv", "askIv", "markPriceIv")
OPTION_TICKER_ANSWER = _ticker_form("bid1Price", "bid1Size", "ask1Price", "ask1Size", "bid1Iv", "ask1Iv", "markIv")
TRADE = _trade_form("T", "s", "i", "S", "p", "v", "BT")
TRADE_ANSWER = _trade_form("time", "symbol", "execId", "side", "price", "size", "isBlockTrade")

_LISTED = {
    "symbol": TEXT,
    "baseCoin": TEXT,
    "quoteCoin": TEXT,
    "status": one_of(*_STATES),
    "priceFilter": expect("an object with a tickSize", lambda value: [optional_amount(value["tickSize"])]),
}
_SETTLED = {**_LISTED, "settleCoin": TEXT}
_EXPIRING = {"deliveryTime": expect("milliseconds since 1970, before 2100", lambda value: expiry(whole(value)))}
_FUTURE = Form(_terms, {**_SETTLED, **_EXPIRING})
_OPTION = Form(
    _terms,
    {
        **_SETTLED,
        **_EXPIRING,
        "symbol": expect("the name of an option, such as BTC-26DEC25-90000-C", _is_option_name),
        "optionsType": one_of(*_OPTIONS_TYPES),
    },
)


def listing(item: dict[str, Any]) -> Form:
    """How an item of a listing is read."""
    if "optionsType" in item:
        return _OPTION
    contract = item.get("contractType")
    if contract is None:
        return Form(_terms, _LISTED)
    return _FUTURE if _CONTRACTS[contract][1] == "future" else Form(_terms, _SETTLED)

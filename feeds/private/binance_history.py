"""Binance: an account's trades of the past, which `myTrades` and `userTrades` list by symbol."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson

from feeds import Received, Record, Rejected
from feeds import binance as public
from feeds.binance import COINM, OPTIONS, SPOT, USDM
from feeds.checks import TEXT, TRUTH, Fields, expect, nullable, one_of, optional, text
from feeds.private import History, Question, Signed, signing
from feeds.private.keys import Keys
from feeds.private.rows import (
    ABOVE_ZERO,
    IDENTITY,
    OPTIONAL_TEXT,
    SIGNED_NUMBER,
    TIME,
    Results,
    above_zero,
    each_item,
    identity,
    number_in,
    reported,
    settlement_currency,
    text_or_none,
    traded,
)
from schemas.rows import shown

KEY_HEADER = "X-MBX-APIKEY"
SIDES = {"BUY": "buy", "SELL": "sell"}
PATHS = {
    SPOT: "/api/v3/myTrades",
    USDM: "/fapi/v1/userTrades",
    COINM: "/dapi/v1/userTrades",
    OPTIONS: "/eapi/v1/userTrades",
}
_PAGE = 1000  # trades in a response


def missed(market: str, keys: Keys, rest_url: str, since_ms: int, until_ms: int, symbols: Sequence[str] = ()) -> History:
    """Requests the trades of each symbol from a time on, oldest first: Binance lists them by symbol only."""
    for symbol in symbols:
        start = f"startTime={since_ms}"
        while True:
            page = yield _asking(market, keys, rest_url, f"symbol={quote(symbol)}&{start}&limit={_PAGE}")
            trades = _list_in(page) or []
            newest = trades[-1].get("id") if len(trades) >= _PAGE and type(trades[-1]) is dict else None
            if type(newest) is not int:
                break
            start = f"fromId={newest + 1}"  # which excludes startTime


def _asking(market: str, keys: Keys, rest_url: str, query: str) -> Question:
    def signed(now_ms: int) -> Signed:
        timed = f"{query}&timestamp={now_ms}"
        signature = signing.binance(keys.secret, timed)
        headers = {KEY_HEADER: keys.key.reveal()}
        return Signed("GET", rest_url + PATHS[market], headers, f"{timed}&signature={signature}")

    return signed


def _list_in(answer: bytes) -> list[Any] | None:
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is list else None


def market_at(url: str | None) -> str | None:
    """The market whose history an address has; None for another address."""
    return next((market for market, path in PATHS.items() if url is not None and url.endswith(path)), None)


def parse(market: str, message: bytes, received: Received, account: str) -> Results:
    """The rows in a response with trades of the past.  Raises `Rejected`."""
    items = _list_in(message)
    if items is None:
        raise Rejected(None, "a list of trades", shown(message))
    build = _past_option if market == OPTIONS else partial(_past, market)
    fields = _PAST_OPTION if market == OPTIONS else _FIELDS[market]
    return each_item(((item, lambda item: build(item, received, account), fields) for item in items), received)


def _past(market: str, data: Any, received: Received, account: str) -> Results:
    """The rows of a trade from the history of spot and futures, which names the side by who bought."""
    buyer, maker = _BUYER_MAKER[market]
    report = _past_report(
        market,
        data,
        received,
        account,
        trade_id=trade_id(data["id"]),
        side="buy" if truth(data[buyer]) else "sell",
        last_quantity=above_zero(data["qty"]),
        fee=number_in(data["commission"]),
        fee_currency=text_or_none(data.get("commissionAsset")),
        is_maker=truth(data[maker]),
    )
    return traded(report, settlement_currency(public.describe, market, data["symbol"]), "symbol")


def _past_option(data: Any, received: Received, account: str) -> Results:
    """The rows of a trade from the history of options, in which a fee that is charged is negative, and so is a size sold."""
    report = _past_report(
        OPTIONS,
        data,
        received,
        account,
        trade_id=trade_id(data["tradeId"]),
        side=SIDES[data["side"]],
        last_quantity=above_zero(str(data["quantity"]).removeprefix("-")),
        fee=-number_in(data["fee"]),
        fee_currency=text_or_none(data.get("quoteAsset")),
        is_maker={"MAKER": True, "TAKER": False}.get(data.get("liquidity")),
    )
    return traded(report, settlement_currency(public.describe, OPTIONS, data["symbol"]), "symbol")


def _past_report(market: str, data: Any, received: Received, account: str, **columns: Any) -> Record:
    return reported(
        account,
        received,
        venue=market,
        instrument=text(data["symbol"]),
        event_ms=data["time"],
        exec_type="trade",
        order_status=None,
        order_id=identity(data["orderId"]),
        last_price=above_zero(data["price"]),
        **columns,
    )


def trade_id(value: Any) -> str:
    """The number of a trade; 0 and -1 mean that there is none."""
    if value.__class__ is not int or value <= 0:
        raise ValueError
    return str(value)


def truth(value: Any) -> bool:
    """The value if it is true or false, else raises one of `ODD`."""
    if type(value) is not bool:
        raise TypeError
    return value


TRADE_ID = expect("the number of a trade, above 0", trade_id)
_PAST: Fields = {
    "symbol": TEXT,
    "id": TRADE_ID,
    "orderId": IDENTITY,
    "time": TIME,
    "price": ABOVE_ZERO,
    "qty": ABOVE_ZERO,
    "commission": SIGNED_NUMBER,
    "commissionAsset": nullable(optional(OPTIONAL_TEXT)),
}
_BUYER_MAKER = {SPOT: ("isBuyer", "isMaker"), USDM: ("buyer", "maker"), COINM: ("buyer", "maker")}
_FIELDS = {market: {**_PAST, **dict.fromkeys(names, TRUTH)} for market, names in _BUYER_MAKER.items()}
_PAST_OPTION: Fields = {
    "symbol": TEXT,
    "tradeId": TRADE_ID,
    "orderId": IDENTITY,
    "time": TIME,
    "price": ABOVE_ZERO,
    "quantity": SIGNED_NUMBER,
    "fee": SIGNED_NUMBER,
    "quoteAsset": nullable(optional(OPTIONAL_TEXT)),
    "side": one_of(*SIDES),
}

"""Deribit: orders and trades of an account from `user.changes`, `user.orders`, `user.trades` and the responses to requests.

Amounts of futures are in USD or coins; rows count contracts.  docs/venues/deribit.md lists what is read and what is not.
"""

import re
import secrets
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from feeds import Received, Record, Rejected
from feeds import deribit as public
from feeds.checks import OBJECT, TEXT, Fields, decoded, diagnosis, expect, nullable, one_of, optional, text
from feeds.private import History, PrivateSession, Question, Refusal, Signed, signing
from feeds.private.keys import Keys
from feeds.private.rows import (
    ABOVE_ZERO,
    IDENTITY,
    OPTIONAL_PRICE,
    OPTIONAL_TEXT,
    SIDE,
    SIGNED_NUMBER,
    SIZE,
    TIME,
    Results,
    above_zero,
    each_item,
    identity,
    number_in,
    price_or_none,
    quotient,
    reported,
    settlement_currency,
    size_in,
    text_or_none,
    traded,
    word,
)
from feeds.session import Request, object_in
from schemas.rows import shown

URL = "wss://www.deribit.com/ws/api/v2"
REST_URL = "https://www.deribit.com"
CONTROL = {
    "user.portfolio": "a balance is booked from fills and transfers, by the job positions",
    "user.access_log": "about logins, not orders",
    "user.lock": "about the whole account, not an order",
    "user.mmp_trigger": "the cancels that follow come in messages of their own",
    "positions": "a position is booked from fills, by the job positions",
    "heartbeat": "the session replies to it",
}
"""What is ignored, and why: channels, parts of messages, and methods."""

CURRENCIES = ("BTC", "ETH", "USDC", "USDT", "EURR")
"""The currencies by which Deribit lists an account's trades."""

_CHANNEL = "user.changes.any.any.raw"
_AUTH, _SUBSCRIBE = "public/auth", "private/subscribe"
_TRADES = "/api/v2/private/get_user_trades_by_currency_and_time"
_PAGE = 1000  # trades in a response
_REFRESHED = 0.8  # of its lifetime, when a login is refreshed
_PASSES_S = {  # errors that pass, and how long to wait
    10028: 10.0,  # too many requests
    **dict.fromkeys((10040, 10041, 10047, 11051, 13028, 13888), 5.0),  # busy, settlement, maintenance, timeout
}
_HEARTBEAT_S = 30
_COMBO = re.compile(r"[A-Z0-9_]+-[A-Z][A-Z0-9]*-.+")
_STATES = {
    **dict.fromkeys(("open", "untriggered", "triggered"), "new"),
    **{name: name for name in ("filled", "cancelled", "rejected")},
}
_STATES_OF_TRADES = {"open": "partially_filled", "filled": "filled", "cancelled": "cancelled"}
_TYPES = {
    "stop_market": "stop",
    "take_market": "take_profit",
    "take_limit": "take_profit_limit",
}
_TIMES_IN_FORCE = {
    "good_til_cancelled": "gtc",
    "good_til_day": "day",
    "fill_or_kill": "fok",
    "immediate_or_cancel": "ioc",
}
_AT_MARKET = "market_price"  # the price of an order without a limit


def parse(message: bytes, received: Received, account: str) -> Sequence[Record | Rejected]:
    """The rows in one raw message of a private connection.

    None for an acknowledgement, a login or what `CONTROL` names.  Raises `Rejected`.
    """
    envelope = decoded(message)
    method = envelope.get("method")
    if method == "heartbeat":
        return []
    if method == "subscription":
        params = envelope.get("params")
        if type(params) is not dict or type(params.get("channel")) is not str or "data" not in params:
            raise diagnosis(params, {"channel": TEXT, "data": OBJECT}, received)
        return _pushed(params["channel"], params["data"], received, account)
    if envelope.get("error") is not None:
        raise Rejected("error", "a result", shown(envelope["error"]))
    if "result" in envelope:
        return _answer(envelope["result"], received, account)
    raise Rejected("method", "subscription, heartbeat or a result", "missing" if method is None else shown(method))


def session(keys: Keys, account: str, *, url: str = URL, rest_url: str = REST_URL) -> PrivateSession:
    """The session of one account; one channel has its orders and trades in all instruments."""
    return PrivateSession(
        venue=public.VENUE,
        market=public.VENUE,
        account=account,
        url=url,
        parse=lambda message, received: parse(message, received, account),
        login=partial(login, keys),
        admitted=lambda message: _is_login(object_in(message).get("result")),
        refresh=_refresh,
        subscribe=subscribe,
        subscribed=lambda message: _CHANNEL in _channels(object_in(message)),
        opening=[public.rpc("public/set_heartbeat", interval=_HEARTBEAT_S)],
        reply=lambda message: public.rpc("public/test") if b'"test_request"' in message else None,
        refusal=_refusal,
        # A refresh that is refused leaves a connection without a login.
        is_over=lambda message: object_in(message).get("id") == _AUTH and "error" in object_in(message),
        missed=partial(missed, keys, rest_url),
    )


def login(keys: Keys, now_ms: int, nonce: str | None = None) -> list[Request]:
    """The login of a connection by a signature: the secret is not sent."""
    nonce = nonce or secrets.token_hex(8)
    return [
        public.rpc(
            _AUTH,
            grant_type="client_signature",
            client_id=keys.key.reveal(),
            timestamp=now_ms,
            nonce=nonce,
            data="",
            signature=signing.deribit(keys.secret, now_ms, nonce),
        )
    ]


def subscribe() -> list[Request]:
    """Requests orders and trades of all instruments, as they come."""
    return [public.rpc(_SUBSCRIBE, channels=[_CHANNEL])]


def missed(keys: Keys, rest_url: str, since_ms: int, until_ms: int, symbols: Sequence[str] = ()) -> History:
    """Requests the trades from one time to another, oldest first, by currency."""
    for currency in CURRENCIES:
        start_ms = since_ms
        while True:
            query = f"currency={currency}&start_timestamp={start_ms}&end_timestamp={until_ms}&count={_PAGE}&sorting=asc"
            result = object_in((yield _asking(keys, rest_url, query))).get("result")
            trades = result.get("trades") if type(result) is dict else None
            if type(result) is not dict or not result.get("has_more") or not trades:
                break
            newest_ms = trades[-1].get("timestamp") if type(trades[-1]) is dict else None
            if type(newest_ms) is not int or newest_ms < start_ms:
                break
            # The same millisecond again, where more may follow; a page of nothing else is left behind.
            start_ms = newest_ms if newest_ms > start_ms else newest_ms + 1


def _asking(keys: Keys, rest_url: str, query: str) -> Question:
    def signed(now_ms: int) -> Signed:
        nonce = secrets.token_hex(8)
        signature = signing.deribit_request(keys.secret, now_ms, nonce, f"{_TRADES}?{query}")
        value = f"deri-hmac-sha256 id={keys.key.reveal()},ts={now_ms},nonce={nonce},sig={signature}"
        return Signed("GET", rest_url + _TRADES, {"Authorization": value}, query)

    return signed


def _refresh(message: bytes) -> tuple[float, Request] | None:
    """The request that extends a login, and after how many seconds to send it."""
    result = object_in(message).get("result")
    if type(result) is not dict or type(result.get("expires_in")) is not int or type(result.get("refresh_token")) is not str:
        return None
    request = public.rpc(_AUTH, grant_type="refresh_token", refresh_token=result["refresh_token"])
    return _REFRESHED * result["expires_in"], request


def _channels(envelope: dict[str, Any]) -> list[Any]:
    """The channels that the response to a subscription names."""
    result = envelope.get("result")
    return result if envelope.get("id") == _SUBSCRIBE and type(result) is list else []


def _refusal(message: bytes) -> Refusal | None:
    envelope = object_in(message)
    error = envelope.get("error")
    if type(error) is dict:
        code = error.get("code")
        return Refusal(f"{code} {error.get('message')}", _PASSES_S.get(code) if type(code) is int else None)
    if envelope.get("id") == _SUBSCRIBE and _CHANNEL not in _channels(envelope):
        return Refusal(f"no subscription to {_CHANNEL}")
    return None


def _is_login(result: Any) -> bool:
    return type(result) is dict and "access_token" in result


def _pushed(channel: str, data: Any, received: Received, account: str) -> Results:
    kind = ".".join(channel.split(".")[:2])
    if kind in CONTROL:
        return []
    if kind == "user.changes":
        if type(data) is not dict or type(data.get("trades", [])) is not list or type(data.get("orders", [])) is not list:
            raise Rejected("data", "an object with lists of trades and orders", shown(data))
        return _items(data.get("trades", []), data.get("orders", []), received, account)
    items = data if type(data) is list else [data]
    if kind == "user.orders":
        return _items([], items, received, account)
    if kind == "user.trades":
        return _items(items, [], received, account)
    known = f"user.changes, user.orders, user.trades, {', '.join(name for name in CONTROL if name.startswith('user.'))}"
    raise Rejected("channel", f"a channel that is read: {known}", shown(channel))


def _answer(result: Any, received: Received, account: str) -> Results:
    """The rows in the result of a request: an order with its trades, orders, or trades of the past."""
    if _is_login(result) or result is None or result == "ok" or type(result) is int:
        return []
    if type(result) is dict:
        if "version" in result:
            return []
        trades = result.get("trades", [])
        if received.url is not None and received.url.endswith(_TRADES) and type(trades) is list:
            return _items(trades, [], received, account)
        if type(result.get("order")) is dict and type(trades) is list:
            return _items(trades, [result["order"]], received, account)
        if "order_id" in result:
            return _items([], [result], received, account)
    if type(result) is list and all(type(item) is str for item in result):
        return []
    if type(result) is list and all(type(item) is dict and "order_state" in item for item in result):
        return _items([], result, received, account)
    raise Rejected("result", "an order, orders or an acknowledgement", shown(result))


def _items(trades: list[Any], orders: list[Any], received: Received, account: str) -> Results:
    def trade(item: Any) -> Results:
        return _trade(item, received, account)

    def order(item: Any) -> Results:
        return [_order(item, received, account)]

    return each_item([*((item, trade, _TRADE) for item in trades), *((item, order, _ORDER) for item in orders)], received)


def _order(data: Any, received: Received, account: str) -> Record:
    name, status = _instrument(data), _STATES[data["order_state"]]
    amount, filled = above_zero(data["amount"]), size_in(data.get("filled_amount", 0))
    quantity, contract = _contracts(data, name, amount)
    is_replaced = data.get("replaced") is True
    if status == "new" and filled:
        exec_type, status = "status", "partially_filled"
    elif status == "new":
        exec_type = "replaced" if is_replaced else "new"
    else:
        exec_type = "status" if status == "filled" else status
    time_in_force = word(_TIMES_IN_FORCE, data.get("time_in_force"))
    return reported(
        account,
        received,
        venue=public.VENUE,
        instrument=name,
        event_ms=data["last_update_timestamp"],
        exec_type=exec_type,
        order_status=status,
        order_id=identity(data["order_id"]),
        client_order_id=text_or_none(data.get("label")),
        side=data["direction"],
        order_type=word(_TYPES, data.get("order_type")),
        time_in_force="post_only" if time_in_force == "gtc" and data.get("post_only") is True else time_in_force,
        price=None if data.get("price") == _AT_MARKET else price_or_none(data.get("price")),
        quantity=quantity,
        cum_quantity=quotient(filled, contract),
        average_price=price_or_none(data.get("average_price")),
        reason=_reason(data, status),
    )


def _reason(data: Any, status: str) -> str | None:
    if status == "rejected":
        return text_or_none(data.get("reject_reason"))
    if status == "cancelled":
        return text_or_none(data.get("cancel_reason"))
    return "liquidation" if data.get("is_liquidation") is True else None


def _trade(data: Any, received: Received, account: str) -> Results:
    name = _instrument(data)
    liquidity = data["liquidity"]
    if liquidity not in ("M", "T"):
        raise ValueError
    quantity, _ = _contracts(data, name, above_zero(data["amount"]))
    report = reported(
        account,
        received,
        venue=public.VENUE,
        instrument=name,
        event_ms=data["timestamp"],
        exec_type="trade",
        order_status=_STATES_OF_TRADES.get(data.get("state")),
        order_id=identity(data["order_id"]),
        trade_id=identity(data["trade_id"]),
        client_order_id=text_or_none(data.get("label")),
        side=data["direction"],
        order_type=word(_TYPES, data.get("order_type")),
        last_price=above_zero(data["price"]),
        last_quantity=quantity,
        fee=number_in(data["fee"]),
        fee_currency=text(data["fee_currency"]),
        is_maker=liquidity == "M",
        reason=_why_traded(data),
    )
    return traded(report, settlement_currency(public.describe, public.VENUE, name), "instrument_name")


def _why_traded(data: Any) -> str | None:
    """Why a trade is not one of our order in the book: it was agreed outside it, or forced."""
    if data.get("block_trade_id") is not None:
        return "block"
    return "liquidation" if data.get("liquidation") is not None else None


def _instrument(data: Any) -> str:
    name = text(data["instrument_name"])
    if _COMBO.fullmatch(name):
        raise Rejected("instrument_name", "an instrument that is no combo: trades of its legs come by themselves", name)
    return name


def _contracts(data: Any, name: str, amount: Decimal) -> tuple[Decimal, Decimal]:
    """An amount in contracts, and the size of a contract: from the message, else from the instrument's name."""
    if data.get("contracts") is not None:
        contracts = above_zero(data["contracts"])
        return contracts, amount / contracts
    listed = public.describe(public.VENUE, name, received=Received(0, None, None))
    size = None if listed is None else listed.row["contract_size"]
    if size is None:
        raise Rejected("contracts", "a number of contracts: their size does not follow from the instrument's name", "missing")
    contract = Decimal(repr(size))
    return quotient(amount, contract), contract


_HEAD: Fields = {
    "instrument_name": TEXT,
    "order_id": IDENTITY,
    "direction": SIDE,
    "amount": ABOVE_ZERO,
    "contracts": nullable(optional(ABOVE_ZERO)),
    "label": nullable(optional(OPTIONAL_TEXT)),
    "order_type": nullable(optional(OPTIONAL_TEXT)),
}
_ORDER: Fields = {
    **_HEAD,
    "order_state": one_of(*_STATES),
    "last_update_timestamp": TIME,
    "filled_amount": optional(SIZE),
    "price": optional(expect("a price, nothing, or market_price", lambda value: value == _AT_MARKET or [price_or_none(value)])),
    "average_price": optional(OPTIONAL_PRICE),
    "time_in_force": nullable(optional(OPTIONAL_TEXT)),
    "cancel_reason": nullable(optional(OPTIONAL_TEXT)),
    "reject_reason": nullable(optional(OPTIONAL_TEXT)),
}
_TRADE: Fields = {
    **_HEAD,
    "trade_id": IDENTITY,
    "timestamp": TIME,
    "price": ABOVE_ZERO,
    "fee": SIGNED_NUMBER,
    "fee_currency": TEXT,
    "liquidity": one_of("M", "T"),
    "state": nullable(optional(OPTIONAL_TEXT)),
}

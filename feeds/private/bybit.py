"""Bybit, API v5: the topics `execution`, which tells what is traded, and `order`, which tells how orders stand.

Sizes are in coins, those of inverse contracts in USD.  What is read, and what is not, stands in docs/venues/bybit.md.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from feeds import Received, Record, Rejected
from feeds.checks import TEXT, TRUTH, Fields, decoded, expect, nullable, one_of, optional, text, whole
from feeds.private import PrivateSession, signing
from feeds.private.keys import Keys
from feeds.private.rows import (
    ABOVE_ZERO,
    DELIVERY,
    IDENTITY,
    OPTIONAL_PRICE,
    OPTIONAL_SIZE,
    OPTIONAL_TEXT,
    SIGNED_NUMBER,
    SIZE,
    TIME_TEXT,
    Results,
    above_zero,
    each_item,
    funding,
    identity,
    number_in,
    price_or_none,
    reported,
    size_in,
    size_or_none,
    text_or_none,
    traded,
    word,
)
from feeds.session import Request, object_in
from schemas.rows import shown

VENUE = "bybit"
URL = "wss://stream.bybit.com/v5/private"
CONTROL = {
    "wallet": "a balance is booked from fills and transfers, by the job positions",
    "position": "a position is booked from fills, by the job positions",
    "greeks": "Greeks are reckoned here",
    "dcp": "how long a lost connection leaves orders is not of an order",
    "Settle": "a session's profit is paid out; what is held, and its whole profit, stays as it is",
}
"""Topics and types of execution that are let pass, and why."""

_LOGIN_S = 10  # how long a signature holds
_CATEGORIES = {"spot": "bybit_spot", "linear": "bybit_linear", "inverse": "bybit_inverse", "option": "bybit_options"}
_SIDES = {"Buy": "buy", "Sell": "sell"}
_TRADES = {  # types of execution that are trades, and why they are forced or beside the book
    "Trade": None,
    "AdlTrade": "adl",
    "BustTrade": "liquidation",
    "BlockTrade": "block",
    "MovePosition": "move_position",
    "FutureSpread": "spread",
    "Delivery": DELIVERY,
}
_STATES = {  # exec_type and order_status of each
    "New": ("new", "new"),
    "Untriggered": ("new", "new"),
    "Triggered": ("status", "new"),
    "PartiallyFilled": ("status", "partially_filled"),
    "Filled": ("status", "filled"),
    "Cancelled": ("cancelled", "cancelled"),
    "PartiallyFilledCanceled": ("cancelled", "cancelled"),
    "Deactivated": ("cancelled", "cancelled"),
    "Rejected": ("rejected", "rejected"),
}
_TIMES_IN_FORCE = {"GTC": "gtc", "IOC": "ioc", "FOK": "fok", "PostOnly": "post_only"}
_STOPS = {"Stop": "stop", "StopLoss": "stop", "PartialStopLoss": "stop", "TrailingStop": "trailing_stop"} | dict.fromkeys(
    ("TakeProfit", "PartialTakeProfit"), "take_profit"
)
_SAYS_NOTHING = (None, "UNKNOWN", "EC_NoError")
_QUOTES = ("USDT", "USDC", "USDE", "USD1", "DAI", "EUR", "BRL", "TRY", "PLN", "BTC", "ETH", "MNT", "SOL", "BRZ", "USDQ", "USDR")
_SPOT = re.compile(rf"(?P<base>[A-Z0-9]+?)(?P<quote>{'|'.join(_QUOTES)})")
_INVERSE = re.compile(r"(?P<base>[A-Z0-9]+?)USD(?:[FGHJKMNQUVXZ]\d{2})?")
_LINEAR_IN_USDT = re.compile(r"[A-Z0-9]+USDT(?:-\d{1,2}[A-Z]{3}\d{2})?")
_OPTION_IN_USDT = re.compile(r".+-[CP]-USDT")


def parse(message: bytes, received: Received, account: str) -> Sequence[Record | Rejected]:
    """The rows in one raw message of a private connection.

    None for an acknowledgement, a login, a pong or what `CONTROL` names.  Raises `Rejected`.
    """
    envelope = decoded(message)
    topic = envelope.get("topic")
    if topic is None:
        return _acknowledged(envelope)
    kind = text_or_none(topic.partition(".")[0]) if type(topic) is str else None
    if kind in CONTROL:
        return []
    if kind not in ("order", "execution"):
        raise Rejected("topic", f"order, execution or one of {', '.join(CONTROL)}", shown(topic))
    items = envelope.get("data")
    if type(items) is not list:
        raise Rejected("data", "a list", "missing" if items is None else shown(items))
    if kind == "order":
        return each_item(((item, lambda item: [_order(item, received, account)], _ORDER) for item in items), received)
    if topic.startswith("execution.fast"):
        return each_item(((item, lambda item: [_fast(item, received, account)], _FAST) for item in items), received)
    return each_item(((item, lambda item: _execution(item, received, account), _EXECUTION) for item in items), received)


def session(keys: Keys, account: str, *, url: str = URL) -> PrivateSession:
    """What is said for one account; two topics tell of orders and executions in all that it deals in."""
    return PrivateSession(
        venue=VENUE,
        market=VENUE,
        account=account,
        url=url,
        parse=lambda message, received: parse(message, received, account),
        login=partial(login, keys),
        admitted=_is_admitted,
        subscribe=subscribe,
        refusal=_refusal,
        ping='{"op":"ping"}',
    )


def login(keys: Keys, now_ms: int) -> list[Request]:
    """The login of a connection, by a signature that holds for ten seconds: the secret itself is not sent."""
    expires_ms = now_ms + _LOGIN_S * 1000
    return [{"op": "auth", "args": [keys.key.reveal(), expires_ms, signing.bybit(keys.secret, expires_ms)]}]


def subscribe() -> list[Request]:
    """Asks for orders and executions of all categories."""
    return [{"op": "subscribe", "args": ["order", "execution"]}]


def _is_admitted(message: bytes) -> bool:
    envelope = object_in(message)
    return envelope.get("op") == "auth" and envelope.get("success") is True


def _refusal(message: bytes) -> str | None:
    envelope = object_in(message)
    return str(envelope.get("ret_msg")) if envelope.get("success") is False else None


def _acknowledged(envelope: dict[str, Any]) -> Results:
    """Nothing, where a request was taken: an order too, for the topics tell what becomes of it."""
    if "op" not in envelope:
        raise Rejected("topic", "a topic with data, or an op", "missing")
    if envelope.get("success") is False:
        raise Rejected("success", "true", shown(envelope))
    if envelope.get("retCode", 0) != 0:
        raise Rejected("retCode", "0", shown(envelope))
    return []


def settlement_currency(category: str, symbol: str) -> str | None:
    """What a contract settles in, as far as its symbol tells."""
    if category == "spot":
        pair = _SPOT.fullmatch(symbol)
        return pair["quote"] if pair else None
    if category == "inverse":
        pair = _INVERSE.fullmatch(symbol)
        return pair["base"] if pair else None
    in_usdt = _LINEAR_IN_USDT if category == "linear" else _OPTION_IN_USDT
    return "USDT" if in_usdt.fullmatch(symbol) else "USDC"


def _execution(data: Any, received: Received, account: str) -> Results:
    kind = data["execType"]
    if kind in CONTROL:
        return []
    category, symbol = data["category"], text(data["symbol"])
    settlement, fee = settlement_currency(category, symbol), number_in(data["execFee"])
    fee_currency = text_or_none(data.get("feeCurrency")) or _currency_of_fee(data, settlement, fee)
    event_ms = whole(data["execTime"])
    if kind == "Funding":
        if fee_currency is None:
            raise Rejected("symbol", "a contract whose currency of settlement is known", shown(symbol))
        transfer_id = f"funding:{_CATEGORIES[category]}:{symbol}:{identity(data['execId'])}"
        return [funding(account, received, event_ms, transfer_id, fee_currency, fee)]
    leaves = size_or_none(data.get("leavesQty"))
    report = reported(
        account,
        received,
        **_head(data),
        event_ms=event_ms,
        exec_type="trade",
        order_status=None if leaves is None else "partially_filled" if leaves else "filled",
        trade_id=identity(data["execId"]),
        order_type=word({}, data.get("orderType")),
        price=price_or_none(data.get("orderPrice")),
        quantity=size_or_none(data.get("orderQty")) or None,
        leaves_quantity=leaves,
        last_price=above_zero(data["execPrice"]),
        last_quantity=above_zero(data["execQty"]),
        fee=fee,
        fee_currency=fee_currency,
        is_maker=_truth(data["isMaker"]),
        reason=_TRADES[kind],
    )
    return traded(report, settlement, "symbol")


def _currency_of_fee(data: Any, settlement: str | None, fee: Decimal) -> str | None:
    """What a fee is in where the message does not name it: on spot it is taken from what the trade brings, and a rebate is paid
    in what it costs; else it is in what the contract settles in.

    Source: Bybit API v5 docs, "Spot Fee Currency Instruction".
    """
    if data["category"] != "spot" or settlement is None:
        return settlement
    base = data["symbol"].removesuffix(settlement)
    return base if (data["side"] == "Buy") == (fee >= 0) else settlement


def _fast(data: Any, received: Received, account: str) -> Record:
    """A trade before its fee is known: it comes again by `execution`, with the same id."""
    return reported(
        account,
        received,
        **_head(data),
        event_ms=whole(data["execTime"]),
        exec_type="trade",
        order_status=None,
        trade_id=identity(data["execId"]),
        last_price=above_zero(data["execPrice"]),
        last_quantity=above_zero(data["execQty"]),
        is_maker=_truth(data["isMaker"]),
    )


def _order(data: Any, received: Received, account: str) -> Record:
    exec_type, status = _STATES[data["orderStatus"]]
    traded_so_far = size_in(data["cumExecQty"])
    said = text_or_none(data.get("rejectReason")), text_or_none(data.get("cancelType"))
    reason = next((why for why in said if why not in _SAYS_NOTHING), None)
    if status == "rejected" and traded_so_far:
        # What has traded was not rejected: its rest is cancelled.
        exec_type, status, reason = "cancelled", "cancelled", f"rejected after trades: {reason or 'UNKNOWN'}"
    is_for_money = data.get("marketUnit") == "quoteCoin"
    return reported(
        account,
        received,
        **_head(data),
        event_ms=whole(data["updatedTime"]),
        exec_type=exec_type,
        order_status=status,
        order_type=_order_type(data),
        time_in_force=word(_TIMES_IN_FORCE, data.get("timeInForce")),
        price=price_or_none(data.get("price")),
        quantity=None if is_for_money else size_in(data["qty"]),
        cum_quantity=traded_so_far,
        average_price=price_or_none(data.get("avgPrice")),
        reason=reason if status in ("cancelled", "rejected") else None,
    )


def _order_type(data: Any) -> str | None:
    kind, stop = word({}, data.get("orderType")), _STOPS.get(text_or_none(data.get("stopOrderType")) or "")
    if stop is None or kind is None:
        return kind
    return f"{stop}_limit" if kind == "limit" and stop != "trailing_stop" else stop


def _head(data: Any) -> dict[str, Any]:
    return {
        "venue": _CATEGORIES[data["category"]],
        "instrument": text(data["symbol"]),
        "order_id": identity(data["orderId"]),
        "client_order_id": text_or_none(data.get("orderLinkId")),
        "side": _SIDES[data["side"]],
    }


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


_OPTIONAL = nullable(optional(OPTIONAL_TEXT))
_HEAD: Fields = {
    "category": one_of(*_CATEGORIES),
    "symbol": TEXT,
    "orderId": IDENTITY,
    "orderLinkId": _OPTIONAL,
    "side": one_of(*_SIDES),
}
_FAST: Fields = {
    **_HEAD,
    "execId": IDENTITY,
    "execTime": TIME_TEXT,
    "execPrice": ABOVE_ZERO,
    "execQty": ABOVE_ZERO,
    "isMaker": TRUTH,
}
_EXECUTION: Fields = {
    "execType": expect(
        f"one of {', '.join((*_TRADES, 'Funding', 'Settle'))}", lambda value: value in (*_TRADES, "Funding", "Settle")
    ),
    **_FAST,
    "execFee": SIGNED_NUMBER,
    "feeCurrency": _OPTIONAL,
    "leavesQty": optional(OPTIONAL_SIZE),
    "orderQty": optional(OPTIONAL_SIZE),
    "orderPrice": optional(OPTIONAL_PRICE),
    "orderType": _OPTIONAL,
}
_ORDER: Fields = {
    **_HEAD,
    "orderStatus": one_of(*_STATES),
    "updatedTime": TIME_TEXT,
    "qty": SIZE,
    "cumExecQty": SIZE,
    "price": optional(OPTIONAL_PRICE),
    "avgPrice": optional(OPTIONAL_PRICE),
    **dict.fromkeys(("orderType", "timeInForce", "rejectReason", "cancelType", "stopOrderType"), _OPTIONAL),
}

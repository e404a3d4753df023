"""Bybit, API v5: the topics `execution`, which has the trades, and `order`, which has the state of orders.

Sizes are in coins, those of inverse contracts in USD.  docs/venues/bybit.md lists what is read and what is not.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from feeds import Received, Record, Rejected
from feeds.checks import TEXT, TRUTH, Fields, decoded, expect, nullable, one_of, optional, text, whole
from feeds.private import History, PrivateSession, Question, Refusal, Signed, signing
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
REST_URL = "https://api.bybit.com"
CONTROL = {
    "wallet": "a balance is booked from fills and transfers, by the job positions",
    "position": "a position is booked from fills, by the job positions",
    "greeks": "Greeks are reckoned here",
    "dcp": "about how long orders outlive a lost connection, not about an order",
    "Settle": "the profit of a session is paid out; the position and its whole profit stay the same",
}
"""Topics and types of execution that are ignored, and why."""

_EXECUTIONS = "/v5/execution/list"
_PAGE = 100  # executions in a response
_WINDOW_MS = 5000  # how long the signature of an HTTP request is valid
_PASSES_S = {  # errors that pass, and how long to wait
    **dict.fromkeys((10006, 10018, 10429), 5.0),  # too many requests
    **dict.fromkeys((10000, 10016), 5.0),  # timeout, maintenance
    10002: 30.0,  # our clock is wrong
}
_LOGIN_S = 10  # how long a signature is valid
_CATEGORIES = {"spot": "bybit_spot", "linear": "bybit_linear", "inverse": "bybit_inverse", "option": "bybit_options"}
_SIDES = {"Buy": "buy", "Sell": "sell"}
_TRADES = {  # types of execution that are trades, and the reason if they are forced or outside the book
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
    if received.url is not None and received.url.endswith(_EXECUTIONS):
        return _history(envelope.get("result"), received, account)
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


def session(keys: Keys, account: str, *, url: str = URL, rest_url: str = REST_URL) -> PrivateSession:
    """The session of one account; two topics have its orders and executions in all categories."""
    return PrivateSession(
        venue=VENUE,
        market=VENUE,
        account=account,
        url=url,
        parse=lambda message, received: parse(message, received, account),
        login=partial(login, keys),
        admitted=lambda message: _is_done(message, "auth"),
        subscribe=subscribe,
        subscribed=lambda message: _is_done(message, "subscribe"),
        refusal=_refusal,
        ping='{"op":"ping"}',
        missed=partial(missed, keys, rest_url),
    )


def login(keys: Keys, now_ms: int) -> list[Request]:
    """The login of a connection by a signature that is valid for ten seconds: the secret is not sent."""
    expires_ms = now_ms + _LOGIN_S * 1000
    return [{"op": "auth", "args": [keys.key.reveal(), expires_ms, signing.bybit(keys.secret, expires_ms)]}]


def subscribe() -> list[Request]:
    """Requests orders and executions of all categories."""
    return [{"op": "subscribe", "args": ["order", "execution"]}]


def missed(keys: Keys, rest_url: str, since_ms: int, until_ms: int, symbols: Sequence[str] = ()) -> History:
    """Requests the executions of seven days from a time on, newest first, by category."""
    for category in _CATEGORIES:
        cursor = ""
        while True:
            # The cursor comes in percent encoding, and is signed like that.
            query = f"category={category}&startTime={since_ms}&limit={_PAGE}{cursor}"
            result = object_in((yield _asking(keys, rest_url, query))).get("result")
            if type(result) is not dict or not result.get("nextPageCursor") or not result.get("list"):
                break
            cursor = f"&cursor={result['nextPageCursor']}"


def _asking(keys: Keys, rest_url: str, query: str) -> Question:
    def signed(now_ms: int) -> Signed:
        key = keys.key.reveal()
        headers = {
            "X-BAPI-API-KEY": key,
            "X-BAPI-TIMESTAMP": str(now_ms),
            "X-BAPI-RECV-WINDOW": str(_WINDOW_MS),
            "X-BAPI-SIGN": signing.bybit_request(keys.secret, now_ms, key, _WINDOW_MS, query),
        }
        return Signed("GET", rest_url + _EXECUTIONS, headers, query)

    return signed


def _is_done(message: bytes, op: str) -> bool:
    envelope = object_in(message)
    return envelope.get("op") == op and envelope.get("success") is True


def _refusal(message: bytes) -> Refusal | None:
    envelope = object_in(message)
    if envelope.get("success") is False:
        return Refusal(str(envelope.get("ret_msg")))
    code = envelope.get("retCode", 0)
    return Refusal(f"{code} {envelope.get('retMsg')}", _PASSES_S.get(code)) if type(code) is int and code != 0 else None


def _history(result: Any, received: Received, account: str) -> Results:
    """The rows of executions of the past, whose category stands beside them."""
    if type(result) is not dict or type(result.get("list")) is not list:
        raise Rejected("result", "a category with a list", shown(result))
    items = result["list"]
    executions = [{"category": result.get("category"), **item} if type(item) is dict else item for item in items]
    return each_item(((item, lambda item: _execution(item, received, account), _EXECUTION) for item in executions), received)


def _acknowledged(envelope: dict[str, Any]) -> Results:
    """No rows for a request that was accepted; the topics have what becomes of an order."""
    if "op" not in envelope:
        raise Rejected("topic", "a topic with data, or an op", "missing")
    if envelope.get("success") is False:
        raise Rejected("success", "true", shown(envelope))
    if envelope.get("retCode", 0) != 0:
        raise Rejected("retCode", "0", shown(envelope))
    return []


def settlement_currency(category: str, symbol: str) -> str | None:
    """The currency that a contract settles in; None if it does not follow from the symbol."""
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
    """The currency of a fee that the message does not name.  On spot a fee is in what the trade brings, and a rebate in what it
    costs; elsewhere it is in what the contract settles in.

    Source: Bybit API v5 docs, "Spot Fee Currency Instruction".
    """
    if data["category"] != "spot" or settlement is None:
        return settlement
    base = data["symbol"].removesuffix(settlement)
    return base if (data["side"] == "Buy") == (fee >= 0) else settlement


def _fast(data: Any, received: Received, account: str) -> Record:
    """A trade before its fee is known: `execution` has it again, with the same id."""
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
        # The traded part was not rejected: the rest is cancelled.
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

"""OKX: orders and fills of an account by the channel `orders`, in which each fill is a message of its order.

What is read, and what is not, stands in docs/venues/okx.md.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from feeds import Received, Record, Rejected
from feeds import okx as public
from feeds.checks import TEXT, Fields, decoded, nullable, one_of, optional, push, text, whole
from feeds.private import PrivateSession, signing
from feeds.private.keys import Keys, KeysError
from feeds.private.rows import (
    ABOVE_ZERO,
    DELIVERY,
    IDENTITY,
    OPTIONAL_PRICE,
    OPTIONAL_SIZE,
    OPTIONAL_TEXT,
    SIDE,
    SIGNED_NUMBER,
    SIZE,
    TIME_TEXT,
    Results,
    above_zero,
    each_item,
    identity,
    number_in,
    price_or_none,
    reported,
    settlement_currency,
    size_in,
    size_or_none,
    text_or_none,
    traded,
)
from feeds.session import Request, object_in
from schemas.rows import shown

URL = "wss://ws.okx.com:8443/ws/v5/private"
CONTROL = {
    "account": "a balance is booked from fills and transfers, by the job positions",
    "positions": "a position is booked from fills, by the job positions",
    "balance_and_position": "as account and positions",
    "liquidation-warning": "margin is reckoned here",
    "account-greeks": "Greeks are reckoned here",
    "fills": "the channel orders tells of each fill, and of its fee",
}
"""Channels that are let pass, and why."""

_NOT_DATA = ("subscribe", "unsubscribe", "notice", "channel-conn-count", "login")
_STATES = {
    "live": "new",
    "partially_filled": "partially_filled",
    "filled": "filled",
    "canceled": "cancelled",
    "mmp_canceled": "cancelled",
}
_TYPES: dict[str, tuple[str, str | None]] = {  # and time in force
    "market": ("market", "ioc"),
    "limit": ("limit", "gtc"),
    "post_only": ("limit", "post_only"),
    "fok": ("limit", "fok"),
    "ioc": ("limit", "ioc"),
    "optimal_limit_ioc": ("market", "ioc"),
    "mmp": ("limit", "gtc"),
    "mmp_and_post_only": ("limit", "post_only"),
    "op_fok": ("limit", "fok"),
    "trigger": ("stop", None),
}
_AMEND_FAILED = "-1"


def parse(message: bytes, received: Received, account: str) -> Sequence[Record | Rejected]:
    """The rows in one raw message of a private connection.

    None for an acknowledgement, a login, a pong or what `CONTROL` names.  Raises `Rejected`.
    """
    if message == b"pong":
        return []
    envelope = decoded(message)
    if "arg" in envelope and "data" in envelope:
        channel, items, _ = push(envelope, received)
        if channel in CONTROL:
            return []
        if channel != "orders":
            raise Rejected("channel", f"a channel that is read: orders, {', '.join(CONTROL)}", shown(channel))
        return each_item(((item, lambda item: _order(item, received, account), _fields(item)) for item in items), received)
    event = envelope.get("event")
    if event is not None:
        if event in _NOT_DATA:
            return []
        raise Rejected("event", f"one of {', '.join(_NOT_DATA)}", shown(envelope if event == "error" else event))
    if "op" in envelope and envelope.get("code") == "0":
        return []  # an order was taken; the channel tells what becomes of it
    if "op" in envelope:
        raise Rejected("code", "0", shown(envelope))
    raise Rejected("arg", "an arg with data, an event or the answer to an op", "missing")


def session(keys: Keys, account: str, *, url: str = URL) -> PrivateSession:
    """What is said for one account; one channel tells of orders and fills in all that it deals in.

    Raises `KeysError` for keys without a passphrase.
    """
    if keys.passphrase is None:
        raise KeysError("passphrase: OKX has given one with the key, and wants it")
    return PrivateSession(
        venue=public.VENUE,
        market=public.VENUE,
        account=account,
        url=url,
        parse=lambda message, received: parse(message, received, account),
        login=partial(login, keys),
        admitted=_is_admitted,
        subscribe=subscribe,
        refusal=_refusal,
        ping="ping",
    )


def login(keys: Keys, now_ms: int) -> list[Request]:
    """The login of a connection, by a signature: the secret itself is not sent, the passphrase is."""
    seconds = now_ms // 1000
    args = {
        "apiKey": keys.key.reveal(),
        "passphrase": "" if keys.passphrase is None else keys.passphrase.reveal(),
        "timestamp": str(seconds),
        "sign": signing.okx(keys.secret, seconds),
    }
    return [{"op": "login", "args": [args]}]


def subscribe() -> list[Request]:
    """Asks for orders and fills of all instruments."""
    return [{"op": "subscribe", "args": [{"channel": "orders", "instType": "ANY"}]}]


def _is_admitted(message: bytes) -> bool:
    envelope = object_in(message)
    return envelope.get("event") == "login" and envelope.get("code") == "0"


def _refusal(message: bytes) -> str | None:
    envelope = object_in(message)
    return f"{envelope.get('code')} {envelope.get('msg')}" if envelope.get("event") == "error" else None


def _order(data: Any, received: Received, account: str) -> Results:
    state, amended = data["state"], text_or_none(data.get("amendResult"))
    about = _about(data)
    results: Results = []
    is_fill = state in ("partially_filled", "filled") and bool(text_or_none(data.get("tradeId")))
    if is_fill:
        fee, fee_currency = _fee(data)
        report = reported(
            account,
            received,
            **about,
            event_ms=whole(data["fillTime"]),
            exec_type="trade",
            trade_id=text(data["tradeId"]),
            last_price=above_zero(data["fillPx"]),
            last_quantity=above_zero(data["fillSz"]),
            fee=fee,
            fee_currency=fee_currency,
            is_maker={"M": True, "T": False}.get(data.get("execType")),
            reason=_why_traded(data),
        )
        results += traded(report, settlement_currency(public.describe, public.VENUE, about["instrument"]), "instId")
    if not is_fill or amended is not None:
        exec_type, reason = _change(data, amended)
        results.append(reported(account, received, **about, event_ms=whole(data["uTime"]), exec_type=exec_type, reason=reason))
    return results


def _about(data: Any) -> dict[str, Any]:
    """What all that is told of an order says of it."""
    kind = text_or_none(data.get("ordType"))
    order_type, time_in_force = (None, None) if kind is None else _TYPES.get(kind, (kind, None))
    return {
        "venue": public.VENUE,
        "instrument": text(data["instId"]),
        "order_status": _STATES[data["state"]],
        "order_id": identity(data["ordId"]),
        "client_order_id": text_or_none(data.get("clOrdId")),
        "side": data["side"],
        "order_type": order_type,
        "time_in_force": time_in_force,
        "price": price_or_none(data.get("px")),
        "quantity": None if data.get("tgtCcy") == "quote_ccy" else size_or_none(data["sz"]),
        "cum_quantity": size_in(data["accFillSz"]),
        "average_price": price_or_none(data.get("avgPx")),
    }


def _change(data: Any, amended: str | None) -> tuple[str, str | None]:
    """What has become of an order beside fills: as `exec_type`, and why."""
    status = _STATES[data["state"]]
    if amended == _AMEND_FAILED:
        return "status", f"the amendment failed: {text_or_none(data.get('code')) or amended}"
    if amended is not None and status != "cancelled":
        return "replaced", None
    if status == "cancelled":
        said = text_or_none(data.get("cancelSourceReason")) or text_or_none(data.get("cancelSource"))
        return "cancelled", said or (data["state"] if data["state"] != "canceled" else None)
    return ("new" if status == "new" else "status"), None


def _why_traded(data: Any) -> str | None:
    category = text_or_none(data.get("category"))
    return None if category in (None, "normal") else DELIVERY if category == "delivery" else category


def _fee(data: Any) -> tuple[Decimal, str | None]:
    """What this fill cost.  OKX tells what is charged as negative; an older message tells of all fills of an order together."""
    if text_or_none(data.get("fillFee")) is not None:
        currency = text_or_none(data.get("fillFeeCcy")) or text_or_none(data.get("feeCcy"))
        return -number_in(data["fillFee"]), currency
    if size_in(data["accFillSz"]) != size_in(data["fillSz"]):
        raise Rejected("fillFee", "the fee of this fill, which is not the first of its order", "missing")
    currency, charged = text(data["feeCcy"]), number_in(data["fee"])
    rebate = number_in(data.get("rebate") or "0")
    if rebate and data.get("rebateCcy") != currency:
        raise Rejected("fillFee", f"the fee of this fill, beside a rebate in another currency than {currency}", "missing")
    return -(charged + rebate), currency


def _fields(item: Any) -> Fields:
    if type(item) is dict and item.get("tradeId") and item.get("state") in ("partially_filled", "filled"):
        return _OLDER_FILL if not item.get("fillFee") else _FILL
    return _ORDER


_ORDER: Fields = {
    "instId": TEXT,
    "ordId": IDENTITY,
    "state": one_of(*_STATES),
    "side": SIDE,
    "uTime": TIME_TEXT,
    "sz": OPTIONAL_SIZE,
    "accFillSz": SIZE,
    "px": optional(OPTIONAL_PRICE),
    "avgPx": optional(OPTIONAL_PRICE),
    **dict.fromkeys(
        ("clOrdId", "ordType", "tradeId", "category", "amendResult", "cancelSource", "cancelSourceReason", "code"),
        nullable(optional(OPTIONAL_TEXT)),
    ),
}
_FILL: Fields = {
    **_ORDER,
    "fillTime": TIME_TEXT,
    "fillPx": ABOVE_ZERO,
    "fillSz": ABOVE_ZERO,
    "fillFee": SIGNED_NUMBER,
    "fillFeeCcy": nullable(optional(OPTIONAL_TEXT)),
    "execType": nullable(optional(OPTIONAL_TEXT)),
}
_OLDER_FILL: Fields = {
    **{name: check for name, check in _FILL.items() if not name.startswith("fillFee")},
    "fee": SIGNED_NUMBER,
    "feeCcy": TEXT,
    "rebate": nullable(optional(OPTIONAL_TEXT)),
}

"""OKX: orders and fills of an account from the channel `orders`, in which each fill is a message of its order.

docs/venues/okx.md lists what is read and what is not.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from feeds import Received, Record, Rejected
from feeds import okx as public
from feeds.checks import TEXT, Fields, decoded, nullable, one_of, optional, push, text, whole
from feeds.private import History, PrivateSession, Question, Refusal, Signed, signing
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
REST_URL = "https://www.okx.com"
CONTROL = {
    "account": "a balance is booked from fills and transfers, by the job positions",
    "positions": "a position is booked from fills, by the job positions",
    "balance_and_position": "as account and positions",
    "liquidation-warning": "margin is reckoned here",
    "account-greeks": "Greeks are reckoned here",
    "fills": "the channel orders has each fill, and its fee",
}
"""Channels that are ignored, and why."""

_FILLS = "/api/v5/trade/fills"  # of the last three days
_PAGE = 100  # fills in a response
_PASSES_S = {  # errors that pass, and how long to wait
    **dict.fromkeys(("50011", "50040", "50061", "60014"), 5.0),  # too many requests
    **dict.fromkeys(("50001", "50004", "50013", "50026", "63999"), 5.0),  # busy, timeout, maintenance
    **dict.fromkeys(("50102", "50112", "60004", "60006"), 30.0),  # our clock is wrong
}
_CLOSING = "64008"  # the notice of a connection that will soon be closed
_DELIVERIES = ("112", "113", "170", "171", "172")  # `subType` of fills of the past; the last three are of options
_REASONS = {
    **dict.fromkeys(map(str, range(100, 112)), "liquidation"),
    **dict.fromkeys(map(str, range(125, 129)), "adl"),
    **dict.fromkeys(map(str, range(204, 210)), "block"),
    **dict.fromkeys(_DELIVERIES, DELIVERY),
}
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
        return []  # an order was accepted; the channel has what becomes of it
    if received.url is not None and received.url.endswith(_FILLS):
        fills = envelope.get("data")
        if type(fills) is not list:
            raise Rejected("data", "a list", shown(fills))
        return each_item(((fill, lambda fill: _past(fill, received, account), _PAST) for fill in fills), received)
    if "op" in envelope:
        raise Rejected("code", "0", shown(envelope))
    raise Rejected("arg", "an arg with data, an event or the response to an op", "missing")


def session(keys: Keys, account: str, *, url: str = URL, rest_url: str = REST_URL) -> PrivateSession:
    """The session of one account; one channel has its orders and fills in all instruments.

    Raises `KeysError` for keys without a passphrase.
    """
    if keys.passphrase is None:
        raise KeysError(f"{keys.name}: expected a passphrase too: the one that was chosen with the key at OKX")
    return PrivateSession(
        venue=public.VENUE,
        market=public.VENUE,
        account=account,
        url=url,
        parse=lambda message, received: parse(message, received, account),
        login=partial(login, keys),
        admitted=_is_admitted,
        subscribe=subscribe,
        subscribed=lambda message: object_in(message).get("event") == "subscribe",
        refusal=_refusal,
        is_over=lambda message: object_in(message).get("code") == _CLOSING,
        ping="ping",
        missed=partial(missed, keys, rest_url),
    )


def login(keys: Keys, now_ms: int) -> list[Request]:
    """The login of a connection by a signature: the secret is not sent, the passphrase is."""
    seconds = now_ms // 1000
    args = {
        "apiKey": keys.key.reveal(),
        "passphrase": "" if keys.passphrase is None else keys.passphrase.reveal(),
        "timestamp": str(seconds),
        "sign": signing.okx(keys.secret, seconds),
    }
    return [{"op": "login", "args": [args]}]


def subscribe() -> list[Request]:
    """Requests orders and fills of all instruments."""
    return [{"op": "subscribe", "args": [{"channel": "orders", "instType": "ANY"}]}]


def _is_admitted(message: bytes) -> bool:
    envelope = object_in(message)
    return envelope.get("event") == "login" and envelope.get("code") == "0"


def _refusal(message: bytes) -> Refusal | None:
    envelope = object_in(message)
    code = envelope.get("code", "0")
    is_response = "event" not in envelope and "op" not in envelope
    if envelope.get("event") == "error" or (is_response and code != "0"):
        return Refusal(f"{code} {envelope.get('msg')}", _PASSES_S.get(str(code)))
    return None


def missed(keys: Keys, rest_url: str, since_ms: int, until_ms: int, symbols: Sequence[str] = ()) -> History:
    """Requests the fills from one time to another, newest first: OKX has those of three days."""
    after = ""
    while True:
        query = f"begin={since_ms}&end={until_ms}&limit={_PAGE}{after}"
        items = object_in((yield _asking(keys, rest_url, query))).get("data")
        if type(items) is not list or len(items) < _PAGE or type(items[-1]) is not dict or not items[-1].get("billId"):
            return
        after = f"&after={items[-1]['billId']}"


def _asking(keys: Keys, rest_url: str, query: str) -> Question:
    def signed(now_ms: int) -> Signed:
        timestamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{now_ms % 1000:03d}Z"
        headers = {
            "OK-ACCESS-KEY": keys.key.reveal(),
            "OK-ACCESS-SIGN": signing.okx(keys.secret, timestamp, "GET", f"{_FILLS}?{query}"),
            "OK-ACCESS-TIMESTAMP": timestamp,
            "OK-ACCESS-PASSPHRASE": "" if keys.passphrase is None else keys.passphrase.reveal(),
        }
        return Signed("GET", rest_url + _FILLS, headers, query)

    return signed


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


def _past(data: Any, received: Received, account: str) -> Results:
    """The rows of a fill from the history, which has less than the channel but for the fee and the price."""
    name, kind = text(data["instId"]), text_or_none(data.get("subType"))
    report = reported(
        account,
        received,
        venue=public.VENUE,
        instrument=name,
        event_ms=whole(data.get("fillTime") or data["ts"]),
        exec_type="trade",
        order_status=None,
        order_id=identity(data["ordId"]),
        trade_id=text(data["tradeId"]),
        client_order_id=text_or_none(data.get("clOrdId")),
        side=data["side"],
        last_price=above_zero(data["fillPx"]),
        last_quantity=above_zero(data["fillSz"]),
        fee=-number_in(data["fee"]),
        fee_currency=text(data["feeCcy"]),
        is_maker={"M": True, "T": False}.get(data.get("execType")),
        reason=_REASONS.get(kind or ""),
    )
    return traded(report, settlement_currency(public.describe, public.VENUE, name), "instId")


def _about(data: Any) -> dict[str, Any]:
    """The columns that every report on an order has."""
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
    """How an order has changed other than by a fill: `exec_type`, and why."""
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
    """The fee of this fill.  OKX has a charge as a negative number; an older message has the sum of all fills of its order."""
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
_PAST: Fields = {
    "instId": TEXT,
    "ordId": IDENTITY,
    "tradeId": TEXT,
    "side": SIDE,
    "ts": TIME_TEXT,
    "fillTime": nullable(optional(OPTIONAL_TEXT)),
    "fillPx": ABOVE_ZERO,
    "fillSz": ABOVE_ZERO,
    "fee": SIGNED_NUMBER,
    "feeCcy": TEXT,
    "clOrdId": nullable(optional(OPTIONAL_TEXT)),
}
_OLDER_FILL: Fields = {
    **{name: check for name, check in _FILL.items() if not name.startswith("fillFee")},
    "fee": SIGNED_NUMBER,
    "feeCcy": TEXT,
    "rebate": nullable(optional(OPTIONAL_TEXT)),
}

"""Binance: `executionReport` of spot, `ORDER_TRADE_UPDATE` of futures and options, and `TRADE_LITE`.

Sizes are in coins, those of COIN-M in contracts.  docs/venues/binance.md lists what is read and what is not.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from feeds import Received, Record, Rejected
from feeds import binance as public
from feeds.binance import COINM, OPTIONS, SPOT, USDM
from feeds.checks import TEXT, TRUTH, Fields, decoded, nullable, one_of, optional, text
from feeds.private import PrivateSession, Refusal, Signed, binance_history, signing
from feeds.private.binance_history import KEY_HEADER, SIDES, TRADE_ID, trade_id, truth
from feeds.private.keys import Keys
from feeds.private.rows import (
    ABOVE_ZERO,
    DELIVERY,
    IDENTITY,
    OPTIONAL_PRICE,
    OPTIONAL_TEXT,
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

VENUE = "binance"
CONTROL = {
    **dict.fromkeys(
        ("outboundAccountPosition", "ACCOUNT_UPDATE", "BALANCE_POSITION_UPDATE"),
        "balances and positions are booked from fills and transfers, by the job positions",
    ),
    **dict.fromkeys(
        ("balanceUpdate", "externalLockUpdate"),
        "deposits and withdrawals are transfers, which come from elsewhere",
    ),
    **dict.fromkeys(("MARGIN_CALL", "RISK_LEVEL_CHANGE", "GREEK_UPDATE"), "margin and Greeks are computed here"),
    **dict.fromkeys(
        ("listStatus", "STRATEGY_UPDATE", "GRID_UPDATE", "ALGO_UPDATE", "CONDITIONAL_ORDER_TRIGGER_REJECT"),
        "the orders that they place have events of their own",
    ),
    "ACCOUNT_CONFIG_UPDATE": "about leverage, not about an order",
    **dict.fromkeys(("listenKeyExpired", "eventStreamTerminated", "serverShutdown"), "the session connects again"),
}
"""Events that are ignored, and why."""

_OVER = ("listenKeyExpired", "eventStreamTerminated", "serverShutdown")
_ADDRESSES = {  # of each market: its streams, and its HTTP requests
    SPOT: ("wss://ws-api.binance.com:443/ws-api/v3", "https://api.binance.com"),
    USDM: ("wss://fstream.binance.com/private", "https://fapi.binance.com"),
    COINM: ("wss://dstream.binance.com", "https://dapi.binance.com"),
    OPTIONS: ("wss://fstream.binance.com/private", "https://eapi.binance.com"),
}
_LISTEN_KEYS = {USDM: "/fapi/v1/listenKey", COINM: "/dapi/v1/listenKey", OPTIONS: "/eapi/v1/listenKey"}
_PASSES_S = {  # errors that pass, and how long to wait
    **dict.fromkeys((-1003, -1034), 60.0),  # too many requests or connections
    **dict.fromkeys((-1000, -1001, -1006, -1007, -1008, -1016), 5.0),  # busy, timeout, maintenance
    -1021: 30.0,  # our clock is wrong
}
MARKETS = tuple(_ADDRESSES)
_EXEC_TYPES = {
    "NEW": "new",
    "TRADE": "trade",
    "CALCULATED": "status",  # a liquidation; a trade if it has a size
    "CANCELED": "cancelled",
    "REPLACED": "replaced",
    "AMENDMENT": "replaced",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
    "TRADE_PREVENTION": "expired",
}
_STATES = {
    "NEW": "new",
    "PENDING_NEW": "pending_new",
    "PARTIALLY_FILLED": "partially_filled",
    "FILLED": "filled",
    "CANCELED": "cancelled",
    "PENDING_CANCEL": "pending_cancel",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
    "EXPIRED_IN_MATCH": "expired",
    # Orders by which the venue closes a position: the state follows from the traded size.
    "NEW_ADL": "new",
    "NEW_INSURANCE": "new",
}
_TYPES = {
    "LIMIT_MAKER": "limit",
    "STOP_LOSS": "stop",
    "STOP_LOSS_LIMIT": "stop_limit",
    "STOP_MARKET": "stop",
    "STOP": "stop_limit",
    "TAKE_PROFIT_MARKET": "take_profit",
    "TRAILING_STOP_MARKET": "trailing_stop",
}
_FUTURES_TYPES = {**_TYPES, "TAKE_PROFIT": "take_profit_limit"}  # of which spot says TAKE_PROFIT_LIMIT
_TIMES_IN_FORCE = {"GTX": "post_only"}
_FORCED = {  # how the client id begins if the venue has placed the order
    "adl_autoclose": "adl",
    "autoclose-": "liquidation",
    "settlement_autoclose-": "settlement",
    "delivery_autoclose-": DELIVERY,
}
_SAYS_NOTHING = (None, "NONE")


def parse(message: bytes, received: Received, account: str) -> Sequence[Record | Rejected]:
    """The rows in one raw message of a private connection.

    None for an acknowledgement or what `CONTROL` names.  Raises `Rejected`.
    """
    market = binance_history.market_at(received.url)
    if market is not None:
        return binance_history.parse(market, message, received, account)
    envelope = decoded(message)
    if "e" not in envelope and ("status" in envelope or "result" in envelope or "error" in envelope):
        if envelope.get("error") is not None:
            raise Rejected("error", "a result", shown(envelope["error"]))
        return []
    if "stream" not in envelope:
        return _event(envelope, received, account)
    try:
        return _event(envelope, received, account)
    except Rejected as rejected:
        # The name of the stream is the listenKey, a secret: the dead letter has everything else.
        rejected.item = orjson.dumps({name: value for name, value in envelope.items() if name != "stream"})
        return [rejected]


def _event(envelope: dict[str, Any], received: Received, account: str) -> Results:
    """The rows in one event, bare or as one of the APIs wraps it."""
    event = envelope
    for wrapper in ("event", "data"):
        if "e" not in event and wrapper in event:
            event = event[wrapper]
            if type(event) is not dict:
                raise Rejected(wrapper, "a JSON object", shown(event))
    kind = event.get("e")
    if type(kind) is str and kind in CONTROL:
        return []
    if kind == "executionReport":
        return each_item([(event, lambda item: _order(item, SPOT, received, account), _SPOT)], received)
    if kind == "TRADE_LITE":
        return each_item([(event, lambda item: [_lite(item, received, account)], _LITE)], received)
    if kind == "ORDER_TRADE_UPDATE":
        order = event.get("o")
        if type(order) is not dict:
            raise Rejected("o", "a JSON object", "missing" if order is None else shown(order))
        return each_item([(order, lambda item: _order(item, None, received, account), _FUTURES)], received)
    known = ", ".join(("executionReport", "ORDER_TRADE_UPDATE", "TRADE_LITE", *CONTROL))
    raise Rejected("e", f"an event that is read: {known}", "missing" if kind is None else shown(kind))


def session(market: str, keys: Keys, account: str, *, url: str | None = None, rest_url: str | None = None) -> PrivateSession:
    """The session of one account on one of `MARKETS`.  `url` and `rest_url` replace the venue's own.

    On spot a signed request subscribes; elsewhere a listenKey is requested, and becomes part of the address.

    Raises `KeyError`.
    """
    base, host = url or _ADDRESSES[market][0], rest_url or _ADDRESSES[market][1]
    common: dict[str, Any] = {
        "venue": VENUE,
        "market": market,
        "account": account,
        "url": base,
        "parse": lambda message, received: parse(message, received, account),
        "refusal": _refusal,
        "is_over": _is_over,
        "silence_s": None,  # no message unless the account trades; websockets itself finds a dead connection by its pings
        "missed": partial(binance_history.missed, market, keys, host),
        "needs_symbols": True,
    }
    if market == SPOT:
        return PrivateSession(**common, login=partial(login, keys), admitted=_is_admitted)
    listen_key, headers = host + _LISTEN_KEYS[market], {KEY_HEADER: keys.key.reveal()}
    return PrivateSession(
        **common,
        admitted=lambda message: True,  # by its address
        ticket=Signed("POST", listen_key, headers),
        address=partial(_address, base),
        renewal=Signed("PUT", listen_key, headers),
    )


def login(keys: Keys, now_ms: int) -> list[Request]:
    """The signed request that subscribes to an account's events on spot: the secret is not sent."""
    params: dict[str, str | int] = {"apiKey": keys.key.reveal(), "timestamp": now_ms}
    params["signature"] = signing.binance(keys.secret, signing.binance_query(params))
    return [{"id": "login", "method": "userDataStream.subscribe.signature", "params": params}]


def _address(base: str, answer: bytes) -> str:
    key = object_in(answer).get("listenKey")
    if type(key) is not str or not key:
        raise Rejected("listenKey", "a text", "missing")  # the value may be a secret
    return f"{base}/ws/{key}"


def _is_admitted(message: bytes) -> bool:
    result = object_in(message).get("result")
    return type(result) is dict and "subscriptionId" in result


def _is_over(message: bytes) -> bool:
    envelope = object_in(message)
    inner = envelope.get("event", envelope.get("data"))
    return envelope.get("e") in _OVER or (type(inner) is dict and inner.get("e") in _OVER)


def _refusal(message: bytes) -> Refusal | None:
    """Of a websocket response, whose error is an object, or of an HTTP response, whose error stands by itself."""
    envelope = object_in(message)
    error = envelope.get("error", envelope)
    code = error.get("code") if type(error) is dict else None
    if type(code) is not int or code >= 0:
        return None
    return Refusal(f"{code} {error.get('msg')}", _PASSES_S.get(code))


def _market(symbol: str) -> str:
    """The market of a symbol of futures or options, by its form; any other symbol counts as USD-M."""
    for market in (OPTIONS, COINM):
        if settlement_currency(public.describe, market, symbol) is not None:
            return market
    return USDM


def _order(data: Any, market: str | None, received: Received, account: str) -> Results:
    """The rows in one order update; without `market` the symbol decides."""
    symbol = text(data["s"])
    market = market or _market(symbol)
    exec_type, status = _EXEC_TYPES[data["x"]], _STATES[data["X"]]
    quantity, cum_quantity = size_in(data["q"]), size_in(data["z"])
    is_trade = data["x"] in ("TRADE", "CALCULATED") and size_in(data["l"]) > 0
    if is_trade and status == "new":
        status = "filled" if cum_quantity >= quantity > 0 else "partially_filled"
    common = {
        "venue": market,
        "instrument": symbol,
        "event_ms": data["T"],
        "order_status": status,
        "order_id": identity(data["i"]),
        "client_order_id": text_or_none(data["c"]),
        "orig_client_order_id": text_or_none(data.get("C")),
        "side": SIDES[data["S"]],
        "order_type": word(_TYPES if market == SPOT else _FUTURES_TYPES, data.get("o")),
        "time_in_force": _time_in_force(data),
        "price": price_or_none(data.get("p")),
        "quantity": quantity or None,  # 0 if the order is for an amount of money
        "cum_quantity": cum_quantity,
        "average_price": _average(data, market, cum_quantity),
        "reason": _reason(data),
    }
    if not is_trade:
        return [reported(account, received, exec_type="status" if exec_type == "trade" else exec_type, **common)]
    # No fee if the venue closes a contract that it delivers.
    fee, currency = number_in(data.get("n") or "0"), text_or_none(data.get("N"))
    if fee and currency is None:
        raise Rejected("N", f"a currency of a fee of {fee}", "missing")
    report = reported(
        account,
        received,
        exec_type="trade",
        trade_id=trade_id(data["t"]),
        last_price=above_zero(data["L"]),
        last_quantity=above_zero(data["l"]),
        fee=fee,
        fee_currency=currency,
        is_maker=truth(data["m"]),
        **common,
    )
    return traded(report, settlement_currency(public.describe, market, symbol), "s")


def _lite(data: Any, received: Received, account: str) -> Record:
    """A trade before its fee is known: `ORDER_TRADE_UPDATE` has it again, with the same id."""
    symbol = text(data["s"])
    return reported(
        account,
        received,
        venue=_market(symbol),
        instrument=symbol,
        event_ms=data["T"],
        exec_type="trade",
        order_status=None,
        order_id=identity(data["i"]),
        trade_id=trade_id(data["t"]),
        client_order_id=text_or_none(data["c"]),
        side=SIDES[data["S"]],
        price=price_or_none(data.get("p")),
        quantity=size_in(data["q"]),
        last_price=above_zero(data["L"]),
        last_quantity=above_zero(data["l"]),
        is_maker=truth(data["m"]),
    )


def _time_in_force(data: Any) -> str | None:
    return "post_only" if data.get("o") == "LIMIT_MAKER" else word(_TIMES_IN_FORCE, data.get("f"))


def _average(data: Any, market: str, cum_quantity: Decimal) -> Decimal | None:
    if market != SPOT:
        return price_or_none(data.get("ap"))
    paid = price_or_none(data.get("Z"))
    return quotient(paid, cum_quantity) if paid and cum_quantity else None


def _reason(data: Any) -> str | None:
    client = data["c"] or ""
    forced = next((why for start, why in _FORCED.items() if client.startswith(start)), None)
    said = (text_or_none(data.get("r")), text_or_none(data.get("eR")) if type(data.get("eR")) is not int else str(data["eR"]))
    return forced or next((why for why in said if why not in _SAYS_NOTHING), None)


_OPTIONAL = nullable(optional(OPTIONAL_TEXT))
_LITE: Fields = {
    "s": TEXT,
    "i": IDENTITY,
    "c": OPTIONAL_TEXT,
    "S": one_of(*SIDES),
    "T": TIME,
    "q": SIZE,
    "p": optional(OPTIONAL_PRICE),
    "l": ABOVE_ZERO,
    "L": ABOVE_ZERO,
    "t": TRADE_ID,
    "m": TRUTH,
}
_FUTURES: Fields = {
    **{name: check for name, check in _LITE.items() if name not in ("l", "L", "t")},
    "x": one_of(*_EXEC_TYPES),
    "X": one_of(*_STATES),
    "l": SIZE,
    "z": SIZE,
    "o": _OPTIONAL,
    "f": _OPTIONAL,
    "ap": optional(OPTIONAL_PRICE),
    "L": ABOVE_ZERO,
    "t": _LITE["t"],
    "n": nullable(optional(SIGNED_NUMBER)),
    "N": _OPTIONAL,
}
_SPOT: Fields = {**_FUTURES, "C": _OPTIONAL, "r": _OPTIONAL, "Z": optional(OPTIONAL_PRICE)}

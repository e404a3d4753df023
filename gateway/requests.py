"""What a client of ours wants, as rows of `order_requests`; and what it is told at once where it cannot be wanted."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from gateway import Message, message
from gateway.config import Client
from gateway.reports import from_timestamp
from gateway.words import CANCEL, CANCEL_REJECT, NEW, POST_ONLY, REDUCE_ONLY, REPLACE, REPORT, SIDES, TIMES_IN_FORCE, TYPES
from kernels.orders import wrong_request
from kernels.orders.ids import client_order_id
from kernels.positions.ledger import CONTEXT
from schemas.records import OrderRequestsRow
from schemas.rows import fault, instant_ms, shown

NO_ORDER = "NONE"
"""OrderID of an order that there is not: FIX 4.4, OrderCancelReject."""
UNKNOWN_SYMBOL, UNKNOWN_ORDER, DUPLICATE, UNSUPPORTED, WRONG_QUANTITY, UNKNOWN_ACCOUNT, OTHER = (
    "1",
    "5",
    "6",
    "11",
    "13",
    "15",
    "99",
)
"""OrdRejReason."""
_KINDS = {NEW: "new", REPLACE: "replace", CANCEL: "cancel"}


class RefusedError(ValueError):
    """A message that is no request; `code` is OrdRejReason."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Named(NamedTuple):
    """An order or a request of a client: what it calls it, and how it is called here."""

    name: str  # client_order_id
    cl_ord_id: str
    kind: str  # new, replace or cancel
    order_key: str  # that of the first request of the order
    orig: str | None  # client_order_id of what it changes
    account: str
    venue: str
    instrument: str
    symbol: str
    side: str
    quantity: str | None = None


def own_id(client: Client, cl_ord_id: str) -> str:
    """Our client_order_id of a client's ClOrdID: the same one whenever it comes."""
    return client_order_id("fix", client.sender, client.target, cl_ord_id)


def requested(found: Message, client: Client, orig: Named | None, now_us: int) -> tuple[dict[str, Any], Named]:
    """The request in NewOrderSingle, OrderCancelReplaceRequest or OrderCancelRequest.

    `orig` is the order that it changes.  Raises `RefusedError`.
    """
    kind, cl_ord_id = _KINDS[found.kind], found.get(11)
    if cl_ord_id is None:
        raise RefusedError(OTHER, "ClOrdID (11): expected an id, got none")
    account, venue, instrument = _where(found, client, orig)
    side = SIDES.get(found.get(54) or "")
    if side is None:
        raise RefusedError(UNSUPPORTED, f"Side (54): expected 1 or 2, got {found.get(54)!r}")
    name, multiplier = own_id(client, cl_ord_id), _multiplier(client, venue, instrument)
    is_cancel = kind == "cancel"
    instructions = (found.get(18) or "").split()
    if unknown := [word for word in instructions if word not in (POST_ONLY, REDUCE_ONLY)]:
        raise RefusedError(UNSUPPORTED, f"ExecInst (18): expected 6 or E, got {unknown[0]!r}")
    order_type = None if is_cancel else _word(found, 40, "OrdType", {code: TYPES[code] for code in ("1", "2")})
    row = _blank() | {
        "account": account,
        "venue": venue,
        "instrument": instrument,
        "event_at": instant_ms(_decided_us(found, now_us) // 1000),
        "client_order_id": name,
        "orig_client_order_id": None if orig is None else orig.name,
        "request": kind,
        "source": client.source,
        "side": None if is_cancel else side,
        "order_type": order_type,
        "time_in_force": None if is_cancel else _time_in_force(found, instructions),
        "price": None if is_cancel or order_type == "market" else _number(found, 44, "Price", Decimal(1)),
        "quantity": None if is_cancel else _number(found, 38, "OrderQty", multiplier),
        "is_reduce_only": None if is_cancel else REDUCE_ONLY in instructions,
        "expires_at": _expiry(found),
        "reason": f"FIX {client.name}: {cl_ord_id}"[:200],
    }
    if not is_cancel and row["price"] is None and order_type == "limit":
        raise RefusedError(OTHER, "Price (44): expected a number of a limit order, got none")
    if not is_cancel and (row["quantity"] is None or Decimal(row["quantity"]) <= 0):
        raise RefusedError(WRONG_QUANTITY, f"OrderQty (38): expected a number above 0, got {found.get(38)!r}")
    if (wrong := fault("order_requests", row) or wrong_request(row)) is not None:
        raise RefusedError(OTHER, f"{wrong.field}: expected {wrong.expected}, got {wrong.got}")
    symbol = found.get(55) or (orig.symbol if orig else instrument)
    key = name if orig is None else orig.order_key
    names = (account, venue, instrument, symbol, side, found.get(38))
    return row, Named(name, cl_ord_id, kind, key, None if orig is None else orig.name, *names)


def refused(found: Message, error: RefusedError, orig: Named | None, exec_id: str, now: str) -> Message:
    """What the client is told of a request that is none: Rejected, or OrderCancelReject."""
    text = (58, str(error))
    if found.kind == NEW:
        told = (found.get(tag) or "" for tag in (11, 55, 54, 38, 40))
        cl_ord_id, symbol, side, quantity, kind = told
        fields = [(37, NO_ORDER), (11, cl_ord_id), (17, exec_id), (150, "8"), (39, "8"), (103, error.code), (55, symbol)]
        return message(
            REPORT, [*fields, (54, side), (38, quantity), (40, kind), (151, "0"), (14, "0"), (6, "0"), (60, now), text]
        )
    code = "1" if error.code == UNKNOWN_ORDER else "6" if error.code == DUPLICATE else "99"
    ids = [(37, orig.order_key if orig else NO_ORDER), (11, found.get(11)), (41, found.get(41))]
    response = "1" if found.kind == CANCEL else "2"
    return message(CANCEL_REJECT, [*ids, (39, "8"), (434, response), (102, code), (60, now), text])


def mass_cancel(client: Client, account: str, why: str, now_us: int, decision: str) -> dict[str, Any]:
    """A request to cancel all open orders of an account at the client's venue, as a row of `order_requests`."""
    return _blank() | {
        "account": account,
        "venue": client.venue,
        "event_at": instant_ms(now_us // 1000),
        "client_order_id": client_order_id("fix", client.sender, client.target, "cancel_all", account, decision),
        "request": "cancel_all",
        "source": client.source,
        "reason": why,
    }


def _blank() -> dict[str, Any]:
    return dict.fromkeys(OrderRequestsRow.__annotations__)


def _where(found: Message, client: Client, orig: Named | None) -> tuple[str, str, str]:
    account = found.get(1) or (orig.account if orig else client.accounts[0])
    if account not in client.accounts:
        raise RefusedError(UNKNOWN_ACCOUNT, f"Account (1): expected {', '.join(client.accounts)}, got {account!r}")
    symbol = found.get(55)
    if orig is not None and symbol in (None, orig.symbol):
        return account, orig.venue, orig.instrument
    if symbol is None:
        raise RefusedError(UNKNOWN_SYMBOL, "Symbol (55): expected a symbol, got none")
    market = symbol_of(client.instruments, symbol)
    if market is not None:
        venue, _, instrument = market.partition(":")
        return account, venue, instrument
    return account, found.get(207) or found.get(100) or client.venue, symbol


def symbol_of(instruments: Mapping[str, Any], symbol: str) -> str | None:
    """The venue:instrument that a client calls so."""
    return next((market for market, own in instruments.items() if own.symbol == symbol), None)


def _multiplier(client: Client, venue: str, instrument: str) -> Decimal:
    own = client.instruments.get(f"{venue}:{instrument}")
    return own.multiplier if own else Decimal(1)


def _decided_us(found: Message, now_us: int) -> int:
    """When it was decided: TransactTime, or when it was sent first.  One of the future is now."""
    for tag in (60, 122, 52):
        if (told := found.get(tag)) is not None:
            try:
                return min(from_timestamp(told), now_us)
            except ValueError:
                raise RefusedError(OTHER, f"{tag}: expected a UTCTimestamp, got {shown(told)}") from None
    return now_us


def _time_in_force(found: Message, instructions: list[str]) -> str:
    word = "day" if found.get(59) is None else _word(found, 59, "TimeInForce", TIMES_IN_FORCE)
    if POST_ONLY not in instructions:
        return word
    if word not in ("day", "gtc", "gtd"):
        raise RefusedError(UNSUPPORTED, f"TimeInForce (59): expected 0, 1 or 6 with ExecInst 6, got {found.get(59)!r}")
    return "post_only"


def _word(found: Message, tag: int, name: str, words: Mapping[str, str]) -> str:
    code = found.get(tag)
    if code is None or code not in words:
        raise RefusedError(UNSUPPORTED, f"{name} ({tag}): expected {', '.join(words)}, got {code!r}")
    return words[code]


def _number(found: Message, tag: int, name: str, divisor: Decimal) -> str | None:
    told = found.get(tag)
    if told is None:
        return None
    try:
        number = CONTEXT.divide(Decimal(told), divisor)
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite():
        raise RefusedError(OTHER, f"{name} ({tag}): expected a number, got {told!r}")
    return f"{number.normalize(CONTEXT):f}"


def _expiry(found: Message) -> str | None:
    told = found.get(126)
    if told is None or found.get(59) != "6":
        return None
    try:
        return instant_ms(from_timestamp(told) // 1000)
    except ValueError:
        raise RefusedError(OTHER, f"ExpireTime (126): expected a UTCTimestamp, got {told!r}") from None

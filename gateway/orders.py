"""Rows of `orders` as messages to a venue."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway import Message, message
from gateway.config import Instrument, Venue
from gateway.words import CANCEL, NEW, POST_ONLY, REDUCE_ONLY, REPLACE, SIDE_CODES, TIME_CODES, TYPE_CODES
from kernels.positions.ledger import CONTEXT
from schemas.rows import instant_ms, to_us

Row = Mapping[str, Any]
_PLAIN = Instrument.model_construct(symbol="", multiplier=Decimal(1))


def ordered(row: Row, session: Venue, now: str) -> Message:
    """NewOrderSingle, OrderCancelReplaceRequest or OrderCancelRequest of a row; `now` is TransactTime.

    Raises `ValueError` that names the field which the venue's FIX cannot say, and what was expected.
    """
    kind = row["request"]
    if kind not in _KINDS:
        raise ValueError(f"request: expected {', '.join(_KINDS)}, got {kind!r}")
    own = session.instruments.get(row["instrument"], _PLAIN)
    names = {
        "client_order_id": row["client_order_id"],
        "orig_client_order_id": row["orig_client_order_id"] or "",
        "order_id": row["order_id"] or "",
    }
    dialect = session.dialect
    ids = {11: row["client_order_id"]} if kind == "new" else _filled(dialect.refer, names)
    fields: dict[int, str | None] = {
        **ids,
        1: session.accounts.get(row["account"]),
        55: own.symbol or row["instrument"],
        54: SIDE_CODES[row["side"]],
        60: now,
    }
    if kind == "cancel":
        # FIX 4.4 wants OrderQty of a cancel; the row has none, and venues take it for the whole order.
        return message(CANCEL, fields.items())
    quantity, price = CONTEXT.multiply(Decimal(row["quantity"]), own.multiplier), row["price"]
    instructions = [POST_ONLY] * (row["time_in_force"] == "post_only") + [REDUCE_ONLY] * bool(row["is_reduce_only"])
    expires_at = row["expires_at"]
    fields |= {
        38: f"{quantity.normalize(CONTEXT):f}",
        40: _code("order_type", row["order_type"], TYPE_CODES),
        44: None if price is None else f"{Decimal(price).normalize(CONTEXT):f}",
        59: _code("time_in_force", _time(row["time_in_force"], expires_at), TIME_CODES),
        18: " ".join(instructions) or None,
        126: None if expires_at is None else timestamp(to_us(expires_at)),
        **dialect.order,
    }
    return message(_KINDS[kind], fields.items())


def status_request(row: Row, session: Venue) -> Message:
    """How to ask the venue for the order of a row: by the id that it has, or had first."""
    own = session.instruments.get(row["instrument"], _PLAIN)
    return session.dialect.status_request.filled(
        client_order_id=row["orig_client_order_id"] or row["client_order_id"],
        order_id=row["order_id"],
        symbol=own.symbol or row["instrument"],
        side=SIDE_CODES[row["side"]],
        id=row["client_order_id"],
    )


def timestamp(us: int) -> str:
    """UTCTimestamp of FIX, with milliseconds, of microseconds since 1970."""
    text = instant_ms(us // 1000)
    return f"{text[:10].replace('-', '')}-{text[11:23]}"


def _filled(fields: Mapping[int, str], names: Mapping[str, str]) -> dict[int, str | None]:
    return {tag: text.format_map(names) or None for tag, text in fields.items()}


def _code(field: str, word: str | None, codes: Mapping[str, str]) -> str:
    if word is None or word not in codes:
        raise ValueError(f"{field}: expected {', '.join(codes)}, got {word!r}")
    return codes[word]


def _time(word: str | None, expires_at: str | None) -> str:
    if word is None or word == "post_only":
        return "gtc" if expires_at is None else "gtd"
    return word


_KINDS = {"new": NEW, "replace": REPLACE, "cancel": CANCEL}

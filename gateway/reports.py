"""What a venue says of orders, as rows of `execution_reports` and `fills`.

Venue, trade date, ExecID and side identify an execution: a session, a drop copy and a resend tell the same one.  An ExecID of
0, or ExecType I, is a status: it never adds to what is traded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Any

from feeds import Record, Rejected
from gateway import Message
from gateway.config import Instrument
from gateway.dialect import Dialect
from gateway.words import CANCEL_REJECT, DONE, EVENTS, SIDES, STATUSES, TIMES_IN_FORCE, TYPES
from kernels.positions.ledger import CONTEXT, text
from schemas.records import ExecutionReportsRow, FillsRow
from schemas.rows import instant_ms, instant_us, shown, to_ms

TRADES = frozenset({"trade", "trade_cancel", "trade_correct"})
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """What the gateway knows of an order that a report is about."""

    account: str
    instrument: str
    side: str
    client_order_id: str | None = None  # of the request that the report answers, where it does not say
    orig_client_order_id: str | None = None
    is_open_replace: bool = False  # whether the id in the report is that of a replace which nobody has answered


@dataclass(frozen=True)
class Source:
    """Whose message it is.

    venue        its name in rows
    dialect      how it speaks
    instruments  what it calls our instruments, and their multipliers
    accounts     our accounts by what it calls them
    account      that of a report which names none
    exec_tags    instead of those of the dialect, on a drop copy
    """

    venue: str
    dialect: Dialect
    instruments: Mapping[str, Instrument]
    accounts: Mapping[str, str]
    account: str | None = None
    exec_tags: tuple[int, ...] | None = None

    def instrument(self, symbol: str | None) -> tuple[str | None, Decimal]:
        """Our name of a symbol, and the multiplier of its quantities."""
        for name, own in self.instruments.items():
            if own.symbol == symbol:
                return name, own.multiplier
        return symbol, Decimal(1)


def names(message: Message, dialect: Dialect) -> list[str]:
    """The ClOrdIDs that a message bears, that of the request first."""
    tags = (*dialect.client_order_id_tags, *((dialect.orig_tag,) if dialect.orig_tag else ()))
    return [value for tag in tags if (value := message.get(tag)) is not None]


def is_unknown(message: Message, dialect: Dialect) -> bool:
    """Whether a venue says that it does not know the order which was asked for."""
    text = (message.get(58) or "").lower()
    return message.get(103) == "5" or any(words in text for words in dialect.unknown_order)


def reported(message: Message, source: Source, known: Known | None, received_us: int) -> list[Record]:
    """The rows of an ExecutionReport or OrderCancelReject; `known` is the order by the ids in it.

    Raises `Rejected` with the field that cannot be used.
    """
    if message.kind == CANCEL_REJECT:
        return [_cancel_rejected(message, source, known, received_us)]
    with localcontext(CONTEXT):
        row = _row(message, source, known, received_us)
    event_ms = to_ms(row["event_at"])
    records = [Record("execution_reports", event_ms, row)]
    if row["exec_type"] in TRADES and row["fee"] is not None:
        records.append(Record("fills", event_ms, _fill(row)))
    return records


def _row(message: Message, source: Source, known: Known | None, received_us: int) -> ExecutionReportsRow:
    dialect = source.dialect
    side = SIDES.get(message.get(54) or "") or (known.side if known else None)
    instrument, multiplier = source.instrument(message.get(55))
    instrument = known.instrument if known else instrument
    account = known.account if known else source.accounts.get(message.get(1) or "", source.account)
    exec_type, status = _kind(message, dialect)
    if exec_type == "status" and known is not None and known.is_open_replace and status not in (*DONE, "pending_replace", None):
        exec_type = "replaced"  # the order bears the id of the replace, so it was accepted
    if account is None:
        raise Rejected("1", "an order of ours, or an account of the file", shown(message.get(1)))
    if side is None:
        raise Rejected("54", "1 or 2, buy or sell", shown(message.get(54)))
    if instrument is None:
        raise Rejected("55", "a symbol", None)
    event_us = _instant(message, 60, message.get(52))
    own = _names(message, dialect, exec_type, known)
    row: ExecutionReportsRow = {
        "account": account,
        "venue": source.venue,
        "instrument": instrument,
        "event_at": instant_ms(event_us // 1000),
        "received_at": instant_us(received_us),
        "exec_id": "",
        "exec_type": exec_type,
        "order_status": status,
        "order_id": _id(message.get(37)),
        "client_order_id": own[0],
        "orig_client_order_id": own[1],
        "side": side,
        "order_type": _word(message.get(40), TYPES),
        "time_in_force": "post_only" if "6" in (message.get(18) or "").split() else _word(message.get(59), TIMES_IN_FORCE),
        "price": _text(_number(message, 44) or None),
        "quantity": _text(_over(_number(message, 38), multiplier)),
        "leaves_quantity": None,
        "cum_quantity": _text(_over(_number(message, 14), multiplier)),
        "last_price": None,
        "last_quantity": None,
        "average_price": _text(_number(message, 6) or None),
        "fee": None,
        "fee_currency": None,
        "is_maker": None,
        "exec_ref_id": None,
        "reason": message.get(58),
    }
    row["leaves_quantity"] = _leaves(row, _over(_number(message, 151), multiplier))
    _check_overfill(row)
    if exec_type in TRADES:
        _trade(row, message, source, multiplier)
    row["exec_id"] = _exec_id(row, message, source)
    return row


def _trade(row: ExecutionReportsRow, message: Message, source: Source, multiplier: Decimal) -> None:
    quantity, price = _over(_number(message, 32), multiplier), _number(message, 31)
    if row["exec_type"] != "trade_cancel" and not (quantity and quantity > 0):
        raise Rejected("32", "a number above 0", shown(message.get(32)))
    if row["exec_type"] != "trade_cancel" and price is None:
        raise Rejected("31", "a price", None)
    fee, currency = fees(message)
    if fee is None and source.dialect.missing_fee == "zero":
        fee = Decimal(0)
    liquidity = message.get(851)
    row["last_price"], row["last_quantity"] = _text(price), _text(quantity)
    row["fee"], row["fee_currency"] = _text(fee), currency
    row["is_maker"] = {"1": True, "2": False}.get(liquidity or "")


def fees(message: Message) -> tuple[Decimal | None, str | None]:
    """What a trade costs, and in which currency: Commission where it is an amount, and MiscFees; None where it is not told."""
    parts: list[tuple[Decimal, str | None]] = []
    commission = _number(message, 12)
    if commission is not None and message.get(13) in (None, "3"):
        parts.append((commission, message.get(479)))
    for amount, currency in zip(message.all(137), message.all(138) or [""] * len(message.all(137)), strict=False):
        parts.append((_decimal(amount, "137"), currency or None))
    currencies = {currency for _, currency in parts if currency}
    if len(currencies) > 1:
        raise Rejected("138", "fees of one currency", ", ".join(sorted(currencies)))
    if not parts:
        return None, None
    return sum((amount for amount, _ in parts), Decimal(0)), currencies.pop() if currencies else None


def _fill(row: ExecutionReportsRow) -> FillsRow:
    kind = {"trade": None, "trade_cancel": "bust", "trade_correct": "correction"}[row["exec_type"]]
    return {
        "account": row["account"],
        "venue": row["venue"],
        "instrument": row["instrument"],
        "event_at": row["event_at"],
        "received_at": row["received_at"],
        "fill_id": row["exec_id"],
        "side": row["side"],
        "price": row["last_price"] or "0",
        "size": row["last_quantity"] or "0",
        "fee": row["fee"] or "0",
        "kind": kind,
        "corrects_id": row["exec_ref_id"],
    }


def _cancel_rejected(message: Message, source: Source, known: Known | None, received_us: int) -> Record:
    if known is None:
        raise Rejected("11", "an order of ours", shown(message.get(11)))
    event_us = _instant(message, 60, message.get(52))
    own = _names(message, source.dialect, "cancel_rejected", known)
    empty: dict[str, Any] = dict.fromkeys(ExecutionReportsRow.__annotations__)
    row = empty | {
        "account": known.account,
        "venue": source.venue,
        "instrument": known.instrument,
        "event_at": instant_ms(event_us // 1000),
        "received_at": instant_us(received_us),
        "exec_id": f"{source.venue}:{known.instrument}:{own[0]}:cancel_rejected",
        "exec_type": "cancel_rejected",
        "order_status": None if message.get(39) == "8" else STATUSES.get(message.get(39) or ""),
        "order_id": _id(message.get(37)),
        "client_order_id": own[0],
        "orig_client_order_id": own[1],
        "side": known.side,
        "reason": message.get(58) or _CANCEL_REASONS.get(message.get(102) or "", "the venue gives no reason"),
    }
    return Record("execution_reports", event_us // 1000, row)


def _kind(message: Message, dialect: Dialect) -> tuple[str, str | None]:
    code, status = message.get(150), STATUSES.get(message.get(39) or "")
    if code is None and dialect.status_is_change:
        code = "I"
    exec_type = EVENTS.get(code or "")
    if exec_type is None:
        raise Rejected("150", "an ExecType of FIX 4.4", shown(code))
    if exec_type == "status" and dialect.status_is_change and status in ("new", *DONE) and status != "filled":
        exec_type = status or exec_type
    elif message.get(17) == "0" and exec_type in TRADES:
        exec_type = "status"
    if exec_type == "pending_new":
        exec_type = "status"  # it is with the venue, no more
    return exec_type, status


def _names(message: Message, dialect: Dialect, exec_type: str, known: Known | None) -> tuple[str | None, str | None]:
    """ClOrdID of the request, and of the order that it changes; by what we know where the venue does not say both."""
    told = names(message, dialect)
    first = told[0] if told else None
    orig = message.get(dialect.orig_tag) if dialect.orig_tag else None
    if known is not None and known.client_order_id is not None:
        first, orig = known.client_order_id, known.orig_client_order_id or orig
    return first, None if orig == first else orig


def _exec_id(row: ExecutionReportsRow, message: Message, source: Source) -> str:
    tags = source.exec_tags or source.dialect.exec_id_tags
    told = next((value for tag in tags if (value := message.get(tag)) not in (None, "0")), None)
    if told is not None and row["exec_type"] != "status":
        return identity(source.venue, trade_date(message, source.dialect, row["event_at"]), told, row["side"])
    if row["exec_type"] in TRADES:
        raise Rejected("17", "an ExecID of the execution", shown(message.get(17)))
    parts = (
        row["order_id"],
        row["client_order_id"],
        row["exec_type"],
        row["order_status"],
        row["cum_quantity"],
        row["event_at"],
    )
    return ":".join([source.venue, row["instrument"], *("" if part is None else str(part) for part in parts)])


def identity(venue: str, date: str, exec_id: str, side: str) -> str:
    """The id of an execution, however often and by whichever session it is told."""
    return f"{venue}:{date}:{exec_id}:{side}"


def trade_date(message: Message, dialect: Dialect, event_at: str) -> str:
    """YYYYMMDD, by the one rule of a venue."""
    told = message.get(75) if dialect.trade_date_tag == 75 else None
    return told or event_at[:10].replace("-", "")


def corrected(records: list[Record], message: Message, source: Source, find: Callable[[str, str], str | None]) -> list[Record]:
    """The same rows with `exec_ref_id` and `corrects_id` of a bust or correction.

    `find` gives the id of an execution that we know, by ExecID and side: a trade of yesterday may be busted today.
    """
    told = message.get(19)
    row = records[0].row
    if row["exec_type"] not in ("trade_cancel", "trade_correct"):
        return records
    if told is None:
        raise Rejected("19", "the ExecID of the trade that is undone", None)
    ref = find(told, row["side"]) or identity(
        source.venue, trade_date(message, source.dialect, row["event_at"]), told, row["side"]
    )
    columns = {"execution_reports": "exec_ref_id", "fills": "corrects_id"}
    return [Record(record.table, record.event_ms, {**record.row, columns[record.table]: ref}) for record in records]


def _leaves(row: ExecutionReportsRow, told: Decimal | None) -> str | None:
    if row["order_status"] in DONE:
        return "0"
    if row["quantity"] is not None and row["cum_quantity"] is not None:
        return _text(max(Decimal(row["quantity"]) - Decimal(row["cum_quantity"]), Decimal(0)))
    return None if told is None else _text(max(told, Decimal(0)))


def _check_overfill(row: ExecutionReportsRow) -> None:
    if row["quantity"] is None or row["cum_quantity"] is None or Decimal(row["cum_quantity"]) <= Decimal(row["quantity"]):
        return
    overfill = f"traded {row['cum_quantity']} of {row['quantity']}"
    row["reason"] = overfill if row["reason"] is None else f"{row['reason']}; {overfill}"


def _instant(message: Message, tag: int, otherwise: str | None) -> int:
    told = message.get(tag) or otherwise
    try:
        return from_timestamp(told or "")
    except ValueError:
        raise Rejected(str(tag), "a UTCTimestamp, YYYYMMDD-HH:MM:SS.sss", shown(told)) from None


def from_timestamp(text: str) -> int:
    """Microseconds since 1970 of a UTCTimestamp.  Raises `ValueError`."""
    whole, _, part = text.partition(".")
    if part and not part.isdecimal():
        raise ValueError(text)
    return _second(whole) * 1_000_000 + int((part + "000000")[:6])


@lru_cache(4096)
def _second(text: str) -> int:
    # Cached, for most messages of a moment are of the same second.
    return int(datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC).timestamp())


def _number(message: Message, tag: int) -> Decimal | None:
    told = message.get(tag)
    return None if told is None else _decimal(told, str(tag))


def _decimal(told: str, tag: str) -> Decimal:
    try:
        number = Decimal(told)
    except InvalidOperation:
        raise Rejected(tag, "a number", shown(told)) from None
    if not number.is_finite() or abs(number) >= Decimal("1e20"):
        raise Rejected(tag, "a number below 1e20", shown(told))
    return number


def _over(number: Decimal | None, multiplier: Decimal) -> Decimal | None:
    return None if number is None else number / multiplier


def _text(number: Decimal | None) -> str | None:
    return None if number is None else text(number)


def _id(told: str | None) -> str | None:
    return None if told in (None, "NONE", "UNKNOWN") else told


def _word(code: str | None, words: Mapping[str, str]) -> str | None:
    return None if code is None else words.get(code, code.lower())


_CANCEL_REASONS = {
    "0": "too late to cancel",
    "1": "unknown order",
    "3": "already pending",
    "6": "duplicate ClOrdID",
}

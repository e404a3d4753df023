"""Rows of `order_states` as ExecutionReports and OrderCancelRejects, for the client who asked and for drop copies.

ExecID is the account, the order's key and the number of the row: the same report whenever it is told.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway import Message, message
from gateway.config import Instrument
from gateway.orders import timestamp
from gateway.requests import OTHER, UNSUPPORTED, Named
from gateway.words import CANCEL_REJECT, EVENT_CODES, REPORT, SIDE_CODES, STATUS_CODES
from kernels.positions.ledger import CONTEXT
from schemas.rows import to_us

Row = Mapping[str, Any]
_EVENTS = {
    **EVENT_CODES,
    "requested": "A",
    "cancel_requested": "6",
    "replace_requested": "E",
    "unanswered": "I",
    "conflict": "I",
}
_TRADES = frozenset({"trade", "trade_correct", "trade_cancel"})
_RULES = {"form": UNSUPPORTED}


def exec_id(row: Row) -> str:
    """The id of a row, the same however often it is told."""
    return f"{row['account']}:{row['order_key']}:{row['number']}"


def told(
    row: Row,
    instruments: Mapping[str, Instrument],
    asked: Named | None = None,
    standing: Named | None = None,
    *,
    is_copy: bool = False,
    ref: str | None = None,
) -> Message:
    """A row as a message.

    `asked` is the request that it answers and `standing` the one in force, as their client calls them; a copy bears our
    ids.  `ref` is the ExecID of the trade that a bust or correction undoes.
    """
    refused = row["event"] == "refused" and (row["from_status"] is not None or (asked is not None and asked.kind != "new"))
    if row["event"] == "cancel_rejected" or refused:
        return _cancel_reject(row, asked, standing)
    own = instruments.get(f"{row['venue']}:{row['instrument']}")
    multiplier = own.multiplier if own else Decimal(1)
    event = _EVENTS.get(row["event"], "I") if row["event"] != "refused" else "8"
    is_trade = row["event"] in _TRADES
    ids = _ids(row, asked, standing)
    fields: list[tuple[int, str | None]] = [
        (37, row["order_key"]),
        *ids,
        (17, exec_id(row)),
        (527, row["cause_id"] if is_trade else None),
        (150, event),
        (39, STATUS_CODES[row["order_status"]]),
        (103, _RULES.get(row["rule"] or "", OTHER) if event == "8" else None),
        (1, row["account"]),
        (55, own.symbol if own else row["instrument"]),
        (207, row["venue"]),
        (54, SIDE_CODES.get(row["side"] or "") or (SIDE_CODES[asked.side] if asked else "1")),
        (38, _times(row["quantity"], multiplier)),
        (44, row["price"]),
        (32, _times(row["last_quantity"], multiplier) if is_trade else None),
        (31, row["last_price"] if is_trade else None),
        (19, ref),
        (151, _times(row["leaves_quantity"], multiplier)),
        (14, _times(row["cum_quantity"], multiplier)),
        (6, row["average_price"] or "0"),
        (60, timestamp(to_us(row["event_at"]))),
        (797, "Y" if is_copy else None),
        (58, row["reason"]),
    ]
    return message(REPORT, fields)


def status(
    row: Row, instruments: Mapping[str, Instrument], standing: Named | None, further: list[tuple[int, str | None]]
) -> Message:
    """How an order stands, for who asks: ExecType I, ExecID 0."""
    found = told({**row, "event": "unanswered", "reason": None}, instruments, None, standing)
    kept = [pair for pair in found.pairs if pair[0] != 17]
    return message(REPORT, [*kept, (17, "0"), *further])


def _ids(row: Row, asked: Named | None, standing: Named | None) -> list[tuple[int, str | None]]:
    in_force = standing.cl_ord_id if standing else row["client_order_id"]
    if asked is None or asked.kind == "new":
        return [(11, in_force), (41, None)]
    orig = in_force if row["event"] != "replaced" else None
    return [(11, asked.cl_ord_id), (41, orig)]


def _cancel_reject(row: Row, asked: Named | None, standing: Named | None) -> Message:
    in_force = standing.cl_ord_id if standing else row["client_order_id"] or row["order_key"]
    kind = asked.kind if asked else "cancel"
    code = {"too late": "0", "unknown order": "1"}.get(row["rule"] or "", "99")
    fields: list[tuple[int, str | None]] = [
        (37, row["order_key"]),
        (11, asked.cl_ord_id if asked else row["cause_id"]),
        (41, in_force),
        (39, STATUS_CODES[row["order_status"]]),
        (1, row["account"]),
        (434, "2" if kind == "replace" else "1"),
        (102, code),
        (60, timestamp(to_us(row["event_at"]))),
        (58, row["reason"]),
    ]
    return message(CANCEL_REJECT, fields)


def _times(number: str | None, multiplier: Decimal) -> str | None:
    return None if number is None else f"{CONTEXT.multiply(Decimal(number), multiplier).normalize(CONTEXT):f}"

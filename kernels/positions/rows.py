"""Rows of `fills` and `transfers`: their order, contents and amounts, and the refusal of a row."""

from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from engine.contract import Message
from kernels.positions.ledger import rounded, text
from schemas.rows import Fault, shown, to_ms

ID_COLUMNS = {"fills": "fill_id", "transfers": "transfer_id"}
_CONTENTS = {
    "fills": ("venue", "instrument", "event_at", "side", "price", "size", "fee", "kind", "corrects_id"),
    "transfers": ("event_at", "currency", "amount", "kind", "margin_model"),
}
BOOKED_AS = {
    "fills": "fills",
    "venue_fills": "fills",
    "fund_fills": "fills",
    "transfers": "transfers",
    "fund_transfers": "transfers",
}
"""Tables of what is booked, and as what: a fill of the own venue or of the fund is a fill like any other."""
_AMOUNTS = ("price", "size", "fee", "amount")


class RefusedError(Exception):
    """A row that cannot be booked."""

    def __init__(self, field: str | None, expected: str, got: object) -> None:
        self.fault = Fault(field, expected, got if got is None or isinstance(got, str) else shown(got))


def turn(message: Message) -> tuple[int, str, str, str, str, int, int]:
    """Sort key of a fill or transfer within its batch, whatever the order of arrival."""
    row, table = message.row, BOOKED_AS[message.table]
    contents = digest(table, row)
    return (
        to_ms(row["event_at"]),
        row[ID_COLUMNS[table]],
        table,
        contents,
        row["received_at"],
        message.partition,
        message.offset,
    )


def digest(table: str, row: dict[str, Any]) -> str:
    """A digest that distinguishes a repeat from another event with its id: it ignores the receipt and the notation of
    numbers."""
    values = [read_amount(row[column])[1] if column in _AMOUNTS else row.get(column) for column in _CONTENTS[table]]
    return blake2b(orjson.dumps(values), digest_size=12).hexdigest()


@lru_cache(maxsize=4096)
def read_amount(amount: str | int) -> tuple[Decimal | None, str]:
    """An amount as it is booked, None if it is beyond DECIMAL(38, 18); and as it is written."""
    # Cached: the check for repeats reads it first, and the booking after that.
    try:
        booked = rounded(Decimal(amount))
    except InvalidOperation:
        return None, str(amount)
    return booked, text(booked)


def amount_in(row: dict[str, Any], column: str) -> Decimal:
    """An amount of a row as it is booked.  Raises `RefusedError` beyond DECIMAL(38, 18)."""
    amount, _ = read_amount(row[column])
    if amount is None:
        raise RefusedError(column, "within DECIMAL(38, 18)", row[column])
    return amount

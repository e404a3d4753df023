"""Rows of orders and trades, whatever the venue, and the bounds of their fields."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from feeds import Received, Record, Rejected
from feeds.checks import MAX_AHEAD_MS, MAX_PRICE, MAX_SIZE, ODD, Check, Fields, diagnosis, exact, expect, one_of, whole
from schemas.records import ExecutionReportsRow, FillsRow, TransfersRow
from schemas.rows import instant_ms, instant_us, shown

MAX_BEHIND_MS = 7 * 86_400_000  # positions remembers the ids of fills for so long
DELIVERY = "delivery"  # the reason of a trade by which an expired contract is closed
DONE = ("filled", "cancelled", "rejected", "expired")
_PLACES = Decimal(1).scaleb(-18)  # of DECIMAL(38, 18)

Results = list[Record | Rejected]
Build = Callable[[Any], Results]
Describe = Callable[[str, str, Received], Record | None]


def each_item(items: Iterable[tuple[Any, Build, Fields]], received: Received) -> Results:
    """The records of the items of a message, each by its own function; a bad item costs the others nothing.

    Raises `Rejected` if the only item is bad.
    """
    results: Results = []
    for item, build, fields in items:
        try:
            results += build(item)
        except Rejected as rejected:
            results.append(_about(rejected, item))
        except ODD:
            results.append(_about(diagnosis(item, fields, received), item))
    if len(results) == 1 and isinstance(results[0], Rejected):
        results[0].item = None
        raise results[0]
    return results


def _about(rejected: Rejected, item: Any) -> Rejected:
    rejected.item = orjson.dumps(item)
    return rejected


def reported(
    account: str,
    received: Received,
    *,
    venue: str,
    instrument: str,
    event_ms: int,
    exec_type: str,
    order_status: str | None,
    order_id: str,
    side: str,
    trade_id: str | None = None,
    client_order_id: str | None = None,
    orig_client_order_id: str | None = None,
    order_type: str | None = None,
    time_in_force: str | None = None,
    price: Decimal | None = None,
    quantity: Decimal | None = None,
    leaves_quantity: Decimal | None = None,
    cum_quantity: Decimal | None = None,
    last_price: Decimal | None = None,
    last_quantity: Decimal | None = None,
    average_price: Decimal | None = None,
    fee: Decimal | None = None,
    fee_currency: str | None = None,
    is_maker: bool | None = None,
    reason: str | None = None,
) -> Record:
    """A row of `execution_reports`; a trade has a `trade_id`.  Raises one of `ODD` for a wild time or side.

    If more is traded than was ordered, `reason` says so and nothing is left: the message is not at fault.
    """
    if side not in ("buy", "sell"):
        raise ValueError
    event_at = event_instant(event_ms, received)
    if order_status in DONE:
        leaves_quantity = Decimal(0)
    elif quantity is not None and cum_quantity is not None:
        leaves_quantity = max(quantity - cum_quantity, Decimal(0))
    if quantity is not None and cum_quantity is not None and cum_quantity > quantity:
        overfill = f"traded {digits(cum_quantity)} of {digits(quantity)}"
        reason = overfill if reason is None else f"{reason}; {overfill}"
    about = f"{venue}:{instrument}"
    if trade_id is not None:
        exec_id = f"{about}:{trade_id}:{order_id}"
    else:
        amounts = ":".join("" if amount is None else digits(amount) for amount in (price, quantity, cum_quantity))
        exec_id = f"{about}:{order_id}:{exec_type}:{event_ms}:{amounts}"
    row: ExecutionReportsRow = {
        "account": account,
        "venue": venue,
        "instrument": instrument,
        "event_at": event_at,
        "received_at": instant_us(received.received_us),
        "exec_id": exec_id,
        "exec_type": exec_type,
        "order_status": order_status,
        "order_id": order_id,
        "client_order_id": client_order_id,
        "orig_client_order_id": orig_client_order_id,
        "side": side,
        "order_type": order_type,
        "time_in_force": time_in_force,
        "price": _digits(price),
        "quantity": _digits(quantity),
        "leaves_quantity": _digits(leaves_quantity),
        "cum_quantity": _digits(cum_quantity),
        "last_price": _digits(last_price),
        "last_quantity": _digits(last_quantity),
        "average_price": _digits(average_price),
        "fee": _digits(fee),
        "fee_currency": fee_currency,
        "is_maker": is_maker,
        "exec_ref_id": None,
        "reason": reason,
    }
    return Record("execution_reports", event_ms, row)


def traded(report: Record, settlement: str | None, symbol_field: str) -> Results:
    """The report of a trade, its fill, and a transfer of its fee if that is not in the currency of settlement.

    A report without a fee gives no fill: another message has the fee.  A delivery gives none either: the job positions settles
    what has expired.
    """
    row = report.row
    if row["fee"] is None or row["reason"] == DELIVERY:
        return [report]
    fee, currency = row["fee"], row["fee_currency"]
    is_elsewhere = currency is not None and currency != settlement and Decimal(fee) != 0
    if settlement is None and is_elsewhere:
        expected = "an instrument whose currency of settlement is known, to tell whether the fee is in it"
        return [report, Rejected(symbol_field, expected, shown(row["instrument"]))]
    fill: FillsRow = {
        "account": row["account"],
        "venue": row["venue"],
        "instrument": row["instrument"],
        "event_at": row["event_at"],
        "received_at": row["received_at"],
        "fill_id": row["exec_id"],
        "side": row["side"],
        "price": row["last_price"],
        "size": row["last_quantity"],
        "fee": "0" if is_elsewhere else fee,
        "kind": None,
        "corrects_id": None,
    }
    results: Results = [report, Record("fills", report.event_ms, fill)]
    if is_elsewhere:
        fee_id = f"fee:{row['exec_id']}"
        results.append(_transfer(row, report.event_ms, fee_id, currency, -Decimal(fee), "fee"))
    return results


def funding(account: str, received: Received, event_ms: int, transfer_id: str, currency: str, paid: Decimal) -> Record:
    """A payment of funding; a charge is positive.  Raises one of `ODD` for a wild time."""
    row = {"account": account, "event_at": event_instant(event_ms, received), "received_at": instant_us(received.received_us)}
    return _transfer(row, event_ms, transfer_id, currency, -paid, "funding")


def _transfer(row: Any, event_ms: int, transfer_id: str, currency: str, amount: Decimal, kind: str) -> Record:
    transfer: TransfersRow = {
        "account": row["account"],
        "event_at": row["event_at"],
        "received_at": row["received_at"],
        "transfer_id": transfer_id,
        "currency": currency,
        "amount": digits(amount),
        "kind": kind,
        "margin_model": None,
    }
    return Record("transfers", event_ms, transfer)


@lru_cache(4096)
def settlement_currency(describe: Describe, venue: str, instrument: str) -> str | None:
    """The currency that a contract settles in; None if it does not follow from the name."""
    listed = describe(venue, instrument, Received(0, None, None))
    return None if listed is None else str(listed.row["settlement_currency"])


def event_instant(event_ms: int, received: Received) -> str:
    """`event_at` as a row has it.  Raises one of `ODD` if the exchange time is no whole number or wild."""
    if event_ms.__class__ is not int or not -MAX_BEHIND_MS <= event_ms - received.received_us // 1000 <= MAX_AHEAD_MS:
        raise ValueError
    return instant_ms(event_ms)


def digits(number: Decimal) -> str:
    """A number as a row has it: every digit, no exponent."""
    return format(number, "f")


def _digits(number: Decimal | None) -> str | None:
    return None if number is None else digits(number)


def quotient(number: Decimal, divisor: Decimal) -> Decimal:
    """A quotient with as many places as a row has, without zeros at its end.  Raises one of `ODD`."""
    result = (number / divisor).quantize(_PLACES).normalize()
    return Decimal(digits(result))


def number_in(value: Any) -> Decimal:
    """A number of either sign, which is a number or a text in JSON, else raises one of `ODD`."""
    if value.__class__ in (int, float):
        number = Decimal(repr(value))
    else:
        number = -exact(value[1:]) if value[:1] == "-" else exact(value)
    if not abs(number) <= MAX_SIZE:
        raise ValueError
    return number


def size_in(value: Any) -> Decimal:
    """A size, or another amount from 0 on, else raises one of `ODD`."""
    number = number_in(value)
    if number < 0:
        raise ValueError
    return number


def above_zero(value: Any) -> Decimal:
    """A price or a size above 0, else raises one of `ODD`."""
    number = number_in(value)
    if number <= 0:
        raise ValueError
    return number


def price_or_none(value: Any) -> Decimal | None:
    """A price; None for 0, an empty text or null, by which venues mean none.  Else raises one of `ODD`."""
    if value is None or value == "":
        return None
    number = size_in(value)
    if number > MAX_PRICE:
        raise ValueError
    return number or None


def size_or_none(value: Any) -> Decimal | None:
    """A size; None for an empty text or null.  Else raises one of `ODD`."""
    return None if value is None or value == "" else size_in(value)


def text_or_none(value: Any) -> str | None:
    """A text; None for an empty one or null.  Else raises one of `ODD`."""
    if value is None or value == "":
        return None
    if value.__class__ is not str:
        raise TypeError
    return str(value)


def identity(value: Any) -> str:
    """An id, which is a whole number from 0 on or a text in JSON.  Else raises one of `ODD`."""
    if value.__class__ is int and value >= 0:
        return str(value)
    if value.__class__ is not str or not value:
        raise TypeError
    return str(value)


def chosen(words: dict[str, str], value: Any) -> str:
    """Our word for a venue's.  Raises one of `ODD` for an unknown one."""
    return words[value]


def word(words: dict[str, str], value: Any) -> str | None:
    """Our word for a venue's, or an unknown one in small letters; None for an empty one."""
    said = text_or_none(value)
    return None if said is None else words.get(said, said.lower())


def _time(value: Any, received: Received) -> tuple[str, str] | None:
    try:
        event_instant(value, received)
    except ODD:
        days = MAX_BEHIND_MS // 86_400_000
        return f"milliseconds since 1970, at most {days} days behind the receiver and {MAX_AHEAD_MS // 1000} s ahead", shown(
            value
        )
    return None


def _time_text(value: Any, received: Received) -> tuple[str, str] | None:
    try:
        return _time(whole(value), received)
    except ODD:
        return "milliseconds since 1970 as text", shown(value)


TIME: Check = _time
TIME_TEXT: Check = _time_text
IDENTITY = expect("an id: a text or a whole number", identity)
SIDE = one_of("buy", "sell")
ABOVE_ZERO = expect(f"a number above 0, up to {MAX_SIZE:g}", above_zero)
SIZE = expect(f"a number from 0 to {MAX_SIZE:g}", lambda value: [size_in(value)])
OPTIONAL_SIZE = expect(f"a number from 0 to {MAX_SIZE:g}, or nothing", lambda value: [size_or_none(value)])
OPTIONAL_PRICE = expect(f"a price from 0 to {MAX_PRICE:g}, or nothing", lambda value: [price_or_none(value)])
SIGNED_NUMBER = expect(f"a number from -{MAX_SIZE:g} to {MAX_SIZE:g}", lambda value: [number_in(value)])
OPTIONAL_TEXT = expect("a text, or nothing", lambda value: [text_or_none(value)])

"""The status of an instrument as a row of `trading_halts`, where a message has it."""

from collections.abc import Container
from typing import Any

from feeds import Received, Record
from feeds.checks import ODD, instants
from schemas.records import TradingHaltsRow


def halt(venue: str, instrument: str | None, status: str, is_halted: bool, event_ms: int, received: Received) -> Record:
    """Whether trading of an instrument is halted, or, without an instrument, of the whole venue; the reason is the venue's.

    Raises one of `feeds.checks.ODD` where the exchange time is wild.
    """
    event_at, received_at = instants(event_ms, received.received_us)
    row: TradingHaltsRow = {
        "venue": venue,
        "instrument": instrument,
        "event_at": event_at,
        "received_at": received_at,
        "is_halted": is_halted,
        "reason": status if is_halted else None,
    }
    return Record("trading_halts", event_ms, row)


def with_status(terms: Record, status: Any, trading: Container[str], received: Received) -> list[Record]:
    """The terms of a listed contract, and its status if it has one: a status that is not in `trading` is a halt.

    A listing has no time: its statuses get the newest time of the connection, or the time of receipt.
    """
    if terms.table != "instruments" or type(status) is not str or not status:
        return [terms]
    venue, instrument, is_halted = terms.row["venue"], terms.row["instrument"], status not in trading
    receipt_ms = received.received_us // 1000
    newest_ms = receipt_ms if received.newest_event_ms is None else received.newest_event_ms
    try:
        return [terms, halt(venue, instrument, status, is_halted, newest_ms, received)]
    except ODD:
        return [terms, halt(venue, instrument, status, is_halted, receipt_ms, received)]

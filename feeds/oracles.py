"""What the adapters of oracles share: rows of `oracle_updates`, and publish times, which are in seconds."""

from decimal import Decimal
from typing import Any

from feeds import Received, Record, Rejected
from feeds.checks import MAX_AHEAD_MS, MAX_BEHIND_MS, MAX_PRICE, instants
from schemas.records import OracleUpdatesRow
from schemas.rows import shown


def update(
    venue: str,
    pair: tuple[str, str],
    published_s: int,
    received: Received,
    *,
    price: tuple[str, Decimal],
    confidence: tuple[str, Decimal] | None = None,
    sequence: int | None = None,
) -> Record:
    """One price that an oracle publishes: of its underlying in its currency, at a time in seconds since 1970.

    `price` and `confidence` come with the names of their fields.  The record's timestamp is its receipt: a price is seconds or
    minutes old when it can be read, and its age is what readers want to know.  Raises `Rejected` for a number out of bounds,
    else one of `feeds.checks.ODD` for a time that is no number of seconds, or wild.
    """
    name, number = price
    if not 0 < number <= Decimal(MAX_PRICE):
        raise Rejected(name, f"a price above 0, up to {MAX_PRICE:g}, by its exponent", shown(str(number)))
    if confidence is not None and not 0 < confidence[1] < number:
        raise Rejected(confidence[0], f"a confidence above 0 and below the price of {number}", shown(str(confidence[1])))
    if published_s.__class__ is not int:
        raise TypeError
    event_at, received_at = instants(1000 * published_s, received.received_us)
    underlying, quote = pair
    row: OracleUpdatesRow = {
        "venue": venue,
        "instrument": f"{underlying}/{quote}",
        "underlying": underlying,
        "quote_currency": quote,
        "event_at": event_at,
        "received_at": received_at,
        "price": float(number),
        "confidence": None if confidence is None else float(confidence[1]),
        "sequence": sequence,
    }
    return Record("oracle_updates", received.received_us // 1000, row)


def publish_time(value: Any, received: Received) -> tuple[str, str] | None:
    """A check of `feeds.checks.Form`: seconds since 1970, neither in the future nor more than a day old."""
    if type(value) is not int:
        return "whole seconds since 1970", shown(value)
    if value > 100_000_000_000:
        return "seconds since 1970, not milliseconds", str(value)
    ahead_ms = 1000 * value - received.received_us // 1000
    if ahead_ms > MAX_AHEAD_MS:
        return f"a time at most {MAX_AHEAD_MS // 1000} s ahead of the receiver", f"{value}, {ahead_ms / 1000:.0f} s ahead"
    if ahead_ms < -MAX_BEHIND_MS:
        return f"a time at most {MAX_BEHIND_MS // 1000} s behind the receiver", f"{value}, {-ahead_ms / 1000:.0f} s behind"
    return None

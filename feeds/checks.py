"""Sanity bounds that every venue shares, and the diagnosis of a message that breaks them.

A `Form` reads a message in straight-line code that lets anything odd raise.  Only then it goes through the fields one by
one to name the first that is at fault, so that a good message pays for no explanation.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf
from typing import Any, NamedTuple, TypeAlias

import orjson

from feeds import Received, Record, Rejected
from schemas.rows import instant_ms, shown

MAX_AHEAD_MS = 60_000  # of an exchange time, against the receiver's clock
MAX_BEHIND_MS = 86_400_000  # the last ticker of a dead option may be hours old
MAX_PRICE = 1e12
MAX_SIZE = 1e15
MAX_SEQUENCE = 2**63 - 1  # BIGINT

MISSING = object()
ODD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)

Levels: TypeAlias = list[list[float]]
Check: TypeAlias = Callable[[Any, Received], tuple[str, str] | None]  # what was expected and what stood there, or None
Fields: TypeAlias = Mapping[str, Check]


def decoded(message: bytes) -> dict[str, Any]:
    """The JSON object that a message is.  Raises `Rejected` without a field if it is none."""
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        value = None
    if type(value) is not dict:
        raise Rejected(None, "a JSON message", shown(message))
    return value


def instants(event_ms: int, received_us: int) -> tuple[str, str]:
    """`event_at` (from exchange milliseconds) and `received_at` (from microseconds) as a row writes them.

    Raises one of `ODD` where the exchange time is no whole number or wild.
    """
    if event_ms.__class__ is not int or not -MAX_BEHIND_MS <= event_ms - received_us // 1000 <= MAX_AHEAD_MS:
        raise ValueError
    seconds, ms = divmod(event_ms, 1000)
    received_seconds, us = divmod(received_us, 1_000_000)
    return f"{_to_the_second(seconds)}.{ms:03d}Z", f"{_to_the_second(received_seconds)}.{us:06d}Z"


def text(value: str) -> str:
    """`value` if it is text and not empty, else raises one of `ODD`."""
    if value.__class__ is not str or not value:
        raise TypeError
    return value


@lru_cache(1024)
def _to_the_second(seconds: int) -> str:
    return instant_ms(seconds * 1000)[:19]


def uncrossed(bids: Levels, asks: Levels) -> None:
    """Raises `Rejected` on a snapshot whose best bid is not below its best ask; levels of size 0 do not count."""
    best_bid = max((price for price, size in bids if size), default=-inf)
    best_ask = min((price for price, size in asks if size), default=inf)
    if best_bid >= best_ask:
        raise Rejected("bids", f"a best bid below the best ask of {best_ask}", str(best_bid))


class Form(NamedTuple):
    """One kind of message: how it becomes a record, and what each of its fields must be."""

    build: Callable[[Any, Received], Record]  # raises `Rejected`, or one of `ODD` where a field is not as it must be
    fields: Fields

    def record(self, message: Any, received: Received) -> Record:
        """The record of a message.  Raises `Rejected`, naming the field."""
        try:
            return self.build(message, received)
        except Rejected:
            raise
        except ODD:
            raise diagnosis(message, self.fields, received) from None


def diagnosis(message: Any, fields: Fields, received: Received) -> Rejected:
    """Why a message is odd: the first of `fields` that is missing or breaks its check."""
    if type(message) is not dict:
        return Rejected(None, "a JSON object", shown(message))
    for name, check in fields.items():
        fault = check(message.get(name, MISSING), received)
        if fault is not None:
            expected, got = fault
            return Rejected(name, expected, got if name in message else "missing")
    return Rejected(None, f"a consistent message of {', '.join(fields)}", shown(message))


def expect(expected: str, holds: Callable[[Any], object]) -> Check:
    """A check of one value on its own; one of `ODD` from `holds` means no."""

    def check(value: Any, _: Received) -> tuple[str, str] | None:
        return None if _holds(holds, value) else (expected, shown(value))

    return check


def nullable(check: Check) -> Check:
    """The same check, for a field that may be null."""
    return lambda value, received: None if value is None else check(value, received)


def optional(check: Check) -> Check:
    """The same check, for a field that may be missing."""
    return lambda value, received: None if value is MISSING else check(value, received)


def levels(is_level: Callable[[Any], object]) -> Check:
    """A check of one side of a book, level by level."""

    def check(value: Any, _: Received) -> tuple[str, str] | None:
        if type(value) is not list:
            return "a list of levels", shown(value)
        for level in value:
            if not _holds(is_level, level):
                return f"levels of a price above 0, up to {MAX_PRICE:g}, and a size from 0 to {MAX_SIZE:g}", shown(level)
        return None

    return check


def _holds(holds: Callable[[Any], object], value: Any) -> bool:
    try:
        return bool(holds(value))
    except ODD:
        return False


def one_of(*values: object) -> Check:
    """A check that a value is one of a few."""
    return expect(" or ".join(map(str, values)), lambda value: value in values)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return type(value) in (int, float) and -inf < value < inf


def is_text(value: Any) -> bool:
    """Whether a value is text that says something."""
    return type(value) is str and value != ""


def is_sequence(value: Any) -> bool:
    """Whether a value can be a venue's sequence number."""
    return type(value) is int and 0 <= value <= MAX_SEQUENCE


def _event_time(value: Any, received: Received) -> tuple[str, str] | None:
    if type(value) is not int:
        return "milliseconds since 1970", shown(value)
    ahead = value - received.received_us // 1000
    if ahead > MAX_AHEAD_MS:
        return f"a time at most {MAX_AHEAD_MS // 1000} s ahead of the receiver", f"{value}, {ahead / 1000:.0f} s ahead"
    if ahead < -MAX_BEHIND_MS:
        return f"a time at most {MAX_BEHIND_MS // 1000} s behind the receiver", f"{value}, {-ahead / 1000:.0f} s behind"
    return None


EVENT_TIME: Check = _event_time
TEXT = expect("a text", is_text)
SEQUENCE = expect("a whole number from 0 to 2^63 - 1", is_sequence)
TRUTH = expect("true or false", lambda value: type(value) is bool)
OBJECT = expect("a JSON object", lambda value: type(value) is dict)


def terms_ms(received: Received) -> int:
    """The event time of contract terms, which come with none: before any message that could still refer to them."""
    return received.received_us // 1000 - MAX_BEHIND_MS

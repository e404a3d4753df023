"""What venues say of funding: the rate of the interval that runs, and when it is paid."""

import re
from typing import Any

from feeds.checks import Check, expect, expiry, is_number, nullable, optional, whole
from schemas.records import TickersRow

MAX_RATE = 1.0
"""Of one interval, in either direction: no venue lets a position pay more than it is worth."""

_SIGNED = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


def rate(value: Any) -> float | None:
    """A rate as a fraction, from a text of digits with or without a minus, or from a number in JSON.

    None where an empty text, a null or nothing stands.  Raises one of `checks.ODD`.
    """
    if value is None or value == "":
        return None
    if not is_number(value) and _SIGNED.fullmatch(value) is None:
        raise ValueError
    number = float(value)
    if not -MAX_RATE <= number <= MAX_RATE:
        raise ValueError
    return number


def paid_at(value: Any) -> str | None:
    """An instant from milliseconds, in JSON by themselves or as text; None for 0, an empty text, a null or nothing.

    Raises one of `checks.ODD`.
    """
    if value is None or value == "":
        return None
    ms = whole(value)
    return expiry(ms) if ms else None


def tell(row: TickersRow, rate_told: Any, paid_at_told: Any) -> None:
    """Write a venue's two fields of funding into a ticker; a time without a rate says nothing.  Raises one of `checks.ODD`."""
    row["funding_rate"], next_funding_at = rate(rate_told), paid_at(paid_at_told)
    row["next_funding_at"] = next_funding_at if row["funding_rate"] is not None else None


RATE: Check = nullable(optional(expect(f"a rate from -{MAX_RATE:g} to {MAX_RATE:g}, or an empty text", lambda v: [rate(v)])))
PAID_AT: Check = nullable(
    optional(expect("milliseconds since 1970, before 2100, 0 or an empty text", lambda value: [paid_at(value)]))
)

"""Prices and quantities as whole numbers of 1e-18, the last digit that the topics have: exact, and quick to compare."""

from decimal import Decimal
from functools import lru_cache

from kernels.orders.executions import EXACT

UNIT = 10**18
DIGITS = 20


@lru_cache(1 << 16)
def whole(text: str) -> int:
    """A decimal's text as a number of units.  Raises `ValueError` where it has more digits than a topic's decimals."""
    # Cached, for most orders share their prices and sizes with others.
    number = Decimal(text)
    if number.adjusted() < DIGITS:
        scaled = EXACT.multiply(number, Decimal(UNIT))
        if (units := int(scaled)) == scaled:
            return units
    raise ValueError(f"expected up to {DIGITS} digits before the point and 18 after it, got {text}")


@lru_cache(1 << 16)
def whole_of(number: float) -> int:
    """A float as it is written, in units; cut at the last one."""
    return int(EXACT.multiply(Decimal(repr(float(number))), Decimal(UNIT)))


@lru_cache(1 << 16)
def text(units: int) -> str:
    """A number of units as a decimal's text, without zeros at its end."""
    whole_part, rest = divmod(abs(units), UNIT)
    sign = "-" if units < 0 else ""
    return f"{sign}{whole_part}.{rest:018d}".rstrip("0") if rest else f"{sign}{whole_part}"


def divided(dividend: int, divisor: int) -> int:
    """A quotient of whole numbers, the divisor above zero, rounded half to even."""
    quotient, rest = divmod(dividend, divisor)
    if 2 * rest > divisor or (2 * rest == divisor and quotient % 2):
        quotient += 1
    return quotient

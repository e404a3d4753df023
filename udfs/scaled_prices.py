"""Prices as oracles publish them: whole numbers with an exponent of ten, price · 10^exponent, of either sign.

The arithmetic is that of Pyth's client library (pyth-sdk-rs, `Price`), in whole numbers: what does not fit 64 bits has no
answer.  Confidences add up as a sum, not as a root of squares: at most √2 too wide.
"""

from typing import NamedTuple

MOST_PRICE, LEAST_PRICE, MOST_CONFIDENCE = 2**63 - 1, -(2**63), 2**64 - 1
MOST_FACTOR = 2**28 - 1
"""What a factor is cut down to before it is multiplied or divided."""
MOST_EXPONENT = 300
"""Of either sign: what a float can hold, about."""
QUOTIENT_DIGITS = 9


class ScaledPrice(NamedTuple):
    """A price and the half width of its interval, each times 10^exponent."""

    price: int
    confidence: int
    exponent: int

    @property
    def value(self) -> float:
        """The price as a number."""
        return scaled(self.price, self.exponent)


def scaled(price: int, exponent: int) -> float:
    """price · 10^exponent, rounded once; an exponent may have either sign.

    Raises `OverflowError` for an exponent beyond `MOST_EXPONENT`, and for what a float cannot hold.
    """
    if abs(exponent) > MOST_EXPONENT:
        raise OverflowError(f"an exponent from -{MOST_EXPONENT} to {MOST_EXPONENT} was expected, got {exponent}")
    factor: int = 10 ** abs(exponent)
    return float(price * factor) if exponent >= 0 else price / factor


def at_exponent(price: ScaledPrice, exponent: int) -> ScaledPrice | None:
    """The same price with another exponent, cut toward zero; None where it does not fit 64 bits.

    Pyth, `scale_to_exponent`.
    """
    # Beyond 64 steps no digit is left, or none fits: so a wild exponent costs nothing.
    steps = max(-64, min(exponent - price.exponent, 64))
    value, confidence = (_times_ten(number, -steps) for number in price[:2])
    return _fitting(value, confidence, exponent)


def product(a: ScaledPrice, b: ScaledPrice) -> ScaledPrice | None:
    """a · b; None where it does not fit 64 bits.  Pyth, `mul`: the confidence is cₐ·|b| + c_b·|a|."""
    a, b = _cut(a), _cut(b)
    confidence = a.confidence * abs(b.price) + b.confidence * abs(a.price)
    return _fitting(a.price * b.price, confidence, a.exponent + b.exponent)


def quotient(a: ScaledPrice, b: ScaledPrice) -> ScaledPrice | None:
    """a / b, with nine digits more than the exponents have; None where b is zero or it does not fit 64 bits.

    Pyth, `div`: the confidence is cₐ/|b| + c_b·|a|/b².
    """
    a, b = _cut(a), _cut(b)
    if b.price == 0:
        return None
    scale, divisor = 10**QUOTIENT_DIGITS, abs(b.price)
    magnitude = abs(a.price) * scale // divisor
    confidence = a.confidence * scale // divisor + b.confidence * scale // divisor * magnitude // scale
    sign = -1 if (a.price < 0) != (b.price < 0) else 1
    return _fitting(sign * magnitude, confidence, a.exponent - b.exponent - QUOTIENT_DIGITS)


def per_unit(price: int, exponent: int, unit: int, decimals: int) -> int:
    """The price of `unit` coins as a whole number with so many decimals, cut toward zero.

    Coins worth a millionth of a dollar are quoted by the thousand or the million: Drift, `get_pyth_price`.
    """
    return _times_ten(price * unit, exponent + decimals)


def _times_ten(number: int, steps: int) -> int:
    """number · 10^steps, cut toward zero."""
    factor: int = 10 ** abs(steps)
    if steps >= 0:
        return number * factor
    magnitude = abs(number) // factor
    return magnitude if number >= 0 else -magnitude


def _cut(price: ScaledPrice) -> ScaledPrice:
    """The price with as many digits as `MOST_FACTOR` allows, cut toward zero."""
    value, confidence, exponent = price
    while abs(value) > MOST_FACTOR or confidence > MOST_FACTOR:
        value, confidence, exponent = _times_ten(value, -1), confidence // 10, exponent + 1
    return ScaledPrice(value, confidence, exponent)


def _fitting(price: int, confidence: int, exponent: int) -> ScaledPrice | None:
    if LEAST_PRICE <= price <= MOST_PRICE and 0 <= confidence <= MOST_CONFIDENCE:
        return ScaledPrice(price, confidence, exponent)
    return None

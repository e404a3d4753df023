"""When the price of an oracle may be used, and for what: Drift's classes in Drift's order, and what each of them holds.

The first class that applies is the price's (Drift protocol-v2, `oracle_validity`):

    non_positive        price ≤ 0
    too_volatile        max(price, average) / min(price, average) > most_volatile_ratio
    too_uncertain       confidence / price > most_confidence_ratio
    stale_for_margin    age > stale_for_margin
    insufficient_data   fewer sources than needed
    stale               age > stale
    valid

An age is now less the publish time.  Below zero it is no sign of freshness: how far a time lies in the future counts as age.
"""

from collections.abc import Mapping
from typing import NamedTuple

VALID = "valid"
CLASSES = (
    "non_positive",
    "too_volatile",
    "too_uncertain",
    "stale_for_margin",
    "insufficient_data",
    "stale",
    VALID,
)
"""Every class, the worst first."""
ACTIONS = ("increase", "reduce", "liquidate", "adl")
"""What an order may do: increase a position, reduce it, liquidate an account, deleverage one automatically."""


class Limits(NamedTuple):
    """When a price is no longer good enough.  Ages are in the unit of the age: milliseconds, or slots as Drift counts."""

    stale: float
    stale_for_margin: float
    most_confidence_ratio: float  # of the price
    most_volatile_ratio: float


def validity(
    price: float, average: float | None, confidence: float, age: float, limits: Limits, is_sufficient: bool = True
) -> str:
    """The class of a price, one of `CLASSES`.

    `average` and `confidence` are in the unit of the price, `age` in that of the limits; without an average the price is not
    compared with one.  What is not a number counts as out of its limit.
    """
    if not price > 0:
        return "non_positive"
    if average is not None and is_too_volatile(price, average, limits.most_volatile_ratio):
        return "too_volatile"
    if not confidence / price <= limits.most_confidence_ratio:
        return "too_uncertain"
    if not abs(age) <= limits.stale_for_margin:
        return "stale_for_margin"
    if not is_sufficient:
        return "insufficient_data"
    return VALID if abs(age) <= limits.stale else "stale"


def is_too_volatile(price: float, average: float, most_ratio: float) -> bool:
    """Whether price and average are further apart than the ratio allows, whichever of them is greater.

    Drift divides whole numbers, so that its 5 means below 6; here a limit means what it says.
    """
    low, high = min(price, average), max(price, average)
    return not low > 0 or not high / low <= most_ratio


def is_far_from_average(price: float, average: float, most_share: float) -> bool:
    """Whether a price is as far from its average as this share of it, or further (Drift, the 5 minute average)."""
    return average == 0 or not abs(price - average) / abs(average) < most_share


Holds = Mapping[str, frozenset[str]]
"""The actions that each class holds."""


def holds(table: Holds, validity: str, action: str) -> bool:
    """Whether a price of this class holds an action.  Raises `ValueError` for a class or an action that there is not."""
    if validity not in CLASSES or action not in ACTIONS:
        raise ValueError(f"expected one of {', '.join(CLASSES)} and one of {', '.join(ACTIONS)}, got {validity!r}, {action!r}")
    return action in table.get(validity, frozenset())

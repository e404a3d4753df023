"""The limits of liquidation."""

from typing import NamedTuple

from udfs import liquidation


class Rules(NamedTuple):
    """The limits of liquidation; `orders` has those of the formulae."""

    orders: liquidation.Rules = liquidation.DEFAULT
    volatile: float = 5.0
    uncertain: float = 0.05  # Drift has 0.02, which a crash of 25 % in three seconds exceeds by itself
    stale_s: float = 30.0
    points: int = 1
    average_s: float = 60.0
    answer_ms: int = 200  # from a claim to the answer of the fund


RULES = Rules()

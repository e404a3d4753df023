"""What the insurance fund begins with, and how it answers, as data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kernels.liquidations.rules import RULES as LIQUIDATIONS


class Rules(NamedTuple):
    """How the fund answers."""

    opening: Mapping[str, str] = MappingProxyType({"USDC": "4000000"})
    """What it has at the start, by currency.  It pays in the currency in which most is owed, then in this order."""
    latency_ms: int = LIQUIDATIONS.answer_ms
    """From a claim to the payments and fills that answer it."""
    max_fee: float = 0.005
    """Of what is executed of a liquidation order, the most that the fund gains by it: dYdX's MaxLiquidationFeePpm."""
    lost_ms: int = 60_000
    """How long after its time a deleveraging that is not booked is taken for refused."""


RULES = Rules()

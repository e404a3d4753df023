"""How the own venue trades, as data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kernels.matching.numbers import whole
from kernels.orders.rules import COLLARS


class Fees(NamedTuple):
    """Fractions of the notional, in units of 1e-18; below zero is paid to the account."""

    maker: int = 0
    taker: int = 0


class Rules(NamedTuple):
    """How the own venue trades."""

    fees: Mapping[str, Fees] = MappingProxyType(
        {
            # Each venue that it runs: those of the simulator.
            "sim_alpha": Fees(whole("0"), whole("0.0003")),
            "sim_beta": Fees(whole("-0.0001"), whole("0.0005")),
        }
    )
    latency_ms: int = 200  # from an order to what is told of it
    bands: Mapping[str, float] = COLLARS  # by kind: how far an aggressive price may be from the mark
    ticker_ms: int = 100  # a book has a ticker at most
    basis_ms: int = 15_000  # of the average in kernels/matching/mark.py: of 30 samples a second apart each counts 2/31
    basis_limit: float = 0.005  # how far a mark may be from the index, a fraction


RULES = Rules()

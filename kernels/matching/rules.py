"""How the own venue trades, and which real venues do on paper, as data.

A venue whose orders a gateway sends must not be among those on paper: both would answer.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kernels.matching.numbers import whole
from kernels.orders.rules import COLLARS


class Fees(NamedTuple):
    """Fractions of the notional, in units of 1e-18; below zero is paid to the account (`kernels.matching.fees`)."""

    maker: int = 0
    taker: int = 0
    cap: int = 0  # of an option: the most, a fraction of its price; 0 where there is none


class Paper(NamedTuple):
    """A real venue whose orders trade on paper."""

    fees: Mapping[str, Fees]  # by kind of contract; none of a kind that is missing
    latency_ms: int = 0  # from an order to what is told of it, where that is more than `Rules.latency_ms`


DERIBIT = Paper(
    # https://support.deribit.com/hc/en-us/articles/25944746248989-Fees, without discounts.  Of the futures that expire within a
    # week the maker's is -0.01 %; that of linear options is 0.01 % and 0.05 %: both are charged here like the others of their
    # kind.
    MappingProxyType(
        {
            "perpetual": Fees(whole("0"), whole("0.0005")),
            "future": Fees(whole("0"), whole("0.0005")),
            "option": Fees(whole("0.0003"), whole("0.0003"), whole("0.125")),
        }
    )
)


class Rules(NamedTuple):
    """How the own venue, and the paper venues, trade."""

    fees: Mapping[str, Fees] = MappingProxyType(
        {
            # Each venue that it runs: those of the simulator.
            "sim_alpha": Fees(whole("0"), whole("0.0003"), whole("0.125")),
            "sim_beta": Fees(whole("-0.0001"), whole("0.0005"), whole("0.125")),
        }
    )
    paper: Mapping[str, Paper] = MappingProxyType({})  # by venue, such as DERIBIT: never one on which a gateway trades
    latency_ms: int = 200  # from an order to what is told of it
    bands: Mapping[str, float] = COLLARS  # by kind: how far an aggressive price may be from the mark
    ticker_ms: int = 100  # a book has a ticker at most
    basis_ms: int = 15_000  # of the average in kernels/matching/mark.py: of 30 samples a second apart each counts 2/31
    basis_limit: float = 0.005  # how far a mark may be from the index, a fraction


RULES = Rules()

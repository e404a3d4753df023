"""What hedges go by, as data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kernels.matching.rules import DERIBIT, Fees
from kernels.matching.rules import RULES as OWN_VENUE


class Rules(NamedTuple):
    """How hedges are chosen and sent."""

    latency_ms: int = 200  # from what a decision knows to the decision: as that of the job execution
    pause_ms: int = 1_000  # between two decisions about a subject
    settled_ms: int = 200  # after an order is over its fills are in exposures that are told so much later
    answer_ms: int = 60_000  # so long an order without an answer is waited for
    old_ms: int = 5_000  # older exposures are no reason to trade
    stale_ms: int = 30_000  # nor is an older book or price
    most_wait_s: int = 60  # after a refusal the next try waits 2 s, then 4 s, and at most so long
    decisions: int = 2  # in a batch: a linear program takes milliseconds
    reach: Mapping[str, float] = MappingProxyType({"perpetual": 0.01, "future": 0.01, "option": 0.2})
    """By kind of contract: how far from the middle of a book a price may be, a fraction."""
    levels: tuple[int, ...] = (1, 5, 20)  # a book is taken up to each of these levels, at the price of the last
    options: int = 12  # of an underlying, that are looked at: those that do most for their cost
    funding_intervals: float = 3.0  # for how long a perpetual's funding is reckoned: a day
    fees: Mapping[str, float] = MappingProxyType({"perpetual": 0.0005, "future": 0.0005, "option": 0.0003})
    """Of a taker, by kind of contract, where the venue's own are not known: fractions of the notional."""
    fee_cap: float = 0.125  # of an option: the most, a fraction of its price


RULES = Rules()


def fee_of(rules: Rules, venue: str, kind: str) -> tuple[float, float]:
    """The rate that a taker pays on the notional, and of an option the most, a fraction of its price; 0 where there is none."""
    own = OWN_VENUE.fees.get(venue)
    paper = OWN_VENUE.paper.get(venue) or (DERIBIT if venue == "deribit" else None)
    fees: Fees | None = own if own is not None else paper.fees.get(kind) if paper is not None else None
    if fees is None:
        return rules.fees.get(kind, 0.0), rules.fee_cap
    return fees.taker / 1e18, fees.cap / 1e18

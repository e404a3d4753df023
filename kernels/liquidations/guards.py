"""What holds a liquidation: halts, prices that must not be used, and books that are old or empty."""

from collections.abc import Callable
from typing import NamedTuple

from kernels.gate import EVERY, Act, Held, Reason
from kernels.liquidations.market import Oracle
from kernels.liquidations.rules import RULES
from kernels.market.terms import in_contracts
from schemas.rows import instant_ms


class Guard(NamedTuple):
    """The values by which one price is checked."""

    event_ms: int
    price: float
    average: float
    points: int
    uncertainty: float  # of the price, as a fraction


class Depth(NamedTuple):
    """The newest depth of a book."""

    event_ms: int
    is_stale: bool
    bids: list[list[float]]
    asks: list[list[float]]

    def doubt(self, contract: str, now_ms: int) -> str | None:
        """Why the book of a contract must not be used.  A venue's clock may be ahead: a later time is not old."""
        if self.is_stale:
            return f"updates of the book of {contract} were lost; it is as of {instant_ms(self.event_ms)}"
        age_s = (now_ms - self.event_ms) / 1000
        return None if age_s <= RULES.stale_s else f"the book of {contract} {age_text(age_s)}"

    def counted(self, amount_per_contract: float | None) -> "Depth | None":
        """The same with sizes in contracts; None where the unit of the venue's amounts is not known."""
        if amount_per_contract == 1:
            return self
        if amount_per_contract is None:
            return None
        bids, asks = (
            [[price, float(in_contracts(size, amount_per_contract) or 0)] for price, size in levels]
            for levels in (self.bids, self.asks)
        )
        return self._replace(bids=bids, asks=asks)

    def visible(self, size: float, limit: float) -> float:
        """What the book offers for closing a position of this size, at the limit or a better price; of `counted` contracts."""
        if size > 0:
            return sum(level[1] for level in self.bids if level[0] >= limit)
        return sum(level[1] for level in self.asks if level[0] <= limit)


def _non_positive(guard: Guard, now_ms: int) -> str | None:
    return None if guard.price > 0 else f"is {guard.price:g}"


def _too_volatile(guard: Guard, now_ms: int) -> str | None:
    low, high = sorted((guard.price, guard.average))
    if low > 0 and high / low <= RULES.volatile:
        return None
    return f"is {guard.price:.6g}, more than {RULES.volatile:g} times away from its average {guard.average:.6g}"


def _too_uncertain(guard: Guard, now_ms: int) -> str | None:
    if guard.uncertainty <= RULES.uncertain:
        return None
    return f"has a confidence interval of {guard.uncertainty:.2%}, more than {RULES.uncertain:.2%}"


def _stale(guard: Guard, now_ms: int) -> str | None:
    age_s = (now_ms - guard.event_ms) / 1000
    return None if age_s <= RULES.stale_s else age_text(age_s)


def age_text(age_s: float) -> str:
    """The age of a price or a book, and the greatest age that is allowed, as text."""
    return f"is {age_s:.1f} s old, more than {RULES.stale_s:g} s"


def _insufficient(guard: Guard, now_ms: int) -> str | None:
    return None if guard.points >= RULES.points else f"has been seen {guard.points} times, less than {RULES.points}"


CHECKS: dict[Reason, Callable[[Guard, int], str | None]] = {
    Reason.NON_POSITIVE: _non_positive,
    Reason.TOO_VOLATILE: _too_volatile,
    Reason.TOO_UNCERTAIN: _too_uncertain,
    Reason.STALE: _stale,
    Reason.INSUFFICIENT: _insufficient,
}
"""In this order; each returns what is wrong with a price that must not be used, and None otherwise."""


class Objection(NamedTuple):
    """Why a price must not be used."""

    reason: Reason
    text: str
    passes: frozenset[Act] = frozenset()  # what may be done all the same

    def about(self, price: str) -> Held:
        """The same as a condition of the gate."""
        return Held(self.reason, price, f"the {price} {self.text}", self.passes)


def first_objection(guard: Guard, now_ms: int) -> Objection | None:
    """The first check that a price fails."""
    return next((Objection(reason, text) for reason, check in CHECKS.items() if (text := check(guard, now_ms))), None)


ACTS = {"increase": Act.INCREASE, "reduce": Act.REDUCE, "liquidate": Act.LIQUIDATE, "adl": Act.DELEVERAGE}
"""What the actions of `udfs.oracle_validity.ACTIONS` are at the gate."""
CLASSES = {
    "non_positive": Reason.NON_POSITIVE,
    "too_volatile": Reason.TOO_VOLATILE,
    "too_uncertain": Reason.TOO_UNCERTAIN,
    "stale_for_margin": Reason.STALE_FOR_MARGIN,
    "insufficient_data": Reason.INSUFFICIENT,
    "stale": Reason.STALE,
}
"""What the classes of `udfs.oracle_validity` are at the gate."""


def oracle_objection(oracle: Oracle) -> Objection | None:
    """What the validity of an oracle's price holds; None if that is nothing."""
    held = frozenset(ACTS[action] for action in (oracle.held or "").split(",") if action)
    if not held:
        return None
    figures = f"{oracle.price_usd:.6g} ± {oracle.confidence_usd:.3g} USD, average {oracle.average_usd:.6g}"
    text = f"is {oracle.validity.replace('_', ' ')} by the rules {oracle.rules}: {figures}"
    text += f", {oracle.age_ms / 1000:.1f} s old, of {oracle.venues} venues"
    # A class that is not known here is one of a later version of the rules.
    return Objection(CLASSES.get(oracle.validity, Reason.INSUFFICIENT), text, EVERY - held)

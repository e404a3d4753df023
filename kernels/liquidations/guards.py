"""What holds a liquidation: halts, prices that must not be used, and books that are old or empty."""

from typing import NamedTuple

from kernels.gate import Reason
from kernels.liquidations.rules import RULES
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

    def visible(self, size: float, limit: float) -> float:
        """Contracts that the book offers for closing a position of this size, at the limit or a better price."""
        if size > 0:
            return sum(level[1] for level in self.bids if level[0] >= limit)
        return sum(level[1] for level in self.asks if level[0] <= limit)


class Halt(NamedTuple):
    """Whether trading is halted, and since when."""

    event_ms: int
    is_halted: bool
    reason: str | None


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


CHECKS = (_non_positive, _too_volatile, _too_uncertain, _stale, _insufficient)
"""In this order; each returns the reason why a price must not be used."""
REASONS = (Reason.NON_POSITIVE, Reason.TOO_VOLATILE, Reason.TOO_UNCERTAIN, Reason.STALE, Reason.INSUFFICIENT)
"""What each is called."""
TOO_VOLATILE, STALE = CHECKS.index(_too_volatile), CHECKS.index(_stale)

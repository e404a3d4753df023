"""Cases: the accounts that are not healthy, and what is being done about each."""

import math
from typing import Any, NamedTuple

import numpy as np

from engine.contract import Migration
from kernels.liquidations.columns import Array
from kernels.liquidations.market import KEPT_MS
from kernels.liquidations.rules import RULES

VERSION = 2
HEALTHY, MARGIN_CALL, LOCKED, LIQUIDATING = "healthy", "margin_call", "locked", "liquidating"
BROKE = BANKRUPT, SETTLING = "bankrupt", "settling"
NO_CASE, PLAIN_CALL, IN_ROUNDS, ALL_ORDERED, AWAITING, RECOVERED, UNSERVED, OTHER_CASE = range(8)
"""Which case an account has: none; a margin call, which nothing but another status ends; rounds of a liquidation; those of what
is bankrupt; payments that are to come after all is closed; what is healthy, and remembers its last round or what is to come;
one that is held for want of depth; another."""
NO_DEPTH = "no depth"
CENT = 0.01
"""What is missing is borne from this amount in USD on."""
UNTOLD = "before"
"""Stands for the payments of version 1, which did not store how much they were."""


class Seen(NamedTuple):
    """What an account had when it was last looked at."""

    balances: dict[str, float]  # by currency
    positions: dict[str, tuple[float, float]]  # size and average price


class Case:
    """An account that is not healthy, or for which something is still to be paid or closed."""

    def __init__(self) -> None:
        self.state = HEALTHY
        self.events = 0
        self.round = 0
        self.round_ms: int | None = None  # when the last one was
        self.held: str | None = None  # what holds it
        self.open: dict[str, float] = {}  # contracts ordered and not filled yet
        self.sizes: dict[str, float] = {}  # positions when these were last looked at
        self.closing: dict[str, list[tuple[float, float]]] = {}
        """Contracts that deleveraging is to close and has not yet, each part with its price; the oldest first."""
        self.due: dict[str, float] = {}  # by event, what the fund is to pay in USD and has not yet; the oldest first
        self.paid_usd: float | None = 0.0  # what the fund has been told to pay, come or not; None: not known yet
        self.uncovered_usd = 0.0  # what nobody bears
        self.borne_ms: int | None = None  # when a payment or a closing of it was last decided
        self.seen: Seen | None = None  # where something is due
        self.has_changed = False  # what it has, since its loss was last borne

    @property
    def is_paid(self) -> bool:
        """Whether the fund has paid for it."""
        return self.paid_usd != 0.0

    @property
    def is_pending(self) -> bool:
        """Whether something is still to be paid or closed."""
        return bool(self.due or self.closing)

    def copied(self) -> dict[str, Any]:
        """All of it as it stands, to compare with what it becomes."""
        closing = {of: parts.copy() for of, parts in self.closing.items()} if self.closing else {}
        changing = {"open": self.open.copy(), "sizes": self.sizes.copy(), "closing": closing, "due": self.due.copy()}
        return vars(self) | changing

    def to_close(self, of: str) -> float:
        """Contracts of one position that deleveraging is to close."""
        return sum(contracts for contracts, _ in self.closing.get(of, ()))

    def standing(self) -> int:
        """What of the case tells whether it is to be looked at."""
        if self.held:
            return UNSERVED if self.held.startswith(NO_DEPTH) else OTHER_CASE
        if self.state == LOCKED:
            return OTHER_CASE if self.round_ms is None else IN_ROUNDS
        return {
            HEALTHY: RECOVERED,
            MARGIN_CALL: PLAIN_CALL,
            LIQUIDATING: IN_ROUNDS,
            BANKRUPT: ALL_ORDERED,
            SETTLING: AWAITING,
        }[self.state]


class Standing(NamedTuple):
    """Where accounts stand, by their rows."""

    case: Array  # as `Case.standing` says
    round_ms: Array  # when the last round was, or -∞
    rests_ms: Array  # until when one that has recovered need not be looked at if nothing changes, or -∞

    @classmethod
    def of(cls, accounts: int) -> "Standing":
        """That of accounts without a case."""
        case, *numbers = (np.full(accounts, number) for number in no_standing())
        return cls(case.astype(np.int8), *numbers)


def no_standing() -> tuple[int, float, float]:
    """The row of `Standing` of an account without a case."""
    return NO_CASE, -math.inf, -math.inf


def standing_of(case: Case) -> tuple[int, float, float]:
    """The row of `Standing` of one account."""
    round_ms = -math.inf if case.round_ms is None else case.round_ms
    rests_ms = round_ms + 1000 * RULES.orders.longest_pause_s
    if case.is_pending and case.borne_ms is not None:
        rests_ms = max(rests_ms, case.borne_ms + KEPT_MS)
    return case.standing(), round_ms, rests_ms


def seen_listed(seen: Seen | None) -> list[Any] | None:
    """As it is stored."""
    return None if seen is None else list(seen)


def seen_from(stored: Any) -> Seen | None:
    """From what is stored."""
    if stored is None:
        return None
    balances, positions = stored
    return Seen(balances, {of: (size, average) for of, (size, average) in positions.items()})


def _with_amounts(name: str, stored: Any) -> Any:
    """As of version 2, where a case tells how much of its loss others bear."""
    if not name.startswith("case/"):
        return stored
    is_paid = stored.pop("is_paid")
    fresh = vars(Case()) | {"paid_usd": None if is_paid else 0.0, "due": {UNTOLD: 0.0} if is_paid else {}}
    return fresh | stored


MIGRATIONS: dict[int, Migration] = {1: _with_amounts}

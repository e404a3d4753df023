"""Cases: the accounts that are not healthy, and the state of the liquidation of each."""

import math
from typing import Any, NamedTuple

import numpy as np

from engine.contract import Migration
from kernels.gate import Reason
from kernels.liquidations.columns import Array
from kernels.liquidations.market import KEPT_MS
from kernels.liquidations.rules import RULES

VERSION = 3
HEALTHY, MARGIN_CALL, LOCKED, LIQUIDATING = "healthy", "margin_call", "locked", "liquidating"
BROKE = BANKRUPT, SETTLING = "bankrupt", "settling"
NO_CASE, PLAIN_CALL, IN_ROUNDS, ALL_ORDERED, AWAITING, RECOVERED, UNSERVED, OTHER_CASE = range(8)
"""The standing of an account: no case; a margin call, which only another status ends; rounds of a liquidation; bankrupt, with
all ordered; open payments after everything is closed; healthy, with a remembered last round or open payments; held for lack of
depth; another."""
CENT = 0.01
"""The least loss, in USD, that is allocated."""
EARLIER_PAYMENTS = "before"
"""The key of payments of version 1, which did not store their amounts."""


class Seen(NamedTuple):
    """The holdings of an account when it was last checked."""

    balances: dict[str, float]  # by currency
    positions: dict[str, tuple[float, float]]  # size and average price


class Case:
    """An account that is not healthy, or has open payments or closings."""

    def __init__(self) -> None:
        self.state = HEALTHY
        self.events = 0
        self.round = 0
        self.round_ms: int | None = None  # the time of the last round
        self.held: str | None = None  # the kind of hold
        self.open: dict[str, float] = {}  # contracts of open orders
        self.sizes: dict[str, float] = {}  # positions when the orders were last checked
        self.closing: dict[str, list[tuple[float, float]]] = {}
        """Open contracts that deleveraging will close, each part with its price; the oldest first."""
        self.due: dict[str, float] = {}  # by event, open payments of the fund in USD; the oldest first
        self.paid_usd: float | None = 0.0  # payments of the fund, open or not; None: unknown
        self.uncovered_usd = 0.0  # the part of the loss that nobody pays
        self.borne_ms: int | None = None  # the time of the last decision about a payment or a closing
        self.seen: Seen | None = None  # if a payment is open
        self.has_changed = False  # whether its holdings have changed since its loss was last allocated

    @property
    def is_paid(self) -> bool:
        """Whether the fund has paid for it."""
        return self.paid_usd != 0.0

    @property
    def is_pending(self) -> bool:
        """Whether payments or closings are open."""
        return bool(self.due or self.closing)

    def copied(self) -> dict[str, Any]:
        """A copy of all fields, to detect changes."""
        closing = {contract: parts.copy() for contract, parts in self.closing.items()} if self.closing else {}
        changing = {"open": self.open.copy(), "sizes": self.sizes.copy(), "closing": closing, "due": self.due.copy()}
        return vars(self) | changing

    def to_close(self, contract: str) -> float:
        """Contracts of one position that deleveraging will close."""
        return sum(contracts for contracts, _ in self.closing.get(contract, ()))

    def standing(self) -> int:
        """The standing that decides whether the case must be checked."""
        if self.held:
            return UNSERVED if self.held.startswith(Reason.NO_DEPTH) else OTHER_CASE
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
    """The standing of accounts, by their rows."""

    case: Array  # `Case.standing`
    round_ms: Array  # the time of the last round, or -∞
    rests_ms: Array  # until when a recovered account need not be checked if nothing changes, or -∞

    @classmethod
    def without_cases(cls, accounts: int) -> "Standing":
        """The standing of accounts without a case."""
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
    """For storage."""
    return None if seen is None else list(seen)


def seen_from(stored: Any) -> Seen | None:
    """From storage."""
    if stored is None:
        return None
    balances, positions = stored
    return Seen(balances, {contract: (size, average) for contract, (size, average) in positions.items()})


def _with_amounts(name: str, stored: Any) -> Any:
    """To version 2, in which a case has the amounts of its loss that others pay."""
    if not name.startswith("case/"):
        return stored
    is_paid = stored.pop("is_paid")
    fresh = vars(Case()) | {"paid_usd": None if is_paid else 0.0, "due": {EARLIER_PAYMENTS: 0.0} if is_paid else {}}
    return fresh | stored


def _as_it_was(name: str, stored: Any) -> Any:
    """To version 3, which has entries for controls and circuit breaks beside the others."""
    return stored


MIGRATIONS: dict[int, Migration] = {1: _with_amounts, 2: _as_it_was}

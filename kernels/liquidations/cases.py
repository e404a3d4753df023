"""Cases: the accounts that are not healthy, and the state of the liquidation of each."""

import math
from typing import Any, NamedTuple

import numpy as np

from engine.contract import Migration
from kernels.gate import Reason
from kernels.liquidations.columns import Array
from kernels.liquidations.rules import RULES

VERSION = 4
HEALTHY, MARGIN_CALL, LOCKED, LIQUIDATING = "healthy", "margin_call", "locked", "liquidating"
BROKE = BANKRUPT, SETTLING = "bankrupt", "settling"
NO_CASE, PLAIN_CALL, IN_ROUNDS, ALL_ORDERED, AWAITING, RECOVERED, UNSERVED, OTHER_CASE = range(8)
"""The standing of an account: no case; a margin call, which only another status ends; rounds of a liquidation; bankrupt, with
all ordered; below zero with everything closed; healthy, with a remembered last round; held for lack of depth; another."""
CENT = 0.01
"""The least loss, in USD, that is claimed."""


class Case:
    """An account that is not healthy."""

    def __init__(self) -> None:
        self.state = HEALTHY
        self.events = 0
        self.round = 0
        self.round_ms: int | None = None  # the time of the last round
        self.held: str | None = None  # the kind of hold
        self.open: dict[str, float] = {}  # contracts of open orders
        self.sizes: dict[str, float] = {}  # positions when the orders were last checked
        self.broke_ms: int | None = None  # since when equity is gone
        self.claimed_ms: int | None = None  # the time of the last claim on the fund
        self.has_changed = False  # whether its holdings have changed since its loss was last claimed

    def copied(self) -> dict[str, Any]:
        """A copy of all fields, to detect changes."""
        return vars(self) | {"open": self.open.copy(), "sizes": self.sizes.copy()}

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
    return case.standing(), round_ms, round_ms + 1000 * RULES.orders.longest_pause_s


def _as_it_was(name: str, stored: Any) -> Any:
    """To version 2, in which a case has the amounts of its loss; to version 3, which has entries for controls and breaks."""
    return stored


def _without_fund(name: str, stored: Any) -> Any:
    """To version 4, in which the fund, and what it pays, is the job fund's."""
    if not name.startswith("case/"):
        return stored
    return {field: stored.get(field, fresh) for field, fresh in vars(Case()).items()}


MIGRATIONS: dict[int, Migration] = {1: _as_it_was, 2: _as_it_was, 3: _without_fund}

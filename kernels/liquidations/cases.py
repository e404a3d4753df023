"""Cases: the accounts that are not healthy, and the state of the liquidation of each."""

import math
from typing import Any, NamedTuple

import numpy as np

from engine.contract import Migration
from kernels.gate import Reason
from kernels.liquidations.columns import Array
from kernels.liquidations.rules import RULES

VERSION = 5
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
        self.sent: dict[str, list[Any]] = {}  # contract and size of orders not known to be over, by client_order_id
        self.sizes: dict[str, float] = {}  # positions when the orders were last checked
        self.broke_ms: int | None = None  # since when equity is gone
        self.claimed_ms: int | None = None  # the time of the last claim on the fund
        self.has_changed = False  # whether its holdings have changed since its loss was last claimed

    def copied(self) -> dict[str, Any]:
        """A copy of all fields, to detect changes."""
        return vars(self) | {"open": self.open.copy(), "sent": self.sent.copy(), "sizes": self.sizes.copy()}

    def close(self, contract: str) -> None:
        """Forget the open orders of a contract."""
        self.open.pop(contract, None)
        self.sizes.pop(contract, None)
        self.sent = {name: order for name, order in self.sent.items() if order[0] != contract}

    def note_end(self, client_order_id: str, traded: float) -> bool:
        """Note that an order is over, of which so many contracts were traded; False if it was not known to be open.

        What was traded stays open until the position has become smaller by it.
        """
        order = self.sent.pop(client_order_id, None)
        if order is None:
            return False
        contract, size = order
        left = self.open.get(contract, 0.0) - max(size - traded, 0.0)
        if left > 1e-12 * size:
            self.open[contract] = left
        else:
            self.close(contract)
        return True

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


def _with_fields_of_today(name: str, stored: Any) -> Any:
    """To version 4, in which the fund, and what it pays, is the job fund's; to version 5, in which orders have their ids."""
    if not name.startswith("case/"):
        return stored
    return {field: stored.get(field, fresh) for field, fresh in vars(Case()).items()}


MIGRATIONS: dict[int, Migration] = {1: _as_it_was, 2: _as_it_was, 3: _with_fields_of_today, 4: _with_fields_of_today}

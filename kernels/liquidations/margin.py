"""Margin: what are equity and requirements of each account, and its status, each time positions or prices move?

Entries   margin_status/<account>: the status in its last row
          margin_turn: the last account in turn; of the current second its number, the estimates and the accounts in turn so far

A row is written when the status changes, when a position or balance changes, and for accounts with positions once in each
second of event time: for at most `REPORTED` of them, in turn by their names.  Its event time is the last millisecond of
its batch.  Where there are more than `AT_ONCE` accounts with positions, their turns are spread over the batches of the second:
all at once would hold up the decisions of the next batch.
Each account's row comes with one for each of its positions.  No more than `ESTIMATES` probabilities are estimated
in a second; the other accounts have none in that row.  Accounts without a stored status, as after an upgrade from a version
without these entries, have a row at the next whole second.
"""

from bisect import bisect_right
from typing import ClassVar

import numpy as np

from engine.contract import Message, Output
from engine.entries import packed, unpacked
from kernels.liquidations import margin_rows
from kernels.liquidations.accounts import Accounts
from kernels.liquidations.columns import Array
from kernels.liquidations.margin_rows import HEALTHY, LIQUIDATION, MARGIN_CALL, STATUS, UNPRICED
from kernels.liquidations.market import MIGRATIONS, VERSION
from kernels.liquidations.pricing import Valuation
from kernels.liquidations.probability import probabilities
from kernels.liquidations.stage import Batch
from udfs import liquidation

NOT_KNOWN = -1
REPORTED = 500
"""The most accounts without a change that have a row, each second and shard."""
AT_ONCE = 50
"""The most accounts that have their rows together at the whole second."""
ESTIMATES = 4


class Margin:
    """The rows of `account_margin`, `position_margin` and `margin_scalings`."""

    KINDS: ClassVar[frozenset[str]] = frozenset({"margin_status", "margin_turn"})

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.touched = accounts.touched
        self.statuses: dict[str, int] = {}
        self.turn = ""  # the last account that had a row in its turn
        self.estimates = 0  # made in this second
        self.second: int | None = None
        self.reported = 0  # accounts that had a row in their turn in this second
        self._by_row: Array = np.empty(0, dtype=np.int64)  # statuses by the accounts' rows
        self._judged: Valuation | None = None  # the valuation of these statuses
        self._in_order: list[str] = []  # names of all accounts

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, account = name.partition("/")
        if kind == "margin_turn":
            return packed(VERSION, [self.turn, self.estimates, self.second, self.reported])
        return packed(VERSION, self.statuses[account]) if account in self.statuses else None

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if the bytes are of no version that this code reads."""
        kind, _, account = name.partition("/")
        stored = unpacked("margin", name, data, VERSION, MIGRATIONS)
        if kind == "margin_turn":
            self.turn, self.estimates, self.second, self.reported = stored
        else:
            self.statuses[account] = stored

    def learn(self, messages: list[Message]) -> None:
        """Does nothing: the valuation has all that this stage needs."""

    def forget(self, contracts: set[str], until_ms: int) -> None:
        """Does nothing: no account is freed."""

    def gauges(self) -> dict[str, float]:
        """The numbers of accounts to liquidate, and of those without a price."""
        bad = (LIQUIDATION, UNPRICED)
        return {f"accounts_{STATUS[status]}": float((self._by_row == status).sum()) for status in bad}

    def rows(self, batch: Batch) -> list[Output]:
        """The rows of a batch."""
        second = batch.until_ms // 1000
        before = self.reported if self.second == second - 1 else 0
        if self.second != second:
            self.second, self.estimates, self.reported = second, 0, 0
        names = set(batch.changed)
        if batch.valuation is not self._judged:
            names |= self._judge(batch)
        is_holder = self._is_holder()
        holders = int(is_holder.sum())
        names |= set(self._in_turn(is_holder, self._turns(holders, batch, before)))
        # An estimate takes milliseconds: where there are many accounts one is enough for a batch.
        estimates = ESTIMATES - self.estimates
        return batch.scalings + self._rows_of(batch, sorted(names), estimates if holders <= AT_ONCE else min(estimates, 1))

    def _judge(self, batch: Batch) -> set[str]:
        """Store the statuses; returns the accounts whose status has changed."""
        valuation = batch.valuation
        equity, initial, maintenance = valuation.equity, valuation.initial, valuation.maintenance
        with np.errstate(invalid="ignore"):
            is_not_known = np.isnan(equity) | np.isnan(initial) | np.isnan(maintenance)
            status = np.select(
                [is_not_known, liquidation.is_liquidatable(equity, maintenance), initial > equity],
                [UNPRICED, LIQUIDATION, MARGIN_CALL],
                HEALTHY,
            )
        names, known = self.accounts.account_names, len(self._by_row)
        fresh = [self.statuses.get(name, NOT_KNOWN) for name in names[known:]]
        before = np.concatenate([self._by_row, np.array(fresh, dtype=np.int64)])
        self._judged = valuation
        if not batch.is_new_second and (before == NOT_KNOWN).any():
            waits = [row for row in np.flatnonzero(before == NOT_KNOWN).tolist() if names[row] not in batch.changed]
            status[waits] = NOT_KNOWN
            self._judged = None if waits else valuation
        changed = {names[row]: int(status[row]) for row in np.flatnonzero(status != before).tolist()}
        self.statuses |= changed
        self.touched |= {f"margin_status/{name}" for name in changed}
        self._by_row = status
        return set(changed)

    def _is_holder(self) -> Array:
        """Which accounts have a position, by their rows."""
        positions = self.accounts.position_columns
        is_holder = np.zeros(len(self.accounts.account_columns.rows), dtype=np.bool_)
        is_holder[positions["account"][positions["size"] != 0]] = True
        return is_holder

    def _turns(self, holders: int, batch: Batch, before: int) -> int:
        """How many accounts have their turn in this batch; `before` had it in the second before."""
        total = min(holders, REPORTED)
        if holders <= AT_ONCE:
            return total if batch.is_new_second else 0
        if batch.is_new_second:
            return max(total - before, 0)
        turns = max(total * (batch.until_ms % 1000) // 1000 - self.reported, 0)
        self.reported += turns
        return turns

    def _in_turn(self, is_holder: Array, turns: int) -> list[str]:
        """The next accounts with positions after those of the last time, in the order of their names."""
        if not turns:
            return []
        rows = self.accounts.account_columns.rows
        if len(self._in_order) != len(rows):
            self._in_order = sorted(rows)
        names = self._in_order
        first, chosen = bisect_right(names, self.turn), []
        for number in range(len(names)):
            name = names[(first + number) % len(names)]
            if is_holder[rows[name]]:
                chosen.append(name)
                if len(chosen) == turns:
                    break
        self.turn = chosen[-1]
        self.touched.add("margin_turn")
        return chosen

    def _rows_of(self, batch: Batch, names: list[str], estimates: int) -> list[Output]:
        """The rows of accounts, by sorted names, and of their positions, with at most so many estimates."""
        if not names:
            return []
        accounts, valuation = self.accounts, batch.valuation
        chances, errors, count = probabilities(accounts, valuation, names, estimates)
        if count:
            self.estimates += count
            self.touched.add("margin_turn")
        outputs = [
            margin_rows.account_row(accounts, valuation, name, self.statuses[name], chance, error, batch.now_ms)
            for name, chance, error in zip(names, chances, errors, strict=True)
        ]
        return outputs + margin_rows.position_rows(accounts, valuation, names, batch.now_ms)

"""Margin: what are equity and requirements of each account, and its status, each time positions or prices move?

Entries   margin_status/<account>: the status in its last row
          margin_turn: the last account in turn, and the number of estimates in the current second

A row is written when the status changes, when a position or balance changes, and for accounts with positions at each whole
second of event time: for at most `REPORTED` of them, in turn by their names.  Its event time is the last millisecond of
its batch.  Each account's row comes with one for each of its positions.  No more than `ESTIMATES` probabilities are estimated
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
        self._by_row: Array = np.empty(0, dtype=np.int64)  # statuses by the accounts' rows
        self._judged: Valuation | None = None  # the valuation of these statuses
        self._in_order: list[str] = []  # names of all accounts

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, account = name.partition("/")
        if kind == "margin_turn":
            return packed(VERSION, [self.turn, self.estimates, self.second])
        return packed(VERSION, self.statuses[account]) if account in self.statuses else None

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if the bytes are of no version that this code reads."""
        kind, _, account = name.partition("/")
        stored = unpacked("margin", name, data, VERSION, MIGRATIONS)
        if kind == "margin_turn":
            self.turn, self.estimates, self.second = stored
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
        if self.second != self.accounts.second:
            self.second, self.estimates = self.accounts.second, 0
        names = set(batch.changed)
        if batch.valuation is not self._judged:
            names |= self._judge(batch)
        if batch.is_new_second:
            names |= set(self._in_turn())
        return batch.scalings + self._rows_of(batch, sorted(names))

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

    def _in_turn(self) -> list[str]:
        """The accounts with positions whose turn it is, in the order of their names: all, or the next `REPORTED` after those of
        the last time."""
        positions, rows = self.accounts.position_columns, self.accounts.account_columns.rows
        is_holder = np.zeros(len(rows), dtype=np.bool_)
        is_holder[positions["account"][positions["size"] != 0]] = True
        holders = int(is_holder.sum())
        if holders <= REPORTED:
            return [self.accounts.account_names[row] for row in np.flatnonzero(is_holder).tolist()]
        if len(self._in_order) != len(rows):
            self._in_order = sorted(rows)
        names = self._in_order
        first, chosen = bisect_right(names, self.turn), []
        for number in range(len(names)):
            name = names[(first + number) % len(names)]
            if is_holder[rows[name]]:
                chosen.append(name)
                if len(chosen) == REPORTED:
                    break
        self.turn = chosen[-1]
        self.touched.add("margin_turn")
        return chosen

    def _rows_of(self, batch: Batch, names: list[str]) -> list[Output]:
        """The rows of accounts, by sorted names, and of their positions."""
        if not names:
            return []
        accounts, valuation = self.accounts, batch.valuation
        chances, errors, count = probabilities(accounts, valuation, names, ESTIMATES - self.estimates)
        if count:
            self.estimates += count
            self.touched.add("margin_turn")
        outputs = [
            margin_rows.account_row(accounts, valuation, name, self.statuses[name], chance, error, batch.now_ms)
            for name, chance, error in zip(names, chances, errors, strict=True)
        ]
        return outputs + margin_rows.position_rows(accounts, valuation, names, batch.now_ms)

"""Exposures: what are accounts with limits, and groups, exposed to, and when does a limit of an account change its state?

Entries   limit/<key of its row of risk_limits>: the limit and its state, or that it is lifted; every shard has them all
          member/["<account>","<group>"]: whether the account is in the group; likewise
          limits_turn: the last account that was judged in turn, the last that was told, and the last group

Judged    accounts whose positions, balances or limits have changed at once, and all others in turn by name: `JUDGED` in a
          batch.  Where no more have limits all are judged in each batch, and of 100,000 each within two seconds
Told      rows of `risk_exposures`: of an account at once when a limit of it changes its state; in each batch while a limit
          of it is breached and hedged, of at most `HEDGED_TOLD` in a batch; of others in turn, `TOLD` in a batch.  Of groups
          with limits `GROUPS_TOLD` in a batch, in turn.  It depends on what is stored alone, so it is the same after a restore
Nothing   without a limit there is nothing to do
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import orjson

from engine.contract import Message, Output
from engine.entries import packed, unpacked
from kernels.limits import ACCOUNT, GROUP, LIFTED, STATES, Groups, Limit, breach_row, limit_of
from kernels.liquidations.accounts import Accounts
from kernels.liquidations.columns import Columns
from kernels.liquidations.exposure_rows import Measured, measured, rows_of
from kernels.liquidations.market import MIGRATIONS, VERSION
from kernels.liquidations.pricing import Valuation
from kernels.liquidations.stage import Batch
from udfs import exposures
from udfs.exposures import ANY, BREACHED, BUCKETS, MEASURES, WITHIN

JUDGED = 5_000
TOLD = 50
HEDGED_TOLD = 100
GROUPS_TOLD = 2
TURN = "limits_turn"


class Exposures:
    """The rows of `risk_exposures` and `limit_breaches`."""

    KINDS: ClassVar[frozenset[str]] = frozenset({"limit", "member", TURN})

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.touched = accounts.touched
        self.groups = Groups()
        self.limits: dict[str, Limit] = {}  # by name: also those that are lifted, with their time
        self.by_subject: dict[tuple[str, str], set[str]] = {}  # names of those in force
        self.states: Columns[str] = Columns(
            account=-1, measure=0, underlying=ANY, expiry=ANY, target=0.0, enter=0.0, leave=0.0, state=WITHIN, is_hedged=0
        )
        """Of limits of accounts in force."""
        self._names: list[str] = []  # by their rows
        self.fresh: set[str] = set()  # accounts whose limits have changed since they were judged
        self.turn = ["", "", ""]
        self.partition_of: Callable[[str], int] = _no_partition
        self.part = 0
        self._lifted: list[tuple[Limit, str]] = []  # with their states before, since the last rows
        self._in_order: list[str] | None = None  # names of known accounts with limits
        self._unplaced: set[str] = set()  # accounts with limits that were not known when their rows were put
        self._measured: tuple[Valuation | None, int | None, Measured] | None = None
        self._unjudged = 0  # accounts in turn since something moved

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, key = name.partition("/")
        if kind == TURN:
            return packed(VERSION, self.turn)
        if kind == "member":
            member = self.groups.rows.get(_pair(key))
            return None if member is None else packed(VERSION, list(member))
        limit = self.limits.get(key)
        if limit is None:
            return None
        state = int(self.states["state"][self.states.rows[key]]) if key in self.states.rows else WITHIN
        return packed(VERSION, [list(limit), state])

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, key = name.partition("/")
        stored = unpacked("margin", name, data, VERSION, MIGRATIONS)
        if kind == TURN:
            self.turn = stored
        elif kind == "member":
            self.groups.put(*_pair(key), *stored)
        else:
            limit, state = stored
            self._put(key, Limit(*limit))
            if key in self.states.rows:
                self.states.put(key, state=state)

    def learn(self, messages: list[Message]) -> None:
        """Apply limits and groups."""
        for message in messages:
            if message.table == "account_groups":
                if self.groups.learn(message.row):
                    name = orjson.dumps([message.row["account"], message.row["group_name"]]).decode()
                    self.touched.add(f"member/{name}")
            elif message.table == "risk_limits":
                limit = limit_of(message.row)
                name = limit.name
                known = self.limits.get(name)
                if known is None or known.event_ms <= limit.event_ms:
                    if name in self.states.rows and limit.enter is None and known is not None:
                        self._lifted.append((known, STATES[int(self.states["state"][self.states.rows[name]])]))
                    self._put(name, limit)
                    self.touched.add(f"limit/{name}")
                    if limit.subject_kind == ACCOUNT:
                        self.fresh.add(limit.subject)

    def forget(self, contracts: set[str], until_ms: int) -> None:
        """Does nothing: a limit is lifted by a row."""

    def gauges(self) -> dict[str, float]:
        """The numbers of limits of accounts, and of those that are breached."""
        if not self.states.rows:
            return {"limits": 0, "limits_breached": 0}
        is_known = self.states["account"] >= 0
        return {"limits": len(self.states.rows), "limits_breached": int((is_known & (self.states["state"] == BREACHED)).sum())}

    def rows(self, batch: Batch) -> list[Output]:
        """The rows of a batch."""
        if not self.by_subject and not self._lifted:
            return []
        outputs = [
            Output("limit_breaches", batch.now_ms, breach_row(limit, LIFTED, before, np.nan, batch.now_ms))
            for limit, before in self._lifted
        ]
        self._lifted.clear()
        self._place(batch)
        names = self._to_judge(batch)
        changed = self._judge(batch, names) if names else []
        for name, state, before, figure in changed:
            row = breach_row(self.limits[name], STATES[state], STATES[before], figure, batch.now_ms)
            outputs.append(Output("limit_breaches", batch.now_ms, row))
        told = {self.limits[name].subject for name, *_ in changed} | self._breached(batch) | set(self._in_turn(batch))
        subjects = [(ACCOUNT, name, [name]) for name in sorted(told)]
        subjects += [(GROUP, group, sorted(self.groups.members.get(group, ()))) for group in self._groups_in_turn()]
        if subjects:
            outputs += rows_of(self.accounts, batch, self._measure(batch), subjects, self.part, self._owner)
        return outputs

    def _owner(self, kind: str, subject: str) -> int:
        return self.partition_of(self.groups.owner(kind, subject))

    def _put(self, name: str, limit: Limit) -> None:
        self.limits[name] = limit
        names = self.by_subject.setdefault(limit.whose, set())
        if limit.enter is None:
            names.discard(name)
            self.states.free(name)
            if not names:
                del self.by_subject[limit.whose]
                if limit.subject_kind == ACCOUNT:
                    self._displace(limit.subject)
            return
        if not names and limit.subject_kind == ACCOUNT:
            self._unplaced.add(limit.subject)
        names.add(name)
        if limit.subject_kind != ACCOUNT:
            return
        self.states.put(
            name,
            account=self.accounts.account_columns.rows.get(limit.subject, -1),
            measure=MEASURES.index(limit.measure),
            underlying=ANY if limit.underlying is None else self.accounts.currency(limit.underlying),
            expiry=ANY if limit.expiry_bucket is None else BUCKETS.index(limit.expiry_bucket),
            target=limit.target,
            enter=limit.enter,
            leave=limit.leave,
            is_hedged=limit.is_hedged,
        )
        row = self.states.rows[name]
        self._names += [""] * (row + 1 - len(self._names))
        self._names[row] = name

    def _displace(self, account: str) -> None:
        self._unplaced.discard(account)
        at = bisect_left(self._in_order or [], account)
        if self._in_order and self._in_order[at : at + 1] == [account]:
            del self._in_order[at]

    def _place(self, batch: Batch) -> None:
        """Note the accounts with limits that are known by now, in the order of their names."""
        rows = self.accounts.account_columns.rows
        if self._in_order is None:
            self._in_order = sorted(name for kind, name in self.by_subject if kind == ACCOUNT and name in rows)
            self._unplaced = {name for kind, name in self.by_subject if kind == ACCOUNT and name not in rows}
            placed = set(self._in_order)
        else:
            placed = {name for name in batch.changed | self.fresh if name in self._unplaced and name in rows}
            for name in placed:
                insort(self._in_order, name)
            self._unplaced -= placed
        for name in placed:
            for limit in self.by_subject.get((ACCOUNT, name), ()):
                self.states.put(limit, account=rows[name])

    def _to_judge(self, batch: Batch) -> list[str]:
        """The accounts to look at in this batch: those with a change, and those whose turn it is."""
        assert self._in_order is not None
        names = self._in_order
        if self._measured is None or self._measured[0] is not batch.valuation or self._measured[1] != self.accounts.second:
            self._unjudged = len(names)
        turn = _following(names, self.turn[0], JUDGED)
        if len(names) > JUDGED:
            self.turn[0] = turn[-1]
            self.touched.add(TURN)
        changed = {name for name in batch.changed | self.fresh if (ACCOUNT, name) in self.by_subject}
        self.fresh.clear()
        # What was judged by the same values is as it was.
        if self._unjudged > 0:
            self._unjudged -= len(turn)
            changed.difference_update(turn)
        else:
            turn = []
        return turn + [name for name in changed if name in self.accounts.account_columns.rows]

    def _measure(self, batch: Batch) -> Measured:
        second = self.accounts.second
        if self._measured is None or self._measured[0] is not batch.valuation or self._measured[1] != second:
            self._measured = batch.valuation, second, measured(self.accounts, batch.valuation)
        return self._measured[2]

    def _judge(self, batch: Batch, names: list[str]) -> list[tuple[str, int, int, float]]:
        """The limits of these accounts whose state has changed: their names in order, states, those before, and exposures."""
        rows = self.accounts.account_columns.rows
        account = np.fromiter((rows[name] for name in names), np.int64, len(names))
        slot = np.full(len(rows) + 1, -1, dtype=np.int64)  # the last is that of limits of unknown accounts
        slot[account] = np.arange(len(names))
        holdings, states = self._measure(batch).holdings(self.accounts, slot, len(names)), self.states
        limit_slot = slot[states["account"]]
        chosen = np.flatnonzero(limit_slot >= 0)
        before = states["state"][chosen]
        integers = (states[column][chosen] for column in ("measure", "underlying", "expiry"))
        figures = exposures.figures(
            *holdings, self._measure(batch).cells, len(BUCKETS), batch.valuation.equity[account], limit_slot[chosen], *integers
        )
        judged = exposures.judged(before, figures, *(states[column][chosen] for column in ("target", "enter", "leave")))
        changed = []
        for at in np.flatnonzero(judged != before).tolist():
            name, state = self._names[chosen[at]], int(judged[at])
            changed.append((name, state, int(before[at]), float(figures[at])))
            states.put(name, state=state)
            self.touched.add(f"limit/{name}")
        return sorted(changed)

    def _breached(self, batch: Batch) -> set[str]:
        """Accounts with a breached limit that is hedged; of many a part in each batch."""
        states = self.states
        if not states.rows:
            return set()
        breached = np.flatnonzero(states["state"] == BREACHED)
        account = states["account"][breached]
        account = np.unique(account[(states["is_hedged"][breached] > 0) & (account >= 0)])
        if not len(account):
            return set()
        names = sorted(self.accounts.account_names[row] for row in account.tolist())
        parts = -(-len(names) // HEDGED_TOLD)
        return set(names[batch.until_ms // 100 % parts :: parts])

    def _in_turn(self, batch: Batch) -> list[str]:
        """The accounts whose exposures are told in turn: at each second where they are few."""
        assert self._in_order is not None
        if len(self._in_order) <= TOLD:
            return self._in_order if batch.is_new_second else []
        turn = _following(self._in_order, self.turn[1], TOLD)
        self.turn[1] = turn[-1]
        self.touched.add(TURN)
        return turn

    def _groups_in_turn(self) -> list[str]:
        """The groups with limits whose sums are told in turn."""
        groups = sorted(subject for kind, subject in self.by_subject if kind == GROUP) if self._has_groups() else []
        turn = _following(groups, self.turn[2], GROUPS_TOLD)
        if len(groups) > GROUPS_TOLD:
            self.turn[2] = turn[-1]
            self.touched.add(TURN)
        return turn

    def _has_groups(self) -> bool:
        return len(self.by_subject) > len(self._in_order or ()) + len(self._unplaced)


def _following(names: list[str], last: str, most: int) -> list[str]:
    """The next names after one, in a circle."""
    if len(names) <= most:
        return names
    first = bisect_right(names, last)
    return (names[first : first + most] + names[: max(first + most - len(names), 0)])[:most]


def _pair(key: str) -> tuple[str, str]:
    account, group = orjson.loads(key)
    return account, group


def _no_partition(_: str) -> int:
    return 0

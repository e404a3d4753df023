"""The fund, its open answers, and all accounts, as stored."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import count
from typing import Any

import orjson

from engine.entries import packed, unpacked
from kernels.fund import claims
from kernels.fund.claims import Claim
from kernels.fund.executions import Execution, Liquidation, named
from kernels.fund.rules import RULES, Rules
from kernels.liquidations.accounts import Accounts
from kernels.positions.ledger import CONTEXT, ZERO
from schemas.rows import key, to_ms

VERSION = 1
KEPT_MS = 86_400_000
"""For how long an account's last answer is kept: a claim that is repeated later would be answered again."""


class Purse:
    """What the fund has of one currency."""

    def __init__(self, balance: Decimal) -> None:
        self.balance = balance
        self.entries = 0  # written so far


class Answered:
    """What an account's claims were answered."""

    def __init__(self, claim: Claim) -> None:
        self.claimed_ms = claim.event_ms  # of the newest claim
        self.broke_ms = claim.broke_ms
        self.is_reserved = False  # whether something is held, and the fund is to pay what will be lost
        self.uncovered_usd = 0.0  # what nobody bears, of this case
        self.payments: list[tuple[int, float]] = []  # of the last answers: when they come, in USD


class Deleveraging:
    """A position of `account` that is closed against one of `counter`, as long as it is not booked on both sides."""

    def __init__(self, claim_id: str, account: str, counter: str, contract: str) -> None:
        self.claim_id = claim_id
        self.account = account
        self.counter = counter
        self.contract = contract  # venue:instrument
        self.size = ZERO  # contracts by which the account's position changes
        self.price = ZERO
        self.gain_usd = 0.0  # what the account is better off than at the mark, and the other side worse
        self.told_ms = 0  # when it is booked
        self.is_corrected = False  # whether the correction, or bust, is to be booked
        self.beyond: dict[str, str] = {}  # by account that has booked it: contracts beyond what it held

    @property
    def name(self) -> str:
        """The fill_id on both sides."""
        return f"{self.claim_id}/{self.contract}/{self.counter}"

    @property
    def fill_id(self) -> str:
        """The id of what is to be booked now."""
        return f"{self.name}/corrected" if self.is_corrected else self.name

    @property
    def sides(self) -> tuple[tuple[str, Decimal], tuple[str, Decimal]]:
        """Both accounts, each with the change of its position."""
        return (self.account, self.size), (self.counter, self.size.copy_negate())


class State:
    """The fund and what it goes by.  Only the shard of the first partition has any messages."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.accounts = Accounts()
        self.touched = self.accounts.touched
        self.purses = {currency: Purse(Decimal(amount)) for currency, amount in rules.opening.items()}
        self.answered: dict[str, Answered] = {}
        self.waiting: dict[str, Claim] = {}  # by account, claims that the next batch answers
        self.pending: dict[str, Deleveraging] = {}  # by name
        self.closing: dict[tuple[str, str], set[str]] = {}  # of these, by account and contract
        self.sizes: dict[str, dict[str, tuple[int, Decimal]]] = {}  # by contract and account: event time and contracts
        self.liquidations: dict[str, Liquidation] = {}  # by order_key
        self.partition: Callable[[str], int] = lambda key: 0
        self.is_first = True
        self.name = "fund-0"

    def set_keys(self, partition: Callable[[str], int], own: int) -> None:
        """Be the shard of a partition."""
        self.partition, self.is_first = partition, own == 0
        self.name = next(name for number in count() if partition(name := f"fund-{number}") == own)

    def learn_size(self, row: Mapping[str, Any]) -> Decimal | None:
        """Take a checked row of `positions`; returns the size, None if the row is an older one."""
        contract, account, event_ms = key("instruments", row), row["account"], to_ms(row["event_at"])
        holders = self.sizes.setdefault(contract, {})
        if account in holders and event_ms < holders[account][0]:
            return None
        size = Decimal(row["size"])
        holders[account] = event_ms, size
        self.touched.add(_size_entry(contract, account))
        return size

    def learn_order(self, table: str, row: Mapping[str, Any]) -> None:
        """Take a checked row of `liquidation_orders` or `order_states`."""
        if table == "liquidation_orders":
            name = named(row)
            if name in self.liquidations:
                return
            self.liquidations[name] = Liquidation(row)
        else:
            name = row["order_key"]
            if name not in self.liquidations or not self.liquidations[name].learn(row):
                return
        self.touched.add(f"liquidation/{name}")

    def size(self, account: str, contract: str) -> Decimal:
        """Contracts that an account holds."""
        return self.sizes.get(contract, {}).get(account, (0, ZERO))[1]

    def free_size(self, account: str, contract: str) -> Decimal:
        """Contracts that may be closed, signed: without what is being closed; nothing while a correction is not booked."""
        size = self.size(account, contract)
        for name in sorted(self.closing.get((account, contract), ())):
            deleveraging = self.pending[name]
            if deleveraging.is_corrected:
                return ZERO
            if account not in deleveraging.beyond:
                size = CONTEXT.add(size, dict(deleveraging.sides)[account])
        return size

    def put(self, deleveraging: Deleveraging) -> None:
        """Wait for a deleveraging to be booked."""
        self._index(deleveraging)
        self.touched.add(f"deleveraging/{deleveraging.name}")

    def _index(self, deleveraging: Deleveraging) -> None:
        self.pending[deleveraging.name] = deleveraging
        for account, _ in deleveraging.sides:
            self.closing.setdefault((account, deleveraging.contract), set()).add(deleveraging.name)

    def drop(self, deleveraging: Deleveraging) -> None:
        """Wait for it no longer."""
        del self.pending[deleveraging.name]
        for account, _ in deleveraging.sides:
            names = self.closing[account, deleveraging.contract]
            names.discard(deleveraging.name)
            if not names:
                del self.closing[account, deleveraging.contract]
        self.touched.add(f"deleveraging/{deleveraging.name}")

    def forget(self, until_ms: int) -> None:
        """Free what is no longer needed at the end of a batch."""
        for contract in self.accounts.forget_expired(until_ms):
            for account in self.sizes.pop(contract, {}):
                self.touched.add(_size_entry(contract, account))
        old = [name for name, kept in self.answered.items() if not kept.is_reserved and kept.claimed_ms + KEPT_MS <= until_ms]
        for account in old:
            del self.answered[account]
            self.touched.add(f"answered/{account}")
        # Until then a row that is repeated is known.
        for name in [name for name, order in self.liquidations.items() if order.event_ms + KEPT_MS <= until_ms]:
            del self.liquidations[name]
            self.touched.add(f"liquidation/{name}")

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        stored: Any = None
        if kind == "purse":
            if purse := self.purses.get(subject):
                stored = [str(purse.balance), purse.entries]
        elif kind == "answered":
            if kept := self.answered.get(subject):
                stored = vars(kept)
        elif kind == "waiting":
            if claim := self.waiting.get(subject):
                stored = claims.listed(claim)
        elif kind == "deleveraging":
            if deleveraging := self.pending.get(subject):
                stored = vars(deleveraging) | {"size": str(deleveraging.size), "price": str(deleveraging.price)}
        elif kind == "liquidation":
            if order := self.liquidations.get(subject):
                stored = vars(order) | {"executed": [list(execution) for execution in order.executed]}
        elif kind == "size":
            contract, account = orjson.loads(subject)
            if held := self.sizes.get(contract, {}).get(account):
                stored = [held[0], str(held[1])]
        else:
            return self.accounts.encode(name)
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, subject = name.partition("/")
        if kind not in KINDS:
            self.accounts.decode(name, data)
            return
        stored = unpacked("fund", name, data, VERSION)
        if kind == "purse":
            purse = self.purses[subject] = Purse(Decimal(stored[0]))
            purse.entries = stored[1]
        elif kind == "answered":
            kept = self.answered[subject] = Answered.__new__(Answered)
            vars(kept).update(stored)
            kept.payments = [(ms, usd) for ms, usd in stored["payments"]]
        elif kind == "waiting":
            self.waiting[subject] = claims.restored(stored)
        elif kind == "deleveraging":
            deleveraging = Deleveraging("", "", "", "")
            vars(deleveraging).update(stored)
            deleveraging.size, deleveraging.price = Decimal(stored["size"]), Decimal(stored["price"])
            self._index(deleveraging)
        elif kind == "liquidation":
            order = self.liquidations[subject] = Liquidation.__new__(Liquidation)
            vars(order).update(stored)
            order.executed = [Execution(*execution) for execution in stored["executed"]]
        else:
            contract, account = orjson.loads(subject)
            self.sizes.setdefault(contract, {})[account] = stored[0], Decimal(stored[1])


KINDS = frozenset({"purse", "answered", "waiting", "deleveraging", "liquidation", "size"})


def _size_entry(contract: str, account: str) -> str:
    return f"size/{orjson.dumps([contract, account]).decode()}"

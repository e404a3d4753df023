"""The large orders of a shard, and what they are worked by, as stored."""

from collections.abc import Iterable
from typing import Any

import orjson

from engine.contract import Migration
from engine.entries import packed, unpacked
from kernels import gate, halts
from kernels.execution.market import Market
from kernels.execution.parent import Child, Parent
from kernels.halts import Halt, Halts
from kernels.market.terms import Listing, Tradable, with_amount

VERSION = 2
KEPT_MS = 24 * 60 * 60 * 1000
"""So long a parent that is done is remembered: for repeats of its request, and for executions that are undone."""


class State:
    """The accounts of one shard."""

    def __init__(self) -> None:
        self.parents: dict[tuple[str, str], Parent] = {}  # by account and parent_client_order_id
        self.children: dict[tuple[str, str], Child] = {}  # by account and order_key
        self.active: dict[tuple[str, str], Parent] = {}  # those of which something may change by time
        self.markets: dict[str, Market] = {}  # by venue:instrument, of active parents
        self.listing: Listing[Tradable] = Listing()
        self.halts = Halts()
        self.breaks = gate.Breaks()
        self.touched: set[str] = set()
        self.orphans: dict[tuple[str, str], list[Child]] = {}  # while entries are restored: children before their parents

    def add(self, parent: Parent) -> None:
        """Work a parent from now on."""
        self.parents[parent.account, parent.name] = parent
        if not parent.is_settled:
            self._watch(parent)
        self.touch(parent)

    def reopen(self, parent: Parent) -> None:
        """A parent that was over has changed: what became of it is told once more."""
        parent.is_settled = False
        self._watch(parent)

    def _watch(self, parent: Parent) -> None:
        self.active[parent.account, parent.name] = parent
        if parent.market not in self.markets:
            self.markets[parent.market] = Market()
            self.touched.add(f"market/{parent.market}")

    def settle(self, parent: Parent) -> None:
        """Watch a parent no more."""
        parent.is_settled = True
        self.active.pop((parent.account, parent.name), None)
        self.touch(parent)
        if not any(other.market == parent.market for other in self.active.values()):
            self.markets.pop(parent.market, None)
            self.touched.add(f"market/{parent.market}")

    def touch(self, parent: Parent, child: Child | None = None) -> None:
        """A parent, or one of its children, has changed."""
        self.touched.add(parent_entry(parent.account, parent.name))
        if child is not None:
            self.touched.add(child_entry(child.account, child.key))

    def worked_on(self, market: str) -> Iterable[Parent]:
        """The active parents of an instrument, in the order of their keys."""
        return [self.active[key] for key in sorted(self.active) if self.active[key].market == market]

    def free(self, until_ms: int) -> None:
        """Forget parents that were done a day ago, with their children; and what has ended of the market."""
        over = {key for key, parent in self.parents.items() if parent.is_settled and parent.status_ms + KEPT_MS <= until_ms}
        for key in [key for key, child in self.children.items() if (child.account, child.parent) in over]:
            del self.children[key]
            self.touched.add(child_entry(*key))
        for key in over:
            del self.parents[key]
            self.touched.add(parent_entry(*key))
        self.touched |= {f"contract/{name}" for name in self.listing.free(until_ms - KEPT_MS)}
        self.touched.update(self.breaks.forget(until_ms))
        self.touched.update(self.halts.forget(until_ms, lambda name: name not in self.listing.terms))

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        if kind == gate.BREAK:
            return self.breaks.encode(subject)
        stored: Any = None
        if kind == "parent":
            stored = parent.stored() if (parent := self.parents.get(_key(subject))) else None
        elif kind == "child":
            stored = child.stored() if (child := self.children.get(_key(subject))) else None
        elif kind == "market":
            stored = market.stored() if (market := self.markets.get(subject)) else None
        elif kind == "contract":
            stored = list(terms) if (terms := self.listing.terms.get(subject)) else None
        elif kind == halts.KIND:
            stored = list(halt) if (halt := self.halts.rows.get(subject)) else None
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, subject = name.partition("/")
        if kind == gate.BREAK:
            self.breaks.decode(subject, data)
            return
        stored = unpacked("execution", name, data, VERSION, MIGRATIONS)
        if kind == "parent":
            parent = Parent.restored(stored)
            self.parents[_key(subject)] = parent
            if not parent.is_settled:
                self.active[_key(subject)] = parent
            for child in self.orphans.pop(_key(subject), []):
                parent.open[child.key] = child
        elif kind == "child":
            child = Child.restored(_key(subject)[1], stored)
            self.children[_key(subject)] = child
            self._adopt(child)
        elif kind == "market":
            self.markets[subject] = Market.restored(stored)
        elif kind == "contract":
            self.listing.put(subject, Tradable(*stored))
        elif kind == halts.KIND:
            self.halts.put(subject, Halt(*stored))

    def _adopt(self, child: Child) -> None:
        if child.is_done:
            return
        key = child.account, child.parent
        if key in self.parents:
            self.parents[key].open[child.key] = child
        else:
            self.orphans.setdefault(key, []).append(child)


def _with_amounts(name: str, stored: Any) -> Any:
    """To version 2, in which contracts have their `amount_per_contract`, and books count contracts.

    Before, each amount was taken for contracts: the book is forgotten, for its next row is there within 10 s.
    """
    kind, _, subject = name.partition("/")
    if kind == "contract":
        return with_amount(subject, stored)
    if kind == "parent" and stored[1] is not None:
        return [stored[0], with_amount(f"{stored[0]['venue']}:{stored[0]['instrument']}", stored[1]), *stored[2:]]
    if kind == "market":
        unknown = Market()
        unknown.seen = stored[4]
        return unknown.stored()
    return stored


MIGRATIONS: dict[int, Migration] = {1: _with_amounts}


def parent_entry(account: str, name: str) -> str:
    """The entry of a parent."""
    return f"parent/{orjson.dumps([account, name]).decode()}"


def child_entry(account: str, key: str) -> str:
    """The entry of a child."""
    return f"child/{orjson.dumps([account, key]).decode()}"


def _key(subject: str) -> tuple[str, str]:
    account, name = orjson.loads(subject)
    return account, name

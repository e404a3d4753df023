"""A stage: one question about valued accounts, with an answer in each batch.

A stage is a class whose object is its state.  To add one, write a module with such a class and add it to the `stages` of the
package's `State`.  It depends on nothing else: given accounts and their valuation, it returns rows.
"""

from typing import ClassVar, NamedTuple, Protocol

from engine.contract import Message, Output
from kernels.liquidations.pricing import Valuation


class Batch(NamedTuple):
    """One batch, valued."""

    valuation: Valuation  # the same object as in the batch before if nothing has moved
    until_ms: int  # the end of its window
    is_new_second: bool  # whether it is the first of its whole second of event time
    changed: frozenset[str]  # accounts whose positions, balances or model have changed
    scalings: list[Output]  # rows of `margin_scalings`: factors of requirements that change with this batch

    @property
    def now_ms(self) -> int:
        """The event time of its rows."""
        return self.until_ms - 1


class Stage(Protocol):
    """Made from the shard's `Accounts`, which it reads and whose set `touched` it shares."""

    KINDS: ClassVar[frozenset[str]]  # the first part of the names of its entries, up to the slash; no other stage has it

    def learn(self, messages: list[Message]) -> None:
        """Apply the checked messages that concern it, in order of time; `Accounts` has applied them already."""

    def rows(self, batch: Batch) -> list[Output]:
        """The rows of a batch."""

    def forget(self, contracts: set[str], until_ms: int) -> None:
        """Free what is no longer needed at the end of a batch; these contracts have been freed."""

    def gauges(self) -> dict[str, float]:
        """As of `engine.contract.Kernel`."""

    def encode(self, name: str) -> bytes | None:
        """As of `engine.contract.State`, of its own entries."""

    def decode(self, name: str, data: bytes) -> None:
        """As of `engine.contract.State`, of its own entries."""

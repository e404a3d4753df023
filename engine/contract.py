"""What a kernel is: a frozen declaration of its functions and its limits, which the host, the catalogue and the tests read.

`step` must depend on the state and its arguments alone: no clock, no randomness, no other input.  To recover, a host repeats
the steps since the last stored state, and drops their outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple, Protocol

HOUR_MS = 60 * 60 * 1000


class Message(NamedTuple):
    """One row of a topic.  A record holds one row or several."""

    table: str  # as whose row a kernel takes it: the topic's name in schemas/, or what that is read as (schemas.READ_AS)
    partition: int
    offset: int
    row: dict[str, Any]  # not yet checked against the DDL
    value: bytes = b""  # what it was decoded from
    topic: str = ""  # where it was read; empty for that of its table


class Output(NamedTuple):
    """One row for a topic."""

    table: str
    event_ms: int  # becomes the Kafka record timestamp
    row: Mapping[str, Any]


class Lines(NamedTuple):
    """Rows of one table as text, one line for each row."""

    table: str
    heads: bytes  # the record timestamp in ms, in 13 digits, and the Kafka key
    values: bytes  # JSON


class State(Protocol):
    """A kernel's memory of one shard: named entries (an instrument, an account), each stored as bytes."""

    @property
    def touched(self) -> set[str]:
        """Names of the entries that have changed, or were added or removed, since the host last cleared this set."""

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes, or None if it no longer exists."""

    def decode(self, name: str, data: bytes) -> None:
        """Restore an entry from the bytes that `encode` returned.  Raises `ValueError` for a version that cannot be read."""


Migration = Callable[[str, Any], Any]
"""Takes an entry's name and the content that one version stored; returns the content as the next version stores it."""


def _no_gauges(_: Any) -> dict[str, float]:
    return {}


@dataclass(frozen=True)
class Kernel:
    """A kernel's declaration.

    new         an empty state
    step        applies one micro-batch in place: (state, messages, until_ms) -> rows.  `until_ms` is the end of its event-time
                window: all messages are before it, and all that still come from before it are late.  None: the messages are
                late; the kernel judges them by their own sequence or time.  An empty batch means only that time has passed; it
                comes before the batch that ends at the same instant.
    take_plain  optional; gets a batch first, as bytes: (state, data, until_ms) -> (lines, the records left for step)
    set_keys    optional; is called with a new state, a function that returns the partition of a key's rows, and that of this
                shard.  A job whose messages go to several shards knows by it which rows to emit, and a job whose readers
                have other keys where they look for a row
    end_window  optional; is called at the end of each window, after its messages, also if it has none: (state, until_ms) ->
                lines, the rows that are due at that time
    gauges      numbers for an operator, by name: (state) -> numbers.  It changes nothing and is cheap beside a batch.  The host
                calls it once a second and rounds to whole numbers, so each name contains the unit
    obeyed      optional, of kernels that emit orders: (state) -> the rows of `controls_applied` in force, by scope.  The host
                adds further rows as messages, in the batch from which they hold (`engine.controls`)
    """

    name: str
    version: int  # of its stored entries; a host refuses versions that it cannot read
    new: Callable[[], Any]
    step: Callable[[Any, list[Message], int | None], list[Output]]
    take_plain: Callable[[Any, bytes, int], tuple[list[Lines], bytes]] | None = None
    set_keys: Callable[[Any, Callable[[str], int], int], None] | None = None
    end_window: Callable[[Any, int], list[Lines]] | None = None
    gauges: Callable[[Any], dict[str, float]] = _no_gauges
    migrations: Mapping[int, Migration] = field(default_factory=dict)  # by the version that they read
    parts: tuple["Kernel", ...] = ()  # kernels whose entries it stores among its own
    obeyed: Callable[[Any], Mapping[str, Mapping[str, Any]]] | None = None
    common: frozenset[str] = frozenset()  # tables for which every shard emits the same rows: only one shard writes them
    sweep_ms: int = HOUR_MS  # event time between two empty batches
    latency_ms: int = 0  # of the rows, and heartbeats, of a kernel that tells ahead: how far they are ahead of their batch
    store_share: float = 0.2  # entries are stored once that takes no more than this share of the time of the steps

    def readable(self) -> dict[str, list[int]]:
        """The versions of entries that this code reads, the newest first, by the name of the kernel: itself and its parts."""
        versions = [self.version]
        while versions[-1] - 1 in self.migrations:
            versions.append(versions[-1] - 1)
        by_name = {self.name: versions}
        for part in self.parts:
            by_name |= part.readable()
        return by_name


def kernel(name: str) -> Kernel:
    """The declaration of `kernels.<name>`.  Raises `TypeError` if the module has none."""
    declared = getattr(import_module(f"kernels.{name}"), "KERNEL", None)
    if not isinstance(declared, Kernel):
        raise TypeError(f"kernels/{name}: expected KERNEL, an engine.contract.Kernel")
    return declared

"""What a kernel is: a frozen declaration of its functions and its limits, which the host, the catalogue and the tests read.

`step` must be a function of the state and its arguments alone: no clock, no randomness, no other input.  A host recovers by
stepping again through the batches since the last stored state, and drops those outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple, Protocol

HOUR_MS = 60 * 60 * 1000


class Message(NamedTuple):
    """One row of a topic.  A record holds one row or several."""

    table: str  # the topic's name in schemas/
    partition: int
    offset: int
    row: dict[str, Any]  # as it came: not yet checked against the DDL
    value: bytes = b""  # what it was decoded from


class Output(NamedTuple):
    """One row for a topic."""

    table: str
    event_ms: int  # becomes the Kafka record timestamp
    row: Mapping[str, Any]


class Lines(NamedTuple):
    """Rows of one table as text, a line a row."""

    table: str
    heads: bytes  # the record timestamp in ms, in 13 digits, and the Kafka key
    values: bytes  # JSON


class State(Protocol):
    """A kernel's memory of one shard: named entries (an instrument, an account), each stored as bytes."""

    @property
    def touched(self) -> set[str]:
        """Names of the entries that were changed, added or removed since the host last cleared this set."""

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes, or None where it no longer exists."""

    def decode(self, name: str, data: bytes) -> None:
        """Restore an entry from what `encode` returned.  Raises `ValueError` for bytes of a version that cannot be read."""


Migration = Callable[[str, Any], Any]
"""Takes an entry's name and the content that one version stored; returns what the next version would have stored."""


def _no_gauges(_: Any) -> dict[str, float]:
    return {}


@dataclass(frozen=True)
class Kernel:
    """A kernel's declaration.

    new         an empty state
    step        applies one micro-batch in place: (state, messages, until_ms) -> rows.  `until_ms` is the end of its event-time
                window: all messages are before it, and only late messages may still come from before it.  None: the messages
                are late, behind the watermark; the kernel judges them by their own sequence or time.  An empty batch says only
                that time has passed; it comes before the batch that ends at the same instant.
    take_plain  where there is one, sees a batch first, as bytes: (state, data, until_ms) -> (lines, the records left for step)
    place       where there is one, is called with a new state and a function: whether the rows of a key are in the partition
                of this shard.  A job that gets every message in every shard knows by it which rows to put out
    end_window  where there is one, is called at the end of each window, behind its messages and also where there were none:
                (state, until_ms) -> lines, the rows that are due by time
    gauges      numbers for an operator, by name: (state) -> numbers.  It changes nothing and is cheap beside a batch; the host
                asks once a second and rounds to whole numbers, so a name says their unit
    """

    name: str
    version: int  # of its stored entries; a host refuses versions that it cannot read
    new: Callable[[], Any]
    step: Callable[[Any, list[Message], int | None], list[Output]]
    take_plain: Callable[[Any, bytes, int], tuple[list[Lines], bytes]] | None = None
    place: Callable[[Any, Callable[[str], bool]], None] | None = None
    end_window: Callable[[Any, int], list[Lines]] | None = None
    gauges: Callable[[Any], dict[str, float]] = _no_gauges
    migrations: Mapping[int, Migration] = field(default_factory=dict)  # by the version that they read
    parts: tuple["Kernel", ...] = ()  # whose entries it stores among its own
    common: frozenset[str] = frozenset()  # tables of which every shard emits the same rows: one shard alone writes them
    sweep_ms: int = HOUR_MS  # event time between two empty batches
    store_share: float = 0.2  # of the time of its steps, what storing entries may take; until then they wait

    def readable(self) -> dict[str, list[int]]:
        """The versions of entries that can be read, the newest first: by name, its own and those of its parts."""
        versions = [self.version]
        while versions[-1] - 1 in self.migrations:
            versions.append(versions[-1] - 1)
        own = {self.name: versions}
        for part in self.parts:
            own |= part.readable()
        return own


def kernel(name: str) -> Kernel:
    """The declaration of `kernels.<name>`.  Raises `TypeError` where the module has none."""
    declared = getattr(import_module(f"kernels.{name}"), "KERNEL", None)
    if not isinstance(declared, Kernel):
        raise TypeError(f"kernels/{name}: expected KERNEL, an engine.contract.Kernel")
    return declared

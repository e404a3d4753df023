"""The keyed state machines.  A kernel is a module that never imports pyflink; it runs in a job, a test or a notebook alike.

A kernel module has
    VERSION    of its stored bytes; a host refuses bytes of a version that the kernel cannot read
    MIGRATIONS if there are any, how entries of older versions are made newer (entries.py)
    PARTS      if there are any, the kernels whose entries it stores among its own
    SHARED     the tables of which every shard gets every message
    COMMON     if there is one, tables of which every shard puts out the same rows, so that one shard alone has to write them
    SWEEP_MS   of event time: how often an empty batch comes, an hour where it does not say
    STORE_SHARE of the time of its steps: what storing entries may take, else they wait; a fifth where it does not say
    new()      an empty state
    step()     apply one micro-batch: (state, messages, until_ms) -> outputs
    take_plain() if there is one, sees a batch first, as bytes: (state, data, until_ms) -> (rows, the records left for step)
    gauges()   if there is one, what an operator is to see of a state, by name: (state) -> numbers.  It changes nothing, and is
               cheap beside a batch; the host asks once a second and rounds to whole numbers, so a name says their unit

`step` must be a function of the state and its arguments alone (no clock, no randomness, no reading of anything else): a host
recovers by stepping again through the batches since the last stored state, and throws those outputs away.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol


class Message(NamedTuple):
    """One row of a topic, which is a record or a part of one."""

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


class State(Protocol):
    """A kernel's memory of one shard: named entries (an instrument, an account), stored apart as bytes."""

    @property
    def touched(self) -> set[str]:
        """Names of the entries that were changed, made or removed since the host last cleared this set."""

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes, or None where it no longer exists."""

    def decode(self, name: str, data: bytes) -> None:
        """Put back an entry that `encode` gave.  Raises `ValueError` if the bytes are not this version's."""


Gauges = Callable[[Any], dict[str, float]]
"""A kernel's `gauges`."""


class Kernel(Protocol):
    """What a kernel module offers."""

    VERSION: int
    SHARED: frozenset[str]
    """Tables of which every shard gets every message; one shard alone, the first, then answers for the bad ones."""

    @staticmethod
    def new() -> State:
        """An empty state."""

    @staticmethod
    def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
        """Apply one micro-batch in place.

        `until_ms` is the end of its event-time window: all messages are before it, and none from before it is to come, but
        for late ones.  None: the messages are late, behind the watermark; the kernel judges them by their own sequence or
        time.  An empty batch says only that time has passed; it comes before the batch that ends at the same instant.
        """

"""Heartbeats: records without a value, which tell every partition the time."""

from collections.abc import Callable, Iterable

KEY = "heartbeat"

Partition = tuple[str, int]
"""Topic and number."""


class Heartbeats:
    """Writes the time into every partition, each `every_ms`."""

    def __init__(self, partitions: Iterable[Partition], every_ms: int, produce: Callable[[str, int, int], None]) -> None:
        """`produce` writes a heartbeat; it takes topic, partition and timestamp in ms."""
        self.every_ms = every_ms
        self._produce = produce
        self._partitions = list(partitions)
        self._told_ms = 0

    def is_due(self, time_ms: int) -> bool:
        """Whether it is time for the next heartbeats."""
        return time_ms >= self._told_ms + self.every_ms

    def tell(self, time_ms: int) -> None:
        """Write the time into every partition."""
        self._told_ms = time_ms
        for topic, partition in self._partitions:
            self._produce(topic, partition, time_ms)

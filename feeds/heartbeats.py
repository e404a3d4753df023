"""Heartbeats: records without a value that tell the time in partitions that are silent."""

from collections.abc import Callable, Iterable

KEY = "heartbeat"

Partition = tuple[str, int]
"""Topic and number."""


class Heartbeats:
    """Tells the time in each partition that had no record for `every_ms`."""

    def __init__(self, partitions: Iterable[Partition], every_ms: int, produce: Callable[[str, int, int], None]) -> None:
        """`produce` writes a heartbeat; it takes topic, partition and timestamp in ms."""
        self.every_ms = every_ms
        self._produce = produce
        self._told_ms = 0
        # The newest timestamp in each partition; 0 where nothing has been written.
        self._newest_ms = dict.fromkeys(partitions, 0)

    def note(self, topic: str, partition: int, timestamp_ms: int) -> None:
        """Take notice of a record: it tells the time itself."""
        if timestamp_ms > self._newest_ms.get((topic, partition), timestamp_ms):
            self._newest_ms[topic, partition] = timestamp_ms

    def is_due(self, time_ms: int) -> bool:
        """Whether it is time for the next heartbeats."""
        return time_ms >= self._told_ms + self.every_ms

    def tell(self, time_ms: int) -> None:
        """Tell the time in each partition that is silent."""
        self._told_ms = time_ms
        for (topic, partition), newest_ms in self._newest_ms.items():
            if newest_ms <= time_ms - self.every_ms:
                self._produce(topic, partition, time_ms)
                self._newest_ms[topic, partition] = time_ms

"""Heartbeats: records without a value, which tell every partition the time."""

from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas import AHEAD_MS, TOLD_AHEAD
from schemas.clients import reached
from schemas.records import TABLES
from schemas.security import FEED

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


def begin_loops(servers: str, known: Mapping[str, int], time_ms: int, produce: Callable[[str, int, int], None]) -> None:
    """Write the first time of all into the topics in which it is told ahead, where they are empty: the end of its windows.

    Before this time nobody asks for anything, so nothing is answered before that one.  Without it the jobs of a loop would wait
    for each other for ever.  As every heartbeat that jobs write, it bears the last instant of a window: so each reader has a
    window that it ends, and tells the time in turn.

    `known` has the partitions of each topic.  Raises `Unreachable`, `KafkaException`.
    """
    ahead_ms = (time_ms // AHEAD_MS + 1) * AHEAD_MS - 1
    topics = [TABLES[table].topic for table in sorted(TOLD_AHEAD)]
    asked = {TopicPartition(topic, part): OffsetSpec.latest() for topic in topics for part in range(known.get(topic, 0))}
    if not asked:
        return
    admin, _ = reached(AdminClient, servers, FEED)
    for part, result in admin.list_offsets(asked).items():
        if result.result(timeout=30).offset == 0:
            produce(part.topic, part.partition, ahead_ms)

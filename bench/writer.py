"""Writes like a feed in real time: each row is sent at once."""

from collections.abc import Iterable
from typing import Any

from confluent_kafka import Producer

from bench.passes import BenchError
from deploy import topics
from feeds.heartbeats import KEY, Heartbeats
from feeds.packs import packing
from feeds.publish import PACKED, heartbeat_ms
from schemas.partitions import partition_of
from schemas.records import TABLES
from schemas.rows import encoded, key


class Writer:
    """Writes rows at once, and heartbeats into every partition of the topics of these tables."""

    def __init__(self, servers: str, heartbeat_tables: Iterable[str]) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": servers,
                "compression.type": "zstd",
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self.counts = existing = topics.existing_topics(servers)
        self.parts = [
            (TABLES[table].topic, part) for table in heartbeat_tables for part in range(existing[TABLES[table].topic])
        ]
        packed = [(table, TABLES[table].topic) for table in PACKED]
        self.packs = {table: packing(topic, existing[topic], self.put) for table, topic in packed}
        self.heartbeats = Heartbeats(self.parts, heartbeat_ms(), self._heartbeat)

    def row(self, table: str, row: dict[str, Any], event_ms: int) -> None:
        """Write one row."""
        topic, row_key = TABLES[table].topic, key(table, row)
        self.put(topic, encoded(row), row_key, event_ms, partition_of(row_key, self.counts[topic]))

    def put(self, topic: str, value: bytes | None, row_key: str | None, event_ms: int, partition: int) -> None:
        """Write a record, once there is room for it."""
        while True:
            try:
                self.producer.produce(topic, value, row_key, partition, timestamp=event_ms)
                return
            except BufferError:
                self.producer.poll(0.1)

    def beat(self, event_ms: int) -> None:
        """Write heartbeats into every partition, if they are due."""
        if self.heartbeats.is_due(event_ms):
            self.ship()
            self.heartbeats.tell(event_ms)

    def _heartbeat(self, topic: str, partition: int, event_ms: int) -> None:
        self.put(topic, None, KEY, event_ms, partition)

    def ship(self) -> None:
        """Send rows that wait for others of their instant."""
        for packs in self.packs.values():
            packs.ship()

    def flush(self) -> None:
        """Wait until all records are written."""
        self.ship()
        if left := self.producer.flush(60):
            raise BenchError(f"{left} records were not acknowledged")

"""Writes as a feed does that plays by the clock on the wall: what is handed over is sent at once."""

from collections.abc import Iterable
from typing import Any

from confluent_kafka import Producer

from bench.passes import BenchError
from deploy import topics
from feeds.packs import packing
from feeds.publish import PACKED, heartbeat_ms
from schemas.records import TABLES
from schemas.rows import encoded, key


class Writer:
    """Writes rows at once, and heartbeats into every partition of the topics of `told` tables."""

    def __init__(self, servers: str, told: Iterable[str]) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": servers,
                "compression.type": "zstd",
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        existing = topics.existing_topics(servers)
        self.parts = [(TABLES[table].topic, part) for table in told for part in range(existing[TABLES[table].topic])]
        packed = [(table, TABLES[table].topic) for table in PACKED]
        self.packs = {table: packing(topic, existing[topic], self.put) for table, topic in packed}
        self.beat_ms, self.every_ms = 0, heartbeat_ms()

    def row(self, table: str, row: dict[str, Any], event_ms: int) -> None:
        """Write one row."""
        self.put(TABLES[table].topic, encoded(row), key(table, row), event_ms)

    def put(self, topic: str, value: bytes, row_key: str | None, event_ms: int, partition: int = -1) -> None:
        """Write a record, once there is room for it."""
        while True:
            try:
                self.producer.produce(topic, value, row_key, partition, timestamp=event_ms)
                return
            except BufferError:
                self.producer.poll(0.1)

    def beat(self, event_ms: int) -> None:
        """Say what time it is, where it is time to."""
        if event_ms >= self.beat_ms + self.every_ms:
            self.ship()
            self.beat_ms = event_ms
            for topic, part in self.parts:
                self.producer.produce(topic, None, "heartbeat", part, timestamp=event_ms)

    def ship(self) -> None:
        """Hand over rows that wait for others of their instant."""
        for packs in self.packs.values():
            packs.ship()

    def flush(self) -> None:
        """Wait until all of it is written."""
        self.ship()
        if left := self.producer.flush(60):
            raise BenchError(f"{left} records were not acknowledged")

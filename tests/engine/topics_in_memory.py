"""Topics in memory, and a consumer of them: of Kafka's just what `engine.listening` asks for."""

from types import SimpleNamespace
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from schemas.rows import instant_ms

SAID_MS = 1_700_000_000_000


class Broker:
    """One topic of some partitions, each a list of (key, value); a broker that is away answers nothing."""

    def __init__(self, topic: str, partitions: int = 2) -> None:
        self.topic = topic
        self.logs: list[list[tuple[bytes | None, bytes | None]]] = [[] for _ in range(partitions)]
        self.is_away = False
        self.is_slow = False  # it tells where the topic ends, and gives no records
        self.made = 0

    def consumer(self, settings: dict[str, Any]) -> "Consumer":
        self.made += 1
        self.settings = settings
        return Consumer(self)

    def append(self, key: str | None, row: Any, partition: int = 0) -> int:
        value = row if row is None or isinstance(row, bytes) else orjson.dumps(row)
        self.logs[partition].append((None if key is None else key.encode(), value))
        return len(self.logs[partition]) - 1

    def say(self, scope: str, mode: str, partition: int = 0, **more: Any) -> int:
        row = {"scope": scope, "mode": mode, "who": "ann", "why": "a drill", "event_at": instant_ms(SAID_MS)}
        return self.append(scope, row | {"ends_at": None, "liquidations": False} | more, partition)


class Consumer:
    """Reads a broker from the beginning, partition by partition, and says where each ends."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.next, self.told_end = broker, {}, set()  # type: ignore[var-annotated]
        self.is_closed = False

    def list_topics(self, topic: str, timeout: float) -> Any:
        if self.broker.is_away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        known = {self.broker.topic: SimpleNamespace(partitions=dict.fromkeys(range(len(self.broker.logs))), error=None)}
        return SimpleNamespace(topics=known)

    def assign(self, parts: list[TopicPartition]) -> None:
        self.next = {part.partition: 0 for part in parts}

    def offsets_for_times(self, parts: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.broker.is_away:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [TopicPartition(part.topic, part.partition, len(self.broker.logs[part.partition])) for part in parts]

    def poll(self, timeout: float) -> Any:
        if self.broker.is_away or self.broker.is_slow:
            return None
        for part, offset in self.next.items():
            log = self.broker.logs[part]
            if offset < len(log):
                self.next[part] += 1
                self.told_end.discard(part)
                key, value = log[offset]
                return _Message(self.broker.topic, part, offset, key, value, None)
            if part not in self.told_end:
                self.told_end.add(part)
                return _Message(self.broker.topic, part, offset, None, None, KafkaError(KafkaError._PARTITION_EOF))
        return None

    def close(self) -> None:
        self.is_closed = True


class _Message:
    def __init__(
        self, topic: str, part: int, offset: int, key: bytes | None, value: bytes | None, error: KafkaError | None
    ) -> None:
        self.topic = lambda: topic
        self.partition, self.offset = lambda: part, lambda: offset
        self.key, self.value, self.error = lambda: key, lambda: value, lambda: error
        self.timestamp = lambda: (1, SAID_MS)

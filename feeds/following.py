"""The time of topics that other producers write: the newest timestamp, or the clock while no records come."""

import threading
import time
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from feeds.publish import FEED_TABLES, PublishError
from feeds.times import JOIN_MS, JOINS, LEAVES, LIVES, Report, Reporter, writer_name
from schemas.clients import Unreachable, reached
from schemas.records import TABLES
from schemas.security import FEED, manner

_FETCHED = 1_000


class Follower:
    """Reports the time of topics as if it wrote them itself, while the block lasts."""

    def __init__(self, servers: str, topics: list[str], behind_ms: int, every_ms: int, timeout_s: float = 30.0) -> None:
        """`topics` are feed topics; time is `behind_ms` behind, and reported each `every_ms`.  Raises `PublishError`."""
        fed = [TABLES[table].topic for table in FEED_TABLES]
        if odd := [topic for topic in topics if topic not in fed]:
            raise PublishError(
                f"{odd[0]}: feeds do not write such a topic; they write {', '.join(fed)}. "
                "docs/bring_your_own_topics.md: how to map a topic of your own into these"
            )
        self.count = 0
        """The records that came."""
        self._name = writer_name("+".join(topics))
        self._behind_ms, self._every_s = behind_ms, every_ms / 1000
        self._is_stopped = threading.Event()
        settings = {"group.id": "gammaflow-time", "enable.auto.commit": False, "auto.offset.reset": "latest"}
        try:
            self._consumer, known = reached(Consumer, servers, FEED, settings, timeout_s)
            for topic in topics:
                if topic not in known:
                    raise PublishError(
                        f"the broker at {servers} has no topic {topic} that we may see, {manner(FEED)}; "
                        "`gammaflow up` makes it, `gammaflow acls` lists the rights"
                    )
            self._reporter = Reporter(servers, timeout_s)
            parts = [TopicPartition(topic, part) for topic in topics for part in range(known[topic])]
            for part in parts:
                part.offset = self._consumer.get_watermark_offsets(part, timeout=timeout_s)[1]
            self._consumer.assign(parts)
        except Unreachable as error:
            raise PublishError(str(error)) from None
        except KafkaException as error:
            raise PublishError(f"{', '.join(topics)} at {servers}, {manner(FEED)}: {error.args[0].str()}") from error

    def __enter__(self) -> Self:
        self._time_ms = _now_ms() - JOIN_MS
        self._report(JOINS)
        try:
            self._reporter.confirm()
        except Unreachable as error:
            raise PublishError(str(error)) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._consumer.close()
        self._report(LEAVES)
        self._reporter.flush()

    def stop(self) -> None:
        """Let `follow` end; from any thread."""
        self._is_stopped.set()

    def follow(self) -> None:
        """Report the time until it is stopped.  Raises `PublishError` for topics that may not be read."""
        newest_ms, heard_s = 0, time.monotonic()
        while not self._is_stopped.is_set():
            for message in self._consumer.consume(_FETCHED, timeout=self._every_s):
                if (error := message.error()) is not None:
                    if not error.retriable():
                        raise PublishError(f"{message.topic()}, {manner(FEED)}: {error.str()}")
                elif message.value() is not None:  # a heartbeat says what we have said
                    newest_ms = max(newest_ms, message.timestamp()[1])
                    heard_s = time.monotonic()
                    self.count += 1
            is_quiet = time.monotonic() >= heard_s + self._behind_ms / 1000
            self._time_ms = max(self._time_ms, (_now_ms() if is_quiet else newest_ms) - self._behind_ms)
            self._report(LIVES)

    def _report(self, kind: str) -> None:
        self._reporter.send(Report(self._name, kind, self._time_ms))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""The keeper of time: one process writes the heartbeats into all feed topics, for all writers.

Every `gammaflow feed` and `gammaflow heartbeats` is a member of one Kafka consumer group.  The member that has the partition of
reports is the keeper.  When it stops or dies, Kafka assigns the partition to another member.
"""

import logging
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from feeds.heartbeats import KEY, Heartbeats, begin_loops
from feeds.publish import FEED_TABLES, PublishError, heartbeat_ms
from feeds.times import DEAD_MS, PARTITION, TOLD, TOPIC, Report, Reporter, Times, parsed, writer_name
from schemas import RETIRED
from schemas.clients import Unreachable, reached
from schemas.records import TABLES
from schemas.security import FEED, manner

GROUP = "gammaflow-time"
SESSION_MS = 6_000
"""How long a keeper may be silent before another member takes over: the shortest session that brokers allow by default."""
_END_S = 2.0  # how long a keeper that stops may take to write the last heartbeats
_AGAIN_S = 1.0
_SETTINGS = {
    "group.id": GROUP,
    "enable.auto.commit": False,
    "auto.offset.reset": "latest",
    # A keeper goes on while others come and go.
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": SESSION_MS,
    "heartbeat.interval.ms": 300,
}

_log = logging.getLogger(__name__)


class Keeper:
    """A candidate, in a thread of its own, while the block lasts."""

    def __init__(self, servers: str, timeout_s: float = 30.0, dead_ms: int = DEAD_MS, session_ms: int = SESSION_MS) -> None:
        """Connect to the brokers `servers`.  Raises `PublishError`."""
        self.servers, self.name = servers, writer_name("keeper")
        self.is_keeper = False
        self._dead_ms, self._session_ms = dead_ms, session_ms
        settings = {"enable.idempotence": True, "linger.ms": 1, "message.timeout.ms": 10_000, "logger": _log}
        try:
            self._producer, known = reached(Producer, servers, FEED, settings, timeout_s)
            self._reporter = Reporter(servers, timeout_s)
        except Unreachable as error:
            raise PublishError(str(error)) from None
        topics = [*(TABLES[table].topic for table in FEED_TABLES), *RETIRED]
        partitions = [(topic, part) for topic in topics for part in range(known.get(topic, 0))]
        self._heartbeats = Heartbeats(partitions, heartbeat_ms(), self._produce)
        self._times, self._next, self._known_at = Times(dead_ms), 0, 0
        self._has_begun = False
        self._partitions: dict[str, int] = {}  # of each topic
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._is_stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                self._keep()
            except (KafkaException, Unreachable, TimeoutError) as error:
                _log.warning("%s at %s, %s: %s; trying again", TOPIC, self.servers, manner(FEED), error)
                self._is_stopped.wait(_AGAIN_S)
        self._producer.flush(_END_S)
        self._reporter.flush()

    def _keep(self) -> None:
        consumer, self._partitions = reached(
            Consumer, self.servers, FEED, {**_SETTINGS, "session.timeout.ms": self._session_ms, "logger": _log}
        )
        consumer.subscribe([TOPIC], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        try:
            while not self._is_stopped.is_set():
                self._take(consumer.poll(0.1))
            if self.is_keeper:
                # The last report of its own process counts, too.
                end = consumer.get_watermark_offsets(TopicPartition(TOPIC, PARTITION), timeout=_END_S)[1]
                while self.is_keeper and self._next < end and (message := consumer.poll(_END_S)) is not None:
                    self._take(message)
        finally:
            self.is_keeper = False
            consumer.close()

    def _assigned(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        for part in parts:
            if part.partition != PARTITION:
                continue
            part.offset, self._known_at = self._since(consumer, part)
            self._times, self._next, self.is_keeper = Times(self._dead_ms), part.offset, True
            _log.info("%s keeps the time from offset %d of %s on", self.name, self._known_at, TOPIC)
        consumer.incremental_assign(parts)

    def _since(self, consumer: Consumer, part: TopicPartition) -> tuple[int, int]:
        """The offset from which the reports show all living writers, and the end of the log."""
        low, high = consumer.get_watermark_offsets(part, timeout=10)
        if low == high:
            return high, high
        key = TopicPartition(part.topic, part.partition)
        # A new client: one from before a restart of the broker is refused (FENCED_LEADER_EPOCH) for minutes.
        admin, _ = reached(AdminClient, self.servers, FEED, {}, timeout_s=10)
        newest_ms = admin.list_offsets({key: OffsetSpec.max_timestamp()})[key].result(timeout=10).timestamp
        asked = TopicPartition(part.topic, part.partition, max(0, newest_ms - 2 * self._dead_ms))
        (start,) = consumer.offsets_for_times([asked], timeout=10)
        return (start.offset if start.offset >= 0 else high), high

    def _revoked(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        if PARTITION in {part.partition for part in parts}:
            self.is_keeper = False
            _log.info("%s keeps the time no longer", self.name)
        consumer.incremental_unassign(parts)

    def _take(self, message: Message | None) -> None:
        """Take a report, and write heartbeats if the time has advanced."""
        self._producer.poll(0)
        if message is None:
            return
        if message.error():
            _log.warning("%s at %s, %s: %s", TOPIC, self.servers, manner(FEED), message.error().str())
            return
        if message.partition() != PARTITION:
            return
        report = parsed(message.value())
        if report is not None:
            for writer in self._times.take(report, message.timestamp()[1]):
                _log.warning("%s has reported nothing for %g s: nobody waits for it any more", writer, self._dead_ms / 1000)
        self._next = message.offset() + 1
        # Before it has read the reports up to here, it does not know all living writers.
        if self.is_keeper and self._next >= self._known_at:
            time_ms = self._times.time_ms()
            if time_ms >= self._times.told_ms + self._heartbeats.every_ms:
                if not self._has_begun:
                    begin_loops(self.servers, self._partitions, time_ms, self._produce)
                    self._has_begun = True
                self._times.told_ms = time_ms
                self._reporter.send(Report(self.name, TOLD, time_ms))
                self._heartbeats.tell(time_ms)

    def _produce(self, topic: str, partition: int, time_ms: int) -> None:
        with suppress(BufferError):  # the broker is away; a later heartbeat says more
            self._producer.produce(topic, None, KEY, partition, timestamp=max(time_ms, 1))

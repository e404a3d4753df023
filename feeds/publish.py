"""Records into Kafka, at full speed or at the pace at which they were received."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from feeds import Record
from feeds.capture import Converted, Tally
from feeds.clocks import Clocks, tells_time
from feeds.heartbeats import KEY, Heartbeats, begin_loops
from feeds.metrics import Latencies
from feeds.packs import packing
from feeds.reports import Reports
from feeds.times import Reporter
from schemas import RETIRED
from schemas.clients import Unreachable, reached
from schemas.partitions import partition_of
from schemas.records import TABLES, VenueTimesRow
from schemas.rows import encoded, instant_ms, key
from schemas.security import FEED, manner

_log = logging.getLogger(__name__)


FEED_TABLES = (
    *("instruments", "order_books", "trades", "tickers", "index_prices", "trading_halts", "fills", "transfers"),
    *("execution_reports", "oracle_updates", "venue_times", "order_requests", "execution_parents"),
    *("account_groups", "risk_limits"),
)
"""What feeds write, and so where they say what time it is; in order_requests, execution_parents, account_groups and risk_limits
for people and programs that request, which no feed does."""
PACKED = frozenset({"order_books"})
"""Of these, rows of one instant share a record (`feeds.packs`): the tables of which there are most."""
HEARTBEAT_MS = 20
"""Of event time, where GAMMAFLOW_HEARTBEAT_MS does not say otherwise."""
VENUE_TIMES_MS = 100
"""Of event time between two rows of `venue_times` of a venue that speaks."""
END_MS = 1000
"""How far past its last record a feed that ends moves the time, so that nobody waits for more."""

DRAIN_MS = 30_000
"""The same where orders trade on the own venue: rounds of a liquidation are a second apart, so this is enough for thirty."""
STEP_MS = 50
"""Between the heartbeats of that time: no window of a loop is shorter but those of jobs before it."""


SPOKEN = frozenset({"order_books", "trades", "tickers", "index_prices"})
"""Of these, tables whose rows show what a venue's clock says, and that it is alive."""


class PublishError(Exception):
    """Records that did not reach Kafka, or cannot; the message names the topic, the broker or the setting, and the reason."""


def heartbeat_ms() -> int:
    """How much event time may pass without a heartbeat.  Raises `PublishError` for a setting that is no such number."""
    told = os.environ.get("GAMMAFLOW_HEARTBEAT_MS", str(HEARTBEAT_MS))
    if not told.isdecimal() or not int(told):
        raise PublishError(f"GAMMAFLOW_HEARTBEAT_MS: expected milliseconds above 0, got {told!r}")
    return int(told)


class Sink(Protocol):
    """Whatever takes records."""

    def publish(self, record: Record) -> None:
        """Take one record."""

    def ship(self) -> None:
        """Let go of what was taken: nothing more comes for now."""


class Publisher:
    """Writes records to the topics that their tables name.

    Acknowledged by all replicas and idempotent, so that a retry neither loses nor repeats nor reorders; partitioned as
    Java producers do, so that Flink's own rows of a key land beside these.

    Rows of the tables in `PACKED` wait for others of their instant, until one of another comes, or `ship` says that none does.

    Every `heartbeat_ms` of event time a heartbeat, a record without a value, goes into each partition that feeds write: readers
    then know what time it is, and need not guess by the clock on the wall.  Where several write at once, each has a name and
    reports its time instead, at every `tick`: the heartbeats are then the keeper's (`feeds.keeper`).  Every `VENUE_TIMES_MS` a
    row of `venue_times` for each venue that has spoken since the last one goes into every partition of it.

    A record's timestamp is the common time of its row (`feeds.clocks`); the row itself keeps the exchange's time.
    """

    def __init__(
        self,
        servers: str,
        *,
        writer: str | None = None,
        timeout_s: float = 30.0,
        delivery_s: float = 120.0,
        latencies: Latencies | None = None,
        end_ms: int = END_MS,
    ) -> None:
        """Connect to the brokers `servers` (host:port, …).

        `writer` is the name by which it reports its time; without one it writes the heartbeats itself, and must be alone.
        `timeout_s` bounds the wait for a broker here, `delivery_s` that of each record: longer than a broker takes to start
        again on a busy machine.  `end_ms` is how far past its last record it moves the time in the end: what jobs of a loop do
        until then follows from it.  `latencies` gets the time that rows take from their receipt to the acknowledgement, of some
        of them.  Raises `PublishError` if none answers.
        """
        self.servers = servers
        self.counts: Counter[str] = Counter()  # records by table: handed over, and delivered once `flush` has returned
        self._timeout_s, self._delivery_s = timeout_s, delivery_s
        self._end_ms = end_ms
        self._failure: str | None = None
        self._latencies = latencies
        timeout_ms = int(timeout_s * 1000)
        settings = {
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "zstd",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "message.max.bytes": 16 * 1024 * 1024,  # a whole listing of instruments as a dead letter
            "message.timeout.ms": int(delivery_s * 1000),
            "socket.timeout.ms": max(1000, timeout_ms // 2),
            "topic.metadata.propagation.max.ms": min(5000, timeout_ms),
            "delivery.report.only.error": writer is None and latencies is None,
            "on_delivery": self._delivered,
            "logger": _log,
        }
        self._clocks = Clocks()
        # Common time and receipt of each venue's newest row, of those that were heard since the last heartbeat.
        self._spoken: dict[str, tuple[int, str]] = {}
        self._newest_ms = self._told_ms = self._venue_times_ms = 0
        self._last_ms = 0  # of all records, also of those that do not tell the time
        every_ms = heartbeat_ms()
        try:
            self._producer, known = reached(Producer, servers, FEED, settings, timeout_s)
        except Unreachable as error:
            raise PublishError(str(error)) from None
        topics = [*(TABLES[table].topic for table in FEED_TABLES), *RETIRED]
        self._counts = known
        partitions = [(topic, part) for topic in topics for part in range(known.get(topic, 0))]
        self._beats = Heartbeats(partitions, every_ms, self._produce_heartbeat)
        self._reports = None if writer is None else self._joined(writer)
        self.every_ms = every_ms if writer is None else max(1, every_ms // 2)
        """How often it is to `tick` where time is kept by the clock."""
        self._time_partitions = known.get(TABLES["venue_times"].topic, 0)
        packed = [(table, TABLES[table].topic) for table in PACKED]
        self._packs = {table: packing(topic, known.get(topic, 0), self._produce) for table, topic in packed}

    def _joined(self, writer: str) -> Reports:
        try:
            self._reporter = Reporter(self.servers, self._timeout_s)
            reports = Reports(writer, self._reporter.send, self._delivered)
            # From now on nobody moves past what it is about to write.
            self._reporter.confirm()
        except Unreachable as error:
            raise PublishError(str(error)) from None
        return reports

    def heartbeat(self, common_ms: int) -> None:
        """Tell the common time, `common_ms`, and, less often, each venue's time."""
        if not self._told_ms and self._reports is None:
            try:
                begin_loops(self.servers, self._counts, common_ms, self._produce_heartbeat)
            except (Unreachable, KafkaException) as error:
                raise PublishError(str(error)) from None
        self._told_ms = common_ms
        self.ship()
        if common_ms >= self._venue_times_ms + VENUE_TIMES_MS:
            self._venue_times_ms = common_ms
            self._tell_venue_times(common_ms)
        if self._reports is None:
            self._beats.tell(common_ms)
        else:
            self._reports.tell(common_ms)
            self._reports.advance()

    def _tell_venue_times(self, common_ms: int) -> None:
        for venue, (heard_ms, received_at) in self._spoken.items():
            offset_ms = self._clocks.offset_ms(venue)
            row: VenueTimesRow = {
                "venue": venue,
                "event_at": instant_ms(heard_ms + offset_ms),
                "received_at": received_at,
                "offset_ms": offset_ms,
            }
            value = encoded(row)
            for partition in range(self._time_partitions):
                self._produce(TABLES["venue_times"].topic, value, venue, common_ms, partition)
        self._spoken.clear()

    def tell_time(self, receiver_ms: int) -> None:
        """Say that it is `receiver_ms` by the receiver's clock, unless a record has said that it is later."""
        common_ms = self._clocks.common_ms(receiver_ms)
        if common_ms > self._newest_ms:
            self._newest_ms = common_ms
            self.heartbeat(common_ms)

    def tick(self) -> None:
        """Tell the time of the newest record, be it soon after the last one: none follows for now.  Raises as `publish`."""
        self._producer.poll(0)
        self._raise_failure()
        if self._newest_ms > self._told_ms:
            self.heartbeat(self._newest_ms)
        elif self._reports is not None:
            self._reports.advance()

    def publish(self, record: Record) -> None:
        """Hand over one record.  Raises `PublishError` if it, or one before it, failed."""
        is_spoken = record.table in SPOKEN
        common_ms = self._clocks.timestamp_ms(record.row, record.event_ms, is_spoken)
        if record.table in FEED_TABLES:
            self._last_ms = max(self._last_ms, common_ms)
        if record.table in FEED_TABLES and common_ms > self._newest_ms and tells_time(record):
            self._newest_ms = common_ms
            # One that reports does so at each tick.
            if self._reports is None and self._beats.is_due(self._newest_ms):
                self.heartbeat(self._newest_ms)
        row_key, value = key(record.table, record.row), encoded(record.row)
        if record.table in PACKED:
            self._packs[record.table].add(record.row, row_key, value, common_ms)
        else:
            topic = TABLES[record.table].topic
            partitions = self._counts.get(topic, 0)
            self._produce(topic, value, row_key, common_ms, partition_of(row_key, partitions) if partitions else -1)
        if is_spoken and "received_at" in record.row:
            venue, heard = record.row["venue"], (common_ms, record.row["received_at"])
            self._spoken[venue] = max(self._spoken.get(venue, heard), heard)
        self._producer.poll(0)
        self.counts[record.table] += 1

    def ship(self) -> None:
        """Hand the rows that wait for others to the producer.  Raises `PublishError` as `publish`."""
        for packs in self._packs.values():
            packs.ship()

    def _produce(self, topic: str, value: bytes | None, row_key: str | None, timestamp_ms: int, partition: int) -> None:
        while True:
            self._raise_failure()
            try:
                # The client takes a timestamp of zero for none, and would write today's.
                timestamp_ms = max(timestamp_ms, 1)
                if self._reports is None:
                    self._producer.produce(topic, value, row_key, partition, timestamp=timestamp_ms)
                else:
                    delivered = self._reports.delivered
                    self._producer.produce(topic, value, row_key, partition, timestamp=timestamp_ms, on_delivery=delivered)
                    self._reports.handed_over()
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise PublishError(f"{topic} at {self.servers}, {manner(FEED)}: {_reason(error)}") from error
            else:
                return

    def _produce_heartbeat(self, topic: str, partition: int, common_ms: int) -> None:
        self._produce(topic, None, KEY, common_ms, partition)

    def flush(self) -> None:
        """Wait until every record handed over is acknowledged.  Raises `PublishError` for one that is not."""
        self.ship()
        # A record fails by itself after `delivery_s`; the second that is added lets its report arrive.
        left = self._producer.flush(self._delivery_s + 1)
        self._raise_failure()
        if left:
            raise PublishError(f"{left} records not acknowledged within {self._delivery_s:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, PublishError):
            self._producer.purge()  # one that reports is soon held for dead
            return
        self._newest_ms = max(self._newest_ms, self._last_ms)
        if error is None and self._reports is None and self._newest_ms:
            if self._end_ms > END_MS:
                # In steps: a job tells nothing of a window in which nothing came, and a loop goes on in windows.
                for at_ms in range(self._newest_ms + STEP_MS, self._newest_ms + self._end_ms, STEP_MS):
                    self.heartbeat(at_ms)
            self.heartbeat(self._newest_ms + self._end_ms)
        if error is None:
            self.flush()
            left = 0
        else:
            self.ship()
            left = self._producer.flush(self._timeout_s)
        if self._reports is not None and not left and self._failure is None:
            self._reports.leave(self._newest_ms + self._end_ms)
            self._reporter.flush()

    def poll(self) -> None:
        """Take notice of what has been acknowledged."""
        self._producer.poll(0)

    def waiting(self) -> int:
        """The number of records that are not acknowledged yet."""
        return len(self._producer)

    def offsets_ms(self) -> dict[str, int]:
        """How far each venue's clock is ahead of the common time."""
        return self._clocks.offsets_ms()

    def is_writable(self, table: str) -> bool:
        """Whether the broker has shown us the table's topic."""
        return bool(self._counts.get(TABLES[table].topic))

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            # A row of venue_times has the receipt of an earlier row, which was written before.
            if self._latencies is not None and message.topic() != TABLES["venue_times"].topic:
                self._latencies.acknowledged(message.value())
        elif self._failure is None:
            self._failure = f"{message.topic()} at {self.servers}, {manner(FEED)}: {error.str()}"

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise PublishError(self._failure)


class _Pace:
    """Waits until what happened at an instant is due, counted from the first; never where `speed` is None.

    Before it waits, the sink lets go of what it has.
    """

    def __init__(self, sink: Sink, speed: float | None, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.sink, self.speed, self.clock, self.sleep = sink, speed, clock, sleep
        self.start: tuple[float, int] | None = None  # of the clock, and the instant then

    def wait(self, instant_us: int) -> None:
        if self.speed is None:
            return
        if self.start is None:
            self.start = self.clock(), instant_us
        wait_s = self.start[0] + (instant_us - self.start[1]) / 1e6 / self.speed - self.clock()
        if wait_s > 0:
            self.sink.ship()
            self.sleep(wait_s)


def replay(
    converted: Iterable[Converted],
    sink: Sink,
    speed: float | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Tally]:
    """Publish what lines became; after each line yields the one tally that grows.

    `speed` is how many seconds of receipt pass in a second of `clock`; None is as fast as the sink takes them.  A line
    is never published early, and one that is late is published at once.  Raises `ValueError` unless `speed` is above 0.
    """
    if speed is not None and not speed > 0:
        raise ValueError(f"speed: expected a number above 0 or None, got {speed}")
    return _replay(converted, sink, speed, clock, sleep)


def _replay(
    converted: Iterable[Converted],
    sink: Sink,
    speed: float | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[Tally]:
    tally = Tally()
    pace = _Pace(sink, speed, clock, sleep)
    for one in converted:
        line = one.line
        # A line without a time of its own has no time to wait for.
        if line.kind == "message" and line.fault is None:
            pace.wait(line.received_us)
        for record in one.records:
            sink.publish(record)
        tally.add(one)
        yield tally


def _reason(error: KafkaException) -> str:
    fault = error.args[0]
    return fault.str() if isinstance(fault, KafkaError) else str(error)


def play(
    records: Iterable[Record],
    sink: Sink,
    speed: float | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Record]:
    """Publish records that come in the order of their arrival, and yield each.

    `speed` is how many seconds of event time pass in a second of `clock`; None is as fast as the sink takes them.
    """
    pace = _Pace(sink, speed, clock, sleep)
    for record in records:
        pace.wait(record.event_ms * 1000)
        sink.publish(record)
        yield record

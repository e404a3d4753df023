"""The topics of a gateway: the seam to Kafka, and nothing else."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from feeds import Record
from feeds.clocks import BEHIND_MS
from feeds.publish import Publisher, PublishError
from schemas.clients import Unreachable, reached, to_end
from schemas.records import TABLES
from schemas.rows import fault, parted
from schemas.security import FEED, manner

GROUP = "gammaflow-gateway"
_POLL_S, _END_S = 0.1, 5.0
_TABLES = {spec.topic: table for table, spec in TABLES.items()}

_log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row that was read, and where it stands."""

    table: str
    partition: int
    offset: int
    row: Mapping[str, Any]


class Sink(Protocol):
    """Where rows go."""

    def publish(self, record: Record) -> None:
        """Take a row.  Raises `PublishError`."""

    def settle(self) -> None:
        """Return when every row so far is safe.  Raises `PublishError`."""

    def tick(self) -> None:
        """Tell the time."""


class Source(Protocol):
    """Where rows come from."""

    def backlog(self) -> Iterable[Row]:
        """The rows of the past, up to now.  Raises `PublishError`."""

    def follow(self, take: Callable[[Row], None]) -> None:
        """Give every row that comes after the backlog to `take`, from a thread of its own."""

    def close(self) -> None:
        """Come to an end."""


class Topics:
    """Rows of some tables from Kafka: from some hours ago to the end, and then as they come."""

    def __init__(self, servers: str, tables: Mapping[str, bool], lookback_h: float, timeout_s: float = 30.0) -> None:
        """Connect to the brokers `servers`; `tables` says of each whether it is followed.

        Raises `PublishError`, also where there is no such topic that we may see.
        """
        self._servers, self._lookback_h, self._timeout_s = servers, lookback_h, timeout_s
        settings = {
            "group.id": GROUP,
            "enable.auto.commit": False,
            "auto.offset.reset": "latest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "logger": _log,
        }
        try:
            self._consumer, known = reached(Consumer, servers, FEED, settings, timeout_s)
        except Unreachable as error:
            raise PublishError(str(error)) from None
        topics = [TABLES[table].topic for table in tables]
        if missing := [topic for topic in topics if topic not in known]:
            raise PublishError(
                f"the broker at {servers} has no topic {missing[0]} that we may see, {manner(FEED)}; `gammaflow up` makes it, "
                "`gammaflow acls` lists the rights"
            )
        self._parts = [TopicPartition(topic, part) for topic in topics for part in range(known[topic])]
        self._past = [part for part in self._parts if not tables[_TABLES[part.topic]]]
        self._is_closed = threading.Event()
        self._thread: threading.Thread | None = None

    def backlog(self) -> Iterable[Row]:
        """The rows of the past, up to now.  Raises `PublishError`."""
        since_ms = int((time.time() - self._lookback_h * 3600) * 1000)
        asked = [TopicPartition(part.topic, part.partition, since_ms) for part in self._parts]
        try:
            starts = self._consumer.offsets_for_times(asked, timeout=self._timeout_s)
            for start in starts:
                if start.offset < 0:
                    start.offset = self._consumer.get_watermark_offsets(start, timeout=self._timeout_s)[1]
            for message in to_end(self._consumer, starts, self._timeout_s):
                yield from rows_of(message)
        except KafkaException as error:
            raise PublishError(f"{self._servers}, {manner(FEED)}: {error.args[0].str()}") from error

    def follow(self, take: Callable[[Row], None]) -> None:
        """Give every row that comes after the backlog to `take`, from a thread of its own."""

        if self._past:
            self._consumer.incremental_unassign(self._past)

        def read() -> None:
            while not self._is_closed.is_set():
                for message in self._one():
                    for row in rows_of(message):
                        take(row)

        self._thread = threading.Thread(target=read, name="gateway-topics", daemon=True)
        self._thread.start()

    def _one(self) -> list[Message]:
        message = self._consumer.poll(_POLL_S)
        if message is None:
            return []
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                _log.warning("%s: %s", message.topic(), error.str())
            return []
        return [message]

    def close(self) -> None:
        """Come to an end."""
        self._is_closed.set()
        if self._thread is not None:
            self._thread.join(_END_S)
        self._consumer.close()


def rows_of(message: Message) -> list[Row]:
    """The rows in a record; what is no row is left out, for a job has written it into `dead_letters`."""
    value = message.value()
    if value is None:
        return []
    table, rows = _TABLES[message.topic()], []
    for text in parted(value):
        try:
            row = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        if fault(table, row) is None:
            rows.append(Row(table, message.partition(), message.offset(), complete(table, row)))
    return rows


def complete(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with all its columns: a writer may leave out what is NULL; a decimal may be a number."""
    columns = TABLES[table].columns
    found = {column: row.get(column) for column in columns}
    for column, spec in columns.items():
        if spec.sql_type.startswith("DECIMAL") and isinstance(found[column], int | float):
            found[column] = repr(found[column])
    return found


class PublisherSink:
    """A publisher that reports its time, as a gateway uses it."""

    def __init__(self, publisher: Publisher, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._publisher, self._now_ms = publisher, now_ms

    def publish(self, record: Record) -> None:
        """Take a row.  Raises `PublishError`."""
        self._publisher.publish(record)

    def settle(self) -> None:
        """Return when every row so far is safe.  Raises `PublishError`."""
        self._publisher.flush()

    def tick(self) -> None:
        """Tell the time: that of the clock, less what a report may be under way."""
        self._publisher.tick()
        self._publisher.tell_time(self._now_ms() - BEHIND_MS)


class Positions:
    """How far a run has come, in a file that the next run reads: numbers by name."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier run has written; a file that is damaged says nothing."""
        self._path = path
        self.is_first = not path.exists()
        try:
            read = orjson.loads(path.read_bytes()) if path.exists() else {}
        except orjson.JSONDecodeError:
            read = {}
        self.numbers: dict[str, int] = {name: value for name, value in read.items() if isinstance(value, int)}
        self._is_changed = False

    def get(self, name: str) -> int | None:
        """A number; None where there is none."""
        return self.numbers.get(name)

    def set(self, name: str, number: int) -> None:
        """Take a number."""
        if self.numbers.get(name) != number:
            self.numbers[name], self._is_changed = number, True

    def write(self) -> None:
        """Write all, where there is anything new."""
        if self._is_changed or self.is_first:
            partial = self._path.with_suffix(".new")
            partial.write_bytes(orjson.dumps(self.numbers))
            partial.replace(self._path)
            self._is_changed = self.is_first = False

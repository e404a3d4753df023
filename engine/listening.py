"""How a host reads controls: by a thread that reads their topic as it grows, or from what an earlier run has recorded.

Every `ASK_S` the thread asks the broker for the ends of the topic.  When it has read up to these ends, it knows the topic as of
the instant when it asked.  A client that returns nothing proves nothing: it does the same when the broker is away.  If the
topic was last known more than `READ_WITHIN_S` ago, the gate is closed.  After any error the thread connects anew and reads from
the beginning.  Until it has read everything, the controls that were known stay in force.
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Callable
from threading import Condition, Event, Thread
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from engine.checks import dead_letter
from engine.contract import Message, Output
from engine.controls import (
    APPLIED,
    CONTROLS,
    RECORDED,
    Controls,
    InForce,
    Log,
    Row,
    Source,
    Word,
    Words,
    applied,
    changes,
    decoded,
    gate,
)
from engine.controls import recorded as by_shard
from schemas import security
from schemas.clients import to_end
from schemas.controls import GATE, RUN
from schemas.records import TABLES
from schemas.rows import Fault, fault, instant_ms, instant_us, to_ms

_log = logging.getLogger(__name__)

TOPIC = TABLES[CONTROLS].topic
READ_WITHIN_S = 1.0
ASK_S = 0.2
GRACE_S = 0.25
"""A shard waits this long for a topic that was known a moment ago: the thread may only lack processor time."""
START_S = 20.0
"""A host that starts waits this long for the topic; then it goes on with a closed gate."""
TURN_S = 0.05
RETRY_S = 0.5
NOTHING = Words([], [])
NEVER_S = -float("inf")


def opened(source: Source) -> Controls:
    """The controls by `source.mode`.  For live ones the thread has been started."""
    if source.mode == RECORDED:
        return Recorded(source)
    live = Live(source)
    live.start()
    return live


class Live:
    """The topic of controls, read by a thread."""

    def __init__(
        self,
        source: Source,
        make: Callable[[dict[str, Any]], Any] = Consumer,
        clock_s: Callable[[], float] = time.monotonic,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.source, self._make, self._clock_s, self._wall_us = source, make, clock_s, wall_us
        self.read_s = NEVER_S  # when all had been read that was in the topic then
        self.trouble = "nothing has come yet"
        self._log = Log()  # as of then, and what has come since
        self._fresh = self._log  # what is being read; after a reconnection a new log, until everything has been read
        # By partition and offset; None once it has been emitted.
        self._letters: dict[tuple[int, int], tuple[Message, Fault] | None] = {}
        self._parts: list[int] = []
        self._next: dict[int, int] = {}  # by partition, the offset behind what has been read
        self._asked: tuple[float, dict[int, int]] | None = None  # when, and where the partitions ended then
        self._last_asked_s = NEVER_S
        self._changed = Condition()
        self._closing = Event()
        self._thread = Thread(target=self._listen, name="controls", daemon=True)
        self._given: dict[int, tuple[bool, dict[str, Word] | None]] = {}  # by shard: is the gate open, and what is in force
        self._was_open = True

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def words(self, shard: int, until_ms: int, in_force: InForce) -> Words:
        """See `Controls`."""
        is_open, standing, why = self._now()
        # Shards may be in several processes: only the first one emits dead letters.
        outputs = self._dead_letters(until_ms) if shard == 0 else []
        if self._given.get(shard) == (is_open, standing):
            return Words([], outputs)
        is_start = shard not in self._given
        self._given[shard] = is_open, standing
        wall_us = self._wall_us()
        wanted: dict[str, Any] = {GATE: gate(is_open, why, instant_ms(wall_us // 1000))}
        if standing is None:  # the topic was never known: what the kernel obeys stays in force
            wanted = {**in_force, **wanted}
        else:
            wanted |= {scope: word.control() for scope, word in standing.items()}
        with self._changed:
            changed = changes(wanted, in_force, self._log.ended, is_start)
        at = instant_us(wall_us)
        rows = [applied(self.source.job, shard, until_ms, change, at, is_start and not n) for n, change in enumerate(changed)]
        return Words(rows, outputs + [Output(APPLIED, until_ms - 1, row) for row in rows])

    def _now(self) -> tuple[bool, dict[str, Word] | None, str]:
        """Whether the topic is known, what is in force (None if it was never known), and why the gate is open or closed."""
        with self._changed:
            # Wait once, and not again with every batch while the gate is closed.
            wait_s = START_S if not self._given else GRACE_S if self._was_open else 0.0
            is_open = self._changed.wait_for(self._is_known, wait_s)
            standing = None if self.read_s == NEVER_S else self._log.in_force(self._wall_us() // 1000)
            age_s = self._clock_s() - self.read_s
        why = f"{TOPIC} has been read"
        if not is_open and standing is None:
            why = f"{TOPIC} has not been read yet: {self.trouble}"
        elif not is_open:
            why = f"{TOPIC} was last known {age_s:.1f} s ago, more than {READ_WITHIN_S:g} s: {self.trouble}"
        if is_open != self._was_open or not self._given:
            _log.log(logging.INFO if is_open else logging.ERROR, "the gate of %s: %s", self.source.job, why)
        self._was_open = is_open
        return is_open, standing, why

    def _is_known(self) -> bool:
        return self._clock_s() - self.read_s <= READ_WITHIN_S

    def _dead_letters(self, until_ms: int) -> list[Output]:
        with self._changed:
            waiting = [letter for letter in self._letters.values() if letter is not None]
            self._letters = dict.fromkeys(self._letters)
        return [dead_letter(message, wrong, until_ms - 1) for message, wrong in waiting]

    def _listen(self) -> None:
        """Connect and read until `close`.  After any error connect again: no error may end the thread."""
        while not self._closing.is_set():
            consumer = None
            try:
                consumer = self._make(settings(self.source))
                self.begin(consumer)
                while not self._closing.is_set():
                    self.turn(consumer)
            except Exception as error:
                self.trouble = str(error)
                self._closing.wait(RETRY_S)
            finally:
                if consumer is not None:
                    consumer.close()

    def begin(self, consumer: Any) -> None:
        """Read from the beginning.  Raises `RuntimeError` if there is no such topic."""
        parts = beginnings(consumer, TOPIC)
        consumer.assign(parts)
        self._parts = [part.partition for part in parts]
        with self._changed:
            self._fresh, self._next, self._asked = Log(), {}, None

    def turn(self, consumer: Any) -> None:
        """Read new records, or wait for them briefly; ask for the ends of the topic when that is due."""
        message = consumer.poll(TURN_S)
        with self._changed:
            while message is not None:
                self._take(message)
                message = consumer.poll(0)
        now_s = self._clock_s()
        if now_s - self._last_asked_s >= ASK_S:
            self._last_asked_s = now_s
            try:
                self._asked = now_s, ends(consumer, TOPIC, self._parts)
            except KafkaException as error:
                self.trouble = error.args[0].str()
        with self._changed:
            if self._asked is not None and all(self._next.get(part, -1) >= end for part, end in self._asked[1].items()):
                self.read_s, self._log = max(self.read_s, self._asked[0]), self._fresh
                self._changed.notify_all()

    def _take(self, message: Any) -> None:
        error = message.error()
        if error is None:
            part, offset, (kind, said_ms) = message.partition(), message.offset(), message.timestamp()
            letter = self._fresh.take(part, offset, message.key(), message.value(), said_ms if kind else 0)
            if letter is not None:
                self._letters.setdefault((part, offset), letter)
            self._next[part] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            self._next[message.partition()] = message.offset()
        else:
            self.trouble = error.str()


class Recorded:
    """The controls that an earlier run obeyed: the rows of `controls_applied` when this run begins.

    Without any row everything runs.  The rows are not written again.
    """

    def __init__(self, source: Source, make: Callable[[dict[str, Any]], Any] = Consumer) -> None:
        self.source, self._make = source, make
        self._rows: dict[int, list[Row]] | None = None  # by shard
        self._past: dict[int, int] = {}  # by shard, how many of its rows are of the past

    def close(self) -> None:
        """Nothing is open."""

    def words(self, shard: int, until_ms: int, in_force: InForce) -> Words:
        """See `Controls`.  Raises `RuntimeError` if the topic cannot be read: controls must not be guessed."""
        if self._rows is None:
            self._rows = by_shard(self.source.job, self._read())
        own = self._rows.get(shard, [])
        past = bisect_left(own, until_ms, key=lambda row: to_ms(row["event_at"]))
        if self._past.get(shard) == past:
            return NOTHING
        self._past[shard] = past
        at = instant_ms(until_ms - 1)
        newest: dict[str, Any] = {GATE: gate(True, "as recorded", at)} | {row["scope"]: row for row in own[:past]}
        wanted = {scope: row for scope, row in newest.items() if row["mode"] != RUN or scope == GATE}
        changed = changes(wanted, in_force, lambda scope, control: newest.get(scope) or {**control, "mode": RUN})
        applied_at = [change[1].get("applied_at") or instant_us(until_ms * 1000) for change in changed]
        job = self.source.job
        rows = [applied(job, shard, until_ms, change, at, False) for change, at in zip(changed, applied_at, strict=True)]
        return Words(rows, [])

    def _read(self) -> list[Row]:
        topic = TABLES[APPLIED].topic
        consumer = self._make(settings(self.source))
        rows: list[Row] = []
        try:
            for message in to_end(consumer, beginnings(consumer, topic, START_S), START_S):
                row, wrong = decoded(message.value() or b"null")
                if wrong is None and fault(APPLIED, row) is None:
                    rows.append(row)
        except KafkaException as error:
            raise RuntimeError(f"{topic} was not read to its end: {error.args[0].str()}") from error
        finally:
            consumer.close()
        return rows


def settings(source: Source) -> dict[str, Any]:
    """The settings of a consumer that leaves no trace.  Raises `SecurityError`."""
    return {
        "bootstrap.servers": source.servers,
        "group.id": source.user,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        # A control counts even before its record is committed.
        "isolation.level": "read_uncommitted",
        "enable.partition.eof": True,
        "reconnect.backoff.max.ms": 1000,
        "log_level": 2,
        **security.librdkafka(source.user, source.security),
    }


def beginnings(consumer: Any, topic: str, within_s: float = 2.0) -> list[TopicPartition]:
    """The beginning of each partition of a topic.

    Raises `RuntimeError` if there is none, and `KafkaException` if no broker answers in time.
    """
    described = consumer.list_topics(topic, timeout=within_s).topics.get(topic)
    parts = sorted(described.partitions) if described is not None and described.error is None else []
    if not parts:
        raise RuntimeError(f"the broker has no topic {topic} that we may see")
    return [TopicPartition(topic, part, OFFSET_BEGINNING) for part in parts]


def ends(consumer: Any, topic: str, parts: list[int]) -> dict[int, int]:
    """The current end of each partition, as the broker reports it.  Raises `KafkaException`."""
    answers = consumer.offsets_for_times([TopicPartition(topic, part, OFFSET_END) for part in parts], timeout=READ_WITHIN_S / 2)
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return {answer.partition: answer.offset for answer in answers}

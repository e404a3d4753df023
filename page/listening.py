"""The newest rows from Kafka, as a user who may only read.

Nothing is read of a topic until somebody looks at it; then its newest records are read back, and it is followed until a minute
after the last one has looked away.  So a page that nobody looks at costs the broker nothing.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from threading import Event, Thread
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from deploy import topics
from deploy.topics import TopicError
from page.store import Store
from page.tables import TABLES as KEPT
from schemas.clients import before_ends
from schemas.controls import control_fault
from schemas.records import TABLES
from schemas.rows import fault, parted
from schemas.security import PAGE

GROUP = "gammaflow-page"
SETTINGS = {
    "fetch.min.bytes": 1,
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 16_384,
    "auto.offset.reset": "latest",
}
BATCH, WAIT_S = 1_000, 0.03
LEFT_S = 60.0
"""How long a topic is followed after the last one has looked away."""
ASK_S = 2.0
"""How often it is asked whether the broker is the same, and whether topics are there that were not."""
RETRY_S = 1.0
Part = tuple[str, int]


class Listening:
    """Fills a store with the tables that are watched, in a thread, until it is closed."""

    def __init__(self, servers: str, store: Store) -> None:
        self.servers, self.store = servers, store
        self._watched: set[str] = set()
        self._left_s: dict[str, float] = {}  # when somebody last looked at a table that is followed
        self._changed, self._stop = Event(), Event()
        self._thread = Thread(target=self._run, name="page-kafka", daemon=True)
        self._thread.start()

    def watch(self, tables: set[str]) -> None:
        """Follow these tables, and no other but those just left."""
        self._watched = {table for table in tables if table in KEPT}
        self._changed.set()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=0.3)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._watched:
                self._changed.wait(0.2)
                self._changed.clear()
                continue
            try:
                consumer, existing = topics.consuming(self.servers, GROUP, SETTINGS, PAGE)
            except TopicError as error:
                self.store.trouble = str(error)
                self._stop.wait(RETRY_S)
                continue
            try:
                self._follow(consumer, existing)
            except KafkaException as error:
                self.store.trouble = f"Kafka at {self.servers}: {error.args[0].str()}"
                self._stop.wait(RETRY_S)
            finally:
                consumer.close()

    def _follow(self, consumer: Consumer, existing: dict[str, int]) -> None:
        """Read until the broker is another one, nobody looks, or the page ends.  Raises `KafkaException`."""
        self.store.forget()
        followed: dict[str, list[TopicPartition]] = {}
        broker, asked_s = consumer.list_topics(timeout=ASK_S).cluster_id, time.monotonic()
        self.store.trouble = None
        while not self._stop.is_set():
            self._assign(consumer, existing, followed)
            if not followed and not self._watched:
                return
            messages = consumer.consume(BATCH, WAIT_S)
            self._take(messages)
            if time.monotonic() - asked_s > ASK_S:
                known = consumer.list_topics(timeout=ASK_S)
                if known.cluster_id != broker:
                    return
                existing.update({name: len(topic.partitions) for name, topic in known.topics.items()})
                asked_s = time.monotonic()
                self.store.trouble = None

    def _assign(self, consumer: Consumer, existing: dict[str, int], followed: dict[str, list[TopicPartition]]) -> None:
        now_s = time.monotonic()
        wanted = set(self._watched)
        self._left_s.update(dict.fromkeys(wanted, now_s))
        for table in sorted(wanted - followed.keys()):
            topic = TABLES[table].topic
            if topic in existing:
                parts = [(topic, part, KEPT[table].tail) for part in range(existing[topic])]
                followed[table], _ = before_ends(consumer, parts)
                consumer.incremental_assign(followed[table])
        for table in [table for table in followed if table not in wanted and now_s - self._left_s.get(table, 0) > LEFT_S]:
            consumer.incremental_unassign(followed.pop(table))
            self.store.forget(table)

    def _take(self, messages: Iterable[Message]) -> None:
        by_table: dict[str, list[dict[str, Any]]] = defaultdict(list)
        newest_ms: dict[str, int] = defaultdict(int)
        for message in messages:
            if (error := message.error()) is not None:
                raise KafkaException(error)
            table = _TABLE_OF[message.topic() or ""]
            newest_ms[table] = max(newest_ms[table], message.timestamp()[1])
            value = message.value()
            if value is not None:
                by_table[table] += decoded(table, value)
            elif table == "trading_controls" and message.key() is not None:
                self.store.put(table, by_table.pop(table, []))
                self.store.remove(table, ((message.key() or b"").decode(errors="replace"),))
        for table, at_ms in newest_ms.items():
            self.store.put(table, by_table[table], at_ms)


_TABLE_OF = {TABLES[table].topic: table for table in KEPT}


def decoded(table: str, value: bytes) -> list[dict[str, Any]]:
    """The rows in a record; what breaks its DDL is left out, and stands in `dead_letters` where a job reads it."""
    rows = []
    for part in parted(value):
        try:
            row = orjson.loads(part)
        except orjson.JSONDecodeError:
            continue
        wrong = control_fault(row) if table == "trading_controls" else fault(table, row)
        if wrong is None:
            rows.append(row)
    return rows

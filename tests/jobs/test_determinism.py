"""Same stream, same tops, to the byte: at any parallelism, and in whatever order it arrives within the grace of a book."""

import random
from datetime import timedelta
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from kafka import KafkaConsumer, TopicPartition

from cli.play import DETERMINISTIC
from deploy import runtime, topics
from deploy.runtime import Runtime
from feeds import Record
from feeds.publish import Publisher
from feeds.simulator import Scenario, simulate
from kernels.books import GRACE_MS
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us, to_ms, to_us

TOPIC = TABLES["book_tops"].topic
DISORDER_MS = GRACE_MS - 100
"""A window and the watermark's delay are within the grace too."""
LATER = timedelta(seconds=30)
"""Sooner than a venue that says no more is held to be quiet."""

Tops = dict[bytes, list[bytes]]
"""The rows of each key, as they were written."""


def shifted(record: Record) -> Record:
    """The record of another venue and another time."""
    row: dict[str, Any] = {**record.row, "venue": record.row["venue"] + "_shuffled"}
    later_ms = LATER // timedelta(milliseconds=1)
    row["event_at"] = instant_ms(to_ms(row["event_at"]) + later_ms)
    row["received_at"] = instant_us(to_us(row["received_at"]) + later_ms * 1000)
    return Record(record.table, record.event_ms + later_ms, row)


def shuffled(records: list[Record], chance: random.Random) -> list[Record]:
    return sorted(map(shifted, records), key=lambda record: record.event_ms + chance.uniform(0, DISORDER_MS))


def played(suite: Runtime, parallelism: int) -> Tops:
    """What the books job makes of the topic, from its beginning."""
    starts = topics.ends(suite.kafka, ["book_tops"])
    runtime.submit(suite, ["books"], parallelism, DETERMINISTIC)
    runtime.drain(suite, ["books"])
    # What it has read is kept under its name, and the next one is to be waited for.
    admin = AdminClient({"bootstrap.servers": suite.kafka})
    try:
        admin.delete_consumer_groups(["books"])["books"].result(timeout=30)
    except KafkaException as error:  # it has told the broker of no checkpoint
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
    consumer = KafkaConsumer(bootstrap_servers=suite.kafka, enable_auto_commit=False)
    parts = [TopicPartition(TOPIC, partition) for partition in sorted(consumer.partitions_for_topic(TOPIC))]
    consumer.assign(parts)
    ends = consumer.end_offsets(parts)
    tops: Tops = {}
    for part in parts:
        consumer.assign([part])
        consumer.seek(part, starts[TOPIC, part.partition])
        while consumer.position(part) < ends[part]:
            for records in consumer.poll(timeout_ms=1000).values():
                for record in records:
                    if record.value is not None:
                        tops.setdefault(record.key, []).append(record.value)
    consumer.close()
    return tops


def told(row: bytes) -> tuple[Any, ...]:
    """A top without its venue, and from the beginning of its own run."""
    top = orjson.loads(row)
    later_ms = LATER // timedelta(milliseconds=1) if top["venue"].endswith("_shuffled") else 0
    times = to_ms(top.pop("event_at")) - later_ms, to_us(top.pop("received_at")) - later_ms * 1000
    del top["venue"]
    return *times, *top.items()


def test_tops_are_the_same_at_parallelism_1_2_and_4_and_in_any_order_of_arrival(suite: Runtime) -> None:
    records = [record for record in simulate(Scenario(duration_s=6, crash_size=0, doomed=0)) if record.table == "order_books"]
    arrivals = shuffled(records, random.Random(5))
    assert [record.event_ms for record in arrivals] != sorted(record.event_ms for record in arrivals)
    for stream in (records, arrivals):
        with Publisher(suite.kafka) as publisher:
            for record in stream:
                publisher.publish(record)
    alone, *others = (played(suite, parallelism) for parallelism in (1, 2, 4))
    assert sum(map(len, alone.values())) > len(records) / 10
    assert all(other == alone for other in others)
    in_order = {key: rows for key, rows in alone.items() if b"_shuffled" not in key}
    for key, rows in in_order.items():
        venue, _, instrument = key.partition(b":")
        assert [told(row) for row in alone[venue + b"_shuffled:" + instrument]] == [told(row) for row in rows]
    assert len(alone) == 2 * len(in_order)

"""A job does not read a partition far ahead of the others, and reads it to its end once they have come after."""

import time

import pytest
from confluent_kafka import KafkaError, Message, Producer

import jobs
from cli.play import DETERMINISTIC
from deploy import runtime, topics
from deploy.runtime import Runtime
from schemas.records import TABLES

TOPIC, *OTHER_TOPICS = [TABLES[table].topic for table in jobs.job("books").reads]
START_MS = 1_717_200_000_000
FAR, ROUNDS = 10_000, 40
"""Seconds, with a heartbeat each, and in how many parts they are written: a source is told twice a second how far it may go,
and what it has read by then it has read."""


def told(producer: Producer, partition: int, event_ms: int, topic: str = TOPIC) -> None:
    producer.produce(topic, None, "heartbeat", partition, timestamp=event_ms)
    producer.poll(0)


def test_a_partition_that_is_ahead_waits_for_the_slowest_one(suite: Runtime) -> None:
    producer = Producer({"bootstrap.servers": suite.kafka})
    ahead, *others = range(topics.partitions(suite.kafka))
    for partition in (ahead, *others):
        for topic in (TOPIC, *OTHER_TOPICS):
            told(producer, partition, START_MS, topic)
    producer.flush()
    runtime.submit(suite, ["books"], 2, DETERMINISTIC | {"gammaflow.drift": "10"})
    runtime.wait_read(suite, "books")
    job = suite.rest.active()["books"]
    for second in range(1, FAR):
        told(producer, ahead, START_MS + second * 1000)
        if second % (FAR // ROUNDS) == 0:
            producer.flush()
            assert suite.rest.checkpoint(job)
    producer.flush()

    def read() -> int:
        return suite.rest.read(job)[TOPIC.replace(".", "_"), ahead]

    deadline_s = time.monotonic() + 60
    while read() == 1:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    # A heartbeat costs a few microseconds: more than as long as reading all of them would take.
    assert all(suite.rest.checkpoint(job) for _ in range(20))
    assert read() < FAR / 2
    for partition in others:
        told(producer, partition, START_MS + FAR * 1000)
    for topic in OTHER_TOPICS:
        for partition in (ahead, *others):
            told(producer, partition, START_MS + FAR * 1000, topic)
    producer.flush()
    runtime.wait_read(suite, "books")
    assert read() == FAR


@pytest.mark.parametrize(
    ("ahead_ms", "refused"), [(topics.AHEAD_MS // 2, None), (2 * topics.AHEAD_MS, KafkaError.INVALID_TIMESTAMP)]
)
def test_a_record_of_a_far_future_is_refused_for_it_would_hold_its_partition_up(
    suite: Runtime, ahead_ms: int, refused: int | None
) -> None:
    told_of: list[KafkaError | None] = []

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        told_of.append(error)

    producer = Producer({"bootstrap.servers": suite.kafka})
    at_ms = time.time_ns() // 1_000_000 + ahead_ms
    producer.produce(TABLES["bars"].topic, b"{}", "key", timestamp=at_ms, on_delivery=on_delivery)
    producer.flush()
    assert [error and error.code() for error in told_of] == [refused]

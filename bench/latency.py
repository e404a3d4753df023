"""From Kafka to Kafka: how long after its message does a changed top of a book reach its readers?

A separate process writes the load of `bench.load` in real time: event time and time of receipt of a row are the instant at
which the producer is due to get it.  The consumer subtracts that time, which the resulting top has, from its own.  So the
figure includes the times of the producer and the consumer, and any delay of the writer.
"""

import math
import multiprocessing
import time
from typing import Any, NamedTuple

import numpy as np
import orjson
from confluent_kafka import Consumer, TopicPartition

from bench import load
from bench.passes import BenchError, end
from bench.writer import Writer
from deploy import runtime, topics
from deploy.runtime import Runtime
from feeds.publish import FEED_TABLES
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us, key

STEP_S = 0.002
"""How often the writer sends the rows that are due."""
RECEIVED = b'"received_at":"'


class Latency(NamedTuple):
    """The latency of the tops after the warm-up, in ms."""

    p50: float
    p99: float
    tops: int
    behind_s: float  # how far the writer was behind its own pace at the end


def measured(up: Runtime, per_s: int, instruments: int, parallelism: int, warm_s: float, for_s: float) -> Latency:
    """Run the books job, with the default settings, on a fresh topic at `per_s` messages a second."""
    runtime.submit(up, ["books"], parallelism)
    topic = TABLES["book_tops"].topic
    consumer = Consumer(
        {"bootstrap.servers": up.kafka, "group.id": "bench", "fetch.wait.max.ms": 5, "enable.auto.commit": False}
    )
    ends = topics.ends(up.kafka, ["book_tops"])
    consumer.assign([TopicPartition(topic, part, offset) for (_, part), offset in ends.items()])
    context = multiprocessing.get_context("spawn")
    behind, is_ready = context.Value("d", 0.0), context.Event()
    arguments = (up.kafka, per_s, instruments, warm_s + for_s, behind, is_ready)
    writer = context.Process(target=write, args=arguments, daemon=True)
    writer.start()
    latencies: list[float] = []
    try:
        while not is_ready.wait(1):
            if not writer.is_alive():
                raise BenchError("the writer has failed")
        start_s = time.monotonic()
        while time.monotonic() < start_s + warm_s + for_s:
            messages = consumer.consume(1_000, timeout=0.005)
            now_us = time.time_ns() // 1000
            if time.monotonic() < start_s + warm_s:
                continue
            for message in messages:
                if (value := message.value()) is not None:
                    latencies.append((now_us - received_us(value)) / 1e3)
        writer.join(60)
    finally:
        writer.kill()
        consumer.close()
        end(up, up.rest.active()["books"])
    if not latencies:
        raise BenchError("no top was written")
    p50, p99 = (float(x) for x in np.percentile(latencies, [50, 99]))
    return Latency(round(p50, 1), round(p99, 1), len(latencies), round(behind.value, 3))


def received_us(value: bytes) -> int:
    """The time of receipt of a row, in µs since 1970, from its JSON."""
    at = value.index(RECEIVED) + len(RECEIVED)
    day, clock = value[at : at + 10], value[at + 11 : at + 26]
    days = (np.datetime64(day.decode()) - np.datetime64("1970-01-01")).astype(int)
    hours, minutes, seconds = int(clock[:2]), int(clock[3:5]), int(clock[6:8])
    return int(((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000 + int(clock[9:])


def write(servers: str, per_s: int, instruments: int, for_s: float, behind: Any, is_ready: Any) -> None:
    """The writer: `per_s` rows a second for `for_s` seconds."""
    rows = prepared(math.ceil(per_s * for_s) + instruments, instruments)
    writer = Writer(servers, FEED_TABLES)
    is_ready.set()
    start_s, start_us, done = time.monotonic(), time.time_ns() // 1000, 0
    for number in range(1, math.ceil((len(rows) - instruments) / per_s / STEP_S) + 1):
        due_s = number * STEP_S
        if (wait_s := start_s + due_s - time.monotonic()) > 0:
            time.sleep(wait_s)
        due = min(len(rows), instruments + int(due_s * per_s))
        due_us = start_us + int(due_s * 1e6)
        event_ms = due_us // 1000
        received = {"received_at": instant_us(due_us)}
        event_at, received_at = instant_ms(event_ms).encode(), received["received_at"].encode()
        writer.beat(event_ms)
        for row_key, head, middle, tail in rows[done:due]:
            value = head + event_at + middle + received_at + tail
            writer.packs["order_books"].add(received, row_key, value, event_ms)
        writer.ship()
        done = due
        writer.producer.poll(0)
        behind.value = max(0.0, time.monotonic() - start_s - due_s)
    writer.flush()


def prepared(messages: int, instruments: int) -> list[tuple[str, bytes, bytes, bytes]]:
    """Key and value of each row of the load, the value split at its two times."""
    parted = []
    for _, row in load.stream(messages, instruments):
        head, middle, tail = orjson.dumps(row | {"event_at": "\\", "received_at": "\\"}).split(b"\\\\")
        parted.append((key("order_books", row), head, middle, tail))
    return parted

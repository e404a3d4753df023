"""Does it stay as it is, and does it stand a burst?  `make bench BENCH=soak`.

The job `books`, with the settings that it has by default, reads what a process of its own writes by the clock on the wall:

  soak   `RATE` messages a second, half of what the job bears when it catches up, for half an hour
  burst  `CALM` messages a second, `TIMES` as many for `BURST_S`, and `CALM` again

Each `SAMPLE_S` is noted what the TaskManager holds (its resident memory; of that the JVM's heap and what lies beside it; the
rest is Python's and the compilers'), the newest checkpoint, and how late tops came.  Of the soak the first third after the
warm-up is held against the last one.  A burst is over once tops come as soon again as before it.

Nothing may be lost: a message that was would be a gap, and so a row of `feed_faults`; the run fails where there is one.
"""

import itertools
import multiprocessing
import time
from collections.abc import Iterator
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
import orjson
import psutil
import typer
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from bench import load
from bench.latency import STEP_S, received_us
from bench.passes import BenchError, Ends
from bench.report import console, write
from bench.writer import Writer
from deploy import runtime, topics
from deploy.runtime import Runtime
from feeds.publish import FEED_TABLES
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us, key

RATE, SOAK_S, WARM_S = 100_000, 1_800.0, 300.0
CALM, TIMES, BURST_S, AROUND_S = 20_000, 10, 10.0, 60.0
CYCLE = 200_000
"""Messages that are made once; then they come again with higher numbers, from a snapshot of each book on."""
SAMPLE_S = 10.0
KEPT_BYTES = 512 << 20
"""Of each partition that is read; what is older is deleted."""
CONF: dict[str, Any] = {"execution": {"checkpointing": {"interval": "5 s", "mode": "EXACTLY_ONCE"}}}
PLACE = b'"\\\\"'
"""What stands in a row of the cycle where a number or a time will be."""

Schedule = list[tuple[int, float]]
"""Messages a second, and for how many seconds."""


class Sample(NamedTuple):
    """What was so at one moment, in MB and ms; the tops are those since the last one."""

    at_s: float
    resident_mb: float
    heap_mb: float
    beside_heap_mb: float
    checkpoint_mb: float
    checkpoint_ms: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    tops: int
    behind_s: float  # how far the writer was behind its own pace


def due(schedule: Schedule, since_s: float) -> int:
    """How many messages are due so long after the start."""
    total = 0.0
    for per_s, for_s in schedule:
        total += per_s * min(max(since_s, 0.0), for_s)
        since_s -= for_s
    return int(total)


def cycle(messages: int, instruments: int) -> list[tuple[str, list[bytes], int, int | None]]:
    """Key of each row of the load, its JSON parted where times and numbers stand, its number, and that of the one before."""
    parted = []
    for _, row in load.stream(messages, instruments):
        sequence, previous = row["sequence"], row["prev_sequence"]
        blank = row | {"event_at": "\\", "received_at": "\\", "sequence": "\\"}
        if previous is not None:
            blank["prev_sequence"] = "\\"
        parted.append((key("order_books", row), orjson.dumps(blank).split(PLACE), sequence, previous))
    return parted


def rows(messages: int, instruments: int) -> Iterator[tuple[str, list[bytes], int, int | None]]:
    """The cycle again and again, its numbers ever higher."""
    once = cycle(messages, instruments)
    for turn in itertools.count():
        for row_key, parts, sequence, previous in once:
            more = turn * messages
            yield row_key, parts, sequence + more, None if previous is None else previous + more


def feed(servers: str, schedule: Schedule, instruments: int, behind: Any, is_ready: Any) -> None:
    """The writer's process."""
    source, writer = rows(CYCLE, instruments), Writer(servers, FEED_TABLES)
    total, done = due(schedule, sum(for_s for _, for_s in schedule)), 0
    is_ready.set()
    start_s = time.monotonic()
    while done < total:
        since_s = time.monotonic() - start_s
        wanted = due(schedule, since_s)
        now_us = time.time_ns() // 1000
        event_ms = now_us // 1000
        received = {"received_at": instant_us(now_us)}
        event_at, received_at = f'"{instant_ms(event_ms)}"'.encode(), f'"{received["received_at"]}"'.encode()
        writer.beat(event_ms)
        for row_key, parts, sequence, previous in itertools.islice(source, wanted - done):
            filled = [parts[0], event_at, parts[1], received_at, parts[2], b"%d" % sequence, parts[3]]
            value = b"".join(filled if previous is None else [*filled, b"%d" % previous, parts[4]])
            writer.packs["order_books"].add(received, row_key, value, event_ms)
        writer.ship()
        done = wanted
        writer.producer.poll(0)
        # What was due when this began is written now.
        behind.value = time.monotonic() - start_s - since_s
        time.sleep(STEP_S)
    for _ in range(10):
        writer.beat(time.time_ns() // 1_000_000)
        writer.producer.poll(0.2)
    writer.flush()


def keep_little(servers: str) -> None:
    """Let the broker delete what has been read."""
    wanted = {"retention.bytes": KEPT_BYTES, "segment.bytes": KEPT_BYTES // 4}
    entries = [ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()]
    resource = ConfigResource(ResourceType.TOPIC, load.TOPIC, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": servers})  # which must outlive its answers
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(timeout=30)


def held(up: Runtime) -> tuple[float, float, float]:
    """Resident memory of the TaskManager, the JVM's heap in use, and what of its own lies beside the heap, in MB."""
    (name, pid), *_ = up.taskmanagers.items()
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    resident = sum(process.memory_info().rss for process in family)
    told = up.rest.get(f"/taskmanagers/{name}")["metrics"]
    return resident / 1e6, told["heapUsed"] / 1e6, (told["nonHeapUsed"] + told["directUsed"]) / 1e6


def watched(up: Runtime, writer: Any, behind: Any) -> list[Sample]:
    """A sample each `SAMPLE_S` until the writer has ended.  Tops are read of one partition: they are for all alike."""
    consumer = Consumer({"bootstrap.servers": up.kafka, "group.id": "bench", "enable.auto.commit": False})
    (topic, part), end = next(iter(topics.ends(up.kafka, ["book_tops"]).items()))
    consumer.assign([TopicPartition(topic, part, end)])
    job = up.rest.active()["books"]
    samples: list[Sample] = []
    start_s = sampled_s = time.monotonic()
    late: list[float] = []
    try:
        while writer.is_alive():
            for message in consumer.consume(2_000, timeout=0.05):
                if (value := message.value()) is not None:
                    late.append((time.time_ns() // 1000 - received_us(value)) / 1e3)
            if time.monotonic() < sampled_s + SAMPLE_S:
                continue
            sampled_s += SAMPLE_S
            newest = (up.rest.checkpoints(job)["latest"] or {}).get("completed") or {"state_size": 0, "end_to_end_duration": 0}
            p50, p99 = np.percentile(late or [np.nan], [50, 99])
            samples.append(
                Sample(
                    round(sampled_s - start_s, 1),
                    *held(up),
                    newest["state_size"] / 1e6,
                    newest["end_to_end_duration"],
                    float(p50),
                    float(p99),
                    max(late, default=np.nan),
                    len(late),
                    behind.value,
                )
            )
            late = []
            console.print(" ".join(f"{name} {value:,.0f}" for name, value in samples[-1]._asdict().items()))
    finally:
        consumer.close()
    if "books" not in up.rest.active():
        raise BenchError("the job has ended")
    return samples


def measured(rate: int, soak_s: float, instruments: int) -> dict[str, Any]:
    """The whole run, on a cluster of its own."""
    schedule = [(rate, soak_s), (CALM, AROUND_S), (CALM * TIMES, BURST_S), (CALM, 2 * AROUND_S)]
    with runtime.temporary(CONF) as up:
        keep_little(up.kafka)
        runtime.submit(up, ["books"], 2)
        context = multiprocessing.get_context("spawn")
        behind, is_ready = context.Value("d", 0.0), context.Event()
        writer = context.Process(target=feed, args=(up.kafka, schedule, instruments, behind, is_ready), daemon=True)
        writer.start()
        try:
            while not is_ready.wait(1):
                if not writer.is_alive():
                    raise BenchError("the writer has failed")
            samples = watched(up, writer, behind)
        finally:
            writer.kill()
        runtime.wait_read(up, "books")
        if faults := Ends(up.kafka, TABLES["feed_faults"].topic).values():
            raise BenchError(f"{faults} faults in a stream that has none: messages were lost")
    return figures(samples, rate, soak_s)


def figures(samples: list[Sample], rate: int, soak_s: float) -> dict[str, Any]:
    """What the samples say."""
    warm_s = min(WARM_S, soak_s / 3)
    soak = [one for one in samples if warm_s < one.at_s <= soak_s]
    third = len(soak) // 3
    if not third:
        raise BenchError("the soak is too short to be told of")
    found: dict[str, Any] = {"soak_messages_per_s": rate, "soak_s": soak_s}
    for name in ("resident_mb", "heap_mb", "beside_heap_mb", "checkpoint_mb", "checkpoint_ms", "p50_ms", "p99_ms"):
        found[f"soak_{name}"] = [
            round(median(getattr(one, name) for one in part), 1)
            for part in (soak[:third], soak[third : 2 * third], soak[-third:])
        ]
    found["soak_writer_behind_s"] = round(max(one.behind_s for one in soak), 2)
    burst_s = soak_s + AROUND_S
    before = [one.p99_ms for one in samples if burst_s - AROUND_S / 2 < one.at_s <= burst_s]
    after = [one for one in samples if one.at_s > burst_s]
    late = [one.at_s for one in after if not one.p99_ms <= 2 * max(before)]
    return found | {
        "burst_messages_per_s": CALM * TIMES,
        "burst_s": BURST_S,
        "burst_p99_ms_before": round(max(before), 1),
        "burst_worst_ms": round(max(one.worst_ms for one in after if one.tops), 1),
        "burst_absorbed_after_s": round(max(late, default=burst_s + BURST_S) - burst_s - BURST_S, 1),
    }


def main(
    rate: Annotated[int, typer.Option(min=1_000, help="Messages a second of the soak.")] = RATE,
    seconds: Annotated[float, typer.Option(min=60.0, help="How long it lasts.")] = SOAK_S,
    instruments: Annotated[int, typer.Option(min=1, help="Books.")] = 50,
) -> None:
    """Soak the books job, then let a burst come."""
    write("soak", measured(rate, seconds, instruments))


if __name__ == "__main__":
    typer.run(main)

"""Does the job stay stable, and does it survive overload?  `make bench BENCH=soak`.

The job `books`, with the default settings, reads messages that a separate process writes in real time:

  flood  `FLOOD` messages a second for `FLOOD_S`, more than job, broker and writer manage on one machine; twice, for a JVM
         compiles while it runs.  The rate until all messages are read is the capacity
  soak   half of the capacity for half an hour
  burst  `CALM` messages a second, `TIMES` as many for `BURST_S`, and `CALM` again

Every `SAMPLE_S` it notes the memory of the TaskManager (resident, the JVM's heap, and the JVM's memory outside the heap; the
rest is that of Python and the compilers), the newest checkpoint, and the latency of tops.  For the soak, it compares the first
third after the warm-up with the last one.  A burst is over once the latency is as low as before.

A message has the time at which it was due, so a delay of the writer counts as latency.  A lost message would be a gap, and so a
row of `feed_faults`; the run fails if there is one.
"""

import multiprocessing
import re
import time
from collections.abc import Iterator
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
import orjson
import typer
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from bench import load
from bench.latency import received_us
from bench.passes import QUIET_S, BenchError, Ends
from bench.report import Figures, console, has_default_settings, run
from bench.writer import Writer
from deploy import processes, runtime, topics
from deploy.runtime import Runtime
from feeds.publish import FEED_TABLES
from schemas.partitions import partition_of
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us, key

FLOOD, FLOOD_S = 200_000, 25.0
SOAK_S, WARM_S = 1_800.0, 300.0
CALM, TIMES, BURST_S, AROUND_S = 20_000, 10, 10.0, 60.0
CYCLE = 200_000
"""Messages that are made once, and repeated with higher numbers."""
STEP = 100
"""Messages of one instant: about 25 in the record of each partition, as feeds write them."""
SAMPLE_S = 10.0
KEPT_BYTES = 512 << 20
"""The size of each partition that is read; older records are deleted."""
EVENT, RECEIPT, TURN, BEFORE = b"<event>", b"<receipt>", b"<turn>", b"<before>"
"""Marks in a record of the cycle for a time and for the first digits of a number."""
MARKS = re.compile(b"(" + b"|".join([EVENT, RECEIPT, TURN, BEFORE]) + b")")

Schedule = list[tuple[int, float]]
"""Messages a second, and for how many seconds."""


class Sample(NamedTuple):
    """A sample, in MB and ms; the tops are those since the last sample."""

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


def dues(schedule: Schedule) -> Iterator[float]:
    """When each step is due, in s since the start."""
    start_s = 0.0
    for per_s, for_s in schedule:
        for number in range(int(per_s * for_s / STEP)):
            yield start_s + number * STEP / per_s
        start_s += for_s


Step = list[tuple[int, list[bytes]]]
"""Records of one instant: the partition and the value of each, split at its marks."""


def cycle(instruments: int, partitions: int) -> tuple[Step, list[Step]]:
    """A snapshot of each book, and changes that can be repeated: the last change of each book restores its first state."""
    rows = [row for _, row in load.stream(CYCLE, instruments)]
    snapshots, changes = rows[:instruments], rows[instruments:]
    first = {row["instrument"]: levels(row) for row in snapshots}
    books, newest = {name: dict(book) for name, book in first.items()}, {row["instrument"]: row for row in rows}
    last = {name: row["sequence"] + 1 for name, row in newest.items()}
    for row in changes:
        books[row["instrument"]] |= levels(row)
    for name, row in newest.items():
        back = dict.fromkeys(books[name], 0) | first[name]
        sides = {
            side: [[price, size] for (row_side, price), size in back.items() if row_side == side] for side in ("bids", "asks")
        }
        changes.append(row | sides | {"sequence": last[name], "prev_sequence": row["sequence"]})

    def value(row: dict[str, Any]) -> bytes:
        text = orjson.dumps(row | {"event_at": EVENT.decode(), "received_at": RECEIPT.decode()})
        is_first = row["prev_sequence"] in (None, 1)
        numbers = {
            "sequence": (BEFORE, last[row["instrument"]]) if row["prev_sequence"] is None else (TURN, row["sequence"]),
            "prev_sequence": (BEFORE, last[row["instrument"]]) if is_first else (TURN, row["prev_sequence"]),
        }
        for column, (turn, number) in numbers.items():
            if row[column] is not None:
                name = column.encode()
                text = text.replace(b'"%s":%d,' % (name, row[column]), b'"%s":%s%09d,' % (name, turn, number))
        return text

    def step(rows: list[dict[str, Any]]) -> Step:
        packs: dict[int, list[bytes]] = {}
        for row in rows:
            packs.setdefault(partition_of(key("order_books", row), partitions), []).append(value(row))
        return [(part, MARKS.split(b"[" + b",".join(values) + b"]")) for part, values in packs.items()]

    return step(snapshots), [step(changes[start : start + STEP]) for start in range(0, len(changes), STEP)]


def levels(row: dict[str, Any]) -> dict[tuple[str, float], float]:
    """The sizes of a row by side and price."""
    return {(side, price): size for side in ("bids", "asks") for price, size in row[side]}


def feed(servers: str, schedule: Schedule, instruments: int, turn: int, behind: Any, is_ready: Any) -> None:
    """The writer's process; its numbers begin with `turn`, which grows with each cycle."""
    writer = Writer(servers, FEED_TABLES)
    snapshots, steps = cycle(instruments, sum(topic == load.TOPIC for topic, _ in writer.parts))
    start_s, start_us = time.monotonic(), time.time_ns() // 1000

    def write_step(step: Step, due_s: float, turn: int) -> None:
        due_us = start_us + int(due_s * 1e6)
        event_ms = due_us // 1000
        writer.beat(event_ms)
        filled = {EVENT: instant_ms(event_ms), RECEIPT: instant_us(due_us), TURN: str(turn), BEFORE: str(turn - 1)}
        texts = {mark: text.encode() for mark, text in filled.items()}
        for part, value in step:
            writer.put(load.TOPIC, b"".join([texts.get(piece, piece) for piece in value]), None, event_ms, part)
        writer.producer.poll(0)

    write_step(snapshots, 0.0, turn)
    is_ready.set()
    for number, due_s in enumerate(dues(schedule)):
        if (wait_s := start_s + due_s - time.monotonic()) > 0:
            time.sleep(wait_s)
        write_step(steps[number % len(steps)], due_s, turn + number // len(steps))
        behind.value = max(0.0, -wait_s)
    for _ in range(10):
        writer.beat(time.time_ns() // 1_000_000)
        writer.producer.poll(0.2)
    writer.flush()


def keep_little(servers: str) -> None:
    """Let the broker delete old records."""
    options = {"retention.bytes": KEPT_BYTES, "segment.bytes": KEPT_BYTES // 4}
    entries = [ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET) for name, value in options.items()]
    resource = ConfigResource(ResourceType.TOPIC, load.TOPIC, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": servers})  # which must outlive its answers
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(timeout=30)


def held(up: Runtime) -> tuple[float, float, float]:
    """Resident memory of the TaskManager, and the JVM's memory in the heap and outside it, in MB."""
    (name, pid), *_ = up.taskmanagers.items()
    resident = sum(process.memory_info().rss for process in processes.family(pid))
    memory = up.rest.get(f"/taskmanagers/{name}")["metrics"]
    return resident / 1e6, memory["heapUsed"] / 1e6, (memory["nonHeapUsed"] + memory["directUsed"]) / 1e6


def watched(up: Runtime, writer: Any, behind: Any) -> tuple[list[Sample], float]:
    """A sample every `SAMPLE_S` until the writer has ended and no tops come any more, and when the last top came, in s.

    Only the tops of one partition are read.
    """
    consumer = Consumer({"bootstrap.servers": up.kafka, "group.id": "bench", "enable.auto.commit": False})
    (topic, part), end = next(iter(topics.ends(up.kafka, ["book_tops"]).items()))
    consumer.assign([TopicPartition(topic, part, end)])
    job = up.rest.active()["books"]
    samples: list[Sample] = []
    start_s = sampled_s = last_s = time.monotonic()
    late: list[float] = []
    try:
        while writer.is_alive() or time.monotonic() < max(last_s + QUIET_S, sampled_s):
            for message in consumer.consume(2_000, timeout=0.05):
                if (value := message.value()) is not None:
                    late.append((time.time_ns() // 1000 - received_us(value)) / 1e3)
                    last_s = time.monotonic()
            if time.monotonic() < sampled_s + SAMPLE_S:
                continue
            sampled_s += SAMPLE_S
            if cause := up.rest.failure(job):
                raise BenchError(f"the job has failed on its way: {cause}")
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
    return samples, last_s - start_s


class Load:
    """Plays schedules to a job, one after the other."""

    def __init__(self, up: Runtime, instruments: int) -> None:
        self.up, self.instruments = up, instruments
        self.turn = 2  # so that no number begins with a zero

    def play(self, schedule: Schedule) -> tuple[list[Sample], float]:
        """Play a schedule until the job has read it all; returns the result of `watched`.  Raises `BenchError` for a loss."""
        context = multiprocessing.get_context("spawn")
        behind, is_ready = context.Value("d", 0.0), context.Event()
        arguments = (self.up.kafka, schedule, self.instruments, self.turn, behind, is_ready)
        self.turn += 100_000
        writer = context.Process(target=feed, args=arguments, daemon=True)
        writer.start()
        try:
            while not is_ready.wait(1):
                if not writer.is_alive():
                    raise BenchError("the writer has failed")
            samples = watched(self.up, writer, behind)
        finally:
            writer.kill()
        runtime.wait_read(self.up, "books")
        if faults := Ends(self.up.kafka, TABLES["feed_faults"].topic).values():
            raise BenchError(f"{faults} faults in a stream that has none: messages were lost")
        return samples


def measured(soak_s: float, instruments: int) -> Figures:
    """The whole run, on a cluster of its own."""
    with runtime.temporary() as up:
        keep_little(up.kafka)
        runtime.submit(up, ["books"], 2)
        load_of = Load(up, instruments)
        for _ in range(2):
            console.print(f"{FLOOD * FLOOD_S:,.0f} messages that are due within {FLOOD_S:.0f} s")
            flood, took_s = load_of.play([(FLOOD, FLOOD_S)])
        capacity = FLOOD * FLOOD_S / took_s
        rate = round(capacity / 2000) * 1000
        console.print(f"the capacity is {capacity:,.0f} messages/s: soaking with {rate:,.0f}")
        schedule = [(rate, soak_s), (CALM, AROUND_S), (CALM * TIMES, BURST_S), (CALM, 2 * AROUND_S)]
        samples, _ = load_of.play(schedule)
    return {"default_settings": has_default_settings()} | overloaded(flood, took_s) | figures(samples, rate, soak_s)


def overloaded(samples: list[Sample], took_s: float) -> dict[str, Any]:
    """The figures of a flood."""
    return {
        "flood_messages": round(FLOOD * FLOOD_S),
        "flood_due_s": FLOOD_S,
        "flood_read_s": round(took_s, 1),
        "capacity_messages_per_s": round(FLOOD * FLOOD_S / took_s),
        "flood_worst_ms": round(max(sample.worst_ms for sample in samples if sample.tops), 1),
        "flood_resident_mb": round(max(sample.resident_mb for sample in samples), 1),
        "flood_heap_mb": round(max(sample.heap_mb for sample in samples), 1),
        "flood_checkpoint_mb": round(max(sample.checkpoint_mb for sample in samples), 1),
    }


def figures(samples: list[Sample], rate: int, soak_s: float) -> dict[str, Any]:
    """The figures of a soak."""
    warm_s = min(WARM_S, soak_s / 3)
    soak = [sample for sample in samples if warm_s < sample.at_s <= soak_s]
    third = len(soak) // 3
    if not third:
        raise BenchError("the soak is too short for figures")
    result: dict[str, Any] = {"soak_messages_per_s": rate, "soak_s": soak_s}
    for name in ("resident_mb", "heap_mb", "beside_heap_mb", "checkpoint_mb", "checkpoint_ms", "p50_ms", "p99_ms"):
        for third_name, part in (("first", soak[:third]), ("middle", soak[third : 2 * third]), ("last", soak[-third:])):
            result[f"soak_{name}_{third_name}_third"] = round(median(getattr(sample, name) for sample in part), 1)
    result["soak_writer_behind_s"] = round(max(sample.behind_s for sample in soak), 2)
    burst_s = soak_s + AROUND_S
    before = [sample.p99_ms for sample in samples if burst_s - AROUND_S / 2 < sample.at_s <= burst_s]
    after = [sample for sample in samples if sample.at_s > burst_s]
    late = [sample.at_s for sample in after if not sample.p99_ms <= 2 * max(before)]
    return result | {
        "burst_messages_per_s": CALM * TIMES,
        "burst_s": BURST_S,
        "burst_p99_ms_before": round(max(before), 1),
        "burst_worst_ms": round(max(sample.worst_ms for sample in after if sample.tops), 1),
        "burst_absorbed_after_s": round(max(late, default=burst_s + BURST_S) - burst_s - BURST_S, 1),
    }


def main(
    seconds: Annotated[float, typer.Option(min=60.0, help="How long the soak lasts.")] = SOAK_S,
    instruments: Annotated[int, typer.Option(min=1, help="Books.")] = 50,
) -> None:
    """Soak the books job, then send a burst."""
    run("soak", {"soak": lambda: measured(seconds, instruments)})


if __name__ == "__main__":
    typer.run(main)

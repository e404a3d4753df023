"""How fast is the books job, beside the bytes it reads and beside Bytewax?  `make bench BENCH=books`.

One run, on a broker and a cluster of its own: the same topic is read by

  raw_read  a Flink SQL job that reads the bytes and drops them, with the same parallelism and checkpoints: the ceiling of a
            first pass like the job's own.  A JVM that has read the topic before reads it several times as fast
  books     the production job, submitted as `gammaflow submit` does.  It too runs twice and the second time counts: a first
            pass of two million messages is over before the Java compiler is done with it
  Bytewax   the same work in peers/bytewax_books.py, recovery off

A rate is the messages a second between 15 % and 95 % of the progress, so that start-up and warm-up are left out.  Progress is
sampled ten times a second.  For the two that write tops it is the end offsets of their output topic: a message counts when
what it leads to is written.  The raw read writes nothing; its progress is the records that its sources have counted.  A pass
that grew in fewer than `MIN_STEPS` samples between the marks is refused, for its rate would be mostly interpolation.

The tops written are counted and must be as many as the kernel gives for the same stream in this process, else the run fails.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import psutil
import typer
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from bench import load
from deploy import cluster, processes, runtime, topics
from deploy.rest import Job
from deploy.runtime import Runtime
from schemas.records import TABLES

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "books.json"
PEERS = HERE / ".venv-peers"
REQUIREMENTS = HERE / "peers" / "requirements.txt"
FROM, TO = 0.15, 0.95
SAMPLE_S = 0.1
MIN_STEPS = 5
QUIET_S = 3.0
"""A topic that has not grown for this long is complete."""
LIMIT_S = 600.0

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


class Pass(NamedTuple):
    """One program's way through the topic."""

    messages_per_s: float
    tops: int  # rows written; 0 for the raw read
    load_average: float  # of the machine, over the last minute, at the end


class BenchError(RuntimeError):
    """The run says nothing: a program failed, or its answer is wrong."""


def messages_per_s(samples: list[tuple[float, int]], messages: int) -> float:
    """The rate between `FROM` and `TO` of the progress, from samples of (time in s, count), the last one being the whole."""
    start = samples[0][1]
    samples = [(at_s, count - start) for at_s, count in samples]
    total = samples[-1][1]
    steps = len({count for _, count in samples if FROM * total < count < TO * total})
    if steps < MIN_STEPS:
        raise BenchError(f"only {steps} samples between the marks, {MIN_STEPS} are needed: take more messages")

    def reached_s(share: float) -> float:
        for (before_s, before), (after_s, after) in pairwise(samples):
            if before < share * total <= after:
                return before_s + (after_s - before_s) * (share * total - before) / (after - before)
        raise BenchError("the program was done before it could be measured: take more messages")

    return (TO - FROM) * messages / (reached_s(TO) - reached_s(FROM))


def watch(count: Callable[[], int], is_done: Callable[[int, float], bool]) -> list[tuple[float, int]]:
    """Sample `count` until `is_done(count, seconds without growth)`; every sample, (time in s, count)."""
    start_s = grown_s = time.monotonic()
    samples = [(start_s, count())]
    while True:
        time.sleep(SAMPLE_S)
        number = count()
        now_s = time.monotonic()
        if number > samples[-1][1]:
            grown_s = now_s
        samples.append((now_s, number))
        if is_done(number, now_s - grown_s):
            return samples
        if now_s - start_s > LIMIT_S:
            raise BenchError(f"not done after {LIMIT_S:.0f} s; {number} counted")


class Ends:
    """The end offsets of a topic, summed, by one connection that stays."""

    def __init__(self, servers: str, topic: str) -> None:
        self.consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False})
        self.parts = [TopicPartition(topic, part) for part in range(topics.existing_topics(servers)[topic])]

    def __call__(self) -> int:
        """The sum now."""
        return sum(self.consumer.get_watermark_offsets(part, timeout=10)[1] for part in self.parts)

    def values(self) -> int:
        """How many records of the topic have a value: all but the heartbeats."""
        left = self()
        number = 0
        self.consumer.assign([TopicPartition(part.topic, part.partition, 0) for part in self.parts])
        while left > 0:
            found = self.consumer.consume(10_000, timeout=10)
            if not found:
                raise BenchError(f"{left} records of {self.parts[0].topic} could not be read back")
            left -= len(found)
            number += sum(message.value() is not None for message in found)
        self.consumer.unassign()
        return number


def raw_read(up: Runtime, messages: int, parallelism: int) -> Pass:
    """Read the topic's bytes into nothing."""
    home = Path(up.home)
    env = {**cluster.environment(home / "flink"), "GAMMAFLOW_KAFKA": up.kafka}
    command = [f"{env['FLINK_BIN_DIR']}/flink", "run", "-d", "-m", up.flink, "-p", str(parallelism)]
    command += ["-pyfs", str(runtime.bundle(home)), "-py", str(HERE / "raw_read.py")]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"submitting raw_read failed:\n{done.stdout}{done.stderr}")
    up.rest.wait_running(["raw_read"])
    job = up.rest.active()["raw_read"]
    samples = watch(lambda: records_read(up, job), lambda number, _: number >= messages)
    end(up, job)
    return Pass(messages_per_s(samples, messages), 0, os.getloadavg()[0])


def end(up: Runtime, job: Job, timeout_s: float = 60.0) -> None:
    """Cancel a job and wait until it is gone, so that it takes nothing from the next one."""
    up.rest.cancel(job)
    deadline = time.monotonic() + timeout_s
    while job.name in up.rest.active():
        if time.monotonic() > deadline:
            raise BenchError(f"job {job.name} was not cancelled after {timeout_s:.0f} s")
        time.sleep(SAMPLE_S)


def records_read(up: Runtime, job: Job) -> int:
    """What the sources of a job have counted so far: all records, heartbeats too."""
    total = 0
    for vertex in up.rest.get(f"/jobs/{job.id}")["vertices"]:
        path = f"/jobs/{job.id}/vertices/{vertex['id']}/metrics"
        names = [row["id"] for row in up.rest.get(path) if "Source__" in row["id"] and row["id"].endswith(".numRecordsIn")]
        if names:
            total += sum(int(row["value"]) for row in up.rest.get(f"{path}?get={quote(','.join(names))}"))
    return total


def production(up: Runtime, messages: int, parallelism: int, tops: int) -> tuple[Pass, int]:
    """The books job as it stands, until it has written `tops` rows; and how many checkpoints it has completed."""
    ends = Ends(up.kafka, TABLES["book_tops"].topic)
    written, before = ends.values(), ends()
    runtime.submit(up, ["books"], parallelism)
    job = up.rest.active()["books"]

    def is_done(number: int, quiet_s: float) -> bool:
        if "books" not in up.rest.active():
            raise BenchError(f"the job has ended: {up.rest.failure(job)}")
        return number - before >= tops and quiet_s > QUIET_S

    samples = watch(ends, is_done)
    checkpoints = int(up.rest.checkpoints(job)["counts"]["completed"])
    if cause := up.rest.failure(job):
        raise BenchError(f"the job has failed on its way: {cause}")
    end(up, job)
    return Pass(messages_per_s(samples, messages), ends.values() - written, os.getloadavg()[0]), checkpoints


def bytewax(kafka: str, messages: int, workers: int) -> Pass:
    """The same work in Bytewax: `workers` processes that share the partitions and exchange by key."""
    python = peers_python()
    topic = f"bytewax_{workers}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, num_partitions=topics.PARTITIONS)])[topic].result(timeout=30)
    ends = Ends(kafka, topic)
    env = {**os.environ, "KAFKA": kafka, "INPUT": TABLES["order_books"].topic, "OUTPUT": topic}
    addresses = ";".join(f"127.0.0.1:{processes.free_port(0)}" for _ in range(workers))
    with TemporaryDirectory() as folder:
        log = Path(folder) / "bytewax.log"
        pids: list[int] = []
        try:
            for number in range(workers):
                place = ["-i", str(number), "-a", addresses] if workers > 1 else []
                pids.append(
                    processes.start([python, "-m", "bytewax.run", *place, str(HERE / "peers/bytewax_books.py")], log, env)
                )
            samples = watch(ends, lambda _, quiet_s: quiet_s > QUIET_S and not any(map(processes.is_alive, pids)))
        finally:
            processes.stop(pids)
        if not samples[-1][1]:
            raise BenchError(f"Bytewax wrote nothing; the end of its log:\n{processes.tail(log)}")
    return Pass(messages_per_s(samples, messages), ends.values(), os.getloadavg()[0])


def peers_python() -> str:
    """The interpreter of the peers' own environment, made on first use and again when its requirements change."""
    python, done = PEERS / "bin" / "python", PEERS / ".done"
    if not done.exists() or done.read_text() != REQUIREMENTS.read_text():
        console.print(f"installing the peers into {PEERS}")
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PEERS)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(REQUIREMENTS)]
        subprocess.run(install, check=True)
        done.write_text(REQUIREMENTS.read_text())
    return str(python)


def checked(name: str, one: Pass, tops: int) -> Pass:
    """The pass, if it wrote as many tops as the kernel gives.  Raises `BenchError`."""
    if one.tops != tops:
        raise BenchError(f"{name} wrote {one.tops} tops, the kernel gives {tops}")
    return one


def machine() -> str:
    """Processor, cores and memory."""
    models = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB"


def commit() -> str:
    """The commit of the tree, short, or `unknown`."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main(
    messages: Annotated[int, typer.Option(min=1000, help="Book messages in the load.")] = 2_000_000,
    instruments: Annotated[int, typer.Option(min=1, help="Instruments that they are of.")] = 50,
    parallelism: Annotated[int, typer.Option(min=1, help="Parallel tasks of the jobs, and processes of Bytewax.")] = 2,
    backend: Annotated[str, typer.Option(help="State backend: hashmap or rocksdb.")] = "hashmap",
    peers: Annotated[bool, typer.Option(help="Measure Bytewax too.")] = True,
) -> None:
    """Measure the books job, the raw read and Bytewax on one topic."""
    if backend not in ("hashmap", "rocksdb"):
        raise typer.BadParameter("hashmap or rocksdb", param_hint="--backend")
    conf: dict[str, Any] = {
        "state": {"backend": {"type": backend}},
        "execution": {"checkpointing": {"interval": "5 s", "mode": "EXACTLY_ONCE"}},
        "metrics": {"fetcher": {"update-interval": int(SAMPLE_S * 1000)}},
    }
    with runtime.temporary(conf, say=lambda what: console.print(f"starting: {what}")) as up:
        console.print(f"logs in {up.logs}; making and publishing {messages:,} messages")
        truth = load.publish(up.kafka, messages, instruments)
        if truth.others:
            raise BenchError(f"the load is wrong: the kernel finds {truth.others} faults in it")
        raw = raw_read(up, messages, parallelism)
        console.print(f"raw read {raw.messages_per_s:,.0f} messages/s, load average {raw.load_average:.1f}")
        production(up, messages, parallelism, truth.tops)
        books, checkpoints = production(up, messages, parallelism, truth.tops)
        console.print(f"books    {books.messages_per_s:,.0f} messages/s, load average {books.load_average:.1f}")
        checked("books", books, truth.tops)
        peer = checked("Bytewax", bytewax(up.kafka, messages, parallelism), truth.tops) if peers else None
    report(
        {
            "messages_per_s": round(books.messages_per_s),
            "ratio_to_bytewax": round(books.messages_per_s / peer.messages_per_s, 2) if peer else None,
            "ratio_to_raw_read": round(books.messages_per_s / raw.messages_per_s, 3),
            "bytewax_messages_per_s": round(peer.messages_per_s) if peer else None,
            "raw_read_messages_per_s": round(raw.messages_per_s),
            "messages": messages,
            "instruments": instruments,
            "parallelism": parallelism,
            "level_changes_per_message": round(truth.level_changes / messages, 2),
            "top_change_share": round(truth.tops / messages, 3),
            "checkpoints_completed": checkpoints,
            "backend": backend,
            "load_average": round(books.load_average, 1),
            "bytewax_load_average": round(peer.load_average, 1) if peer else None,
            "raw_read_load_average": round(raw.load_average, 1),
            "machine": machine(),
            "commit": commit(),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
        }
    )


def report(result: dict[str, Any]) -> None:
    """Write the result, and show it."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    table = Table(title="books", show_header=False)
    for name, value in result.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
    console.print(table)
    console.print(f"written to {RESULTS}")


if __name__ == "__main__":
    typer.run(main)

"""How fast is the books job, and how late are its tops?  `make bench BENCH=books`.

One run, each load on a broker and a cluster of its own, checkpoints every 5 s, exactly once.  The same topic is read by

  raw_read  a Flink SQL job that reads the bytes and drops them, with the same parallelism and checkpoints: the ceiling; of the
            same rows, as feeds write them, and once more with a row a record, as venues send them
  books     the production job, submitted as `gammaflow submit` does; state on the heap, then in RocksDB
  Bytewax   the same work in peers/bytewax_books.py, recovery off
  Quix      the same work in peers/quix_books.py, in one process: where a second one joins it takes over partitions without
            their books, which are in memory.  Twice its rate is the most that two could do
  consumer  the same work in peers/consumer_books.py, which keeps no state but in memory

each of the other peers with as many processes as the job has parallel tasks.  Flink's two run `WARM_PASSES` times before they
are measured, for a JVM compiles while it runs, for some 40 s; the raw read's first pass is told too.  `bench.passes` says how a
rate is measured.

The tops written are counted and must be as many as the kernel gives for the same stream in this process, else the run fails.

Then the load over `MANY` instruments; the job up to each of its stages, to see where each microsecond goes; the latency
(`bench.latency`) at `RATES` messages a second; and two TaskManagers against one, each bounded as a container is.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import quote

import typer
from confluent_kafka.admin import AdminClient, NewTopic

import jobs
from bench import latency, load, share
from bench.passes import HERE, QUIET_S, BenchError, Ends, Meter, Pass, end, messages_per_s, peers_python, watch
from bench.report import console, write
from deploy import processes, runtime, topics
from deploy.rest import Job
from deploy.runtime import Runtime
from schemas.records import TABLES

STAGES = ("raw_read", "inbox", "batches")
WARM_PASSES = 2
"""Before one is measured: Java's compiler takes 1.1 us a message in the first, 0.6 in the second and 0.2 in the third."""
COPIES = 8
"""So often the raw read reads the topic: once through is over before it can be measured."""
MANY = 5_000
RATES = (5_000, 50_000)
BROKER_CORES = 0.6
"""What the broker, the JobManager and the system need beside two TaskManagers."""
PARTS = ("few", "many", "stages", "late", "two")
WARM_S, MEASURED_S = 30.0, 20.0
PEERS = {"bytewax": "bytewax_books.py", "quix": "quix_books.py", "consumer": "consumer_books.py"}
CONF: dict[str, Any] = {
    "execution": {"checkpointing": {"interval": "5 s", "mode": "EXACTLY_ONCE"}},
    "metrics": {"fetcher": {"update-interval": 100}},
}


def stage(name: str, up: Runtime, messages: int, parallelism: int) -> Pass:
    """The job up to one of its stages, into nothing: `raw_read` reads the topic's bytes, and no more."""
    copies = COPIES if name == "raw_read" else 1
    runtime.flink_run(up, [name], ["-py", str(HERE / "stage.py"), name, str(copies)], parallelism)
    job = up.rest.active()[name]
    # A record has several messages, and heartbeats are records too.
    tables = ["order_books"] if name == "raw_read" else jobs.job("books").reads
    records = copies * sum(topics.ends(up.kafka, tables).values())
    meter = Meter(lambda: records_read(up, job), up.taskmanagers.values())
    samples = watch(meter, lambda number, _: number >= records)
    end(up, job)
    return Pass(messages_per_s(samples, copies * messages), 0, os.getloadavg()[0], meter.us_per_message(copies * messages))


def records_read(up: Runtime, job: Job) -> int:
    """What the sources of a job have counted so far: all records, heartbeats too."""
    total = 0
    for vertex in up.rest.get(f"/jobs/{job.id}")["vertices"]:
        path = f"/jobs/{job.id}/vertices/{vertex['id']}/metrics"
        names = [row["id"] for row in up.rest.get(path) if "Source__" in row["id"] and row["id"].endswith(".numRecordsIn")]
        if names:
            total += sum(int(row["value"]) for row in up.rest.get(f"{path}?get={quote(','.join(names))}"))
    return total


class Checkpoints(NamedTuple):
    """What checkpoints of a pass were like."""

    completed: int
    bytes: int  # the largest
    ms: int  # the longest, end to end


def production(up: Runtime, given: "Load", parallelism: int, backend: str = "hashmap") -> tuple[Pass, Checkpoints]:
    """The books job as it stands, until it has written all tops."""
    ends = Ends(up.kafka, TABLES["book_tops"].topic)
    since = ends.offsets()
    runtime.submit(up, ["books"], parallelism, {"state.backend.type": backend})
    job = up.rest.active()["books"]

    def is_done(number: int, quiet_s: float) -> bool:
        # Asked only where it stands still: each answer takes a moment of the machine.
        if quiet_s <= QUIET_S:
            return False
        if "books" not in up.rest.active():
            raise BenchError(f"the job has ended: {up.rest.failure(job)}")
        return number - sum(since) >= given.truth.tops

    meter = Meter(ends, up.taskmanagers.values())
    samples = watch(meter, is_done)
    told = up.rest.checkpoints(job)
    if cause := up.rest.failure(job):
        raise BenchError(f"the job has failed on its way: {cause}")
    end(up, job)
    rate, us = messages_per_s(samples, given.messages), meter.us_per_message(given.messages)
    one = Pass(rate, ends.values(since), os.getloadavg()[0], us)
    summary = told["summary"]
    checkpoints = Checkpoints(
        int(told["counts"]["completed"]), int(summary["state_size"]["max"]), int(summary["end_to_end_duration"]["max"])
    )
    return checked("books", one, given.truth.tops), checkpoints


T = TypeVar("T", Pass, tuple[Pass, Checkpoints])


class Load(NamedTuple):
    """What lies in the topic."""

    messages: int
    instruments: int
    truth: load.Truth


def published(up: Runtime, messages: int, instruments: int, is_packed: bool = True) -> Load:
    """Make a load and write it."""
    console.print(f"making and publishing {messages:,} messages of {instruments:,} instruments; logs in {up.logs}")
    truth = load.publish(up.kafka, messages, instruments, is_packed)
    if truth.others:
        raise BenchError(f"the load is wrong: the kernel finds {truth.others} faults in it")
    return Load(messages, instruments, truth)


def peer(name: str, up: Runtime, given: Load, workers: int) -> Pass:
    """The same work in one of `PEERS`: `workers` processes that share the partitions."""
    python, script = peers_python(), str(HERE / "peers" / PEERS[name])
    workers = 1 if name == "quix" else workers
    topic, partitions = f"{name}_books", topics.partitions(up.kafka)
    admin = AdminClient({"bootstrap.servers": up.kafka})
    admin.create_topics([NewTopic(topic, num_partitions=partitions)])[topic].result(timeout=30)
    ends = Ends(up.kafka, topic)
    env = {**os.environ, "KAFKA": up.kafka, "INPUT": load.TOPIC, "OUTPUT": topic, "PYTHONPATH": str(HERE / "peers")}
    addresses = ";".join(f"127.0.0.1:{processes.free_port(0)}" for _ in range(workers))
    with TemporaryDirectory() as folder:
        log = Path(folder) / f"{name}.log"
        pids: list[int] = []
        try:
            for number in range(workers):
                own = ",".join(str(part) for part in range(partitions) if part % workers == number)
                command = [python, script]
                if name == "bytewax":
                    place = ["-i", str(number), "-a", addresses] if workers > 1 else []
                    command = [python, "-m", "bytewax.run", *place, script]
                pids.append(processes.start(command, log, {**env, "PARTITIONS": own, "Quix__State__Dir": folder}))
            samples = watch(ends, lambda _, quiet_s: quiet_s > QUIET_S and not any(map(processes.is_alive, pids)))
        finally:
            processes.stop(pids)
        if not samples[-1][1]:
            raise BenchError(f"{name} wrote nothing; the end of its log:\n{processes.tail(log)}")
    one = checked(name, Pass(messages_per_s(samples, given.messages), ends.values(), os.getloadavg()[0]), given.truth.tops)
    return said(name, one)


def checked(name: str, one: Pass, tops: int) -> Pass:
    """The pass, if it wrote as many tops as the kernel gives.  Raises `BenchError`."""
    if one.tops != tops:
        raise BenchError(f"{name} wrote {one.tops} tops, the kernel gives {tops}")
    return one


def said(name: str, found: T) -> T:
    """What a pass has given, its rate told."""
    one = found if isinstance(found, Pass) else found[0]
    us = f", {one.us_per_message:.2f} us of the TaskManagers' processors a message" if one.us_per_message else ""
    console.print(f"{name:<24} {one.messages_per_s:>10,.0f} messages/s, load average {one.load_average:.1f}{us}")
    return found


def warm(name: str, make: Callable[[], T], passes: int = WARM_PASSES) -> tuple[T, T]:
    """The pass after so many of the same, and the first of those."""
    first = said(f"{name}, first pass", make())
    for _ in range(passes - 1):
        said(f"{name}, warming up", make())
    return said(name, make()), first


def few(messages: int, instruments: int, parallelism: int, names: list[str]) -> dict[str, Any]:
    """The load over few instruments: the ceiling, the job on both backends, the peers."""
    with runtime.temporary(CONF) as up:
        published(up, messages // 2, instruments, is_packed=False)
        single, _ = warm("raw read, a row a record", lambda: stage("raw_read", up, messages // 2, parallelism))
    with runtime.temporary(CONF) as up:
        given = published(up, messages, instruments)
        raw, first_raw = warm("raw read", lambda: stage("raw_read", up, messages, parallelism))
        (books, checkpoints), _ = warm("books", lambda: production(up, given, parallelism))
        rocksdb, rocksdb_checkpoints = said("books, RocksDB", production(up, given, parallelism, "rocksdb"))
        rates = {name: peer(name, up, given, parallelism).messages_per_s for name in names}
    best = max((rate * (parallelism if name == "quix" else 1) for name, rate in rates.items()), default=None)
    return {
        "messages_per_s": round(books.messages_per_s),
        "ratio_to_best_peer": best and round(books.messages_per_s / best, 2),
        "ratio_to_bytewax": round(books.messages_per_s / rates["bytewax"], 2) if "bytewax" in rates else None,
        "ratio_to_raw_read": round(books.messages_per_s / raw.messages_per_s, 3),
        "ratio_to_first_raw_read": round(books.messages_per_s / first_raw.messages_per_s, 3),
        "ratio_to_raw_read_of_a_row_a_record": round(books.messages_per_s / single.messages_per_s, 3),
        "raw_read_messages_per_s": round(raw.messages_per_s),
        "raw_read_of_a_row_a_record_messages_per_s": round(single.messages_per_s),
        "first_raw_read_messages_per_s": round(first_raw.messages_per_s),
        "rocksdb_messages_per_s": round(rocksdb.messages_per_s),
        **{f"{name}_messages_per_s": round(rate) for name, rate in rates.items()},
        "messages": messages,
        "messages_per_record": round(messages / given.truth.records, 1),
        "instruments": instruments,
        "parallelism": parallelism,
        "level_changes_per_message": round(given.truth.level_changes / messages, 2),
        "top_change_share": round(given.truth.tops / messages, 3),
        "checkpoints_completed": checkpoints.completed,
        "checkpoint_max_bytes": checkpoints.bytes,
        "checkpoint_max_ms": checkpoints.ms,
        "rocksdb_checkpoint_max_bytes": rocksdb_checkpoints.bytes,
        "rocksdb_checkpoint_max_ms": rocksdb_checkpoints.ms,
        "load_average": round(books.load_average, 1),
    }


def stages(messages: int, instruments: int, parallelism: int) -> dict[str, Any]:
    """Where each microsecond goes: the job up to each of its stages, and the kernel by itself in this process."""
    with runtime.temporary(CONF) as up:
        given = published(up, messages, instruments)
        found: dict[str, float] = {"kernel": given.truth.kernel_s * 1e6 / messages}
        for name in STAGES:
            found[name] = warm(name, partial(stage, name, up, messages, parallelism))[0].us_per_message
        found["books"] = warm("books", lambda: production(up, given, parallelism))[0][0].us_per_message
    return {f"us_per_message_{name}": round(us, 2) for name, us in found.items()}


def many(messages: int, parallelism: int, of_few: float) -> dict[str, Any]:
    """The load over `MANY` instruments."""
    with runtime.temporary(CONF) as up:
        given = published(up, messages, MANY)
        (books, checkpoints), _ = warm(f"books, {MANY:,} instruments", lambda: production(up, given, parallelism))
        rocksdb, _ = said(f"RocksDB, {MANY:,} instruments", production(up, given, parallelism, "rocksdb"))
    kept = sum(array.nbytes for array in given.truth.state.ladders.arrays)
    return {
        "cost_growth_50_to_5000": round(of_few / books.messages_per_s - 1, 3),
        f"messages_per_s_at_{MANY}": round(books.messages_per_s),
        f"rocksdb_messages_per_s_at_{MANY}": round(rocksdb.messages_per_s),
        f"checkpoint_max_bytes_at_{MANY}": checkpoints.bytes,
        f"checkpoint_max_ms_at_{MANY}": checkpoints.ms,
        "kernel_bytes_per_instrument": round(kept / MANY),
        "checkpoint_bytes_per_instrument": round(checkpoints.bytes / MANY),
    }


def late(instruments: int, parallelism: int) -> dict[str, Any]:
    """The latency at each of `RATES`."""
    figures: dict[str, Any] = {}
    for per_s in RATES:
        with runtime.temporary(CONF) as up:
            found = latency.measured(up, per_s, instruments, parallelism, WARM_S, MEASURED_S)
        console.print(f"at {per_s:,} messages/s: {found}")
        figures |= {f"p50_ms_at_{per_s}": found.p50, f"p99_ms_at_{per_s}": found.p99}
    return figures


def two(messages: int) -> dict[str, Any]:
    """Two TaskManagers of one slot against one, each with as much of the processors as leaves the broker what it needs.

    Over `MANY` instruments: of few one partition has 42 %, and the TaskManager that has it bounds the other one.
    """
    cores = min(1.0, ((os.cpu_count() or 1) - BROKER_CORES) / 2)
    with ExitStack() as stack:
        shares = [stack.enter_context(share.share(cores)) for _ in range(2)]
        conf = CONF | {"taskmanager": {"numberOfTaskSlots": 1}}
        up = stack.enter_context(runtime.temporary(conf, taskmanagers=2))
        for core, (pid, own) in enumerate(zip(up.taskmanagers.values(), shares, strict=True)):
            if own is None:
                console.print(f"no control group can be made here: TaskManager {pid} is bound to a core of its own instead")
                share.bind(pid, core % (os.cpu_count() or 1))
                cores = 1.0
            else:
                own.take(pid)
        given = published(up, messages, MANY)
        rates = {}
        # A part of a core has to compile beside its work, and the second JVM has compiled nothing yet when the first one has.
        for parallelism, passes in ((1, 2 * WARM_PASSES), (2, 3 * WARM_PASSES)):
            make = partial(production, up, given, parallelism)
            rates[parallelism] = warm(f"{parallelism} TaskManager", make, passes)[0][0].messages_per_s
    return {
        "speedup_2_taskmanagers": round(rates[2] / rates[1], 2),
        "cores_of_a_taskmanager": round(cores, 2),
        "messages_per_s_of_1_taskmanager": round(rates[1]),
        "messages_per_s_of_2_taskmanagers": round(rates[2]),
    }


def main(
    messages: Annotated[int, typer.Option(min=1000, help="Book messages in the load.")] = 4_000_000,
    instruments: Annotated[int, typer.Option(min=1, help="Instruments that they are of.")] = 50,
    parallelism: Annotated[int, typer.Option(min=1, help="Parallel tasks of the jobs, and processes of each peer.")] = 2,
    peers: Annotated[str, typer.Option(help=f"Which peers: of {','.join(PEERS)}.")] = ",".join(PEERS),
    parts: Annotated[str, typer.Option(help=f"Which parts: of {','.join(PARTS)}.")] = ",".join(PARTS),
) -> None:
    """Measure the books job; parts that are left out keep their figures of an earlier run."""
    chosen = parts.split(",")
    names = [name for name in peers.split(",") if name]
    if unknown := (set(names) - PEERS.keys()) | (set(chosen) - set(PARTS)):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}")
    if "few" in chosen:
        figures = few(messages, instruments, parallelism, names)
        write("books", figures, keep=True)
        if "many" in chosen:
            write("books", many(messages, parallelism, figures["messages_per_s"]), keep=True)
    if "stages" in chosen:
        write("books", stages(messages, instruments, parallelism), keep=True)
    if "late" in chosen:
        write("books", late(instruments, parallelism), keep=True)
    if "two" in chosen:
        write("books", two(messages // 2), keep=True)


if __name__ == "__main__":
    typer.run(main)

"""How fast is the books job, and how late are its tops?  `make bench BENCH=books`.

The job is the production job with the default settings: no -D, no configuration, no variable of the environment.  Checkpoints
are taken every 5 s, exactly once.  Each part runs by itself, on brokers and clusters of its own (`bench.report`):

  few      the load over 50 instruments: the job, the ceiling, and the same work in three peers
  many     the load over 50 and over `MANY` instruments, alternately, on two runtimes: what more instruments cost
  rocksdb  both loads with the state in RocksDB; only this part and `two` depart from the defaults
  stages   the job up to each of its stages: where each microsecond goes
  late     the latency at `RATES` messages a second, Kafka to Kafka (`bench.latency`)
  two      two TaskManagers of one slot against one, each bounded as a container is

In `few`, the same topic is read by

  raw_read  a Flink SQL job that reads the bytes and drops them, with the same parallelism and checkpoints: the ceiling; with
            rows packed as feeds write them, and with one row in each record, as venues send them
  books     the job, submitted as `gammaflow submit` does
  Bytewax   the same work in peers/bytewax_books.py, recovery off
  Quix      the same work in peers/quix_books.py, in one process: a second process would take over partitions without their
            books, which are in memory.  Two could reach twice its rate at most
  consumer  the same work in peers/consumer_books.py, which keeps its state only in memory

The other peers have as many processes as the job has parallel tasks.  Flink's jobs run `WARM_PASSES` times before they are
measured, for a JVM compiles for some 40 s while it runs; the raw read's first pass is a figure too.  The first pass also shows
how long the load must be on this machine: see `bench.passes`.

The job must write as many tops as the kernel gives for the same stream in this process, or the part fails.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple, TypeVar
from urllib.parse import quote

import typer
from confluent_kafka.admin import AdminClient, NewTopic

import jobs
from bench import latency, load, share
from bench.load import Load
from bench.passes import (
    HERE,
    QUIET_S,
    SAMPLE_S,
    STAGE_PASS_S,
    BenchError,
    Ends,
    Meter,
    Pass,
    Spread,
    between_marks,
    end,
    growth,
    messages_per_s,
    peers_python,
    watch,
    watched,
)
from bench.report import Figures, console, has_default_settings, run_chosen
from deploy import processes, runtime, topics
from deploy.rest import FlinkError, Job
from deploy.runtime import Runtime
from schemas.records import TABLES

COPIES = {"raw_read": 8, "inbox": 4, "batches": 2}
"""How many times a stage reads the topic at once in its first pass."""
MOST_COPIES = 4
"""At most this many times as often, after a short first pass."""
WARM_PASSES = 2
"""Passes before a measured one: Java's compiler takes 1.1 us a message in the first, 0.6 in the second, 0.2 in the third."""
GROWTH_PASSES = 5
TRIES = 5
MANY = 5_000
RATES = (5_000, 50_000)
BROKER_CORES = 0.6
"""Cores that the broker, the JobManager and the system need beside two TaskManagers."""
WARM_S, MEASURED_S = 30.0, 20.0
PEERS = {"bytewax": "bytewax_books.py", "quix": "quix_books.py", "consumer": "consumer_books.py"}
ROCKSDB = {"state.backend.type": "rocksdb"}


def stage(name: str, up: Runtime, messages: int, parallelism: int, copies: int) -> Pass:
    """The job up to one of its stages, without output: `raw_read` only reads the topic's bytes."""
    runtime.flink_run(up, [name], ["-py", str(HERE / "stage.py"), name, str(copies)], parallelism)
    job = up.rest.active()[name]
    # A record may have several messages, and heartbeats are records too.
    tables = ["order_books"] if name == "raw_read" else jobs.job("books").reads
    records = copies * sum(topics.ends(up.kafka, tables).values())
    meter = Meter(lambda: records_read(up, job), up.taskmanagers.values())
    samples = watch(meter, lambda number, _: number >= records)
    end(up, job)
    return measured_pass(samples, meter, copies * messages, start=0)


def measured_stage(name: str, up: Runtime, given: Load, parallelism: int) -> tuple[Pass, Pass]:
    """A pass of a warm stage, with as many copies as this machine needs for `STAGE_PASS_S`; and its first pass."""
    copies = COPIES[name]
    first = announced(f"{name}, first pass", stage(name, up, given.messages, parallelism, copies))
    copies *= growth(first.took_s, STAGE_PASS_S, MOST_COPIES)
    announced(f"{name}, warming up", stage(name, up, given.messages, parallelism, copies))
    return announced(f"{name}, {copies} copies", stage(name, up, given.messages, parallelism, copies)), first


def measured_pass(samples: list[tuple[float, int]], meter: Meter, messages: int, start: int, tops: int = 0) -> Pass:
    """A pass from its samples."""
    counted = watched(samples, messages, start)
    return Pass(
        messages_per_s(samples, counted), tops, os.getloadavg()[0], meter.us_per_message(counted), between_marks(samples)
    )


def records_read(up: Runtime, job: Job) -> int:
    """How many records the sources of a job have read so far, with heartbeats.

    A busy JobManager sometimes resets a connection, so it makes up to `TRIES` requests.
    """
    for _ in range(TRIES - 1):
        with suppress(FlinkError):
            return _records_read(up, job)
        time.sleep(SAMPLE_S)
    return _records_read(up, job)


def _records_read(up: Runtime, job: Job) -> int:
    total = 0
    for vertex in up.rest.get(f"/jobs/{job.id}")["vertices"]:
        path = f"/jobs/{job.id}/vertices/{vertex['id']}/metrics"
        names = [row["id"] for row in up.rest.get(path) if "Source__" in row["id"] and row["id"].endswith(".numRecordsIn")]
        if names:
            total += sum(int(row["value"]) for row in up.rest.get(f"{path}?get={quote(','.join(names))}"))
    return total


class Checkpoints(NamedTuple):
    """The checkpoints of a pass."""

    completed: int
    bytes: int  # the largest
    ms: int  # the longest, end to end


def production(up: Runtime, given: Load, submit: Callable[[], None]) -> tuple[Pass, Checkpoints]:
    """The production books job, from its submission until it has written all tops."""
    ends = Ends(up.kafka, TABLES["book_tops"].topic)
    since = ends.offsets()
    submit()
    job = up.rest.active()["books"]

    def is_done(number: int, quiet_s: float) -> bool:
        # Only when the count stands still, because each request costs processor time.
        if quiet_s <= QUIET_S:
            return False
        if "books" not in up.rest.active():
            raise BenchError(f"the job has ended: {up.rest.failure(job)}")
        return number - sum(since) >= given.truth.tops

    meter = Meter(ends, up.taskmanagers.values())
    samples = watch(meter, is_done)
    completed = up.rest.checkpoints(job)
    if cause := up.rest.failure(job):
        raise BenchError(f"the job has failed on its way: {cause}")
    end(up, job)
    result = measured_pass(samples, meter, given.messages, sum(since), ends.values(since))
    summary = completed["summary"]
    checkpoints = Checkpoints(
        int(completed["counts"]["completed"]),
        int(summary["state_size"]["max"]),
        int(summary["end_to_end_duration"]["max"]),
    )
    return checked("books", result, given.truth.tops), checkpoints


def submitting(up: Runtime, parallelism: int, settings: dict[str, str] | None = None) -> Callable[[], None]:
    """A function that submits the job, by default with the default settings."""
    return partial(runtime.submit, up, ["books"], parallelism, settings)


T = TypeVar("T", Pass, tuple[Pass, Checkpoints])


def published(up: Runtime, messages: int, instruments: int, is_packed: bool = True) -> Load:
    """Make a load and publish it."""
    console.print(f"making and publishing {messages:,} messages of {instruments:,} instruments; logs in {up.logs}")
    given = Load(up.kafka, instruments, is_packed)
    given.add(messages)
    return given


def lengthened(given: Load, took_s: float) -> None:
    """Extend the load if a pass that took this long between the marks is too short."""
    if (times := growth(took_s)) > 1:
        console.print(f"{took_s:.1f} s between the marks are too few here: publishing {times} times as many messages")
        given.add((times - 1) * given.messages)


def warm(name: str, up: Runtime, given: Load, submit: Callable[[], None], passes: int = WARM_PASSES) -> None:
    """Run the job this many times; its first pass shows whether the load is long enough for this machine."""
    for number in range(passes):
        result = announced(f"{name}, warming up", production(up, given, submit))
        if number == 0:
            lengthened(given, result[0].took_s)


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
                parts = ",".join(str(part) for part in range(partitions) if part % workers == number)
                command = [python, script]
                if name == "bytewax":
                    cluster = ["-i", str(number), "-a", addresses] if workers > 1 else []
                    command = [python, "-m", "bytewax.run", *cluster, script]
                pids.append(processes.start(command, log, {**env, "PARTITIONS": parts, "Quix__State__Dir": folder}))
            samples = watch(ends, lambda _, quiet_s: quiet_s > QUIET_S and not any(map(processes.is_alive, pids)))
        finally:
            processes.stop(pids)
        if not samples[-1][1]:
            raise BenchError(f"{name} wrote nothing; the end of its log:\n{processes.tail(log)}")
    rate = messages_per_s(samples, watched(samples, given.messages, 0))
    return announced(name, checked(name, Pass(rate, ends.values(), os.getloadavg()[0]), given.truth.tops))


def checked(name: str, result: Pass, tops: int) -> Pass:
    """The pass, if it wrote as many tops as the kernel gives.  Raises `BenchError` otherwise."""
    if result.tops != tops:
        raise BenchError(f"{name} wrote {result.tops} tops, the kernel gives {tops}")
    return result


def announced(name: str, result: T) -> T:
    """Print a result and return it."""
    rate = result if isinstance(result, Pass) else result[0]
    us = f", {rate.us_per_message:.2f} us of the TaskManagers' processors a message" if rate.us_per_message else ""
    console.print(f"{name:<28} {rate.messages_per_s:>10,.0f} messages/s, load average {rate.load_average:.1f}{us}")
    return result


def few(messages: int, instruments: int, parallelism: int, names: list[str]) -> Figures:
    """The load over few instruments: the ceiling, the job, the peers."""
    with runtime.temporary() as up:
        given = published(up, messages // 2, instruments, is_packed=False)
        single, _ = measured_stage("raw_read", up, given, parallelism)
    with runtime.temporary() as up:
        given = published(up, messages, instruments)
        submit = submitting(up, parallelism)
        warm("books", up, given, submit)
        books, checkpoints = announced("books", production(up, given, submit))
        raw, first_raw = measured_stage("raw_read", up, given, parallelism)
        rates = {name: peer(name, up, given, parallelism).messages_per_s for name in names}
    best = max((rate * (parallelism if name == "quix" else 1) for name, rate in rates.items()), default=None)
    ratios = {"ratio_to_best_peer": round(books.messages_per_s / best, 2)} if best else {}
    if "bytewax" in rates:
        ratios["ratio_to_bytewax"] = round(books.messages_per_s / rates["bytewax"], 2)
    return {
        "default_settings": has_default_settings(),
        "messages_per_s": round(books.messages_per_s),
        **ratios,
        "ratio_to_raw_read": round(books.messages_per_s / raw.messages_per_s, 3),
        "ratio_to_first_raw_read": round(books.messages_per_s / first_raw.messages_per_s, 3),
        "ratio_to_raw_read_of_a_row_a_record": round(books.messages_per_s / single.messages_per_s, 3),
        "raw_read_messages_per_s": round(raw.messages_per_s),
        "raw_read_of_a_row_a_record_messages_per_s": round(single.messages_per_s),
        "first_raw_read_messages_per_s": round(first_raw.messages_per_s),
        **{f"{name}_messages_per_s": round(rate) for name, rate in rates.items()},
        "messages": given.messages,
        "messages_per_record": round(given.messages / given.truth.records, 1),
        "instruments": instruments,
        "parallelism": parallelism,
        "level_changes_per_message": round(given.truth.level_changes / given.messages, 2),
        "top_change_share": round(given.truth.tops / given.messages, 3),
        "checkpoints_completed": checkpoints.completed,
        "checkpoint_max_bytes": checkpoints.bytes,
        "checkpoint_max_ms": checkpoints.ms,
    }


def many(messages: int, instruments: int, parallelism: int) -> Figures:
    """The cost of `MANY` instruments: passes over few and many alternate, each on its own runtime, after a warm-up.

    The growth is that of each pair of passes, which run within a minute.  A rate also depends on the times of checkpoints and
    of Java's compiler; the processor time of the TaskManager less so, and its growth is a figure too.
    """
    counts = (instruments, MANY)
    with ExitStack() as stack:
        ups = [stack.enter_context(runtime.temporary()) for _ in counts]
        loads = [published(up, messages, count) for up, count in zip(ups, counts, strict=True)]
        submits = [submitting(up, parallelism) for up in ups]
        for up, given, submit in zip(ups, loads, submits, strict=True):
            warm(f"books, {given.instruments:,} instruments", up, given, submit)
        passes: list[list[tuple[Pass, Checkpoints]]] = [[], []]
        for _ in range(GROWTH_PASSES):
            for results, up, given, submit in zip(passes, ups, loads, submits, strict=True):
                results.append(announced(f"books, {given.instruments:,} instruments", production(up, given, submit)))
    rates = [[result.messages_per_s for result, _ in results] for results in passes]
    costs = [[result.us_per_message for result, _ in results] for results in passes]
    largest = max(checkpoints.bytes for _, checkpoints in passes[1])
    kept = sum(array.nbytes for array in loads[1].truth.state.ladders.arrays)
    return {
        **Spread.of_passes([rate / rate_of_many - 1 for rate, rate_of_many in zip(*rates, strict=True)]).figures(
            "cost_growth_50_to_5000", 3
        ),
        **Spread.of_passes([us_of_many / us - 1 for us, us_of_many in zip(*costs, strict=True)]).figures(
            "processor_growth_50_to_5000", 3
        ),
        **Spread.of_passes(rates[0]).figures("messages_per_s_beside_many"),
        **Spread.of_passes(rates[1]).figures(f"messages_per_s_at_{MANY}"),
        "growth_passes": GROWTH_PASSES,
        f"checkpoint_max_bytes_at_{MANY}": largest,
        f"checkpoint_max_ms_at_{MANY}": max(checkpoints.ms for _, checkpoints in passes[1]),
        "kernel_bytes_per_instrument": round(kept / MANY),
        "checkpoint_bytes_per_instrument": round(largest / MANY),
    }


def rocksdb(messages: int, instruments: int, parallelism: int) -> Figures:
    """The job with its state in RocksDB, as for state that does not fit into memory."""
    figures: Figures = {}
    for count, suffix in ((instruments, ""), (MANY, f"_at_{MANY}")):
        with runtime.temporary() as up:
            given = published(up, messages, count)
            submit = submitting(up, parallelism, ROCKSDB)
            warm(f"RocksDB, {count:,} instruments", up, given, submit)
            result, checkpoints = announced(f"RocksDB, {count:,} instruments", production(up, given, submit))
        figures |= {
            f"rocksdb_messages_per_s{suffix}": round(result.messages_per_s),
            f"rocksdb_checkpoint_max_bytes{suffix}": checkpoints.bytes,
            f"rocksdb_checkpoint_max_ms{suffix}": checkpoints.ms,
        }
    return figures


def stages(messages: int, instruments: int, parallelism: int) -> Figures:
    """Where the time goes: the job up to each of its stages, and the kernel by itself in this process."""
    with runtime.temporary() as up:
        given = published(up, messages, instruments)
        us = {"kernel": given.truth.kernel_s * 1e6 / given.messages}
        for name in COPIES:
            us[name] = measured_stage(name, up, given, parallelism)[0].us_per_message
        submit = submitting(up, parallelism)
        warm("books", up, given, submit)
        us["books"] = announced("books", production(up, given, submit))[0].us_per_message
    return {f"us_per_message_{name}": round(value, 2) for name, value in us.items()}


def late(instruments: int, parallelism: int) -> Figures:
    """The latency at each of `RATES`, with the same settings as the throughput."""
    figures: Figures = {"late_default_settings": has_default_settings()}
    for per_s in RATES:
        with runtime.temporary() as up:
            result = latency.measured(up, per_s, instruments, parallelism, WARM_S, MEASURED_S)
        console.print(f"at {per_s:,} messages/s: {result}")
        figures |= {
            f"p50_ms_at_{per_s}": result.p50,
            f"p99_ms_at_{per_s}": result.p99,
            f"writer_behind_s_at_{per_s}": result.behind_s,
        }
    return figures


def two(messages: int) -> Figures:
    """Two TaskManagers of one slot against one, each limited so that the broker has enough of the processors.

    Over `MANY` instruments: with few, one partition has 42 % of the load, and its TaskManager limits the rate.
    """
    cores = min(1.0, ((os.cpu_count() or 1) - BROKER_CORES) / 2)
    with ExitStack() as stack:
        shares = [stack.enter_context(share.share(cores)) for _ in range(2)]
        # The second task goes to the second TaskManager only if the first has no slot left.
        up = stack.enter_context(runtime.temporary({"taskmanager": {"numberOfTaskSlots": 1}}, taskmanagers=2))
        for core, (pid, limit) in enumerate(zip(up.taskmanagers.values(), shares, strict=True)):
            if limit is None:
                console.print(f"no control group can be made here: TaskManager {pid} is bound to a core of its own instead")
                share.bind(pid, core % (os.cpu_count() or 1))
                cores = 1.0
            else:
                limit.take(pid)
        given = published(up, messages, MANY)
        rates = {}
        # With part of a core, a JVM compiles slowly beside its work, and the second JVM starts cold.
        for parallelism, passes in ((1, 2 * WARM_PASSES), (2, 3 * WARM_PASSES)):
            submit = submitting(up, parallelism)
            warm(f"{parallelism} TaskManager", up, given, submit, passes)
            rates[parallelism] = announced(f"{parallelism} TaskManager", production(up, given, submit))[0].messages_per_s
    return {
        "speedup_2_taskmanagers": round(rates[2] / rates[1], 2),
        "cores_of_a_taskmanager": round(cores, 2),
        "messages_per_s_of_1_taskmanager": round(rates[1]),
        "messages_per_s_of_2_taskmanagers": round(rates[2]),
    }


PARTS = ("few", "many", "rocksdb", "stages", "late", "two")


def main(
    messages: Annotated[
        int, typer.Option(min=20_000, help="Book messages in the load; more where the machine is fast.")
    ] = 4_000_000,
    instruments: Annotated[int, typer.Option(min=1, help="Instruments in the load.")] = 50,
    parallelism: Annotated[int, typer.Option(min=1, help="Parallel tasks of the jobs, and processes of each peer.")] = 2,
    peers: Annotated[str, typer.Option(help=f"Which peers, of {','.join(PEERS)}.")] = ",".join(PEERS),
    parts: Annotated[str, typer.Option(help=f"Which parts, of {','.join(PARTS)}.")] = ",".join(PARTS),
) -> None:
    """Measure the books job; other parts keep the figures of an earlier run."""
    names = [name for name in peers.split(",") if name]
    if unknown := set(names) - PEERS.keys():
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}")
    every: dict[str, Callable[[], Figures]] = {
        "few": partial(few, messages, instruments, parallelism, names),
        "many": partial(many, messages, instruments, parallelism),
        "rocksdb": partial(rocksdb, messages, instruments, parallelism),
        "stages": partial(stages, messages, instruments, parallelism),
        "late": partial(late, instruments, parallelism),
        "two": partial(two, messages // 2),
    }
    run_chosen("books", every, parts)


if __name__ == "__main__":
    typer.run(main)

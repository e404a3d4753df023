"""How much processor time do all jobs together take?  `make bench BENCH=house`.

All jobs but the archive run with the default settings on one embedded broker and cluster, as `gammaflow up` starts them:

  demo     a feed plays the simulated market of `make demo` in real time, without its crash
  idle     only heartbeats in real time
  grouped  the market again, with eight of the jobs in four groups

After `WARM_S` the processor time of each process is measured for `MEASURED_S`, in cores.
"""

import multiprocessing
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

import jobs
from bench.passes import BenchError
from bench.report import Figures, console, has_default_settings, run_chosen
from deploy import processes, runtime, topics
from deploy.runtime import Runtime
from feeds.publish import Publisher, heartbeat_ms, play
from feeds.simulator import Scenario, simulate

NAMES = [name for name in jobs.FLOW if name != "archive"]
WARM_S, MEASURED_S = 120.0, 60.0
MARGIN_S = 30.0
"""How long a feed goes on after the measurement, until the processor time of its process has been read."""
PARTS = ("demo", "idle", "grouped")
GROUPS = ["books", "chains+option_greeks+positions", "liquidations", "bars+book_metrics+venue_clocks"]

Feed = Callable[[str, float, Any, Any], None]
"""A feed's process: address of the broker, seconds, how far it is behind its pace in s, and an event that says it has begun."""


def demo(servers: str, seconds: float, behind: Any, is_ready: Any) -> None:
    """Play the market of the demonstration in real time."""
    # Simulated beforehand, as far as possible, because a feed is measured and not the simulation.
    records = list(simulate(Scenario(duration_s=int(seconds), crash_size=0.0)))
    with Publisher(servers) as publisher:
        is_ready.set()
        start_s, first_ms = time.monotonic(), records[0].event_ms
        for record in play(records, publisher, 1.0):
            behind.value = time.monotonic() - start_s - (record.event_ms - first_ms) / 1000


def idle(servers: str, seconds: float, behind: Any, is_ready: Any) -> None:
    """Write only heartbeats, in real time."""
    every_s = heartbeat_ms() / 1000
    with Publisher(servers) as publisher:
        is_ready.set()
        start_s = time.monotonic()
        for number in range(int(seconds / every_s)):
            wait_s = start_s + number * every_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            publisher.tell_time(time.time_ns() // 1_000_000)
            behind.value = max(0.0, -wait_s)


def processor_s(up: Runtime, feed_pid: int) -> dict[str, float]:
    """Processor time of each kind of process so far, in s."""
    taken: dict[str, float] = {}
    for name, pid in {**up.started, "feed": feed_pid}.items():
        kind = name.partition("-")[0]
        times = [process.cpu_times() for process in processes.family(pid)]
        taken[kind] = taken.get(kind, 0.0) + sum(time.user + time.system for time in times)
    return taken


def cores(feed: Feed, warm_s: float, measured_s: float, names: list[str]) -> Figures:
    """The cores of each kind of process, with these jobs or groups and a feed."""
    with runtime.temporary(taskmanagers=runtime.taskmanagers_needed(names, 1)) as up:
        console.print(f"submitting {len(names)} jobs; logs in {up.logs}")
        runtime.submit(up, names)
        context = multiprocessing.get_context("spawn")
        behind, is_ready = context.Value("d", 0.0), context.Event()
        arguments = (up.kafka, warm_s + measured_s + MARGIN_S, behind, is_ready)
        process = context.Process(target=feed, args=arguments, daemon=True)
        process.start()
        try:
            assert process.pid is not None
            while not is_ready.wait(1):
                if not process.is_alive():
                    raise BenchError("the feed has failed")
            process.join(warm_s)
            start_s, before = time.monotonic(), processor_s(up, process.pid)
            process.join(measured_s)
            if not process.is_alive():
                raise BenchError("the feed ended before it was measured")
            took_s, after = time.monotonic() - start_s, processor_s(up, process.pid)
            behind_s, lag = behind.value, records_behind(up, names)
        finally:
            process.kill()
        active = up.rest.active()
        if ended := [name for name in names if name not in active]:
            raise BenchError(f"jobs have ended: {', '.join(ended)}; logs in {up.logs}")
        if failures := {name: cause for name, job in active.items() if (cause := up.rest.failure(job))}:
            raise BenchError(f"jobs have failed on their way: {failures}")
    taken = {kind: (after[kind] - before[kind]) / took_s for kind in after}
    return {
        **{f"{kind}_cores": round(share, 3) for kind, share in taken.items()},
        "cores": round(sum(taken.values()), 3),
        "feed_behind_s": round(behind_s, 2),
        "records_behind": lag,
        "jobs": len(names),
    }


def records_behind(up: Runtime, names: list[str]) -> int:
    """How many records the jobs have not read yet, by their metrics."""
    active, topic_of = up.rest.active(), {topic.replace(".", "_"): topic for topic in topics.existing_topics(up.kafka)}
    unread = 0
    for name in names:
        if name in active:
            read = {(topic_of[topic], part): offset for (topic, part), offset in up.rest.read(active[name]).items()}
            unread += topics.lag(up.kafka, name, jobs.job(name).reads, read)
    return unread


def named(part: str, feed: Feed, warm_s: float, measured_s: float, names: list[str]) -> Figures:
    """The figures of a part, with its name in theirs."""
    figures = {"default_settings": has_default_settings(), **cores(feed, warm_s, measured_s, names)}
    return {f"{part}_{name}": value for name, value in figures.items()}


def main(
    warm_s: Annotated[float, typer.Option(min=1.0, help="Seconds of warm-up.")] = WARM_S,
    measured_s: Annotated[float, typer.Option(min=1.0, help="Seconds of the measurement.")] = MEASURED_S,
    parts: Annotated[str, typer.Option(help=f"Which parts, of {','.join(PARTS)}.")] = ",".join(PARTS),
) -> None:
    """Measure the processor time of all jobs; other parts keep the figures of an earlier run."""
    every: dict[str, Callable[[], Figures]] = {
        "demo": lambda: named("demo", demo, warm_s, measured_s, NAMES),
        "idle": lambda: named("idle", idle, warm_s, measured_s, NAMES),
        "grouped": lambda: named("grouped", demo, warm_s, measured_s, GROUPS),
    }
    run_chosen("house", every, parts)


if __name__ == "__main__":
    typer.run(main)

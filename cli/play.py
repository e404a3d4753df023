"""A bounded run of the whole suite: start, submit, play a feed, let every job finish, and keep the Parquet files."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jobs
import schemas
from cli.display import Display
from deploy import runtime, topics
from deploy.runtime import Runtime
from feeds.publish import DRAIN_MS, END_MS, Publisher, heartbeat_ms

# Every partition gets heartbeats from the feed until it ends, and a run ends with a drain: no time may come from the wall
# clock, so that the same input gives the same rows at any speed and parallelism.
DETERMINISTIC = {
    "table.exec.source.idle-timeout": "0 ms",
    "execution.checkpointing.interval": "2 s",
    # A replay may go much faster than its own pace.
    "gammaflow.drift": "60",
    # Nor may an operator's word, which comes when it comes: what is replayed obeys what was recorded.
    "gammaflow.controls": "recorded",
}

PATIENT = {"heartbeat": {"timeout": 60_000}}
"""Settings of its cluster: with more tasks than processors a TaskManager may be silent for long, and is not lost."""
UNHURRIED = {"execution": {"buffer-timeout": {"interval": "100 ms"}}, "pipeline": {"auto-watermark-interval": "100 ms"}}
"""Settings of a cluster on which nobody waits for a single row.  Each of its many tasks flushes its output, and each source
advances its watermark, ten times a second; at the intervals of the default that takes half of the time of a short run."""


class PlayError(RuntimeError):
    """The run is not possible; the message states what to change."""


def bounded(
    feed: Callable[[Publisher], Iterator[Any]],
    out: Path,
    parallelism: int,
    display: Display,
    conf: dict[str, Any] | None = None,
    names: Sequence[str] = tuple(jobs.FLOW),
    settings: Mapping[str, str] = MappingProxyType({}),
    is_closed: bool = False,
    beside: Callable[[Runtime], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> None:
    """Play `feed` through the named jobs, all if none are named, and leave every topic as Parquet under `out`/<table>/.

    `settings` are the jobs' own, in place of those in `DETERMINISTIC`.  A job reads what it may, if the writer is among them;
    what the own venue tells only in a run that is closed: then orders come back as fills, and the run goes on for `DRAIN_MS` of
    event time behind the feed's last row, so that what follows from it comes to an end.  `beside` runs
    something else beside the jobs, until they have finished.
    Raises `PlayError`, `StartError`, `TopicError`, `FlinkError`, `PublishError`; what was started is stopped in any case.
    """
    if out.exists() and any(out.iterdir()):
        raise PlayError(f"{out} is not empty; choose another folder, or remove it first")
    # A wrong setting, or too many slots, is reported before anything is started.
    heartbeat_ms()
    taskmanagers = runtime.taskmanagers_needed(names, parallelism)
    out.mkdir(parents=True, exist_ok=True)
    # A loop goes on by one step whenever a row has been all the way round.
    layers = {**PATIENT, **({} if is_closed else UNHURRIED), **(conf or {})}
    with runtime.temporary(layers, taskmanagers, say=display.step, ports=runtime.PORTS) as running:
        refuse_used_topics(running)
        display.step("jobs")
        also_read = sorted({*jobs.optional(names), *(jobs.told_ahead(names) if is_closed else ())})
        own = {**DETERMINISTIC, jobs.ALSO_READ: ",".join(also_read), **settings}
        runtime.submit(running, list(names), parallelism, own, out, archive_interval="5 s")
        with beside(running):
            display.step(f"playing; the cluster's pages are at http://{running.flink}")
            with (
                Publisher(running.kafka, end_ms=DRAIN_MS if is_closed else END_MS) as publisher,
                display.watching(running, publisher.counts.total, names),
            ):
                for _ in feed(publisher):
                    pass
            display.step("finishing")
            runtime.drain(running, list(names), also_read=also_read)
    tidy(out)


def refuse_used_topics(running: Runtime) -> None:
    """Raise `PlayError` if topics already hold records: the jobs would read them too."""
    used = sorted({topic for (topic, _), end in topics.ends(running.kafka, schemas.kept()).items() if end})
    if used:
        raise PlayError(f"topics on {running.kafka} hold records already ({', '.join(used)}); a bounded run needs empty ones")


def tidy(out: Path) -> None:
    """Give every finished file the name that other tools expect, and remove what was never filled."""
    for table in schemas.kept():
        folder = out / table
        folder.mkdir(exist_ok=True)
        for number, file in enumerate(sorted(path for path in folder.iterdir() if path.name.startswith("part-"))):
            file.rename(folder / f"{table}-{number:04d}.parquet")
        for leftover in folder.iterdir():
            if leftover.suffix != ".parquet":
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

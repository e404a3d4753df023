"""A bounded run of the whole suite: start, submit, play a feed, let every job finish, and keep the Parquet files."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jobs
import schemas
from cli.display import Display
from deploy import runtime, topics
from deploy.runtime import Runtime
from feeds.publish import Publisher, heartbeat_ms

# Every partition hears heartbeats from the feed until it ends, and the end is a drain: nothing may be guessed by the clock,
# so that the same input gives the same rows at any speed and parallelism.
DETERMINISTIC = {
    "table.exec.source.idle-timeout": "0 ms",
    "execution.checkpointing.interval": "2 s",
    # A replay may go much faster than its own pace.
    "gammaflow.drift": "60",
}

PATIENT = {"heartbeat": {"timeout": 60_000}}
"""Settings of its cluster: with more tasks than processors a TaskManager may be silent for long, and is not lost."""


class PlayError(RuntimeError):
    """The run cannot be made; the message says what to change."""


def bounded(
    feed: Callable[[Publisher], Iterator[Any]],
    out: Path,
    parallelism: int,
    display: Display,
    conf: dict[str, Any] | None = None,
    names: Sequence[str] = tuple(jobs.FLOW),
) -> None:
    """Play `feed` through the named jobs, all where none are named, and leave every topic as Parquet under `out`/<table>/.

    Raises `PlayError`, `StartError`, `TopicError`, `FlinkError`, `PublishError`; what was started is stopped in any case.
    """
    if out.exists() and any(out.iterdir()):
        raise PlayError(f"{out} is not empty; choose another folder, or remove it first")
    # A setting that is wrong, or more than there can be, is named before anything is started.
    heartbeat_ms()
    taskmanagers = runtime.taskmanagers_needed(names, parallelism)
    out.mkdir(parents=True, exist_ok=True)
    with runtime.temporary({**PATIENT, **(conf or {})}, taskmanagers, say=display.step, ports=runtime.PORTS) as place:
        refuse_used_topics(place)
        display.step("jobs")
        runtime.submit(place, list(names), parallelism, DETERMINISTIC, out, archive_interval="5 s")
        display.step(f"playing; the cluster's pages are at http://{place.flink}")
        with Publisher(place.kafka) as publisher, display.watching(place, publisher.counts.total, names):
            for _ in feed(publisher):
                pass
        display.step("finishing")
        runtime.drain(place, list(names))
    tidy(out)


def refuse_used_topics(place: Runtime) -> None:
    """Raise `PlayError` where topics hold records already: they would be played as well."""
    used = sorted({topic for (topic, _), end in topics.ends(place.kafka, list(schemas.names())).items() if end})
    if used:
        raise PlayError(f"topics on {place.kafka} hold records already ({', '.join(used)}); a bounded run needs empty ones")


def tidy(out: Path) -> None:
    """Give every finished file the name that other tools expect, and remove what was never filled."""
    for table in schemas.names():
        folder = out / table
        folder.mkdir(exist_ok=True)
        for number, file in enumerate(sorted(path for path in folder.iterdir() if path.name.startswith("part-"))):
            file.rename(folder / f"{table}-{number:04d}.parquet")
        for leftover in folder.iterdir():
            if leftover.suffix != ".parquet":
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

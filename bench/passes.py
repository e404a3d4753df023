"""How a pass through a topic is measured, and the environment in which the peers run.

A rate is the messages a second between 15 % and 95 % of the progress, so that start-up and warm-up are left out.  Progress is
sampled ten times a second.  For programs that write, it is the sum of the end offsets of their output topic: a message counts
when its result is written.  For the stages it is the number of records that the sources have read, which Flink's REST interface
updates once a second.

How long the load must be depends on the machine.  The first pass shows it: `growth` says how many times longer the load must be
for a pass that lasts `PASS_S` between the marks.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from deploy import processes, topics
from deploy.rest import Job
from deploy.runtime import Runtime

HERE = Path(__file__).parent
FROM, TO = 0.15, 0.95
SAMPLE_S = 0.1
PASS_S = 3.0
"""The time of a pass between the marks: 30 samples of end offsets."""
STAGE_PASS_S = 8.0
"""The time of a pass of a stage between the marks: 8 values of the REST interface."""
MAX_GROWTH = 16
QUIET_S = 3.0
"""A topic that has not grown for this long is complete."""
LIMIT_S = 600.0


class Pass(NamedTuple):
    """One program's pass through the topic."""

    messages_per_s: float
    tops: int  # rows written; 0 for a stage
    load_average: float  # of the machine, over the last minute, at the end
    us_per_message: float = 0.0  # processor time of the TaskManagers
    took_s: float = 0.0  # between the marks


class Meter:
    """A count that also notes, at each call, how much processor time some processes have taken."""

    def __init__(self, count: Callable[[], int], pids: Iterable[int]) -> None:
        self.count = count
        self.processes = [process for pid in pids for process in processes.family(pid)]
        self.samples: list[tuple[int, float]] = []

    def __call__(self) -> int:
        """The count now."""
        number = self.count()
        times = [process.cpu_times() for process in self.processes]
        self.samples.append((number, sum(spent.user + spent.system for spent in times)))
        return number

    def us_per_message(self, messages: float) -> float:
        """Processor time in microseconds for each of these messages, between `FROM` and `TO` of the progress."""
        return between_marks([(cpu_s, number) for number, cpu_s in self.samples]) * 1e6 / ((TO - FROM) * messages)


class BenchError(RuntimeError):
    """The run has no result: a program failed, or its output is wrong."""


def between_marks(samples: Sequence[tuple[float, int]]) -> float:
    """How much a value grew while the count grew from `FROM` to `TO` of its total, from samples of (value, count).

    Only samples with a new count matter, for the others repeat an old one.  Between them, both are assumed to grow evenly.
    """
    start, total = samples[0][1], samples[-1][1] - samples[0][1]
    pairs = list(pairwise(samples))
    new = [after for before, after in pairs if after[1] > before[1]]
    if not new:
        raise BenchError("nothing was counted")
    # The last sample before the first growth counts, too.
    last_before = next(before for before, after in pairs if after[1] > before[1])
    steps = list(pairwise([last_before, *new]))

    def reached(share: float) -> float:
        level = start + share * total
        (value, before), (next_value, after) = next(step for step in steps if step[1][1] >= level)
        return value + (next_value - value) * (level - before) / (after - before)

    return reached(TO) - reached(FROM)


def messages_per_s(samples: Sequence[tuple[float, int]], messages: float) -> float:
    """The rate between `FROM` and `TO` of the progress, from samples of (time in s, count); the last one has the total.

    Raises `BenchError` if the marks are less than two samples apart, for the rate would only be an interpolation.
    """
    took_s = between_marks(samples)
    if took_s < 2 * SAMPLE_S:
        raise BenchError(f"only {took_s:.2f} s between the marks: the pass needs more messages")
    return (TO - FROM) * messages / took_s


def watched(samples: Sequence[tuple[float, int]], messages: int, start: int) -> float:
    """How many of the messages were counted while the samples were taken: `start` is the count before the program began."""
    return messages * (samples[-1][1] - samples[0][1]) / (samples[-1][1] - start)


def growth(took_s: float, wanted_s: float = PASS_S, most: int = MAX_GROWTH) -> int:
    """How many times longer the load must be for a pass of `wanted_s` instead of `took_s` between the marks."""
    return min(most, max(1, math.ceil(wanted_s / max(took_s, SAMPLE_S))))


class Spread(NamedTuple):
    """The median, least and greatest of several passes."""

    median: float
    min: float
    max: float

    @classmethod
    def of_passes(cls, values: Sequence[float]) -> "Spread":
        """The spread of the values of passes."""
        return cls(median(values), min(values), max(values))

    def figures(self, name: str, digits: int | None = None) -> dict[str, float]:
        """The median under a name, and the least and the greatest beside it."""
        named = {name: self.median, f"{name}_min": self.min, f"{name}_max": self.max}
        return {key: round(value, digits) for key, value in named.items()}


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
    """The sum of a topic's end offsets, over one lasting connection."""

    def __init__(self, servers: str, topic: str) -> None:
        self.consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False})
        self.parts = [TopicPartition(topic, part) for part in range(topics.existing_topics(servers)[topic])]

    def __call__(self) -> int:
        """The sum now."""
        return sum(self.offsets())

    def offsets(self) -> list[int]:
        """The current end offset of each partition."""
        return [self.consumer.get_watermark_offsets(part, timeout=10)[1] for part in self.parts]

    def values(self, since: list[int] | None = None) -> int:
        """How many records have a value, which heartbeats have not: of all, or from these offsets on."""
        since = since or [0] * len(self.parts)
        unread = self() - sum(since)
        number = 0
        starts = zip(self.parts, since, strict=True)
        self.consumer.assign([TopicPartition(part.topic, part.partition, start) for part, start in starts])
        while unread > 0:
            messages = self.consumer.consume(10_000, timeout=10)
            if not messages:
                raise BenchError(f"{unread} records of {self.parts[0].topic} could not be read back")
            unread -= len(messages)
            number += sum(message.value() is not None for message in messages)
        self.consumer.unassign()
        return number


def end(up: Runtime, job: Job, timeout_s: float = 60.0) -> None:
    """Cancel a job and wait until it has ended, so that it takes no time from the next one."""
    up.rest.cancel(job)
    deadline = time.monotonic() + timeout_s
    while job.name in up.rest.active():
        if time.monotonic() > deadline:
            raise BenchError(f"job {job.name} was not cancelled after {timeout_s:.0f} s")
        time.sleep(SAMPLE_S)


def peers_python(name: str = "requirements") -> str:
    """The interpreter of an environment of peers, made on first use and again when its file of `peers` changes."""
    folder = HERE / (".venv-peers" if name == "requirements" else f".venv-peers-{name}")
    requirements = HERE / "peers" / f"{name}.txt"
    python, done = folder / "bin" / "python", folder / ".done"
    if not done.exists() or done.read_text() != requirements.read_text():
        print(f"installing peers into {folder}")
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(requirements)]
        subprocess.run(install, check=True)
        done.write_text(requirements.read_text())
    return str(python)

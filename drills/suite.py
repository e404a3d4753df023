"""The suite under a drill: it plays a short market on its own cluster, is harmed at half time, drained and read."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from confluent_kafka import TopicPartition

import jobs
from deploy import processes, runtime, topics
from deploy.rest import FlinkError
from deploy.runtime import Runtime
from drills.rows import Rows, archived, open_transactions, read
from drills.versions import Version
from feeds import Record
from feeds.publish import DRAIN_MS, END_MS, Publisher, play
from feeds.simulator import Quoting, Scenario, simulate
from schemas import TABLE_OF

JOBS = ("books", "bars", "positions", "liquidations", "archive")
"""The default jobs of drills: each kind of job and of topic once.  All jobs take three times as long to start."""
MARKET = Scenario(
    duration_s=16,
    book_updates_per_s=200,
    tickers_per_s=80,
    trades_per_s=30,
    fills_per_s=20,
    strikes=3,
    expiries=2,
    depth=5,
    accounts=12,
    doomed=4,
    crash_at_s=5,  # so that liquidations are under way at half time
)
OWN_VENUE = replace(
    MARKET, duration_s=20, crash_at_s=7, tickers_per_s=200, fills_per_s=10, expiries=1, quoting=Quoting(linear_ms=1_000)
)
"""A market whose orders meet on the own venue: the crash closes itself."""
HALF_TIME_MS = MARKET.start_ms + 500 * MARKET.duration_s
STEADY = {"book_tops", "book_depth", "book_metrics", "bars", "option_greeks", "chain_greeks", "positions", "account_margin"}
"""Tables with rows, or heartbeats, in every second of the market."""
SETTINGS = {
    # Here a partition is silent because its broker is down, so it must not be taken for idle.
    "table.exec.source.idle-timeout": "0 ms",
    # Nobody speaks, and how a machine is loaded must not say anything either.
    "gammaflow.controls": "recorded",
    "execution.checkpointing.interval": "2 s",
}
WAIT_S = 180.0
POLL_S = 0.1


@dataclass
class Suite:
    """Some jobs while the market is played."""

    up: Runtime
    names: list[str]  # of the jobs, in the order of their flow
    parallelism: int
    version: Version = field(default_factory=dict)  # of our code
    settings: Mapping[str, str] = field(default_factory=dict)  # of the jobs, beside those of every suite
    scenario: Scenario = MARKET  # of the market that is played

    @property
    def written(self) -> list[str]:
        """The tables that the jobs write."""
        return sorted({table for name in self.names for table in jobs.job(name).writes})

    @property
    def also_read(self) -> list[str]:
        """The tables that jobs read as well that may."""
        return [table for table in self.settings.get(jobs.ALSO_READ, "").split(",") if table]

    def submit(self, savepoints: dict[str, str] | None = None, names: list[str] | None = None) -> None:
        """Submit the jobs, or the named ones, from their savepoints if there are any, and wait until they run."""
        chosen = self.names if names is None else names
        settings = {**SETTINGS, **self.settings}
        runtime.submit(
            self.up, chosen, self.parallelism, settings, archive_interval="2 s", savepoints=savepoints, changed=self.version
        )

    def stop(self, names: list[str] | None = None) -> dict[str, str]:
        """Stop the jobs, or the named ones, each with a savepoint; returns the paths by job."""
        chosen = self.names if names is None else names
        with ThreadPoolExecutor(len(chosen)) as pool:
            return dict(zip(chosen, pool.map(lambda name: runtime.stop(self.up, name), chosen), strict=True))

    def restart_taskmanagers(self) -> None:
        """Restart every TaskManager: only then does Python import changed code."""
        processes.stop(list(self.up.taskmanagers.values()))
        self.start_again(list(self.up.taskmanagers))

    def start_again(self, names: list[str]) -> None:
        """Start processes of the cluster that have ended again, and wait until it knows its TaskManagers."""
        for name in names:
            runtime.restart(self.up, name)
        self.wait(self.knows_taskmanagers, "the cluster is up")

    def lose_stored(self) -> None:
        """Remove the state of all jobs, and the archive."""
        for folder in ("checkpoints", "changelog", "savepoints", "archive"):
            shutil.rmtree(Path(self.up.home) / folder, ignore_errors=True)

    def read(self) -> Rows:
        """Every row that the jobs have written, also those of the archive."""
        if "archive" not in self.names:
            return read(self.up.kafka, self.written)
        tables = jobs.job("archive").reads
        return read(self.up.kafka, tables) | archived(Path(self.up.home) / "archive", tables)

    def knows_taskmanagers(self) -> bool:
        """Whether the cluster counts exactly the TaskManagers that are alive.  Raises `FlinkError`."""
        alive = sum(processes.is_alive(pid) for pid in self.up.taskmanagers.values())
        return bool(self.up.rest.get("/overview")["taskmanagers"] == alive)

    def taskmanagers(self) -> dict[str, list[str]]:
        """The names of the jobs with tasks on each TaskManager, by its own name."""
        rest = self.up.rest
        job_names = {job.id: job.name for job in rest.jobs()}
        slots = {name: rest.get(f"/taskmanagers/{name}")["allocatedSlots"] for name in self.up.taskmanagers}
        return {name: sorted({job_names[slot["jobId"]] for slot in held}) for name, held in slots.items()}

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Return once a condition holds; it may raise `FlinkError` until then.  Raises `FlinkError` after `WAIT_S`."""
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            # A JobManager that has been killed does not answer.
            with suppress(FlinkError):
                if condition():
                    return
            time.sleep(POLL_S)
        raise FlinkError(f"{what}: not within {WAIT_S:g} s of the harm")

    def have_restarted(self, names: list[str], since_ms: float) -> bool:
        """Whether all tasks of the named jobs run and were started after an instant.  Raises `FlinkError`."""
        active = self.up.rest.active()
        if not all(name in active and active[name].is_running for name in names):
            return False
        details = [self.up.rest.get(f"/jobs/{active[name].id}") for name in names]
        return all(vertex["start-time"] >= since_ms for job in details for vertex in job["vertices"])


Harm = Callable[[Suite], list[str]]
"""What a drill does at half time; returns the names of the jobs that must restart."""


@dataclass
class Played:
    """The rows of a run, and the cost of its harm."""

    rows: Rows
    open_transactions: list[str]  # topics with an open transaction
    silence_s: float = 0.0  # the longest time without a row in a steady table, after the harm
    read_again: int = 0  # records since the last checkpoints of the jobs that restarted, with heartbeats


def played(
    suite: Suite,
    harm: Harm | None = None,
    say: Callable[[str], None] = lambda _: None,
    market: Iterable[Record] | None = None,
) -> Played:
    """Play a market, by default the suite's own, through its jobs and let them finish.

    With a `harm` it is played at its own pace, otherwise as fast as possible.

    Raises `StartError`, `TopicError`, `FlinkError`, `PublishError`.
    """
    up = suite.up
    say("jobs")
    suite.submit()
    say("market")
    silence_s, read_again = 0.0, 0
    records = simulate(suite.scenario) if market is None else market
    with feeding(up.kafka, records, None if harm is None else 1.0, suite.scenario) as feed:
        if harm is not None:
            feed.wait_half_time()
            say("harm")
            silence_s, read_again = _harmed(suite, harm, feed)
        feed.wait_end()
    say("finishing")
    runtime.drain(up, suite.names, WAIT_S, suite.also_read)
    return Played(suite.read(), open_transactions(up.kafka, suite.written), silence_s, read_again)


def _harmed(suite: Suite, harm: Harm, feed: "Feed") -> tuple[float, int]:
    behind = _behind(suite)
    began_ms = time.time() * 1000
    with listening(suite.up.kafka, sorted(STEADY & set(suite.written))) as silences_s:
        restarting = harm(suite)
        suite.wait(lambda: suite.have_restarted(restarting, began_ms), f"jobs {', '.join(restarting)} start again")
        # While the cluster still counts a dead TaskManager, a request for metrics gets none for up to a minute.
        suite.wait(suite.knows_taskmanagers, "the cluster knows its TaskManagers")
        feed.wait_end()
        for name in suite.names:
            runtime.wait_read(suite.up, name, WAIT_S)
    return max(silences_s.values()), sum(behind[name] for name in restarting)


def _behind(suite: Suite) -> dict[str, int]:
    """By job, how many records it has not yet read and checkpointed; all at once, for the market goes on."""
    with ThreadPoolExecutor(len(suite.names)) as pool:
        lags = pool.map(lambda name: topics.lag(suite.up.kafka, name, jobs.job(name).reads), suite.names)
        return dict(zip(suite.names, lags, strict=True))


@contextmanager
def listening(servers: str, tables: list[str]) -> Iterator[dict[str, float]]:
    """While the block lasts, note for each table the longest time in s without a new record, or from the start to the first."""
    silences_s = dict.fromkeys(tables, 0.0)
    ends = topics.ends(servers, tables)
    # The consumer reconnects to a broker that was stopped.
    consumer, _ = topics.consuming(servers, "gammaflow-drill")
    consumer.assign([TopicPartition(topic, part, end) for (topic, part), end in ends.items()])
    is_over = Event()

    def listen() -> None:
        heard_s = dict.fromkeys(tables, time.monotonic())
        while not is_over.is_set():
            messages = consumer.consume(1_000, timeout=POLL_S)
            now_s = time.monotonic()
            for table in {TABLE_OF[message.topic()] for message in messages if message.error() is None}:
                silences_s[table] = max(silences_s[table], now_s - heard_s[table])
                heard_s[table] = now_s

    with ThreadPoolExecutor(1) as pool:
        listener = pool.submit(listen)
        try:
            yield silences_s
        finally:
            is_over.set()
            listener.result()
            consumer.close()


class Feed:
    """A thread that plays the market."""

    def __init__(self, servers: str, market: Iterable[Record], speed: float | None, scenario: Scenario) -> None:
        self._servers = servers
        self._half_time_ms = scenario.start_ms + 500 * scenario.duration_s
        self._end_ms = END_MS if scenario.quoting is None else DRAIN_MS
        self._market = market
        self._speed = speed
        self._is_half_time = Event()
        self._is_stopped = Event()
        self._pool = ThreadPoolExecutor(1)
        self._playing = self._pool.submit(self._play)
        self._playing.add_done_callback(lambda _: self._is_half_time.set())

    def _play(self) -> None:
        with Publisher(self._servers, end_ms=self._end_ms) as publisher:
            for record in play(self._market, publisher, self._speed):
                if record.event_ms >= self._half_time_ms:
                    self._is_half_time.set()
                if self._is_stopped.is_set():
                    return

    def wait_half_time(self) -> None:
        """Wait until half of the market has been played, or playing has failed."""
        self._is_half_time.wait()

    def wait_end(self) -> None:
        """Wait until the whole market has been played.  Raises `PublishError`."""
        self._playing.result()

    def close(self) -> None:
        """Play no more."""
        self._is_stopped.set()
        self._pool.shutdown()


@contextmanager
def feeding(servers: str, market: Iterable[Record], speed: float | None, scenario: Scenario = MARKET) -> Iterator[Feed]:
    """Play a market of a scenario while the block lasts."""
    feed = Feed(servers, market, speed, scenario)
    try:
        yield feed
    finally:
        feed.close()

"""Jobs in this process, without Kafka and Flink: the rows that they answer to a market, in the order of time.

For tests, notebooks and backtests of jobs that have kernels.  Each job has one shard, and steps its kernel through the same
micro-batches as on a cluster: a row belongs to the window of its record timestamp, and who writes a topic steps before who
reads it.  Rows that are told ahead of time are read when their time has come, so a circle of jobs runs as it would there
(docs/decisions/29-the-loop-of-orders.md).  A row of a job whose window its reader has behind it is late, as it would be there:
the reader takes it before its next window.  What is not done here: recovery.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, NamedTuple

import orjson

import jobs
from engine import batch
from engine.contract import Kernel, Lines, kernel
from engine.controls import APPLIED, applied, gate
from schemas.controls import GATE
from schemas.records import TABLES
from schemas.rows import encoded, instant_ms


class Given(NamedTuple):
    """A row of the market."""

    table: str
    event_ms: int  # the record timestamp
    row: Any


class Written(NamedTuple):
    """A row that a job wrote."""

    table: str
    event_ms: int  # the record timestamp
    key: bytes
    value: bytes  # JSON

    @property
    def row(self) -> dict[str, Any]:
        """Its columns."""
        row: dict[str, Any] = orjson.loads(self.value)
        return row


class _Member:
    """A job and its kernel, with the messages of the windows that are still open."""

    def __init__(self, job: jobs.Job, window_ms: int) -> None:
        assert job.kernel is not None
        self.job = job
        self.window_ms = window_ms
        self.kernel: Kernel = kernel(job.kernel)
        self.state = self.kernel.new()
        if self.kernel.set_keys is not None:
            self.kernel.set_keys(self.state, lambda key: 0, 0)
        self.waiting: dict[int, list[bytes]] = defaultdict(list)  # by the end of their window
        self.late: list[bytes] = []
        self.past_ms = -1  # up to when its windows are over
        self.sweep_ms: int | None = None
        self.is_started = False

    def take(self, event_ms: int, record: bytes, now_ms: int) -> int:
        """Take a message; returns the end of its window, of a late one that of the next."""
        end_ms = (event_ms // self.window_ms + 1) * self.window_ms
        first_ms = max(self.past_ms + 1, now_ms)
        if end_ms >= first_ms:
            self.waiting[end_ms].append(record)
            return end_ms
        self.late.append(record)
        next_ms = -(-first_ms // self.window_ms) * self.window_ms
        self.waiting[next_ms] += ()
        return next_ms

    def steps(self, until_ms: int) -> list[Lines]:
        """Step through the window that ends here, with the sweeps and the late messages before it."""
        lines: list[Lines] = []
        while self.sweep_ms is not None and self.sweep_ms <= until_ms:
            lines += batch.run(self.kernel, self.state, b"", self.sweep_ms)
            self.sweep_ms += self.kernel.sweep_ms
        if self.late:
            lines += batch.run(self.kernel, self.state, batch.RECORD.join(self.late), None)
            self.late = []
        records = self.waiting.pop(until_ms, [])
        if not self.is_started and self.kernel.obeyed is not None:
            at = instant_ms(until_ms)
            row = applied(self.job.name, 0, until_ms, (GATE, gate(True, "there are no controls", at)), at, is_start=True)
            records.insert(0, batch.record(APPLIED, 0, 0, row))
        self.is_started = True
        if records:
            lines += batch.run(self.kernel, self.state, batch.RECORD.join(records), until_ms)
        else:
            lines += batch.end_window(self.kernel, self.state, until_ms)
        if self.sweep_ms is None:
            self.sweep_ms = (until_ms // self.kernel.sweep_ms + 1) * self.kernel.sweep_ms
        self.state.touched.clear()
        return lines

    def last_sweep(self) -> list[Lines]:
        """The sweep that comes when the stream has ended."""
        return [] if self.sweep_ms is None else batch.run(self.kernel, self.state, b"", self.sweep_ms)


class Offline:
    """Jobs of one flow.

    names      jobs with kernels
    also_read  the tables that those read as well that may (`gammaflow.also-read`)
    window_ms  of every job, in place of its own
    """

    def __init__(self, names: Iterable[str], also_read: Iterable[str] = (), window_ms: int | None = None) -> None:
        chosen = set(names)
        if plain := sorted(name for name in chosen if jobs.job(name).kernel is None):
            raise ValueError(f"{', '.join(plain)}: only jobs with a kernel run offline")
        also = tuple(also_read)
        flow = [jobs.job(name).reading(also) for name in jobs.FLOW if name in chosen]
        self.members = [_Member(job, window_ms or jobs.window_ms(job)) for job in flow]
        self._readers: dict[str, list[_Member]] = defaultdict(list)
        for member in self.members:
            for table in member.job.reads:
                self._readers[table].append(member)
        self._ends: list[int] = []  # of windows that have messages, or in which rows are due: a heap
        self._offset = 0
        self._now_ms: int | None = None  # the end of the newest window that has been stepped

    def kernel_state(self, name: str) -> Any:
        """The state of a job's kernel."""
        return next(member.state for member in self.members if member.job.name == name)

    def play(self, market: Iterable[Given], until_ms: int | None = None) -> Iterator[Written]:
        """Every row that the jobs write of this market, whose rows are in order of their record timestamps.

        It ends with the last window that has a message, or at `until_ms`, before which a circle need not have come to rest.
        Raises `ValueError` for a row behind a window that has been stepped.
        """
        for given in market:
            yield from self._steps(given.event_ms)
            if self._now_ms is not None and given.event_ms < self._now_ms:
                raise ValueError(f"{given.table}: expected a row at {instant_ms(self._now_ms)} or later, got {given.event_ms}")
            if given.table in self._readers:
                self._deliver(given.table, given.event_ms, encoded(given.row))
        yield from self._steps(until_ms)

    def finish(self) -> Iterator[Written]:
        """The rows that the jobs write when they end, each after those whose rows it reads.

        They are those of the windows that are left, and of one last sweep.
        """
        for member in self.members:
            for end_ms in sorted(member.waiting):
                for lines in member.steps(end_ms):
                    yield from self._spread(lines)
            for lines in member.last_sweep():
                yield from self._spread(lines)

    def _steps(self, before_ms: int | None) -> Iterator[Written]:
        """Step through all windows that end by an instant; of all without one, through those that have messages."""
        while self._ends and (before_ms is None or self._ends[0] <= before_ms):
            end_ms = heappop(self._ends)
            if end_ms == self._now_ms:
                continue
            self._now_ms = end_ms
            for member in self.members:
                member.past_ms = end_ms
                is_due = member.kernel.end_window is not None and end_ms % member.window_ms == 0
                if is_due or end_ms in member.waiting:
                    for lines in member.steps(end_ms):
                        yield from self._spread(lines)
                if is_due and (before_ms is not None or any(other.waiting for other in self.members)):
                    heappush(self._ends, end_ms + member.window_ms)

    def _spread(self, lines: Lines) -> Iterator[Written]:
        is_read = lines.table in self._readers
        for head, value in zip(lines.heads.split(b"\n"), lines.values.split(b"\n"), strict=True):
            event_ms = int(head[:13])
            if is_read:
                self._deliver(lines.table, event_ms, value)
            yield Written(lines.table, event_ms, head[13:], value)

    def _deliver(self, table: str, event_ms: int, value: bytes) -> None:
        self._offset += 1
        record = batch.FIELD.join((TABLES[table].topic.encode(), b"0", b"%d" % self._offset, value))
        for member in self._readers[table]:
            heappush(self._ends, member.take(event_ms, record, self._now_ms or 0))

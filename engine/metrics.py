"""What the keyed operator tells of itself: Flink metrics in the group `gammaflow`, from where REST and reporters have them.

Every value is pushed, a few calls into Java a batch; none is read from Python.  A gauge of PyFlink's is a call back into the
interpreter, with the thread state of the task and from the thread of the reporter: both may be in Python at once.  Its meters
would count what Prometheus derives from counters, and its distributions keep the last value only: as which they are our gauges,
whole numbers, and for a distribution there is Flink's own histogram.

    batches                  stepped through, without those that were empty or late
    messages                 handed to the kernel, as often as shards got them
    late_messages            of these, what came after the batch of its time
    rows          by table   put out, heartbeats left out
    restored_entries         read back when a shard was first needed
    batch_messages           histogram
    kernel_us                histogram: a call of the kernel, decoding and encoding included
    kernel_busy_us           the sum of these
    decision_ms              histogram: from the end of a batch's event time to its rows, by our clock
    journal_messages         by shard, as is what a kernel's `gauges` offers: told once a second at most
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pyflink.metrics import MetricGroup

from engine.contract import Lines

TOLD_EVERY_S = 1.0
KEPT = 1024
"""Of how many batches a histogram is made: the newest."""


class _Histogram(Protocol):
    def update(self, value: int) -> None: ...


class Metrics:
    """The metrics of one task, for rows of `tables`."""

    def __init__(self, group: MetricGroup, tables: Iterable[str]) -> None:
        self.group = group.add_group("gammaflow")
        self.batches = self.group.counter("batches")
        self.messages = self.group.counter("messages")
        self.late_messages = self.group.counter("late_messages")
        self.restored_entries = self.group.counter("restored_entries")
        # Before the first row: what begins with a number has no increase to that number.
        self.rows = {table: self.group.add_group("table", table).counter("rows") for table in tables}
        self.kernel_busy_us = self.group.counter("kernel_busy_us")
        self.batch_messages = histogram(self.group, "batch_messages")
        self.kernel_us = histogram(self.group, "kernel_us")
        self.decision_ms = histogram(self.group, "decision_ms")
        self._gauges: dict[tuple[int, str], Any] = {}
        self._told_s: dict[int, float] = {}  # by shard, when it last was

    def stepped(self, until_ms: int | None, messages: int, lines: list[Lines], took_s: float) -> None:
        """Count one call of the kernel; `until_ms` is None where the messages were late."""
        took_us = round(took_s * 1e6)
        self.kernel_us.update(took_us)
        self.kernel_busy_us.inc(took_us)
        if messages:
            self.messages.inc(messages)
            if until_ms is None:
                self.late_messages.inc(messages)
            else:
                self.batches.inc()
                self.batch_messages.update(messages)
                self.decision_ms.update(round(time.time() * 1000 - until_ms))
        self.emitted(lines)

    def emitted(self, lines: list[Lines]) -> None:
        """Count the rows of each table."""
        for rows in lines:
            if rows.table in self.rows:
                self.rows[rows.table].inc(rows.heads.count(b"\n") + 1)

    def is_due(self, shard: int) -> bool:
        """Whether a shard's gauges are to be set: not again within `TOLD_EVERY_S`."""
        now_s = time.monotonic()
        if now_s < self._told_s.get(shard, now_s):
            return False
        self._told_s[shard] = now_s + TOLD_EVERY_S
        return True

    def tell(self, shard: int, values: Mapping[str, float]) -> None:
        """Set gauges of a shard, rounded to whole numbers; one that was never set is not there."""
        for name, value in values.items():
            if (shard, name) not in self._gauges:
                self._gauges[shard, name] = self.group.add_group("shard", str(shard)).distribution(name)
            self._gauges[shard, name].update(round(value))


def histogram(group: MetricGroup, name: str) -> _Histogram:
    """A histogram of Flink's own, which PyFlink does not offer."""
    from pemja import findClass  # only where the interpreter is Java's

    java = findClass("org.apache.flink.runtime.metrics.DescriptiveStatisticsHistogram")(KEPT)
    made: _Histogram = group._metrics.histogram(name, java)
    return made

"""The metrics of the keyed operator: Flink metrics in the group `gammaflow`, for REST and reporters.

Every value is pushed, with a few calls into Java for each batch; none is read from Python.  A gauge of PyFlink's would be
called from the thread of the reporter with the thread state of the task: both might be in Python at once.  Its meters would
count what Prometheus derives from counters.  Its distributions keep only the last value, so they serve as our gauges, in whole
numbers; for distributions there is Flink's own histogram.

    batches                  without empty and late ones
    messages                 given to kernels; a broadcast message counts once for each shard
    late_messages            those of the messages that came after the batch of their time
    rows          by table   emitted, without heartbeats
    restored_entries         read from state when a shard was first needed
    batch_messages           histogram
    kernel_us                histogram: one call of the kernel, with decoding and encoding
    kernel_busy_us           the sum of kernel_us
    decision_ms              histogram: from the end of a batch's event time to its rows, by our clock
    journal_messages         by shard, like a kernel's `gauges`: set once a second at most
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pyflink.metrics import MetricGroup

from engine.contract import Lines

GAUGES_EVERY_S = 1.0
KEPT = 1024
"""A histogram is made from this many of the newest batches."""


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
        # All start at 0: Prometheus sees no increase in a counter that starts with a number.
        self.rows = {table: self.group.add_group("table", table).counter("rows") for table in tables}
        self.kernel_busy_us = self.group.counter("kernel_busy_us")
        self.batch_messages = histogram(self.group, "batch_messages")
        self.kernel_us = histogram(self.group, "kernel_us")
        self.decision_ms = histogram(self.group, "decision_ms")
        self._gauges: dict[tuple[int, str], Any] = {}
        self._due_s: dict[int, float] = {}  # by shard, when its gauges are due

    def stepped(self, until_ms: int | None, messages: int, lines: list[Lines], took_s: float) -> None:
        """Count one call of the kernel; `until_ms` is None for late messages."""
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
        """Whether to set a shard's gauges now: not again within `GAUGES_EVERY_S`."""
        now_s = time.monotonic()
        if now_s < self._due_s.get(shard, now_s):
            return False
        self._due_s[shard] = now_s + GAUGES_EVERY_S
        return True

    def tell(self, shard: int, values: Mapping[str, float]) -> None:
        """Set gauges of a shard, rounded to whole numbers.  A gauge does not exist before it is set."""
        for name, value in values.items():
            if (shard, name) not in self._gauges:
                self._gauges[shard, name] = self.group.add_group("shard", str(shard)).distribution(name)
            self._gauges[shard, name].update(round(value))


def histogram(group: MetricGroup, name: str) -> _Histogram:
    """Flink's own histogram, which PyFlink does not offer."""
    from pemja import findClass  # which only an interpreter inside Java has

    java = findClass("org.apache.flink.runtime.metrics.DescriptiveStatisticsHistogram")(KEPT)
    registered: _Histogram = group._metrics.histogram(name, java)
    return registered

"""The one keyed operator: it hands each micro-batch of a shard to the job's kernel and keeps the kernel's state in Flink.

State is kept as a database keeps it.  Every batch is appended to a journal (one write a batch, whatever it touched); once it
holds `JOURNAL_MESSAGES` for each entry that was touched, those entries are stored and the journal is emptied.  Recovery reads
the entries and steps through the journal again.  So a batch that touches many books does not rewrite them all, and a
checkpoint never carries much more journal than state.
"""

import gc
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor

import kernels
from kernels import batch
from schemas.records import TABLES

JOURNAL_MESSAGES = 32
SWEEP_MS = 60 * 60 * 1000
HEARTBEAT_MS = 50  # as the micro-batches: each ends for a reader as soon as it has ended here
HEARTBEAT_KEYS = [
    f"heartbeat-{number:08d}"
    for number in (
        2093449,
        111142,
        1481275,
        690858,
        279370,
        1399504,
        663323,
        539852,
        527444,
        34048,
        632842,
        413677,
        506195,
        447235,
        344439,
        613121,
    )
]
"""One for each partition of a topic that has up to 16: Kafka's hash of them is 0 to 15 modulo every number up to 16."""
END_OF_TIME = 2**63 - 1

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
BATCH_TYPE = Types.ROW_NAMED(["shard", "until_ms", "messages"], [Types.INT(), Types.LONG(), BYTES])
OUTPUT_TYPE = Types.ROW_NAMED(["table", "heads", "values"], [Types.STRING(), Types.STRING(), Types.STRING()])


class _Shard:
    def __init__(self, number: int, state: kernels.State) -> None:
        self.number = number
        self.state = state
        self.journaled = 0  # messages
        self.sweep_ms: int | None = None


class Host(KeyedProcessFunction):  # type: ignore[misc]
    """Runs `kernels.<name>`: rows of (shard, until_ms, messages) in, rows of (table, heads, values) out.

    With `has_heartbeats` also a row every `HEARTBEAT_MS` of event time, however quiet the inputs, that says so.
    """

    def __init__(self, name: str, has_heartbeats: bool) -> None:
        self.name = name
        self.has_heartbeats = has_heartbeats

    def open(self, runtime_context: RuntimeContext) -> None:
        """Find the kernel and the state."""
        self.kernel: kernels.Kernel = import_module(f"kernels.{self.name}")  # type: ignore[assignment]
        self.sweep_ms: int = getattr(self.kernel, "SWEEP_MS", SWEEP_MS)
        self.shared_topics = frozenset(TABLES[table].topic for table in self.kernel.SHARED)
        # Pickled: thread mode cannot put bytes into a state of bytes, and pickling bytes is copying them.
        stored = Types.PICKLED_BYTE_ARRAY()
        self.entries = runtime_context.get_map_state(MapStateDescriptor("entries", Types.STRING(), stored))
        self.journal = runtime_context.get_list_state(ListStateDescriptor("journal", stored))
        self.shards: dict[int, _Shard] = {}
        self.next_heartbeat_ms: int | None = None
        # What is loaded now lives as long as the process: leave it out of every collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        """Step one shard through one micro-batch."""
        number, until_ms, messages = value[0], value[1], value[2]
        shard = self.shards.get(number) or self._restored(number)
        yield from self._stepped(shard, until_ms, messages)
        if until_ms is None:
            return
        if self.has_heartbeats and self.next_heartbeat_ms is None:
            self.next_heartbeat_ms = until_ms
            ctx.timer_service().register_event_time_timer(until_ms)
        if shard.sweep_ms is None:
            shard.sweep_ms = until_ms + self.sweep_ms
            ctx.timer_service().register_event_time_timer(shard.sweep_ms)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """Time has passed: let one shard free what has ended, and tell the readers of the outputs what time it is."""
        timers = ctx.timer_service()
        watermark_ms = timers.current_watermark()
        # When the stream has ended all timers fire at once; one that sets the next would never end.
        has_ended = watermark_ms >= END_OF_TIME - SWEEP_MS
        shard = self.shards.get(ctx.get_current_key()) or self._restored(ctx.get_current_key())
        if shard.sweep_ms is None or timestamp >= shard.sweep_ms:
            shard.sweep_ms = None
            yield from self._stepped(shard, timestamp, b"")
            if not has_ended and not self.entries.is_empty():
                shard.sweep_ms = timestamp + self.sweep_ms
                timers.register_event_time_timer(shard.sweep_ms)
        # One shard keeps time for all of this task: those that a restored state brings along fall silent.
        if self.has_heartbeats and (self.next_heartbeat_ms is None or timestamp == self.next_heartbeat_ms):
            # Of its own instant, though time may have leapt: another task may not have written yet what lies between.
            heads = "\n".join(f"{timestamp:013d}{key}" for key in HEARTBEAT_KEYS)
            yield Row("heartbeat", heads, "\n" * (len(HEARTBEAT_KEYS) - 1))
            if not has_ended:
                self.next_heartbeat_ms = ((watermark_ms + 1) // HEARTBEAT_MS + 1) * HEARTBEAT_MS - 1
                timers.register_event_time_timer(self.next_heartbeat_ms)

    def _stepped(self, shard: _Shard, until_ms: int | None, data: bytes) -> Iterator[Row]:
        lines = self._step(shard, until_ms, data)
        if shard.journaled >= JOURNAL_MESSAGES * len(shard.state.touched) or not data:
            self._store(shard)
        else:
            self.journal.add((until_ms, data))
        for table, heads, values in lines:
            yield Row(table, heads.decode(), values.decode())

    def _step(self, shard: _Shard, until_ms: int | None, data: bytes) -> list[batch.Lines]:
        shard.journaled += batch.count(data)
        silent = self.shared_topics if shard.number else frozenset()
        return batch.run(self.kernel, shard.state, data, until_ms, silent)

    def _store(self, shard: _Shard) -> None:
        for name in shard.state.touched:
            data = shard.state.encode(name)
            if data is None:
                self.entries.remove(name)
            else:
                self.entries.put(name, data)
        shard.state.touched.clear()
        self.journal.clear()
        shard.journaled = 0

    def _restored(self, number: int) -> _Shard:
        shard = self.shards[number] = _Shard(number, self.kernel.new())
        for name, data in self.entries.items():
            shard.state.decode(name, data)
        for until_ms, data in self.journal.get():
            self._step(shard, until_ms, data)
        return shard

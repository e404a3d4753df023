"""The one keyed operator: it hands each micro-batch of a shard to the job's kernel and keeps the kernel's state in Flink.

State is kept as a database keeps it.  What comes is written once, as it comes; a journal names what the kernel was stepped
through.  Once storing the touched entries takes no more than the kernel's `store_share` of the time that stepping through the
journal took, they are stored, and the journal is cleared with all that it names.  Recovery reads the entries and steps through
the journal again.  So a batch that touches many books does not rewrite them all, what costs little is stored at
once, and there is little to step through again.  A kernel whose entries are seldom touched again has a greater share of its
own: to wait would save nothing, and end in one long pause.
"""

import gc
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from importlib import import_module
from itertools import count, starmap
from pathlib import Path
from threading import Lock
from typing import Any

from kafka.partitioner.default import murmur2
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor, ValueStateDescriptor

from engine import batch
from engine.contract import Kernel, Lines, State, kernel
from engine.metrics import Metrics
from schemas.records import TABLES

KEPT_PARTS = 10_000
"""So many parts of batches are kept at most until entries are stored: where nothing but the time comes, they are small."""
LATE_BYTES = 4 << 20
"""How much of late messages is one step, about.  A partition that has stood still may be late with all that it missed, and the
bridge into Java ends the process where there is no room for what it is to carry."""
OURS = ("engine", "jobs", "kernels", "schemas", "udfs")
END_OF_TIME = 2**63 - 1

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
BATCH_TYPE = Types.ROW_NAMED(["shard", "until_ms", "is_late", "messages"], [Types.INT(), Types.LONG(), Types.BOOLEAN(), BYTES])
OUTPUT_TYPE = Types.ROW_NAMED(["table", "heads", "values"], [Types.STRING(), BYTES, BYTES])


@dataclass(slots=True)
class _Part:
    """What came at once: a batch of a window, or a late message."""

    until_ms: int  # the end of its window
    is_late: bool
    messages: bytes
    place: int = -1  # in the list `held`


@dataclass(frozen=True)
class Member:
    """A job that the host runs.  Its shards are numbered, each at the index of the partition whose records it takes."""

    kernel: str
    shards: tuple[int, ...]
    writes: tuple[str, ...]  # tables
    broadcast: tuple[str, ...] = ()  # tables of which every shard gets every message
    heartbeat: str = ""  # the `table` of its heartbeats; empty where it tells no time
    conflated: tuple[str, ...] = ()


class _Running:
    """A member with its kernel."""

    def __init__(self, member: Member, kernel: Kernel) -> None:
        self.kernel = kernel
        self.conflated = member.conflated
        self.heartbeat = member.heartbeat
        keys = map(str.encode, heartbeat_keys(len(member.shards)))
        self.heartbeat_keys = dict(zip(member.shards, keys, strict=True))
        broadcast = frozenset(TABLES[table].topic for table in member.broadcast)
        self.partitions = {number: partition for partition, number in enumerate(member.shards)}
        # Of what every shard gets, the first alone answers for bad messages.
        self.silent = {number: broadcast if number != member.shards[0] else frozenset() for number in member.shards}

    def state(self, number: int) -> State:
        """An empty state of a shard."""
        state: State = self.kernel.new()
        if self.kernel.place is not None:
            own, count = self.partitions[number], len(self.partitions)
            self.kernel.place(state, lambda key: partition_of(key, count) == own)
        return state


class _Shard:
    def __init__(self, number: int, running: _Running) -> None:
        self.number = number
        self.running = running
        self.state: State = running.state(number)
        self.journaled = 0  # messages
        self.journaled_s = 0.0  # what stepping through them has taken
        self.entry_s = 0.0  # what storing an entry took the last time
        self.sweep_ms: int | None = None  # when the next one is due
        self.until_ms: int | None = None  # of the last batch
        self.held: dict[int, list[_Part]] = {}  # what the kernel has not had yet, by the end of its window
        self.kept = 0  # parts in the list `held`: those, and what the journal names
        self.steps: list[
            tuple[int | None, list[int]]
        ] = []  # which neither the journal has yet nor the entries: places of parts


class Host(KeyedProcessFunction):  # type: ignore[misc]
    """Runs `kernels.<name>`: rows of (shard, until_ms, is_late, messages) in, rows of (table, heads, values) out.

    What comes is held until it is over: until the watermark says that no more of its time is to come.  Late messages come past
    the windows, sooner or later than the batches of their time.  Held, they join the batch of their window where that is not
    over; else the kernel gets them as late, together with all that are, before the next batch.

    The host runs the jobs of a group, or one job alone.  A shard belongs to one job and runs its kernel.  A job that tells the
    time emits a heartbeat after each batch, into the partition that holds the shard's rows: the shard alone writes there, in
    this order, so that no reader is told the time too early.  Of its `conflated` tables a batch emits only the newest row of
    each key.
    """

    def __init__(self, members: tuple[Member, ...]) -> None:
        self.members = members

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, tuple(tuple(getattr(member, field.name) for field in fields(Member)) for member in self.members)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Find the kernels and the state."""
        self.running = {number: _Running(member, kernel(member.kernel)) for member in self.members for number in member.shards}
        # Pickled: thread mode cannot put bytes into a state of bytes, and pickling bytes is copying them.
        stored = Types.PICKLED_BYTE_ARRAY()
        self.entries = runtime_context.get_map_state(MapStateDescriptor("entries", Types.STRING(), stored))
        self.journal = runtime_context.get_list_state(ListStateDescriptor("journal", stored))
        self.held = runtime_context.get_list_state(ListStateDescriptor("held", stored))
        self.next_sweep = runtime_context.get_state(ValueStateDescriptor("next_sweep_ms", Types.LONG()))
        self.shards: dict[int, _Shard] = {}
        tables = sorted({table for member in self.members for table in member.writes})
        self.metrics = Metrics(runtime_context.get_metrics_group(), tables)
        # What is loaded now lives as long as the process: leave it out of every collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    def close(self) -> None:
        """Let go of the state: the process may outlive its job.  What other jobs in it hold is left alone again in a second."""
        self.shards.clear()
        gc.unfreeze()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> None:
        """Hold a batch of a window, or a late message, until its time is over."""
        part = _Part(value[1], value[2], value[3] or b"")
        shard = self.shards.get(value[0]) or self._restored(value[0])
        shard.held.setdefault(part.until_ms, []).append(part)
        self._keep(shard, part)
        ctx.timer_service().register_event_time_timer(part.until_ms - 1)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """Step a shard through all whose time is over, in its order: late messages, batches, and sweeps at their own instants.

        A sweep may free what has ended, so what it puts out must depend on nobody's pace.
        """
        shard = self.shards.get(ctx.get_current_key()) or self._restored(ctx.get_current_key())
        watermark_ms = ctx.timer_service().current_watermark()
        over = sorted(end_ms for end_ms in shard.held if end_ms <= watermark_ms + 1)
        done_ms = shard.until_ms
        if done_ms is None:  # so it has no window that is over before the first that was one
            in_time = (end_ms for end_ms in over if not all(part.is_late for part in shard.held[end_ms]))
            done_ms = min(in_time, default=END_OF_TIME) - 1
        for late in portions(part for end_ms in over if end_ms <= done_ms for part in shard.held.pop(end_ms)):
            yield from self._stepped(shard, None, late)
        for end_ms in over:
            if end_ms > done_ms:
                yield from self._swept(shard, end_ms, ctx)
                yield from self._batched(shard, end_ms, ctx)
        if watermark_ms < END_OF_TIME:
            yield from self._swept(shard, min(watermark_ms, max(timestamp, *over, 0)), ctx)
        elif shard.sweep_ms is not None:
            # The stream has ended: once more, and then no more.
            yield from self._swept_at(shard, shard.sweep_ms)
            self._set_sweep(shard, None, ctx)
        self._settle(shard)
        if self.metrics.is_due(shard.number):
            self.metrics.tell(shard.number, {"journal_messages": shard.journaled} | shard.running.kernel.gauges(shard.state))
            # A kernel's state is large and has no cycles: a collection would stop everything for a second to look through it.
            gc.collect(1)
            gc.freeze()

    def _batched(self, shard: _Shard, until_ms: int, ctx: Any) -> Iterator[Row]:
        # In an order that does not depend on which came first.
        parts = sorted(shard.held.pop(until_ms), key=lambda part: (part.is_late, part.messages))
        shard.until_ms = until_ms
        yield from self._stepped(shard, until_ms, parts)
        every_ms = shard.running.kernel.sweep_ms
        next_ms = (until_ms // every_ms + 1) * every_ms
        # It may be further off in a savepoint of a version that swept less often.
        if shard.sweep_ms is None or shard.sweep_ms > next_ms:
            self._set_sweep(shard, next_ms, ctx)
        if shard.running.heartbeat:
            key = shard.running.heartbeat_keys[shard.number]
            yield Row(shard.running.heartbeat, b"%013d%s" % (until_ms - 1, key), b"heartbeat")

    def _swept(self, shard: _Shard, until_ms: int, ctx: Any) -> Iterator[Row]:
        while shard.sweep_ms is not None and shard.sweep_ms <= until_ms:
            at_ms = shard.sweep_ms
            yield from self._swept_at(shard, at_ms)
            self._set_sweep(shard, None if self.entries.is_empty() else at_ms + shard.running.kernel.sweep_ms, ctx)

    def _set_sweep(self, shard: _Shard, sweep_ms: int | None, ctx: Any) -> None:
        shard.sweep_ms = sweep_ms
        if sweep_ms is None:
            self.next_sweep.clear()
        else:
            self.next_sweep.update(sweep_ms)
            ctx.timer_service().register_event_time_timer(sweep_ms)

    def _swept_at(self, shard: _Shard, at_ms: int) -> Iterator[Row]:
        lines = self._step(shard, at_ms, b"")
        self._store(shard)
        yield from starmap(Row, lines)

    def _stepped(self, shard: _Shard, until_ms: int | None, parts: list[_Part]) -> Iterator[Row]:
        data = batch.RECORD.join(part.messages for part in parts if part.messages)
        shard.steps.append((until_ms, [part.place for part in parts]))
        if data:
            yield from starmap(Row, self._step(shard, until_ms, data))
        elif until_ms is not None:
            lines = batch.conflated(batch.end_window(shard.running.kernel, shard.state, until_ms), shard.running.conflated)
            self.metrics.emitted(lines)
            yield from starmap(Row, lines)

    def _settle(self, shard: _Shard) -> None:
        # Once for all that was over at once: whatever still waits is written anew when entries are stored.
        if not shard.steps:
            return
        is_cheap = shard.entry_s * len(shard.state.touched) <= shard.running.kernel.store_share * shard.journaled_s
        if is_cheap or shard.kept >= KEPT_PARTS:
            self._store(shard)
            return
        for step in shard.steps:
            self.journal.add(step)
        shard.steps.clear()

    def _step(self, shard: _Shard, until_ms: int | None, data: bytes, is_again: bool = False) -> list[Lines]:
        messages = batch.count(data)
        started_s = time.perf_counter()
        running = shard.running
        lines = batch.run(running.kernel, shard.state, data, until_ms, running.silent[shard.number])
        lines = batch.conflated(lines, running.conflated)
        took_s = time.perf_counter() - started_s
        shard.journaled += messages
        shard.journaled_s += took_s
        if not is_again:
            self.metrics.stepped(until_ms, messages, lines, took_s)
        return lines

    def _store(self, shard: _Shard) -> None:
        started_s = time.perf_counter()
        stored = {name: shard.state.encode(name) for name in shard.state.touched}
        # All at once: a call into Java costs more than an entry.
        if there := {name: data for name, data in stored.items() if data is not None}:
            self.entries.put_all(there)
        for name, data in stored.items():
            if data is None:
                self.entries.remove(name)
        self.journal.clear()
        self.held.clear()
        shard.steps.clear()
        shard.kept = 0
        for parts in shard.held.values():
            for part in parts:
                self._keep(shard, part)
        if stored:
            took_s = (time.perf_counter() - started_s) / len(stored)
            # A pause of a collector is not what an entry costs.
            shard.entry_s = min(took_s, 2 * shard.entry_s) if shard.entry_s else took_s
        shard.state.touched.clear()
        shard.journaled, shard.journaled_s = 0, 0.0

    def _keep(self, shard: _Shard, part: _Part) -> None:
        part.place = shard.kept
        shard.kept += 1
        self.held.add((shard.until_ms, part.until_ms, part.is_late, part.messages))

    def _restored(self, number: int) -> _Shard:
        shard = self.shards[number] = _Shard(number, self.running[number])
        for name, data in self.entries.items():
            shard.state.decode(name, data)
            self.metrics.restored_entries.inc()
        held = list(self.held.get())
        shard.kept = len(held)
        done: set[int] = set()
        ends_ms = [until_ms for until_ms, *_ in held]
        for until_ms, what in self.journal.get():
            # Once a journal had the messages themselves.
            data = what if isinstance(what, bytes) else batch.RECORD.join(held[place][3] for place in what if held[place][3])
            if data:
                self._step(shard, until_ms, data, is_again=True)
            elif until_ms is not None:
                batch.end_window(shard.running.kernel, shard.state, until_ms)
            done.update(() if isinstance(what, bytes) else what)
            ends_ms.append(until_ms)
        shard.until_ms = max((end_ms for end_ms in ends_ms if end_ms is not None), default=None)
        for place, (_, until_ms, is_late, messages) in enumerate(held):
            if place not in done:
                shard.held.setdefault(until_ms, []).append(_Part(until_ms, is_late, messages, place))
        shard.sweep_ms = self.next_sweep.value()
        return shard


def portions(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Parts in their order; each portion ends once it has `LATE_BYTES`."""
    portion: list[_Part] = []
    size = 0
    for part in parts:
        portion.append(part)
        size += len(part.messages)
        if size >= LATE_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def heartbeat_keys(partitions: int) -> list[str]:
    """A key for each partition."""
    keys: dict[int, str] = {}
    for number in count():
        if len(keys) == partitions:
            return [keys[partition] for partition in range(partitions)]
        key = f"heartbeat-{number}"
        keys.setdefault(partition_of(key, partitions), key)
    raise AssertionError("unreachable")


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, by the hash with which Kafka's producers part keys."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _unpickled(*members: tuple[Any, ...]) -> Host:
    """A host in a process where other jobs may have run: modules whose files are gone with those are imported anew."""
    with _UNPICKLING:
        if not Path(str(sys.modules["engine"].__file__)).exists():
            for module in [module for module in sys.modules if module.partition(".")[0] in OURS]:
                del sys.modules[module]
        own = import_module("engine.host")
        host: Host = own.Host(tuple(own.Member(*values) for values in members))
    return host


_UNPICKLING = Lock()

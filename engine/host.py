"""The one keyed operator: it gives each micro-batch of a shard to the job's kernel and keeps the kernel's state in Flink.

State is kept as a database keeps it.  Each batch is written once, when it arrives, and a journal lists the steps of the kernel.
The touched entries are stored once that takes no more than the kernel's `store_share` of the time that the steps in the journal
took.  Then the journal and the batches in it are cleared.  A restore reads the entries and repeats the steps of the journal.
So a batch that touches many books does not rewrite them all, cheap entries are stored at once, and a restore has few steps to
repeat.  A kernel that seldom touches an entry again has a greater share: waiting would save nothing and end in one long pause.
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

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, TimeDomain
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor, ValueStateDescriptor

from engine import batch, listening
from engine.contract import Kernel, Lines, State, kernel
from engine.controls import APPLIED, Source, applied, gate
from engine.metrics import Metrics
from schemas.controls import GATE
from schemas.partitions import partition_of
from schemas.records import TABLES
from schemas.rows import instant_us

_CONTROLS = TABLES[APPLIED].topic.encode()
KEPT_PARTS = 10_000
"""At most this many parts of batches are kept until entries are stored.  Parts are small when only heartbeats arrive."""
LATE_BYTES = 4 << 20
"""About how much of the late messages is one step.  After a partition has stood still, all its messages may be late, and the
bridge into Java ends the process if it has no memory for the rows that it carries."""
REPEAT_MS = 1_000
"""How often a job of a loop repeats its last heartbeat while it has no new one."""
OURS = ("engine", "jobs", "kernels", "schemas", "udfs")
END_OF_TIME = 2**63 - 1

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
BATCH_TYPE = Types.ROW_NAMED(["shard", "until_ms", "is_late", "messages"], [Types.INT(), Types.LONG(), Types.BOOLEAN(), BYTES])
OUTPUT_TYPE = Types.ROW_NAMED(["table", "heads", "values"], [Types.STRING(), BYTES, BYTES])


@dataclass(slots=True)
class _Part:
    """One input of the operator: a batch of a window, or a late message."""

    until_ms: int  # the end of its window
    is_late: bool
    messages: bytes
    index: int = -1  # in the list `held`


@dataclass(frozen=True)
class Member:
    """A job that the host runs.  `shards` has their numbers, each at the index of the partition whose records it takes."""

    kernel: str
    shards: tuple[int, ...]
    writes: tuple[str, ...]  # tables
    broadcast: tuple[str, ...] = ()  # tables whose messages go to every shard
    heartbeat: str = ""  # the `table` of its heartbeats; empty if it writes none
    conflated: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()  # of `engine.controls.Source`; empty where it puts out no orders
    is_in_loop: bool = False  # whether it waits for jobs that wait for it: docs/decisions/29-the-loop-of-orders.md


class _Running:
    """A member with its kernel."""

    def __init__(self, member: Member, kernel: Kernel) -> None:
        self.kernel = kernel
        self.conflated = member.conflated
        self.controls = listening.opened(Source(*member.controls)) if member.controls and kernel.obeyed else None
        self.heartbeat = member.heartbeat
        self.repeats = member.is_in_loop and bool(member.heartbeat)
        keys = map(str.encode, heartbeat_keys(len(member.shards)))
        self.heartbeat_keys = dict(zip(member.shards, keys, strict=True))
        broadcast = frozenset(TABLES[table].topic for table in member.broadcast)
        self.partitions = {number: partition for partition, number in enumerate(member.shards)}
        # For messages that every shard gets, only the first shard emits dead letters.
        self.silent = {number: broadcast if number != member.shards[0] else frozenset() for number in member.shards}

    def state(self, number: int) -> State:
        """An empty state of a shard."""
        state: State = self.kernel.new()
        if self.kernel.set_keys is not None:
            own, count = self.partitions[number], len(self.partitions)
            self.kernel.set_keys(state, lambda key: partition_of(key, count), own)
        return state


class _Shard:
    def __init__(self, number: int, running: _Running) -> None:
        self.number = number
        self.running = running
        self.state: State = running.state(number)
        self.journaled = 0  # messages
        self.journaled_s = 0.0  # the time of the steps with these messages
        self.entry_s = 0.0  # the time for storing one entry, as last measured
        self.sweep_ms: int | None = None  # when the next sweep is due
        self.until_ms: int | None = None  # of the last batch
        self.has_told = False  # whether it has written a heartbeat since the last second of the clock
        self.held: dict[int, list[_Part]] = {}  # parts that the kernel has not had yet, by the end of their window
        self.kept = 0  # parts in the list state `held`: these and those of the journal
        # Steps that are neither in the journal nor in the entries yet: `until_ms` and the indices of the parts.
        self.steps: list[tuple[int | None, list[int]]] = []


class Host(KeyedProcessFunction):  # type: ignore[misc]
    """Runs `kernels.<name>`: rows of (shard, until_ms, is_late, messages) in, rows of (table, heads, values) out.

    It holds each part until the watermark has passed the end of its window.  Late messages bypass the windows of SQL, and come
    before or after the batch of their time.  If their window is still open here, they join its batch.  If not, the kernel gets
    them as late, all together, before the next batch.

    The host runs the jobs of a group, or one job alone.  A shard belongs to one job and runs its kernel.  A job that tells time
    emits a heartbeat after each batch, into the partition that holds the shard's rows.  Only this shard writes there, in this
    order, so no reader's watermark advances too early.  Of its `conflated` tables a batch emits only the newest row of each
    key.
    """

    def __init__(self, members: tuple[Member, ...]) -> None:
        self.members = members
        self.running: dict[int, _Running] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, tuple(tuple(getattr(member, field.name) for field in fields(Member)) for member in self.members)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Load the kernels and register the state."""
        self.running = {
            number: running
            for member in self.members
            for running in [_Running(member, kernel(member.kernel))]
            for number in member.shards
        }
        # Pickled, because thread mode cannot put bytes into a state of bytes; to pickle bytes is to copy them.
        stored = Types.PICKLED_BYTE_ARRAY()
        self.entries = runtime_context.get_map_state(MapStateDescriptor("entries", Types.STRING(), stored))
        self.journal = runtime_context.get_list_state(ListStateDescriptor("journal", stored))
        self.held = runtime_context.get_list_state(ListStateDescriptor("held", stored))
        self.next_sweep = runtime_context.get_state(ValueStateDescriptor("next_sweep_ms", Types.LONG()))
        self.told_ms = runtime_context.get_state(ValueStateDescriptor("told_ms", Types.LONG()))
        self.shards: dict[int, _Shard] = {}
        tables = sorted({table for member in self.members for table in member.writes})
        self.metrics = Metrics(runtime_context.get_metrics_group(), tables)
        # Modules that are loaded now live as long as the process: leave them out of every garbage collection.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    def close(self) -> None:
        """Free the state, for the process may outlive its job.  Other jobs in it freeze theirs again within a second."""
        for running in self.running.values():
            if running.controls is not None:
                running.controls.close()
        self.shards.clear()
        gc.unfreeze()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> None:
        """Hold a batch of a window, or a late message, until the watermark has passed the end of its window."""
        part = _Part(value[1], value[2], value[3] or b"")
        shard = self.shards.get(value[0]) or self._restored(value[0])
        shard.held.setdefault(part.until_ms, []).append(part)
        self._keep(shard, part)
        ctx.timer_service().register_event_time_timer(part.until_ms - 1)
        if shard.running.repeats:
            self._wake(ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        """Step a shard through all that is over, in this order: late messages; then batches, and sweeps at their own instants.

        A sweep may free entries, so its rows must not depend on how fast the job reads.
        """
        shard = self.shards.get(ctx.get_current_key()) or self._restored(ctx.get_current_key())
        if ctx.time_domain() == TimeDomain.PROCESSING_TIME:
            yield from self._repeated(shard, ctx)
            return
        watermark_ms = ctx.timer_service().current_watermark()
        over = sorted(end_ms for end_ms in shard.held if end_ms <= watermark_ms + 1)
        done_ms = shard.until_ms
        if done_ms is None:  # before its first batch: messages are late if their window ends before that of the first batch
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
            # The stream has ended: one last sweep.
            yield from self._swept_at(shard, shard.sweep_ms)
            self._set_sweep(shard, None, ctx)
        self._settle(shard)
        if self.metrics.is_due(shard.number):
            self.metrics.tell(shard.number, {"journal_messages": shard.journaled} | shard.running.kernel.gauges(shard.state))
            # A kernel's state is large and has no cycles: without this, a collection would look through it for a second.
            gc.collect(1)
            gc.freeze()

    def _batched(self, shard: _Shard, until_ms: int, ctx: Any) -> Iterator[Row]:
        # In an order that does not depend on the order of arrival.
        parts = sorted(shard.held.pop(until_ms), key=lambda part: (part.is_late, part.messages))
        shard.until_ms = until_ms
        obeyed, lines = self._obeyed(shard, until_ms)
        if obeyed:
            part = _Part(until_ms, False, obeyed)
            self._keep(shard, part)
            parts.append(part)
        yield from starmap(Row, lines)
        yield from self._stepped(shard, until_ms, parts)
        every_ms = shard.running.kernel.sweep_ms
        next_ms = (until_ms // every_ms + 1) * every_ms
        # A savepoint of a version that swept less often may have a later one.
        if shard.sweep_ms is None or shard.sweep_ms > next_ms:
            self._set_sweep(shard, next_ms, ctx)
        if shard.running.heartbeat:
            told_ms = until_ms - 1 + shard.running.kernel.latency_ms
            if shard.running.repeats:
                self.told_ms.update(told_ms)
                shard.has_told = True
            yield _heartbeat(shard, told_ms)

    def _wake(self, ctx: Any) -> None:
        """Be called at the next whole second of the clock: once, however often that is asked for."""
        timers = ctx.timer_service()
        timers.register_processing_time_timer((timers.current_processing_time() // REPEAT_MS + 1) * REPEAT_MS)

    def _repeated(self, shard: _Shard, ctx: Any) -> Iterator[Row]:
        """The last heartbeat once more, if there was none for a while: a reader that was restored does not remember it."""
        told_ms = self.told_ms.value()
        if told_ms is not None and not shard.has_told:
            yield _heartbeat(shard, told_ms)
        shard.has_told = False
        self._wake(ctx)

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
        obeyed, lines = self._obeyed(shard, at_ms)
        lines += self._step(shard, at_ms, obeyed)
        self._store(shard)
        yield from starmap(Row, lines)

    def _obeyed(self, shard: _Shard, until_ms: int) -> tuple[bytes, list[Lines]]:
        """What has changed of the controls since the last step, as messages of this one, and as rows."""
        running = shard.running
        if running.controls is None or running.kernel.obeyed is None:
            return b"", []
        partition = running.partitions[shard.number]
        words = running.controls.words(partition, until_ms, running.kernel.obeyed(shard.state))
        data = batch.RECORD.join(batch.record(APPLIED, partition, at, row) for at, row in enumerate(words.rows))
        lines = batch.encode(words.outputs)
        self.metrics.emitted(lines)
        return data, lines

    def _stepped(self, shard: _Shard, until_ms: int | None, parts: list[_Part]) -> Iterator[Row]:
        data = batch.RECORD.join(part.messages for part in parts if part.messages)
        shard.steps.append((until_ms, [part.index for part in parts]))
        if data:
            yield from starmap(Row, self._step(shard, until_ms, data))
        elif until_ms is not None:
            lines = batch.conflated(batch.end_window(shard.running.kernel, shard.state, until_ms), shard.running.conflated)
            self.metrics.emitted(lines)
            yield from starmap(Row, lines)

    def _settle(self, shard: _Shard) -> None:
        # Once for all steps of a timer: storing entries also rewrites the parts that are still held.
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
        # In one call: a call into Java costs more than an entry.
        if existing := {name: data for name, data in stored.items() if data is not None}:
            self.entries.put_all(existing)
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
            # A pause of a garbage collector is not part of the cost of an entry.
            shard.entry_s = min(took_s, 2 * shard.entry_s) if shard.entry_s else took_s
        shard.state.touched.clear()
        shard.journaled, shard.journaled_s = 0, 0.0

    def _keep(self, shard: _Shard, part: _Part) -> None:
        part.index = shard.kept
        shard.kept += 1
        self.held.add((shard.until_ms, part.until_ms, part.is_late, part.messages))

    def _restored(self, number: int) -> _Shard:
        shard = self.shards[number] = _Shard(number, self.running[number])
        for name, data in self.entries.items():
            shard.state.decode(name, data)
            self.metrics.restored_entries.inc()
        held = list(self.held.get())
        shard.kept = len(held)
        journal = list(self.journal.get())
        if journal and not any(_CONTROLS in messages for *_, messages in held):
            self._open_gate(shard)
        done: set[int] = set()
        ends_ms = [until_ms for until_ms, *_ in held]
        for until_ms, step in journal:
            # In earlier versions a journal had the messages themselves.
            data = step if isinstance(step, bytes) else batch.RECORD.join(held[index][3] for index in step if held[index][3])
            if data:
                self._step(shard, until_ms, data, is_again=True)
            elif until_ms is not None:
                batch.end_window(shard.running.kernel, shard.state, until_ms)
            done.update(() if isinstance(step, bytes) else step)
            ends_ms.append(until_ms)
        shard.until_ms = max((end_ms for end_ms in ends_ms if end_ms is not None), default=None)
        for index, (_, until_ms, is_late, messages) in enumerate(held):
            if index not in done:
                shard.held.setdefault(until_ms, []).append(_Part(until_ms, is_late, messages, index))
        shard.sweep_ms = self.next_sweep.value()
        return shard

    def _open_gate(self, shard: _Shard) -> None:
        """Open the gate for the steps of a journal that was written before there were controls: they obeyed none."""
        kernel = shard.running.kernel
        if kernel.obeyed is not None and not kernel.obeyed(shard.state):
            at = instant_us(0)
            row = applied(kernel.name, 0, 0, (GATE, gate(True, "there were no controls", at)), at, is_start=True)
            self._step(shard, None, batch.record(APPLIED, 0, 0, row), is_again=True)


def _heartbeat(shard: _Shard, time_ms: int) -> Row:
    running = shard.running
    return Row(running.heartbeat, b"%013d%s" % (time_ms, running.heartbeat_keys[shard.number]), b"heartbeat")


def portions(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """The parts in portions, in their order; each portion ends once it has `LATE_BYTES`."""
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


def _unpickled(*members: tuple[Any, ...]) -> Host:
    """A host in a process where other jobs may have run.  If their files are gone, our modules are imported again."""
    with _UNPICKLING:
        if not Path(str(sys.modules["engine"].__file__)).exists():
            for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
                del sys.modules[name]
        module = import_module("engine.host")
        host: Host = module.Host(tuple(module.Member(*values) for values in members))
    return host


_UNPICKLING = Lock()

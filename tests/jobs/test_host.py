"""The keyed host without Flink: what it gives its kernel, when, and what it goes on with after a recovery."""

import gc
import sys
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pyflink.datastream import TimeDomain

from engine import batch, metrics
from engine.contract import Kernel, Lines, Message, Output
from engine.controls import Words
from engine.host import END_OF_TIME, Host, Member
from schemas.records import TABLES
from tests.kernels.obeying import applied

TOPIC = TABLES["order_books"].topic
SWEEP_MS = 1000
Call = tuple[int | None, list[Any]]
"""Until when, and the offsets of the messages: what a kernel is stepped with."""


class Recorder:
    """A kernel's state that remembers every step, as one entry."""

    def __init__(self) -> None:
        self.touched: set[str] = set()
        self.calls: list[Call] = []

    def encode(self, name: str) -> bytes:
        return repr(self.calls).encode()

    def decode(self, name: str, data: bytes) -> None:
        self.calls = eval(data.decode())


class Metrics:
    """Flink's metrics: what was registered under which name, and what was put into it."""

    def __init__(self, names: tuple[str, ...] = (), found: dict[str, list[int]] | None = None) -> None:
        self.names = names
        self.found: dict[str, list[int]] = {} if found is None else found

    def add_group(self, *names: str) -> "Metrics":
        return Metrics(self.names + names, self.found)

    def registered(self, name: str) -> Any:
        values = self.found.setdefault(".".join((*self.names[1:], name)), [])
        return SimpleNamespace(inc=lambda by=1: values.append(by), update=values.append)

    counter = distribution = registered


class Cluster:
    """Flink's part: state and timers of one key, which outlive a host."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.lists: dict[str, list[Any]] = {}
        self.value: int | None = None
        self.timers: set[int] = set()
        self.watermark_ms = -1
        self.start()

    def start(self) -> None:
        self.metrics = Metrics()
        self.host = Host((Member("recorder", (7,), ("echoes",), heartbeat="heartbeat"),))
        self.host.open(self)

    def declare(self, **limits: Any) -> None:
        """Change what the kernel declares, also for hosts that are started later."""
        module: Any = sys.modules["kernels.recorder"]
        module.KERNEL = replace(module.KERNEL, **limits)
        for running in self.host.running.values():
            running.kernel = module.KERNEL

    def get_metrics_group(self) -> "Metrics":
        return self.metrics

    def get_map_state(self, _: Any) -> Any:
        return SimpleNamespace(
            items=self.entries.items,
            put_all=self.entries.update,
            remove=self.entries.__delitem__,
            is_empty=lambda: not self.entries,
        )

    def get_list_state(self, descriptor: Any) -> Any:
        kept = self.lists.setdefault(descriptor.name, [])
        return SimpleNamespace(add=kept.append, get=lambda: list(kept), clear=kept.clear)

    def get_state(self, _: Any) -> Any:
        return SimpleNamespace(value=lambda: self.value, update=self.keep, clear=lambda: self.keep(None))

    def keep(self, value: int | None) -> None:
        self.value = value

    def timer_service(self) -> Any:
        return SimpleNamespace(register_event_time_timer=self.timers.add, current_watermark=lambda: self.watermark_ms)

    def time_domain(self) -> TimeDomain:
        return TimeDomain.EVENT_TIME

    def get_current_key(self) -> int:
        return 7

    def send(self, until_ms: int, *offsets: int, is_late: bool = False) -> None:
        data = batch.RECORD.join(b"%s\x1f0\x1f%d\x1f{}" % (TOPIC.encode(), offset) for offset in offsets)
        self.host.process_element((7, until_ms, is_late, data or None), self)

    def late(self, until_ms: int, offset: int) -> None:
        self.send(until_ms, offset, is_late=True)

    def advance(self, watermark_ms: int) -> list[str]:
        """What is put out until it is so late."""
        self.watermark_ms = watermark_ms
        heads: list[str] = []
        while due := sorted(timer for timer in self.timers if timer <= watermark_ms):
            self.timers.remove(due[0])
            heads += [row[1].decode() for row in self.host.on_timer(due[0], self)]
        return heads

    @property
    def steps(self) -> list[Call]:
        shard: Any = self.host.shards.get(7) or self.host._restored(7)
        return list(shard.state.calls)

    @property
    def calls(self) -> list[Call]:
        return [call for call in self.steps if call[1]]

    @property
    def sweeps(self) -> list[int | None]:
        return [until_ms for until_ms, offsets in self.steps if not offsets]


@pytest.fixture
def flink(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    def step(state: Recorder, messages: list[Message], until_ms: int | None) -> list[Any]:
        state.calls.append((until_ms, [message.offset for message in messages]))
        state.touched.add("calls")
        return []

    def gauges(state: Recorder) -> dict[str, float]:
        return {"calls": len(state.calls) + 0.4}

    kernel = Kernel("recorder", 1, Recorder, step, gauges=gauges, sweep_ms=SWEEP_MS)
    monkeypatch.setattr(metrics, "histogram", Metrics.registered)
    monkeypatch.setitem(sys.modules, "kernels.recorder", SimpleNamespace(KERNEL=kernel))
    return Cluster()


def test_a_batch_is_one_step_and_one_heartbeat_once_its_time_is_over(flink: Cluster) -> None:
    flink.send(50, 1, 2)
    assert flink.advance(48) == []
    (heartbeat,) = flink.advance(49)
    assert heartbeat.startswith("0000000000049")
    assert flink.calls == [(50, [1, 2])]
    assert flink.advance(1_000) == []


def test_batches_whose_time_is_over_at_once_are_stepped_in_order(flink: Cluster) -> None:
    flink.send(100, 2)
    flink.send(50, 1)
    flink.send(150, 3)
    assert [int(head[:13]) for head in flink.advance(149)] == [49, 99, 149]
    assert flink.calls == [(50, [1]), (100, [2]), (150, [3])]


def test_a_late_message_joins_the_batch_of_its_own_window_whichever_comes_first(flink: Cluster) -> None:
    flink.late(550, 5)
    flink.send(50, 1)
    flink.advance(49)
    flink.send(550, 4)
    flink.late(550, 3)
    flink.advance(549)
    assert flink.calls == [(50, [1]), (550, [4, 3, 5])]


def test_a_late_message_whose_window_has_no_batch_is_one(flink: Cluster) -> None:
    flink.send(50, 1)
    flink.late(600, 5)
    flink.late(550, 4)
    flink.send(700, 6)
    flink.advance(10_000)
    assert flink.calls == [(50, [1]), (550, [4]), (600, [5]), (700, [6])]


def test_what_is_late_for_its_window_is_given_as_late_and_together_before_what_follows(flink: Cluster) -> None:
    flink.send(550, 1)
    flink.advance(549)
    flink.late(550, 2)
    flink.late(50, 3)
    flink.send(600, 4)
    flink.advance(600)
    assert flink.calls == [(550, [1]), (None, [3, 2]), (600, [4])]


def test_before_its_first_batch_only_what_comes_after_that_is_in_time(flink: Cluster) -> None:
    flink.late(50, 1)
    flink.late(600, 4)
    flink.send(550, 3)
    flink.advance(600)
    assert flink.calls == [(None, [1]), (550, [3]), (600, [4])]


def test_the_first_batch_is_one_though_a_late_message_of_its_window_came_before_it(flink: Cluster) -> None:
    flink.late(50, 2)
    flink.send(50, 1)
    flink.advance(49)
    assert flink.calls == [(50, [1, 2])]


def test_much_that_is_late_is_given_in_parts(flink: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one array would bear all that a partition has missed, and there may be no room for it."""
    flink.send(1_000, 1)
    flink.advance(999)
    for offset in range(2, 9):
        flink.late(500, offset)
    (size,) = {len(part.messages) for parts in flink.host.shards[7].held.values() for part in parts}
    monkeypatch.setattr("engine.host.LATE_BYTES", 3 * size)
    flink.advance(1_000)
    assert flink.calls[1:] == [(None, [2, 3, 4]), (None, [5, 6, 7]), (None, [8])]


def test_what_is_late_where_there_was_no_batch_at_all_is_given_as_late(flink: Cluster) -> None:
    flink.late(50, 1)
    flink.advance(1_000)
    assert flink.calls == [(None, [1])]


def test_sweeps_come_at_their_own_instants(flink: Cluster) -> None:
    flink.send(50, 1)
    flink.advance(100)
    flink.send(3250, 3)
    flink.late(2500, 2)
    flink.advance(3249)
    assert [until_ms for until_ms, _ in flink.steps] == [50, 1000, 2000, 2500, 3000, 3250]
    flink.advance(4100)
    assert flink.sweeps == [1000, 2000, 3000, 4000]


def test_the_end_of_the_stream_is_no_time_to_sweep_to(flink: Cluster) -> None:
    flink.send(50, 1)
    flink.send(2050, 2)
    flink.advance(END_OF_TIME)
    assert [until_ms for until_ms, _ in flink.steps] == [50, 1000, 2000, 2050, 3000]


STEPS = [(50, 1, False, 49), (600, 2, True, 49), (50, 3, True, 60), (550, 4, False, 549), (650, 5, False, 700)]


@pytest.mark.parametrize("share", [0.0, 1e9], ids=["nothing is stored before a sweep", "all is stored at once"])
@pytest.mark.parametrize("cut", range(len(STEPS) + 1))
def test_a_host_that_is_started_anew_goes_on_where_it_was(
    flink: Cluster, cut: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    flink.declare(store_share=share)
    for number, (until_ms, offset, is_late, watermark_ms) in enumerate(STEPS):
        if number == cut:
            flink.start()
        flink.send(until_ms, offset, is_late=is_late)
        flink.advance(watermark_ms)
    if cut == len(STEPS):
        flink.start()
    assert flink.calls == [(50, [1]), (None, [3]), (550, [4]), (600, [2]), (650, [5])]


def test_what_is_held_outlives_a_host(flink: Cluster) -> None:
    flink.send(50, 1)
    flink.late(50, 2)
    flink.start()
    flink.advance(49)
    flink.start()
    flink.advance(10_000)
    assert flink.calls == [(50, [1, 2])]


@pytest.mark.parametrize("waits", [False, True])
def test_a_journal_that_has_the_messages_themselves_is_read(flink: Cluster, waits: bool) -> None:
    """As hosts of earlier versions wrote it."""
    told = [b"%s\x1f0\x1f%d\x1f{}" % (TOPIC.encode(), offset) for offset in range(1, 5)]
    flink.lists["journal"] += [(50, batch.RECORD.join(told[:2])), (None, told[2])]
    if waits:
        flink.lists["held"].append((50, 100, False, told[3]))
        flink.timers.add(99)
    flink.advance(99)
    assert flink.calls == [(50, [1, 2]), (None, [3])] + [(100, [4])] * waits


def test_what_comes_is_written_once(flink: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    flink.declare(store_share=0.0)
    flink.send(50, 1)
    flink.advance(49)  # stored, as its cost is not known yet
    for number in range(2, 6):
        flink.send(50 * number, number)
        flink.advance(50 * number - 1)
    assert [messages for *_, messages in flink.lists["held"]] == [
        b"%s\x1f0\x1f%d\x1f{}" % (TOPIC.encode(), number) for number in range(2, 6)
    ]
    assert flink.lists["journal"] == [(50 * number, [number - 2]) for number in range(2, 6)]


def test_what_is_over_at_once_is_not_written_anew_with_each_of_its_batches(
    flink: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    flink.declare(store_share=1e9)  # all is stored at once
    written: list[Any] = []

    def add(part: Any) -> None:
        written.append(part)
        flink.lists["held"].append(part)

    monkeypatch.setattr(flink.host.held, "add", add)
    for number in range(1, 16):
        flink.send(50 * number, number)
    for number in range(10):
        flink.late(50 * number + 1_000, 100 + number)
    flink.advance(749)
    assert [offsets for _, offsets in flink.calls] == [[number] for number in range(1, 16)]
    assert len(written) == 25 + 10  # as they came, and once more what waits
    assert len(flink.lists["held"]) == 10


def test_of_a_stream_in_which_only_the_time_comes_little_is_kept(flink: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    flink.declare(store_share=0.0)
    flink.declare(sweep_ms=END_OF_TIME // 2)
    monkeypatch.setattr("engine.host.KEPT_PARTS", 10)
    for number in range(1, 60):
        flink.send(50 * number, *([number] if number < 3 else []))
        flink.advance(50 * number - 1)
        assert len(flink.lists["held"]) <= 10 >= len(flink.lists["journal"])
    assert flink.calls == [(50, [1]), (100, [2])]
    flink.start()
    assert flink.calls == [(50, [1]), (100, [2])]


def test_metrics_count_batches_and_messages_and_apart_from_them_what_is_late(flink: Cluster) -> None:
    flink.send(50, 1, 2)
    flink.send(100)
    flink.advance(99)
    flink.late(50, 3)
    flink.late(100, 4)
    flink.advance(149)
    found = {name: sum(values) for name, values in flink.metrics.found.items()}
    assert (found["batches"], found["messages"], found["late_messages"]) == (1, 4, 2)
    assert flink.metrics.found["batch_messages"] == [2]
    assert len(flink.metrics.found["decision_ms"]) == 1
    assert found["table.echoes.rows"] == 0


def test_the_latency_of_a_decision_is_counted_from_the_end_of_its_batch(
    flink: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 0.180)
    flink.send(50, 1)
    flink.advance(49)
    assert flink.metrics.found["decision_ms"] == [130]


def test_gauges_of_a_shard_are_told_once_a_second_and_whole(flink: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    flink.send(50, 1)
    flink.send(100, 2)
    flink.advance(49)
    now_s += 0.9
    flink.advance(99)
    assert flink.metrics.found["shard.7.calls"] == [1]
    now_s += 0.1
    flink.send(150)
    flink.advance(149)
    assert flink.metrics.found["shard.7.calls"] == [1, 2]
    assert "shard.7.journal_messages" in flink.metrics.found


def test_what_is_stepped_through_again_after_a_recovery_is_not_counted_again(flink: Cluster) -> None:
    flink.send(50, 1, 2)
    flink.advance(SWEEP_MS)  # which stores it
    flink.send(SWEEP_MS + 50, 3)
    flink.advance(SWEEP_MS + 49)  # which is in the journal
    flink.start()
    flink.send(SWEEP_MS + 100, 4)
    flink.advance(SWEEP_MS + 99)
    assert [offsets for _, offsets in flink.calls] == [[1, 2], [3], [4]]
    found = {name: sum(values) for name, values in flink.metrics.found.items()}
    assert (found["batches"], found["messages"], found["restored_entries"]) == (1, 1, 1)


def test_what_costs_little_beside_its_steps_is_stored_at_once_and_what_costs_much_is_not(
    flink: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, costs = 0.0, {"step": 1.0, "store": 1.0}

    def spend(of: str) -> None:
        nonlocal now_s
        now_s += costs[of]

    def encode(*_: Any) -> bytes:
        spend("store")
        return b"[]"

    def run(_: Any, state: Recorder, *__: Any) -> list[Lines]:
        spend("step")
        state.touched.add("it")
        return []

    monkeypatch.setattr("time.perf_counter", lambda: now_s)
    monkeypatch.setattr(Recorder, "encode", encode)
    monkeypatch.setattr("engine.host.batch.run", run)

    def journal() -> int:
        return len(flink.lists["journal"])

    flink.send(50, 1)
    flink.advance(49)
    assert journal() == 0  # as a first guess it costs nothing; it turns out to cost as much as a step
    lengths = []
    for number in range(2, 12):
        flink.send(50 * number, number)
        flink.advance(50 * number - 1)
        lengths.append(journal())
    assert lengths == [1, 2, 3, 4, 0, 1, 2, 3, 4, 0]  # a fifth
    costs["store"] = 0.1
    for number in range(12, 20):
        flink.send(50 * number, number)
        flink.advance(50 * number - 1)
    assert journal() == 0
    costs["store"] = 100.0  # once, as if all had stood still
    flink.send(1_000, 20)
    flink.advance(999)
    costs["store"] = 0.1
    flink.send(1_050, 21)
    flink.advance(1_049)
    assert journal() == 0
    costs["store"] = 5.0
    flink.declare(store_share=10.0)  # as of a kernel whose entries are not touched again
    for number in range(22, 30):
        flink.send(50 * number, number)
        flink.advance(50 * number - 1)
        assert journal() == 0


def test_the_collector_leaves_the_state_alone_until_its_job_ends(flink: Cluster) -> None:
    flink.send(50, 1)
    flink.advance(49)
    calls = flink.host.shards[7].state.calls  # type: ignore[attr-defined]
    assert not any(one is calls for one in gc.get_objects())  # which lists what can be collected
    flink.host.close()
    assert any(one is calls for one in gc.get_objects())
    assert not flink.host.shards


class Spoken:
    """Controls as a test says them: what a shard is told at the next step."""

    def __init__(self) -> None:
        self.next: list[str] = []
        self.asked: list[tuple[int, int, list[str]]] = []
        self.is_closed = False

    def words(self, shard: int, until_ms: int, in_force: Mapping[str, Any]) -> Words:
        self.asked.append((shard, until_ms, sorted(in_force)))
        scopes, self.next = self.next, []
        rows = [applied(scope, "halt").row for scope in scopes]
        return Words(rows, [Output("controls_applied", until_ms - 1, row) for row in rows])

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def spoken(flink: Cluster, monkeypatch: pytest.MonkeyPatch) -> Spoken:
    """A kernel that puts out orders: its state has, beside the calls, the controls in force."""

    def step(state: Recorder, messages: list[Message], until_ms: int | None) -> list[Any]:
        state.calls.append((until_ms, [message.row.get("scope", message.offset) for message in messages]))
        state.touched.add("calls")
        return []

    def obeyed(state: Recorder) -> dict[str, Any]:
        return {scope: {} for _, told in state.calls for scope in told if isinstance(scope, str)}

    flink.declare(step=step, obeyed=obeyed)
    spoken = Spoken()
    monkeypatch.setattr("engine.host.listening.opened", lambda source: spoken)
    flink.start = lambda: start(flink)  # type: ignore[method-assign]
    flink.start()
    return spoken


def start(flink: Cluster) -> None:
    flink.metrics = Metrics()
    source = ("here:9092", "recorder", "", "recorder", "live")
    flink.host = Host((Member("recorder", (7,), ("controls_applied",), heartbeat="heartbeat", controls=source),))
    flink.host.open(flink)


def test_a_control_is_a_message_of_the_very_next_batch_and_a_row_before_its_rows(flink: Cluster, spoken: Spoken) -> None:
    flink.send(50, 1)
    spoken.next = ["all", "venue:v"]
    row, heartbeat = flink.advance(49)
    assert row.split("\n") == ["0000000000049liquidations:0"] * 2 and heartbeat.startswith("0000000000049heartbeat")
    assert flink.calls == [(50, [1, "all", "venue:v"])]
    assert spoken.asked == [(0, 50, [])]  # the shard by its partition


def test_a_control_is_told_where_nothing_else_comes(flink: Cluster, spoken: Spoken) -> None:
    flink.send(50)
    flink.advance(49)
    flink.send(100)
    spoken.next = ["all"]
    flink.advance(99)
    assert flink.calls == [(100, ["all"])]


def test_the_journal_of_a_version_without_controls_is_stepped_through_with_an_open_gate(flink: Cluster, spoken: Spoken) -> None:
    flink.declare(store_share=-1.0)
    flink.send(50, 1)
    flink.advance(49)  # no control is told, as in a version that knew none
    assert flink.lists["journal"]
    flink.start()
    flink.send(100, 2)
    spoken.next = ["all"]
    flink.advance(99)
    assert flink.calls == [(None, ["gate"]), (50, [1]), (100, [2, "all"])]


@pytest.mark.parametrize("is_stored", [True, False])
def test_after_a_recovery_the_kernel_obeys_what_it_did_without_being_told_again(
    flink: Cluster, spoken: Spoken, is_stored: bool
) -> None:
    flink.declare(store_share=1e9 if is_stored else -1.0)
    for until_ms, scopes in ((50, ["all"]), (100, []), (150, ["desk:a"])):
        flink.send(until_ms, until_ms)
        spoken.next = scopes
        flink.advance(until_ms - 1)
    assert bool(flink.lists["journal"]) != is_stored
    before = flink.calls
    flink.start()
    spoken.asked.clear()
    flink.send(200, 200)
    flink.advance(199)
    assert flink.calls == [*before, (200, [200])]
    assert spoken.asked == [(0, 200, ["all", "desk:a"])]


def test_a_sweep_asks_too_for_it_may_put_out_orders(flink: Cluster, spoken: Spoken) -> None:
    flink.send(50, 1)
    flink.advance(49)
    spoken.next = ["all"]
    flink.advance(SWEEP_MS)
    assert flink.steps[-1] == (SWEEP_MS, ["all"])


def test_who_ends_listens_no_more(flink: Cluster, spoken: Spoken) -> None:
    flink.host.close()
    assert spoken.is_closed

"""Several feeds and one time: nobody's rows are late for another, and nobody waits for one that is gone."""

import heapq
import random
from collections.abc import Callable
from itertools import count, pairwise

import pytest

from feeds.reports import ALIVE_MS, Reports
from feeds.times import DEAD_MS, FAR_MS, JOIN_MS, JOINS, LEAVES, LIVES, TOLD, Report, Times, encoded, parsed

START_MS = 1_700_000_000_000
DELAY_MS = 100
"""How long jobs wait for rows that are out of order (`engine.run.DELAY_S`)."""
HEARTBEAT_MS, REPORT_MS = 20, 10
CONNECT_MS = 100
"""From joining to the first message of a venue."""


class World:
    """A clock, a broker that takes its time, and a keeper."""

    def __init__(self, seed: int) -> None:
        self.now_ms = START_MS
        self.chance = random.Random(seed)
        self.log: list[tuple[int, Report]] = []  # with the broker's clock
        self.partition: list[tuple[bool, int]] = []  # whether a row, and its timestamp
        self.told: list[tuple[int, int]] = []  # when, and which time
        self.late: list[int] = []
        self.dead: list[str] = []
        self.ahead: list[str] = []  # feeds past whose rows the time has moved
        self.feeds: list[Feed] = []
        self._times = Times()
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._last_ms: dict[str, int] = {}

    def later(self, ms: float, action: Callable[[], None], order: str = "") -> None:
        """Do it so much later; what has one `order` happens in it."""
        at_ms = self.now_ms + round(ms)
        if order:
            at_ms = self._last_ms[order] = max(at_ms, self._last_ms.get(order, 0))
        heapq.heappush(self._queue, (at_ms, next(self._numbers), action))

    def run(self, until_ms: int) -> None:
        while self._queue and self._queue[0][0] <= START_MS + until_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()

    def feed(self, name: str, way_ms: int) -> None:
        """Start a feed."""
        Feed(self, name, way_ms)

    def send(self, report: Report) -> None:
        self.later(self.chance.uniform(2, 15), lambda: self._append(report), report.writer)

    def _append(self, report: Report) -> None:
        at_ms = self.now_ms
        self.log.append((at_ms, report))
        self.later(self.chance.uniform(2, 8), lambda: self._keep(report, at_ms), "keeper")

    def _keep(self, report: Report, at_ms: int) -> None:
        self.dead += self._times.take(report, at_ms)
        time_ms = self._times.time_ms()
        if time_ms >= self._times.told_ms + HEARTBEAT_MS:
            self._times.told_ms = time_ms
            self.told.append((self.now_ms, time_ms))
            self.ahead += [feed.name for feed in self.feeds if feed.is_alive and feed.rows_ms and time_ms > feed.rows_ms]
            self.send(Report("keeper", TOLD, time_ms))
            self.later(self.chance.uniform(1, 10), lambda: self.partition.append((False, time_ms)), "heartbeats")

    def write(self, time_ms: int, delivered: Callable[[], None]) -> None:
        def write() -> None:
            newest_ms = max((ms for is_row, ms in self.partition if not is_row), default=0)
            if time_ms <= newest_ms - DELAY_MS:
                self.late.append(time_ms)
            self.partition.append((True, time_ms))
            self.later(self.chance.uniform(1, 3), delivered)

        self.later(self.chance.uniform(3, 25), write)


class Feed:
    """A feed of a venue whose messages take so long, one each 50 ms."""

    def __init__(self, world: World, name: str, way_ms: int) -> None:
        self.world, self.name, self.way_ms = world, name, way_ms
        self.reports = Reports(name, world.send, lambda *_: None, lambda: world.now_ms)
        self.is_alive = True
        self.rows_ms = self.told_ms = 0
        world.feeds.append(self)
        world.later(CONNECT_MS + way_ms, self.message)
        world.later(REPORT_MS, self.tick)

    def message(self) -> None:
        if not self.is_alive:
            return
        self.rows_ms = self.world.now_ms - self.way_ms
        delivered = self.reports.delivered
        self.world.write(self.rows_ms, lambda: delivered(None, None))
        self.reports.handed_over()
        self.world.later(50, self.message)

    def tick(self) -> None:
        if self.is_alive:
            if self.rows_ms > self.told_ms:
                self.told_ms = self.rows_ms
                self.reports.tell(self.rows_ms)
            self.reports.advance()
            self.world.later(REPORT_MS, self.tick)

    def kill(self) -> None:
        self.is_alive = False

    def stop(self) -> None:
        """Write what is left, and leave."""
        self.is_alive = False
        self.world.later(40, lambda: self.reports.leave(self.rows_ms))


@pytest.fixture(params=range(5))
def world(request: pytest.FixtureRequest) -> World:
    """Half a minute: one feed is 300 ms away, one is stopped, and one is killed and joins again."""
    world = World(request.param)
    Feed(world, "near", 10)
    Feed(world, "far", 300)
    stopped, killed = Feed(world, "stopped", 20), Feed(world, "killed", 30)
    world.later(5_000, stopped.stop)
    world.later(10_000, killed.kill)
    world.later(20_000, lambda: world.feed("again", 30))
    world.run(30_000)
    return world


def test_no_row_is_late_and_the_time_is_never_past_a_feed_that_lives(world: World) -> None:
    assert sum(is_row for is_row, _ in world.partition) > 1_500
    assert world.late == []
    assert world.ahead == []


def test_the_time_goes_on_with_the_slowest_feed_and_waits_for_none_that_is_gone(world: World) -> None:
    assert world.dead == ["killed"]
    assert all(before[1] < after[1] for before, after in pairwise(world.told))
    stops = [
        (before[0] - START_MS, after[0] - before[0]) for before, after in pairwise(world.told) if after[0] > before[0] + 150
    ]
    assert [10_000 <= since <= 10_500 for since, ms in stops if ms > 1_000] == [True], "it waits for the one that was killed"
    assert max(ms for _, ms in stops) < DEAD_MS + 500
    # One that is 300 ms away, a row each 50 ms, and the ways to the broker.
    behind_ms = [at - time_ms for at, time_ms in world.told if at > START_MS + 1_000 and not 10_000 < at - START_MS < 15_500]
    assert max(behind_ms) < 300 + 50 + 150


def test_whoever_takes_over_goes_on_where_the_last_keeper_was(world: World) -> None:
    for end in range(len(world.log) // 2, len(world.log), 397):
        whole, recent = Times(), Times()
        now_ms = world.log[end][0]
        for at_ms, report in world.log[: end + 1]:
            whole.take(report, at_ms)
            if at_ms >= now_ms - 2 * DEAD_MS:
                recent.take(report, at_ms)
        assert (recent.writers, recent.told_ms, recent.time_ms()) == (whole.writers, whole.told_ms, whole.time_ms())


def taken(*reports: tuple[int, str, str, int]) -> Times:
    """Reports: when by the broker's clock, by whom, its kind and its time, in ms from the start."""
    times = Times()
    for at_ms, writer, kind, time_ms in reports:
        times.take(Report(writer, kind, START_MS + time_ms), START_MS + at_ms)
    return times


def test_the_time_is_the_minimum_over_those_who_live_and_never_steps_back() -> None:
    assert taken((0, "a", LIVES, 50), (1, "b", LIVES, 20)).time_ms() == START_MS + 20
    assert taken((0, "k", TOLD, 40), (0, "a", LIVES, 50), (1, "b", JOINS, 1 - JOIN_MS)).time_ms() == START_MS + 40
    assert taken((0, "a", LIVES, 50), (1, "b", LIVES, 20), (2, "b", LEAVES, 30)).time_ms() == START_MS + 50


def test_the_last_that_leaves_says_how_far_it_all_went() -> None:
    assert (
        taken((0, "a", LIVES, 50), (1, "b", LIVES, 20), (2, "a", LEAVES, 60), (3, "b", LEAVES, 40)).time_ms() == START_MS + 40
    )


def test_one_that_is_silent_is_held_for_dead_by_the_brokers_clock_and_lives_again_when_it_speaks() -> None:
    times = taken((0, "a", LIVES, 0), (0, "b", LIVES, 0), (DEAD_MS, "b", LIVES, 5_000))
    assert times.time_ms() == START_MS
    assert times.take(Report("b", LIVES, START_MS + 5_001), START_MS + DEAD_MS + 1) == ["a"]
    assert times.time_ms() == START_MS + 5_001
    times.take(Report("a", LIVES, START_MS + 100), START_MS + 6_000)
    assert times.writers.keys() == {"a", "b"}


def test_nobody_waits_for_one_that_is_more_than_a_minute_behind_the_broker() -> None:
    times = taken((0, "a", LIVES, -FAR_MS), (0, "b", LIVES, -10))
    assert times.time_ms() == START_MS - FAR_MS
    times.take(Report("b", LIVES, START_MS), START_MS + 1)
    assert times.time_ms() == START_MS


def test_a_report_is_read_as_it_was_written_and_anything_else_is_none() -> None:
    report = Report("deribit host 1a", LIVES, START_MS)
    assert parsed(encoded(report)) == report
    for value in (None, b"", b"7", b"{}", b'{"writer": "a", "kind": "sleeps", "event_at": "2026-01-01T00:00:00Z"}'):
        assert parsed(value) is None


def test_a_time_is_reported_when_all_rows_before_it_are_acknowledged() -> None:
    sent: list[Report] = []
    failed: list[str] = []
    clock_ms = [START_MS]
    reports = Reports("a", sent.append, lambda error, _: failed.extend([error] if error else []), lambda: clock_ms[0])
    assert sent == [Report("a", JOINS, START_MS - JOIN_MS)]
    first = reports.delivered
    reports.handed_over()
    reports.handed_over()
    reports.tell(START_MS + 1)
    second = reports.delivered
    reports.handed_over()
    reports.tell(START_MS + 2)
    second(None, None)
    first(None, None)
    reports.advance()
    assert len(sent) == 1, "one row of the first span is on its way"
    first("no room", None)
    reports.advance()
    assert sent[1:] == [Report("a", LIVES, START_MS + 2)]
    assert failed == ["no room"]
    reports.advance()
    assert len(sent) == 2, "nothing is new"
    clock_ms[0] += ALIVE_MS
    reports.advance()
    assert sent[2:] == [Report("a", LIVES, START_MS + 2)]
    reports.leave(START_MS + 7)
    assert sent[3:] == [Report("a", LEAVES, START_MS + 7)]

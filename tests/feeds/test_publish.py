"""Replay: when each record is published; and a broker that is not there."""

import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Record
from feeds import publish as publishing
from feeds.capture import Converted, Line, convert, read
from feeds.publish import END_MS, FEED_TABLES, HEARTBEAT_MS, VENUE_TIMES_MS, Publisher, PublishError, replay
from feeds.times import JOINS, LEAVES, LIVES, Report
from schemas.records import TABLES
from schemas.rows import Fault, instant_ms, instant_us, parted, to_ms

START_MS = 1_700_000_000_000
START_US = START_MS * 1000
INDEX = {"venue": "v", "underlying": "BTC", "quote_currency": "USD", "price_usd": 1.0}


class Timeline:
    """A clock that only sleep moves, and a sink that notes when each record came."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.published: list[tuple[float, Record]] = []
        self.shipped = 0

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        assert self.shipped == len(self.published), "what was published waits for what is yet to happen"
        self.now_s += seconds

    def publish(self, record: Record) -> None:
        self.published.append((self.now_s - 1000.0, record))

    def ship(self) -> None:
        self.shipped = len(self.published)


def received(offset_us: int, *, kind: str = "message", fault: Fault | None = None) -> Converted:
    record = Record("trades", (START_US + offset_us) // 1000, {"offset_us": offset_us})
    line = Line("binance", "file", 1, START_US + offset_us, b"{}", "control" if kind == "control" else "message", fault)
    return Converted(line, [] if kind == "control" else [record], "trades", fault)


def times(offsets_us: list[int], speed: float | None) -> list[float]:
    timeline = Timeline()
    lines = [received(offset) for offset in offsets_us]
    tallies = list(replay(lines, timeline, speed, clock=timeline.clock, sleep=timeline.sleep))
    assert len(tallies) == len(offsets_us)
    assert [record.row["offset_us"] for _, record in timeline.published] == offsets_us
    return [at for at, _ in timeline.published]


@given(st.lists(st.integers(0, 10**9)).map(sorted), st.floats(0.01, 1000))
def test_records_keep_their_distances_divided_by_the_speed(offsets_us: list[int], speed: float) -> None:
    expected = [(offset - offsets_us[0]) / 1e6 / speed for offset in offsets_us]
    assert times(offsets_us, speed) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.integers(0, 10**9)))
def test_without_a_speed_nothing_waits(offsets_us: list[int]) -> None:
    assert set(times(offsets_us, None)) <= {0.0}


def test_a_receive_time_that_steps_back_does_not_wait_and_does_not_shift_what_follows() -> None:
    assert times([0, 2_000_000, 1_000_000, 3_000_000], 1.0) == pytest.approx([0, 2, 2, 3])


def test_a_line_without_a_time_of_its_own_waits_for_none() -> None:
    timeline = Timeline()
    broken = received(-START_US, fault=Fault("received", "a time of receipt", "x"))
    lines = [broken, received(0), received(9_000_000, kind="control"), received(1_000_000)]
    (*_, tally) = replay(lines, timeline, 1.0, clock=timeline.clock, sleep=timeline.sleep)
    assert [at for at, _ in timeline.published] == pytest.approx([0, 0, 1])
    assert (tally.lines, tally.rejected) == (4, 1)


@pytest.mark.parametrize("speed", [0, -1.0, float("nan")])
def test_a_speed_must_be_above_0(speed: float) -> None:
    with pytest.raises(ValueError, match="speed: expected a number above 0"):
        replay([], Timeline(), speed)


def test_a_replayed_capture_publishes_every_record_of_every_line(deribit_log: Path) -> None:
    timeline = Timeline()
    *_, tally = replay(convert(read("deribit", deribit_log)), timeline, 10, clock=timeline.clock, sleep=timeline.sleep)
    records = [record for one in convert(read("deribit", deribit_log)) for record in one.records]
    assert [record for _, record in timeline.published] == records
    assert tally.messages == {"tickers": 89, "order_books": 46}
    assert timeline.published[-1][0] == pytest.approx(30.36 / 10, abs=0.1)


def test_a_broker_that_is_not_there_is_an_error_and_not_a_hang() -> None:
    start = time.monotonic()
    with pytest.raises(PublishError, match=r"no Kafka broker answers at 127\.0\.0\.1:1 within 0\.5 s"):
        Publisher("127.0.0.1:1", timeout_s=0.5)
    assert time.monotonic() - start < 5


class Broker:
    """A producer that notes what it is given; each topic has two partitions."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.sent: list[tuple[str, bytes | None, int, int]] = []

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics={TABLES[name].topic: SimpleNamespace(partitions=[0, 1]) for name in FEED_TABLES})

    def produce(self, topic: str, value: bytes | None, key: str, partition: int, timestamp: int) -> None:
        self.sent.append((topic, value, partition, timestamp))

    def poll(self, timeout: float) -> None: ...

    def flush(self, timeout: float) -> int:
        return 0


def test_time_is_told_in_every_partition_that_feeds_write_and_never_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "Producer", Broker)
    with Publisher("nowhere") as publisher:
        publisher.publish(Record("index_prices", 5_000, INDEX))
        publisher.tell_time(4_000)
        publisher.tell_time(9_000)
        publisher.publish(Record("index_prices", 8_000, INDEX))
    sent = publisher._producer.sent
    everywhere = {(TABLES[name].topic, partition) for name in FEED_TABLES for partition in (0, 1)}
    beats = [(at, (topic, partition)) for topic, value, partition, at in sent if value is None]
    assert [at for at, _ in beats] == sorted(at for at, _ in beats)
    assert {at for at, _ in beats} == {5_000, 9_000, 9_000 + END_MS}
    assert all({where for at, where in beats if at == told} == everywhere for told in (5_000, 9_000, 9_000 + END_MS))
    assert [at for _, value, _, at in sent if value is not None] == [5_000, 8_000]


def test_a_status_without_a_time_of_its_own_makes_no_message_late_and_one_with_a_time_tells_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "Producer", Broker)
    status = {"venue": "v", "instrument": "A", "received_at": instant_us(START_US + 900_000), "is_halted": False}
    with Publisher("nowhere") as publisher:
        publisher.publish(Record("index_prices", START_MS, INDEX))
        publisher.publish(Record("trading_halts", START_MS + 900, status))
        publisher.publish(Record("trading_halts", START_MS + 500, status))
    beats = {at for _, value, _, at in publisher._producer.sent if value is None}
    assert beats == {START_MS, START_MS + 500, START_MS + 900 + END_MS}


def test_the_time_never_overtakes_a_row_that_waits_for_others_of_its_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "Producer", Broker)
    with Publisher("nowhere") as publisher:
        for ms in (0, 0, 0, HEARTBEAT_MS - 1, HEARTBEAT_MS, HEARTBEAT_MS):
            row = {"venue": "v", "instrument": "A", "received_at": instant_us((5_000 + ms) * 1000)}
            publisher.publish(Record("order_books", 5_000 + ms, row))
        publisher.publish(Record("index_prices", 6_000, INDEX))
    sent = publisher._producer.sent
    told_ms = 0
    for _, value, _, at in sent:
        assert at >= told_ms
        told_ms = told_ms if value is not None else at
    told = TABLES["venue_times"].topic
    assert [(len(parted(value)), at) for topic, value, _, at in sent if value is not None and topic != told] == [
        (3, 5_000),
        (1, 5_000 + HEARTBEAT_MS - 1),
        (2, 5_000 + HEARTBEAT_MS),
        (1, 6_000),
    ]


def test_a_feed_tells_the_time_as_often_as_it_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "Producer", Broker)
    monkeypatch.setenv("GAMMAFLOW_HEARTBEAT_MS", "20")
    with Publisher("nowhere") as publisher:
        for ms in range(0, 100, 5):
            publisher.publish(Record("index_prices", 5_000 + ms, INDEX))
    beats = {at for _, value, _, at in publisher._producer.sent if value is None}
    assert beats == {5_000, 5_020, 5_040, 5_060, 5_080, 5_095 + END_MS}


@pytest.mark.parametrize("told", ["", "0", "-5", "soon"])
def test_a_setting_that_is_no_time_between_heartbeats_is_refused(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("GAMMAFLOW_HEARTBEAT_MS", told)
    with pytest.raises(PublishError, match="GAMMAFLOW_HEARTBEAT_MS: expected milliseconds above 0, got"):
        Publisher("127.0.0.1:1", timeout_s=0.5)


def sent_by(monkeypatch: pytest.MonkeyPatch, records: list[Record]) -> list[tuple[str, bytes | None, int, int]]:
    """What a feed of these records and its end writes: topic, value, partition, timestamp."""
    monkeypatch.setattr(publishing, "Producer", Broker)
    with Publisher("nowhere") as publisher:
        for record in records:
            publisher.publish(record)
    sent: list[tuple[str, bytes | None, int, int]] = publisher._producer.sent
    return sent


def trade(venue: str, received_ms: int, ahead_ms: int = 0) -> Record:
    """A trade of a venue whose clock is so far ahead."""
    row = {"venue": venue, "instrument": "A", "received_at": instant_us(received_ms * 1000), "trade_id": str(received_ms)}
    return Record("trades", received_ms + ahead_ms, {**row, "event_at": instant_ms(received_ms + ahead_ms)})


def trades(seconds: int, **ahead_ms: int) -> list[Record]:
    """Ten trades a second of each venue, each received 3 ms after the one before it; their way takes 4 ms."""
    return [
        trade(venue, START_MS + 100 * number + 3 * place, ahead - 4)
        for number in range(10 * seconds)
        for place, (venue, ahead) in enumerate(ahead_ms.items())
    ]


def told_times(sent: list[tuple[str, bytes | None, int, int]], partition: int) -> list[tuple[dict[str, Any], int]]:
    """Rows of `venue_times` in a partition, with their timestamps."""
    topic = TABLES["venue_times"].topic
    return [(orjson.loads(value), at) for name, value, part, at in sent if (name, part) == (topic, partition) and value]


def test_a_venue_that_is_ahead_moves_no_topics_time_and_keeps_its_own_in_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    records = trades(10, ahead=1_270, right=0)
    sent = sent_by(monkeypatch, records)
    written = [(orjson.loads(value), at) for topic, value, _, at in sent if topic == TABLES["trades"].topic and value]
    assert [row for row, _ in written] == [record.row for record in records]
    for row, at in written:
        assert 0 <= to_ms(row["received_at"]) - at <= 4
    told_ms = 0
    for _, value, _, at in sent:
        assert at >= told_ms - 4
        told_ms = told_ms if value is not None else at
    assert told_ms == max(at for _, at in written) + END_MS


def test_each_venue_that_has_spoken_is_told_its_own_time_in_every_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [*trades(10, ahead=1_270, right=0), *trades(20, right=0)[100:]]
    sent = sent_by(monkeypatch, records)
    assert told_times(sent, 0) == told_times(sent, 1)
    told = told_times(sent, 0)
    beats = {at for _, value, _, at in sent if value is None}
    assert {at for _, at in told} <= beats
    for row, at in told:
        # As of its newest row: what it says next may be an interval of heartbeats later.
        assert 0 <= at + row["offset_ms"] - to_ms(row["event_at"]) <= HEARTBEAT_MS + END_MS
        assert list(row) == list(TABLES["venue_times"].columns)
    by_venue = {venue: [(row, at) for row, at in told if row["venue"] == venue] for venue in ("ahead", "right")}
    assert {row["offset_ms"] for row, _ in by_venue["right"]} == {0}
    assert 199 <= len(by_venue["right"]) <= 200
    assert len(by_venue["ahead"]) == 100
    assert [row["offset_ms"] for row, _ in by_venue["ahead"]][-1] == 1_266
    assert max(at for _, at in by_venue["ahead"]) < START_MS + 10_200, "one that is silent is not said to be alive"


def test_what_a_venue_said_before_the_time_that_is_told_has_been_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the venue's own clock, and rows that wait for others of their instant too."""
    books = [record._replace(table="order_books") for record in trades(10, ahead=1_270, right=0)]
    sent = sent_by(monkeypatch, books)
    unwritten = [(record.row["venue"], record.event_ms, record.row["received_at"]) for record in books]
    venue_times, order_books = TABLES["venue_times"].topic, TABLES["order_books"].topic
    count = 0
    for topic, value, _, _ in sent:
        if topic == order_books and value:
            for row in map(orjson.loads, parted(value)):
                unwritten.remove((row["venue"], to_ms(row["event_at"]), row["received_at"]))
        elif topic == venue_times and value:
            row = orjson.loads(value)
            before = [got for got in unwritten if got[0] == row["venue"] and got[1] < to_ms(row["event_at"])]
            assert all(received_at > row["received_at"] for _, _, received_at in before), "it was got, and is not written"
            assert all(to_ms(row["event_at"]) - ms <= 4 for _, ms, _ in before), "the way that messages take"
            count += 1
    assert not unwritten
    assert count > 200


def test_a_feed_that_only_keeps_time_says_nothing_of_venues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "Producer", Broker)
    with Publisher("nowhere") as publisher:
        for record in trades(1, right=0):
            publisher.publish(record)
        for second in range(1, 9):
            publisher.tell_time(START_MS + second * 10_000)
    told = told_times(publisher._producer.sent, 0)
    assert [row["venue"] for row, _ in told] == ["right"] * len(told)
    assert max(at for _, at in told) == START_MS + 10_000, "the first time that is told after its last word"
    assert [at for topic, value, _, at in publisher._producer.sent if value is None][-1] == START_MS + 80_000 + END_MS


def test_time_that_a_feed_keeps_by_a_clock_that_is_ahead_makes_no_venue_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "Producer", Broker)
    with Publisher("nowhere") as publisher:
        for record in trades(10, late=-30_000, later=-30_060):
            publisher.publish(record)
        newest_ms = max(at for *_, at in publisher._producer.sent)
        publisher.tell_time(START_MS + 9_900 - 5_000)
        assert max(at for *_, at in publisher._producer.sent) == newest_ms
        publisher.tell_time(START_MS + 19_900)
    assert newest_ms < START_MS + 9_900 - 30_000
    assert max(at for *_, at in publisher._producer.sent) == pytest.approx(START_MS + 19_900 - 30_000 + END_MS, abs=10)


def test_rows_of_two_venues_share_a_record_only_where_their_timestamps_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    venues = {"ahead": 1_270, "right": 0, "too": 0}
    books = [
        trade(venue, START_MS + 100 * number, ahead - 4)._replace(table="order_books")
        for number in range(50)
        for venue, ahead in venues.items()
    ]
    sent = sent_by(monkeypatch, books)
    for topic, value, _, at in sent:
        if topic == TABLES["order_books"].topic and value:
            rows = [orjson.loads(row) for row in parted(value)]
            assert len({(row["event_at"], row["received_at"]) for row in rows}) == 1
            assert {at} == {to_ms(rows[0]["received_at"])} if rows[0]["venue"] == "ahead" else {to_ms(rows[0]["event_at"])}


def test_the_same_stream_has_the_same_timestamps_however_it_is_cut_into_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    books = [record._replace(table="order_books") for record in trades(5, ahead=1_270, right=0)]

    def times(is_shipped: bool) -> list[tuple[Any, int]]:
        monkeypatch.setattr(publishing, "Producer", Broker)
        with Publisher("nowhere") as publisher:
            for record in books:
                publisher.publish(record)
                if is_shipped:
                    publisher.ship()
        return [
            (orjson.loads(row), at)
            for topic, value, _, at in publisher._producer.sent
            if topic == TABLES["order_books"].topic and value
            for row in parted(value)
        ]

    assert times(is_shipped=True) == times(is_shipped=False)


def test_heartbeats_go_into_busy_partitions_too_and_after_the_rows_that_they_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sent_by(monkeypatch, [Record("index_prices", 5_000 + ms, INDEX) for ms in range(0, 1_000, 5)])
    beats: dict[tuple[str, int], list[int]] = {}
    for topic, value, partition, at in sent:
        told_ms = beats.setdefault((topic, partition), [])
        if value is None:
            told_ms.append(at)
        else:
            assert at >= max(told_ms)
    assert len(beats) == 2 * len(FEED_TABLES)
    for times_ms in beats.values():
        assert times_ms == [*range(5_000, 6_000, HEARTBEAT_MS), 5_995 + END_MS]


class Acknowledging(Broker):
    """A producer that says what became of a record when it is polled."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        assert not config["delivery.report.only.error"]
        self.unsaid: list[Any] = []
        self.is_slow = False

    def produce(self, topic: str, value: bytes | None, key: str, partition: int, timestamp: int, on_delivery: Any) -> None:  # type: ignore[override]
        super().produce(topic, value, key, partition, timestamp)
        self.unsaid.append(on_delivery)

    def purge(self) -> None: ...

    def poll(self, timeout: float) -> None:
        while self.unsaid and not self.is_slow:
            self.unsaid.pop(0)(None, None)

    def flush(self, timeout: float) -> int:
        self.is_slow = False
        self.poll(timeout)
        return 0


class Topic:
    """A reporter that notes what it is given."""

    reports: ClassVar[list[Report]]

    def __init__(self, servers: str, timeout_s: float) -> None:
        Topic.reports = []

    def send(self, report: Report) -> None:
        self.reports.append(report)

    def confirm(self) -> None: ...

    flush = confirm


def test_one_writer_of_several_reports_its_time_and_writes_no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "Producer", Acknowledging)
    monkeypatch.setattr(publishing, "Reporter", Topic)
    now_ms = time.time_ns() // 1_000_000
    with Publisher("nowhere", writer="v") as publisher:
        for ms in range(0, 100, 5):
            publisher.publish(Record("index_prices", now_ms + ms, INDEX))
        publisher.tick()
        publisher.tick()
        assert Topic.reports[-1] == Report("v", LIVES, now_ms + 95)
        publisher._producer.is_slow = True
        publisher.publish(Record("index_prices", now_ms + 200, INDEX))
        publisher.tick()
        publisher.tick()
        assert Topic.reports[-1].time_ms < now_ms + 200, "the broker has not acknowledged that row"
    assert all(value is not None for _, value, _, _ in publisher._producer.sent)
    kinds = [report.kind for report in Topic.reports]
    assert kinds == [JOINS, *[LIVES] * (len(kinds) - 2), LEAVES]
    times_ms = [report.time_ms for report in Topic.reports]
    assert times_ms == sorted(times_ms)
    assert times_ms[-1] == now_ms + 200 + END_MS


def test_a_writer_that_fails_does_not_say_that_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "Producer", Acknowledging)
    monkeypatch.setattr(publishing, "Reporter", Topic)
    publisher = Publisher("nowhere", writer="v")
    publisher._producer.is_slow = True
    publisher.publish(Record("index_prices", START_MS, INDEX))
    publisher._producer.unsaid.pop()(SimpleNamespace(str=lambda: "no room"), SimpleNamespace(topic=lambda: "t"))
    with pytest.raises(PublishError, match="no room"), publisher:
        publisher.tick()
    assert [report.kind for report in Topic.reports] == [JOINS]


def test_a_venue_that_speaks_all_the_time_is_told_its_time_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = sent_by(monkeypatch, [trade("v", START_MS + ms) for ms in range(0, 1_000, 5)])
    times_ms = [at for _, at in told_times(sent, 0)]
    assert all(after - before >= VENUE_TIMES_MS for before, after in pairwise(times_ms))
    assert len(times_ms) == 10

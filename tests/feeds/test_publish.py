"""Replay: when each record is published; and a broker that is not there."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Record
from feeds import publish as publishing
from feeds.capture import Converted, Line, convert, read
from feeds.publish import AHEAD_MS, END_MS, FEED_TABLES, HEARTBEAT_MS, Publisher, PublishError, replay, trusted_ms
from schemas.records import TABLES
from schemas.rows import Fault, instant_us, parted

START_US = 1_700_000_000_000_000


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
    row = {"venue": "v", "underlying": "BTC", "price_usd": 1.0}
    with Publisher("nowhere") as publisher:
        publisher.publish(Record("index_prices", 5_000, row))
        publisher.tell_time(4_000)
        publisher.tell_time(9_000)
        publisher.publish(Record("index_prices", 8_000, row))
    sent = publisher._producer.sent
    everywhere = {(TABLES[name].topic, partition) for name in FEED_TABLES for partition in (0, 1)}
    beats = [(at, (topic, partition)) for topic, value, partition, at in sent if value is None]
    assert [at for at, _ in beats] == sorted(at for at, _ in beats)
    assert {at for at, _ in beats} == {5_000, 9_000, 9_000 + END_MS}
    assert all({where for at, where in beats if at == told} == everywhere for told in (5_000, 9_000, 9_000 + END_MS))
    assert [at for _, value, _, at in sent if value is not None] == [5_000, 8_000]


def test_the_time_never_overtakes_a_row_that_waits_for_others_of_its_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "Producer", Broker)
    with Publisher("nowhere") as publisher:
        for ms in (0, 0, 0, HEARTBEAT_MS - 1, HEARTBEAT_MS, HEARTBEAT_MS):
            row = {"venue": "v", "instrument": "A", "received_at": instant_us((5_000 + ms) * 1000)}
            publisher.publish(Record("order_books", 5_000 + ms, row))
        publisher.publish(Record("index_prices", 6_000, {"venue": "v", "underlying": "BTC", "price_usd": 1.0}))
    sent = publisher._producer.sent
    told_ms = 0
    for _, value, _, at in sent:
        assert at >= told_ms
        told_ms = told_ms if value is not None else at
    assert [(len(parted(value)), at) for _, value, _, at in sent if value is not None] == [
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
            publisher.publish(Record("index_prices", 5_000 + ms, {"venue": "v", "underlying": "BTC", "price_usd": 1.0}))
    beats = {at for _, value, _, at in publisher._producer.sent if value is None}
    assert beats == {5_000, 5_020, 5_040, 5_060, 5_080, 5_095 + END_MS}


@pytest.mark.parametrize("told", ["", "0", "-5", "soon"])
def test_a_setting_that_is_no_time_between_heartbeats_is_refused(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("GAMMAFLOW_HEARTBEAT_MS", told)
    with pytest.raises(PublishError, match="GAMMAFLOW_HEARTBEAT_MS: expected milliseconds above 0, got"):
        Publisher("127.0.0.1:1", timeout_s=0.5)


@pytest.mark.parametrize(
    ("ahead_ms", "trusted"), [(-5_000, -5_000), (0, 0), (AHEAD_MS, AHEAD_MS), (AHEAD_MS + 1, 0), (3_600_000, 0)]
)
def test_a_clock_that_is_far_ahead_moves_no_topics_time(ahead_ms: int, trusted: int) -> None:
    received_ms = 1_700_000_000_000
    row = {"received_at": instant_us(received_ms * 1000 + 999)}
    assert trusted_ms(Record("trades", received_ms + ahead_ms, row)) == received_ms + trusted


def test_a_record_without_a_time_of_receipt_has_its_event_time() -> None:
    assert trusted_ms(Record("book_depth", 7, {})) == 7

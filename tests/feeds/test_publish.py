"""Replay: when each record is published; and a broker that is not there."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Record
from feeds.capture import Converted, Line, convert, read
from feeds.publish import Publisher, PublishError, replay
from schemas.rows import Fault

START_US = 1_700_000_000_000_000


class Timeline:
    """A clock that only sleep moves, and a sink that notes when each record came."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.published: list[tuple[float, Record]] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds

    def publish(self, record: Record) -> None:
        self.published.append((self.now_s - 1000.0, record))


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

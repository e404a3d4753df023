"""How far a venue's clock is from ours: told apart from the way of messages, from old news, and from one wild message."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.capture import convert, merged, read
from feeds.clocks import AHEAD_MS, BEHIND_MS, FAR_MS, Clocks, error_ms
from feeds.publish import FEED_TABLES, SPOKEN
from schemas.rows import instant_us, to_ms

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
START_MS = 1_700_000_000_000
WAIT_MS = 100
"""How long jobs wait for what is out of order."""


class Message(NamedTuple):
    """What one venue says, in ms from `START_MS` on."""

    venue: str
    received_ms: int
    ahead_ms: int  # its event time less its receipt


def said(clocks: Clocks, message: Message) -> int:
    """The timestamp of a message, in ms from `START_MS` on."""
    row = {"venue": message.venue, "received_at": instant_us((START_MS + message.received_ms) * 1000)}
    event_ms = START_MS + message.received_ms + message.ahead_ms
    return clocks.timestamp_ms(row, event_ms, is_sample=True) - START_MS


def timestamps(messages: Iterable[Message]) -> list[int]:
    clocks = Clocks()
    return [said(clocks, message) for message in messages]


def steady(venue: str, offset_ms: int, seconds: int, *, from_ms: int = 0, every_ms: int = 40) -> list[Message]:
    """A venue whose clock is so far ahead and whose messages take 5 to 35 ms."""
    ways_ms = (5, 20, 35, 9, 14)
    times_ms = range(from_ms, from_ms + seconds * 1000, every_ms)
    return [Message(venue, at, offset_ms - ways_ms[number % len(ways_ms)]) for number, at in enumerate(times_ms)]


def together(*streams: list[Message]) -> list[Message]:
    """Several venues' messages in the order of their receipt."""
    return sorted((message for stream in streams for message in stream), key=lambda message: message.received_ms)


def most_late_ms(messages: list[Message], from_ms: int = 0) -> int:
    """How far the latest message from an instant on is behind the newest timestamp before it."""
    newest_ms, late_ms = -(10**9), 0
    for message, at_ms in zip(messages, timestamps(messages), strict=True):
        if message.received_ms >= from_ms:
            late_ms = max(late_ms, newest_ms - at_ms)
        newest_ms = max(newest_ms, at_ms)
    return late_ms


@pytest.mark.parametrize("offset_ms", [-200, -20, 0, 20, AHEAD_MS])
def test_a_clock_that_is_right_but_for_the_way_of_its_messages_is_taken_at_its_word(offset_ms: int) -> None:
    messages = steady("v", offset_ms, 20)
    assert timestamps(messages) == [message.received_ms + message.ahead_ms for message in messages]


@pytest.mark.parametrize("offset_ms", [130, 400, 1_270, 30_000, 59_000])
def test_a_clock_that_is_ahead_makes_no_venue_late(offset_ms: int) -> None:
    messages = together(steady("ahead", offset_ms, 30), steady("right", 0, 30, from_ms=7))
    assert most_late_ms(messages) < WAIT_MS


@pytest.mark.parametrize("offset_ms", [-600, -1_270, -5_000, -59_000])
def test_a_clock_that_is_behind_another_is_late_for_no_longer_than_it_takes_to_know(offset_ms: int) -> None:
    messages = together(steady("behind", offset_ms, 30), steady("right", 0, 30, from_ms=7))
    assert most_late_ms(messages, from_ms=3_000) < WAIT_MS


def test_where_every_venue_is_behind_it_is_our_own_clock_that_is_ahead() -> None:
    messages = together(steady("a", -1_270, 20), steady("b", -1_300, 20, from_ms=7))
    assert timestamps(messages) == [message.received_ms + message.ahead_ms for message in messages]


def test_offsets_are_told_apart_by_venue() -> None:
    clocks = Clocks()
    for message in together(steady("a", 1_270, 20), steady("b", 0, 20), steady("c", -5_000, 20)):
        said(clocks, message)
    # The fastest message takes 5 ms, which no clock tells from an offset.
    assert [clocks.offset_ms(venue) for venue in ("a", "b", "c", "unheard")] == [1_265, 0, -5_005, 0]


def test_a_clock_that_drifts_is_followed() -> None:
    drifting = [
        message._replace(ahead_ms=message.ahead_ms + message.received_ms // 1000) for message in steady("drifting", 1_000, 600)
    ]
    messages = together(drifting, steady("right", 0, 600, from_ms=7))
    assert most_late_ms(messages) < WAIT_MS


@pytest.mark.parametrize("jump_ms", [300, 1_270, 50_000, 3_600_000, -300, -5_000, -50_000, -3_600_000])
@pytest.mark.parametrize("at_ms", [0, 400, 10_000])
def test_one_message_whose_time_has_jumped_changes_nothing_for_the_others(jump_ms: int, at_ms: int) -> None:
    others = together(steady("ahead", 1_270, 20), steady("right", 0, 20, from_ms=7))
    for venue, offset_ms in (("ahead", 1_270), ("right", 0)):
        wild = Message(venue, at_ms, offset_ms + jump_ms)
        clocks, undisturbed = Clocks(), Clocks()
        newest_ms = -(10**9)
        for message in together([wild], others):
            at = said(clocks, message)
            if message is wild:
                newest_ms = max(newest_ms, at)
                assert at == at_ms or jump_ms < 0, "a time that is ahead is that of its receipt"
            else:
                assert at == said(undisturbed, message)
                assert at >= newest_ms - WAIT_MS
                newest_ms = max(newest_ms, at)


@pytest.mark.parametrize(("before_ms", "after_ms"), [(0, 1_270), (1_270, 0), (1_270, 30_000), (0, -5_000)])
def test_a_clock_that_jumps_and_stays_there_is_followed_after_some_seconds(before_ms: int, after_ms: int) -> None:
    jumping = steady("jumping", before_ms, 20) + steady("jumping", after_ms, 20, from_ms=20_000)
    messages = together(jumping, steady("right", 0, 40, from_ms=7))
    assert most_late_ms(messages[: messages.index(jumping[500])]) < WAIT_MS
    assert most_late_ms(messages, from_ms=26_000) < WAIT_MS
    if after_ms > before_ms:
        assert most_late_ms(messages) < WAIT_MS


def test_old_trades_at_subscription_are_news_of_no_clock() -> None:
    history = [Message("v", 0, -age_ms) for age_ms in range(580_000, 900, -1_000)]
    messages = together(history, steady("v", 1_270, 20, from_ms=50), steady("right", 0, 20, from_ms=7))
    clocks = Clocks()
    written = [said(clocks, message) for message in messages]
    assert written[: len(history)] == [message.ahead_ms for message in history], "an old time is what it is"
    assert clocks.offset_ms("v") == 1_265


def test_a_snapshot_with_a_time_of_its_own_is_no_clock_that_is_behind() -> None:
    snapshots = [Message("v", number * 30, -2_935 + number * 200) for number in range(10)]
    messages = together(snapshots, steady("v", 0, 20, from_ms=400))
    assert timestamps(messages) == [message.received_ms + message.ahead_ms for message in messages]


def test_a_time_that_is_borrowed_from_the_receipt_is_not_corrected() -> None:
    messages = together(steady("v", 1_270, 20), [Message("v", at, 0) for at in range(10, 20_000, 333)])
    for message, at_ms in zip(messages, timestamps(messages), strict=True):
        if message.ahead_ms == 0:
            assert at_ms == message.received_ms


def test_what_is_no_sample_is_corrected_and_moves_nothing() -> None:
    clocks = Clocks()
    row = {"venue": "v", "received_at": instant_us(START_MS * 1000)}
    for second in range(20):
        at = {"venue": "v", "received_at": instant_us((START_MS + second * 1000) * 1000)}
        clocks.timestamp_ms(at, START_MS + second * 1000 + 9_000, is_sample=False)
    assert clocks.offset_ms("v") == 0
    assert clocks.timestamp_ms({"event_at": "…"}, 7, is_sample=False) == 7, "no time of receipt"
    assert clocks.timestamp_ms(row, START_MS - 86_400_000, is_sample=False) == START_MS - 86_400_000


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.integers(0, 700),
        st.one_of(st.integers(-300, 60), st.integers(-2 * FAR_MS, 2 * FAR_MS), st.sampled_from([1_270, 1_260, -5_000])),
    ),
    max_size=80,
)


@given(MESSAGES)
def test_timestamps_of_a_venue_step_back_by_no_more_than_its_messages_do(steps: list[tuple[str, int, int]]) -> None:
    received_ms, messages = 0, []
    for venue, later_ms, ahead_ms in steps:
        received_ms += later_ms
        messages.append(Message(venue, received_ms, ahead_ms))
    written = list(zip(messages, timestamps(messages), strict=True))
    assert all(at_ms <= message.received_ms + AHEAD_MS for message, at_ms in written)
    for venue in ("a", "b"):
        for (before, before_ms), (after, after_ms) in pairwise(pair for pair in written if pair[0].venue == venue):
            back_ms = before.received_ms + before.ahead_ms - after.received_ms - after.ahead_ms
            assert before_ms - after_ms <= max(0, back_ms)


@given(st.integers(-FAR_MS, FAR_MS))
def test_the_error_of_a_clock_has_no_leaps_and_is_all_of_it_beyond_its_bounds(ahead_ms: int) -> None:
    assert 0 <= error_ms(ahead_ms + 1) - error_ms(ahead_ms) <= 2
    if -BEHIND_MS <= ahead_ms <= AHEAD_MS:
        assert error_ms(ahead_ms) == 0
    if not -2 * BEHIND_MS < ahead_ms < 2 * AHEAD_MS:
        assert error_ms(ahead_ms) == ahead_ms


def captured(*names: tuple[str, str]) -> list[tuple[str, str, int, int, int]]:
    """Table, venue, event time, receipt and timestamp of every record of captures, in ms."""
    paths = [(venue, CAPTURES / name) for venue, name in names]
    if not all(path.exists() for _, path in paths):
        pytest.skip(f"needs captures in {CAPTURES}")
    clocks = Clocks()
    return [
        (
            *(record.table, record.row["venue"], record.event_ms, to_ms(record.row["received_at"])),
            clocks.timestamp_ms(record.row, record.event_ms, record.table in SPOKEN),
        )
        for converted in convert(merged(paths))
        for record in converted.records
        if record.table in FEED_TABLES
    ]


@pytest.mark.parametrize(
    ("venue", "name"),
    [("deribit", "deribit/2021-07-22.ws.log"), ("okx", "okx/2022-05-13.ws.log"), ("bitget", "bitget/ws.1.log")],
)
def test_captures_of_venues_whose_clocks_are_right_keep_their_times(venue: str, name: str) -> None:
    written = captured((venue, name))
    assert len(written) > 100
    assert [at_ms for *_, at_ms in written] == [event_ms for _, _, event_ms, _, _ in written]


def test_a_captured_venue_that_is_ahead_is_in_time_beside_one_that_is_right() -> None:
    name = "binance/2024-08-08.cm.btcusd_perp.jsonl.gz"
    if not (CAPTURES / name).exists():
        pytest.skip(f"needs captures in {CAPTURES}")
    clocks, newest_ms, count = Clocks(), 0, 0
    for converted in convert(read("binance", CAPTURES / name)):
        for record in converted.records:
            received_ms = to_ms(record.row["received_at"])
            at_ms = clocks.timestamp_ms(record.row, record.event_ms, record.table in SPOKEN)
            other = {"venue": "deribit", "received_at": record.row["received_at"]}
            other_ms = clocks.timestamp_ms(other, received_ms - 10, is_sample=True)
            assert other_ms == received_ms - 10
            if record.table != "instruments":
                assert min(at_ms, other_ms) > newest_ms - WAIT_MS
                newest_ms = max(newest_ms, at_ms, other_ms)
                count += 1
    assert count > 48_000
    assert clocks.offset_ms("binance_coinm") == pytest.approx(1_272, abs=2)
    assert clocks.offset_ms("deribit") == 0

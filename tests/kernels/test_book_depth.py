import json
import random
from typing import Any

import orjson
import pytest

from engine import batch
from engine.contract import Lines, Message, Output
from kernels import books, depth
from schemas.records import TABLES
from schemas.rows import fault, instant_ms, instant_us, to_ms

T0 = 1_700_000_000_000
Levels = list[list[float]]


def message(kind: str, sequence: int, bids: Levels, asks: Levels, ms: int = 0, name: str = "A", **more: Any) -> Message:
    row = {
        "venue": "v",
        "instrument": name,
        "event_at": instant_ms(T0 + ms),
        "received_at": instant_us((T0 + ms) * 1000 + 7),
        "kind": kind,
        "sequence": sequence,
        "prev_sequence": None if kind == "snapshot" else sequence - 1,
        "bids": bids,
        "asks": asks,
    }
    return Message("order_books", 0, ms, row | more)


def snapshot(sequence: int = 10, ms: int = 0, **more: Any) -> Message:
    return message("snapshot", sequence, [[99.0, 1.0], [98.0, 2.0]], [[101.0, 1.0], [102.0, 3.0]], ms, **more)


def change(sequence: int, bids: Levels, asks: Levels | None = None, ms: int = 0, **more: Any) -> Message:
    return message("change", sequence, bids, asks or [], ms, **more)


def step(state: books.State, *messages: Message, until: int | None = 100) -> list[Output]:
    """One batch; as bytes, part of it taken as plain updates, it must do the same."""
    until_ms = None if until is None else T0 + until
    twin = restored(state)
    before = {name: venue.offset_ms for name, venue in state.venues.items()}
    rows = books.step(state, list(messages), until_ms)
    lines = books.end_window(state, until_ms) if messages and until_ms is not None else []
    outputs = [row for row in rows if row.table == "book_depth"] + decoded(lines)
    values = [json.dumps(m.row, separators=(",", ":")).encode() for m in sorted(messages, key=lambda m: m.offset)]
    topics = [TABLES[m.table].topic.encode() for m in sorted(messages, key=lambda m: m.offset)]
    data = b"\x1e".join(
        b"%s\x1f0\x1f%d\x1f%s" % (topic, at, value) for at, (topic, value) in enumerate(zip(topics, values, strict=True))
    )
    lines = [some for some in batch.run(books.KERNEL, twin, data, until_ms) if some.table == "book_depth"]
    assert sorted_rows(lines) == sorted_rows(batch.encode(outputs))
    assert stored(twin) == stored(state)
    assert twin.touched == state.touched
    for output in outputs:
        assert output.table == "book_depth"
        assert fault("book_depth", output.row) is None
        # A record bears the common time, and is not later than its batch.
        offsets_ms = {before.get(output.row["venue"], 0), state.venues[output.row["venue"]].offset_ms}
        commons_ms = [to_ms(output.row["event_at"]) - offset_ms for offset_ms in offsets_ms]
        expected_ms = [common_ms if until_ms is None else min(common_ms, until_ms) for common_ms in commons_ms]
        # One that is repeated bears the time of the sweep, for readers may have been told that its own is over.
        assert output.event_ms in ([*expected_ms, until_ms - 1] if until_ms is not None and not messages else expected_ms)
    return outputs


def ended(state: books.State, until: int) -> list[tuple[Any, ...]]:
    """What the end of a window writes."""
    return shown(decoded(books.end_window(state, T0 + until)))


def decoded(lines: list[Lines]) -> list[Output]:
    rows = [row for some in lines for row in zip(some.heads.split(b"\n"), some.values.split(b"\n"), strict=True)]
    return [Output("book_depth", int(head[:13]), orjson.loads(value)) for head, value in rows]


def sorted_rows(lines: list[Lines]) -> list[tuple[bytes, bytes]]:
    """Rows as they are written; their order is kept within a key alone."""
    rows = [row for one in lines for row in zip(one.heads.split(b"\n"), one.values.split(b"\n"), strict=True)]
    return sorted(rows, key=lambda row: row[0][13:])


def stored(state: books.State) -> dict[str, bytes | None]:
    return {name: state.encode(name) for name in [*state.books, *state.venues]}


def restored(state: books.State) -> books.State:
    other = books.new()
    for name, data in stored(state).items():
        assert data is not None
        other.decode(name, data)
    other.touched.update(state.touched)
    return other


def begun(*messages: Message) -> books.State:
    state = books.new()
    step(state, *(messages or [snapshot()]))
    return state


def shown(outputs: list[Output]) -> list[tuple[str, int, int | None, Levels, Levels, bool]]:
    return [
        (row["instrument"], to_ms(row["event_at"]) - T0, row["sequence"], row["bids"], row["asks"], row["is_stale"])
        for output in outputs
        for row in [output.row]
    ]


BIDS, ASKS = [[99.0, 1.0], [98.0, 2.0]], [[101.0, 1.0], [102.0, 3.0]]


def test_a_book_is_shown_once_a_batch_at_its_end_best_first() -> None:
    state = books.new()
    rows = step(state, snapshot(), change(11, [[98.5, 4.0]], ms=20), change(12, [], [[101.0, 0.0]], ms=40))
    assert shown(rows) == [("A", 100, 12, [[99.0, 1.0], [98.5, 4.0], [98.0, 2.0]], [[102.0, 3.0]], False)]


def test_only_books_that_were_touched_are_shown() -> None:
    state = begun(snapshot(name="A"), snapshot(name="B"))
    rows = step(state, change(11, [[97.0, 1.0]], ms=120, name="B"), until=200)
    assert [row.row["instrument"] for row in rows] == ["B"]
    assert [row.row["instrument"] for row in step(state, change(11, [[97.0, 1.0]], ms=220, name="A"), until=300)] == ["A"]


def test_a_change_below_the_levels_shown_is_shown_all_the_same() -> None:
    assert shown(step(begun(), change(11, [], ms=120), until=200)) == [("A", 200, 11, BIDS, ASKS, False)]


def test_at_most_twenty_levels_a_side_are_shown() -> None:
    bids = [[100.0 - n, 1.0 + n] for n in range(30)]
    asks = [[101.0 + n, 2.0 + n] for n in range(25)]
    (row,) = step(books.new(), message("snapshot", 1, bids[::-1], asks))
    assert depth.LEVELS == 20
    assert (row.row["bids"], row.row["asks"]) == (bids[:20], asks[:20])


def test_a_side_that_is_empty_has_no_levels() -> None:
    assert shown(step(begun(), change(11, [[99.0, 0.0], [98.0, 0.0]], ms=120), until=200))[0][3:] == ([], ASKS, False)


def test_a_book_without_a_snapshot_is_not_shown() -> None:
    assert step(books.new(), change(11, [[99.0, 1.0]])) == []


def test_a_gap_shows_the_last_levels_as_stale_until_the_snapshot() -> None:
    state = begun()
    assert shown(step(state, change(13, [[99.5, 1.0]], ms=120), until=200)) == [("A", 200, 10, BIDS, ASKS, False)]
    rows = step(state, change(14, [[99.5, 2.0]], ms=820), until=900)
    assert shown(rows) == [("A", 900, 10, BIDS, ASKS, True)]
    rows = step(state, snapshot(20, ms=920), until=1000)
    assert shown(rows) == [("A", 1000, 20, BIDS, ASKS, False)]


def test_a_book_that_crosses_is_shown_as_stale() -> None:
    (row,) = step(begun(), change(11, [[101.5, 1.0]], ms=120), until=200)
    assert row.row["is_stale"]


def test_a_late_update_shows_its_book_at_the_end_of_its_own_100_ms() -> None:
    state = begun()
    assert step(state, change(11, [[99.0, 5.0]], ms=130), until=None) == []
    assert ended(state, until=400) == [("A", 200, 11, [[99.0, 5.0], [98.0, 2.0]], ASKS, False)]


def test_an_interval_that_is_open_has_one_row_whether_its_messages_are_late_or_not() -> None:
    expected = [("A", 200, 12, [[99.0, 7.0], [98.0, 2.0]], ASKS, False)]
    for lateness in ([True, True], [True, False], [False, True], [False, False]):
        state = begun()
        for number, is_late in enumerate(lateness):
            update = change(11 + number, [[99.0, 6.0 + number]], ms=130 + 10 * number)
            assert step(state, update, until=None if is_late else 135 + 10 * number) == []
        assert ended(state, until=150) == []
        assert ended(state, until=200) == expected


def test_a_book_that_is_freed_is_not_shown() -> None:
    state = begun()
    assert step(state, until=2 * books.IDLE_MS) == []
    assert state.touched == {"v:A"}
    assert state.encode("v:A") is None


def test_bad_rows_are_left_to_the_books_job() -> None:
    state = begun()
    assert shown(step(state, change(11, [[-1.0, 5.0]], ms=130), change(11, [[99.0, 5.0]], ms=131), until=200))[0][2] == 11


def test_the_host_is_told_every_book_that_was_touched_since_it_last_asked() -> None:
    state = begun(snapshot(name="A"), snapshot(name="B"))
    assert state.touched == {"v:A", "v:B"}
    state.touched.clear()
    step(state, change(11, [[97.0, 1.0]], ms=120, name="B"), until=200)
    assert state.touched == {"v:B"}
    step(state, change(11, [[97.0, 1.0]], ms=220, name="A"), until=300)
    assert state.touched == {"v:A", "v:B"}


@pytest.mark.parametrize("seed", range(3))
def test_order_within_a_batch_and_a_restart_change_nothing(seed: int) -> None:
    chance = random.Random(seed)
    messages = [snapshot(name="A"), snapshot(name="B")]
    numbers = {"A": 10, "B": 10}
    for ms in range(1, 1000, 7):
        name = chance.choice("AB")
        numbers[name] += 1
        size = float(chance.randrange(5))
        messages.append(change(numbers[name], [[80.0 + chance.randrange(15), size]], [], ms, name=name))
    straight, shuffled = books.new(), books.new()
    for until in range(100, 1100, 100):
        part = [m for m in messages if until - 100 <= to_ms(m.row["event_at"]) - T0 < until]
        rows = step(straight, *part, until=until)
        chance.shuffle(part)
        renumbered = [m._replace(offset=at) for at, m in enumerate(part)]
        assert step(shuffled, *renumbered, until=until) == rows
        shuffled = restored(shuffled)


def test_bytes_of_another_version_are_refused() -> None:
    data = begun().encode("v:A")
    assert data is not None
    with pytest.raises(ValueError, match="version"):
        books.new().decode("v:A", bytes([books.VERSION + 1]) + data[1:])


def test_rows_are_json() -> None:
    (lines,) = batch.encode(step(books.new(), snapshot()))
    assert orjson.loads(lines.values)["bids"] == BIDS
    assert lines.heads == b"%013dv:A" % (T0 + 100)


# Venues whose clocks are wrong: rows are cut by their own time.


def venue_time(ms: int, offset: int = 0, venue: str = "v") -> Message:
    at = {"event_at": instant_ms(T0 + ms), "received_at": instant_us((T0 + ms - offset) * 1000)}
    return Message("venue_times", 0, 10**6 + ms, {"venue": venue, **at, "offset_ms": offset})


def whole_at(messages: list[Message], ms: int) -> tuple[int, Levels]:
    """Sequence and best bids of a book as all messages before an instant made it."""
    bids: dict[float, float] = {}
    sequence = 0
    for m in messages:
        if to_ms(m.row["event_at"]) - T0 < ms:
            sequence = m.row["sequence"]
            bids |= dict(m.row["bids"])
    return sequence, sorted(([price, size] for price, size in bids.items() if size), reverse=True)[: depth.LEVELS]


@pytest.mark.parametrize("offset", [0, 1270, 30_000, 59_000, -30, -1270, -20_000])
@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("is_shuffled", [False, True])
def test_rows_are_cut_by_the_time_of_their_own_venue(offset: int, is_told: bool, is_shuffled: bool) -> None:
    if not is_told and offset < 0:
        pytest.skip("nobody can know")
    chance = random.Random(offset)
    streams: dict[str, list[Message]] = {}
    for name, venue, ahead in (("A", "v", offset), ("B", "v", offset), ("C", "w", 0)):
        stream = [snapshot(1000, ahead, name=name, venue=venue)]
        for ms in sorted(chance.sample(range(1, 3000), 90)):
            size = [[80.0 + chance.randrange(20), float(chance.randrange(4))]]
            stream.append(change(1000 + len(stream), size, [], ms + ahead, name=name, venue=venue))
        streams[name] = stream
    state, outputs = books.new(), []
    last_ms = 3000 + max(offset, 0) + 200
    for until in range(100, last_ms + 100, 100):
        part = []
        for name, stream in streams.items():
            ahead = 0 if name == "C" else offset
            part += [m for m in stream if until - 100 <= to_ms(m.row["event_at"]) - T0 - ahead < until]
        if is_shuffled:
            chance.shuffle(part)
        part = [m._replace(offset=place) for place, m in enumerate(part)]
        if is_told and until <= 3000:
            part += [venue_time(until - 40 + offset, offset), venue_time(until - 40, 0, "w")]
        if not part:
            continue
        rows = step(state, *part, until=until)
        # A venue that is told, or of which nothing has to be, has its rows with the batch in which its own time passes them.
        if offset == 0:
            assert {to_ms(row.row["event_at"]) - T0 for row in rows} <= {until}
        outputs += rows
        state = restored(state)
    outputs += step(state, until=last_ms)
    for name, stream in streams.items():
        end_ms = (to_ms(stream[-1].row["event_at"]) // 100 + 1) * 100
        # Time that passes shows a book of which nothing is said once more.
        own = [o.row for o in outputs if o.row["instrument"] == name and to_ms(o.row["event_at"]) <= end_ms]
        buckets = {to_ms(m.row["event_at"]) // 100 for m in stream}
        assert [to_ms(row["event_at"]) for row in own] == sorted((bucket + 1) * 100 for bucket in buckets)
        for row in own:
            assert (row["sequence"], row["bids"]) == whole_at(stream, to_ms(row["event_at"]) - T0)
            assert not row["is_stale"]


def test_a_book_has_a_row_every_ten_seconds_while_its_venue_speaks() -> None:
    state = begun(snapshot(), venue_time(50))
    rows = []
    for until in range(10_000, 60_000, 10_000):
        rows += step(state, venue_time(until - 60), until=until)
        rows += step(state, until=until)
        state = restored(state)
    assert shown(rows) == [("A", until - 100, 10, BIDS, ASKS, False) for until in range(10_000, 60_000, 10_000)]
    # The venue has spoken last at 49,940: nothing is known of the book after that.
    assert [shown(step(state, until=until)) for until in (60_000, 70_000)] == [[], []]


def test_a_venue_whose_clock_is_behind_without_saying_so_has_no_row_of_what_it_has_yet_to_say() -> None:
    # Three seconds behind: what is said at 17,000 comes in the batch that ends at 20,000.
    state = begun()
    step(state, message("snapshot", 5, BIDS, ASKS, 17_050, name="B"), until=20_100)
    assert shown(step(state, until=20_200))[0] == ("A", 17_000, 10, BIDS, ASKS, False)
    rows = step(restored(state), change(11, [[99.0, 4.0]], ms=18_150), until=21_200)
    assert shown(rows) == [("A", 18_200, 11, [[99.0, 4.0], [98.0, 2.0]], ASKS, False)]


def test_a_row_that_is_said_again_waits_for_the_batch_that_ends_at_its_instant() -> None:
    # The host sweeps a shard before it hands it the batch that ends at the same instant.
    state = begun(snapshot(), venue_time(50))
    rows = step(state, venue_time(9_840), until=9_900) + step(state, until=10_000)
    rows += step(state, change(11, [[99.0, 5.0]], ms=9_950), until=10_000)
    assert shown(rows) == [("A", 9_900, 10, BIDS, ASKS, False), ("A", 10_000, 11, [[99.0, 5.0], [98.0, 2.0]], ASKS, False)]


@pytest.mark.parametrize("offset", [30, 1270, 29_999])
def test_a_sweep_does_not_end_an_interval_of_a_venue_ahead_of_the_batch_that_has_the_rest_of_it(offset: int) -> None:
    state = begun(snapshot(ms=offset), venue_time(20 + offset, offset))
    # The batch that ends at 9,900 has the beginning of an interval, the next one has its end.
    end_ms = (9_900 + offset) // 100 * 100 + 100
    within, rest = 9_899 + offset, end_ms - 1
    step(state, change(11, [[99.0, 2.0]], ms=within), until=9_900)
    swept = step(restored(state), until=10_000)
    assert shown(swept + step(state, until=10_000)) == []
    rows = step(state, change(12, [[99.0, 3.0]], ms=rest), venue_time(9_999 + offset, offset), until=10_000)
    assert [(row[1], row[2]) for row in shown(rows)] == [(end_ms, 12)]


def test_a_book_is_shown_as_stale_when_its_venue_falls_quiet_and_as_fresh_when_it_speaks_again() -> None:
    state = begun(snapshot(), venue_time(50))
    quiet_at = 200_000
    assert shown(step(state, until=quiet_at)) == [("A", quiet_at, 10, BIDS, ASKS, True)]
    assert step(restored(state), until=quiet_at + 10_000) == []
    rows = step(restored(state), venue_time(quiet_at + 20), until=quiet_at + 100)
    assert shown(rows) == [("A", quiet_at + 100, 10, BIDS, ASKS, False)]
    rows = step(state, change(11, [[99.0, 5.0]], ms=quiet_at + 130), until=quiet_at + 200)
    assert shown(rows) == [("A", quiet_at + 200, 11, [[99.0, 5.0], [98.0, 2.0]], ASKS, False)]


def test_a_row_shows_the_channel_that_is_shown() -> None:
    state = begun(snapshot(10))
    best = message("snapshot", 20, [[90.0, 1.0]], [[92.0, 1.0]], 110, depth=1)
    assert shown(step(state, best, until=200)) == [("A", 200, 20, [[90.0, 1.0]], [[92.0, 1.0]], False)]
    rows = step(restored(state), change(11, [[97.0, 1.0]], ms=230), until=300)
    assert shown(rows) == [("A", 300, 11, [*BIDS, [97.0, 1.0]], ASKS, False)]
    # Within one batch: what was shown before the message that changes the channel belongs to the interval before it.
    step(state, best._replace(row=best.row | {"event_at": instant_ms(T0 + 310)}), until=400)

import gzip
import json
import random
import zlib
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import batch
from engine.contract import Lines, Message, Output
from feeds.capture import convert, read
from kernels import books
from kernels.plain_updates import Taken
from schemas.records import TABLES
from schemas.rows import encoded, fault, instant_ms, instant_us, to_ms
from tests.kernels.stored import Stored

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures"
BINANCE = ["cm.btcusd_perp", "cm.ethusd_perp", "spot.btcusdt", "spot.ethusdt", "usdm.btcusdt", "usdm.ethusdt"]
T0 = 1_700_000_000_000
DAY = 86_400_000
TOP = ("bid_price", "bid_size", "ask_price", "ask_size")

Levels = list[list[float]]
Top = tuple[float | None, ...]


def message(
    kind: str, sequence: int, previous: int | None, bids: Levels, asks: Levels, ms: int = 0, name: str = "A", **more: Any
) -> Message:
    row = {
        "venue": "v",
        "instrument": name,
        "event_at": instant_ms(T0 + ms),
        "received_at": instant_us((T0 + ms) * 1000 + 7),
        "kind": kind,
        "sequence": sequence,
        "prev_sequence": previous,
        "bids": bids,
        "asks": asks,
    }
    return Message("order_books", 0, ms, row | more)


def snapshot(sequence: int, bid: float = 99, ask: float = 101, ms: int = 0, **more: Any) -> Message:
    return message("snapshot", sequence, None, [[bid, 1.0]], [[ask, 1.0]], ms, **more)


def change(sequence: int, bid_size: float, ms: int = 0, previous: int | None = None, **more: Any) -> Message:
    """An update that sets the size at the best bid of `snapshot`."""
    return message("change", sequence, sequence - 1 if previous is None else previous, [[99.0, bid_size]], [], ms, **more)


def step(state: books.State, *messages: Message, until: int | None = 100) -> list[Output]:
    """One batch, until `until` ms after the start; where it can be written as bytes, it must do the same as bytes.

    As records of a row each, and as records of three.
    """
    until_ms = None if until is None else T0 + until
    twins = restored(state), restored(state)
    outputs = books.step(state, list(messages), until_ms)
    ended = books.end_window(state, until_ms) if messages and until_ms is not None else []
    if messages and "inf" not in (text := repr(messages)) and "nan" not in text:
        # The rows of a book are of one partition, and read in its order.
        logged = sorted(messages, key=lambda m: m.offset)
        rows = [(m.offset, json.dumps(m.row, separators=(",", ":")).encode()) for m in logged]
        tables = [m.table for m in logged]
        by_threes = [rows[n : n + 3] for n in range(0, len(rows), 3)]
        arrays = [(some[0][0], b"[" + b",".join(row for _, row in some) + b"]") for some in by_threes]
        is_packed = all(type(m.row) is dict and m.table == "order_books" for m in logged)
        for twin, records in zip(twins, (rows, arrays) if is_packed else (rows,), strict=False):
            lines = batch.run(books.KERNEL, twin, joined(records, tables), until_ms)
            assert by_key(lines) == by_key(batch.encode(outputs) + ended)
            assert {name: state.encode(name) for name in state.books} == {name: twin.encode(name) for name in twin.books}
    outputs = unasked(outputs)
    for output in outputs:
        assert fault(output.table, output.row) is None
        if output.table != "dead_letters" and not any(venue.offset_ms for venue in state.venues.values()):
            event_ms = to_ms(output.row["event_at"])
            # No record is later than its batch.
            assert output.event_ms == (event_ms if until_ms is None else min(event_ms, until_ms - 1))
    return outputs


def joined(values: Iterable[tuple[int, bytes]], tables: Iterable[str] = ()) -> bytes:
    """As engine/_inbox.sql and engine/_batches.sql join them, each with its offset; of other tables where they are given."""
    topics = (TABLES[table].topic.encode() for table in chain(tables, repeat("order_books")))
    return b"\x1e".join(b"%s\x1f0\x1f%d\x1f%s" % (topic, *value) for topic, value in zip(topics, values, strict=False))


def begun(*messages: Message) -> books.State:
    state = books.new()
    step(state, *(messages or [snapshot(10)]))
    return state


def restored(state: books.State) -> books.State:
    other = books.new()
    for name in [*state.books, *state.venues]:
        data = state.encode(name)
        assert data is not None
        other.decode(name, data)
    return other


def unasked(outputs: Iterable[Output]) -> list[Output]:
    """Without depth, and without the requests for snapshots, which follow from the rest: a stale book asks, and asks again."""
    return [output for output in outputs if output.table not in ("resync_requests", "book_depth")]


def by_key(lines: Iterable[Lines]) -> dict[tuple[str, bytes], list[tuple[bytes, bytes]]]:
    """Rows as they are written, by table and key: their order is kept within a key alone."""
    rows = defaultdict(list)
    for table, heads, values in lines:
        for head, value in zip(heads.split(b"\n"), values.split(b"\n"), strict=True):
            letter = {k: v for k, v in orjson.loads(value).items() if k not in ("offset", "original")}
            rows[table, head[13:]].append((head[:13], orjson.dumps(letter) if table == "dead_letters" else value))
    return dict(rows)


def bid_sizes(outputs: Iterable[Output]) -> list[tuple[float | None, bool]]:
    return [(output.row["bid_size"], output.row["is_stale"]) for output in outputs if output.table == "book_tops"]


def faults(outputs: Iterable[Output]) -> list[tuple[str, str, int]]:
    rows = [output.row for output in outputs if output.table == "feed_faults"]
    return [(row["instrument"], row["kind"], row["sequence"]) for row in rows]


def letters(outputs: Iterable[Output]) -> list[Output]:
    return [output for output in outputs if output.table == "dead_letters"]


def by_instrument(outputs: Iterable[Output]) -> dict[str, list[Output]]:
    parted = defaultdict(list)
    for output in outputs:
        parted[output.row["instrument"]].append(output)
    return dict(parted)


def one_by_one(messages: Iterable[Message]) -> list[Output]:
    state = books.new()
    return [output for m in messages for output in step(state, m, until=to_ms(m.row["event_at"]) - T0 + 1)]


# What a kernel must do with real traffic.


def captured(venue: str, name: str) -> Path:
    path = CAPTURES / venue / name
    if not path.exists():
        pytest.skip(f"no capture at {path}")
    return path


def rebuilt(venue: str, path: Path) -> Iterator[tuple[str, dict[str, Any], list[Output]]]:
    """Each record of the tables with tops, as it was received, and what the kernel says to it."""
    state, until_ms = books.new(), 0
    for line in convert(read(venue, path)):
        for record in line.records:
            assert record.table != "dead_letters"
            outputs: list[Output] = []
            if record.table == "order_books":
                until_ms = max(until_ms, record.event_ms + 1)
                row = orjson.loads(orjson.dumps(record.row))
                outputs = unasked(books.step(state, [Message("order_books", 0, line.line.number, row)], until_ms))
            yield record.table, dict(record.row), outputs


def test_every_deribit_ticker_has_the_top_of_the_book_of_its_instant() -> None:
    tops: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    tickers = []
    for table, row, outputs in rebuilt("deribit", captured("deribit", "2021-07-22.ws.log")):
        if table == "tickers":
            tickers.append(row)
        for output in outputs:
            assert output.table == "book_tops"
            tops[output.row["instrument"]].append(output.row)
    joined = mismatches = 0
    for ticker in tickers:
        before = [top for top in tops[ticker["instrument"]] if top["event_at"] <= ticker["event_at"]]
        if before:
            last = max(before, key=lambda top: (top["event_at"], top["sequence"]))
            joined += 1
            mismatches += any(last[column] != ticker[column] for column in TOP)
    assert joined > 50
    assert mismatches == 0


def published(path: Path) -> Iterator[tuple[int, Top]]:
    """Sequence and top of a Binance book at each change, by the venue's own instructions.

    What was before the snapshot's instant, its own or else that of the newest event, is shown with it.
    """
    last: int | None = None
    newest_ms = 0
    sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
    early: list[dict[str, Any]] = []
    is_first, shown = True, None

    def follow(data: dict[str, Any]) -> None:
        nonlocal last, is_first
        assert last is not None
        is_spot = "pu" not in data
        if data["u"] < last + is_spot:
            return
        if is_first:
            assert data["U"] <= last + is_spot <= data["u"]
        else:
            assert (data["U"] == last + 1) if is_spot else (data["pu"] == last)
        for side, name in zip(sides, "ba", strict=True):
            for price, size in data[name]:
                side[float(price)] = float(size)
                if not float(size):
                    del side[float(price)]
        last, is_first = data["u"], False

    def changed() -> Iterator[tuple[int, Top]]:
        nonlocal shown
        assert last is not None
        bid, ask = max(sides[0]), min(sides[1])
        top = (bid, sides[0][bid], ask, sides[1][ask])
        if top != shown:
            shown = top
            yield last, top

    for line in gzip.decompress(path.read_bytes()).splitlines():
        data = orjson.loads(line.split(b" ", 1)[1])
        data = data.get("data", data)
        newest_ms = max(newest_ms, data.get("E", 0))
        if "lastUpdateId" in data:
            if last is not None and data["lastUpdateId"] < last:
                continue
            sides = tuple({float(price): float(size) for price, size in data[name]} for name in ("bids", "asks"))  # type: ignore[assignment]
            last, is_first = data["lastUpdateId"], True
            snapshot_ms = data.get("E", newest_ms)
            while early and early[0]["E"] < snapshot_ms:
                follow(early.pop(0))
            yield from changed()
            for kept in early:
                follow(kept)
                yield from changed()
            early = []
        elif data.get("e") != "depthUpdate":
            continue
        elif last is None:
            early.append(data)
            continue
        else:
            follow(data)
            yield from changed()


@pytest.mark.parametrize("name", BINANCE)
def test_a_binance_book_is_the_one_that_the_venues_own_instructions_give(name: str) -> None:
    path = captured("binance", f"2024-08-08.{name}.jsonl.gz")
    top: Top | None = None
    tops: list[tuple[int, Top]] = []
    top_at: dict[int, Top] = {}
    tickers: dict[int, Top] = {}
    for table, row, outputs in rebuilt("binance", path):
        for output in outputs:
            assert output.table == "book_tops"
            assert not output.row["is_stale"]
            top = tuple(output.row[column] for column in TOP)
            bid, _, ask, _ = top
            assert bid is not None
            assert ask is not None
            assert bid < ask
            tops.append((output.row["sequence"], top))
        if table == "tickers" and row["sequence"] is not None:
            tickers[row["sequence"]] = tuple(row[column] for column in TOP)
        elif table == "order_books" and top is not None and row["kind"] == "change":
            top_at[row["sequence"]] = top
    assert tops == list(published(path))
    both = top_at.keys() & tickers.keys()
    assert both
    assert [(u, top_at[u]) for u in sorted(both)] == [(u, tickers[u]) for u in sorted(both)]


# Whole streams: what arrives together, in which order and how often makes no difference.

sizes = st.sampled_from([0.0, 1.0, 2.5])
bid_levels = st.lists(st.tuples(st.integers(95, 99).map(float), sizes).map(list), max_size=3)
ask_levels = st.lists(st.tuples(st.integers(101, 105).map(float), sizes).map(list), max_size=3)


@st.composite
def streams(draw: st.DrawFn, with_snapshots: bool = True) -> list[Message]:
    """Books A and B, whole and in order, each from a snapshot on; some have snapshots in between too."""
    ms, last = 0, {}
    messages = []
    for name in "AB":
        last[name] = draw(st.integers(1, 5))
        messages.append(message("snapshot", last[name], None, draw(bid_levels), draw(ask_levels), ms, name))
    for _ in range(draw(st.integers(3, 20))):
        ms += draw(st.integers(0, 40))
        name = draw(st.sampled_from("AB"))
        previous, sequence = last[name], last[name] + draw(st.integers(1, 3))
        bids, asks = draw(bid_levels), draw(ask_levels)
        if with_snapshots and draw(st.integers(0, 5)) == 0:
            sequence += draw(st.integers(-2, 2))
            if sequence < previous:
                sequence = previous
            messages.append(message("snapshot", sequence, None, bids, asks, ms, name))
        else:
            messages.append(message("change", sequence, previous, bids, asks, ms, name))
        last[name] = sequence
    return [m._replace(offset=offset) for offset, m in enumerate(messages, start=1)]


chances = st.randoms(use_true_random=False)
END_MS = 2**53


@settings(max_examples=150)
@given(streams(), chances)
def test_cuts_order_and_repeats_make_no_difference(stream: list[Message], chance: random.Random) -> None:
    again = [
        (chance.randrange(n, len(stream)), m._replace(offset=100 + n)) for n, m in enumerate(stream) if chance.random() < 0.3
    ]
    state, outputs, part = books.new(), [], []
    until = 0
    for n, m in enumerate(stream):
        part += [m, *(repeat for at, repeat in again if at == n)]
        until = to_ms(m.row["event_at"]) - T0 + 1
        if chance.random() < 0.4:
            outputs += step(state, *chance.sample(part, len(part)), until=until)
            part = []
        if chance.random() < 0.2:
            state = restored(state)
    outputs += step(state, *part, until=until)
    assert by_instrument(outputs) == by_instrument(one_by_one(stream))
    assert faults(outputs) == []


@settings(max_examples=150)
@given(streams(), st.data())
def test_an_update_that_is_merely_late_makes_no_difference(stream: list[Message], data: st.DataObject) -> None:
    late = data.draw(st.sampled_from([m for m in stream if m.row["kind"] == "change"] or stream[:1]))
    delay_ms = data.draw(st.integers(0, books.GRACE_MS - 1))
    stream = [m for m in stream if m.row["kind"] == "change" or m.offset <= 2 or m.row["instrument"] != late.row["instrument"]]
    stream = renumbered(stream)
    arrivals = sorted((to_ms(m.row["event_at"]) + (delay_ms if m.offset == late.offset else 0), m.offset, m) for m in stream)
    state, outputs = books.new(), []
    for ms, _, m in arrivals:
        outputs += step(state, m, until=ms - T0 + 1)
        if data.draw(st.booleans()):
            state = restored(state)
    outputs += step(state, until=arrivals[-1][0] - T0 + 10 * books.GRACE_MS)
    assert by_instrument(outputs) == by_instrument(one_by_one(stream))
    assert faults(outputs) == []


@settings(max_examples=150)
@given(streams(with_snapshots=False), st.data())
def test_whatever_comes_within_the_grace_comes_in_any_order(stream: list[Message], data: st.DataObject) -> None:
    delays = [data.draw(st.integers(0, books.GRACE_MS - 1)) for _ in stream]
    arrivals = sorted((to_ms(m.row["event_at"]) + delay, m.offset, m) for m, delay in zip(stream, delays, strict=True))
    state, outputs = books.new(), []
    late: list[Message] = []
    on_time: list[Message] = []
    for (ms, _, m), (next_ms, *_) in pairwise([*arrivals, (END_MS, 0, arrivals[-1][2])]):
        (late if data.draw(st.booleans()) else on_time).append(m)
        # What arrives at the same instant is in the same batch, or it would arrive after the end of its own.
        if next_ms > ms and data.draw(st.booleans()):
            outputs += step(state, *late, until=None) + step(state, *on_time, until=ms - T0 + 1)
            late, on_time = [], []
            state = restored(state)
    outputs += step(state, *late, until=None) + step(state, *on_time, until=arrivals[-1][0] - T0 + 1)
    outputs += step(state, until=arrivals[-1][0] - T0 + 10 * books.GRACE_MS)
    assert by_instrument(outputs) == by_instrument(one_by_one(stream))
    assert faults(outputs) == []


def renumbered(stream: list[Message]) -> list[Message]:
    """The stream with each change following the row of its book that is before it."""
    last: dict[str, int] = {}
    messages = []
    for m in stream:
        name = m.row["instrument"]
        previous = last.get(name) if m.row["kind"] == "change" else None
        messages.append(m._replace(row=m.row | {"prev_sequence": previous}))
        last[name] = m.row["sequence"]
    return messages


@settings(max_examples=150)
@given(streams(with_snapshots=False), st.data())
def test_a_lost_update_is_one_gap_and_its_book_alone_is_stale_until_the_next_snapshot(
    stream: list[Message], data: st.DataObject
) -> None:
    end = to_ms(stream[-1].row["event_at"]) - T0 + books.GRACE_MS
    number = stream[-1].offset
    changes = [m for m in stream if m.row["kind"] == "change" and m.row["instrument"] == "A"]
    last = changes[-1].row["sequence"] if changes else stream[0].row["sequence"]
    changes += [change(last + 1, 3.0, end - books.GRACE_MS), change(last + 2, 4.0, end - books.GRACE_MS)]
    stream += [m._replace(offset=number + n) for n, m in enumerate(changes[-2:], start=1)]
    lost = data.draw(st.integers(0, len(changes) - 2))
    shower = changes[lost + 1].row

    clean = by_instrument(one_by_one(stream))
    state, outputs = books.new(), []
    for m in stream:
        if m.row is not changes[lost].row:
            outputs += step(state, m, until=to_ms(m.row["event_at"]) - T0 + 1)
            if data.draw(st.booleans()):
                state = restored(state)
    outputs += step(state, until=end)
    assert faults(outputs) == [("A", "gap", shower["sequence"])]
    assert by_instrument(outputs)["B"] == clean["B"]
    assert [output.row["is_stale"] for output in by_instrument(outputs)["A"] if output.table == "book_tops"][-1]
    assert [is_stale for _, is_stale in bid_sizes(by_instrument(outputs)["A"])].count(True) == 1

    whole = books.new()
    for m in stream:
        step(whole, m)
    book = whole.books["v:A"]
    after = message("snapshot", last + 2, None, *book.levels(), end + 1)
    (healed,) = step(state, after, until=end + 2)
    assert healed.table == "book_tops"
    assert not healed.row["is_stale"]
    assert [healed.row[column] for column in TOP] == [clean["A"][-1].row[column] for column in TOP]
    assert step(state, change(last + 3, 5.0, end + 3), until=end + 9)[0].row["bid_size"] == 5.0


# Streams of any kind: lossy, late, repeated, crossed, of two paths.


@st.composite
def messy(draw: st.DrawFn) -> list[tuple[list[Message], int | None]]:
    batches, ms = [], 0
    any_levels = st.lists(st.tuples(st.integers(97, 103).map(float), sizes).map(list), max_size=3)
    for _ in range(draw(st.integers(1, 8))):
        ms += draw(st.sampled_from([1, 50, 300, 120_000, 2 * DAY]))
        part = []
        for n in range(draw(st.integers(0, 6))):
            kind = draw(st.sampled_from(["change", "change", "change", "snapshot"]))
            previous, ahead = draw(st.integers(1, 12)), draw(st.integers(1, 2))
            bids, asks, name = draw(any_levels), draw(any_levels), draw(st.sampled_from("AB"))
            at = ms - draw(st.integers(0, 60))
            row = message(kind, previous + ahead, None if kind == "snapshot" else previous, bids, asks, at, name)
            part.append(row._replace(offset=n))
        batches.append((part, None if draw(st.integers(0, 4)) == 0 else ms))
    return batches


@settings(max_examples=300)
@given(messy())
def test_rows_are_changes_and_a_crossed_top_is_stale(batches: list[tuple[list[Message], int | None]]) -> None:
    state = books.new()
    last: dict[str, Top] = {}
    for part, until in batches:
        known = set(state.books)
        for output in step(state, *part, until=until):
            row = output.row
            if output.table == "book_tops":
                top = tuple(row[column] for column in (*TOP, "is_stale"))
                assert top != last.get(row["instrument"])
                last[row["instrument"]] = top
                assert (
                    row["is_stale"]
                    or row["bid_price"] is None
                    or row["ask_price"] is None
                    or row["bid_price"] < row["ask_price"]
                )
        for name in known - set(state.books):
            last.pop(name.removeprefix("v:"), None)


@settings(max_examples=300)
@given(messy(), chances)
def test_a_state_put_back_goes_on_as_if_it_had_never_stopped(
    batches: list[tuple[list[Message], int | None]], chance: random.Random
) -> None:
    straight, cut = books.new(), Stored(books)
    for part, until in batches:
        assert step(straight, *part, until=until) == step(cut.state, *part, until=until)
        cut.store()
        if chance.random() < 0.5:
            cut.restart(chance)
    assert {name: straight.encode(name) for name in straight.books} == cut.entries


@given(messy(), chances)
def test_the_order_within_a_batch_does_not_matter(
    batches: list[tuple[list[Message], int | None]], chance: random.Random
) -> None:
    straight, shuffled = books.new(), books.new()
    for part, until in batches:
        assert step(straight, *part, until=until) == step(shuffled, *chance.sample(part, len(part)), until=until)


# Case by case.


def test_a_book_begins_with_a_snapshot() -> None:
    state = books.new()
    assert step(state, change(11, 2.0)) == []
    (top,) = step(state, snapshot(11, ms=1))
    assert top == Output(
        "book_tops",
        T0 + 1,
        {
            "venue": "v",
            "instrument": "A",
            "event_at": instant_ms(T0 + 1),
            "received_at": instant_us((T0 + 1) * 1000 + 7),
            "sequence": 11,
            "bid_price": 99,
            "bid_size": 1.0,
            "ask_price": 101,
            "ask_size": 1.0,
            "is_stale": False,
        },
    )


def test_a_side_may_be_empty() -> None:
    state = begun()
    (top,) = step(state, change(11, 0.0))
    assert (top.row["bid_price"], top.row["bid_size"]) == (None, None)


def test_a_gap_is_a_fault_when_its_grace_has_passed_and_not_before() -> None:
    state = begun()
    assert step(state, change(12, 5.0, 20), until=20 + books.GRACE_MS - 1) == []
    other = restored(state)
    gap, top = step(state, until=20 + books.GRACE_MS)
    assert step(other, until=20 + books.GRACE_MS) == [gap, top]
    assert (gap.table, gap.row["kind"], gap.row["expected"], gap.row["got"]) == (
        "feed_faults",
        "gap",
        "prev_sequence 10",
        "prev_sequence 11",
    )
    assert bid_sizes([top]) == [(1.0, True)]
    assert gap.event_ms == top.event_ms == T0 + 20


def test_a_snapshot_joins_the_updates_that_came_before_it() -> None:
    state = books.new()
    updates = [change(n, float(n), n, previous=n - 4) for n in (8, 12, 16)]
    assert step(state, *updates) == []
    tops = step(restored(state), snapshot(10, ms=9))
    assert [(top.row["sequence"], top.row["bid_size"], top.event_ms - T0) for top in tops] == [
        (10, 1.0, 9),
        (12, 12.0, 12),
        (16, 16.0, 16),
    ]
    assert step(state, snapshot(10, ms=9)) == tops


def test_updates_from_before_the_instant_of_a_snapshot_are_shown_with_it() -> None:
    state = books.new()
    assert step(state, *(change(n, float(n), n) for n in (11, 12, 13))) == []
    tops = step(state, snapshot(10, ms=13))
    assert [(top.row["sequence"], top.row["bid_size"], top.event_ms - T0) for top in tops] == [(12, 12.0, 13), (13, 13.0, 13)]


def test_a_snapshot_waits_for_what_lies_between_it_and_the_updates_that_came_before_it() -> None:
    state = books.new()
    assert step(state, change(12, 2.0, 12)) == []
    assert step(state, snapshot(10, ms=10)) == []
    assert bid_sizes(step(restored(state), change(11, 1.5, 11), until=None)) == [(1.0, False), (1.5, False), (2.0, False)]
    assert step(state, until=12 + books.GRACE_MS - 1) == []
    assert faults(step(state, until=12 + books.GRACE_MS)) == [("A", "snapshot_outdated", 10)]
    assert step(state, change(11, 1.5, 11), until=None) == []


def test_an_outdated_snapshot_is_a_fault_and_a_later_one_heals() -> None:
    state = books.new()
    step(state, change(12, 2.0, 1), until=2 + books.GRACE_MS)
    assert faults(step(state, snapshot(10, ms=2), until=2 + books.GRACE_MS)) == [("A", "snapshot_outdated", 10)]
    assert bid_sizes(step(state, snapshot(11, ms=3))) == [(2.0, False)]


def test_a_stale_book_does_not_go_back_to_an_older_snapshot() -> None:
    state = begun(snapshot(10), message("change", 11, 10, [[102.0, 1.0]], [], 1))
    assert faults(step(state, snapshot(9, ms=2))) == [("A", "snapshot_outdated", 9)]
    assert bid_sizes(step(state, snapshot(11, ms=3))) == [(1.0, False)]


def test_an_older_snapshot_of_a_whole_book_is_ignored() -> None:
    state = begun(snapshot(10), change(11, 2.0))
    assert step(state, snapshot(10, bid=98)) == []
    assert bid_sizes(step(state, change(12, 3.0))) == [(3.0, False)]


def test_a_snapshot_fills_a_gap_that_updates_wait_behind() -> None:
    state = begun()
    assert step(state, change(13, 3.0, 1)) == []
    assert bid_sizes(step(state, snapshot(12, ms=2))) == [(3.0, False)]
    assert step(state, until=10_000) == []


def test_a_snapshot_does_not_end_the_wait_of_updates_after_it() -> None:
    state = begun()
    assert step(state, change(12, 2.0, 1), change(14, 4.0, 2)) == []
    assert bid_sizes(step(state, snapshot(11, ms=3))) == [(2.0, False)]
    assert bid_sizes(step(restored(state), change(13, 3.0, 4))) == [(3.0, False), (4.0, False)]
    assert faults(step(state, until=1000)) == [("A", "gap", 14)]


def test_repeats_that_a_stale_book_has_kept_are_no_gap() -> None:
    state = books.new()
    step(state, change(11, 2.0), change(11, 2.0), change(12, 3.0), change(12, 3.0))
    outputs = step(state, snapshot(10))
    assert faults(outputs) == []
    assert bid_sizes(outputs) == [(1.0, False), (2.0, False), (3.0, False)]


def test_of_equal_sequences_the_first_in_the_log_counts() -> None:
    state = begun()
    first, second = change(11, 2.0)._replace(offset=1), change(11, 3.0)._replace(offset=2)
    assert bid_sizes(step(state, second, first)) == [(2.0, False)]


def test_a_crossed_book_is_a_fault_and_stale_until_a_snapshot() -> None:
    state = begun()
    crossed, top = step(state, message("change", 11, 10, [[101.0, 1.0]], [], 1))
    assert crossed.row["kind"] == "crossed"
    assert (top.row["bid_price"], top.row["ask_price"], top.row["is_stale"]) == (101.0, 101, True)
    assert step(state, change(12, 2.0, 2)) == []
    assert bid_sizes(step(state, snapshot(11, ms=1))) == [(1.0, False), (2.0, False)]


def test_a_book_that_a_waiting_update_crosses_keeps_those_after_it() -> None:
    state = begun()
    waiting = [message("change", 12, 11, [[101.0, 1.0]], [], 2), change(13, 3.0, 3)]
    assert step(state, *waiting) == []
    assert faults(step(state, change(11, 2.0, 1))) == [("A", "crossed", 12)]
    assert bid_sizes(step(state, snapshot(12, ms=4))) == [(3.0, False)]


def test_an_update_of_a_lower_number_that_follows_the_last_one_is_applied() -> None:
    state = begun(snapshot(1000), change(1001, 2.0, 1))
    outputs = step(state, change(3, 3.0, 2, previous=1001), change(4, 4.0, 2))
    assert bid_sizes(outputs) == [(3.0, False), (4.0, False)]
    assert faults(outputs) == []
    # What is left of the old numbers is late, and no gap in the new ones.
    assert step(state, change(1001, 9.0, 1), change(999, 9.0), until=None) == []
    assert step(state, until=2000) == []
    assert bid_sizes(step(state, change(5, 5.0, 2000), until=2001)) == [(5.0, False)]


def test_a_lost_beginning_of_new_numbers_is_a_gap_when_its_grace_has_passed() -> None:
    state = begun(snapshot(1000), change(1001, 2.0, 1))
    assert step(state, change(5, 3.0, 50), change(6, 3.0, 70)) == []
    assert step(restored(state), until=50 + books.GRACE_MS - 1) == []
    gap, top = step(state, until=50 + books.GRACE_MS)
    assert (gap.row["kind"], gap.row["expected"], gap.row["got"]) == ("gap", "prev_sequence 1001", "prev_sequence 4")
    assert bid_sizes([top]) == [(2.0, True)]
    # A snapshot of the old numbers, which came late, does not heal it; one of the new ones does, with what was kept.
    assert faults(step(restored(state), snapshot(1002, ms=2), until=400)) == [("A", "snapshot_outdated", 1002)]
    assert bid_sizes(step(state, snapshot(5, ms=60), until=400)) == [(1.0, False), (3.0, False)]


def test_a_snapshot_of_new_numbers_may_bear_the_instant_of_the_last_update_of_the_old_ones() -> None:
    state = begun(snapshot(900), change(910, 2.0, 50, previous=900))
    assert step(state, snapshot(3, bid=90, ask=91, ms=50), until=200) == []
    tops = step(restored(state), message("change", 6, 3, [[90.0, 7.0]], [], 250), until=300)
    assert [(o.table, o.row["sequence"], o.row["bid_price"]) for o in tops] == [("book_tops", 3, 90), ("book_tops", 6, 90)]


def unnumbered(kind: str, sequence: int, bid_size: float, ms: int) -> Message:
    """A message that does not name the one before it, as venues with checksums send it."""
    text = f"99.0:{bid_size}:101.0:1.0"
    crc = zlib.crc32(text.encode())
    checksum = crc - 2**32 if crc >= 2**31 else crc
    asks = [[101.0, 1.0]] if kind == "snapshot" else []
    return message(kind, sequence, None, [[99.0, bid_size]], asks, ms, checksum=checksum)


def test_lower_numbers_of_updates_that_do_not_name_the_one_before_are_a_gap_when_the_grace_has_passed() -> None:
    state = begun(unnumbered("snapshot", 900, 1.0, 0), unnumbered("change", 910, 2.0, 20))
    assert step(state, unnumbered("change", 5, 3.0, 1000), until=1100) == []
    outputs = step(restored(state), unnumbered("change", 6, 4.0, 1300), until=1400)
    assert [(o.row["kind"], o.row["sequence"], o.row["got"]) for o in outputs if o.table == "feed_faults"] == [
        ("gap", 5, "sequence 5")
    ]
    assert [o.row["is_stale"] for o in outputs if o.table == "book_tops"] == [True]
    step(state, unnumbered("change", 6, 4.0, 1300), until=1400)
    tops = step(state, unnumbered("snapshot", 6, 4.0, 1350), unnumbered("change", 7, 5.0, 1380), until=1500)
    assert [(o.row["sequence"], o.row["bid_size"], o.row["is_stale"]) for o in tops] == [(6, 4.0, False), (7, 5.0, False)]


def test_a_snapshot_of_a_lower_number_is_of_new_numbers_if_an_update_that_names_none_comes_after_it() -> None:
    state = begun(unnumbered("snapshot", 900, 1.0, 0), unnumbered("change", 910, 2.0, 20))
    step(state, unnumbered("snapshot", 3, 7.0, 120), until=200)
    tops = step(restored(state), unnumbered("change", 4, 8.0, 220), until=300)
    assert [(o.table, o.row["sequence"], o.row["bid_size"]) for o in tops] == [("book_tops", 3, 7.0), ("book_tops", 4, 8.0)]


def test_an_update_that_names_none_and_comes_out_of_order_is_no_fault() -> None:
    state = begun(unnumbered("snapshot", 900, 1.0, 0), unnumbered("change", 910, 2.0, 200))
    outputs = step(state, unnumbered("change", 905, 9.0, 100), unnumbered("change", 912, 3.0, 210), until=300)
    outputs += step(state, unnumbered("change", 913, 4.0, 900), until=1000)
    assert [(o.table, o.row["sequence"], o.row["bid_size"]) for o in outputs] == [
        ("book_tops", 912, 3.0),
        ("book_tops", 913, 4.0),
    ]


def test_a_snapshot_of_a_lower_number_is_of_new_numbers_if_it_is_later_than_the_grace() -> None:
    later = 1 + books.GRACE_MS + 1
    state = begun(snapshot(1000), change(1001, 2.0, 1))
    assert step(restored(state), snapshot(4, ms=later - 1), until=later) == []
    assert bid_sizes(step(state, snapshot(4, ms=later), until=later + 1)) == [(1.0, False)]
    assert bid_sizes(step(state, change(5, 3.0, later + 1), until=later + 2)) == [(3.0, False)]


def test_a_snapshot_of_a_lower_number_is_of_new_numbers_if_an_update_follows_it() -> None:
    state = begun(snapshot(1000), change(1001, 2.0, 1))
    assert step(state, snapshot(4, ms=10)) == []
    outputs = step(restored(state), change(5, 3.0, 20))
    assert (bid_sizes(outputs), faults(outputs)) == ([(1.0, False), (3.0, False)], [])
    # Where none does, it was an old one.
    assert bid_sizes(step(state, change(1002, 4.0, 300), until=1000)) == [(4.0, False)]
    assert step(state, until=2000) == []


def test_a_late_update_counts_if_it_is_the_next() -> None:
    state = begun(snapshot(10), change(12, 3.0, 90))
    late = step(state, change(11, 2.0, 50), until=None)
    assert bid_sizes(late) == [(2.0, False), (3.0, False)]
    assert step(state, change(11, 9.0, 50), until=None) == []


def test_a_book_that_was_touched_is_noted_once_until_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    state = begun(snapshot(10), snapshot(10, name="B"))
    take, noted = state.plain.take, []

    def spy(*arguments: Any) -> Taken:
        taken = take(*arguments)
        assert not taken.rest
        noted.append(len(taken.changed))
        return taken

    def touched(*messages: Message) -> set[str]:
        rows = ((m.offset, json.dumps(m.row, separators=(",", ":")).encode()) for m in messages)
        batch.run(books.KERNEL, state, joined(rows), T0 + 100)
        return state.touched

    monkeypatch.setattr(state.plain, "take", spy)
    state.touched.clear()
    assert touched(change(11, 2.0), change(12, 3.0)) == {"v:A"}
    assert touched(change(13, 2.0), change(11, 4.0, name="B")) == {"v:A", "v:B"}
    state.touched.clear()
    assert touched(change(14, 3.0)) == {"v:A"}
    assert noted == [1, 1, 1]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "KEPT_UPDATES", 3)
    waiting, stale = begun(), books.new()
    updates = [change(n, float(n), 1) for n in range(12, 20)]
    assert faults(step(waiting, *updates)) == [("A", "gap", 12)]
    assert step(stale, *updates) == []
    for state in (waiting, stale):
        assert [row["sequence"] for row in state.books["v:A"].kept] == [17, 18, 19]
        assert bid_sizes(step(state, snapshot(16)))[-1] == (19.0, False)


def test_only_known_columns_are_kept() -> None:
    state = books.new()
    step(state, change(11, 2.0, a_newer_writers=[[["x"] * 1000]]))
    assert len(state.encode("v:A") or b"") < 1000


def test_idle_books_are_freed_by_an_empty_batch() -> None:
    state = begun(snapshot(10), snapshot(10, name="B"), change(11, 2.0, 50, name="B"), change(20, 2.0, name="C"))
    step(state, change(21, 3.0, DAY - 1, name="C"), until=DAY)
    state.touched.clear()
    assert step(state, until=DAY + 30) == []
    assert set(state.books) == {"v:B", "v:C"}
    # Of B, which has had no row of depth for long, one is written again.
    assert state.touched == {"v:A", "v:B"}
    assert state.encode("v:A") is None
    step(state, until=2 * DAY + 30)
    assert state.books == {}


def test_a_book_that_version_3_stored_goes_on() -> None:
    state = begun(snapshot(10), change(11, 2.0, 1), change(13, 4.0, 3))
    version, head, levels = b"\x03", *(state.encode("v:A") or b"")[1:].split(b"\n", 1)
    added = ("shown_ms", "reset_ms", "cut_ms", "depth_ms", "is_hidden", "texts")
    older = {name: value for name, value in orjson.loads(head).items() if name not in added}
    other = books.new()
    other.decode("v:A", version + orjson.dumps(older) + b"\n" + levels)
    # Version 3 knew of no depth.
    assert other.books["v:A"].fields["depth_ms"] == 0
    other.books["v:A"].fields["depth_ms"] = state.books["v:A"].fields["depth_ms"]
    assert other.encode("v:A") == state.encode("v:A")
    assert bid_sizes(step(other, change(12, 3.0, 4))) == [(3.0, False), (4.0, False)]


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="stored as version 9, this code reads version 4"):
        books.new().decode("v:A", b"\x09[]")


# Streams that a venue numbers anew: at any place, in any order within the grace.


@st.composite
def reset_streams(draw: st.DrawFn) -> tuple[list[Message], int]:
    """A book from a snapshot on, numbered anew at one place; and the offset of the message that does it."""
    sequence, ms = draw(st.integers(100, 200)), 0
    reset = draw(st.integers(1, 12))
    messages = [snapshot(sequence)]
    for number in range(1, 14):
        ms += draw(st.integers(0, 120))
        previous, ahead = sequence, draw(st.integers(1, 4))
        sequence = ahead if number == reset else sequence + ahead
        messages.append(message("change", sequence, previous, draw(bid_levels), draw(ask_levels), ms))
    return [m._replace(offset=offset) for offset, m in enumerate(messages)], reset


@settings(max_examples=200)
@given(reset_streams(), st.data())
def test_numbers_that_begin_anew_are_no_fault_wherever_and_in_whatever_order_within_the_grace(
    given_stream: tuple[list[Message], int], data: st.DataObject
) -> None:
    stream, _ = given_stream
    delays = [0, *(data.draw(st.integers(0, books.GRACE_MS - 1)) for _ in stream[1:])]
    arrivals = sorted((to_ms(m.row["event_at"]) - T0 + delay, m.offset, m) for m, delay in zip(stream, delays, strict=True))
    state, outputs, part = books.new(), [], []
    for ms, _, m in arrivals:
        part.append(m)
        if data.draw(st.booleans()):
            outputs += step(state, *part, until=ms + 1)
            part = []
            state = restored(state)
    end = arrivals[-1][0] + 1
    outputs += step(state, *part, until=end) + step(state, until=end + 10 * books.GRACE_MS)
    straight = one_by_one(stream)
    assert faults(outputs) == faults(straight) == []
    book, expected = state.books["v:A"], books.new()
    for m in stream:
        step(expected, m, until=end)
    assert (book.sequence, book.is_stale, book.kept) == (stream[-1].row["sequence"], False, [])
    assert book.levels() == expected.books["v:A"].levels()
    assert [o.row["event_at"] for o in outputs] == sorted(o.row["event_at"] for o in outputs)


@settings(max_examples=200)
@given(reset_streams(), st.integers(1, 100))
def test_a_lost_reset_is_a_gap_within_the_grace_and_heals_at_a_snapshot_of_the_new_numbers(
    given_stream: tuple[list[Message], int], batch_ms: int
) -> None:
    stream, reset = given_stream
    # A message of the snapshot's own time may be one that it has in it.
    later_ms = 2 * books.GRACE_MS
    stream = [
        stream[0],
        *(m._replace(row=m.row | {"event_at": instant_ms(to_ms(m.row["event_at"]) + later_ms)}) for m in stream[1:]),
    ]
    last_before = max([to_ms(m.row["event_at"]) for m in stream[:reset]])
    after = [m for m in stream[reset + 1 :] if to_ms(m.row["event_at"]) > last_before]
    after += [change(40 + n, 2.0, 4000 + n, previous=39 + n if n else stream[-1].row["sequence"]) for n in range(3)]
    shown_ms = to_ms(after[0].row["event_at"]) - T0
    state, outputs = books.new(), []
    for until in range(batch_ms, 6000 + batch_ms, batch_ms):
        part = [
            m
            for m in [*stream[:reset], *stream[reset + 1 :], *after[-3:]]
            if until - batch_ms <= to_ms(m.row["event_at"]) - T0 < until
        ]
        outputs += books.step(state, part, T0 + until)
    gap = next(output for output in outputs if output.table == "feed_faults")
    assert (gap.row["kind"], gap.row["event_at"]) == ("gap", instant_ms(T0 + shown_ms))
    asked = next(output for output in outputs if output.table == "resync_requests")
    assert asked.event_ms - T0 <= shown_ms + books.GRACE_MS + batch_ms
    (healed,) = step(state, snapshot(42, ms=7000), until=7001)
    assert not healed.row["is_stale"]


# Several channels of one book.


def shallow(sequence: int, bid: float, ask: float, ms: int, depth: int = 1, size: float = 1.0) -> Message:
    return message("snapshot", sequence, None, [[bid, size]], [[ask, size]], ms, depth=depth)


def tops(outputs: Iterable[Output]) -> list[tuple[float | None, float | None, bool]]:
    rows = [output.row for output in outputs if output.table == "book_tops"]
    return [(row["bid_price"], row["ask_price"], row["is_stale"]) for row in rows]


def test_where_only_a_shallow_channel_speaks_each_of_its_messages_is_the_whole_book() -> None:
    state = books.new()
    assert tops(step(state, shallow(10, 99, 101, 0), shallow(11, 90, 92, 10), shallow(12, 89, 91, 20))) == [
        (99, 101, False),
        (90, 92, False),
        (89, 91, False),
    ]
    assert books.gauges(state) == {"instruments": 1, "stale_instruments": 0}


def test_a_shallow_message_does_not_replace_a_deeper_book_that_is_alive() -> None:
    state = begun(message("snapshot", 10, None, [[98, 1.0], [99, 1.0]], [[101, 1.0], [102, 1.0]]), change(11, 2.0, 1))
    for depth in (1, 5, 50):
        assert step(state, shallow(50, 97, 103, 50, depth=depth)) == []
    assert state.books.keys() == {"v:A"}
    assert state.books["v:A"].levels()[0] == [[98, 1.0], [99, 2.0]]
    assert bid_sizes(step(state, change(12, 3.0, 60))) == [(3.0, False)]


def test_a_stale_deep_book_stays_stale_until_its_own_snapshot() -> None:
    state = begun(snapshot(10), change(11, 2.0, 1), change(13, 3.0, 2))
    assert tops(step(state, until=500)) == [(99, 101, True)]
    assert step(state, shallow(14, 97, 103, 510), until=600) == []
    assert tops(step(state, snapshot(14, ms=610), until=700)) == [(99, 101, False)]


def test_a_snapshot_alone_is_no_channel_and_yields_to_the_first_message_that_contradicts_it() -> None:
    """As of a venue of which a snapshot was asked for by REST, and whose stream shows the best levels alone."""
    state = begun(snapshot(1000))
    assert step(state, shallow(1050, 99, 101, 10)) == []
    assert tops(step(state, shallow(1100, 90, 92, 20))) == [(90, 92, False)]
    assert tops(step(restored(state), shallow(1150, 89, 91, 30))) == [(89, 91, False)]
    # The whole book does speak: it is shown again, whole.
    caught_up = step(state, change(1101, 5.0, 40, previous=1000))
    assert tops(caught_up) == [(99, 101, False)]
    assert state.books.keys() == {"v:A"}
    assert step(state, shallow(1150, 80, 82, 50)) == []


def test_a_whole_book_that_is_behind_is_shown_when_it_has_caught_up() -> None:
    state = books.new()
    step(state, shallow(100, 99, 101, 500, depth=5), until=600)
    assert step(state, change(96, 2.0, 400, previous=95), change(97, 3.0, 700, previous=96), until=800) == []
    (top,) = step(state, snapshot(95, ms=390), until=900)
    assert (top.row["bid_size"], top.row["sequence"], top.row["event_at"]) == (3.0, 97, instant_ms(T0 + 500))
    assert state.books.keys() == {"v:A"}
    assert state.books["v:A"].levels()[0] == [[99.0, 3.0]]


def test_a_shallow_channel_takes_over_when_the_deeper_one_has_been_silent_for_as_long_as_a_venue_may_be() -> None:
    state = begun(snapshot(10), change(11, 2.0, 1))
    bound = books.OTHER_QUIET_MS + 1
    assert step(state, shallow(20, 97, 103, bound), until=bound + 1) == []
    # What agrees with it leaves the deeper book as it is, however old it is.
    assert step(state, message("snapshot", 21, None, [[99, 2.0]], [[101, 1.0]], bound + 1, depth=1), until=bound + 2) == []
    assert tops(step(state, shallow(22, 97, 103, bound + 2), until=bound + 3)) == [(97, 103, False)]
    assert tops(step(state, shallow(23, 96, 103, bound + 3), until=bound + 4)) == [(96, 103, False)]
    assert bid_sizes(step(restored(state), change(12, 4.0, bound + 9), until=bound + 10)) == [(4.0, False)]


def test_changes_belong_to_the_channel_of_their_depth() -> None:
    state = begun(message("snapshot", 10, None, [[99, 1.0]], [[101, 1.0]], 0, depth=50))
    assert bid_sizes(step(state, change(11, 2.0, 10, depth=50), shallow(11, 98, 102, 20, depth=5))) == [(2.0, False)]
    # Those of the whole book wait for its snapshot, and break nothing.
    assert step(state, change(500, 7.0, 30), until=50) == []
    assert step(state, until=1000) == []
    assert bid_sizes(step(state, change(12, 3.0, 1010, depth=50), until=1020)) == [(3.0, False)]
    assert bid_sizes(step(state, snapshot(500, ms=1050), until=1100)) == [(1.0, False)]
    assert step(state, change(13, 9.0, 1060, depth=50), until=1100) == []


@pytest.mark.parametrize("depth", [0, -5, "5", 5.0, True])
def test_a_depth_that_is_none_is_a_dead_letter(depth: Any) -> None:
    (letter,) = letters(step(begun(), message("snapshot", 12, None, [], [], 1, depth=depth)))
    assert letter.row["field"] == "depth"


# Times of venues.


def venue_time(ms: int, offset_ms: int = 0) -> Message:
    at = {"event_at": instant_ms(T0 + ms), "received_at": instant_us((T0 + ms - offset_ms) * 1000)}
    return Message("venue_times", 0, ms, {"venue": "v", **at, "offset_ms": offset_ms})


def test_a_venue_that_speaks_of_other_things_is_not_quiet() -> None:
    state = begun(snapshot(10), change(11, 2.0, 1))
    for ms in range(10_000, 600_000, 10_000):
        assert step(state, venue_time(ms - 50), until=ms) == []
        assert step(state, until=ms) == []
        state = restored(state)
    end = 590_000 - 50 + books.OTHER_QUIET_MS
    assert step(state, until=end) == []
    fault_of, top = step(state, until=end + 1)
    assert (fault_of.row["kind"], fault_of.row["event_at"]) == ("quiet", instant_ms(T0 + end))
    assert top.row["is_stale"]
    woken = step(restored(state), venue_time(end + 9000), until=end + 9050)
    assert [(row.row["is_stale"], row.row["event_at"]) for row in woken] == [(False, instant_ms(T0 + end + 9000))]


@pytest.mark.parametrize("offset", [-30_000, -400, 1270, 30_000])
def test_a_venue_whose_clock_is_wrong_is_quiet_when_another_would_be_and_carries_nobodys_time_away(offset: int) -> None:
    state = books.new()
    step(state, snapshot(10, ms=offset)._replace(offset=1), venue_time(offset, offset)._replace(offset=2))
    (top,) = step(state, change(11, 2.0, 1000 + offset)._replace(offset=3), until=1001)
    assert (top.event_ms, top.row["event_at"]) == (T0 + 1000, instant_ms(T0 + 1000 + offset))
    end = 1000 + books.OTHER_QUIET_MS
    assert step(state, until=end) == []
    fault_of, _ = step(state, until=end + 1)
    assert (fault_of.event_ms, fault_of.row["event_at"]) == (T0 + end, instant_ms(T0 + end + offset))


def test_a_venue_ahead_whose_offset_nobody_has_told_carries_nobodys_time_away() -> None:
    state = books.new()
    outputs = step(state, snapshot(10, ms=1270), change(11, 2.0, 1280), until=50)
    assert [(top.event_ms - T0, top.row["event_at"]) for top in outputs] == [
        (49, instant_ms(T0 + 1270)),
        (49, instant_ms(T0 + 1280)),
    ]


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("venue", {"venue": 5}),
        ("event_at", {"event_at": "now"}),
        ("event_at", {"event_at": instant_ms(T0 + DAY)}),
        ("offset_ms", {"offset_ms": None}),
    ],
)
def test_a_bad_time_of_a_venue_is_a_dead_letter(field: str, changed: dict[str, Any]) -> None:
    state = begun()
    told = venue_time(10)
    outputs = step(state, told._replace(row=told.row | changed), change(11, 2.0, 20))
    assert [(letter.row["source"], letter.row["field"]) for letter in letters(outputs)] == [("venue_times.v1", field)]
    assert bid_sizes(outputs) == [(2.0, False)]


def test_a_row_of_another_topic_is_no_update_though_it_looks_like_one() -> None:
    state = begun()
    value = json.dumps(change(11, 2.0).row, separators=(",", ":")).encode()
    lines = batch.run(books.KERNEL, state, b"venue_times.v1\x1f0\x1f1\x1f" + value, T0 + 100)
    assert [line.table for line in lines] == ["dead_letters"]
    assert state.books["v:A"].sequence == 10


# Digits.


@st.composite
def digit_sides(draw: st.DrawFn, lowest: int) -> list[list[Decimal]]:
    count = draw(st.integers(0, 30))
    levels = []
    for place in range(count):
        decimals = draw(st.integers(0, 22))
        tail = draw(st.text("0123456789", min_size=decimals, max_size=decimals))
        size = draw(st.text("0123456789", min_size=1, max_size=23))
        levels.append(
            [
                Decimal(f"{lowest + place}.{tail}" if tail else f"{lowest + place}"),
                Decimal(f"1{size}").scaleb(-draw(st.integers(0, len(size)))),
            ]
        )
    return levels


@settings(max_examples=150)
@given(digit_sides(100), digit_sides(200), digit_sides(130), st.sampled_from(["okx", "bitget_spot"]))
def test_a_checksum_is_of_the_very_digits_that_were_sent(bids: Any, asks: Any, more: Any, venue: str) -> None:
    def text(levels: Any) -> list[str]:
        return [f"{price:f}:{size:f}" for price, size in levels[:25]]

    def checksum(bids: Any, asks: Any) -> int:
        sides = text(sorted(bids, reverse=True)), text(sorted(asks))
        parts = [side[n] for n in range(25) for side in sides if n < len(side)]
        crc = zlib.crc32(":".join(parts).encode())
        return crc - 2**32 if crc >= 2**31 else crc

    def sent(m: Message) -> Message:
        value = encoded(m.row)
        return m._replace(row=orjson.loads(value), value=value)

    def run(state: books.State, *messages: Message) -> list[Output]:
        values = joined((m.offset, m.value) for m in messages)
        lines = batch.run(books.KERNEL, state, values, T0 + 100)
        return [Output(line.table, 0, orjson.loads(value)) for line in lines for value in line.values.split(b"\n")]

    state = books.new()
    first = message("snapshot", 10, None, bids, asks, venue=venue, checksum=checksum(bids, asks))
    assert faults(run(state, sent(first))) == []
    names = list(state.books)
    other = books.new()
    for name in names:
        other.decode(name, state.encode(name) or b"")
    # A level changes, one goes, others come.
    gone = [level[0] for level in bids[-1:] if level[0] not in [price for price, _ in more]]
    after = [[price, size] for price, size in dict([*bids, *more]).items() if price not in gone]
    update = message(
        "change",
        11,
        10,
        [*more, *([price, Decimal(0)] for price in gone)],
        [],
        1,
        venue=venue,
        checksum=checksum(after, asks),
    )
    exact: Any = [[Decimal("129.10000000000000001"), Decimal("1.50")]]
    for one in (state, other):
        assert faults(run(one, sent(update))) == []
        wrong = message(
            "change",
            12,
            11,
            exact,
            [],
            2,
            venue=venue,
            checksum=checksum(after, asks) ^ 1,
        )
        assert faults(run(one, sent(wrong))) == [("A", "checksum", 12)]


# Rows that are none.

GOOD = change(11, 2.0, 1).row
MISSING = [(column, {name: value for name, value in GOOD.items() if name != column}) for column in GOOD]
CHANGED: list[tuple[str, Any]] = [
    ("venue", 5),
    ("instrument", None),
    ("event_at", "yesterday"),
    ("event_at", 1_700_000_000_000),
    ("event_at", "1970-01-01T00:00:00.000Z"),
    ("event_at", instant_ms(T0 + 10 * DAY)),
    ("event_at", "2023-11-14T22:13:20.000"),
    ("event_at", "2023-11-14T22:13:20.000+02:00"),
    ("event_at", []),
    ("received_at", "now"),
    ("received_at", 5),
    ("kind", "delta"),
    ("kind", {}),
    ("sequence", "11"),
    ("sequence", 11.0),
    ("sequence", True),
    ("sequence", 2**63),
    ("sequence", 10**30),
    ("prev_sequence", None),
    ("prev_sequence", "10"),
    ("prev_sequence", 10.0),
    ("prev_sequence", 2**63),
    ("bids", ""),
    ("bids", {}),
    ("bids", None),
    ("bids", 0),
    ("bids", ["ab"]),
    ("bids", [[99.0]]),
    ("bids", [[99.0, -1.0]]),
    ("bids", [["99.0", 1.0]]),
    ("bids", [["98.0", 0.0]]),
    ("bids", [[99.0, "1.0"]]),
    ("bids", [[99.0, "NaN"]]),
    ("bids", [[99.0, None]]),
    ("bids", [[99.0, True]]),
    ("bids", [[True, 1.0]]),
    ("bids", [[0.0, 1.0]]),
    ("bids", [[-5, 0]]),
    ("asks", [[101.0, 2.0], [102.0, -2.0]]),
]
BAD = [
    *MISSING,
    *[(column, GOOD | {column: value}) for column, value in CHANGED],
    ("bids", snapshot(12, bid=105).row),
    ("prev_sequence", snapshot(12).row | {"prev_sequence": "x"}),
    ("event_at", snapshot(12).row | {"event_at": "1970-01-01T00:00:00.000Z"}),
    *[(None, row) for row in ([], [[GOOD]], None, 5, "row")],
]


@pytest.mark.parametrize(("field", "row"), BAD)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_bad_row_is_one_dead_letter_and_changes_nothing_else(field: str | None, row: Any, is_late: bool) -> None:
    good = [change(11, 2.0), change(12, 3.0), change(11, 4.0, name="B")]
    values = [*[m.row for m in good], row]
    messages, broken = batch.decode(joined((n, json.dumps(value).encode()) for n, value in enumerate(values)), T0 + 100)
    assert broken == []
    state, alone = begun(snapshot(10), snapshot(10, name="B")), begun(snapshot(10), snapshot(10, name="B"))
    until = None if is_late else 100
    outputs = step(state, *messages, until=until)
    (letter,) = letters(outputs)
    assert [output for output in outputs if output is not letter] == step(alone, *messages[:3], until=until)
    assert letter.row["field"] == field
    assert (letter.row["source"], letter.row["offset"]) == ("order_books.v1", 3)
    assert orjson.loads(b64decode(letter.row["original"])) == messages[3].row
    assert abs(letter.event_ms - T0) <= 100 or (is_late and letter.event_ms == 0)
    assert state.touched == alone.touched
    assert {name: state.encode(name) for name in state.books} == {name: alone.encode(name) for name in alone.books}


WHOLE = [change(11, 2.0), change(12, 3.0), change(11, 4.0, name="B"), change(12, 5.0, name="B")]


@pytest.mark.parametrize("wrong", [b"", b"3", b"{", b'{"venue":"v', b"[]", b"{}{}", b'{"a":"\x1e"}', b"{NaN}", b'{"}":"\\'])
@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("parting", [b",", b", ", b"\n,\n"])
def test_rows_of_an_array_before_what_is_wrong_with_it_are_taken(wrong: bytes, place: int, parting: bytes) -> None:
    rows = [json.dumps(m.row, separators=(",", ":")).encode() for m in WHOLE]
    array = b"[" + parting.join([*rows[:place], wrong, *rows[place:]]) + b"]"
    after = change(13, 6.0), change(13, 7.0, name="B")
    records = [(1, array), *((m.offset, json.dumps(m.row, separators=(",", ":")).encode()) for m in after)]
    state, other = begun(snapshot(10), snapshot(10, name="B")), begun(snapshot(10), snapshot(10, name="B"))
    lines = batch.run(books.KERNEL, state, joined(records), T0 + 100)
    messages, broken = batch.decode(joined(records), T0 + 100)
    expected = batch.encode([*broken, *books.step(other, messages, T0 + 100)]) + books.end_window(other, T0 + 100)
    assert by_key(lines) == by_key(expected)
    assert {name: state.encode(name) for name in state.books} == {name: other.encode(name) for name in other.books}
    taken = [m.row for m in messages if "venue" in m.row]
    assert taken[:place] == [m.row for m in WHOLE[:place]]
    assert any(lines.table == "dead_letters" for lines in lines)


def test_a_value_that_is_no_json_costs_the_others_nothing() -> None:
    values = [orjson.dumps(snapshot(10).row), b"{", orjson.dumps(change(11, 2.0).row), b"NaN"]
    messages, broken = batch.decode(joined(enumerate(values)), T0)
    assert [b64decode(letter.row["original"]) for letter in broken] == [b"{", b"NaN"]
    assert bid_sizes(step(books.new(), *messages)) == [(1.0, False), (2.0, False)]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-20, 20) | st.floats() | st.text(max_size=3) | st.just(GOOD["event_at"]),
    lambda children: st.lists(children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500)
@given(
    st.sampled_from(list(GOOD)),
    anything,
    st.sampled_from([snapshot(12).row, GOOD, GOOD | {"prev_sequence": 5, "sequence": 30}]),
)
def test_a_row_that_breaks_its_ddl_is_refused(column: str, value: Any, row: dict[str, Any]) -> None:
    row = row | {column: value}
    wrong = fault("order_books", row)
    outputs = letters(step(begun(), Message("order_books", 0, 0, row)))
    if wrong is not None:
        assert [(x.row["field"], x.row["expected"], x.row["got"]) for x in outputs] == [wrong]
    else:
        # What else is wrong with it stands in no DDL: levels that no book has, a time or kind that no batch has.
        assert {x.row["field"] for x in outputs} <= {"bids", "asks", "kind", "prev_sequence", "event_at"}


@given(st.none() | st.integers(0, 10**18 - 1) | st.sampled_from([-1, 10**18, "5", 1.5, True, []]))
def test_a_row_may_go_without_a_height_and_one_that_has_it_is_taken_from_the_bytes_too(height: Any) -> None:
    is_plain = height is None or (type(height) is int and 0 <= height < 10**18)
    taken = []
    for more in ({}, {"block_height": height}):
        row = change(11, 5.0, ms=10, checksum=None, depth=None, **more).row
        lines, left = books.take_plain(begun(), joined([(1, encoded(row))]), T0 + 100)
        assert (left == b"") is (is_plain or not more)
        taken.append(by_key(lines))
    if is_plain:
        assert taken[0] == taken[1] != {}


def test_a_change_that_nothing_chains_is_refused_but_of_a_venue_that_says_so() -> None:
    loose = {"prev_sequence": None, "checksum": None}
    for venue, is_refused in (("v", True), ("dydx", False)):
        state = books.new()
        outputs = step(state, snapshot(10, venue=venue), change(12, 5.0, ms=1, venue=venue, **loose))
        assert bool(letters(outputs)) is is_refused


def test_changes_that_nothing_chains_are_taken_from_the_bytes_until_they_cross() -> None:
    state = begun(snapshot(10, venue="dydx"))
    loose: dict[str, Any] = {"prev_sequence": None, "checksum": None, "depth": None, "venue": "dydx"}
    calm, crossing = change(12, 5.0, ms=1, **loose), message("change", 13, None, [[103.0, 1.0]], [], 2, **loose)
    for row, is_left in ((calm.row, False), (crossing.row, True)):
        _, left = books.take_plain(state, joined([(1, encoded(row))]), T0 + 100)
        assert bool(left) is is_left


def test_a_level_that_a_change_sets_stands_against_older_ones_where_levels_may_cross() -> None:
    state = books.new()
    first = message("snapshot", 1, None, [[99, 1], [98, 2]], [[101, 1], [102, 1]], venue="dydx")
    over = message("change", 2, None, [[101.5, 4]], [], 1, venue="dydx")
    same = message("change", 3, None, [[103, 3]], [[100, 5]], 2, venue="dydx")
    for last, levels in (
        (first, ([[98.0, 2.0], [99.0, 1.0]], [[101.0, 1.0], [102.0, 1.0]])),
        (over, ([[98.0, 2.0], [99.0, 1.0], [101.5, 4.0]], [[102.0, 1.0]])),
        # Its own two cross best: then what is left of the ask stands against the bid of before.
        (same, ([[98.0, 2.0], [99.0, 1.0]], [[100.0, 2.0], [102.0, 1.0]])),
    ):
        outputs = step(state, last)
        assert not faults(outputs)
        assert state.books["dydx:A"].levels() == levels

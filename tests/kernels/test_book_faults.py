"""What breaks a feed, done on purpose to real messages: it must be noticed, on the right instrument, and heal."""

import json
import math
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine import batch
from feeds.capture import convert, read
from kernels import books
from schemas.rows import encoded, instant_ms, instant_us, to_ms, to_us

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures"
BINANCE = ["cm.btcusd_perp", "cm.ethusd_perp", "spot.btcusdt", "spot.ethusdt", "usdm.btcusdt", "usdm.ethusdt"]
WINDOW_MS, DELAY_MS = 50, 100
FAULTS = 1000
"""Of every kind over each venue's captures; Deribit's are short, so they are played again and again."""
DERIBIT_FAULTS = 3
SEEDS = [str(seed) for seed in range(math.ceil(FAULTS / DERIBIT_FAULTS))]
LATENESS_US = 80_000
KERNEL = books.KERNEL

Row = dict[str, Any]


def captured(venue: str, name: str) -> list[Row]:
    """The order book rows of a capture, as they were received."""
    path = CAPTURES / venue / name
    if not path.exists():
        pytest.skip(f"no capture at {path}")
    # Most of what Binance sent is of no book, and takes most of the time.
    lines = (
        line for line in read(venue, path) if b'"e":"bookTicker"' not in line.message and b'"e":"trade"' not in line.message
    )
    records = [record for one in convert(lines) for record in one.records if record.table == "order_books"]
    exact = any(record.row["checksum"] is not None for record in records)
    return [json.loads(encoded(record.row), parse_float=Decimal if exact else float) for record in records]


class Reference:
    """A book as its definition has it: a size at each price."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[float, float]] = {"bids": {}, "asks": {}}
        self.sequence = 0

    def apply(self, row: Row) -> None:
        for side, levels in self.sides.items():
            for price, size in row[side]:
                if size:
                    levels[float(price)] = float(size)
                else:
                    levels.pop(float(price), None)
        self.sequence = row["sequence"]

    def levels(self) -> tuple[list[list[float]], list[list[float]]]:
        bids, asks = (sorted([price, size] for price, size in self.sides[side].items()) for side in ("bids", "asks"))
        return bids, asks

    def snapshot(self, row: Row, received_at: str) -> Row:
        """What a venue answers: the book as it is after `row`."""
        bids, asks = self.levels()
        event_at = row["event_at"]
        return {
            "venue": row["venue"],
            "instrument": row["instrument"],
            "event_at": event_at,
            "received_at": received_at,
            "kind": "snapshot",
            "sequence": self.sequence,
            "prev_sequence": None,
            "bids": bids,
            "asks": asks,
        }


class Shard:
    """One shard as the job runs it: windows of event time, a watermark behind the newest row, late rows alone."""

    def __init__(self) -> None:
        self.state = books.new()
        self.windows: dict[int, list[bytes]] = defaultdict(list)
        self.watermark_ms = self.offset = 0
        self.faults: list[Row] = []
        self.gaps: Counter[str] = Counter()
        self.requests: list[Row] = []
        self.tops: list[Row] = []
        self.letters = 0

    def take(self, row: Row) -> None:
        self.offset += 1
        data = b"order_books.v1\x1f0\x1f%d\x1f%s" % (self.offset, encoded(row))
        event_ms = to_ms(row["event_at"])
        if event_ms <= self.watermark_ms:
            self.run(data, None)
        else:
            self.windows[event_ms // WINDOW_MS].append(data)
            self.until(event_ms - DELAY_MS)

    def until(self, watermark_ms: int) -> None:
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        for window in sorted(self.windows):
            if (window + 1) * WINDOW_MS - 1 > self.watermark_ms:
                break
            self.run(b"\x1e".join(self.windows.pop(window)), (window + 1) * WINDOW_MS)

    def run(self, data: bytes, until_ms: int | None) -> None:
        for table, _, values in batch.run(KERNEL, self.state, data, until_ms):
            rows = [orjson.loads(value) for value in values.split(b"\n")]
            if table == "feed_faults":
                self.faults += rows
                self.gaps.update(name_of(fault) for fault in rows if fault["kind"] in ("gap", "conflict"))
            elif table == "resync_requests":
                self.requests += rows
            elif table == "book_tops":
                self.tops += rows
            self.letters += len(rows) if table == "dead_letters" else 0


@pytest.fixture(scope="module")
def binance() -> list[Row]:
    """Updates of sixteen instruments in the order of their receipt, each following the one before it."""
    rows = [row for name in BINANCE for row in captured("binance", f"2024-08-08.{name}.jsonl.gz") if row["kind"] == "change"]
    return sorted(rows, key=lambda row: row["received_at"])


@pytest.fixture(scope="module")
def deribit() -> list[Row]:
    """Updates of five options in the order of their receipt, each following the one before it."""
    return [row for row in captured("deribit", "2021-07-22.ws.log") if row["kind"] == "change"]


def begun(rows: Iterable[Row]) -> tuple[Shard, dict[str, Reference]]:
    """A shard that has seen an empty book of every instrument, as it was before its first update."""
    shard, references = Shard(), {}
    for row in rows:
        if (name := f"{row['venue']}:{row['instrument']}") not in references:
            references[name] = Reference()
            references[name].sequence = row["prev_sequence"]
            at_ms = to_ms(row["event_at"])
            first = references[name].snapshot({**row, "event_at": instant_ms(at_ms)}, row["received_at"])
            shard.run(b"order_books.v1\x1f0\x1f0\x1f" + encoded(first), (at_ms // WINDOW_MS + 1) * WINDOW_MS)
    return shard, references


def name_of(row: Row) -> str:
    return f"{row['venue']}:{row['instrument']}"


def disturbed(rows: list[Row], kind: str, faults: int, chance: random.Random) -> Iterator[Row]:
    """The stream with so many faults of a kind that loses nothing."""
    places = set(chance.sample(range(len(rows) - 10), faults))
    held: list[tuple[int, Row]] = []
    for place, row in enumerate(rows):
        now_us = to_us(row["received_at"])
        for one in [one for one in held if one[0] <= place or now_us - to_us(one[1]["received_at"]) > LATENESS_US]:
            held.remove(one)
            yield one[1]
        if place in places and kind in ("swap", "delay"):
            # A few rows of all instruments later, or where they come slowly, before it would be too late.
            held.append((place + (2 if kind == "swap" else chance.randint(2, 8)), row))
            continue
        yield row
        if kind == "repeat connection":
            held.append((place + 5, row))
        elif place in places and kind == "duplicate":
            yield row
    yield from (row for _, row in held)


def assert_unharmed(rows: list[Row], kind: str, faults: int, seed: str) -> None:
    """What loses nothing is no fault and changes no book."""
    shard, references = begun(rows)
    for row in rows:
        references[name_of(row)].apply(row)
    for row in disturbed(rows, kind, faults, random.Random(kind + seed)):
        shard.take(row)
    shard.until(shard.watermark_ms + 10_000)
    assert shard.faults == []
    assert shard.letters == 0
    assert_equal(shard, references)


def assert_healed(rows: list[Row], kind: str, places: set[int], seed: str) -> None:
    """What loses the updates at these places is reported on their books alone, and healed by the next snapshot."""
    chance = random.Random(kind + seed)
    shard, references = begun(rows)
    expected: Counter[str] = Counter()
    broken: set[str] = set()
    unanswered: set[str] = set()  # those whose next answer will be lost
    newest: dict[str, Row] = {}
    answered = 0
    for place, row in enumerate(rows):
        name = name_of(row)
        references[name].apply(row)
        newest[name] = row
        if place in places and name not in broken:
            expected[name] += 1
            broken.add(name)
            if kind == "snapshot lost":
                unanswered.add(name)
            if kind == "corrupt digit":
                shard.take({**row, "sequence": row["sequence"] + chance.choice([-1, 1]) * 10 ** chance.randint(3, 9)})
        else:
            shard.take(row)
        for request in shard.requests[answered:]:
            answered += 1
            asked = name_of(request)
            if asked in unanswered:
                unanswered.remove(asked)
            else:
                shard.take(references[asked].snapshot(newest[asked], row["received_at"]))
        for other in sorted(broken):
            if not shard.state.books[other].is_stale and shard.gaps[other] == expected[other]:
                broken.remove(other)
                assert references[other].sequence >= (shard.state.books[other].sequence or 0)
    shard.until(shard.watermark_ms + 10_000)
    assert shard.gaps == expected
    assert {fault["kind"] for fault in shard.faults} <= {"gap", "conflict", "late", "snapshot_outdated"}
    assert_equal(shard, references)


HARMLESS = ["none", "duplicate", "swap", "delay", "repeat connection"]
HARMFUL = ["drop", "corrupt digit", "snapshot lost"]


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_loses_nothing_is_no_fault_and_changes_no_book(binance: list[Row], kind: str) -> None:
    assert_unharmed(binance, kind, FAULTS, "")


@pytest.mark.parametrize("kind", HARMFUL)
def test_what_loses_an_update_is_reported_there_and_healed_by_the_next_snapshot(binance: list[Row], kind: str) -> None:
    # The last ones leave time to heal.
    places = set(random.Random(kind).sample(range(len(binance) - 2000), FAULTS))
    assert_healed(binance, kind, places, "")


@pytest.mark.parametrize("kind", HARMLESS[1:])
def test_what_loses_nothing_of_deribit_is_no_fault_either(deribit: list[Row], kind: str) -> None:
    for seed in SEEDS:
        assert_unharmed(deribit, kind, DERIBIT_FAULTS, seed)


@pytest.mark.parametrize("kind", HARMFUL)
def test_what_loses_an_update_of_deribit_is_reported_and_healed_too(deribit: list[Row], kind: str) -> None:
    busiest = Counter(map(name_of, deribit)).most_common(1)[0][0]
    own = [place for place, row in enumerate(deribit) if name_of(row) == busiest]
    # A gap shows by what follows it, an answer that is lost by the time that passes, and this book speaks every 2 s.
    needed_ms = 5_000 + (books.RESYNC_MS + 4_000 if kind == "snapshot lost" else 0)
    end_ms = to_ms(deribit[own[-1]]["event_at"])
    own = [place for place in own if end_ms - to_ms(deribit[place]["event_at"]) > needed_ms]
    for seed in SEEDS:
        assert_healed(deribit, kind, set(random.Random(kind + seed).sample(own, DERIBIT_FAULTS)), seed)


def assert_equal(shard: Shard, references: dict[str, Reference]) -> None:
    assert set(shard.state.books) == set(references)
    for name, reference in references.items():
        book = shard.state.books[name]
        assert (name, book.sequence, book.is_stale) == (name, reference.sequence, False)
        assert book.levels() == reference.levels()


@pytest.mark.parametrize(("venue", "file", "updates"), [("okx", "2022-05-13.ws.log", 290), ("bitget", "ws.1.log", 443)])
def test_every_checksum_of_a_capture_holds(venue: str, file: str, updates: int) -> None:
    rows = captured(venue, file)
    assert sum(row["checksum"] is not None for row in rows) == updates
    shard = Shard()
    for row in rows:
        shard.take(row)
    shard.until(shard.watermark_ms + 10_000)
    assert (shard.faults, shard.letters) == ([], 0)


@pytest.mark.parametrize(("venue", "file"), [("okx", "2022-05-13.ws.log"), ("bitget", "ws.1.log")])
@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_digit_is_caught_in_the_very_message(venue: str, file: str, seed: int) -> None:
    rows = captured(venue, file)
    chance = random.Random(seed)
    changes = [place for place, row in enumerate(rows) if row["kind"] == "change" and row["bids"] and row["bids"][0][1]]
    place = chance.choice(changes)
    price, size = rows[place]["bids"][0]
    digits = list(format(size, "f"))
    digits[-1] = str((int(digits[-1]) + chance.randint(1, 9)) % 10)
    rows[place] = {**rows[place], "bids": [[price, Decimal("".join(digits))], *rows[place]["bids"][1:]]}
    shard = Shard()
    for row in rows[: place + 1]:
        shard.take(row)
    shard.until(shard.watermark_ms + 10_000)
    book = shard.state.books[name_of(rows[place])]
    prices = [level for level, _ in reversed(book.levels()[0])]
    depth = prices.index(float(price)) if float(price) in prices else 99
    if depth >= 25:
        pytest.skip("the checksum does not reach so deep")
    (fault,) = shard.faults
    assert (fault["kind"], name_of(fault), fault["sequence"]) == ("checksum", name_of(rows[place]), rows[place]["sequence"])
    assert book.is_stale
    assert [request["instrument"] for request in shard.requests] == [fault["instrument"]]


def test_the_checksum_is_that_of_the_text_the_venue_sent() -> None:
    row = {
        "venue": "okx",
        "instrument": "A",
        "event_at": instant_ms(1_700_000_000_000),
        "kind": "snapshot",
        "sequence": 1,
        "received_at": "2023-11-14T22:13:20.000000Z",
        "prev_sequence": None,
        "bids": [[Decimal("3366.1"), Decimal("7")], [Decimal("3366.00"), Decimal("6.10")]],
        "asks": [[Decimal("3366.8"), Decimal("9")], [Decimal("3368"), Decimal("0.0080")], [Decimal("3372"), Decimal("8")]],
    }
    text = "3366.1:7:3366.8:9:3366.00:6.10:3368:0.0080:3372:8"
    crc = zlib.crc32(text.encode())
    shard = Shard()
    shard.take({**row, "checksum": crc - 2**32 if crc >= 2**31 else crc})
    shard.until(shard.watermark_ms + 1000)
    assert shard.faults == []
    assert not shard.state.books["okx:A"].is_stale


T0 = 1_700_000_000_000


def update(name: str, sequence: int, ms: int, size: float = 1.0, kind: str = "change") -> Row:
    return {
        "venue": name.partition(":")[0],
        "instrument": name.partition(":")[2],
        "kind": kind,
        "sequence": sequence,
        "event_at": instant_ms(T0 + ms),
        "received_at": instant_us((T0 + ms) * 1000),
        "prev_sequence": sequence - 1 if kind == "change" else None,
        "bids": [[99.0, size]],
        "asks": [[101.0, 1.0]],
    }


def test_a_stale_book_asks_for_a_snapshot_at_once_and_again_until_one_comes() -> None:
    shard = Shard()
    shard.take(update("v:A", 1, 0, kind="snapshot"))
    shard.take(update("v:B", 1, 0, kind="snapshot"))
    shard.take(update("v:A", 3, 100))
    for ms in range(200, 25_000, 100):
        shard.take(update("v:B", ms // 100, ms))
    asked = [(request["instrument"], to_ms(request["event_at"]) - T0, request["sequence"]) for request in shard.requests]
    found_ms = asked[0][1]
    assert 100 + books.GRACE_MS <= found_ms <= 100 + books.GRACE_MS + 2 * WINDOW_MS
    assert [(name, sequence) for name, _, sequence in asked] == [("A", 1)] * 3
    assert all(after - before >= books.RESYNC_MS for (_, before, _), (_, after, _) in pairwise(asked))
    shard.take(update("v:A", 5, 25_000, kind="snapshot"))
    shard.until(T0 + 60_000)
    assert len(shard.requests) == 3
    assert not shard.state.books["v:A"].is_stale


def test_books_of_a_venue_that_goes_quiet_are_stale_until_it_speaks_again() -> None:
    shard = Shard()
    for name in ("v:A", "v:B", "deribit:C"):
        shard.take(update(name, 1, 0, kind="snapshot"))
    shard.until(T0 + 1000)
    bound = books.OTHER_QUIET_MS
    shard.tops.clear()
    shard.run(b"", T0 + bound)
    assert [(top["instrument"], top["is_stale"]) for top in shard.tops] == [("C", True)]
    shard.run(b"", T0 + bound + 1)
    assert [(fault["kind"], fault["instrument"]) for fault in shard.faults] == [("quiet", "C"), ("quiet", "A"), ("quiet", "B")]
    assert [top["event_at"] for top in shard.tops[1:]] == [instant_ms(T0 + bound)] * 2
    assert shard.requests == []
    shard.tops.clear()
    # One message of the venue tells that it lives, and the numbers tell that nothing was missed.
    shard.take(update("v:A", 2, bound + 5000, 7.0))
    shard.until(T0 + bound + 6000)
    assert [(t["instrument"], t["bid_size"], t["is_stale"]) for t in shard.tops] == [
        ("A", 1.0, False),
        ("B", 1.0, False),
        ("A", 7.0, False),
    ]
    assert shard.state.books["deribit:C"].fields["is_quiet"]


def test_gauges_tell_books_and_how_many_are_stale_for_whatever_reason() -> None:
    shard = Shard()
    assert books.gauges(shard.state) == {"instruments": 0, "stale_instruments": 0}
    for name in ("v:A", "v:B", "deribit:C"):
        shard.take(update(name, 1, 0, kind="snapshot"))
    shard.take(update("v:D", 2, 0))  # no snapshot
    shard.until(T0 + 1000)
    assert books.gauges(shard.state) == {"instruments": 4, "stale_instruments": 1}
    shard.take(update("v:A", 5, 1000))  # a gap
    shard.until(T0 + 2000)
    shard.run(b"", T0 + 2000)
    assert books.gauges(shard.state) == {"instruments": 4, "stale_instruments": 2}
    shard.run(b"", T0 + books.QUIET_MS["deribit"] + 1)
    assert books.gauges(shard.state) == {"instruments": 4, "stale_instruments": 3}
    shard.run(b"", T0 + 2 * books.IDLE_MS)
    assert books.gauges(shard.state) == {"instruments": 0, "stale_instruments": 0}


def test_a_number_between_two_that_followed_each_other_is_a_conflict() -> None:
    shard = Shard()
    shard.take(update("v:A", 1, 0, kind="snapshot"))
    shard.take({**update("v:A", 2, 100), "sequence": 900_002})
    shard.take(update("v:A", 3, 200))
    shard.until(T0 + 1000)
    # Until the grace has passed it may be of new numbers, and the one that begins them late.
    assert shard.faults == []
    shard.run(b"", T0 + 1000)
    assert [fault["kind"] for fault in shard.faults] == ["conflict"]
    shard.take(update("v:A", 4, 2000, kind="snapshot"))
    shard.take(update("v:A", 5, 2000))
    shard.until(T0 + 3000)
    book = shard.state.books["v:A"]
    assert (book.is_stale, book.sequence) == (False, 5)

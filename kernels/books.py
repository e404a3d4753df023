"""Order books: snapshots and numbered updates in, changes of the top and faults out.

A book goes by the venue's own sequence numbers.  An update that does not follow the last one waits for those between, which may
be late.  If they do not come within `GRACE_MS` of event time, they are lost: the book becomes stale, emits a fault and keeps
the updates that arrive.  A snapshot that the kept updates join makes it whole again.  If they do not join it yet, the snapshot
waits for the updates between, for the same time.  So the tops do not depend on the order of messages that differs by no more
than `GRACE_MS`.

A venue may restart its numbers.  An update that says that it follows the last one follows it, whatever its own number.  Any
other update whose number the book has passed is judged by its time.  If it is not later than the book, it is old and ignored.
If it is later, the venue has restarted its numbers, and the first messages with new numbers are late or lost.

The tops of a book never go back in time: if a message of an earlier instant changes the top, it has the time of the last top.

An instrument may have several channels: the whole book, and others with a limited number of levels (`depth`).  Each has its own
book.  The book of the deepest channel that is alive is shown, and messages of shallower ones are ignored.  A channel may be
silent as long as its venue may be quiet; after that, a message of a shallower channel that contradicts it ends it.  A whole
book that has had only its snapshot does not count as a channel yet: the first later message that contradicts it is shown, until
the whole book has caught up.

The best levels of each book are written every 100 ms: see `kernels.depth`.

A venue is quiet if neither its books here nor its `venue_times` had a message for long: then its books are stale.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from math import inf, nan
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from engine import batch
from engine.checks import FUTURE_MS, checked, dead_letter
from engine.contract import Kernel, Lines, Message, Migration, Output
from engine.entries import packed, unpacked
from kernels import depth
from kernels.ladders import ASK, BID, BOOK, CHANNEL, LEVEL_BYTES, Ladders
from kernels.plain_updates import PlainUpdates
from schemas.records import TABLES
from schemas.rows import Fault, encoded, fault, instant_ms, instant_us, shown, to_ms

VERSION = 4
STORE_SHARE = 0.1
"""A book is many times larger than what a message changes, so it pays to store it after several messages."""
GRACE_MS = 250
"""How long an update waits for those before it until the gap is a fault: longer than two paths into a kernel differ.

A snapshot with a lower number than its book, and later by more than this, has restarted numbers.
"""
KEPT_UPDATES = 2_000
"""How many updates a book keeps while it waits for a late one or for a snapshot."""
RESYNC_MS = 10_000
"""How long a stale book waits for the requested snapshot before it asks again."""
QUIET_MS = {"deribit": 60_000, "okx": 60_000}
OTHER_QUIET_MS = 120_000
"""How long a venue may send nothing at all; after that its books are stale until its next message."""
UNCHAINED = frozenset({"dydx"})
"""Venues without update numbers and without checksums: a change follows any change with a lower number.

By their documentation levels may cross, and of two crossed levels the later one is valid.
"""
SWEEP_MS = 10_000
"""How often a shard without messages is swept: a quiet venue is noticed this late at most."""
IDLE_MS = 24 * 60 * 60 * 1000
"""A book without an update for this long is freed, and an update that is older than its batch by this is refused."""

Levels = list[list[float]]
Row = dict[str, Any]

_COLUMNS = tuple(TABLES["order_books"].columns)
_MAX_SEQUENCE = 2**63 - 1  # BIGINT
_TOP = ("bid", "bid_size", "ask", "ask_size")
_SHOWN = ("was_shown", "was_stale", *_TOP, "shown_ms", "cut_ms", "depth_ms", "is_quiet")
"""The fields that describe what was last shown of an instrument, from whichever book."""
_number = itemgetter("sequence")


def _in_time_order(row: Row) -> tuple[int, int]:
    return to_ms(row["event_at"]), row["sequence"]


class Book:
    """The book of one channel: its number in `kernels.ladders`, and the messages that wait."""

    __slots__ = ("kept", "ladders", "number", "snapshot", "state")

    def __init__(self, state: "State", name: str) -> None:
        self.state = state
        self.ladders = state.ladders
        self.number = self.ladders.add(name)
        self.kept: list[Row] = []  # updates that wait for those before them or, if stale, for a snapshot
        # A snapshot that waits for the updates between it and the kept ones, or for proof of new numbers.
        self.snapshot: Row | None = None
        self.fields["is_stale"] = 1

    @property
    def fields(self) -> Any:
        """Its `ladders.BOOK`."""
        return self.ladders.arrays.books[self.number]

    @property
    def name(self) -> str:
        """Its name in the state."""
        return self.ladders.names_of[self.number]

    @property
    def depth(self) -> float:
        """The number of levels a side of its channel, at most."""
        channel = self.name.partition(CHANNEL)[2]
        return int(channel) if channel else inf

    @property
    def sequence(self) -> int | None:
        """The number of the last update applied; None before the first snapshot."""
        fields = self.fields
        return int(fields["sequence"]) if fields["has_sequence"] else None

    @sequence.setter
    def sequence(self, sequence: int | None) -> None:
        fields = self.fields
        fields["has_sequence"], fields["sequence"] = sequence is not None, sequence or 0

    @property
    def is_stale(self) -> bool:
        """Whether updates were lost, or the first snapshot has not come yet."""
        return bool(self.fields["is_stale"])

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was applied since the snapshot: the next update need only straddle it."""
        return bool(self.fields["is_fresh"])

    @property
    def event_ms(self) -> int:
        """The newest event time of the messages applied."""
        return int(self.fields["event_ms"])

    @property
    def reset_ms(self) -> int:
        """The newest event time before the venue restarted its numbers; 0 if it has not."""
        return int(self.fields["reset_ms"])

    @property
    def heard_ms(self) -> int:
        """The newest event time of the messages applied or waiting."""
        return max([self.event_ms, *(to_ms(row["event_at"]) for row in self.kept)])

    def levels(self) -> tuple[Levels, Levels]:
        """Bids and asks, each in ascending order of price."""
        return self.ladders.levels(2 * self.number + BID), self.ladders.levels(2 * self.number + ASK)

    def put(self, row: Row) -> None:
        """Set the levels of a row."""
        for side, column in ((BID, "bids"), (ASK, "asks")):
            if row[column]:
                self.ladders.put(2 * self.number + side, row[column])

    def uncross(self, row: Row) -> None:
        """Delete the levels that cross those that a row has just set; of two that it set itself, subtract the smaller size.

        This runs after every row of the book, so of two crossed levels at least one is from the last row.
        """
        bids, asks = 2 * self.number + BID, 2 * self.number + ASK
        newest: list[dict[float, Decimal]] | None = None
        while True:
            bid, ask = self.ladders.best(bids)[0], self.ladders.best(asks)[0]
            if bid is None or ask is None or bid < ask:
                return
            if newest is None:
                newest = [{float(price): Decimal(str(size)) for price, size in row[column]} for column in ("bids", "asks")]
            bid_size, ask_size = newest[BID].get(bid), newest[ASK].get(ask)
            if bid_size and ask_size:
                least = min(bid_size, ask_size)
                newest[BID][bid], newest[ASK][ask] = bid_size - least, ask_size - least
                self.ladders.put(bids, [[bid, bid_size - least]])
                self.ladders.put(asks, [[ask, ask_size - least]])
            elif bid_size:
                self.ladders.put(asks, [[ask, 0.0]])
            else:
                self.ladders.put(bids, [[bid, 0.0]])

    def number_anew(self) -> None:
        """Forget the sequence.  Kept updates with old numbers are dropped."""
        sequence = self.sequence
        if sequence is not None:
            self.kept = [row for row in self.kept if row["sequence"] <= sequence]
        self.sequence, self.fields["reset_ms"] = None, self.event_ms

    def clear(self) -> None:
        """Delete every level."""
        self.ladders.clear(2 * self.number + BID)
        self.ladders.clear(2 * self.number + ASK)


class Venue:
    """What is known about the time of one venue."""

    __slots__ = ("heard_ms", "number", "offset_ms")

    def __init__(self, number: int) -> None:
        self.number = number
        self.heard_ms = 0  # by its own clock: of its newest message, from `venue_times` and ignored messages
        self.offset_ms = 0  # how far its clock is ahead of the common time


class Touched(set[str]):
    """Names of books.  Each clearing changes its number, by which a book remembers that it is in the set."""

    _numbers = count(1)

    def __init__(self) -> None:
        super().__init__()
        self.number = next(self._numbers)

    def clear(self) -> None:
        """Empty it."""
        super().clear()
        self.number = next(self._numbers)


class State:
    """The books of one shard, by venue:instrument and the depth of the channel, if it has one; and the times of venues.

    Each is an entry; the name of a venue's entry is the venue's.
    """

    def __init__(self) -> None:
        self.ladders = Ladders()
        self.plain = PlainUpdates()
        self.books: dict[str, Book] = {}
        self.venues: dict[str, Venue] = {}
        self.channels: dict[str, set[str]] = {}  # names of books by venue:instrument, if there are books of limited depth
        self.quiet: set[str] = set()  # venues
        self.touched = Touched()
        self.waiting: set[str] = set()  # books that are not stale but keep updates
        self.stale: set[str] = set()  # books that need a snapshot
        self.depth_rows: list[Output] = []  # rows of intervals that a message has ended, not emitted yet
        self.until_ms: int | None = None  # the end of the current batch

    def encode(self, name: str) -> bytes | None:
        """One book or venue as bytes, or None if it no longer exists."""
        if ":" not in name:
            venue = self.venues[name]
            return packed(VERSION, {"heard_ms": venue.heard_ms, "offset_ms": venue.offset_ms})
        book = self.books.get(name)
        if book is None:
            return None
        # All fields at once takes as long as each single one.
        fields = dict(zip(BOOK.names or (), book.fields.item(), strict=True))
        counts, levels = self.ladders.encode(book.number)
        head = {
            "sequence": fields["sequence"] if fields["has_sequence"] else None,
            **{field: fields[field] for field in _TIMES},
            **{field: bool(fields[field]) for field in _TRUTHS},
            "top": [_maybe(fields[name]) for name in _TOP] if fields["was_shown"] else None,
            "kept": [encoded(row).decode() for row in book.kept],
            "snapshot": None if book.snapshot is None else encoded(book.snapshot).decode(),
            "counts": counts,
            "texts": [self.ladders.texts_of(2 * book.number + side) for side in (BID, ASK)],
        }
        return b"%c%s\n%s" % (VERSION, orjson.dumps(head), levels)

    def decode(self, name: str, data: bytes) -> None:
        """Restore a book or venue from the bytes of `encode`.  Raises `ValueError` for a version that cannot be read."""
        text, _, levels = data.partition(b"\n")
        head = unpacked("books", name, text, VERSION, MIGRATIONS)
        if ":" not in name:
            self.hear(name, head["heard_ms"], head["offset_ms"])
            return
        book = self._add(name)
        book.sequence = head["sequence"]
        fields = book.fields
        for field in (*_TIMES, *_TRUTHS):
            fields[field] = head[field]
        if head["top"] is not None:
            fields["was_shown"] = 1
            for field, value in zip(_TOP, head["top"], strict=True):
                fields[field] = nan if value is None else value
        book.kept = [_exact(row.encode()) for row in head["kept"]]
        fields["keeps"] = bool(book.kept)
        book.snapshot = None if head["snapshot"] is None else _exact(head["snapshot"].encode())
        bids, asks = head["counts"]
        self.ladders.decode(2 * book.number + BID, bids, levels[: LEVEL_BYTES * bids])
        self.ladders.decode(2 * book.number + ASK, asks, levels[LEVEL_BYTES * bids :])
        for side, texts in zip((BID, ASK), head["texts"], strict=True):
            self.ladders.put_texts(2 * book.number + side, texts)
        if book.is_stale:
            self.stale.add(name)
        elif book.kept:
            self.waiting.add(name)
        if fields["is_quiet"]:
            self.quiet.add(name.partition(":")[0])

    def book(self, name: str) -> Book:
        """The book with this name, a new one if there is none."""
        return self.books.get(name) or self._add(name)

    def free(self, name: str) -> None:
        """Forget a book."""
        del self.books[name]
        self.stale.discard(name)
        self.waiting.discard(name)
        self.ladders.remove(name)
        self.touched.add(name)
        instrument = name.partition(CHANNEL)[0]
        if instrument in self.channels:
            self.channels[instrument].discard(name)
            if self.channels[instrument] <= {instrument}:
                del self.channels[instrument]

    def shown(self, instrument: str) -> Book | None:
        """The book of an instrument that is shown, if there is one."""
        names = self.channels.get(instrument, (instrument,))
        return next(
            (self.books[name] for name in names if name in self.books and not self.books[name].fields["is_hidden"]), None
        )

    def show(self, book: Book, event_ms: int) -> None:
        """Show this book of its instrument from now on.  Books of shallower channels are freed, for each of their messages is
        complete."""
        instrument = book.name.partition(CHANNEL)[0]
        before = self.shown(instrument)
        if before is book:
            return
        book.fields["is_hidden"] = 0
        if before is not None:
            depth.before_message(self, before, event_ms)
            for field in _SHOWN:
                book.fields[field] = before.fields[field]
            before.fields["is_hidden"], before.fields["cut_ms"] = 1, 0
            self.touched.add(before.name)
        for name in sorted(self.channels.get(instrument, ())):
            if self.books[name].depth < book.depth:
                self.free(name)

    def hear(self, name: str, heard_ms: int, offset_ms: int | None = None) -> None:
        """Note that a venue has sent a message at an instant of its own clock, and how far that clock is ahead."""
        venue = self.venue(name)
        if offset_ms is not None and heard_ms >= venue.heard_ms and offset_ms != venue.offset_ms:
            venue.offset_ms = offset_ms
            fields = self.ladders.arrays.books
            fields["offset_ms"][fields["venue"] == venue.number] = offset_ms
        venue.heard_ms = max(venue.heard_ms, heard_ms)

    def venue(self, name: str) -> Venue:
        """The venue with this name."""
        if name not in self.venues:
            self.venues[name] = Venue(len(self.venues) + 1)  # 0 is for free slots
        return self.venues[name]

    def _add(self, name: str) -> Book:
        book = self.books[name] = Book(self, name)
        venue_name = name.partition(":")[0]
        venue = self.venue(venue_name)
        book.fields["venue"], book.fields["offset_ms"] = venue.number, venue.offset_ms
        book.fields["is_unchained"] = venue_name in UNCHAINED
        instrument, is_part, _ = name.partition(CHANNEL)
        if is_part or instrument in self.channels:
            names = self.channels.setdefault(instrument, {instrument} & self.books.keys())
            # It is shown once it has a top.
            book.fields["is_hidden"] = bool(names)
            names.add(name)
        return book


_TIMES = ("previous", "event_ms", "shown_ms", "reset_ms", "cut_ms", "depth_ms", "resync_ms")
_TRUTHS = ("is_stale", "is_fresh", "is_quiet", "is_hidden", "was_stale")


def new() -> State:
    """No books."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """The number of books, and of stale ones: after a gap, without a snapshot, or because their venue is quiet."""
    fields = state.ladders.arrays.books[[book.number for book in state.books.values()]]
    fields = fields[fields["is_hidden"] == 0]
    return {"instruments": len(fields), "stale_instruments": int((fields["is_stale"] | fields["is_quiet"]).sum())}


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[Lines], bytes]:
    """Apply the plain updates of a batch from its bytes; returns their rows, and the records that are left for `step`.

    If none is left, `step` need not be called.
    """
    lines: list[Lines] = []
    names = state.ladders.names_of
    state.until_ms = until_ms
    while True:
        taken = state.plain.take(state.ladders, data, until_ms, state.touched.number, depth.INTERVAL_MS)
        state.touched.update(map(names.__getitem__, taken.changed))
        if taken.heads:
            lines.append(Lines("book_tops", taken.heads, taken.values))
        data = taken.rest
        if not taken.passed:
            break
        # Their interval is over: write its rows, then apply the updates of these books that were left.
        lines += depth.lines(state, sorted(set(taken.passed)))
    if (state.waiting or state.stale) and not data:
        with _touched_here(state) as touched:
            lines += batch.encode(_before_its_end(_in_time(state, until_ms), until_ms))
        depth.mark(state, touched, until_ms)
    return lines, data


def end_window(state: State, until_ms: int) -> list[Lines]:
    """The depth rows of the intervals that are over at the end of a window."""
    state.until_ms = until_ms
    return depth.lines(state, depth.over(state, until_ms))


@contextmanager
def _touched_here(state: State) -> Iterator[set[str]]:
    """The names that are touched within the block, as a set; the state gets them, too."""
    earlier, state.touched = state.touched, Touched()
    yield state.touched
    earlier |= state.touched
    state.touched = earlier


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch of rows of `order_books` and `venue_times`.

    Late messages have no batch end: the next end of a window writes the rows of depth of their intervals.
    """
    state.until_ms = until_ms
    with _touched_here(state) as touched:
        outputs = _stepped(state, messages, until_ms)
        if until_ms is None:
            depth.mark_late(state, touched)
        else:
            depth.mark(state, touched, until_ms)
            if not messages:
                depth.sweep(state, until_ms, newest_ms(state))
        outputs += state.depth_rows
        state.depth_rows = []
    return outputs


def _stepped(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    outputs: list[Output] = []
    good: list[Message] = []
    for message in sorted(messages, key=attrgetter("offset")):
        if message.table == "venue_times":
            continue
        if (wrong := _wrong(message.row, until_ms)) is None:
            good.append(message)
        else:
            outputs.append(dead_letter(message, wrong, until_ms))
    for name, row in _in_order(state, good):
        _take(state, name, row, until_ms, outputs)
    # A venue's time follows the messages up to that time.
    times, letters = checked([message for message in messages if message.table == "venue_times"], until_ms)
    outputs += letters
    for message in sorted(times, key=lambda message: to_ms(message.row["event_at"])):
        _hear(state, message.row, outputs)
    if until_ms is None:
        return outputs + [request for name in sorted(state.stale) if (request := _resync(state, name, None))]
    if not messages:
        outputs += _quieted(state, until_ms)
    outputs += _in_time(state, until_ms)
    if not messages:
        _free_idle(state, until_ms)
    return _before_its_end(outputs, until_ms)


def _before_its_end(outputs: list[Output], until_ms: int) -> list[Output]:
    """The rows of a batch, with no record timestamp after the batch, which would advance readers' watermarks too far.  There
    may
    be some while the offset of a venue's clock is not known."""
    return [
        output._replace(event_ms=until_ms - 1) if output.event_ms >= until_ms and output.table in _OWN_TIMED else output
        for output in outputs
    ]


_OWN_TIMED = ("book_tops", "feed_faults")


def _hear(state: State, row: Row, outputs: list[Output]) -> None:
    event_ms = to_ms(row["event_at"])
    state.hear(row["venue"], event_ms, row["offset_ms"])
    state.touched.add(row["venue"])
    if row["venue"] in state.quiet:
        _wake(state, row["venue"], row, event_ms, outputs)


def _take(state: State, name: str, row: Row, until_ms: int | None, outputs: list[Output]) -> None:
    """Apply a message of any channel."""
    event_ms, venue = to_ms(row["event_at"]), row["venue"]
    if venue in state.quiet:
        _wake(state, venue, row, event_ms, outputs)
    instrument, is_part, _ = name.partition(CHANNEL)
    if is_part and any(_outranks(book, row, event_ms) for book in _deeper(state, instrument, row["depth"])):
        state.hear(venue, event_ms)
        state.touched.add(venue)
        return
    book = state.book(name)
    if is_part:
        state.show(book, event_ms)
    depth.before_message(state, book, event_ms)
    if until_ms is None and book.is_stale and row["prev_sequence"] is not None and row["prev_sequence"] == book.sequence:
        shown_ms = int(book.fields["shown_ms"])
        outputs.append(_fault(book, row, "late", "before its gap was declared", f"after {instant_ms(shown_ms)}"))
    # Nothing is lost before the end of its batch: the updates between may come later in it.
    if row["kind"] == "snapshot":
        _snapshot(book, row, None, outputs)
    elif _follows(book, row) and not book.is_stale:
        _change(book, row, outputs)
        _show(book, row, event_ms, outputs)
        if book.kept:
            _continue(book, outputs)
    else:
        _update(book, row, event_ms, outputs)
    if book.fields["is_hidden"] and _has_caught_up(book, state.shown(instrument)):
        state.show(book, event_ms)
        _show(book, {**row, "sequence": book.sequence or 0}, event_ms, outputs)
    _settle(state, name, book)


def _deeper(state: State, instrument: str, depth: float) -> Iterable[Book]:
    names = state.channels.get(instrument) or {instrument} & state.books.keys()
    return [book for name in sorted(names) if (book := state.books[name]).depth > depth]


def _outranks(book: Book, row: Row, event_ms: int) -> bool:
    """Whether a deeper book is still shown after a message of a shallower channel."""
    sequence, venue = book.sequence, row["venue"]
    if sequence is None and not book.fields["was_shown"]:
        return False
    is_silent = event_ms - book.heard_ms > QUIET_MS.get(venue, OTHER_QUIET_MS)
    is_alone = book.is_fresh and book.depth == inf and event_ms > book.event_ms and row["sequence"] > (sequence or 0)
    if not is_silent and (book.is_stale or not is_alone):
        return True
    return not book.is_stale and _agrees(book, row)


def _agrees(book: Book, row: Row) -> bool:
    """Whether a message of a shallower channel has the same best levels as a book."""
    shown = [sorted([float(price), float(size)] for price, size in row[side] if size) for side in ("bids", "asks")]
    bids, asks = book.levels()
    return shown == [bids[-row["depth"] :], asks[: row["depth"]]]


def _has_caught_up(book: Book, shown: Book | None) -> bool:
    if book.is_stale:
        return False
    patience_ms = 0 if book.is_fresh else GRACE_MS
    return shown is None or book.event_ms + patience_ms >= shown.event_ms


def _settle(state: State, name: str, book: Book) -> None:
    book.fields["keeps"] = bool(book.kept)
    if book.is_stale:
        state.stale.add(name)
    else:
        state.stale.discard(name)
        book.fields["resync_ms"] = 0
        if book.kept:
            state.waiting.add(name)
    state.touched.add(name)


def _in_time(state: State, until_ms: int) -> list[Output]:
    """The rows that are due by time: faults for updates that did not come, and requests for snapshots."""
    outputs: list[Output] = []
    if state.waiting:
        _end_waiting(state, until_ms, outputs)
    for name in sorted(state.stale):
        book = state.books[name]
        if book.snapshot is not None:
            _try_again(book, until_ms, outputs)
            _settle(state, name, book)
    for name in sorted(state.stale):
        if (request := _resync(state, name, until_ms)) is not None:
            outputs.append(request)
    return outputs


def _resync(state: State, name: str, until_ms: int | None) -> Output | None:
    """Ask for a fresh snapshot of a stale book, once in `RESYNC_MS`; a late message asks at the instant of its book."""
    book = state.books[name]
    asked_ms = int(book.fields["resync_ms"])
    if asked_ms and (until_ms is None or until_ms < asked_ms + RESYNC_MS):
        return None
    at_ms = until_ms or book.event_ms or max((to_ms(row["received_at"]) for row in book.kept), default=1)
    book.fields["resync_ms"] = at_ms
    state.touched.add(name)
    venue, instrument = _parts(name)
    row = {
        "venue": venue,
        "instrument": instrument,
        "event_at": instant_ms(at_ms),
        "sequence": book.sequence,
        "reason": "no_snapshot" if book.sequence is None else "stale",
    }
    return Output("resync_requests", at_ms, row)


def newest_ms(state: State) -> dict[str, int]:
    """The newest event time of each venue's messages, by its own clock."""
    newest = {name: venue.heard_ms for name, venue in state.venues.items()}
    for name, book in state.books.items():
        venue = name.partition(":")[0]
        newest[venue] = max(newest[venue], book.event_ms, to_ms(book.kept[-1]["event_at"]) if book.kept else 0)
    return newest


def _quieted(state: State, until_ms: int) -> list[Output]:
    """Show every book of a quiet venue as stale."""
    outputs: list[Output] = []
    newest = newest_ms(state)
    for name, book in sorted(state.books.items()):
        venue, instrument = _parts(name)
        bound_ms = QUIET_MS.get(venue, OTHER_QUIET_MS)
        fields = book.fields
        is_over = until_ms + int(fields["offset_ms"]) - newest[venue] > bound_ms
        if fields["is_quiet"] or fields["is_hidden"] or not is_over or not newest[venue]:
            continue
        fields["is_quiet"] = 1
        state.quiet.add(venue)
        state.touched.add(name)
        at_ms = newest[venue] + bound_ms
        row = {
            "venue": venue,
            "instrument": instrument,
            "event_at": instant_ms(at_ms),
            "received_at": instant_us(at_ms * 1000),
            "sequence": book.sequence or 0,
        }
        outputs.append(_fault(book, row, "quiet", f"a message of {venue} within {bound_ms / 1000:g} s", "none"))
        _show(book, row, at_ms, outputs)
    return outputs


def _wake(state: State, venue: str, row: Row, event_ms: int, outputs: list[Output]) -> None:
    """The venue sends again: its books are no longer quiet, and their numbers will show whether updates were lost."""
    state.quiet.discard(venue)
    for name, book in sorted(state.books.items()):
        if book.fields["is_quiet"] and name.startswith(venue + ":"):
            book.fields["is_quiet"] = 0
            state.touched.add(name)
            row_of_book = {**row, "instrument": _parts(name)[1], "sequence": book.sequence or 0}
            _show(book, row_of_book, event_ms, outputs)


def _parts(name: str) -> tuple[str, str]:
    """Venue and instrument of a book's name."""
    venue, _, instrument = name.partition(CHANNEL)[0].partition(":")
    return venue, instrument


def _name(row: Row) -> str:
    name: str = row["venue"] + ":" + row["instrument"]
    return name if row.get("depth") is None else f"{name}{CHANNEL}{row['depth']}"


def _in_order(state: State, messages: list[Message]) -> Iterator[tuple[str, Row]]:
    """Name and row of each message, in the order in which to apply them.

    That is the order of the log while each update follows its book, as in `take_plain`.  From the first update of a book that
    does not, it is the order of time, for numbers may restart.  An update that comes before its predecessor waits for it.
    """
    left: list[tuple[tuple[int, int], int, str, Row]] = []
    broken: set[str] = set()
    for message in messages:
        row = message.row
        if message.value:
            row = _exact(message.value, row)
        name = _name(row)
        book = state.books.get(name)
        if name not in broken and book and row["kind"] == "change" and not (book.is_stale or book.kept) and _follows(book, row):
            yield name, row
        else:
            broken.add(name)
            left.append((_in_time_order(row), message.offset, name, row))
    for _, _, name, row in sorted(left, key=itemgetter(0, 1)):
        yield name, row


def _wrong(row: Any, until_ms: int | None) -> Fault | None:
    """Why a row cannot be used, or None."""
    if (wrong := fault("order_books", row)) is not None:
        return wrong
    batch_ms = to_ms(row["received_at"]) if until_ms is None else until_ms
    if not -IDLE_MS <= to_ms(row["event_at"]) - batch_ms <= FUTURE_MS:
        expected = f"from a day before to a minute after its batch, {instant_ms(batch_ms)}"
        return Fault("event_at", expected, shown(row["event_at"]))
    for column in ("sequence", "prev_sequence"):
        if (number := row.get(column)) is not None and number > _MAX_SEQUENCE:
            return Fault(column, "BIGINT", shown(number))
    if (depth := row.get("depth")) is not None and depth <= 0:
        return Fault("depth", "above zero", shown(depth))
    for side in ("bids", "asks"):
        for level in row[side]:
            if level[0] <= 0:
                return Fault(side, "prices above zero", shown(level))
            if level[1] < 0:
                return Fault(side, "sizes of zero or above", shown(level))
    if row["kind"] == "change":
        is_numbered = row.get("prev_sequence") is not None or row.get("checksum") is not None or row["venue"] in UNCHAINED
        return None if is_numbered else Fault("prev_sequence", "BIGINT, not NULL in a change without checksum", "NULL")
    if row["kind"] != "snapshot":
        return Fault("kind", "snapshot or change", shown(row["kind"]))
    bid = max((price for price, size in row["bids"] if size), default=0)
    ask = min((price for price, size in row["asks"] if size), default=inf)
    return None if bid < ask else Fault("bids", "a best bid below the best ask", shown([bid, ask]))


def _exact(value: bytes, row: Row | None = None) -> Row:
    """A row with all the digits of its levels, as they were sent, if a checksum needs them or may need them later.

    `row` is the same row without them, if it is decoded already.
    """
    if row is None:
        row = orjson.loads(value)
    is_exact = row.get("checksum") is not None or row["kind"] == "snapshot"
    return json.loads(value, parse_float=Decimal) if is_exact else row


def _follows(book: Book, row: Row) -> bool:
    """Whether this update follows a whole book without a gap, as far as the venue's numbers show."""
    sequence, previous = book.sequence, row["prev_sequence"]
    if sequence is None:
        return False
    return bool(previous == sequence if previous is not None else row["sequence"] >= sequence)


def _comes_after(row: Row, sequence: int) -> bool:
    """Whether an update continues a snapshot of this sequence, as far as the venue's numbers show."""
    previous = row["prev_sequence"]
    return bool(previous == sequence if previous is not None else row["sequence"] > sequence)


def _straddles(row: Row, sequence: int) -> bool:
    """Whether a later update joins a snapshot of this sequence without a gap; it may begin before the snapshot."""
    return row["sequence"] > sequence and (row["prev_sequence"] is None or row["prev_sequence"] <= sequence)


def _change(book: Book, row: Row, outputs: list[Output]) -> None:
    fields, sequence, event_ms = book.fields, book.sequence or 0, to_ms(row["event_at"])
    depth.before_message(book.state, book, event_ms)
    book.put(row)
    if row["venue"] in UNCHAINED:
        book.uncross(row)
    if row["sequence"] < sequence:
        fields["reset_ms"] = fields["event_ms"]
    fields["previous"] = sequence
    book.sequence = row["sequence"]
    fields["is_fresh"] = 0
    fields["event_ms"] = max(event_ms, int(fields["event_ms"]))
    _verify(book, row, outputs)


def _verify(book: Book, row: Row, outputs: list[Output]) -> None:
    """Compare the book with the venue's checksum: if it differs, the book is stale from this message on."""
    if (checksum := row.get("checksum")) is None or checksum == (computed := book.ladders.checksum(book.number)):
        return
    outputs.append(_fault(book, row, "checksum", str(checksum), str(computed)))
    book.fields["is_stale"] = 1


def _update(book: Book, row: Row, event_ms: int, outputs: list[Output]) -> None:
    """Apply, drop or keep an update that does not simply follow the last one."""
    if book.sequence is not None and not book.is_stale:
        if _is_old(book, row):
            return
        if book.is_fresh and _straddles(row, book.sequence):
            _change(book, row, outputs)
            _show(book, row, event_ms, outputs)
            _continue(book, outputs)
            return
    book.kept.append(_known(row))
    if len(book.kept) > KEPT_UPDATES:
        if not book.is_stale:
            _lose(book, min(book.kept, key=_in_time_order), outputs)
        del book.kept[0]
    if book.snapshot is not None:
        _try_again(book, None, outputs)


def _is_old(book: Book, row: Row) -> bool:
    """Whether the book has passed an update that does not follow it.  At the book's own instant, its number may be new."""
    event_ms, sequence = to_ms(row["event_at"]), book.sequence
    assert sequence is not None
    if row["sequence"] > sequence:
        return event_ms < book.reset_ms
    if row["prev_sequence"] is None:
        return event_ms <= book.event_ms
    return event_ms < book.event_ms or (row["sequence"] == sequence and event_ms == book.event_ms)


def _shows_loss(book: Book, row: Row) -> bool:
    """Whether a kept update proves that one before it is lost or late."""
    event_ms, sequence = to_ms(row["event_at"]), book.sequence
    assert sequence is not None
    if row["sequence"] > sequence:
        return not book.reset_ms or event_ms > book.reset_ms
    # Updates in a snapshot may have a slightly later time than the snapshot.
    return event_ms > book.event_ms + (GRACE_MS if book.is_fresh else 0)


def _followers(book: Book, outputs: list[Output], until_ms: float = inf) -> Iterator[Row]:
    """Apply the kept updates that follow now, one by one, up to `until_ms`."""
    rows = sorted(book.kept, key=_in_time_order)
    after: dict[int | None, list[Row]] = {}
    for row in reversed(rows):
        after.setdefault(row["prev_sequence"], []).append(row)
    taken: set[int] = set()
    while not book.is_stale:
        sequence = book.sequence
        assert sequence is not None
        following = after.get(sequence)
        if not following and book.is_fresh:
            straddling = min((row for row in rows if _straddles(row, sequence)), key=_number, default=None)
            following = [] if straddling is None else after[straddling["prev_sequence"]]
            if straddling is not None:
                following.remove(straddling)
                following.append(straddling)
        if not following and (following := after.get(None)):
            while following and following[-1]["sequence"] < sequence:
                following.pop()
        if not following or to_ms(following[-1]["event_at"]) > until_ms:
            break
        row = following.pop()
        taken.add(id(row))
        _change(book, row, outputs)
        yield row
    book.kept = [row for row in book.kept if id(row) not in taken and (book.is_stale or not _is_old(book, row))]


def _continue(book: Book, outputs: list[Output]) -> None:
    for row in _followers(book, outputs):
        _show(book, row, to_ms(row["event_at"]), outputs)


def _end_waiting(state: State, until_ms: int, outputs: list[Output]) -> None:
    """Declare updates lost that did not come in time, and drop snapshots that waited in vain."""
    for name in sorted(state.waiting):
        book = state.books.get(name)
        if book is None or book.is_stale or not book.kept:
            state.waiting.discard(name)
            continue
        bound_ms = until_ms + int(book.fields["offset_ms"]) - GRACE_MS
        over = [row for row in book.kept if to_ms(row["event_at"]) <= bound_ms]
        if not over:
            continue
        if losses := [row for row in over if _shows_loss(book, row)]:
            _lose(book, min(losses, key=_in_time_order), outputs)
            if book.snapshot is not None:
                _try_again(book, until_ms, outputs)
        else:
            book.kept = [row for row in book.kept if to_ms(row["event_at"]) > bound_ms]
        state.waiting.discard(name)
        _settle(state, name, book)


def _lose(book: Book, row: Row, outputs: list[Output], kind: str = "gap") -> None:
    """Declare the updates before `row` lost."""
    sequence, fields = book.sequence, book.fields
    assert sequence is not None
    is_behind = row["sequence"] <= sequence
    if is_behind and fields["previous"] < row["sequence"] < sequence:
        # The number is between the last two that the book has applied: the last one did not follow.
        kind = "conflict"
    if row["prev_sequence"] is None:
        outputs.append(_fault(book, row, kind, f"sequence {sequence} or later", f"sequence {row['sequence']}"))
    else:
        outputs.append(_fault(book, row, kind, f"prev_sequence {sequence}", f"prev_sequence {row['prev_sequence']}"))
    fields["is_stale"], fields["is_fresh"] = 1, 0
    _show(book, row, to_ms(row["event_at"]), outputs)
    if is_behind:
        book.number_anew()


def _snapshot(book: Book, row: Row, until_ms: int | None, outputs: list[Output]) -> None:
    """Start from a snapshot, and apply the updates that were kept for it."""
    sequence, event_ms, known, fields = row["sequence"], to_ms(row["event_at"]), book.sequence, book.fields
    if sequence == known and not book.is_stale:
        return
    if known is not None and sequence < known and not _is_numbered_anew(book, row):
        if book.is_stale:
            outputs.append(_fault(book, row, "snapshot_outdated", f"sequence {known} or later", f"sequence {sequence}"))
        elif event_ms >= book.event_ms:
            # Its numbers are new, if updates that follow it show that.
            book.snapshot = _known(row)
        return
    is_anew = known is not None and sequence < known
    kept = [update for update in book.kept if update["sequence"] <= (known or 0)] if is_anew else book.kept
    # Once numbers have restarted, the time counts, and not the number.
    kept, newer = _left_by(row, kept, GRACE_MS if known is not None or not book.reset_ms else 0)
    if (book.reset_ms > event_ms and sequence != known) or (book.is_stale and newer):
        # It has the old numbers.
        if book.is_stale:
            expected = f"a snapshot after {newer[0]['event_at'] if newer else instant_ms(book.reset_ms)}"
            outputs.append(_fault(book, row, "snapshot_outdated", expected, row["event_at"]))
        return
    later = [update for update in kept if update["sequence"] > sequence]
    is_joined = any(update["prev_sequence"] == sequence or _straddles(update, sequence) for update in kept)
    if book.is_stale and later and not is_joined:
        first = min(later, key=_number)
        if until_ms is None or to_ms(first["event_at"]) + GRACE_MS > until_ms + int(fields["offset_ms"]):
            # The updates between are late or lost.
            if book.snapshot is None or sequence >= book.snapshot["sequence"]:
                book.snapshot = _known(row)
            return
        expected = f"a snapshot at {first['prev_sequence']} or later"
        outputs.append(_fault(book, row, "snapshot_outdated", expected, f"sequence {sequence}"))
        return
    depth.before_message(book.state, book, event_ms)
    book.clear()
    book.put(row)
    if is_anew:
        fields["reset_ms"] = fields["event_ms"]
    book.sequence, book.kept, book.snapshot = sequence, kept, None
    fields["previous"], fields["is_fresh"], fields["is_stale"] = sequence, 1, 0
    fields["event_ms"] = max(event_ms, int(fields["event_ms"]))
    _verify(book, row, outputs)
    # Updates before the instant of the snapshot are in it or changed nothing: time does not go back.
    for _ in _followers(book, outputs, event_ms - 1):
        pass
    _show(book, {**row, "sequence": book.sequence}, event_ms, outputs)
    _continue(book, outputs)


def _is_numbered_anew(book: Book, row: Row) -> bool:
    """Whether a snapshot whose number the book has passed has new numbers, and is not just old."""
    sequence = book.sequence
    assert sequence is not None
    times_ms = [to_ms(update["event_at"]) for update in book.kept if update["sequence"] > sequence]
    newest_ms = max([book.event_ms, *times_ms])
    event_ms = to_ms(row["event_at"])
    is_followed = any(
        update["sequence"] <= sequence and _comes_after(update, row["sequence"]) and _shows_loss(book, update)
        for update in book.kept
    )
    return event_ms > newest_ms + GRACE_MS or (event_ms >= newest_ms and is_followed)


def _left_by(snapshot: Row, kept: list[Row], patience_ms: int) -> tuple[list[Row], list[Row]]:
    """The kept updates that a snapshot may lack: those with a later number or time, or following it.

    Also those of them that it contains by its number, but not by its time: they are later by more than `patience_ms`.
    """
    sequence, event_ms = snapshot["sequence"], to_ms(snapshot["event_at"])
    after: dict[int, list[Row]] = {}
    for row in kept:
        if row["prev_sequence"] is not None:
            after.setdefault(row["prev_sequence"], []).append(row)
    following: set[int] = set()
    ahead = [sequence]
    while ahead:
        for row in after.pop(ahead.pop(), ()):
            following.add(id(row))
            ahead.append(row["sequence"])
    left, newer = [], []
    for row in kept:
        row_ms = to_ms(row["event_at"])
        if row["sequence"] > sequence or id(row) in following:
            left.append(row)
        elif row["prev_sequence"] is not None and row["sequence"] < sequence and row_ms >= event_ms:
            left.append(row)
            if row_ms > event_ms + patience_ms:
                newer.append(row)
    return left, newer


def _try_again(book: Book, until_ms: int | None, outputs: list[Output]) -> None:
    """Start from the waiting snapshot, if the kept updates join it now; it waits for `GRACE_MS` at most."""
    row, book.snapshot = book.snapshot, None
    assert row is not None
    _snapshot(book, row, until_ms, outputs)


def _known(row: Row) -> Row:
    """A row without columns that its DDL does not have."""
    return {column: row.get(column) for column in _COLUMNS}


def _show(book: Book, row: Row, event_ms: int, outputs: list[Output]) -> None:
    """Emit the top if it differs from the last one, at `event_ms` and not before that one; a crossed top only as stale."""
    bid, bid_size = book.ladders.best(2 * book.number + BID)
    ask, ask_size = book.ladders.best(2 * book.number + ASK)
    fields = book.fields
    if bid is not None and ask is not None and bid >= ask and not fields["is_stale"]:
        outputs.append(_fault(book, row, "crossed", "a best bid below the best ask", f"bid {bid}, ask {ask}"))
        fields["is_stale"] = 1
    if fields["is_hidden"]:
        return
    event_ms = max(event_ms, int(fields["shown_ms"]))
    fields["shown_ms"] = event_ms
    is_stale = bool(fields["is_stale"] or fields["is_quiet"])
    top = (bid, bid_size, ask, ask_size)
    if fields["was_shown"] and fields["was_stale"] == is_stale and top == tuple(_maybe(fields[name]) for name in _TOP):
        return
    fields["was_shown"], fields["was_stale"] = 1, is_stale
    for name, value in zip(_TOP, top, strict=True):
        fields[name] = nan if value is None else value
    outputs.append(
        Output(
            "book_tops",
            event_ms - int(fields["offset_ms"]),
            {
                "venue": row["venue"],
                "instrument": row["instrument"],
                "event_at": instant_ms(event_ms),
                "received_at": row["received_at"],
                "sequence": row["sequence"],
                "bid_price": bid,
                "bid_size": bid_size,
                "ask_price": ask,
                "ask_size": ask_size,
                "is_stale": is_stale,
            },
        )
    )


def _maybe(number: float) -> float | None:
    return None if number != number else float(number)


def _fault(book: Book, row: Row, kind: str, expected: str, got: str) -> Output:
    return Output(
        "feed_faults",
        to_ms(row["event_at"]) - int(book.fields["offset_ms"]),
        {
            "venue": row["venue"],
            "instrument": row["instrument"],
            "event_at": row["event_at"],
            "received_at": row["received_at"],
            "kind": kind,
            "sequence": row["sequence"],
            "expected": expected,
            "got": got,
        },
    )


def _without_snapshot(name: str, head: Row) -> Row:
    """Version 2 dropped a snapshot that the kept updates did not join at once."""
    return {**head, "snapshot": None}


def _without_channels(name: str, head: Row) -> Row:
    """Version 3 had one channel for each instrument, no restarted numbers and no digits beyond 15."""
    added = {"shown_ms": head["event_ms"], "reset_ms": 0, "cut_ms": 0, "depth_ms": 0, "is_hidden": False, "texts": [[], []]}
    return {**added, **head}


def _free_idle(state: State, until_ms: int) -> None:
    oldest = until_ms - IDLE_MS
    for name, book in list(state.books.items()):
        if book.event_ms < oldest and not (book.kept and to_ms(book.kept[-1]["event_at"]) >= oldest):
            state.free(name)


MIGRATIONS: dict[int, Migration] = {2: _without_snapshot, 3: _without_channels}


KERNEL = Kernel(
    name="books",
    version=VERSION,
    new=new,
    step=step,
    take_plain=take_plain,
    end_window=end_window,
    gauges=gauges,
    migrations=MIGRATIONS,
    sweep_ms=SWEEP_MS,
    store_share=STORE_SHARE,
)

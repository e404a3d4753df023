"""Order books: snapshots and numbered updates in, changes of the top and faults out.

A book is followed by the venue's own numbers.  An update that does not follow the last one waits for those between, which may
be late; where they do not come within `GRACE_MS` of event time they are lost: the book is stale from then on, says so, keeps
what arrives, and is whole again at a snapshot that the kept updates join.  A snapshot that they do not join yet waits for as
long, for what lies between.  So the tops do not depend on the order in which messages come, as far as it is within the grace.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from math import inf, nan
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from kernels import Message, Output, batch
from kernels.checks import FUTURE_MS, dead_letter
from kernels.entries import Migration, unpacked
from kernels.ladders import ASK, BID, BOOK, LEVEL_BYTES, Ladders
from kernels.plain_updates import PlainUpdates
from schemas.records import TABLES
from schemas.rows import Fault, encoded, fault, instant_ms, instant_us, shown, to_ms

VERSION = 3
STORE_SHARE = 0.1
"""A book is many times what a message changes of it, so that it pays to wait for more of them."""
SHARED: frozenset[str] = frozenset()
GRACE_MS = 250
"""How long an update waits for the ones before it until the gap is a fault: more than two paths into a kernel differ by."""
KEPT_UPDATES = 2_000
"""How many updates a book keeps while it waits, for a late one or for a snapshot."""
RENUMBERED_MS = 60_000
"""How much later than its book a message of a lower sequence is no late one: the venue has begun to number anew."""
RESYNC_MS = 10_000
"""How long a stale book waits for the snapshot that it asked for before it asks again."""
QUIET_MS = {"deribit": 60_000, "okx": 60_000}
OTHER_QUIET_MS = 120_000
"""How long a venue may say nothing of all the books of a shard; after that they are stale, until it speaks again."""
SWEEP_MS = 10_000
"""How often time passes for a shard without messages: how late it may be noticed that a venue is quiet."""
IDLE_MS = 24 * 60 * 60 * 1000
"""A book without an update for this long is freed, and an update older than this is none of its batch."""

Levels = list[list[float]]
Row = dict[str, Any]

_COLUMNS = tuple(TABLES["order_books"].columns)
_MAX_SEQUENCE = 2**63 - 1  # BIGINT
_TOP = ("bid", "bid_size", "ask", "ask_size")
_number = itemgetter("sequence")


class Book:
    """One instrument's book: what `kernels.ladders` holds of it under a number, and the messages that wait."""

    __slots__ = ("kept", "ladders", "number", "snapshot")

    def __init__(self, ladders: Ladders, name: str) -> None:
        self.ladders = ladders
        self.number = ladders.add(name)
        self.kept: list[Row] = []  # for the updates before them, or if stale for a snapshot
        self.snapshot: Row | None = None  # of a stale book: for the updates between it and the kept ones
        self.fields["is_stale"] = 1

    @property
    def fields(self) -> Any:
        """Its `ladders.BOOK`."""
        return self.ladders.arrays.books[self.number]

    @property
    def sequence(self) -> int | None:
        """Of the last update applied; None before the first snapshot."""
        fields = self.fields
        return int(fields["sequence"]) if fields["has_sequence"] else None

    @sequence.setter
    def sequence(self, sequence: int | None) -> None:
        fields = self.fields
        fields["has_sequence"], fields["sequence"] = sequence is not None, sequence or 0

    @property
    def is_stale(self) -> bool:
        """Updates were lost, or none has come yet."""
        return bool(self.fields["is_stale"])

    @property
    def is_fresh(self) -> bool:
        """Nothing was applied since the snapshot: the next update need only straddle it."""
        return bool(self.fields["is_fresh"])

    @property
    def event_ms(self) -> int:
        """Of the last update shown."""
        return int(self.fields["event_ms"])

    def levels(self) -> tuple[Levels, Levels]:
        """Bids and asks, each in ascending order of price."""
        return self.ladders.levels(2 * self.number + BID), self.ladders.levels(2 * self.number + ASK)

    def put(self, row: Row) -> None:
        """Set the levels of a row."""
        for side, column in ((BID, "bids"), (ASK, "asks")):
            if row[column]:
                self.ladders.put(2 * self.number + side, row[column])

    def begin_anew(self) -> None:
        """Know nothing of the sequence any more, and let go of what waits."""
        self.sequence, self.kept, self.snapshot = None, [], None

    def clear(self) -> None:
        """Delete every level."""
        self.ladders.clear(2 * self.number + BID)
        self.ladders.clear(2 * self.number + ASK)


class Touched(set[str]):
    """Names of books.  Its number becomes another one whenever it is emptied, so that a book may remember that it is in it."""

    _numbers = count(1)

    def __init__(self) -> None:
        super().__init__()
        self.number = next(self._numbers)

    def clear(self) -> None:
        """Empty it."""
        super().clear()
        self.number = next(self._numbers)


class State:
    """The books of one shard, by venue:instrument."""

    def __init__(self) -> None:
        self.ladders = Ladders()
        self.plain = PlainUpdates()
        self.books: dict[str, Book] = {}
        self.touched = Touched()
        self.waiting: set[str] = set()  # books that are not stale but keep updates
        self.stale: set[str] = set()  # books that need a snapshot

    def encode(self, name: str) -> bytes | None:
        """One book as bytes, or None where it no longer exists."""
        book = self.books.get(name)
        if book is None:
            return None
        # All fields at once: one by one each takes as long.
        fields = dict(zip(BOOK.names or (), book.fields.item(), strict=True))
        counts, levels = self.ladders.encode(book.number)
        head = {
            "sequence": fields["sequence"] if fields["has_sequence"] else None,
            "previous": fields["previous"],
            "event_ms": fields["event_ms"],
            "is_stale": bool(fields["is_stale"]),
            "is_fresh": bool(fields["is_fresh"]),
            "is_quiet": bool(fields["is_quiet"]),
            "resync_ms": fields["resync_ms"],
            "top": [_maybe(fields[name]) for name in _TOP] if fields["was_shown"] else None,
            "was_stale": bool(fields["was_stale"]),
            "kept": [encoded(row).decode() for row in book.kept],
            "snapshot": None if book.snapshot is None else encoded(book.snapshot).decode(),
            "counts": counts,
        }
        return b"%c%s\n%s" % (VERSION, orjson.dumps(head), levels)

    def decode(self, name: str, data: bytes) -> None:
        """Put back a book that `encode` gave.  Raises `ValueError` if the bytes are not this version's."""
        text, _, levels = data.partition(b"\n")
        head = unpacked("books", name, text, VERSION, MIGRATIONS)
        book = self._add(name)
        book.sequence = head["sequence"]
        fields = book.fields
        for field in ("previous", "event_ms", "is_stale", "is_fresh", "is_quiet", "was_stale", "resync_ms"):
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
        if book.is_stale:
            self.stale.add(name)
        elif book.kept:
            self.waiting.add(name)

    def book(self, name: str) -> Book:
        """The book of this name, a new one if there is none."""
        return self.books.get(name) or self._add(name)

    def free(self, name: str) -> None:
        """Forget a book."""
        del self.books[name]
        self.stale.discard(name)
        self.waiting.discard(name)
        self.ladders.remove(name)
        self.touched.add(name)

    def _add(self, name: str) -> Book:
        book = self.books[name] = Book(self.ladders, name)
        return book


def new() -> State:
    """No books."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """Books, and how many of them are stale: for a gap, for want of a snapshot, or because their venue is quiet."""
    fields = state.ladders.arrays.books
    return {"instruments": len(state.books), "stale_instruments": int((fields["is_stale"] | fields["is_quiet"]).sum())}


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[batch.Lines], bytes]:
    """Take the plain updates of a batch from its bytes; gives their rows, and the records that are left for `step`.

    Where none is left `step` need not be called.
    """
    heads, values, rest, numbers = state.plain.take(state.ladders, data, until_ms, state.touched.number)
    state.touched.update(map(state.ladders.names_of.__getitem__, numbers))
    lines = [batch.Lines("book_tops", heads, values)] if heads else []
    if (state.waiting or state.stale) and not rest:
        lines += batch.encode(_in_time(state, until_ms))
    return lines, rest


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch of `order_books` rows, in order of sequence within each book."""
    outputs: list[Output] = []
    good: list[Message] = []
    for message in sorted(messages, key=attrgetter("offset")):
        if (wrong := _wrong(message.row, until_ms)) is None:
            good.append(message)
        else:
            outputs.append(dead_letter(message, wrong, until_ms))
    for name, row in _in_order(state, good):
        book = state.book(name)
        event_ms = to_ms(row["event_at"])
        if book.fields["is_quiet"]:
            _wake(state, row["venue"], row, event_ms, outputs)
        if until_ms is None and book.is_stale and row["prev_sequence"] is not None and row["prev_sequence"] == book.sequence:
            outputs.append(_fault(row, "late", "before its gap was declared", f"after {instant_ms(book.event_ms)}"))
        if row["kind"] == "snapshot":
            _snapshot(book, row, until_ms, outputs)
        elif _follows(book, row) and not book.is_stale:
            _change(book, row, outputs)
            _show(book, row, event_ms, outputs)
            if book.kept:
                _continue(book, outputs)
        else:
            _take(book, row, event_ms, until_ms, outputs)
        _settle(state, name, book)
    if until_ms is None:
        return outputs + [request for name in sorted(state.stale) if (request := _resync(state, name, None))]
    if not messages:
        outputs += _quieted(state, until_ms)
    outputs += _in_time(state, until_ms)
    if not messages:
        _free_idle(state, until_ms)
    return outputs


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
    """What the passing of time brings: updates that did not come, and snapshots to be asked for (again)."""
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
    venue, _, instrument = name.partition(":")
    row = {
        "venue": venue,
        "instrument": instrument,
        "event_at": instant_ms(at_ms),
        "sequence": book.sequence,
        "reason": "no_snapshot" if book.sequence is None else "stale",
    }
    return Output("resync_requests", at_ms, row)


def _quieted(state: State, until_ms: int) -> list[Output]:
    """Show as stale every book of a venue that has said nothing for longer than it may."""
    newest_ms: dict[str, int] = {}
    for name, book in state.books.items():
        venue = name.partition(":")[0]
        kept_ms = to_ms(book.kept[-1]["event_at"]) if book.kept else 0
        newest_ms[venue] = max(newest_ms.get(venue, 0), book.event_ms, kept_ms)
    outputs: list[Output] = []
    for name, book in sorted(state.books.items()):
        venue, _, instrument = name.partition(":")
        bound_ms = QUIET_MS.get(venue, OTHER_QUIET_MS)
        if book.fields["is_quiet"] or until_ms - newest_ms[venue] <= bound_ms or not newest_ms[venue]:
            continue
        book.fields["is_quiet"] = 1
        state.touched.add(name)
        at_ms = newest_ms[venue] + bound_ms
        row = {
            "venue": venue,
            "instrument": instrument,
            "event_at": instant_ms(at_ms),
            "received_at": instant_us(at_ms * 1000),
            "sequence": book.sequence or 0,
        }
        outputs.append(_fault(row, "quiet", f"a message of {venue} within {bound_ms / 1000:g} s", "none"))
        shown_ms = book.event_ms
        _show(book, row, at_ms, outputs)
        # Nothing was heard of the book: it is as old as it was.
        book.fields["event_ms"] = shown_ms
    return outputs


def _wake(state: State, venue: str, row: Row, event_ms: int, outputs: list[Output]) -> None:
    """The venue speaks again: what it left unsaid of its books has not changed, for their numbers will tell."""
    for name, book in sorted(state.books.items()):
        if book.fields["is_quiet"] and name.startswith(venue + ":"):
            book.fields["is_quiet"] = 0
            state.touched.add(name)
            shown_ms = book.event_ms
            own = {**row, "instrument": name.partition(":")[2], "sequence": book.sequence or 0}
            _show(book, own, event_ms, outputs)
            book.fields["event_ms"] = shown_ms


def _in_order(state: State, messages: list[Message]) -> Iterator[tuple[str, Row]]:
    """Name and row of each message, in the order in which they are to be applied.

    As the log has them while each follows its book, as `take_plain` takes them; from the first of a book that does not, by
    sequence.  What a book has behind it comes last: it is late, or the venue has begun to number anew.
    """
    left: list[tuple[str, int, Row]] = []
    broken: set[str] = set()
    for message in messages:
        row = message.row
        if row.get("checksum") is not None and message.value:
            row = _exact(message.value)
        name = row["venue"] + ":" + row["instrument"]
        book = state.books.get(name)
        if name not in broken and book and row["kind"] == "change" and not (book.is_stale or book.kept) and _follows(book, row):
            yield name, row
        else:
            broken.add(name)
            left.append((name, message.offset, row))

    def order(one: tuple[str, int, Row]) -> tuple[bool, int, int]:
        name, offset, row = one
        book = state.books.get(name)
        is_behind = book is not None and book.sequence is not None and row["sequence"] <= book.sequence
        return is_behind, row["sequence"], offset

    for name, _, row in sorted(left, key=order):
        yield name, row


def _wrong(row: Any, until_ms: int | None) -> Fault | None:
    """What keeps a row from being used, or None."""
    if (found := fault("order_books", row)) is not None:
        return found
    batch_ms = to_ms(row["received_at"]) if until_ms is None else until_ms
    if not -IDLE_MS <= to_ms(row["event_at"]) - batch_ms <= FUTURE_MS:
        expected = f"from a day before to a minute after its batch, {instant_ms(batch_ms)}"
        return Fault("event_at", expected, shown(row["event_at"]))
    for column in ("sequence", "prev_sequence"):
        if (number := row.get(column)) is not None and number > _MAX_SEQUENCE:
            return Fault(column, "BIGINT", shown(number))
    for side in ("bids", "asks"):
        for level in row[side]:
            if level[0] <= 0:
                return Fault(side, "prices above zero", shown(level))
            if level[1] < 0:
                return Fault(side, "sizes of zero or above", shown(level))
    if row["kind"] == "change":
        is_numbered = row.get("prev_sequence") is not None or row.get("checksum") is not None
        return None if is_numbered else Fault("prev_sequence", "BIGINT, not NULL in a change without checksum", "NULL")
    if row["kind"] != "snapshot":
        return Fault("kind", "snapshot or change", shown(row["kind"]))
    bid = max((price for price, size in row["bids"] if size), default=0)
    ask = min((price for price, size in row["asks"] if size), default=inf)
    return None if bid < ask else Fault("bids", "a best bid below the best ask", shown([bid, ask]))


def _exact(value: bytes) -> Row:
    """A row with every digit that its levels were sent with, where a checksum asks for them."""
    row: Row = orjson.loads(value)
    return row if row.get("checksum") is None else json.loads(value, parse_float=Decimal)


def _follows(book: Book, row: Row) -> bool:
    """Whether nothing lies between a whole book and this update, as far as the venue tells."""
    sequence, previous = book.sequence, row["prev_sequence"]
    if sequence is None:
        return False
    return bool(previous == sequence if previous is not None else row["sequence"] >= sequence)


def _joins(row: Row, sequence: int) -> bool:
    """Whether nothing lies between a snapshot of this sequence and a later update, which may begin before it."""
    return bool(row["prev_sequence"] is None or row["prev_sequence"] <= sequence)


def _change(book: Book, row: Row, outputs: list[Output]) -> None:
    book.put(row)
    book.fields["previous"] = book.sequence or 0
    book.sequence = row["sequence"]
    book.fields["is_fresh"] = 0
    _verify(book, row, outputs)


def _verify(book: Book, row: Row, outputs: list[Output]) -> None:
    """Hold the book against the venue's checksum: where it differs the book is stale, in this very message."""
    if (checksum := row.get("checksum")) is None or checksum == (found := book.ladders.checksum(book.number)):
        return
    outputs.append(_fault(row, "checksum", str(checksum), str(found)))
    book.fields["is_stale"] = 1


def _take(book: Book, row: Row, event_ms: int, until_ms: int | None, outputs: list[Output]) -> None:
    """Take an update that does not simply follow the last one: apply it, drop it or keep it."""
    if book.sequence is not None:
        if row["sequence"] <= book.sequence and event_ms >= book.event_ms + RENUMBERED_MS:
            if not book.is_stale:
                _lose(book, row, outputs)
            book.begin_anew()
        elif not book.is_stale:
            if book.fields["previous"] < row["sequence"] < book.sequence and row["prev_sequence"] is not None:
                # The book went from one number to the other, and here is one between: the last it took was not its own.
                _lose(book, row, outputs, "conflict")
                book.begin_anew()
                return
            if row["sequence"] <= book.sequence:
                return
            if book.is_fresh and _joins(row, book.sequence):
                _change(book, row, outputs)
                _show(book, row, event_ms, outputs)
                _continue(book, outputs)
                return
    book.kept.append(_known(row))
    if len(book.kept) > KEPT_UPDATES:
        if not book.is_stale:
            _lose(book, min(book.kept, key=_number), outputs)
        del book.kept[0]
    if book.snapshot is not None:
        _try_again(book, until_ms, outputs)


def _followers(book: Book, outputs: list[Output], until_ms: float = inf) -> Iterator[Row]:
    """Apply the kept updates that follow now, one by one, as long as they are not later than `until_ms`."""
    book.kept.sort(key=_number)
    while book.kept and not book.is_stale:
        row, sequence = book.kept[0], book.sequence
        assert sequence is not None
        if row["sequence"] <= sequence:
            del book.kept[0]
        elif (_follows(book, row) or (book.is_fresh and _joins(row, sequence))) and to_ms(row["event_at"]) <= until_ms:
            del book.kept[0]
            _change(book, row, outputs)
            yield row
        else:
            return


def _continue(book: Book, outputs: list[Output]) -> None:
    for row in _followers(book, outputs):
        _show(book, row, to_ms(row["event_at"]), outputs)


def _end_waiting(state: State, until_ms: int, outputs: list[Output]) -> None:
    """Declare lost what did not come in time."""
    for name in sorted(state.waiting):
        book = state.books.get(name)
        if book is None or book.is_stale or not book.kept:
            state.waiting.discard(name)
            continue
        row = min(book.kept, key=_number)
        if to_ms(row["event_at"]) + GRACE_MS <= until_ms:
            _lose(book, row, outputs)
            state.waiting.discard(name)
            _settle(state, name, book)


def _lose(book: Book, row: Row, outputs: list[Output], kind: str = "gap") -> None:
    """Declare lost what should have come before `row`."""
    outputs.append(_fault(row, kind, f"prev_sequence {book.sequence}", f"prev_sequence {row['prev_sequence']}"))
    fields = book.fields
    fields["is_stale"], fields["is_fresh"] = 1, 0
    _show(book, row, to_ms(row["event_at"]), outputs)


def _snapshot(book: Book, row: Row, until_ms: int | None, outputs: list[Output]) -> None:
    """Start from a snapshot, and join the updates that were kept for it."""
    sequence, event_ms, later = row["sequence"], to_ms(row["event_at"]), book.kept
    if sequence == book.sequence and not book.is_stale:
        return
    if book.sequence is not None and sequence < book.sequence:
        if event_ms < book.event_ms + RENUMBERED_MS:
            if book.is_stale:
                outputs.append(_fault(row, "snapshot_outdated", f"sequence {book.sequence} or later", f"sequence {sequence}"))
            return
        # The updates above the book's own number bear the old ones.
        later = [update for update in later if update["sequence"] <= book.sequence]
    later = sorted((update for update in later if update["sequence"] > sequence), key=_number)
    if book.is_stale and later and not _joins(later[0], sequence):
        if until_ms is None or to_ms(later[0]["event_at"]) + GRACE_MS > until_ms:
            # What lies between is late, or lost.
            if book.snapshot is None or sequence >= book.snapshot["sequence"]:
                book.snapshot = _known(row)
            return
        expected = f"a snapshot at {later[0]['prev_sequence']} or later"
        outputs.append(_fault(row, "snapshot_outdated", expected, f"sequence {sequence}"))
        return
    book.clear()
    book.put(row)
    book.sequence, book.kept, book.snapshot = sequence, later, None
    fields = book.fields
    fields["previous"], fields["is_fresh"], fields["is_stale"] = sequence, 1, 0
    _verify(book, row, outputs)
    # What was before the instant of the snapshot and is not in it made no change of its own: time does not step back.
    for _ in _followers(book, outputs, event_ms - 1):
        pass
    _show(book, {**row, "sequence": book.sequence}, event_ms, outputs)
    _continue(book, outputs)


def _try_again(book: Book, until_ms: int | None, outputs: list[Output]) -> None:
    """Start from the snapshot that waits, if it can be joined now; it waits no longer than the grace."""
    row, book.snapshot = book.snapshot, None
    assert row is not None
    _snapshot(book, row, until_ms, outputs)


def _known(row: Row) -> Row:
    """A row without what its DDL does not know."""
    return {column: row.get(column) for column in _COLUMNS}


def _show(book: Book, row: Row, event_ms: int, outputs: list[Output]) -> None:
    """Put out the top where it differs from the last one shown, at the time of `row`; a crossed one only as stale."""
    bid, bid_size = book.ladders.best(2 * book.number + BID)
    ask, ask_size = book.ladders.best(2 * book.number + ASK)
    fields = book.fields
    if bid is not None and ask is not None and bid >= ask and not fields["is_stale"]:
        outputs.append(_fault(row, "crossed", "a best bid below the best ask", f"bid {bid}, ask {ask}"))
        fields["is_stale"] = 1
    fields["event_ms"] = event_ms
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
            event_ms,
            {
                "venue": row["venue"],
                "instrument": row["instrument"],
                "event_at": row["event_at"],
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


def _fault(row: Row, kind: str, expected: str, got: str) -> Output:
    return Output(
        "feed_faults",
        to_ms(row["event_at"]),
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
    """Version 2 threw a snapshot away that could not be joined at once."""
    return {**head, "snapshot": None}


def _free_idle(state: State, until_ms: int) -> None:
    oldest = until_ms - IDLE_MS
    for name, book in list(state.books.items()):
        if book.event_ms < oldest and not (book.kept and to_ms(book.kept[-1]["event_at"]) >= oldest):
            state.free(name)


MIGRATIONS: dict[int, Migration] = {2: _without_snapshot}

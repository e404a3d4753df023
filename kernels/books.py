"""Order books: snapshots and numbered updates in, changes of the top and faults out.

A book is followed by the venue's own numbers.  An update that does not follow the last one waits for those between, which may
be late; where they do not come within `GRACE_MS` of event time they are lost: the book is stale from then on, says so, keeps
what arrives, and is whole again at a snapshot that the kept updates join.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from operator import itemgetter
from typing import Any

import orjson

from kernels import Message, Output
from kernels.checks import FUTURE_MS, dead_letter
from schemas.records import TABLES
from schemas.rows import EPOCH, Fault, fault, instant_ms, shown, to_ms

VERSION = 1
SHARED: frozenset[str] = frozenset()
GRACE_MS = 250
"""How long an update waits for the ones before it until the gap is a fault: more than two paths into a kernel differ by."""
KEPT_UPDATES = 2_000
"""How many updates a book keeps while it waits, for a late one or for a snapshot."""
RENUMBERED_MS = 60_000
"""How much later than its book a message of a lower sequence is no late one: the venue has begun to number anew."""
IDLE_MS = 24 * 60 * 60 * 1000
"""A book without an update for this long is freed, and an update older than this is none of its batch."""

Levels = list[list[float]]
Row = dict[str, Any]

_COLUMNS = tuple(TABLES["order_books"].columns)
_MAX_SEQUENCE = 2**63 - 1  # BIGINT
_MS = timedelta(milliseconds=1)
_instant = datetime.fromisoformat
_offset = itemgetter(2)
_number = itemgetter("sequence")


class Side:
    """One side of a book: the size at each price, and the prices in ascending order."""

    __slots__ = ("prices", "sizes")

    def __init__(self, levels: Levels) -> None:
        self.prices: list[float] = []
        self.sizes: dict[float, float] = {}
        self.apply(levels)

    def apply(self, levels: Levels) -> None:
        """Set the size at each of these prices; size 0 deletes the level."""
        sizes = self.sizes
        for price, size in levels:
            if size:
                if price not in sizes:
                    insort(self.prices, price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                del self.prices[bisect_left(self.prices, price)]

    def levels(self) -> Levels:
        """Every level, in ascending order of price."""
        return [[price, self.sizes[price]] for price in self.prices]


class Book:
    """One instrument's book."""

    __slots__ = ("asks", "bids", "event_ms", "is_fresh", "is_stale", "kept", "sequence", "top")

    def __init__(self) -> None:
        self.bids = Side([])
        self.asks = Side([])
        self.sequence: int | None = None  # of the last update applied; None before the first snapshot
        self.is_fresh = False  # nothing was applied since the snapshot: the next update need only straddle it
        self.is_stale = True
        self.kept: list[Row] = []  # updates that wait: for the ones before them, or if stale for a snapshot
        self.top: tuple[Any, ...] | None = None
        self.event_ms = 0  # of the last update shown


class State:
    """The books of one shard, by venue:instrument."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.touched: set[str] = set()
        self.waiting: set[str] = set()  # books that are not stale but keep updates

    def encode(self, name: str) -> bytes | None:
        """One book as bytes, or None where it no longer exists."""
        book = self.books.get(name)
        if book is None:
            return None
        fields: list[Any] = [book.bids.levels(), book.asks.levels()]
        fields += [book.sequence, book.is_fresh, book.is_stale, book.kept, book.top, book.event_ms]
        return bytes([VERSION]) + orjson.dumps(fields)

    def decode(self, name: str, data: bytes) -> None:
        """Put back a book that `encode` gave.  Raises `ValueError` if the bytes are not this version's."""
        if data[0] != VERSION:
            raise ValueError(f"book {name}: stored by version {data[0]}, this kernel reads version {VERSION}")
        book = self.books[name] = Book()
        bids, asks, book.sequence, book.is_fresh, book.is_stale, book.kept, top, book.event_ms = orjson.loads(data[1:])
        book.bids, book.asks = Side(bids), Side(asks)
        book.top = tuple(top) if top is not None else None
        if book.kept and not book.is_stale:
            self.waiting.add(name)


def new() -> State:
    """No books."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch of `order_books` rows, in order of sequence within each book."""
    outputs: list[Output] = []
    books, touched = state.books, state.touched
    times: dict[str, int] = {}
    for message in _in_order(messages, until_ms, outputs):
        row = message[3]
        try:
            name = row["venue"] + ":" + row["instrument"]
            event_ms = _checked(row, until_ms, times)
        except (TypeError, KeyError, ValueError):
            outputs.append(dead_letter(message, _reason(row, until_ms), until_ms))
            continue
        book = books.get(name)
        if book is None:
            book = books[name] = Book()
        if row["kind"] == "snapshot":
            _snapshot(book, row, event_ms, outputs)
        elif row["prev_sequence"] == book.sequence and not book.is_stale:
            _change(book, row)
            _show(book, row, event_ms, outputs)
            if book.kept:
                _continue(book, outputs)
        else:
            _take(book, row, event_ms, outputs)
        if book.kept and not book.is_stale:
            state.waiting.add(name)
        touched.add(name)
    if until_ms is not None:
        if state.waiting:
            _end_waiting(state, until_ms, outputs)
        if not messages:
            _free_idle(state, until_ms)
    return outputs


def _in_order(messages: list[Message], until_ms: int | None, outputs: list[Output]) -> list[Message]:
    """The messages by sequence, those of equal sequence as the log has them; dead letters of those that have none."""
    messages = sorted(messages, key=_offset)
    try:
        messages.sort(key=_sequence)
    except (TypeError, KeyError):
        numbered = []
        for message in messages:
            wrong = _wrong(message.row, until_ms)
            if wrong is None:
                numbered.append(message)
            else:
                outputs.append(dead_letter(message, wrong, until_ms))
        numbered.sort(key=_sequence)
        return numbered
    return messages


def _sequence(message: Message) -> int:
    sequence = message[3]["sequence"]
    if sequence.__class__ is not int or sequence > _MAX_SEQUENCE:
        raise TypeError("sequence")
    return sequence


def _checked(row: Row, until_ms: int | None, times: dict[str, int]) -> int:
    """The event time of a row in which nothing is wrong; raises where something is.

    `times` has those that this batch has shown: there are few, and text is slow to read.
    """
    event_at, received_at = row["event_at"], _instant(row["received_at"])
    event_ms = times.get(event_at)
    if received_at.tzinfo is not UTC:
        raise ValueError
    if event_ms is None:
        instant = _instant(event_at)
        event_ms = (instant - EPOCH) // _MS
        behind_ms = ((received_at - EPOCH) // _MS if until_ms is None else until_ms) - event_ms
        if instant.tzinfo is not UTC or not -FUTURE_MS <= behind_ms <= IDLE_MS:
            raise ValueError
        if until_ms is not None:
            times[event_at] = event_ms
    if row["kind"] != "change":
        if _wrong(row, until_ms) is not None:
            raise ValueError
        return event_ms
    previous, bids, asks = row["prev_sequence"], row["bids"], row["asks"]
    if previous.__class__ is not int or previous > _MAX_SEQUENCE or bids.__class__ is not list or asks.__class__ is not list:
        raise ValueError
    # A truth value is a number to Python, but not to those who read the row.
    for price, size in bids:
        if not 0 < price < inf or not 0 <= size < inf or size is True or size is False or price is True:
            raise ValueError
    for price, size in asks:
        if not 0 < price < inf or not 0 <= size < inf or size is True or size is False or price is True:
            raise ValueError
    return event_ms


def _wrong(row: Any, until_ms: int | None) -> Fault | None:
    """What keeps a row from being used, or None: `_checked` at leisure, field by field."""
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
        return None if row.get("prev_sequence") is not None else Fault("prev_sequence", "BIGINT, not NULL in a change", "NULL")
    if row["kind"] != "snapshot":
        return Fault("kind", "snapshot or change", shown(row["kind"]))
    bid = max((price for price, size in row["bids"] if size), default=0)
    ask = min((price for price, size in row["asks"] if size), default=inf)
    return None if bid < ask else Fault("bids", "a best bid below the best ask", shown([bid, ask]))


def _reason(row: Row, until_ms: int | None) -> Fault:
    return _wrong(row, until_ms) or Fault(None, "a row of order_books", shown(row))


def _change(book: Book, row: Row) -> None:
    if bids := row["bids"]:
        book.bids.apply(bids)
    if asks := row["asks"]:
        book.asks.apply(asks)
    book.sequence = row["sequence"]
    book.is_fresh = False


def _take(book: Book, row: Row, event_ms: int, outputs: list[Output]) -> None:
    """Take an update that does not simply follow the last one: apply it, drop it or keep it."""
    if book.sequence is not None:
        if row["sequence"] <= book.sequence and event_ms >= book.event_ms + RENUMBERED_MS:
            if not book.is_stale:
                _lose(book, row, outputs)
            book.sequence, book.kept = None, []
        elif not book.is_stale:
            if row["sequence"] <= book.sequence:
                return
            if book.is_fresh and row["prev_sequence"] <= book.sequence:
                _change(book, row)
                _show(book, row, event_ms, outputs)
                _continue(book, outputs)
                return
    book.kept.append({column: row[column] for column in _COLUMNS})
    if len(book.kept) > KEPT_UPDATES:
        if not book.is_stale:
            _lose(book, min(book.kept, key=_number), outputs)
        del book.kept[0]


def _followers(book: Book) -> Iterator[Row]:
    """Apply the kept updates that follow now, one by one."""
    book.kept.sort(key=_number)
    while book.kept and not book.is_stale:
        row, sequence = book.kept[0], book.sequence
        assert sequence is not None
        if row["sequence"] <= sequence:
            del book.kept[0]
        elif row["prev_sequence"] == sequence or (book.is_fresh and row["prev_sequence"] <= sequence):
            del book.kept[0]
            _change(book, row)
            yield row
        else:
            return


def _continue(book: Book, outputs: list[Output]) -> None:
    for row in _followers(book):
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
            state.touched.add(name)


def _lose(book: Book, row: Row, outputs: list[Output]) -> None:
    """Declare lost what should have come before `row`."""
    outputs.append(_fault(row, "gap", f"prev_sequence {book.sequence}", f"prev_sequence {row['prev_sequence']}"))
    book.is_stale, book.is_fresh = True, False
    _show(book, row, to_ms(row["event_at"]), outputs)


def _snapshot(book: Book, row: Row, event_ms: int, outputs: list[Output]) -> None:
    """Start from a snapshot, and join the updates that were kept for it."""
    sequence, later = row["sequence"], book.kept
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
    if book.is_stale and later and later[0]["prev_sequence"] > sequence:
        expected = f"a snapshot at {later[0]['prev_sequence']} or later"
        outputs.append(_fault(row, "snapshot_outdated", expected, f"sequence {sequence}"))
        return
    book.bids, book.asks = Side(row["bids"]), Side(row["asks"])
    book.sequence, book.is_fresh, book.is_stale, book.kept = sequence, True, False, later
    newest, newest_ms = row, event_ms
    for update in _followers(book):
        if (update_ms := to_ms(update["event_at"])) > newest_ms:
            newest, newest_ms = update, update_ms
    # The book is known from now on: the updates that the snapshot waited for make one change of the top, not one each.
    _show(book, {**newest, "sequence": book.sequence}, newest_ms, outputs)


def _show(book: Book, row: Row, event_ms: int, outputs: list[Output]) -> None:
    """Put out the top where it differs from the last one shown, at the time of `row`; a crossed one only as stale."""
    bids, asks = book.bids, book.asks
    bid = bids.prices[-1] if bids.prices else None
    ask = asks.prices[0] if asks.prices else None
    if bid is not None and ask is not None and bid >= ask and not book.is_stale:
        outputs.append(_fault(row, "crossed", "a best bid below the best ask", f"bid {bid}, ask {ask}"))
        book.is_stale = True
    book.event_ms = event_ms
    is_stale = book.is_stale
    top = (bid, bids.sizes.get(bid), ask, asks.sizes.get(ask), is_stale)  # type: ignore[arg-type] # None is in no book
    if top != book.top:
        book.top = top
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
                    "bid_size": top[1],
                    "ask_price": ask,
                    "ask_size": top[3],
                    "is_stale": is_stale,
                },
            )
        )


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


def _free_idle(state: State, until_ms: int) -> None:
    oldest = until_ms - IDLE_MS
    for name, book in list(state.books.items()):
        if book.event_ms < oldest and not (book.kept and to_ms(book.kept[-1]["event_at"]) >= oldest):
            del state.books[name]
            state.touched.add(name)

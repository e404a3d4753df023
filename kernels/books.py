"""Order books: snapshots and numbered updates in, changes of the top and faults out.

A book is followed by the venue's own numbers.  An update that does not follow the last one waits for those between, which may
be late; where they do not come within `GRACE_MS` of event time they are lost: the book is stale from then on, says so, keeps
what arrives, and is whole again at a snapshot that the kept updates join.
"""

from bisect import bisect_left, insort
from operator import itemgetter
from typing import Any

import orjson

from kernels import Message, Output, checks
from schemas.rows import Fault, fault, instant_ms, shown, to_ms

VERSION = 1
GRACE_MS = 250
"""How long an update waits for the ones before it until the gap is a fault: more than two paths into a kernel differ by."""
KEPT_UPDATES = 2_000
"""How many updates a stale book keeps while it waits for a snapshot."""
IDLE_MS = 24 * 60 * 60 * 1000
"""A book without an update for this long is freed."""

Levels = list[list[float]]
Row = dict[str, Any]


class Side:
    """One side of a book: the size at each price, and the prices in ascending order."""

    __slots__ = ("prices", "sizes")

    def __init__(self, levels: Levels) -> None:
        self.prices: list[float] = []
        self.sizes: dict[float, float] = {}
        self.apply(levels)

    def apply(self, levels: Levels) -> None:
        sizes = self.sizes
        for price, size in levels:
            if size > 0:
                if price not in sizes:
                    if price <= 0:
                        raise ValueError("price")
                    insort(self.prices, price)
                sizes[price] = size
            elif size == 0:
                if sizes.pop(price, None) is not None:
                    del self.prices[bisect_left(self.prices, price)]
            else:
                raise ValueError("size")

    def levels(self) -> Levels:
        return [[price, self.sizes[price]] for price in self.prices]


class Book:
    """One instrument's book."""

    __slots__ = ("asks", "bids", "event_at", "is_fresh", "is_stale", "kept", "sequence", "top")

    def __init__(self) -> None:
        self.bids = Side([])
        self.asks = Side([])
        self.sequence: int | None = None  # of the last update applied; None before the first snapshot
        self.is_fresh = False  # nothing was applied since the snapshot: the next update need only straddle it
        self.is_stale = True
        self.kept: list[Row] = []  # updates that wait: for the ones before them, or if stale for a snapshot
        self.top: tuple[Any, ...] | None = None
        self.event_at = ""  # of the last update shown


class State:
    """The books of one shard, by venue:instrument."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.touched: set[str] = set()
        self.waiting: set[str] = set()  # books that are not stale but keep updates

    def encode(self, name: str) -> bytes | None:
        book = self.books.get(name)
        if book is None:
            return None
        fields = [book.bids.levels(), book.asks.levels()]
        fields += [book.sequence, book.is_fresh, book.is_stale, book.kept, book.top, book.event_at]
        return bytes([VERSION]) + orjson.dumps(fields)

    def decode(self, name: str, data: bytes) -> None:
        if data[0] != VERSION:
            raise ValueError(f"book {name}: stored by version {data[0]}, this kernel reads version {VERSION}")
        book = self.books[name] = Book()
        bids, asks, book.sequence, book.is_fresh, book.is_stale, book.kept, top, book.event_at = orjson.loads(data[1:])
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
    try:
        messages.sort(key=_sequence)
    except (TypeError, KeyError):
        messages, letters = checks.checked(messages, until_ms or 0)
        outputs += letters
        messages.sort(key=_sequence)
    books = state.books
    for message in messages:
        row = message[3]
        try:
            name = f"{row['venue']}:{row['instrument']}"
            book = books.get(name)
            if book is None:
                book = books[name] = Book()
            if row["kind"] == "change":
                if row["prev_sequence"] == book.sequence and not book.is_stale:
                    _change(book, row)
                    _show(book, row, outputs)
                    if book.kept:
                        _continue(book, outputs)
                elif _is_disjoint(book, row, outputs):
                    state.waiting.add(name)
            elif row["kind"] == "snapshot":
                _snapshot(book, row, outputs)
            else:
                raise ValueError("kind")
            state.touched.add(name)
        except (TypeError, KeyError, ValueError):
            # The row is not what the DDL says.  If it left an update half done, the next one shows a gap.
            outputs.append(checks.dead_letter(message, _reason(row), until_ms or 0))
    if until_ms is not None:
        if state.waiting:
            _end_waiting(state, until_ms, outputs)
        if not messages:
            _free_idle(state, until_ms)
    return outputs


def _sequence(message: Message) -> int:
    sequence = message[3]["sequence"]
    if type(sequence) is not int:
        raise TypeError("sequence")
    return sequence


def _reason(row: dict[str, Any]) -> Fault:
    found = fault("order_books", row)
    if found is not None:
        return found
    for side in ("bids", "asks"):
        for level in row[side]:
            if level[1] < 0:
                return Fault(side, "sizes of zero or above", shown(level))
            if level[0] <= 0:
                return Fault(side, "prices above zero", shown(level))
    if row["kind"] == "change" and row["prev_sequence"] is None:
        return Fault("prev_sequence", "BIGINT, not NULL in a change", "NULL")
    if row["kind"] == "snapshot":
        return Fault("bids", "a best bid below the best ask", shown([max(row["bids"]), min(row["asks"])]))
    return Fault("kind", "snapshot or change", shown(row["kind"]))


def _change(book: Book, row: Row) -> None:
    if bids := row["bids"]:
        book.bids.apply(bids)
    if asks := row["asks"]:
        book.asks.apply(asks)
    book.sequence = row["sequence"]
    book.is_fresh = False


def _is_disjoint(book: Book, row: Row, outputs: list[Output]) -> bool:
    """Take an update that does not simply follow the last one; True if it has to wait for others."""
    sequence = row["sequence"]
    if book.sequence is None or book.is_stale:
        book.kept.append(row)
        if len(book.kept) > KEPT_UPDATES:
            del book.kept[0]
        return False
    if sequence <= book.sequence:
        return False
    if book.is_fresh and row["prev_sequence"] <= book.sequence:
        _change(book, row)
        _show(book, row, outputs)
        _continue(book, outputs)
        return False
    book.kept.append(row)
    return True


def _continue(book: Book, outputs: list[Output]) -> None:
    """Apply the kept updates that follow now."""
    book.kept.sort(key=itemgetter("sequence"))
    while book.kept:
        row = book.kept[0]
        if row["sequence"] > book.sequence:
            if row["prev_sequence"] != book.sequence:
                return
            _change(book, row)
            _show(book, row, outputs)
        del book.kept[0]


def _end_waiting(state: State, until_ms: int, outputs: list[Output]) -> None:
    """Declare lost what did not come in time."""
    for name in sorted(state.waiting):
        book = state.books.get(name)
        if book is None or book.is_stale or not book.kept:
            state.waiting.discard(name)
            continue
        row = min(book.kept, key=itemgetter("sequence"))
        if to_ms(row["event_at"]) + GRACE_MS > until_ms:
            continue
        expected, got = f"prev_sequence {book.sequence}", f"prev_sequence {row['prev_sequence']}"
        outputs.append(_fault(row, "gap", expected, got))
        book.is_stale, book.is_fresh = True, False
        _show(book, row, outputs)
        state.waiting.discard(name)
        state.touched.add(name)


def _snapshot(book: Book, row: Row, outputs: list[Output]) -> None:
    """Start from a snapshot, and join the updates that were kept for it."""
    sequence = row["sequence"]
    if book.sequence is not None and not book.is_stale and sequence < book.sequence:
        return
    bids, asks = Side(row["bids"]), Side(row["asks"])
    if bids.prices and asks.prices and bids.prices[-1] >= asks.prices[0]:
        raise ValueError("crossed")
    later = sorted((update for update in book.kept if update["sequence"] > sequence), key=itemgetter("sequence"))
    if later and later[0]["prev_sequence"] > sequence:
        expected = f"a snapshot at {later[0]['prev_sequence']} or later"
        outputs.append(_fault(row, "snapshot_outdated", expected, f"sequence {sequence}"))
        return
    book.bids, book.asks = bids, asks
    book.sequence, book.is_fresh, book.is_stale, book.kept = sequence, True, False, []
    newest = row
    for position, update in enumerate(later):
        if update["prev_sequence"] != book.sequence and position > 0:
            outputs.append(_fault(update, "gap", f"prev_sequence {book.sequence}", f"prev_sequence {update['prev_sequence']}"))
            book.is_stale, book.kept = True, later[position:]
            break
        _change(book, update)
        newest = max(newest, update, key=itemgetter("event_at"))
    # The book is known from now on: the updates that the snapshot waited for make one change of the top, not one each.
    _show(book, {**newest, "sequence": book.sequence}, outputs)


def _show(book: Book, row: Row, outputs: list[Output]) -> None:
    """Put out the top where it differs from the last one shown, at the time of `row`; a crossed one only as stale."""
    bids, asks = book.bids, book.asks
    bid = bids.prices[-1] if bids.prices else None
    ask = asks.prices[0] if asks.prices else None
    is_crossed = bid is not None and ask is not None and bid >= ask
    if is_crossed and not book.is_stale:
        outputs.append(_fault(row, "crossed", "a best bid below the best ask", f"bid {bid}, ask {ask}"))
        book.is_stale = True
        book.kept = []
    book.event_at = event_at = row["event_at"]
    is_stale = book.is_stale
    top = (bid, bids.sizes[bid] if bid is not None else None, ask, asks.sizes[ask] if ask is not None else None, is_stale)
    if top != book.top:
        book.top = top
        outputs.append(
            Output(
                "book_tops",
                to_ms(event_at),
                {
                    "venue": row["venue"],
                    "instrument": row["instrument"],
                    "event_at": event_at,
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
    oldest = instant_ms(until_ms - IDLE_MS)
    for name in [name for name, book in state.books.items() if book.event_at < oldest]:
        del state.books[name]
        state.touched.add(name)

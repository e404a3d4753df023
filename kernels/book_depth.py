"""Book depth: the books of `kernels.books`, and the best levels of each at the end of every 100 ms in which it got a message.

The 100 ms are of exchange time: a row holds what all messages before its instant made, by the venue's own clock.  Batches are
cut by the common time, of which that clock may be ahead or behind, so that what one batch has of a book may be of two such
intervals.  The row of an interval is written when a message of a later one comes, or as soon as the venue's clock, as far as
`venue_times` say how it differs, is past its end.  So rows of a venue that differs by nothing come with the batch of their own
100 ms.

A book that nothing is said of has a row every 10 s all the same, as long as its venue speaks, and one when that falls silent:
so whoever reads rows can tell an old book from a quiet one.

Tops, faults and dead letters are not said here: the books job says them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kernels import Message, Output, batch, books
from kernels.ladders import ASK, BID, Arrays
from schemas.rows import instant_ms

VERSION, MIGRATIONS = books.VERSION, books.MIGRATIONS
SHARED = books.SHARED
SWEEP_MS = books.SWEEP_MS
"""How often each book has a row at least, while its venue speaks."""
LEVELS = 20
"""How many levels of each side are shown; schemas/book_depth.sql and book_metrics.sql count on it."""
BATCH_MS = 100
"""The window of jobs/book_depth.sql."""


class State(books.State):
    """The books of one shard."""

    window_ms = BATCH_MS

    def __init__(self) -> None:
        super().__init__()
        self.pending: set[str] = set()  # books whose last 100 ms may not be over
        self.rows: list[Output] = []  # of the batch that is being taken
        self.until_ms: int | None = None  # its end

    def decode(self, name: str, data: bytes) -> None:
        """Put back a book or venue that `encode` gave."""
        super().decode(name, data)
        if name in self.books and self.books[name].fields["cut_ms"]:
            self.pending.add(name)

    def passed(self, book: books.Book, event_ms: int) -> None:
        """Write the row that is due before a message of this instant, which belongs into another."""
        fields = book.fields
        if fields["is_hidden"]:
            return
        if fields["cut_ms"] and event_ms >= fields["cut_ms"]:
            self.show_due(book)
        if not fields["cut_ms"]:
            fields["cut_ms"] = max(_end_ms(max(event_ms, book.event_ms)), int(fields["depth_ms"]))
            self.pending.add(book.name)

    def show_due(self, book: books.Book) -> None:
        """Write the row of the 100 ms that are over."""
        self.show_at(book, int(book.fields["cut_ms"]))
        book.fields["cut_ms"] = 0

    def show_at(self, book: books.Book, event_ms: int) -> None:
        """Write a row: the book as it is, at this instant of exchange time."""
        fields = book.fields
        fields["depth_ms"] = event_ms
        self.touched.add(book.name)
        # A book that has never begun has nothing to show.
        if not fields["was_shown"]:
            return
        venue, _, instrument = book.name.partition(books.CHANNEL)[0].partition(":")
        arrays = self.ladders.arrays
        row: dict[str, Any] = {
            "venue": venue,
            "instrument": instrument,
            "event_at": instant_ms(event_ms),
            "sequence": book.sequence,
            "bids": _best(arrays, 2 * book.number + BID),
            "asks": _best(arrays, 2 * book.number + ASK),
            "is_stale": bool(fields["is_stale"] or fields["is_quiet"]),
        }
        # In common time, and not after the batch: the watermark of whoever reads it follows this.
        common_ms = event_ms - int(fields["offset_ms"])
        self.rows.append(Output("book_depth", common_ms if self.until_ms is None else min(common_ms, self.until_ms), row))


def new() -> State:
    """No books."""
    return State()


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[batch.Lines], bytes]:
    """Take the plain updates of a batch from its bytes; gives the rows, where no record is left for `step`."""
    state.until_ms = until_ms
    with _anew(state) as touched:
        _, rest = books.take_plain(state, data, until_ms)
        state.pending |= touched
        if rest:
            return [], rest
        return batch.encode(_rows(state, touched)), rest


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch of rows of `order_books` and `venue_times`.

    Late messages have no batch end: their books are shown at the end of the 100 ms that they themselves belong to.
    """
    state.until_ms = until_ms
    with _anew(state) as touched:
        books.step(state, messages, until_ms)
        if not messages and until_ms is not None:
            _repeat(state, until_ms)
        return _rows(state, touched)


@contextmanager
def _anew(state: State) -> Iterator[set[str]]:
    """What is touched within, in a set of its own; the state has it, too."""
    earlier, state.touched = state.touched, books.Touched()
    yield state.touched
    earlier |= state.touched
    state.touched = earlier


def _rows(state: State, touched: set[str]) -> list[Output]:
    """The rows that are due at the end of a batch, behind those that were within it."""
    until_ms = state.until_ms
    for name in sorted(touched | state.pending):
        book = state.books.get(name)
        if book is None or book.fields["is_hidden"]:
            state.pending.discard(name)
            continue
        fields = book.fields
        if until_ms is None:
            if name in touched:
                fields["cut_ms"] = fields["cut_ms"] or max(_end_ms(book.event_ms), int(fields["depth_ms"]))
                state.show_due(book)
                state.pending.discard(name)
            continue
        now_ms = until_ms + int(fields["offset_ms"])
        if not fields["cut_ms"]:
            if name not in touched or fields["depth_ms"] >= now_ms:
                state.pending.discard(name)
                continue
            # No message of its own: time alone has changed it.
            fields["cut_ms"] = now_ms // BATCH_MS * BATCH_MS
        if fields["cut_ms"] <= now_ms:
            state.show_due(book)
            state.pending.discard(name)
    rows, state.rows = state.rows, []
    return rows


def _repeat(state: State, until_ms: int) -> None:
    """Write a row of each book that has had none for some time, where its venue has spoken since the last time."""
    newest_ms = books.newest_ms(state)
    for name, book in sorted(state.books.items()):
        fields = book.fields
        now_ms = (until_ms + int(fields["offset_ms"])) // BATCH_MS * BATCH_MS
        is_shown = not (fields["is_hidden"] or fields["is_quiet"] or fields["cut_ms"])
        is_behind = max(int(fields["depth_ms"]), book.event_ms) < now_ms
        if is_shown and is_behind and newest_ms[name.partition(":")[0]] >= now_ms - SWEEP_MS:
            state.show_at(book, now_ms)


def _end_ms(event_ms: int) -> int:
    return (event_ms // BATCH_MS + 1) * BATCH_MS


def _best(arrays: Arrays, side: int) -> list[list[float]]:
    """The best levels of a side, best first.  They are its last: in ascending order of a key that is the price, or less it."""
    start, count = arrays.sides[side].tolist()[:2]
    end = start + count
    part = slice(max(start, end - LEVELS), end)
    levels = zip(arrays.keys[part].tolist(), arrays.sizes[part].tolist(), strict=True)
    return [[abs(key), size] for key, size in levels][::-1]

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

from engine import batch
from engine.contract import Kernel, Lines, Message, Output
from kernels import books
from kernels.ladders import ASK, BID, Arrays
from schemas.rows import instant_ms

VERSION, MIGRATIONS = books.VERSION, books.MIGRATIONS
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
        self.write([(book.name, book, int(book.fields["cut_ms"]))])

    def write(self, due: list[tuple[str, books.Book, int]]) -> None:
        """Write rows of books, given with their names: each as it is, at its own instant of exchange time."""
        self.touched.update(name for name, _, _ in due)
        numbers = [book.number for _, book, _ in due]
        arrays = self.ladders.arrays
        fields = arrays.books
        fields["depth_ms"][numbers] = [event_ms for _, _, event_ms in due]
        fields["cut_ms"][numbers] = 0
        # All at once: one by one each field takes as long.
        was_shown, offsets_ms = fields["was_shown"][numbers].tolist(), fields["offset_ms"][numbers].tolist()
        is_stale = (fields["is_stale"][numbers] | fields["is_quiet"][numbers]).astype(bool).tolist()
        has_sequence, sequences = fields["has_sequence"][numbers].tolist(), fields["sequence"][numbers].tolist()
        for place, (name, book, event_ms) in enumerate(due):
            # A book that has never begun has nothing to show.
            if not was_shown[place]:
                continue
            venue, _, instrument = name.partition(books.CHANNEL)[0].partition(":")
            row: dict[str, Any] = {
                "venue": venue,
                "instrument": instrument,
                "event_at": instant_ms(event_ms),
                "sequence": sequences[place] if has_sequence[place] else None,
                "bids": _best(arrays, 2 * book.number + BID),
                "asks": _best(arrays, 2 * book.number + ASK),
                "is_stale": is_stale[place],
            }
            # In common time, and not after the batch: the watermark of whoever reads it follows this.
            common_ms = event_ms - offsets_ms[place]
            self.rows.append(Output("book_depth", common_ms if self.until_ms is None else min(common_ms, self.until_ms), row))


def new() -> State:
    """No books."""
    return State()


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[Lines], bytes]:
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
        is_sweep = not messages and until_ms is not None
        rows = _rows(state, touched, is_sweep)
        if is_sweep and until_ms is not None:
            rows += _repeated(state, until_ms)
        return rows


@contextmanager
def _anew(state: State) -> Iterator[set[str]]:
    """What is touched within, in a set of its own; the state has it, too."""
    earlier, state.touched = state.touched, books.Touched()
    yield state.touched
    earlier |= state.touched
    state.touched = earlier


def _rows(state: State, touched: set[str], is_sweep: bool = False) -> list[Output]:
    """The rows that are due at the end of a batch, behind those that were within it.

    A sweep comes before the batch that ends at its instant: what that batch has of an interval is still to come.
    """
    to_come_ms = BATCH_MS if is_sweep else 0
    due: list[tuple[str, books.Book, int]] = []
    names = [name for name in sorted(touched | state.pending) if name in state.books]
    numbers = [state.books[name].number for name in names]
    fields = state.ladders.arrays.books
    hidden, cuts_ms = fields["is_hidden"][numbers].tolist(), fields["cut_ms"][numbers].tolist()
    events_ms, depths_ms = fields["event_ms"][numbers].tolist(), fields["depth_ms"][numbers].tolist()
    offsets_ms = fields["offset_ms"][numbers].tolist()
    pending: set[str] = set()
    for place, name in enumerate(names):
        cut_ms = cuts_ms[place]
        if hidden[place] or not (cut_ms or name in touched):
            continue
        if state.until_ms is None:
            now_ms = max(_end_ms(events_ms[place]), depths_ms[place], cut_ms) if name in touched else 0
        else:
            now_ms = state.until_ms + offsets_ms[place]
        if not cut_ms:
            # No message of its own: time alone has changed it.
            cut_ms = max(now_ms // BATCH_MS * BATCH_MS, depths_ms[place])
        if cut_ms <= now_ms - (to_come_ms if cuts_ms[place] else 0):
            due.append((name, state.books[name], cut_ms))
        elif cuts_ms[place]:
            pending.add(name)
    state.pending = pending
    return _written(state, due)


def _written(state: State, due: list[tuple[str, books.Book, int]]) -> list[Output]:
    if due:
        state.write(due)
    rows, state.rows = state.rows, []
    return rows


def _repeated(state: State, until_ms: int) -> list[Output]:
    """A row of each book that has had none for some time, where its venue has spoken since the last time."""
    newest_ms = books.newest_ms(state)
    due: list[tuple[str, books.Book, int]] = []
    for name, book in sorted(state.books.items()):
        fields = book.fields
        venue = name.partition(":")[0]
        venue_ms = until_ms + int(fields["offset_ms"])
        now_ms = venue_ms - state.window_ms  # as in `_rows`
        heard_ms = newest_ms[venue]
        if not state.venues[venue].heard_ms:
            # No `venue_times` say how its clock differs: it may be behind, and what it said last is all that is known.
            now_ms = min(now_ms, heard_ms)
        now_ms = now_ms // BATCH_MS * BATCH_MS
        is_shown = not (fields["is_hidden"] or fields["is_quiet"] or fields["cut_ms"])
        is_behind = max(int(fields["depth_ms"]), book.event_ms) < now_ms
        if is_shown and is_behind and heard_ms >= venue_ms - SWEEP_MS:
            due.append((name, book, now_ms))
    return _written(state, due)


def _end_ms(event_ms: int) -> int:
    return (event_ms // BATCH_MS + 1) * BATCH_MS


def _best(arrays: Arrays, side: int) -> list[list[float]]:
    """The best levels of a side, best first.  They are its last: in ascending order of a key that is the price, or less it."""
    start, count = arrays.sides[side].tolist()[:2]
    end = start + count
    part = slice(max(start, end - LEVELS), end)
    levels = zip(arrays.keys[part].tolist(), arrays.sizes[part].tolist(), strict=True)
    return [[abs(key), size] for key, size in levels][::-1]


KERNEL = Kernel(
    name="book_depth",
    version=VERSION,
    new=new,
    step=step,
    take_plain=take_plain,
    migrations=MIGRATIONS,
    sweep_ms=SWEEP_MS,
)

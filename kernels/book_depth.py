"""Book depth: the books of `kernels.books`, and the best levels of each that a batch touched.

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
LEVELS = 20
"""How many levels of each side are shown; schemas/book_depth.sql and book_metrics.sql count on it."""
BATCH_MS = 100
"""The window of jobs/book_depth.sql."""


class State(books.State):
    """The books of one shard."""

    def __init__(self) -> None:
        super().__init__()
        self.unshown: set[str] = set()  # touched by the plain updates of a batch of which `step` has the rest


def new() -> State:
    """No books."""
    return State()


def take_plain(state: State, data: bytes, until_ms: int) -> tuple[list[batch.Lines], bytes]:
    """Take the plain updates of a batch from its bytes; gives the rows, where no record is left for `step`."""
    with _anew(state) as touched:
        _, rest = books.take_plain(state, data, until_ms)
    if rest:
        state.unshown = touched
        return [], rest
    return batch.encode(_rows(state, touched, until_ms)), rest


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch of `order_books` rows; one row for each book that it, or its plain updates, touched.

    Late messages have no batch end: their books are shown at the end of the 100 ms that they themselves belong to.
    """
    with _anew(state) as touched:
        books.step(state, messages, until_ms)
    unshown, state.unshown = state.unshown, set()
    # Housekeeping changes no level.
    return _rows(state, touched | unshown, until_ms) if messages else []


@contextmanager
def _anew(state: State) -> Iterator[set[str]]:
    """What is touched within, in a set of its own; the state has it, too."""
    earlier, state.touched = state.touched, books.Touched()
    yield state.touched
    earlier |= state.touched
    state.touched = earlier


def _rows(state: State, names: set[str], until_ms: int | None) -> list[Output]:
    outputs: list[Output] = []
    end_at = None if until_ms is None else instant_ms(until_ms)
    arrays = state.ladders.arrays
    for name in sorted(names):
        book = state.books.get(name)
        # A book that has ended, or has never begun, has nothing to show.
        if book is None or not book.fields["was_shown"]:
            continue
        event_ms = until_ms if until_ms is not None else (book.event_ms // BATCH_MS + 1) * BATCH_MS
        venue, _, instrument = name.partition(":")
        row: dict[str, Any] = {
            "venue": venue,
            "instrument": instrument,
            "event_at": end_at or instant_ms(event_ms),
            "sequence": book.sequence,
            "bids": _best(arrays, 2 * book.number + BID),
            "asks": _best(arrays, 2 * book.number + ASK),
            "is_stale": book.is_stale,
        }
        outputs.append(Output("book_depth", event_ms, row))
    return outputs


def _best(arrays: Arrays, side: int) -> list[list[float]]:
    """The best levels of a side, best first.  They are its last: in ascending order of a key that is the price, or less it."""
    start, count = arrays.sides[side].tolist()[:2]
    end = start + count
    part = slice(max(start, end - LEVELS), end)
    levels = zip(arrays.keys[part].tolist(), arrays.sizes[part].tolist(), strict=True)
    return [[abs(key), size] for key, size in levels][::-1]

"""Depth: the best levels of each book at the end of every 100 ms in which it got a message.  A stage of `kernels.books`.

The 100 ms are exchange time: a row shows the book after all messages before its instant, by the venue's own clock.  Batches end
by common time, and the venue's clock may be ahead or behind, so a batch may have messages of two such intervals.  The row of an
interval is written when a message of a later interval comes, or once the venue's clock, by the offset from `venue_times`, has
passed the end.

A book without messages still has a row every 10 s while its venue sends, and one more when the venue falls silent.  So a reader
can tell an outdated book from a quiet one.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from engine import batch
from engine.contract import Lines, Output
from kernels.ladders import ASK, BID, CHANNEL, Arrays
from kernels.plain_updates import DEPTH_LEVELS, DEPTH_ROW_BYTES, books_over, write_depth
from schemas.rows import instant_ms

if TYPE_CHECKING:
    from kernels.books import Book, State

LEVELS = DEPTH_LEVELS
INTERVAL_MS = 100
REPEAT_MS = 10_000
"""Each book has a row at least this often while its venue sends.  The kernel is swept this often."""
CHUNK = 256
"""How many rows one buffer holds."""


def before_message(state: "State", book: "Book", event_ms: int) -> None:
    """Write the row of the open interval, if a message of this instant belongs to a later one."""
    fields = book.fields
    if fields["is_hidden"]:
        return
    if fields["cut_ms"] and event_ms >= fields["cut_ms"]:
        _write(state, [book.number])
    if not fields["cut_ms"]:
        fields["cut_ms"] = max(_end_ms(max(event_ms, book.event_ms)), int(fields["depth_ms"]))


def mark(state: "State", touched: set[str], until_ms: int) -> None:
    """Note that books that time alone has changed need a row at the end of the interval that is open now."""
    for name in touched & state.books.keys():
        fields = state.books[name].fields
        if not fields["cut_ms"] and not fields["is_hidden"]:
            now_ms = until_ms + int(fields["offset_ms"])
            fields["cut_ms"] = max(-(-now_ms // INTERVAL_MS) * INTERVAL_MS, int(fields["depth_ms"]))


def over(state: "State", until_ms: int) -> list[int]:
    """Numbers of the books whose interval is over when the common time is `until_ms`, in the order of their names."""
    books = state.ladders.arrays.books
    numbers = np.empty(len(books), np.int32)
    due = numbers[: books_over(books, len(books), until_ms, numbers)].tolist()
    return sorted(due, key=state.ladders.names_of.__getitem__)


def lines(state: "State", numbers: list[int]) -> list[Lines]:
    """The rows of these books, as text, each at the end of its interval."""
    written: list[Lines] = []
    others: list[int] = []
    arrays, until_ms = state.ladders.arrays, state.until_ms
    assert until_ms is not None
    for first in range(0, len(numbers), CHUNK):
        chunk = np.array(numbers[first : first + CHUNK], np.int32)
        heads, out = np.empty(len(chunk) * 1100, np.uint8), np.empty(len(chunk) * DEPTH_ROW_BYTES, np.uint8)
        lengths, left = np.zeros(2, np.int64), np.empty(len(chunk), np.int32)
        count = write_depth(chunk, until_ms, *arrays[:6], heads, out, lengths, left)
        if lengths[1]:
            written.append(Lines("book_depth", heads[: lengths[0]].tobytes(), out[: lengths[1]].tobytes()))
        others += left[:count].tolist()
    if others:
        written += batch.encode(_row(state, number, until_ms) for number in others)
    _written(state, numbers)
    return written


def mark_late(state: "State", touched: set[str]) -> None:
    """Note that the books which late messages have changed need a row at the end of the interval of those messages.

    The next end of a window at or after that instant writes it: whether a message was late does not change the rows of an
    interval that is still open.
    """
    for name in touched & state.books.keys():
        book = state.books[name]
        if not book.fields["cut_ms"] and not book.fields["is_hidden"]:
            book.fields["cut_ms"] = max(_end_ms(book.event_ms), int(book.fields["depth_ms"]))


def sweep(state: "State", until_ms: int, newest_ms: dict[str, int]) -> None:
    """Write the rows that are due without a message; then one of each book that has had none for long, if its venue sends.

    A sweep comes before the batch that ends at its instant, and that batch may have messages of the last interval.  `newest_ms`
    is the newest event time of each venue, by its own clock.
    """
    fields = state.ladders.arrays.books
    due = [
        number
        for number in over(state, until_ms)
        if fields["event_ms"][number] < fields["cut_ms"][number] - INTERVAL_MS
        or fields["cut_ms"][number] <= until_ms + fields["offset_ms"][number] - INTERVAL_MS
    ]
    _write(state, due)
    again: list[int] = []
    for name, book in sorted(state.books.items()):
        row = book.fields
        venue = name.partition(":")[0]
        venue_ms = until_ms + int(row["offset_ms"])
        now_ms, heard_ms = venue_ms - INTERVAL_MS, newest_ms[venue]
        if not state.venues[venue].heard_ms:
            # Without `venue_times` its clock may be behind: only the time of its last message is known.
            now_ms = min(now_ms, heard_ms)
        now_ms = now_ms // INTERVAL_MS * INTERVAL_MS
        is_shown = not (row["is_hidden"] or row["is_quiet"] or row["cut_ms"])
        is_behind = max(int(row["depth_ms"]), book.event_ms) < now_ms
        if is_shown and is_behind and heard_ms >= venue_ms - REPEAT_MS:
            row["cut_ms"] = now_ms
            again.append(book.number)
    # The watermark of readers may be past `now_ms`, so the record has the time of the sweep.
    _write(state, again, until_ms - 1)


def _write(state: "State", numbers: list[int], record_ms: int | None = None) -> None:
    """Add the rows of these books to `state.depth_rows`, each at the end of its interval."""
    fields = state.ladders.arrays.books
    for number in numbers:
        if fields["was_shown"][number]:
            output = _row(state, number, state.until_ms)
            state.depth_rows.append(output if record_ms is None else output._replace(event_ms=record_ms))
    _written(state, numbers)


def _written(state: "State", numbers: list[int]) -> None:
    """Note that the rows of these books have been written."""
    if numbers:
        fields = state.ladders.arrays.books
        fields["depth_ms"][numbers] = fields["cut_ms"][numbers]
        fields["cut_ms"][numbers] = 0
        state.touched.update(map(state.ladders.names_of.__getitem__, numbers))


def _row(state: "State", number: int, until_ms: int | None) -> Output:
    arrays = state.ladders.arrays
    fields = arrays.books[number]
    venue, _, instrument = state.ladders.names_of[number].partition(CHANNEL)[0].partition(":")
    event_ms = int(fields["cut_ms"])
    row: dict[str, Any] = {
        "venue": venue,
        "instrument": instrument,
        "event_at": instant_ms(event_ms),
        "sequence": int(fields["sequence"]) if fields["has_sequence"] else None,
        "bids": _best(arrays, 2 * number + BID),
        "asks": _best(arrays, 2 * number + ASK),
        "is_stale": bool(fields["is_stale"] or fields["is_quiet"]),
    }
    # In common time, and not after the batch: the watermark of readers follows it.
    common_ms = event_ms - int(fields["offset_ms"])
    return Output("book_depth", common_ms if until_ms is None else min(common_ms, until_ms), row)


def _end_ms(event_ms: int) -> int:
    return (event_ms // INTERVAL_MS + 1) * INTERVAL_MS


def _best(arrays: Arrays, side: int) -> list[list[float]]:
    """The best levels of a side, best first.  In the arrays they are last, in ascending order of `key`."""
    start, count = arrays.sides[side].tolist()[:2]
    end = start + count
    part = slice(max(start, end - LEVELS), end)
    levels = zip(arrays.keys[part].tolist(), arrays.sizes[part].tolist(), strict=True)
    return [[abs(key), size] for key, size in levels][::-1]

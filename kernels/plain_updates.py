"""The plain case of an order book, straight from the bytes of a batch, in compiled code.

Nearly every message is plain: written as the feeds write it, for a book that is whole, following the update before it and not
earlier, and after it the book is not crossed and has the venue's checksum.  Any other message is left to `kernels.books`, with
all that follow it for its book in the batch; so are records of other topics.  So this module decides nothing: it gives the same
rows as `kernels.books`, only faster.  A record is a row or an array of rows, which `schemas.rows.parted` splits in the same
way.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.checks import FUTURE_MS
from kernels.ladders import (
    ASK,
    BID,
    F8,
    HASH_START,
    I4,
    MAX_DIGITS,
    NUMBER_BYTES,
    POWERS,
    U1,
    U2,
    UNKNOWN_SCALE,
    Arrays,
    crc32,
    fetch,
    hashed,
    put,
)
from udfs.compiled import compiled

RECORD_END, FIELD_END = 0x1E, 0x1F
PAST_MS = 24 * 60 * 60 * 1000

DONE, NEEDS_ROOM, NEEDS_SCRATCH = 0, 1, 2
_PADDING = 64  # bytes past the end that may be read
_UNNUMBERED = -1
_MAX_NAME = 1000


def _text(text: str) -> U1:
    return np.frombuffer(text.encode(), np.uint8)


_TOPIC, _VENUE_TOPIC = _text("order_books.v1\x1f"), _text("venue_order_books.v1\x1f")
_VENUE, _INSTRUMENT = _text('{"venue":"'), _text('","instrument":"')
_EVENT_AT, _RECEIVED_AT = _text('","event_at":"'), _text('","received_at":"')
_CHANGE, _PREVIOUS = _text('","kind":"change","sequence":'), _text(',"prev_sequence":')
_BIDS, _ASKS, _CHECKSUM = _text(',"bids":['), _text('],"asks":['), _text(',"checksum":')
_WHOLE_BOOK = _text(',"depth":null')
_HEIGHT = _text(',"block_height":')
_COLON = _text(":")
_NULL, _SEQUENCE = _text("null"), _text('","sequence":')
_BID_PRICE, _BID_SIZE = _text(',"bid_price":'), _text(',"bid_size":')
_ASK_PRICE, _ASK_SIZE = _text(',"ask_price":'), _text(',"ask_size":')
_NOT_STALE = _text(',"is_stale":false}')
_BEFORE_MONTH = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])


class Scratch:
    """Memory for the levels of one message, with their former sizes."""

    def __init__(self, levels: int) -> None:
        self.keys, self.sizes, self.scales = np.empty(levels), np.empty(levels), np.empty(levels, np.uint16)
        self.old_sizes, self.old_scales = np.empty(levels), np.empty(levels, np.uint16)
        self.text = np.empty(NUMBER_BYTES, np.uint8)


@compiled
def run(
    data: U1,
    end: int,
    batch: int,
    touched_number: int,
    until_ms: int,
    window_ms: int,
    books: NDArray[Any],
    sides: NDArray[Any],
    keys: F8,
    sizes: F8,
    scales: U2,
    names: U1,
    index: I4,
    level_keys: F8,
    level_sizes: F8,
    level_scales: U2,
    old_sizes: F8,
    old_scales: U2,
    text: U1,
    progress: NDArray[np.int64],
    heads: U1,
    out: U1,
    left: NDArray[np.int64],
    touched: I4,
    passed: I4,
) -> int:
    """Continue with a batch; returns `DONE`, or what it needs to continue.

    With a `window_ms`, each interval of that many ms of event time needs a depth row: an update of a later interval is left,
    and its book added to `passed`.

    `progress` has the position in data; the lengths of `heads` and `out`; the number of rows in `left` (each with start and end
    of its record's prefix, and of itself) and of books in `touched`; start and end of the prefix of the record whose array of
    rows it is in, if any; for `NEEDS_ROOM` the side and the number of levels that need room; and the number of books in
    `passed`.
    """
    position, head, length, left_count, touches = progress[0], progress[1], progress[2], progress[3], progress[4]
    record, value, is_in_array = progress[5], progress[6], progress[7] > 0
    is_book = is_in_array
    while position < end or is_in_array:
        start = at = position
        if not is_in_array:
            record = position
            fields = 0
            while at < end and fields < 3 and data[at] != RECORD_END:
                if data[at] == FIELD_END:
                    fields += 1
                at += 1
            value = at
            is_book = _is_at(data, record, _TOPIC) or _is_at(data, record, _VENUE_TOPIC)
            if is_book and data[at] == 91 and data[_behind_space(data, at + 1)] == 123:
                is_in_array = True
                start = at = _behind_space(data, at + 1)
        row = at
        book = -1
        is_plain = False
        while True:  # once: each break leaves the row
            if not is_book or not _is_at(data, at, _VENUE):
                break
            venue = at + len(_VENUE)
            venue_end = _string_end(data, venue)
            if venue_end <= venue or not _is_at(data, venue_end, _INSTRUMENT):
                break
            name = venue_end + len(_INSTRUMENT)
            name_end = _string_end(data, name)
            if name_end <= name or name_end - venue > _MAX_NAME:
                break
            book = _book_number(data, venue, venue_end, name, name_end, books, names, index)
            if book < 0:
                break
            fetch(sides, keys, sizes, scales, book)
            whole = books[book]
            if (
                whole.left_in == batch
                or whole.is_stale
                or whole.is_quiet
                or whole.is_hidden
                or whole.keeps
                or not whole.has_sequence
            ):
                break
            at = name_end
            if not _is_at(data, at, _EVENT_AT):
                break
            event_ms = _instant_ms(data, at + len(_EVENT_AT), 3)
            at += len(_EVENT_AT) + 24
            if (
                event_ms < whole.shown_ms
                or not -FUTURE_MS <= until_ms - event_ms <= PAST_MS
                or not _is_at(data, at, _RECEIVED_AT)
            ):
                break
            if _instant_ms(data, at + len(_RECEIVED_AT), 6) < 0:
                break
            at += len(_RECEIVED_AT) + 27
            times_end = at
            if not _is_at(data, at, _CHANGE):
                break
            sequence, at = _whole(data, at + len(_CHANGE))
            if sequence < 0 or not _is_at(data, at, _PREVIOUS):
                break
            at += len(_PREVIOUS)
            if _is_at(data, at, _NULL):
                previous = _UNNUMBERED
                at += len(_NULL)
                if sequence < whole.sequence:
                    break
            else:
                previous, at = _whole(data, at)
                if previous != whole.sequence or sequence <= previous:
                    break
            if not _is_at(data, at, _BIDS):
                break
            bids, at = _levels(data, at + len(_BIDS), level_keys, level_sizes, level_scales, 0, 1.0)
            if bids == -2:
                _remember(progress, start, head, length, left_count, touches, record, value, is_in_array)
                return NEEDS_SCRATCH
            if bids < 0 or not _is_at(data, at, _ASKS):
                break
            levels, at = _levels(data, at + len(_ASKS), level_keys, level_sizes, level_scales, bids, -1.0)
            if levels == -2:
                _remember(progress, start, head, length, left_count, touches, record, value, is_in_array)
                return NEEDS_SCRATCH
            if levels < 0 or data[at] != 93:
                break
            at += 1
            has_checksum = False
            checksum = 0
            if _is_at(data, at, _CHECKSUM):
                at += len(_CHECKSUM)
                if _is_at(data, at, _NULL):
                    at += len(_NULL)
                else:
                    has_checksum = True
                    is_negative = data[at] == 45
                    checksum, at = _whole(data, at + (1 if is_negative else 0))
                    if checksum < 0:
                        break
                    if is_negative:
                        checksum = -checksum
            if previous == _UNNUMBERED and not has_checksum and not whole.is_unchained:
                break
            if _is_at(data, at, _WHOLE_BOOK):
                at += len(_WHOLE_BOOK)
            # Rows of most venues end here, after a look at one byte.
            if data[at] == 44 and _is_at(data, at, _HEIGHT):
                at += len(_HEIGHT)
                if _is_at(data, at, _NULL):
                    at += len(_NULL)
                else:
                    height, at = _whole(data, at)
                    if height < 0:
                        break
            if data[at] != 125 or not (is_in_array or at + 1 == end or data[at + 1] == RECORD_END):
                break
            at += 1
            if whole.cut_ms and event_ms >= whole.cut_ms:
                passed[progress[10]] = book
                progress[10] += 1
                break
            for side in range(2):
                more = bids if side == BID else levels - bids
                run_of = sides[2 * book + side]
                if run_of.count + more > run_of.room:
                    _remember(progress, start, head, length, left_count, touches, record, value, is_in_array)
                    progress[8], progress[9] = 2 * book + side, more
                    return NEEDS_ROOM
            for level in range(levels):
                side = 2 * book + (BID if level < bids else ASK)
                old_sizes[level], old_scales[level] = put(
                    sides, keys, sizes, scales, side, level_keys[level], level_sizes[level], level_scales[level]
                )
            bid, bid_size, bid_scales = _best(sides, keys, sizes, scales, 2 * book)
            ask, ask_size, ask_scales = _best(sides, keys, sizes, scales, 2 * book + 1)
            ask = -ask
            is_right = not bid >= ask
            # A number of unknown decimals can be neither checked nor written here.
            if bid_scales & 255 == UNKNOWN_SCALE or bid_scales >> 8 == UNKNOWN_SCALE:
                is_right = False
            if ask_scales & 255 == UNKNOWN_SCALE or ask_scales >> 8 == UNKNOWN_SCALE:
                is_right = False
            if is_right and has_checksum:
                is_right = crc32(sides, keys, sizes, scales, book, text) == checksum
            if not is_right:
                for level in range(levels - 1, -1, -1):
                    side = 2 * book + (BID if level < bids else ASK)
                    put(sides, keys, sizes, scales, side, level_keys[level], old_sizes[level], old_scales[level])
                break
            is_plain = True
            whole.previous = whole.sequence
            whole.sequence = sequence
            whole.is_fresh = 0
            whole.event_ms, whole.shown_ms = event_ms, event_ms
            if window_ms and not whole.cut_ms:
                whole.cut_ms = max(whole.depth_ms, (event_ms // window_ms + 1) * window_ms)
            if whole.noted_in != touched_number:
                whole.noted_in = touched_number
                touched[touches] = book
                touches += 1
            if (
                whole.was_shown
                and not whole.was_stale
                and _is_same(bid, whole.bid)
                and _is_same(bid_size, whole.bid_size)
                and _is_same(ask, whole.ask)
                and _is_same(ask_size, whole.ask_size)
            ):
                break
            whole.bid, whole.bid_size, whole.ask, whole.ask_size = bid, bid_size, ask, ask_size
            whole.was_shown, whole.was_stale = 1, 0
            if length:
                heads[head], out[length] = 10, 10
                head, length = head + 1, length + 1
            head = _put_padded(max(0, min(event_ms - whole.offset_ms, until_ms - 1)), 13, heads, head)
            head = _copied(data, venue, venue_end, heads, head)
            heads[head] = 58
            head = _copied(data, name, name_end, heads, head + 1)
            length = _copied(data, row, times_end, out, length)
            length = _put_whole(sequence, out, _put(_SEQUENCE, out, length))
            length = _put_number(bid, bid_scales & 255, out, _put(_BID_PRICE, out, length))
            length = _put_number(bid_size, bid_scales >> 8, out, _put(_BID_SIZE, out, length))
            length = _put_number(ask, ask_scales & 255, out, _put(_ASK_PRICE, out, length))
            length = _put_number(ask_size, ask_scales >> 8, out, _put(_ASK_SIZE, out, length))
            length = _put(_NOT_STALE, out, length)
            break
        if not is_plain:
            if book >= 0:
                books[book].left_in = batch
            at = _object_end(data, row, end) if is_in_array else _record_end(data, start, end)
            if at >= 0:
                left_count = _leave(left, left_count, record, value, row, at)
        if is_in_array:
            behind = row if at < 0 else _behind_space(data, at)
            if behind > row and data[behind] == 44:
                position = _behind_space(data, behind + 1)
                continue
            is_in_array = False
            at = behind + 1
            if behind == row or data[behind] != 93 or not (at == end or data[at] == RECORD_END):
                # It is unknown where the next row begins: leave the rest of the record.
                at = _record_end(data, behind, end)
                left_count = _leave(left, left_count, record, value, behind, at)
        position = at + 1
    _remember(progress, position, head, length, left_count, touches, record, value, is_in_array)
    return DONE


@compiled
def _rows_at_most(data: U1) -> int:
    rows = 1
    for at in range(len(data)):
        rows += (data[at] == RECORD_END) | (data[at] == 123)
    return rows


@compiled
def _remember(
    progress: NDArray[np.int64],
    position: int,
    head: int,
    length: int,
    left_count: int,
    touches: int,
    record: int,
    value: int,
    is_in_array: bool,
) -> None:
    progress[0], progress[1], progress[2], progress[3], progress[4] = position, head, length, left_count, touches
    progress[5], progress[6], progress[7] = record, value, is_in_array


@compiled
def _leave(left: NDArray[np.int64], left_count: int, record: int, value: int, row: int, end: int) -> int:
    left[left_count, 0], left[left_count, 1], left[left_count, 2], left[left_count, 3] = record, value, row, end
    return left_count + 1


@compiled
def _record_end(data: U1, at: int, end: int) -> int:
    while at < end and data[at] != RECORD_END:
        at += 1
    return at


@compiled
def _behind_space(data: U1, at: int) -> int:
    while data[at] == 32 or data[at] == 9 or data[at] == 10 or data[at] == 13:
        at += 1
    return at


@compiled
def _object_end(data: U1, at: int, end: int) -> int:
    """Where the JSON object that begins here ends; -1 if it does not end in this record."""
    if data[at] != 123:
        return -1
    depth = 0
    is_text = False
    while at < end and data[at] != RECORD_END:
        byte = data[at]
        if is_text:
            if byte == 92:
                at += 1
                if at == end or data[at] == RECORD_END:
                    return -1
            elif byte == 34:
                is_text = False
        elif byte == 34:
            is_text = True
        elif byte == 123:
            depth += 1
        elif byte == 125:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return -1


@compiled
def _is_at(data: U1, at: int, text: U1) -> bool:
    if at < 0:
        return False
    # Without an early return, so that it is compiled into a few wide comparisons.
    differing = np.uint8(0)
    for index in range(len(text)):
        differing |= data[at + index] ^ text[index]
    return bool(differing == 0)


@compiled
def _string_end(data: U1, at: int) -> int:
    """Where a text of plain ASCII ends; -1 if it is not plain."""
    while 32 <= data[at] < 127 and data[at] != 34 and data[at] != 92:
        at += 1
    return at if data[at] == 34 else -1


@compiled
def _book_number(
    data: U1, venue: int, venue_end: int, name: int, name_end: int, books: NDArray[Any], names: U1, index: I4
) -> int:
    """The book of venue:instrument, or -1."""
    mixed = hashed(_COLON, 0, 1, hashed(data, venue, venue_end, HASH_START))
    slot = hashed(data, name, name_end, mixed) & (len(index) - 1)
    first, second = venue_end - venue, name_end - name
    while index[slot] >= 0:
        book = index[slot]
        if books[book].name_length == first + 1 + second:
            start = books[book].name_start
            is_same = names[start + first] == 58
            for spot in range(first):
                is_same = is_same and names[start + spot] == data[venue + spot]
            for spot in range(second):
                is_same = is_same and names[start + first + 1 + spot] == data[name + spot]
            if is_same:
                return int(book)
        slot = (slot + 1) & (len(index) - 1)
    return -1


@compiled
def _two(data: U1, at: int) -> int:
    tens, ones = data[at] - 48, data[at + 1] - 48
    if 0 <= tens <= 9 and 0 <= ones <= 9:
        return int(10 * tens + ones)
    return -100_000


@compiled
def _instant_ms(data: U1, at: int, decimals: int) -> int:
    """Milliseconds since 1970 of YYYY-MM-DDTHH:MM:SS.f…Z with this many decimals; -1 for any other text."""
    year = 100 * _two(data, at) + _two(data, at + 2)
    month, day = _two(data, at + 5), _two(data, at + 8)
    hour, minute, second = _two(data, at + 11), _two(data, at + 14), _two(data, at + 17)
    if data[at + 4] != 45 or data[at + 7] != 45 or data[at + 10] != 84 or data[at + 13] != 58 or data[at + 16] != 58:
        return -1
    if data[at + 19] != 46 or data[at + 20 + decimals] != 90:
        return -1
    if not (1970 <= year <= 9999 and 1 <= month <= 12 and 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        return -1
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days_in_month = _BEFORE_MONTH[month] - _BEFORE_MONTH[month - 1] + (1 if is_leap and month == 2 else 0)
    if not 1 <= day <= days_in_month:
        return -1
    part = 0
    for index in range(at + 20, at + 20 + decimals):
        if not 48 <= data[index] <= 57:
            return -1
        if index < at + 23:
            part = 10 * part + data[index] - 48
    before = year - 1
    days = 365 * (year - 1970) + (before // 4 - before // 100 + before // 400) - 477
    days += _BEFORE_MONTH[month - 1] + (1 if is_leap and month > 2 else 0) + day - 1
    return int(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + part)


@compiled
def _whole(data: U1, at: int) -> tuple[int, int]:
    """A whole number of up to 18 digits and where it ends; -1 for any other text."""
    start = at
    number = 0
    while 48 <= data[at] <= 57:
        number = 10 * number + data[at] - 48
        at += 1
        if at - start > 18:
            return -1, at
    if at == start or (data[start] == 48 and at - start > 1):
        return -1, at
    return number, at


@compiled
def _decimal(data: U1, at: int) -> tuple[int, int, int]:
    """Digits and decimals of a number without an exponent, and where it ends; digits are -1 for any other text."""
    start = at
    digits, decimals = 0, 0
    while 48 <= data[at] <= 57:
        digits = 10 * digits + data[at] - 48
        at += 1
        if at - start > MAX_DIGITS:
            return -1, decimals, at
    if at == start or (data[start] == 48 and at - start > 1):
        return -1, decimals, at
    if data[at] == 46:
        at += 1
        first = at
        while 48 <= data[at] <= 57:
            digits = 10 * digits + data[at] - 48
            at += 1
            if at - start > MAX_DIGITS + 1:
                return -1, decimals, at
        decimals = at - first
        if decimals == 0:
            return -1, decimals, at
    return digits, decimals, at


@compiled
def _levels(data: U1, at: int, keys: F8, sizes: F8, scales: U2, count: int, sign: float) -> tuple[int, int]:
    """Read [price,size] pairs after `count` earlier ones; returns the new count and where the list ends.  -1: not plain."""
    if data[at] == 93:
        return count, at
    while True:
        if count == len(keys):
            return -2, at
        if data[at] != 91:
            return -1, at
        price, price_decimals, at = _decimal(data, at + 1)
        if price <= 0 or data[at] != 44:
            return -1, at
        size, size_decimals, at = _decimal(data, at + 1)
        if size < 0 or data[at] != 93:
            return -1, at
        keys[count] = sign * (price / POWERS[price_decimals])
        sizes[count] = size / POWERS[size_decimals]
        scales[count] = price_decimals | (size_decimals << 8)
        count += 1
        at += 1
        if data[at] != 44:
            return count, at
        at += 1


@compiled
def _best(sides: NDArray[Any], keys: F8, sizes: F8, scales: U2, side: int) -> tuple[float, float, int]:
    if sides[side].count == 0:
        return np.nan, np.nan, 0
    index = sides[side].start + sides[side].count - 1
    return keys[index], sizes[index], int(scales[index])


@compiled
def _is_same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)


@compiled
def _copied(data: U1, start: int, end: int, out: U1, length: int) -> int:
    if start < 0 or length < 0:
        return length
    for index in range(start, end):
        out[length + index - start] = data[index]
    return length + end - start


@compiled
def _put(text: U1, out: U1, length: int) -> int:
    return _copied(text, 0, len(text), out, length)


@compiled
def _put_whole(number: int, out: U1, length: int) -> int:
    bound = 10
    digits = 1
    while digits < 19 and number >= bound:
        digits += 1
        if digits < 19:
            bound *= 10
    for index in range(length + digits - 1, length - 1, -1):
        out[index] = 48 + number % 10
        number //= 10
    return length + digits


@compiled
def _put_padded(number: int, digits: int, out: U1, length: int) -> int:
    for index in range(length + digits - 1, length - 1, -1):
        out[index] = 48 + number % 10
        number //= 10
    return length + digits


@compiled
def _put_number(number: float, scale: int, out: U1, length: int) -> int:
    """Write a number as `orjson` writes it: the fewest digits that identify it, with a point; null for NaN."""
    if number != number:
        return _put(_NULL, out, length)
    digits = int(np.rint(number * POWERS[scale]))
    while scale > 0 and digits % 10 == 0:
        digits //= 10
        scale -= 1
    if scale == 0:
        length = _put_whole(digits, out, length)
        out[length], out[length + 1] = 46, 48
        return length + 2
    count = 1
    bound = 10
    while digits >= bound:
        count += 1
        bound *= 10
    before = count - scale  # digits before the point
    if before <= -5:
        first = digits // (bound // 10)
        out[length] = 48 + first
        length += 1
        if count > 1:
            out[length] = 46
            length += 1
            rest = digits - first * (bound // 10)
            for index in range(length + count - 2, length - 1, -1):
                out[index] = 48 + rest % 10
                rest //= 10
            length += count - 1
        out[length], out[length + 1] = 101, 45
        return _put_whole(1 - before, out, length + 2)
    if before <= 0:
        out[length], out[length + 1] = 48, 46
        length += 2
        for _ in range(-before):
            out[length] = 48
            length += 1
        return _put_whole(digits, out, length)
    power = int(POWERS[scale])
    length = _put_whole(digits // power, out, length)
    out[length] = 46
    length += 1
    fraction = digits % power
    for index in range(length + scale - 1, length - 1, -1):
        out[index] = 48 + fraction % 10
        fraction //= 10
    return length + scale


_EVENT_AT_ONLY = _text('","event_at":"')
_DEPTH_SEQUENCE, _DEPTH_BIDS, _DEPTH_ASKS = _text('","sequence":'), _text(',"bids":['), _text('],"asks":[')
_DEPTH_STALE, _DEPTH_WHOLE = _text('],"is_stale":true}'), _text('],"is_stale":false}')
DEPTH_LEVELS = 20
"""How many levels of each side are shown; schemas/book_depth.sql and book_metrics.sql count on it."""
DEPTH_ROW_BYTES = 2 * DEPTH_LEVELS * 64 + 2 * _MAX_NAME + 200


@compiled
def books_over(books: NDArray[Any], used: int, until_ms: int, numbers: I4) -> int:
    """Put the numbers of the books whose interval is over at the common time `until_ms` into `numbers`; returns how many."""
    count = 0
    for number in range(used):
        book = books[number]
        if book.cut_ms and not book.is_hidden and book.cut_ms <= until_ms + book.offset_ms:
            numbers[count] = number
            count += 1
    return count


@compiled
def write_depth(
    numbers: I4,
    until_ms: int,
    books: NDArray[Any],
    sides: NDArray[Any],
    keys: F8,
    sizes: F8,
    scales: U2,
    names: U1,
    heads: U1,
    out: U1,
    lengths: NDArray[np.int64],
    unwritten: I4,
) -> int:
    """Write the depth row of each book at its `cut_ms`; returns how many books it put into `unwritten`, which it cannot write.

    It sets `lengths` to those of `heads` and `out`, which need room for `DEPTH_ROW_BYTES` a book.  A record timestamp is the
    common time, and not later than `until_ms`.
    """
    head, length, count = 0, 0, 0
    for number in numbers:
        book = books[number]
        if not book.was_shown:
            continue
        start, end = book.name_start, book.name_start + book.name_length
        colon = -1
        is_plain = book.name_length <= _MAX_NAME
        for at in range(start, end):
            byte = names[at]
            if byte == 58 and colon < 0:
                colon = at
            is_plain = is_plain and 32 <= byte < 127 and byte != 34 and byte != 92
        for side in range(2 * number, 2 * number + 2):
            last = sides[side].start + sides[side].count
            for index in range(max(sides[side].start, last - DEPTH_LEVELS), last):
                is_plain = is_plain and scales[index] & 255 != UNKNOWN_SCALE and scales[index] >> 8 != UNKNOWN_SCALE
        if not is_plain or colon < 0 or book.cut_ms >= _YEAR_10000_MS:
            unwritten[count] = number
            count += 1
            continue
        if length:
            heads[head], out[length] = 10, 10
            head, length = head + 1, length + 1
        head = _put_padded(max(0, min(book.cut_ms - book.offset_ms, until_ms)), 13, heads, head)
        head = _copied(names, start, end, heads, head)
        length = _copied(names, start, colon, out, _put(_VENUE, out, length))
        length = _copied(names, colon + 1, end, out, _put(_INSTRUMENT, out, length))
        length = _put_instant(book.cut_ms, out, _put(_EVENT_AT_ONLY, out, length))
        length = _put(_DEPTH_SEQUENCE, out, length)
        length = _put_whole(book.sequence, out, length) if book.has_sequence else _put(_NULL, out, length)
        length = _put_best(sides, keys, sizes, scales, 2 * number, out, _put(_DEPTH_BIDS, out, length))
        length = _put_best(sides, keys, sizes, scales, 2 * number + 1, out, _put(_DEPTH_ASKS, out, length))
        length = _put(_DEPTH_STALE if book.is_stale or book.is_quiet else _DEPTH_WHOLE, out, length)
    lengths[0], lengths[1] = head, length
    return count


_YEAR_10000_MS = 253_402_300_800_000


@compiled
def _put_best(sides: NDArray[Any], keys: F8, sizes: F8, scales: U2, side: int, out: U1, length: int) -> int:
    """Write the best levels of a side as [price,size] pairs, best first."""
    last = sides[side].start + sides[side].count
    first = max(sides[side].start, last - DEPTH_LEVELS)
    for index in range(last - 1, first - 1, -1):
        if index < last - 1:
            out[length] = 44
            length += 1
        out[length] = 91
        decimals: int = np.int64(scales[index])  # type: ignore[assignment]
        length = _put_number(abs(keys[index]), decimals & 255, out, length + 1)
        out[length] = 44
        length = _put_number(sizes[index], decimals >> 8, out, length + 1)
        out[length] = 93
        length += 1
    return length


@compiled
def _put_instant(at_ms: int, out: U1, length: int) -> int:
    """Write YYYY-MM-DDTHH:MM:SS.mmmZ of milliseconds since 1970.  The date by Howard Hinnant's civil_from_days."""
    days, in_day = at_ms // 86_400_000, at_ms % 86_400_000
    shifted = days + 719_468
    era, day_of_era = shifted // 146_097, shifted % 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + 400 * era + (1 if month <= 2 else 0)
    length = _put_padded(year, 4, out, length)
    out[length] = 45
    length = _put_padded(month, 2, out, length + 1)
    out[length] = 45
    length = _put_padded(day, 2, out, length + 1)
    out[length] = 84
    length = _put_padded(in_day // 3_600_000, 2, out, length + 1)
    out[length] = 58
    length = _put_padded(in_day // 60_000 % 60, 2, out, length + 1)
    out[length] = 58
    length = _put_padded(in_day // 1000 % 60, 2, out, length + 1)
    out[length] = 46
    length = _put_padded(in_day % 1000, 3, out, length + 1)
    out[length] = 90
    return length + 1


class Taken(NamedTuple):
    """The result of the plain updates of a batch."""

    heads: bytes  # of rows of `book_tops`
    values: bytes
    rest: bytes  # the records left
    changed: list[int]  # numbers of books
    passed: list[int]  # numbers of books whose depth row must be written before the rest is applied


class PlainUpdates:
    """The memory of one shard for plain updates."""

    def __init__(self) -> None:
        self.batch = 0
        self.scratch = Scratch(256)
        self.heads, self.out = np.empty(0, np.uint8), np.empty(0, np.uint8)

    def take(self, ladders: Any, data: bytes, until_ms: int, touched_number: int, window_ms: int = 0) -> Taken:
        """Apply the plain updates of a batch.

        `changed` has only books that were not in it before with this `touched_number`.  `window_ms` is as in `run`.
        """
        self.batch += 1
        padded = np.frombuffer(data + b"\0" * _PADDING, np.uint8)
        rows = _rows_at_most(padded)
        # Reused for each batch: new memory costs more to get than to fill.
        if len(self.heads) < (head_room := len(data) + 16 * rows):
            self.heads = np.empty(2 * head_room, np.uint8)
        if len(self.out) < (room := len(data) + 512 * rows):
            self.out = np.empty(2 * room, np.uint8)
        heads, out = self.heads, self.out
        left, touched = np.empty((2 * rows, 4), np.int64), np.empty(rows, np.int32)
        passed = np.empty(rows if window_ms else 0, np.int32)
        progress = np.zeros(11, np.int64)
        while True:
            arrays: Arrays = ladders.arrays
            scratch = self.scratch
            code = run(
                *(padded, len(data), self.batch, touched_number, until_ms, window_ms, *arrays),
                *(scratch.keys, scratch.sizes, scratch.scales, scratch.old_sizes, scratch.old_scales, scratch.text),
                *(progress, heads, out, left, touched, passed),
            )
            if code == DONE:
                break
            if code == NEEDS_ROOM:
                ladders.reserve(int(progress[8]), int(progress[9]))
            else:
                self.scratch = Scratch(4 * len(scratch.keys))
        left_rows = left[: progress[3]].tolist()
        rest = b"\x1e".join([data[record:value] + data[row:row_end] for record, value, row, row_end in left_rows])
        lines = heads[: progress[1]].tobytes(), out[: progress[2]].tobytes()
        return Taken(*lines, rest, touched[: progress[4]].tolist(), passed[: progress[10]].tolist())

"""The levels of many books in a few arrays, so that compiled code can walk them.

A side is a run of levels in ascending order of `key`, the best level last, where most changes are: the key of a bid is its
price, that of an ask its negative price.  `scales` has the decimals with which price and size were sent, so that the checksum
of the venue's text can be computed: decimals of the price, plus 256 times those of the size.  A double has no more than 15
digits; for a level with more, the text is kept as well.  Two prices of a side that are the same double are one level.
"""

import zlib
from collections.abc import Sequence
from decimal import Decimal
from itertools import chain, zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from udfs.compiled import compiled, inlined, prefetch

BID, ASK = 0, 1
CHANNEL = "\x1f"
"""Separates the name of an instrument's book from the depth of its channel, if that does not show the whole book."""
MAX_DIGITS = 15
"""Decimals with up to this many digits all have different doubles."""
UNKNOWN_SCALE = 255
NUMBER_BYTES = 24
"""The length of a number that `written` writes, at most."""
CHECKSUM_DEPTH = 25
FETCHED_LEVELS = 104
"""How many of the best levels of a side are fetched ahead: most changes are among them."""
CACHED_LEVELS = 20_000
"""This many levels stay in a core's cache anyway."""
LEVEL_BYTES = 18
MANY_LEVELS = 16
"""From more than so many at once, it pays to sort the levels before they are put in."""
POWERS = np.array([10.0**power for power in range(MAX_DIGITS + 8)])

BOOK = np.dtype(
    [
        ("sequence", "i8"),  # of the last update applied
        ("previous", "i8"),  # of the update or snapshot before that one
        ("event_ms", "i8"),  # the newest event time of the messages applied
        ("shown_ms", "i8"),  # the event time of the last top shown
        ("reset_ms", "i8"),  # the newest event time before the venue restarted its numbers; 0 if it has not
        ("bid", "f8"),  # the top as it was last shown; NaN where there is none
        ("bid_size", "f8"),
        ("ask", "f8"),
        ("ask_size", "f8"),
        ("was_shown", "u1"),
        ("was_stale", "u1"),  # when it was last shown
        ("has_sequence", "u1"),  # 0 before the first snapshot
        ("is_fresh", "u1"),  # nothing was applied since the snapshot: the next update need only straddle it
        ("is_stale", "u1"),
        ("is_quiet", "u1"),  # its venue has sent nothing for long
        ("is_hidden", "u1"),  # the book of another channel is shown for this instrument
        ("keeps", "u1"),  # updates wait
        ("is_unchained", "u1"),  # its venue neither numbers nor chains updates: see `kernels.books.UNCHAINED`
        ("venue", "i4"),  # the number of its venue
        ("offset_ms", "i8"),  # how far the venue's clock is ahead of the common time
        ("cut_ms", "i8"),  # the end of the interval whose depth row is not written yet; 0 if there is none
        ("depth_ms", "i8"),  # `event_at` of the last depth row
        ("resync_ms", "i8"),  # when a fresh snapshot was last requested
        ("left_in", "i8"),  # the last batch with a message of this book that is not plain
        ("noted_in", "i8"),  # the number of the last `books.Touched` that has its name
        ("name_start", "i8"),
        ("name_length", "i8"),
    ]
)
SIDE = np.dtype([("start", "i8"), ("count", "i8"), ("room", "i8")])

F8: TypeAlias = NDArray[np.float64]
U1: TypeAlias = NDArray[np.uint8]
U2: TypeAlias = NDArray[np.uint16]
I4: TypeAlias = NDArray[np.int32]


class Arrays(NamedTuple):
    """The arguments of compiled code."""

    books: NDArray[Any]  # of BOOK
    sides: NDArray[Any]  # of SIDE: the bids of book b are side 2 b, its asks 2 b + 1
    keys: F8
    sizes: F8
    scales: U2
    names: U1
    slots: I4  # open addressing: hash of the name -> book, -1 where free; the length is a power of two


class Ladders:
    """The books of one shard, by name."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}  # of books in the arrays
        self.names_of: list[str] = []
        self.unused: list[int] = []
        self.levels_used = self.names_used = 0
        self.texts: dict[int, dict[float, tuple[str, str]]] = {}  # price and size as sent, by side and key
        keys, sizes, scales = _levels(1024)
        names, slots = np.zeros(512, np.uint8), np.full(32, -1, np.int32)
        self.arrays = Arrays(np.zeros(8, BOOK), np.zeros(16, SIDE), keys, sizes, scales, names, slots)

    def add(self, name: str) -> int:
        """Add an empty book; returns its number."""
        number = self.unused.pop() if self.unused else len(self.names_of)
        if number == len(self.names_of):
            self.names_of.append(name)
            if number == len(self.arrays.books):
                self.arrays = self.arrays._replace(books=_longer(self.arrays.books), sides=_longer(self.arrays.sides))
        self.names_of[number] = name
        self.numbers[name] = number
        text = np.frombuffer(name.encode(), np.uint8)
        while self.names_used + len(text) > len(self.arrays.names):
            self.arrays = self.arrays._replace(names=_longer(self.arrays.names))
        book = self.arrays.books[number]
        book["name_start"], book["name_length"] = self.names_used, len(text)
        self.arrays.names[self.names_used : self.names_used + len(text)] = text
        self.names_used += len(text)
        if 2 * len(self.numbers) > len(self.arrays.slots):
            self._index(2 * len(self.arrays.slots))
        else:
            _enter(self.arrays.books, self.arrays.names, self.arrays.slots, number)
        return number

    def remove(self, name: str) -> None:
        """Remove a book; its number is used again."""
        number = self.numbers.pop(name)
        self.unused.append(number)
        self.arrays.books[number] = np.zeros((), BOOK)
        self.arrays.sides[2 * number : 2 * number + 2] = np.zeros((), SIDE)
        for side in (2 * number + BID, 2 * number + ASK):
            self.texts.pop(side, None)
        kept = [(self.arrays.books[other], other_name.encode()) for other_name, other in self.numbers.items()]
        self.names_used = 0
        for book, text in kept:
            book["name_start"] = self.names_used
            self.arrays.names[self.names_used : self.names_used + len(text)] = np.frombuffer(text, np.uint8)
            self.names_used += len(text)
        self._index(len(self.arrays.slots))

    def reserve(self, side: int, levels: int) -> None:
        """Make room for this many more levels on one side."""
        run = self.arrays.sides[side]
        start, count = int(run["start"]), int(run["count"])
        room = max(2 * int(run["room"]), count + levels, 8)
        if self.levels_used + room > len(self.arrays.keys):
            self._compact(room)
            start = int(run["start"])
        for array in self._columns():
            array[self.levels_used : self.levels_used + count] = array[start : start + count]
        run["start"], run["room"] = self.levels_used, room
        self.levels_used += room

    def put(self, side: int, levels: Sequence[Sequence[Any]]) -> None:
        """Set the size at each price; size 0 deletes the level.  Numbers may be `Decimal`s, which have the digits as sent."""
        numbers = list(chain.from_iterable(levels))
        pairs = np.fromiter(map(float, numbers), np.float64, len(numbers)).reshape(-1, 2)
        each_scale = np.fromiter(map(_scale, numbers), np.uint16, len(numbers)).reshape(-1, 2)
        scales = each_scale[:, 0] | each_scale[:, 1] << 8
        for index in np.flatnonzero((each_scale == UNKNOWN_SCALE).any(1)).tolist():
            self._keep_text(side, *levels[index])
        if len(pairs) > MANY_LEVELS:
            # Venues name the best levels of a snapshot first, and each one that is put in first would move all that are there.
            order = np.argsort(-pairs[:, 0] if side & 1 else pairs[:, 0], kind="stable")
            pairs, scales = pairs[order], scales[order]
        run = self.arrays.sides[side]
        if run["count"] + len(pairs) > run["room"]:
            self.reserve(side, len(pairs))
        _put_all(*self.arrays[1:5], side, pairs, scales)

    def _keep_text(self, side: int, price: float | Decimal, size: float | Decimal) -> None:
        key = -float(price) if side & 1 else float(price)
        if not isinstance(price, float) and not isinstance(size, float):
            self.texts.setdefault(side, {})[key] = _sent(price), _sent(size)
        elif side in self.texts:
            self.texts[side].pop(key, None)

    def texts_of(self, side: int) -> list[tuple[str, str]]:
        """Price and size, as sent, of the levels with more digits than a double has."""
        known = self.texts.get(side)
        if not known:
            return []
        keys, _, scales = self._run(side)
        current = [
            key
            for key, scale in zip(keys.tolist(), scales.tolist(), strict=True)
            if UNKNOWN_SCALE in (scale & 255, scale >> 8) and key in known
        ]
        self.texts[side] = {key: known[key] for key in current}
        return list(self.texts[side].values())

    def put_texts(self, side: int, texts: Sequence[Sequence[str]]) -> None:
        """Restore the texts that `texts_of` returned."""
        if texts:
            sign = -1 if side & 1 else 1
            self.texts[side] = {sign * float(price): (price, size) for price, size in texts}

    def clear(self, side: int) -> None:
        """Delete every level of a side."""
        self.arrays.sides[side]["count"] = 0
        self.texts.pop(side, None)

    def levels(self, side: int) -> list[list[float]]:
        """Every [price, size], in ascending order of price."""
        keys, sizes, _ = self._run(side)
        pairs = [[abs(key), size] for key, size in zip(keys.tolist(), sizes.tolist(), strict=True)]
        return pairs[::-1] if side & 1 else pairs

    def best(self, side: int) -> tuple[float | None, float | None]:
        """Price and size of the best level; None where the side is empty."""
        keys, sizes, _ = self._run(side)
        return (abs(float(keys[-1])), float(sizes[-1])) if len(keys) else (None, None)

    def checksum(self, book: int) -> int:
        """The book's checksum as its venue computes it: see `crc32`."""
        if 2 * book + BID in self.texts or 2 * book + ASK in self.texts:
            sides = [self._sent_levels(2 * book + BID), self._sent_levels(2 * book + ASK)]
            by_turns = [level for pair in zip_longest(*sides) for level in pair if level is not None]
            crc = zlib.crc32(":".join(by_turns).encode())
            return crc - 2**32 if crc >= 2**31 else crc
        arrays = self.arrays
        return int(crc32(arrays.sides, arrays.keys, arrays.sizes, arrays.scales, book, np.empty(NUMBER_BYTES, np.uint8)))

    def _sent_levels(self, side: int) -> list[str]:
        """`price:size` of the best levels of a side, as sent."""
        known = self.texts.get(side, {})
        sent = []
        for key, size, scale in zip(*(column[-CHECKSUM_DEPTH:].tolist() for column in self._run(side)), strict=True):
            price_scale, size_scale = scale & 255, scale >> 8
            if UNKNOWN_SCALE in (price_scale, size_scale):
                sent.append(":".join(known.get(key, ("0", "0"))))
            else:
                sent.append(f"{abs(key):.{price_scale}f}:{size:.{size_scale}f}")
        return sent[::-1]

    def encode(self, book: int) -> tuple[list[int], bytes]:
        """The number of levels of each side of a book, and their bytes."""
        (bids, bid_count, _), (asks, ask_count, _) = self.arrays.sides[2 * book : 2 * book + 2].tolist()
        runs = slice(bids, bids + bid_count), slice(asks, asks + ask_count)
        return [bid_count, ask_count], b"".join([column[run].tobytes() for run in runs for column in self._columns()])

    def decode(self, side: int, count: int, data: bytes) -> None:
        """Restore a side of `count` levels from the bytes of `encode`.  Raises `ValueError` for any other length."""
        if len(data) != LEVEL_BYTES * count:
            raise ValueError(f"{count} levels: expected {LEVEL_BYTES * count} bytes, got {len(data)}")
        self.clear(side)
        self.reserve(side, count)
        start = int(self.arrays.sides[side]["start"])
        self.arrays.keys[start : start + count] = np.frombuffer(data, np.float64, count)
        self.arrays.sizes[start : start + count] = np.frombuffer(data, np.float64, count, 8 * count)
        self.arrays.scales[start : start + count] = np.frombuffer(data, np.uint16, count, 16 * count)
        self.arrays.sides[side]["count"] = count

    def _run(self, side: int) -> tuple[F8, F8, U2]:
        start, count, _ = self.arrays.sides[side].item()
        part = slice(start, start + count)
        return self.arrays.keys[part], self.arrays.sizes[part], self.arrays.scales[part]

    def _columns(self) -> list[NDArray[Any]]:
        return [self.arrays.keys, self.arrays.sizes, self.arrays.scales]

    def _compact(self, more: int) -> None:
        sides = self.arrays.sides
        fresh = _levels(2 * int(sides["room"].sum()) + more)
        used = 0
        for run in sides:
            start, count = int(run["start"]), int(run["count"])
            for column, old in zip(fresh, self._columns(), strict=True):
                column[used : used + count] = old[start : start + count]
            run["start"] = used
            used += int(run["room"])
        self.levels_used = used
        self.arrays = self.arrays._replace(keys=fresh[0], sizes=fresh[1], scales=fresh[2])

    def _index(self, length: int) -> None:
        self.arrays = self.arrays._replace(slots=np.full(length, -1, np.int32))
        for number in self.numbers.values():
            _enter(self.arrays.books, self.arrays.names, self.arrays.slots, number)


def _scale(number: float | Decimal) -> int:
    """The decimals with which a number was sent, as far as the number shows."""
    if isinstance(number, Decimal):
        text = str(number)
        # A snapshot has thousands of numbers, and to take each apart takes five times as long.
        if len(text) <= MAX_DIGITS and "E" not in text and (point := text.find(".")) >= 0:
            return len(text) - point - 1
        _, digits, exponent = number.as_tuple()
        is_known = isinstance(exponent, int) and -MAX_DIGITS <= exponent <= 0 and len(digits) <= MAX_DIGITS
        return -int(exponent) if is_known else UNKNOWN_SCALE
    if isinstance(number, int):
        return 0 if abs(number) < 10**MAX_DIGITS else UNKNOWN_SCALE
    # JSON writes a double with one decimal at least.
    return int(max(1, _fewest_decimals(number)))


def _sent(number: int | Decimal) -> str:
    return str(number) if isinstance(number, int) else format(number, "f")


def _levels(room: int) -> list[NDArray[Any]]:
    return [np.empty(room), np.empty(room), np.empty(room, np.uint16)]


def _longer(array: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([array, np.zeros(len(array), array.dtype)])


@compiled
def _fewest_decimals(number: float) -> int:
    for decimals in range(MAX_DIGITS + 1):
        digits = np.rint(number * POWERS[decimals])
        if digits >= POWERS[MAX_DIGITS]:
            break
        if digits / POWERS[decimals] == number:
            return decimals
    return UNKNOWN_SCALE


@compiled
def hashed(text: U1, start: int, end: int, value: int) -> int:
    """FNV-1a of some bytes, going on from `value`."""
    mixed = np.uint64(value)
    for index in range(start, end):
        mixed = (mixed ^ np.uint64(text[index])) * np.uint64(1099511628211)
    return np.int64(mixed)  # type: ignore[return-value] # the same to compiled code


HASH_START = 14695981039346656037 - 2**64


@compiled
def _enter(books: NDArray[Any], names: U1, slots: I4, number: int) -> None:
    start = books[number].name_start
    slot = hashed(names, start, start + books[number].name_length, HASH_START) & (len(slots) - 1)
    while slots[slot] >= 0:
        slot = (slot + 1) & (len(slots) - 1)
    slots[slot] = number


@compiled
def put(
    sides: NDArray[Any], keys: F8, sizes: F8, scales: U2, side: int, key: float, size: float, scale: int
) -> tuple[float, int]:
    """Set the size at a key, 0 deletes; returns the former size and scales, 0 if there was none.  There must be room."""
    start = sides[side].start
    end = start + sides[side].count
    index = end
    # Most changes are near the best level.
    while index > start and end - index < 8 and keys[index - 1] >= key:
        index -= 1
    if index > start and keys[index - 1] >= key:
        low = start
        while low < index:
            middle = (low + index) >> 1
            if keys[middle] < key:
                low = middle + 1
            else:
                index = middle
    if index < end and keys[index] == key:
        old_size, old_scale = sizes[index], int(scales[index])
        if size > 0:
            sizes[index] = size
            scales[index] = scale
        else:
            _down(keys, index, end)
            _down(sizes, index, end)
            _down(scales, index, end)
            sides[side].count -= 1
        return old_size, old_scale
    if size > 0:
        _up(keys, index, end)
        _up(sizes, index, end)
        _up(scales, index, end)
        keys[index] = key
        sizes[index] = size
        scales[index] = scale
        sides[side].count += 1
    return 0.0, 0


@compiled
def fetch(sides: NDArray[Any], keys: F8, sizes: F8, scales: U2, book: int) -> None:
    """Fetch the best levels of a book into the core's cache while its message is read."""
    if len(keys) < CACHED_LEVELS:
        return
    for side in range(2 * book, 2 * book + 2):
        end = sides[side].start + sides[side].count
        start = max(sides[side].start, end - FETCHED_LEVELS)
        for index in range(start, end, 8):  # in a line of 64 bytes
            prefetch(keys, index)
            prefetch(sizes, index)
        for index in range(start, end, 32):
            prefetch(scales, index)


@inlined
def _down(column: NDArray[Any], index: int, end: int) -> None:
    if index < 0:
        return
    for spot in range(index, end - 1):
        column[spot] = column[spot + 1]


@inlined
def _up(column: NDArray[Any], index: int, end: int) -> None:
    if index < 0:
        return
    for spot in range(end, index, -1):
        column[spot] = column[spot - 1]


@compiled
def _put_all(sides: NDArray[Any], keys: F8, sizes: F8, scales: U2, side: int, levels: F8, level_scales: U2) -> None:
    for index in range(len(levels)):
        key = -levels[index, 0] if side & 1 else levels[index, 0]
        put(sides, keys, sizes, scales, side, key, levels[index, 1], int(level_scales[index]))


def _crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, np.uint32(0xEDB88320) ^ (table >> 1), table >> 1)
    return table.astype(np.uint32)


CRC = _crc_table()


@compiled
def crc32(sides: NDArray[Any], keys: F8, sizes: F8, scales: U2, book: int, text: U1) -> int:
    """The checksum of OKX and Bitget: CRC32 of `price:size` of the best 25 levels, bid and ask by turns, joined by colons.

    Signed, 32 bits.  Numbers as sent, with trailing zeros.  A number whose digits are not known counts as 0.  `text` is a
    buffer of `NUMBER_BYTES`.
    """
    crc = np.uint32(0xFFFFFFFF)
    is_first = True
    for depth in range(CHECKSUM_DEPTH):
        for side in range(2 * book, 2 * book + 2):
            if depth >= sides[side].count:
                continue
            index = sides[side].start + sides[side].count - 1 - depth
            for part in range(2):
                if part == 0:
                    length = written(abs(keys[index]), scales[index] & 255, text)
                else:
                    length = written(sizes[index], scales[index] >> 8, text)
                if not is_first:
                    crc = CRC[(crc ^ np.uint32(58)) & np.uint32(255)] ^ (crc >> np.uint32(8))
                is_first = False
                for spot in range(length):
                    crc = CRC[(crc ^ np.uint32(text[spot])) & np.uint32(255)] ^ (crc >> np.uint32(8))
    return int(np.int32(crc ^ np.uint32(0xFFFFFFFF)))


@compiled
def written(number: float, scale: int, text: U1) -> int:
    """Write a number with this many decimals; returns the length."""
    if scale == UNKNOWN_SCALE:
        text[0] = 48
        return 1
    digits = int(np.rint(number * POWERS[scale]))
    length = 1
    bound = 10
    while digits >= bound and length < 18:
        length += 1
        bound *= 10
    length = max(length, scale + 1) + (1 if scale else 0)
    for index in range(length - 1, -1, -1):
        if scale and index == length - 1 - scale:
            text[index] = 46
            continue
        text[index] = 48 + digits % 10
        digits //= 10
    return length

"""Captured traffic of a venue, as it was received, into records.

A line is one message with the time of its receipt.  Two formats are read, plain or gzipped:

    wss://… <-> 1626993723.42                  a connection, of the messages after it (cryptofeed: seconds, then a colon)
    wss://… <- 1626993723.71: {…}              a request, outgoing
    1626993723.80: {…}                         a message
    https://… -> 1626993723.13: {…}            a message, the answer to a request
    1723161256172216566 {…}                    a message             (nanoseconds, no colon)

No line is lost: one that cannot be used becomes a dead letter, and one that holds no data is counted as control.
"""

import base64
import gzip
import heapq
import logging
import re
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, NamedTuple

from feeds import Received, Record, Rejected
from feeds.clocks import tells_time
from feeds.venues import VENUES
from schemas.records import DeadLettersRow
from schemas.rows import Fault, instant_ms, shown

_EARLIEST_US = 946_684_800_000_000  # the year 2000
_AHEAD_US = 60_000_000  # what the clocks of two machines may differ by
_BLOCK_BYTES = 1 << 20
_CONTROL = re.compile(rb"wss?://\S+ <->? |configuration: ")
_OPENED = re.compile(rb"(wss?://\S+) <-> ")
_TIMED = re.compile(rb"(?:(https?://\S+) -> )?(?:(\d{1,12}(?:\.\d{1,20})?):|(\d{1,20})) (.*)", re.DOTALL)
_COUNTED = re.compile(r"(?:\w*[A-Za-z]-?)?(\d{1,20})", re.ASCII)  # a trade id that is counted up, such as 17, a17 or ETH-17
_OF_AN_EVENT = re.compile(r"[0-9a-f]{24}")  # a trade id of dYdX: height, transaction and event, each eight hexadecimal digits

_log = logging.getLogger(__name__)


class CaptureError(Exception):
    """A capture that cannot be read at all; the message names the file."""


class Line(NamedTuple):
    """One line of a capture, or one message of a live connection."""

    venue: str  # as in `feeds.venues.VENUES`
    path: str  # the file as it was named, or the connection's address
    number: int  # from 1
    received_us: int  # receiver's clock; of the line before where this one has none, 0 where there is none before
    message: bytes
    kind: Literal["message", "control"]
    fault: Fault | None = None  # why the line is no message
    symbol: str | None = None  # what was asked for, where the message answers a request
    url: str | None = None  # address that the message answers a request to, else of its connection; None where it is not told


class Converted(NamedTuple):
    """What became of one line: its records, or a dead letter and its fault."""

    line: Line
    records: list[Record]  # terms of instruments not seen before, then the message's own; and dead letters of single items
    table: str | None  # of the message's own first record; None if it holds no data or was rejected
    fault: Fault | None  # why no record came of the message; None where some did


@dataclass
class Tally:
    """How many lines came and what became of each: `lines == control + sum(messages.values()) + rejected`."""

    lines: int = 0
    control: int = 0  # lines without data: connections, requests, acknowledgements, heartbeats
    messages: dict[str, int] = field(default_factory=dict)  # by the table of the message's first record
    rejected: int = 0

    def add(self, converted: Converted) -> None:
        """Count one line."""
        self.lines += 1
        if converted.fault is not None:
            self.rejected += 1
        elif converted.table is None:
            self.control += 1
        else:
            self.messages[converted.table] = self.messages.get(converted.table, 0) + 1


def read(venue: str, path: str | Path) -> Iterator[Line]:
    """The lines of a captured file, in file order.

    A line that is no message, and a gzip stream that breaks off, give a `Line` with a fault: what was readable before
    it is kept.  Raises `CaptureError` at once for an unknown venue and for a file that cannot be opened.
    """
    if venue not in VENUES:
        raise CaptureError(f"{path}: unknown venue {venue!r}; known are {', '.join(sorted(VENUES))}")
    if Path(path).is_dir():
        raise CaptureError(f"{path}: a directory; name one captured file")
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - the generator closes it
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}") from error
    return _lines(venue, str(path), file)


def merged(captures: Iterable[tuple[str, str | Path]]) -> Iterator[Line]:
    """The lines of several captured files, each (venue, path), in the order of their receipt.

    Lines of one file stay in its order, and at the same microsecond the file named first goes first.  Raises as `read`.
    """
    return heapq.merge(*[read(venue, path) for venue, path in captures], key=lambda line: line.received_us)


def convert(lines: Iterable[Line]) -> Iterator[Converted]:
    """What becomes of each line, of one file or of several `merged`."""
    return map(Converter().convert, lines)


@dataclass
class _Connection:
    """What one connection has shown so far."""

    newest_event_ms: int | None = None
    symbol: str | None = None
    has_several_symbols: bool = False


class Converter:
    """Lines into records, one by one, keeping what messages leave out: the newest exchange time and the only symbol of
    each connection, and which instruments have been described.

    Terms have no time of their own, and a row of theirs is dated before all that could refer to it.  Its timestamp is that only
    where nothing has come before; else it would be late for one reader and in time for another.  A listing gets the newest, and
    a description that of the record that it goes before.
    """

    def __init__(self) -> None:
        self._connections: dict[str, _Connection] = {}
        self._described: set[tuple[str, str]] = set()
        self._newest_ms: int | None = None  # of all connections

    def convert(self, line: Line) -> Converted:
        """What becomes of one line.  Never raises for what stands in it."""
        if line.kind == "control":
            return Converted(line, [], None, None)
        if line.fault is not None:
            return Converted(line, [dead_letter(line, line.fault)], None, line.fault)
        connection = self._connections.get(line.path)
        if connection is None:
            connection = self._connections[line.path] = _Connection()
        adapter = VENUES[line.venue]
        # An answer to a request is about what was asked for, whatever its connection speaks of.
        is_answer = line.url is not None and line.url.startswith("http")
        symbol = line.symbol or (None if is_answer else connection.symbol)
        received = Received(line.received_us, connection.newest_event_ms, symbol, line.url)
        try:
            parsed = adapter.parse(line.message, received)
        except Rejected as rejected:
            return Converted(line, [dead_letter(line, rejected.fault)], None, rejected.fault)
        records = _oldest_first([item for item in parsed if isinstance(item, Record)])
        rejected_items = [item for item in parsed if isinstance(item, Rejected)]
        letters = [dead_letter(line, item.fault, item.item) for item in rejected_items]
        if letters and not records:
            return Converted(line, letters, None, rejected_items[0].fault)
        descriptions: list[Record] = []
        for place, record in enumerate(records):
            if record.table == "instruments":
                self._described.add((record.row["venue"], record.row["instrument"]))
                if self._newest_ms is not None:
                    records[place] = record._replace(event_ms=self._newest_ms)
                continue
            if tells_time(record):
                self._newest_ms = max(self._newest_ms or record.event_ms, record.event_ms)
            # A record that bears the received time has borrowed it and tells nothing of the exchange's clock.
            newest, event_ms = connection.newest_event_ms, record.event_ms
            if event_ms != line.received_us // 1000 and (newest is None or event_ms > newest):
                connection.newest_event_ms = event_ms
            symbol = record.row.get("instrument")
            if symbol is None:
                continue
            if symbol != connection.symbol and not connection.has_several_symbols and not is_answer:
                connection.has_several_symbols = connection.symbol is not None
                connection.symbol = None if connection.has_several_symbols else symbol
            venue = record.row["venue"]
            if (venue, symbol) not in self._described:
                self._described.add((venue, symbol))
                description = adapter.describe(venue, symbol, received)
                if description is not None:
                    descriptions.append(description._replace(event_ms=record.event_ms))
        return Converted(line, descriptions + records + letters, records[0].table if records else None, None)


def _oldest_first(records: list[Record]) -> list[Record]:
    """Trades of one message in the order in which they were made; other records as they are.

    Many venues list the newest first.  Of one millisecond, ids that count up tell the order, else that of the list does.
    """
    if len(records) < 2 or any(record.table != "trades" for record in records):
        return records
    if records[0].event_ms > records[-1].event_ms:
        records.reverse()
    return sorted(records, key=lambda record: (record.event_ms, _count(record.row["trade_id"])))


def _count(trade_id: str) -> int:
    if _OF_AN_EVENT.fullmatch(trade_id):
        return int(trade_id, 16)
    counted = _COUNTED.fullmatch(trade_id)
    return int(counted[1]) if counted else 0


def dead_letter(line: Line, fault: Fault, item: bytes | None = None) -> Record:
    """The record of an input that could not be used: the whole line, or one `item` of it."""
    event_ms = line.received_us // 1000
    row: DeadLettersRow = {
        "source": line.path,
        "partition": None,
        "offset": line.number,
        "event_at": instant_ms(event_ms),
        "field": fault.field,
        "expected": fault.expected,
        "got": fault.got,
        "original": base64.b64encode(line.message if item is None else item).decode(),
    }
    return Record("dead_letters", event_ms, row)


def _lines(venue: str, path: str, file: IO[bytes]) -> Iterator[Line]:
    number, received_us, rest = 0, 0, b""
    connection: str | None = None  # address of the one that was opened last
    with file:
        try:
            for block in _blocks(file):
                *lines, rest = (rest + block).split(b"\n")
                for text in lines:
                    number += 1
                    opened = _OPENED.match(text)
                    if opened is not None:
                        connection = opened[1].decode(errors="replace")
                    line = _line(venue, path, number, received_us, connection, text)
                    received_us = line.received_us
                    yield line
        except (EOFError, zlib.error, OSError) as error:
            _log.error("%s: broken off after line %d: %s", path, number, error)
            fault = Fault(None, "a file that can be read to its end", f"{error}, after line {number}")
            yield Line(venue, path, number + 1, received_us, rest, "message", fault)
        else:
            if rest:
                yield _line(venue, path, number + 1, received_us, connection, rest)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    is_gzip = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file) if is_gzip else file
    # read1 gives what has been decompressed so far, where read would lose it at a broken end.
    while block := stream.read1(_BLOCK_BYTES):  # type: ignore[union-attr]
        yield block


def _line(venue: str, path: str, number: int, previous_us: int, connection: str | None, text: bytes) -> Line:
    timed = _TIMED.fullmatch(text)
    if timed is None:
        if not text.strip() or _CONTROL.match(text):
            return Line(venue, path, number, previous_us, text, "control")
    else:
        asked, seconds, nanoseconds, message = timed.groups()
        received_us = int(nanoseconds) // 1000 if nanoseconds else round(float(seconds) * 1e6)
        if _EARLIEST_US <= received_us <= time.time() * 1e6 + _AHEAD_US:
            url = asked.decode(errors="replace") if asked else connection
            return Line(venue, path, number, received_us, message, "message", url=url)
    fault = Fault("received", "a time of receipt after 2000 and not ahead of now, then a message", shown(text))
    return Line(venue, path, number, previous_us, text, "message", fault)

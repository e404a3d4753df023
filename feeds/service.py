"""A feed that runs for months: the contracts that patterns name, over as many connections as the venue's limits ask for.

The feed requests the venue's listings once a minute.  New contracts join and expired ones leave on the open connections.  A
redundant feed receives each message twice and publishes its rows once.
"""

import asyncio
import difflib
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import orjson
from websockets.exceptions import InvalidURI, WebSocketException

from feeds import Record
from feeds.capture import Converter, Line, Tally
from feeds.live import Asker, Symbols, listen
from feeds.metrics import ConnectionCounts
from feeds.publish import Sink
from feeds.recording import Recording
from feeds.resync import Resync
from feeds.session import Session
from schemas.rows import to_ms

LISTING_S = 60.0
REMEMBERED = 200_000
"""The number of published rows that a redundant feed remembers: minutes of a busy venue."""
TRIES = 3
"""The number of refused connections in a row after which a connection takes the next path."""

_log = logging.getLogger(__name__)


class FeedError(Exception):
    """A feed that cannot start; the message names what was requested and what exists."""


class Once:
    """Accepts each row once, from whichever connection delivers it first."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._number = 0  # of new rows
        self._seen: dict[tuple[str, int], int] = {}
        self._behind = 0

    def is_behind(self) -> bool:
        """Whether the last row was new so long ago that the next ones may be forgotten: all that its connection is yet to bring
        has come by the other one."""
        return self._behind > self._remembered // 2

    def is_new(self, record: Record) -> bool:
        """Whether no recent row is equal; the time of receipt does not count."""
        row = {name: value for name, value in record.row.items() if name != "received_at"}
        seen = record.table, hash(orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS))
        number = self._seen.get(seen)
        self._behind = 0 if number is None else self._number - number
        if number is not None:
            return False
        self._number += 1
        self._seen[seen] = self._number
        if len(self._seen) > self._remembered:
            del self._seen[next(iter(self._seen))]
        return True


@dataclass
class Feed:
    """A feed of one market.

    session       the market
    patterns      patterns of its symbols, in upper or lower case: BTC-*
    sink          receives the records
    paths         proxies, in order of preference; without one the feed connects directly
    is_redundant  two connections for every symbol, over two paths if there are two
    recording     stores each message as received
    resyncs       requests for one book
    """

    session: Session
    patterns: Sequence[str]
    sink: Sink
    paths: Sequence[str] = ()
    is_redundant: bool = False
    recording: Recording | None = None
    resyncs: "asyncio.Queue[Resync] | None" = None
    listing_s: float = LISTING_S
    pause_s: float = 1.0
    tally: Tally = field(default_factory=Tally)
    connections: list[Symbols] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the symbols, as the venue lists them
    counts: list[ConnectionCounts] = field(default_factory=list)
    duplicates: int = 0  # rows that the other connection had brought
    path_changes: int = 0
    listed_s: float = 0.0  # when the venue last listed its contracts, in seconds since 1970

    def __post_init__(self) -> None:
        self._converter = Converter()
        self.asker = Asker(self.session, self.paths[0] if self.paths else None)
        self._once = Once() if self.is_redundant else None
        self._queues: list[asyncio.Queue[Resync]] = []
        self._has_news = asyncio.Event()

    async def serve(self, stop: asyncio.Event) -> None:
        """Feed until `stop` is set.  Raises `FeedError` if no symbol matches, and as the sink."""
        tasks: set[asyncio.Task[None]] = {asyncio.create_task(stop.wait())}  # type: ignore[arg-type]
        try:
            await _first(self._list(), tasks)
            if stop.is_set():
                return
            if not self.names:
                raise FeedError(self._nothing())
            self._assign(self.names, tasks)
            tasks.add(asyncio.create_task(self._follow(tasks)))
            tasks.add(asyncio.create_task(self._ship()))
            if self.resyncs is not None:
                tasks.add(asyncio.create_task(self._spread(self.resyncs)))
            while not stop.is_set():
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
                    tasks.discard(task)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.sink.ship()

    async def _list(self) -> None:
        """Request the listings, publish them, and store the symbols that match."""
        listed: dict[str, Record] = {}
        for ask in self.session.listings:
            message, received_us = await self.asker.answer(ask), time.time_ns() // 1000
            if self.recording is not None:
                self.recording.keep(ask.url, received_us, message)
            line = Line(self.session.venue, ask.url, 1, received_us, message, "message", url=ask.url)
            converted = self._converter.convert(line)
            self._publish(converted.records)
            self.tally.add(converted)
            listed |= {record.row["instrument"]: record for record in converted.records if record.table == "instruments"}
        self.listed_s = time.time()
        now_ms = int(self.listed_s * 1000)
        self._listed = sorted(
            name for name, record in listed.items() if record.row["venue"] == self.session.market and _is_alive(record, now_ms)
        ) or list(self.session.symbols)
        patterns = [pattern.upper() for pattern in self.patterns]
        self.names = [name for name in self._listed if any(fnmatchcase(name.upper(), pattern) for pattern in patterns)]

    def _nothing(self) -> str:
        wanted = ", ".join(self.patterns)
        nearest = [near for pattern in self.patterns for near in difflib.get_close_matches(pattern, self._listed, 3, 0.4)]
        hint = f"the nearest are {', '.join(dict.fromkeys(nearest))}" if nearest else "none is like it"
        return f"{self.session.market} lists no {wanted} among {len(self._listed):,} contracts; {hint}"

    def _assign(self, names: Sequence[str], tasks: "set[asyncio.Task[None]]") -> None:
        """Give each symbol a connection; a symbol that has one keeps it."""
        room = self.session.limits.symbols_per_connection
        held = [[name for name in symbols.names if name in set(names)] for symbols in self.connections]
        new = [name for name in names if not any(name in own for own in held)]
        for own in held:
            taken, new = new[: room - len(own)], new[max(0, room - len(own)) :]
            own += taken
        for symbols, own in zip(self.connections, held, strict=True):
            symbols.set(own)
        while new:
            symbols, new = Symbols(new[:room]), new[room:]
            self.connections.append(symbols)
            for number in range(2 if self.is_redundant else 1):
                tasks.add(asyncio.create_task(self._connect(symbols, len(self.connections), number)))

    async def _follow(self, tasks: "set[asyncio.Task[None]]") -> None:
        while True:
            await asyncio.sleep(self.listing_s)
            before = self.names
            await self._list()
            if self.names != before:
                joined, left = set(self.names) - set(before), set(before) - set(self.names)
                _log.info("%s: %d symbols join, %d leave", self.session.market, len(joined), len(left))
                self._assign(self.names, tasks)

    async def _connect(self, symbols: Symbols, connection: int, number: int) -> None:
        """One connection for some symbols, over one path after the other."""
        queue: asyncio.Queue[Resync] = asyncio.Queue()
        self._queues.append(queue)
        paths: Sequence[str | None] = self.paths or [None]
        choice, several = number, len(paths) > 1
        counts = ConnectionCounts(f"{connection}{'ab'[number] if self.is_redundant else ''}", symbols=symbols)
        self.counts.append(counts)
        while True:
            via = paths[choice % len(paths)]
            name = f"{self.session.url} ({counts.name})"
            try:
                stream = listen(
                    self.session,
                    symbols,
                    asker=self.asker,
                    converter=self._converter,
                    name=name,
                    via=via,
                    tries=TRIES if several else None,
                    resyncs=queue,
                    heard=self._heard,
                    counts=counts,
                    is_behind=self._is_behind,
                    pause_s=self.pause_s,
                )
                async with aclosing(stream) as converted_stream:  # type: ignore[type-var]
                    async for converted in converted_stream:
                        self._publish(converted.records)
                        self.tally.add(converted)
            except (OSError, WebSocketException) as error:
                if not several or isinstance(error, InvalidURI):
                    raise FeedError(f"{name}: {error}") from error
                choice += 1
                self.path_changes += 1
                _log.warning("%s: path %s is dead (%s); taking %s", name, via, error, paths[choice % len(paths)])

    def _is_behind(self) -> bool:
        return self._once is not None and self._once.is_behind()

    def _heard(self, url: str, received_us: int, message: bytes) -> None:
        if self.recording is not None:
            self.recording.keep(url, received_us, message)

    def _publish(self, records: Iterable[Record]) -> None:
        for record in records:
            if self._once is None or self._once.is_new(record):
                self.sink.publish(record)
            else:
                self.duplicates += 1
        self._has_news.set()

    async def _ship(self) -> None:
        # Runs when all messages received so far have been published.
        while await self._has_news.wait():
            self._has_news.clear()
            self.sink.ship()

    async def _spread(self, resyncs: "asyncio.Queue[Resync]") -> None:
        while True:
            resync = await resyncs.get()
            for queue in self._queues:
                queue.put_nowait(resync)


async def _first(work: Coroutine[Any, Any, None], stops: "set[asyncio.Task[None]]") -> None:
    """Await some work, or the stop that comes before its end."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, *stops}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _is_alive(record: Record, now_ms: int) -> bool:
    expiry = record.row.get("expiry_at")
    return expiry is None or to_ms(expiry) > now_ms

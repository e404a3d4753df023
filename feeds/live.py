"""Live websocket feeds: a venue's messages as they come, converted as captured ones are.

A `Session` (feeds/session.py) says how to speak with one market; `listen` is the one loop for all of them.  It logs a lost
connection, connects and subscribes again.  A gap in the sequence of a book requests that one book again, never the whole
connection; so does a request of the job books (`feeds.resync`).  Private channels have a loop of their own
(feeds/private/service.py).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Protocol

import orjson
import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import backoff
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from feeds import Record
from feeds.capture import Converted, Converter, Line, Tally
from feeds.clocks import BEHIND_MS
from feeds.metrics import ConnectionCounts
from feeds.publish import Sink
from feeds.resync import Resync
from feeds.session import Ask, Request, Session

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a whole listing of instruments
# No venue is silent for so long while the connection lives: Deribit sends heartbeats, Binance trades, the others pongs.
SILENCE_S = 60.0
_STALL_S = 0.1  # how late a turn of the loop may be
_ASK_AGAIN_S = 5.0  # how long a venue has to send a book before the same one is requested again
ANSWER_S = 10.0
LONGEST_PAUSE_S = 60.0
TOO_MANY = (418, 429)  # the status of a venue that bans an address, and of one that is about to

_log = logging.getLogger(__name__)


class Symbols:
    """The symbols of a connection.  They may change while it is open: then it subscribes to new ones and unsubscribes from
    those that are gone."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(dict.fromkeys(names))
        self.changed = asyncio.Event()

    def set(self, names: Iterable[str]) -> None:
        """Have these symbols from now on."""
        wanted = list(dict.fromkeys(names))
        if wanted != self.names:
            self.names = wanted
            self.changed.set()


class Pace:
    """Allows so many actions per second."""

    def __init__(self, per_s: float) -> None:
        self._every_s = 1 / per_s
        self._next_s = self._paused_until_s = 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        while True:
            now_s = time.monotonic()
            at_s = max(now_s, self._next_s)
            self._next_s = at_s + self._every_s
            if at_s > now_s:
                await asyncio.sleep(at_s - now_s)
            # A turn that was given before a pause began is taken back.
            if at_s >= self._paused_until_s:
                return

    def pause(self, seconds: float) -> None:
        """Allow no turn for so long."""
        self._paused_until_s = max(self._paused_until_s, time.monotonic() + seconds)
        self._next_s = self._paused_until_s


class Asker:
    """Sends HTTP requests to a venue, within its limit for one address, through a proxy if there is one."""

    def __init__(self, session: Session, via: str | None = None) -> None:
        self.refused = self.pauses = 0  # questions without an answer; of these, those after which the venue wants a pause
        self._pace = Pace(session.limits.asks_per_s)
        self._lock = asyncio.Lock()
        self._proxies = {"http": via, "https": via} if via else None

    async def answer(self, ask: Ask) -> bytes:
        """The answer, as soon as the venue gives one: a failure is logged and the request repeated, later and later; a venue
        that says how long to wait (429, 418) is obeyed."""
        pause_s = 1.0
        while True:
            try:
                # One at a time: a request that follows a refusal obeys it, however busy the loop is.
                async with self._lock:
                    await self._pace.turn()
                    response = await asyncio.to_thread(self._get, ask)
            except requests.RequestException as error:
                self.refused += 1
                _log.warning("%s: no answer (%s); again in %g s", ask.url, error, pause_s)
                await asyncio.sleep(pause_s)
            else:
                if response.ok:
                    return response.content
                wait_s = retry_after_s(response.headers, pause_s)
                self.refused += 1
                if response.status_code in TOO_MANY:
                    self.pauses += 1
                    self._pace.pause(wait_s)
                _log.warning("%s: no answer (HTTP Error %d); again in %g s", ask.url, response.status_code, wait_s)
                await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _get(self, ask: Ask) -> requests.Response:
        if ask.body is None:
            return requests.get(ask.url, timeout=ANSWER_S, proxies=self._proxies)
        headers = {"Content-Type": "application/json"}
        return requests.post(ask.url, ask.body, headers=headers, timeout=ANSWER_S, proxies=self._proxies)


def retry_after_s(headers: Mapping[str, str], default_s: float) -> float:
    """How long a response asks us to wait; `default_s` if it says nothing."""
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else default_s


async def listen(
    session: Session,
    symbols: Symbols,
    *,
    asker: Asker | None = None,
    converter: Converter | None = None,
    name: str | None = None,
    via: str | None = None,
    tries: int | None = None,
    resyncs: asyncio.Queue[Resync] | None = None,
    heard: Callable[[str, int, bytes], None] = lambda url, received_us, message: None,
    counts: ConnectionCounts | None = None,
    is_behind: Callable[[], bool] = lambda: False,
    pause_s: float = 1.0,
    ask_again_s: float = _ASK_AGAIN_S,
) -> AsyncIterator[Converted]:
    """The records of each message, without end, over as many connections as it takes.

    `name` is the name of the connection in dead letters, by default its address; connections may share `converter` and `asker`.
    `via` is a proxy; with `tries`, so many refused connections in a row end it.  `resyncs` request single books of the market
    and `symbols`; the same book is not requested again within `ask_again_s`.  `heard` gets each message as it came, with its
    address and time of receipt (microseconds).  `counts` are the connection's counters.  A lost connection is opened again
    after `pause_s`, and so is one that `is_behind` after a message; a refused one later and later.  Raises as `_opened`.
    """
    converter, name, number, was_open = converter or Converter(), name or session.url, 0, False
    asker, counts = asker or Asker(session, via), counts or ConnectionCounts(name)

    def converted(received_us: int, message: bytes, symbol: str | None, url: str) -> Converted:
        nonlocal number
        number += 1
        counts.messages += 1
        counts.newest_us = received_us
        heard(url, received_us, message)
        return converter.convert(Line(session.venue, name, number, received_us, message, "message", symbol=symbol, url=url))

    if session.poll is not None:
        counts.is_open = True
        async for received_us, message, url in _polled(session.poll, symbols, asker):
            yield converted(received_us, message, None, url)
    while True:
        socket = await _opened(session, name, via, tries, pause_s, was_open, counts)
        _log.info("%s: connected", name)
        was_open = True
        counts.opened += 1
        counts.is_open = True
        connection = _Connection(session, symbols, socket, asker, resyncs, counts, ask_again_s)
        try:
            await connection.begin()
            async for received_us, message, symbol, url in connection.messages():
                result = converted(received_us, message, symbol, url)
                connection.mend(result.records)
                yield result
                if is_behind():
                    _log.warning("%s: far behind the other connection; reconnecting", name)
                    break
        except ConnectionClosed as error:
            counts.lost += 1
            reason = f"silent for {SILENCE_S:g} s" if connection.is_silent else error
            _log.warning("%s: connection lost after message %d (%s); reconnecting", name, number, reason)
        finally:
            counts.is_open = False
            await connection.close()
        await asyncio.sleep(pause_s)


async def _opened(
    session: Session, name: str, via: str | None, tries: int | None, pause_s: float, was_open: bool, counts: ConnectionCounts
) -> ClientConnection:
    """An open connection.  A failed attempt is logged and repeated, later and later, and not before the time that the venue
    sets.

    Raises the last failure of `tries`.  Without `tries` it raises what `websockets` regards as final, such as an invalid
    address or a refusal, unless a connection `was_open` before.
    """
    failed = 0
    for wait_s in backoff(5 * pause_s, 3 * pause_s, LONGEST_PAUSE_S):
        # After a burst the answer to a ping waits behind thousands of messages; silence is noticed without pings.
        opening = connect(session.url, max_size=MAX_MESSAGE_BYTES, close_timeout=2, ping_timeout=None, proxy=via or True)
        try:
            return await opening
        except (OSError, WebSocketException) as error:
            _log.warning("%s: no connection: %s", name, error)
            failed += 1
            counts.refused += 1
            status = error.response.status_code if isinstance(error, InvalidStatus) else None
            can_be_final = tries is None and not was_open and status not in TOO_MANY
            is_final = can_be_final and opening.process_exception(error) is not None
            if failed == tries or is_final:
                raise
            if isinstance(error, InvalidStatus):
                wait_s = retry_after_s(error.response.headers, wait_s)
        await asyncio.sleep(wait_s)
    raise AssertionError("waits have no end")


async def _polled(
    poll: Callable[[Sequence[str]], Ask], symbols: Symbols, asker: Asker
) -> AsyncIterator[tuple[int, bytes, str]]:
    """Each response that differs from the one before, without end: time of receipt (microseconds), response and address."""
    before = b""
    while True:
        while not symbols.names:
            await symbols.changed.wait()
            symbols.changed.clear()
        ask = poll(symbols.names)
        message = await asker.answer(ask)
        if message != before:
            yield time.time_ns() // 1000, message, ask.url
        before = message


async def run(session: Session, symbols: Symbols, sink: Sink, stop: asyncio.Event, **options: Any) -> Tally:
    """Publish what a venue sends until `stop` is set; returns the tally.

    `options` are those of `listen`.  Raises as `listen` and the sink do.
    """
    tally = Tally()
    has_news = asyncio.Event()

    async def publish() -> None:
        async with aclosing(listen(session, symbols, **options)) as stream:  # type: ignore[type-var]
            async for converted in stream:
                for record in converted.records:
                    sink.publish(record)
                tally.add(converted)
                has_news.set()

    async def ship() -> None:
        # Runs when all messages received so far have been published.
        while await has_news.wait():
            has_news.clear()
            sink.ship()

    tasks = {asyncio.create_task(publish()), asyncio.create_task(ship()), asyncio.create_task(stop.wait())}
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tally


class Timekeeper(Protocol):
    """What writes the time of its own records: `feeds.publish.Publisher`."""

    counts: Counter[str]
    every_ms: int

    def tick(self) -> None:
        """Write the time of the newest record."""

    def tell_time(self, receiver_ms: int) -> None:
        """Advance the time to this instant of the receiver's clock."""


async def keep_time(publisher: Timekeeper, *, behind_ms: int = BEHIND_MS) -> None:
    """Advance the time, without end.  If nothing comes for `behind_ms`, it follows the machine's clock at that distance.

    Otherwise a venue that falls silent would stop the clock that shows its silence, and hold up all other feeds.  While this
    process is itself late, messages may wait in its sockets: then the clock does not count.
    """
    every_s, count = publisher.every_ms / 1000, -1
    turn_s = quiet_since_s = time.monotonic()
    while True:
        await asyncio.sleep(every_s)
        now_s, before = time.monotonic(), count
        publisher.tick()
        count = publisher.counts.total()
        if count != before or now_s > turn_s + every_s + _STALL_S:
            quiet_since_s = now_s
        turn_s = now_s
        if now_s >= quiet_since_s + behind_ms / 1000:
            publisher.tell_time(time.time_ns() // 1_000_000 - behind_ms)


class _Connection:
    """One connection of a session, from its opening to its loss."""

    def __init__(
        self,
        session: Session,
        symbols: Symbols,
        socket: ClientConnection,
        asker: Asker,
        resyncs: asyncio.Queue[Resync] | None,
        counts: ConnectionCounts,
        ask_again_s: float,
    ) -> None:
        self._session = session
        self._symbols = symbols
        self._subscribed: list[str] = []
        self._socket = socket
        self._asker = asker
        self._counts = counts
        self._pace = Pace(session.limits.requests_per_s)
        self._ask_again_s = ask_again_s
        self._sequences: dict[str, int] = {}  # of each book, after its last row
        self._snapshots: dict[str, tuple[int, int]] = {}  # exchange time and sequence of each book's last one
        # Each book that is still to be requested: how old it may be, the kind of reason, and why.
        self._wanted: dict[str, tuple[int, str, str]] = {}
        self._asking: set[str] = set()  # books that were requested lately
        self._fetched: list[tuple[int, bytes, str, str]] = []
        self._started = asyncio.Event()  # the venue has said something
        self._heard_s = time.monotonic()
        self.is_silent = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._watch())
        if session.ping is not None:
            self._start(self._ping(session.ping))
        if resyncs is not None:
            while not resyncs.empty():  # each book begins again with the connection
                resyncs.get_nowait()
            self._start(self._answer(resyncs))

    async def begin(self) -> None:
        """Send what opens a connection; subscriptions follow at the venue's pace."""
        await self._send(self._session.opening)
        self._start(self._follow())

    async def messages(self) -> AsyncIterator[tuple[int, bytes, str | None, str]]:
        """Each message with its time of receipt (microseconds), the symbol if it was requested by that, and its address."""
        is_first = True
        while True:
            message = await self._socket.recv(decode=False)
            self._heard_s = time.monotonic()
            yield time.time_ns() // 1000, message, None, self._session.url
            reply = self._session.reply(message)
            if reply is not None:
                await self._send([reply], is_urgent=True)
            if (refusal := self._session.refusal(message)) is not None:
                _log.warning("%s: the venue refuses: %s", self._session.url, refusal)
            if is_first:
                # Not sooner: a snapshot joins the stream only if the stream was on when it was taken.
                is_first = False
                self._started.set()
            while self._fetched:
                yield self._fetched.pop(0)

    def mend(self, records: Iterable[Record]) -> None:
        """Request each book whose sequence has a gap at these records."""
        for record in records:
            row = record.row
            if record.table != "order_books" or row["depth"] is not None:
                continue  # changes do not build on the top of a book
            symbol, previous = row["instrument"], row["prev_sequence"]
            known = self._sequences.get(symbol)
            if row["kind"] == "snapshot":
                self._snapshots[symbol] = record.event_ms, row["sequence"] or 0
                if symbol in self._wanted and self._wanted[symbol][0] < record.event_ms:
                    del self._wanted[symbol]  # it is here
                if self._session.snapshot(symbol) is not None:
                    continue  # taken beside the stream, it does not move the stream's sequence
            self._sequences[symbol] = row["sequence"]
            # If a venue does not number its updates, no gap can be seen.
            if row["kind"] == "change" and None not in (known, previous) and previous != known:
                self._counts.gaps += 1
                self.want(symbol, record.event_ms, "gap", f"{previous} follows {known}", row["sequence"])

    def want(self, symbol: str, since_ms: int, kind: str, reason: str, sequence: int = 0) -> None:
        """Request one book, unless a snapshot after `since_ms` and not before `sequence` is here already: now, or `ask_again_s`
        after the last request if that has brought no such snapshot."""
        snapshot_ms, snapshot_sequence = self._snapshots.get(symbol, (since_ms, 0))
        if since_ms < snapshot_ms and sequence <= snapshot_sequence:
            return
        self._wanted[symbol] = since_ms, kind, reason
        if symbol not in self._asking:
            self._asking.add(symbol)
            self._start(self._ask(symbol))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close()

    def _start(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, messages: Sequence[Request], is_urgent: bool = False) -> None:
        for message in messages:
            if not is_urgent:
                await self._pace.turn()
            await self._socket.send(orjson.dumps(message), text=True)

    async def _follow(self) -> None:
        """Subscribe to the symbols, and follow their changes."""
        with suppress(ConnectionClosed):  # which the reader finds too
            while True:
                self._symbols.changed.clear()
                wanted = list(self._symbols.names)
                gone = [symbol for symbol in self._subscribed if symbol not in wanted]
                new = [symbol for symbol in wanted if symbol not in self._subscribed]
                self._subscribed = wanted
                if gone:
                    await self._send(self._session.unsubscribe(gone))
                    for symbol in gone:
                        self._sequences.pop(symbol, None)
                        self._snapshots.pop(symbol, None)
                        self._wanted.pop(symbol, None)
                    # A contract that is gone has no book: it would be asked for without end.
                    for task in self._tasks:
                        if task.get_name() in gone:
                            task.cancel()
                if new:
                    await self._send(self._session.subscribe(new))
                    await self._started.wait()
                    for symbol in new:
                        self._fetch(symbol)
                await self._symbols.changed.wait()

    async def _answer(self, resyncs: asyncio.Queue[Resync]) -> None:
        while True:
            resync = await resyncs.get()
            if resync.venue == self._session.market and resync.instrument in self._subscribed:
                self.want(resync.instrument, resync.event_ms, resync.reason, f"requested: {resync.reason}")

    async def _ask(self, symbol: str) -> None:
        with suppress(ConnectionClosed):  # which the reader finds too
            while symbol in self._wanted:
                _, kind, reason = self._wanted.pop(symbol)
                self._counts.requested_again(kind)
                _log.warning("%s: %s: %s; asking for the book", self._session.url, symbol, reason)
                await self._send(self._session.resubscribe(symbol))
                self._fetch(symbol)
                await asyncio.sleep(self._ask_again_s)
        self._asking.discard(symbol)

    async def _watch(self) -> None:
        """Break a connection that is silent for too long; a time limit on each message would cost more than its reading."""
        while (left_s := self._heard_s + SILENCE_S - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        self.is_silent = True
        self._socket.transport.abort()

    async def _ping(self, text: str) -> None:
        with suppress(ConnectionClosed):  # which the reader finds too
            while True:
                await asyncio.sleep(self._session.ping_s)
                await self._socket.send(text)

    def _fetch(self, symbol: str) -> None:
        ask = self._session.snapshot(symbol)
        if ask is not None:
            self._start(self._snapshot(symbol, ask), symbol)

    async def _snapshot(self, symbol: str, ask: Ask) -> None:
        message = await self._asker.answer(ask)
        self._fetched.append((time.time_ns() // 1000, message, symbol, ask.url))

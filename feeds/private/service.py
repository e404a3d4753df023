"""A feed of one account that runs for months: its orders and executions, from a venue's private channel.

Each connection logs in and subscribes.  Then the feed requests the executions since its last such request, and again every ten
minutes, because a venue's history may be behind its stream.  Every row is published once, by its id.  A key that the venue
refuses ends the feed; everything else is tried again, later and later.  Nothing that is logged has a secret.
"""

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import orjson
import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from feeds import Received, Record, Rejected
from feeds.capture import Converted, Line, Tally, dead_letter
from feeds.live import ANSWER_S, LONGEST_PAUSE_S, MAX_MESSAGE_BYTES, TOO_MANY, Pace, retry_after_s
from feeds.private import PrivateSession, Question, Refusal, Signed
from feeds.private.keys import Keys
from feeds.publish import Sink
from feeds.service import FeedError
from feeds.session import Request

REMEMBERED = 200_000
"""The number of published rows whose ids a feed remembers."""
HISTORY_S = 600.0
"""The pause between two requests for executions of the past."""
OVERLAP_MS = 60_000
"""How far a request for executions goes back behind the one before: a venue's clock and history may be behind."""

_IDS = {"execution_reports": "exec_id", "fills": "fill_id", "transfers": "transfer_id"}

_log = logging.getLogger(__name__)
# At DEBUG both libraries log what is sent: logins, listen keys, signatures.
_wire_log = logging.getLogger(f"{__name__}.wire")
_wire_log.setLevel(logging.INFO)
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class _Refused(Exception):
    """A request that the venue refuses for good; the message has its words."""


class _Lost(Exception):
    """A connection that ends without a fault of the network; the message says why."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s  # how long the venue asks us to wait


class Published:
    """The ids of published rows.  A report without its fee and the same report with it are two."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._ids: dict[tuple[str, str, bool], None] = {}

    def add(self, table: str, row: Mapping[str, object]) -> bool:
        """Remember a row; whether it is new."""
        if table not in _IDS:
            return True
        row_id = table, str(row[_IDS[table]]), row.get("fee") is None
        if row_id in self._ids:
            return False
        self._ids[row_id] = None
        if len(self._ids) > self._remembered:
            del self._ids[next(iter(self._ids))]
        return True


@dataclass
class PrivateFeed:
    """A feed of one account.

    session    the account
    keys       its keys
    sink       receives the records
    symbols    the symbols whose executions are requested, for a venue that lists them by symbol; those seen are added
    since_ms   the executions from this time (ms) on are requested on the first connection; None: from the start of the feed
    published  the ids of rows that an earlier run has published
    paths      proxies; after a failure the next one is used
    """

    session: PrivateSession
    keys: Keys
    sink: Sink
    symbols: Sequence[str] = ()
    since_ms: int | None = None
    published: Published = field(default_factory=Published)
    paths: Sequence[str] = ()
    pause_s: float = 1.0
    history_s: float = HISTORY_S
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._since_ms = self.since_ms if self.since_ms is not None else _now_ms()
        self._symbols = dict.fromkeys(self.symbols)
        self._pace = Pace(self.session.limits.asks_per_s)
        self._failures = 0
        self._name = f"{self.session.market}, account {self.session.account}"

    async def serve(self, stop: asyncio.Event) -> None:
        """Feed until `stop` is set.  Raises `FeedError` if the venue refuses the key, and as the sink."""
        tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(stop.wait())]
        try:
            await _first_end(tasks)
        finally:
            self.sink.ship()

    async def _stay_connected(self) -> None:
        pause_s = self.pause_s
        while True:
            opened_s, wait_s = time.monotonic(), 0.0
            try:
                await self._connection()
            except _Refused as refused:
                words = self.keys.hide(str(refused))
                raise FeedError(
                    f"{self.session.market}: the venue refuses the key of {self.keys.name}: {words}; check that it is a key of "
                    "this venue, has not expired, may read orders and trades and may be used from this address, and that the "
                    "clock of this machine is right"
                ) from None
            except _Lost as lost:
                reason, wait_s = str(lost), lost.wait_s
            except InvalidStatus as error:
                reason = _shown(error)
                if error.response.status_code in TOO_MANY:
                    wait_s = retry_after_s(error.response.headers, LONGEST_PAUSE_S)
            except (OSError, WebSocketException) as error:
                reason = _shown(error)
            if time.monotonic() - opened_s > LONGEST_PAUSE_S:
                pause_s = self.pause_s
            wait_s = max(wait_s, pause_s * random.uniform(0.5, 1.5))
            self._failures += 1
            _log.warning("%s: connection lost (%s); again in %.1f s", self._name, self.keys.hide(reason), wait_s)
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    @property
    def _via(self) -> str | None:
        return self.paths[self._failures % len(self.paths)] if self.paths else None

    async def _connection(self) -> None:
        """One connection, from the ticket to the loss; returns only by raising."""
        session, url = self.session, self.session.url
        if session.ticket is not None and session.address is not None:
            try:
                url = session.address((await self._response(_ready(session.ticket)))[1])
            except Rejected as rejected:
                raise _Lost(f"{session.ticket.url}: {rejected}") from None
        socket = await connect(
            url, proxy=self._via or True, logger=_wire_log, max_size=MAX_MESSAGE_BYTES, open_timeout=ANSWER_S, close_timeout=2
        )
        connection = _Connection(session, socket)
        tasks = [
            self._read(connection),
            self._catch_up(connection),
            connection.ping(),
            connection.refresh(),
            self._renew(session.renewal),
        ]
        try:
            await _first_end([asyncio.create_task(task) for task in tasks])
        finally:
            await socket.close()

    async def _read(self, connection: "_Connection") -> None:
        """Take each message, and say what the session wants to be said."""
        await connection.begin(_now_ms())
        while True:
            message = await connection.receive()
            refusal = self.session.refusal(message)
            if refusal is not None and not connection.is_subscribed.is_set():
                if refusal.wait_s is None:
                    raise _Refused(refusal.words)
                raise _Lost(refusal.words, refusal.wait_s)
            self._take(message, self.session.url)
            if refusal is not None:
                _log.warning("%s: the venue refuses: %s", self._name, self.keys.hide(refusal.words))
            if self.session.is_over(message):
                raise _Lost("the venue ends it")
            await connection.answer(message)

    async def _renew(self, renewal: Signed | None) -> None:
        """Keep the ticket alive."""
        if renewal is None:
            await asyncio.Event().wait()
            return
        while True:
            await asyncio.sleep(self.session.renewal_s)
            try:
                await self._response(_ready(renewal))
            except _Refused as refused:
                raise _Lost(f"the ticket is not renewed: {refused}") from None

    async def _catch_up(self, connection: "_Connection") -> None:
        """Request the executions of the past: after each subscription, and again from time to time."""
        await connection.is_subscribed.wait()
        _log.info("%s: connected", self._name)
        while True:
            began_ms = _now_ms()
            if await self._request_missed(began_ms):
                self._since_ms = began_ms - OVERLAP_MS
            await asyncio.sleep(self.history_s)

    async def _request_missed(self, until_ms: int) -> bool:
        """Whether the venue has answered every request; one that it refuses (a wrong symbol) costs the others nothing."""
        history, has_all = self.session.missed(self._since_ms, until_ms, list(self._symbols)), True
        with suppress(StopIteration):
            question = next(history)
            while True:
                try:
                    url, content = await self._response(question)
                    self._take(content, url)
                except _Refused as refused:
                    words = self.keys.hide(str(refused))
                    _log.error("%s: executions that may have been missed cannot be requested: %s", self._name, words)
                    content, has_all = b"", False
                question = history.send(content)
        return has_all

    async def _response(self, question: Question) -> tuple[str, bytes]:
        """The response to an HTTP request, and its address.

        A failure is logged and the request repeated, later and later; a venue that says how long to wait (429, 418) is obeyed.
        Raises `_Refused`.
        """
        pause_s = self.pause_s
        while True:
            await self._pace.turn()
            signed = question(_now_ms())
            wait_s = pause_s * random.uniform(0.5, 1.5)
            try:
                response = await asyncio.to_thread(_send, signed, self._via)
            except requests.RequestException as error:
                reason = _shown(error)
                self._failures += 1
            else:
                refusal = self.session.refusal(response.content)
                if response.ok and refusal is None and _is_json(response.content):
                    return signed.url, response.content
                reason = f"HTTP {response.status_code}" + (f", {refusal.words}" if refusal else "")
                wait_s = max(wait_s, _wait_s(response, refusal, reason))
                if response.status_code in TOO_MANY:
                    self._pace.pause(wait_s)
            _log.warning("%s: no answer (%s); again in %.1f s", signed.url, self.keys.hide(reason), wait_s)
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _take(self, message: bytes, url: str) -> None:
        """Publish the records of a message, each once; what cannot be used becomes a dead letter."""
        received_us = time.time_ns() // 1000
        line = Line(self.session.venue, self.session.url, self.tally.lines + 1, received_us, message, "message", url=url)
        items: Iterable[Record | Rejected]
        try:
            items = self.session.parse(message, Received(received_us, None, None, url))
        except Rejected as rejected:
            items = [rejected]
        records = [item for item in items if isinstance(item, Record)]
        faults = [item for item in items if isinstance(item, Rejected)]
        for record in records:
            if self.session.needs_symbols and self._is_here(record):
                self._symbols[record.row["instrument"]] = None
            if self.published.add(record.table, record.row):
                self.sink.publish(record)
        letters = [dead_letter(line, rejected.fault, rejected.item) for rejected in faults]
        for letter in letters:
            self.sink.publish(letter)
        self.sink.ship()
        fault = faults[0].fault if faults and not records else None
        self.tally.add(Converted(line, records + letters, records[0].table if records else None, fault))

    def _is_here(self, record: Record) -> bool:
        return record.table == "execution_reports" and record.row["venue"] == self.session.market


class _Connection:
    """One open connection, and how far its login has come."""

    def __init__(self, session: PrivateSession, socket: ClientConnection) -> None:
        self._session = session
        self._socket = socket
        self._pace = Pace(session.limits.requests_per_s)
        self._is_admitted = False
        self._refreshes: asyncio.Queue[tuple[float, Request]] = asyncio.Queue()
        self.is_subscribed = asyncio.Event()

    async def begin(self, now_ms: int) -> None:
        """Log in."""
        login = self._session.login(now_ms)
        await self._send(login)
        if not login:
            await self._admitted()

    async def receive(self) -> bytes:
        """The next message.  Raises `_Lost` if none comes in time."""
        silence_s = self._session.silence_s if self.is_subscribed.is_set() else ANSWER_S
        try:
            async with asyncio.timeout(silence_s):
                return await self._socket.recv(decode=False)
        except TimeoutError:
            raise _Lost(f"silent for {silence_s:g} s") from None

    async def answer(self, message: bytes) -> None:
        """Send what follows from a message."""
        reply = self._session.reply(message)
        if reply is not None:
            await self._send([reply])
        refresh = self._session.refresh(message)
        if refresh is not None:
            self._refreshes.put_nowait(refresh)
        if not self._is_admitted and self._session.admitted(message):
            await self._admitted()
        elif self._session.subscribed(message):
            self.is_subscribed.set()

    async def _admitted(self) -> None:
        self._is_admitted = True
        await self._send(self._session.opening)
        requests = self._session.subscribe()
        await self._send(requests)
        if not requests:
            self.is_subscribed.set()

    async def ping(self) -> None:
        """Send the text that the venue expects."""
        while True:
            await asyncio.sleep(self._session.ping_s)
            if self._session.ping is not None:
                await self._socket.send(self._session.ping)

    async def refresh(self) -> None:
        """Extend the login before it expires."""
        while True:
            after_s, request = await self._refreshes.get()
            await asyncio.sleep(after_s)
            await self._send([request])

    async def _send(self, messages: Sequence[Request]) -> None:
        for message in messages:
            await self._pace.turn()
            await self._socket.send(orjson.dumps(message), text=True)


async def _first_end(tasks: "Sequence[asyncio.Task[object]]") -> None:
    """Wait until one of the tasks ends and cancel the others.  Raises what it raises."""
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # A reader knows best why a connection ends.
        for task in tasks:
            if task in ended:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ready(signed: Signed) -> Question:
    return lambda now_ms: signed


def _send(signed: Signed, via: str | None) -> requests.Response:
    url = f"{signed.url}?{signed.query}" if signed.query else signed.url
    proxies = {"http": via, "https": via} if via else None
    return requests.request(signed.method, url, headers=dict(signed.headers), timeout=ANSWER_S, proxies=proxies)


def _wait_s(response: requests.Response, refusal: Refusal | None, reason: str) -> float:
    """How long to wait before a request is repeated; 0 if the venue does not say.  Raises `_Refused` if that is in vain."""
    wait_s = None if refusal is None else refusal.wait_s
    if response.status_code in TOO_MANY:
        return retry_after_s(response.headers, wait_s or LONGEST_PAUSE_S)
    # A page of a proxy or firewall says nothing about the key.
    is_of_venue = response.status_code < 500 and (refusal is not None or response.status_code not in (200, 403))
    if wait_s is None and is_of_venue:
        raise _Refused(reason)
    return wait_s or 0.0


def _is_json(content: bytes) -> bool:
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return True


def _shown(error: Exception) -> str:
    """An error without the address, which may have a secret."""
    if isinstance(error, InvalidStatus):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, ConnectionClosed) or (isinstance(error, OSError) and not isinstance(error, requests.RequestException)):
        return str(error) or type(error).__name__
    return type(error).__name__


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

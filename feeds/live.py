"""Live websocket feeds: a venue's messages as they come, converted just as captured ones are.

A `Session` says what one venue wants to hear; `listen` is the one loop for all of them.  It reconnects by itself, says
so in the log, and subscribes again.  A break in one book's sequence asks for that one book again, never for the whole
connection.
"""

import asyncio
import logging
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from feeds import Record
from feeds.binance import COINM, SPOT, USDM
from feeds.capture import Converted, Converter, Line, Tally
from feeds.publish import Sink

Request = Mapping[str, Any]  # to be sent as JSON

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a whole listing of instruments
# No venue here is silent for so long on a living connection: Deribit sends heartbeats, Binance trades.
_SILENCE_S = 60.0
_DERIBIT_CHANNELS_PER_REQUEST = 500
_HEARTBEAT_S = 30

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """What is said on every connection to one venue."""

    venue: str  # as in `feeds.capture.ADAPTERS`
    url: str
    requests: Sequence[Request] = ()  # sent at each connection
    reply: Callable[[bytes], Request | None] = lambda message: None  # what a message wants to hear back
    snapshot_urls: Mapping[str, str] = field(default_factory=dict)  # of each symbol's book, where the stream sends none
    resubscribe: Callable[[str], Sequence[Request]] = lambda symbol: ()  # asks for one book anew, where the stream does


def deribit(instruments: Sequence[str], *, interval: str = "100ms", url: str = "wss://www.deribit.com/ws/api/v2") -> Session:
    """Books, tickers and trades of `instruments`, their indices, and the listings that they stand in.

    `interval` is 100ms, agg2 or raw; the venue serves raw only to authenticated connections.
    """
    pairs = {tuple(name.partition("-")[0].split("_")) for name in instruments}
    indices = sorted(f"deribit_price_index.{'_'.join(pair if len(pair) > 1 else (*pair, 'usd')).lower()}" for pair in pairs)
    channels = [f"{kind}.{name}.{interval}" for kind in ("book", "ticker", "trades") for name in instruments] + indices
    size = _DERIBIT_CHANNELS_PER_REQUEST
    return Session(
        "deribit",
        url,
        requests=[
            _rpc("public/set_heartbeat", interval=_HEARTBEAT_S),
            *[_rpc("public/get_instruments", currency=currency) for currency in sorted({pair[-1] for pair in pairs})],
            *[_rpc("public/subscribe", channels=channels[i : i + size]) for i in range(0, len(channels), size)],
        ],
        reply=lambda message: _rpc("public/test") if b'"test_request"' in message else None,
        resubscribe=lambda symbol: [
            _rpc("public/unsubscribe", channels=[f"book.{symbol}.{interval}"]),
            _rpc("public/subscribe", channels=[f"book.{symbol}.{interval}"]),
        ],
    )


def binance(venue: str, symbols: Sequence[str], *, url: str | None = None, rest_url: str | None = None) -> Session:
    """Depth, best prices and trades of `symbols` on one of `binance_spot`, `binance_usdm`, `binance_coinm`.

    `url` is the base of the combined streams and `rest_url` that of the depth snapshots.  Raises `ValueError` for
    another venue.
    """
    if venue not in _BINANCE:
        raise ValueError(f"venue: expected one of {', '.join(_BINANCE)}, got {venue!r}")
    stream_base, rest_base, trades = _BINANCE[venue]
    streams = "/".join(f"{s.lower()}@{kind}" for s in symbols for kind in ("depth@100ms", "bookTicker", trades))
    return Session(
        "binance",
        f"{url or stream_base}/stream?streams={streams}",
        snapshot_urls={symbol: f"{rest_url or rest_base}/depth?symbol={symbol}&limit=1000" for symbol in symbols},
    )


_BINANCE = {
    SPOT: ("wss://stream.binance.com:9443", "https://api.binance.com/api/v3", "trade"),
    USDM: ("wss://fstream.binance.com", "https://fapi.binance.com/fapi/v1", "aggTrade"),
    COINM: ("wss://dstream.binance.com", "https://dapi.binance.com/dapi/v1", "aggTrade"),
}


async def listen(session: Session, *, pause_s: float = 1.0) -> AsyncIterator[Converted]:
    """What becomes of each message, without end, over as many connections as it takes.

    `pause_s` is waited before a lost connection is opened again; refused ones wait longer and longer.  Raises what
    `websockets` holds to be final, such as an address that is none or a refusal by the venue.
    """
    converter, number = Converter(), 0
    opening = connect(session.url, max_size=_MAX_MESSAGE_BYTES, close_timeout=2)
    is_final = opening.process_exception

    def announced(error: Exception) -> Exception | None:
        _log.warning("%s: no connection: %s", session.url, error)
        return is_final(error)

    opening.process_exception = announced
    async for socket in opening:
        _log.info("%s: connected", session.url)
        connection = _Connection(session, socket)
        try:
            await connection.send(session.requests)
            async for received_us, message, symbol in connection.messages():
                number += 1
                line = Line(session.venue, session.url, number, received_us, message, "message", symbol=symbol)
                converted = converter.convert(line)
                await connection.mend(converted.records)
                yield converted
        except (ConnectionClosed, TimeoutError) as error:
            reason = f"silent for {_SILENCE_S:g} s" if isinstance(error, TimeoutError) else error
            _log.warning("%s: connection lost after message %d (%s); reconnecting", session.url, number, reason)
        finally:
            await connection.close()
        await asyncio.sleep(pause_s)


async def run(session: Session, sink: Sink, stop: asyncio.Event, *, pause_s: float = 1.0) -> Tally:
    """Publish what a venue sends until `stop` is set; returns what came.  Raises as `listen` and as the sink."""
    tally = Tally()

    async def publish() -> None:
        async with aclosing(listen(session, pause_s=pause_s)) as stream:  # type: ignore[type-var]
            async for converted in stream:
                for record in converted.records:
                    sink.publish(record)
                tally.add(converted)

    publishing, stopping = asyncio.create_task(publish()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({publishing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if publishing.done():
            publishing.result()
    finally:
        publishing.cancel()
        stopping.cancel()
        await asyncio.gather(publishing, stopping, return_exceptions=True)
    return tally


class _Connection:
    """One connection of a session, from its opening to its loss."""

    def __init__(self, session: Session, socket: ClientConnection) -> None:
        self._session = session
        self._socket = socket
        self._sequences: dict[str, int] = {}  # of each book, after its last row
        self._fetches: set[asyncio.Task[None]] = set()
        self._fetched: list[tuple[int, bytes, str | None]] = []

    async def send(self, requests: Iterable[Request]) -> None:
        for request in requests:
            await self._socket.send(orjson.dumps(request), text=True)

    async def messages(self) -> AsyncIterator[tuple[int, bytes, str | None]]:
        """Each message with its time of receipt (microseconds) and, if it was asked for by symbol, that symbol."""
        is_first = True
        while True:
            async with asyncio.timeout(_SILENCE_S):
                message = await self._socket.recv(decode=False)
            yield time.time_ns() // 1000, message, None
            reply = self._session.reply(message)
            if reply is not None:
                await self.send([reply])
            if is_first:
                # Not sooner: a snapshot joins the stream only if the stream was on when it was taken.
                is_first = False
                for symbol in self._session.snapshot_urls:
                    self._fetch(symbol)
            while self._fetched:
                yield self._fetched.pop(0)

    async def mend(self, records: Iterable[Record]) -> None:
        """Ask anew for each book whose sequence these records break."""
        for record in records:
            if record.table != "order_books":
                continue
            row = record.row
            symbol, previous = row["instrument"], row["prev_sequence"]
            known = self._sequences.get(symbol)
            if row["kind"] == "snapshot" and symbol in self._session.snapshot_urls:
                continue  # taken beside the stream, it does not move the stream's sequence
            self._sequences[symbol] = row["sequence"]
            if row["kind"] == "change" and known is not None and previous != known:
                _log.warning("%s: %s follows %s, not %d; asking for the book", self._session.url, symbol, previous, known)
                await self.send(self._session.resubscribe(symbol))
                if symbol in self._session.snapshot_urls:
                    self._fetch(symbol)

    async def close(self) -> None:
        for fetch in self._fetches:
            fetch.cancel()
        await self._socket.close()

    def _fetch(self, symbol: str) -> None:
        fetch = asyncio.create_task(self._snapshot(symbol))
        self._fetches.add(fetch)
        fetch.add_done_callback(self._fetches.discard)

    async def _snapshot(self, symbol: str) -> None:
        url, pause_s = self._session.snapshot_urls[symbol], 1.0
        while True:
            try:
                message = await asyncio.to_thread(_get, url)
            except OSError as error:
                _log.warning("%s: no snapshot (%s); again in %g s", url, error, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 60.0)
            else:
                self._fetched.append((time.time_ns() // 1000, message, symbol))
                return


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        return bytes(response.read())


def _rpc(method: str, **params: Any) -> Request:
    return {"jsonrpc": "2.0", "id": method, "method": method, "params": params}

"""Live websocket feeds: a venue's messages as they come, converted just as captured ones are.

A `Session` says what one venue wants to hear; `listen` is the one loop for all of them.  It reconnects by itself, says
so in the log, and subscribes again.  A break in one book's sequence asks for that one book again, never for the whole
connection; and so does a request from outside, such as the books job writes (`feeds.resync`).
"""

import asyncio
import logging
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from feeds import Record
from feeds.binance import COINM, OPTIONS, SPOT, USDM
from feeds.capture import Converted, Converter, Line, Tally
from feeds.publish import Sink
from feeds.resync import Resync

Request = Mapping[str, Any]  # to be sent as JSON

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a whole listing of instruments
# No venue here is silent for so long on a living connection: Deribit sends heartbeats, Binance trades, the others pongs.
_SILENCE_S = 60.0
_DERIBIT_CHANNELS_PER_REQUEST = 500
_HEARTBEAT_S = 30
_CHANNELS_PER_REQUEST = 100  # of OKX and Bitget, which take some kilobytes at once
_BEHIND_S = 5.0
_ASK_AGAIN_S = 5.0  # what a venue is given to send a book before it is asked for the same one again

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """What is said on every connection to one venue."""

    venue: str  # as in `feeds.venues.VENUES`
    url: str
    books: Sequence[tuple[str, str]] = ()  # venue and instrument of each, as in the rows
    requests: Sequence[Request] = ()  # sent at each connection
    reply: Callable[[bytes], Request | None] = lambda message: None  # what a message wants to hear back
    snapshot_urls: Mapping[str, str] = field(default_factory=dict)  # of each symbol's book, where the stream sends none
    resubscribe: Callable[[str], Sequence[Request]] = lambda symbol: ()  # asks for one book anew, where the stream does
    ping: str | None = None  # a text that the venue wants to hear every `ping_s`, or it hangs up
    ping_s: float = 20.0


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
        books=[("deribit", name) for name in instruments],
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
    """Depth, best prices and trades of `symbols` on one of `binance_spot`, `binance_usdm`, `binance_coinm`, `binance_options`.

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
        books=[(venue, symbol) for symbol in symbols],
        snapshot_urls={symbol: f"{rest_url or rest_base}/depth?symbol={symbol}&limit=1000" for symbol in symbols},
    )


_BINANCE = {
    SPOT: ("wss://stream.binance.com:9443", "https://api.binance.com/api/v3", "trade"),
    USDM: ("wss://fstream.binance.com", "https://fapi.binance.com/fapi/v1", "aggTrade"),
    COINM: ("wss://dstream.binance.com", "https://dapi.binance.com/dapi/v1", "aggTrade"),
    OPTIONS: ("wss://fstream.binance.com/public", "https://eapi.binance.com/eapi/v1", "optionTrade"),
}


def okx(
    symbols: Sequence[str], *, url: str = "wss://ws.okx.com:8443/ws/v5/public", rest_url: str = "https://www.okx.com/api/v5"
) -> Session:
    """Books, tickers and trades of `symbols`, their marks, indices and listings, and the vols of their options.

    Whole books come from `rest_url`: the stream is to send none at its start any more.
    """
    parts = {symbol: symbol.split("-") for symbol in symbols}
    pairs = sorted({"-".join(names[:2]) for names in parts.values()})
    families = sorted({"-".join(names[:2]) for names in parts.values() if len(names) == 5})
    kinds = sorted({_okx_kind(names) for names in parts.values()})
    channels = [{"channel": kind, "instId": symbol} for kind in ("books", "tickers", "trades") for symbol in symbols]
    channels += [{"channel": "mark-price", "instId": symbol} for symbol in symbols if len(parts[symbol]) > 2]
    channels += [{"channel": "index-tickers", "instId": pair} for pair in pairs if pair.endswith(("-USD", "-USDT", "-USDC"))]
    channels += [{"channel": "opt-summary", "instFamily": family} for family in families]
    channels += [{"channel": "instruments", "instType": kind} for kind in kinds]
    return Session(
        "okx",
        url,
        books=[("okx", symbol) for symbol in symbols],
        requests=_subscriptions(channels),
        snapshot_urls={symbol: f"{rest_url}/market/books?instId={symbol}&sz=400" for symbol in symbols},
        ping="ping",
    )


def _okx_kind(names: Sequence[str]) -> str:
    return {2: "SPOT", 5: "OPTION"}.get(len(names), "SWAP" if names[-1] == "SWAP" else "FUTURES")


def bitget(venue: str, symbols: Sequence[str], *, url: str = "wss://ws.bitget.com/v2/ws/public") -> Session:
    """Books, tickers and trades of `symbols` on one of `bitget_spot` and `bitget_usdt_`, `bitget_usdc_`, `bitget_coin_futures`.

    Raises `ValueError` for another venue.
    """
    if venue not in _BITGET:
        raise ValueError(f"venue: expected one of {', '.join(_BITGET)}, got {venue!r}")

    def channel(name: str, symbol: str) -> Request:
        return {"instType": _BITGET[venue], "channel": name, "instId": symbol}

    return Session(
        "bitget",
        url,
        books=[(venue, symbol) for symbol in symbols],
        requests=_subscriptions([channel(name, symbol) for name in ("books", "ticker", "trade") for symbol in symbols]),
        resubscribe=lambda symbol: [
            {"op": "unsubscribe", "args": [channel("books", symbol)]},
            {"op": "subscribe", "args": [channel("books", symbol)]},
        ],
        ping="ping",
    )


_BITGET = {
    "bitget_spot": "SPOT",
    "bitget_usdt_futures": "USDT-FUTURES",
    "bitget_usdc_futures": "USDC-FUTURES",
    "bitget_coin_futures": "COIN-FUTURES",
}


def _subscriptions(channels: Sequence[Request]) -> list[Request]:
    size = _CHANNELS_PER_REQUEST
    return [{"op": "subscribe", "args": channels[i : i + size]} for i in range(0, len(channels), size)]


async def listen(
    session: Session,
    *,
    resyncs: asyncio.Queue[Resync] | None = None,
    pause_s: float = 1.0,
    ask_again_s: float = _ASK_AGAIN_S,
) -> AsyncIterator[Converted]:
    """What becomes of each message, without end, over as many connections as it takes.

    Of `resyncs` those for this session's books are answered: the venue is asked for that one book anew, and not again within
    `ask_again_s`.  `pause_s` is waited before a lost connection is opened again; refused ones wait longer and longer.
    Raises what `websockets` holds to be final, such as an address that is none or a refusal by the venue.
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
        connection = _Connection(session, socket, resyncs, ask_again_s)
        try:
            await connection.send(session.requests)
            async for received_us, message, symbol in connection.messages():
                number += 1
                url = session.url if symbol is None else session.snapshot_urls[symbol]
                line = Line(session.venue, session.url, number, received_us, message, "message", symbol=symbol, url=url)
                converted = converter.convert(line)
                connection.mend(converted.records)
                yield converted
        except (ConnectionClosed, TimeoutError) as error:
            reason = f"silent for {_SILENCE_S:g} s" if isinstance(error, TimeoutError) else error
            _log.warning("%s: connection lost after message %d (%s); reconnecting", session.url, number, reason)
        finally:
            await connection.close()
        await asyncio.sleep(pause_s)


async def run(
    session: Session,
    sink: Sink,
    stop: asyncio.Event,
    *,
    resyncs: asyncio.Queue[Resync] | None = None,
    pause_s: float = 1.0,
    ask_again_s: float = _ASK_AGAIN_S,
) -> Tally:
    """Publish what a venue sends until `stop` is set, as `listen`; returns what came.  Raises as `listen` and as the sink."""
    tally = Tally()
    has_news = asyncio.Event()

    async def publish() -> None:
        async with aclosing(listen(session, resyncs=resyncs, pause_s=pause_s, ask_again_s=ask_again_s)) as stream:  # type: ignore[type-var]
            async for converted in stream:
                for record in converted.records:
                    sink.publish(record)
                tally.add(converted)
                has_news.set()

    async def ship() -> None:
        # Has its turn when all messages that are there have been published.
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


async def keep_time(tell_time: Callable[[int], None], *, behind_s: float = _BEHIND_S, every_s: float = 1.0) -> None:
    """Go on telling the time where no venue does, without end: `behind_s` behind the clock on the wall.

    Else a venue that goes quiet would stop the clock by which that is noticed.  So a venue's clock may be `behind_s` behind
    ours, and what it sends after a silence is not late.
    """
    while True:
        await asyncio.sleep(every_s)
        tell_time(time.time_ns() // 1_000_000 - int(behind_s * 1000))


class _Connection:
    """One connection of a session, from its opening to its loss."""

    def __init__(
        self, session: Session, socket: ClientConnection, resyncs: asyncio.Queue[Resync] | None, ask_again_s: float
    ) -> None:
        self._session = session
        self._socket = socket
        self._books = set(session.books)
        self._ask_again_s = ask_again_s
        self._sequences: dict[str, int] = {}  # of each book, after its last row
        self._snapshots_ms: dict[str, int] = {}  # exchange time of each book's last snapshot
        # Each book still to be asked for: what it must not be older than, and why.
        self._wanted: dict[str, tuple[int, str]] = {}
        self._asking: set[str] = set()  # books that were asked for lately
        self._fetched: list[tuple[int, bytes, str | None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        if session.ping is not None:
            self._start(self._ping(session.ping))
        if resyncs is not None:
            while not resyncs.empty():  # each book begins anew with the connection
                resyncs.get_nowait()
            self._start(self._answer(resyncs))

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

    def mend(self, records: Iterable[Record]) -> None:
        """Ask anew for each book whose sequence these records break."""
        for record in records:
            row = record.row
            if record.table != "order_books" or row["depth"] is not None:
                continue  # the top of a book is none that changes build on
            symbol, previous = row["instrument"], row["prev_sequence"]
            known = self._sequences.get(symbol)
            if row["kind"] == "snapshot":
                self._snapshots_ms[symbol] = record.event_ms
                if symbol in self._wanted and self._wanted[symbol][0] < record.event_ms:
                    del self._wanted[symbol]  # it is here
                if symbol in self._session.snapshot_urls:
                    continue  # taken beside the stream, it does not move the stream's sequence
            self._sequences[symbol] = row["sequence"]
            # Where the venue does not number its updates, none can be seen to be missing.
            if row["kind"] == "change" and None not in (known, previous) and previous != known:
                self.want(symbol, record.event_ms, f"{previous} follows {known}")

    def want(self, symbol: str, since_ms: int, reason: str) -> None:
        """Ask for one book anew, unless a snapshot after `since_ms` is here already: now, or once the last asking is
        `ask_again_s` ago and no such snapshot has come of it."""
        if since_ms < self._snapshots_ms.get(symbol, since_ms):
            return
        self._wanted[symbol] = since_ms, reason
        if symbol not in self._asking:
            self._asking.add(symbol)
            self._start(self._ask(symbol))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._socket.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, resyncs: asyncio.Queue[Resync]) -> None:
        while True:
            resync = await resyncs.get()
            if (resync.venue, resync.instrument) in self._books:
                self.want(resync.instrument, resync.event_ms, f"requested: {resync.reason}")

    async def _ask(self, symbol: str) -> None:
        with suppress(ConnectionClosed):  # which the reader finds too
            while symbol in self._wanted:
                _, reason = self._wanted.pop(symbol)
                _log.warning("%s: %s: %s; asking for the book", self._session.url, symbol, reason)
                await self.send(self._session.resubscribe(symbol))
                if symbol in self._session.snapshot_urls:
                    self._fetch(symbol)
                await asyncio.sleep(self._ask_again_s)
        self._asking.discard(symbol)

    async def _ping(self, text: str) -> None:
        with suppress(ConnectionClosed):  # which the reader finds too
            while True:
                await asyncio.sleep(self._session.ping_s)
                await self._socket.send(text)

    def _fetch(self, symbol: str) -> None:
        self._start(self._snapshot(symbol))

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

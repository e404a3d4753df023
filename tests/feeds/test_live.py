"""Live feeds, against a venue on this machine that plays captured or hand-written messages."""

import asyncio
import http.server
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from feeds import Record, binance, bitget, deribit, live, okx
from feeds.binance import OPTIONS, SPOT, USDM
from feeds.capture import Tally, read
from feeds.live import Asker, Pace, Symbols, keep_time, listen, run
from feeds.resync import Resync
from feeds.session import Ask, Limits, Request, Session
from feeds.venues import VENUES

NAMES = ["BTC-24SEP21-8000-P", "ETH_USDC-PERPETUAL"]


class Collected:
    """A sink that stops the feed once `enough` says so."""

    def __init__(self, enough: Callable[[list[Record]], bool]) -> None:
        self.records: list[Record] = []
        self.shipped = 0
        self.stop = asyncio.Event()
        self._enough = enough

    def publish(self, record: Record) -> None:
        self.records.append(record)
        if self._enough(self.records):
            self.stop.set()

    def ship(self) -> None:
        self.shipped = len(self.records)


@asynccontextmanager
async def venue(talk: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(talk, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def collect(session: Session, names: list[str], sink: Collected, **options: Any) -> Tally:
    async with asyncio.timeout(10):
        quick = replace(session, limits=Limits(requests_per_s=1000, asks_per_s=1000))
        return await run(quick, Symbols(names), sink, sink.stop, pause_s=0.01, **options)


async def requests(socket: ServerConnection, number: int) -> list[dict[str, Any]]:
    return [orjson.loads(await socket.recv()) for _ in range(number)]


def test_a_session_asks_for_every_channel_of_every_instrument() -> None:
    session = deribit.session("deribit")
    assert [request["method"] for request in session.opening] == ["public/set_heartbeat"]
    (sent,) = session.subscribe(NAMES)
    assert sent["method"] == "public/subscribe"
    channels = sent["params"]["channels"]
    assert {f"{kind}.{name}.100ms" for kind in ("book", "ticker", "trades") for name in NAMES} < set(channels)
    assert {"deribit_price_index.btc_usd", "deribit_price_index.eth_usdc"} < set(channels)


STREAMED = [market for venue in VENUES.values() for market in venue.MARKETS if venue.session(market).poll is None]


@pytest.mark.parametrize("market", STREAMED)
def test_what_is_asked_for_can_be_taken_back_and_a_book_be_had_anew(market: str) -> None:
    (adapter,) = [venue for venue in VENUES.values() if market in venue.MARKETS]
    session = adapter.session(market)
    assert session.market == market
    assert VENUES[session.venue] is adapter
    assert session.listings
    assert session.subscribe(["BTC-USDT"])
    assert session.unsubscribe(["BTC-USDT"])
    assert bool(session.resubscribe("BTC-USDT")) != (session.snapshot("BTC-USDT") is not None)
    assert session.refusal(b"{}") is None
    with pytest.raises(KeyError):
        adapter.session("none")


def captured_messages(log: Path) -> list[bytes]:
    """The messages of a capture, as if they came now."""
    lines = [line for line in read("deribit", log) if line.kind == "message"]
    age_ms = time.time_ns() // 1_000_000 - lines[0].received_us // 1000
    return [
        re.sub(rb'"timestamp":(\d+)', lambda found: b'"timestamp":%d' % (int(found[1]) + age_ms), line.message)
        for line in lines
    ]


def test_a_dropped_connection_is_resumed_and_nothing_is_lost(deribit_log: Path, caplog: pytest.LogCaptureFixture) -> None:
    messages = captured_messages(deribit_log)
    half = len(messages) // 2
    halves = [messages[:half], messages[half:]]
    heard: list[list[dict[str, Any]]] = []

    async def talk(socket: ServerConnection) -> None:
        part = len(heard)
        heard.append(await requests(socket, 2))
        for message in halves[part]:
            await socket.send(message, text=True)
        await socket.send('{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}')
        heard[part] += await requests(socket, 1)
        if part == 0:
            socket.transport.abort()
        else:
            await socket.wait_closed()

    async def scenario() -> tuple[list[Record], Tally]:
        async with venue(talk) as url:
            sink = Collected(lambda records: sum(record.table != "instruments" for record in records) == len(captured))
            tally = await collect(deribit.session("deribit", url=url), NAMES, sink)
            return sink.records, tally

    captured = [orjson.loads(message)["params"]["data"] for message in messages if b'"subscription"' in message]
    with caplog.at_level(logging.WARNING):
        records, tally = asyncio.run(scenario())
    assert [request["method"] for request in heard[0]] == ["public/set_heartbeat", "public/subscribe", "public/test"]
    assert heard[1][:2] == heard[0][:2]
    assert [
        (record.row["instrument"], record.event_ms, record.row.get("sequence"))
        for record in records
        if record.table != "instruments"
    ] == [(data["instrument_name"], data["timestamp"], data.get("change_id")) for data in captured]
    assert sum(tally.messages.values()) == len(captured)
    assert tally.rejected == 0
    assert "connection lost" in caplog.text


def book(**fields: Any) -> bytes:
    """A Deribit change of one book, now."""
    data = {
        "type": "change",
        "timestamp": time.time_ns() // 1_000_000,
        "instrument_name": "BTC-PERPETUAL",
        "bids": [["new", 1.0, 1.0]],
        "asks": [],
        **fields,
    }
    params = {"channel": "book.BTC-PERPETUAL.100ms", "data": data}
    return orjson.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params})


def test_a_gap_asks_for_the_one_book_that_broke_on_the_same_connection() -> None:
    asked: list[dict[str, Any]] = []

    async def talk(socket: ServerConnection) -> None:
        await requests(socket, 2)
        await socket.send(book(type="snapshot", change_id=1))
        await socket.send(book(change_id=2, prev_change_id=1))
        await socket.send(book(change_id=4, prev_change_id=3))
        asked.extend(await requests(socket, 2))
        await socket.send(book(type="snapshot", change_id=5))
        await socket.send(book(change_id=6, prev_change_id=5))
        await socket.wait_closed()

    async def scenario() -> list[Record]:
        async with venue(talk) as url:
            sink = Collected(lambda records: records[-1].row.get("sequence") == 6)
            await collect(deribit.session("deribit", url=url), ["BTC-PERPETUAL"], sink)
            return sink.records

    records = asyncio.run(scenario())
    assert [(request["method"], request["params"]["channels"]) for request in asked] == [
        ("public/unsubscribe", ["book.BTC-PERPETUAL.100ms"]),
        ("public/subscribe", ["book.BTC-PERPETUAL.100ms"]),
    ]
    assert [record.row["sequence"] for record in records if record.table == "order_books"] == [1, 2, 4, 5, 6]


@contextmanager
def rest(body: bytes) -> Iterator[tuple[str, list[str]]]:
    """A REST endpoint that gives one answer, and the paths it was asked for; the first request fails."""
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) == 1:
                self.send_error(503)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def depth(sequence: int, previous: int) -> bytes:
    """A USD-M depth update, now."""
    return orjson.dumps(
        {
            "e": "depthUpdate",
            "E": time.time_ns() // 1_000_000,
            "s": "BTCUSDT",
            "U": sequence,
            "u": sequence,
            "pu": previous,
            "b": [["1", "1"]],
            "a": [],
        }
    )


@pytest.mark.parametrize("ahead_ms", [0, 30_000])
def test_a_binance_book_gets_its_snapshot_once_the_stream_is_on_and_again_after_a_gap(ahead_ms: int) -> None:
    """So it does where the venue's clock was ahead at the snapshot."""
    now_ms = time.time_ns() // 1_000_000 + ahead_ms
    snapshot = orjson.dumps({"lastUpdateId": 5, "E": now_ms, "T": now_ms, "bids": [["1", "1"]], "asks": []})
    paths: list[Any] = []

    async def talk(socket: ServerConnection) -> None:
        assert socket.request is not None
        paths.extend([socket.request.path, *await requests(socket, 2)])
        sequence = 10
        while True:
            await socket.send(depth(sequence, sequence - (2 if sequence == 150 else 1)))
            sequence += 1
            await asyncio.sleep(0.01)

    async def scenario(rest_url: str) -> list[Record]:
        async with venue(talk) as url:
            sink = Collected(lambda records: sum(record.row.get("kind") == "snapshot" for record in records) == 2)
            await collect(binance.session(USDM, url=url, rest_url=rest_url), ["BTCUSDT"], sink)
            return sink.records

    with rest(snapshot) as (rest_url, asked):
        records = asyncio.run(scenario(rest_url))
    streams = [f"btcusdt@{kind}" for kind in ("depth@100ms", "bookTicker", "aggTrade", "markPrice@1s")]
    status = {"method": "SUBSCRIBE", "params": ["!contractInfo"], "id": 0}
    assert paths == ["/stream", status, {"method": "SUBSCRIBE", "params": streams, "id": 1}]
    assert asked == ["/depth?symbol=BTCUSDT&limit=1000"] * 3
    kinds = [record.row["kind"] for record in records if record.table == "order_books"]
    assert kinds[0] == "change"
    snapshots = [record.row for record in records if record.row.get("kind") == "snapshot"]
    assert [(row["instrument"], row["sequence"]) for row in snapshots] == [("BTCUSDT", 5)] * 2


def test_the_book_of_a_symbol_that_leaves_is_not_asked_for_any_more() -> None:
    """A venue that has no book of a contract that has expired refuses it each time."""

    class Refused(Asker):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            self.asked: set[str] = set()
            self.given_up: set[str] = set()

        async def answer(self, ask: Ask) -> bytes:
            self.asked.add(ask.url)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up.add(ask.url)
                raise
            raise AssertionError

    async def talk(socket: ServerConnection) -> None:
        sequence = 10
        while True:
            await socket.send(depth(sequence, sequence - 1))
            sequence += 1
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        async with venue(talk) as url:
            session = replace(binance.session(USDM, url=url, rest_url="http://here"), limits=Limits(requests_per_s=1000))
            symbols, asker = Symbols(["BTCUSDT", "ETHUSDT"]), Refused(session)
            async for _ in listen(session, symbols, asker=asker):
                if len(asker.asked) == 2:
                    symbols.set(["ETHUSDT"])
                if asker.given_up:
                    break
            assert asker.given_up == {"http://here/depth?symbol=BTCUSDT&limit=1000"}

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_request_asks_for_its_one_book_once_and_every_other_goes_on(deribit_log: Path) -> None:
    messages = captured_messages(deribit_log)
    captured = [orjson.loads(message)["params"]["data"] for message in messages if b'"subscription"' in message]
    names = sorted({data["instrument_name"] for data in captured})
    session = deribit.session("deribit")
    now_ms = time.time_ns() // 1_000_000
    wanted, other = (Resync("deribit", name, now_ms, "gap") for name in names[:2])
    heard: list[str] = []
    connections = 0

    def asks(resync: Resync) -> list[str]:
        return [f"public/{verb} ['book.{resync.instrument}.100ms']" for verb in ("unsubscribe", "subscribe")]

    async def scenario() -> list[Record]:
        resyncs: asyncio.Queue[Resync] = asyncio.Queue()

        def request(*several: Resync) -> None:
            for resync in several:
                resyncs.put_nowait(resync)

        def enough(records: list[Record]) -> bool:
            if records[-1].row.get("sequence") == 1:  # the snapshot has come, so the next is answered already
                request(wanted, other)
            elif sum(record.table != "instruments" for record in records) == len(captured):
                request(wanted._replace(venue="okx"), wanted._replace(instrument="BTC-1JAN99"), wanted)
            return False

        async def talk(socket: ServerConnection) -> None:
            nonlocal connections
            connections += 1
            await requests(socket, 1 + len(session.subscribe(names)))
            for message in messages:
                await socket.send(message, text=True)
            while len(heard) < 6:
                (said,) = await requests(socket, 1)
                heard.append(f"{said['method']} {said['params']['channels']}")
                if heard == asks(wanted):
                    request(wanted, wanted, wanted)
                    await socket.send(book(type="snapshot", change_id=1, instrument_name=names[0], timestamp=now_ms + 1))
                elif heard == [*asks(wanted), *asks(other)]:
                    request(other, other)
            sink.stop.set()
            await socket.wait_closed()

        async with venue(talk) as url:
            sink = Collected(enough)
            await collect(replace(session, url=url), names, sink, resyncs=resyncs, ask_again_s=0.1)
            return sink.records

    records = asyncio.run(scenario())
    # The other is asked for again 0.1 s after the first time; whatever else was to be asked for again would be, by then.
    assert heard == [*asks(wanted), *asks(other), *asks(other)]
    assert connections == 1
    assert [(record.row["instrument"], record.row.get("sequence")) for record in records if record.table != "instruments"] == [
        *[(data["instrument_name"], data.get("change_id")) for data in captured],
        (names[0], 1),
    ]


def test_a_request_for_a_binance_book_is_one_more_snapshot_of_it_alone() -> None:
    now_ms = time.time_ns() // 1_000_000
    snapshot = orjson.dumps({"lastUpdateId": 5, "E": now_ms, "T": now_ms, "bids": [["1", "1"]], "asks": []})
    connections = 0

    async def talk(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        sequence = 10
        while True:
            await socket.send(depth(sequence, sequence - 1))
            sequence += 1
            await asyncio.sleep(0.01)

    async def scenario(rest_url: str) -> None:
        resyncs: asyncio.Queue[Resync] = asyncio.Queue()

        def enough(records: list[Record]) -> bool:
            snapshots: int = sum(record.row.get("kind") == "snapshot" for record in records)
            if snapshots == 2 and resyncs.empty():  # both books began: what is requested now is something else
                for _ in range(3):
                    resyncs.put_nowait(Resync(USDM, "ETHUSDT", now_ms + 1, "crossed"))
            return bool(snapshots == 3)

        async with venue(talk) as url:
            session = binance.session(USDM, url=url, rest_url=rest_url)
            await collect(session, ["BTCUSDT", "ETHUSDT"], Collected(enough), resyncs=resyncs)

    with rest(snapshot) as (rest_url, asked):
        asyncio.run(scenario(rest_url))
    # The first request of all fails, and is made again.
    paths = [f"/depth?symbol={symbol}&limit=1000" for symbol in ("BTCUSDT", "ETHUSDT")]
    assert sorted(asked) in (sorted([*paths, paths[1], paths[0]]), sorted([*paths, paths[1], paths[1]]))
    assert asked[-1] == paths[1]
    assert connections == 1


def channels(requests: Sequence[Request]) -> set[tuple[str, ...]]:
    assert all(request["op"] == "subscribe" for request in requests)
    return {tuple(channel.values()) for request in requests for channel in request["args"]}


def test_an_okx_session_asks_for_every_channel_of_every_instrument() -> None:
    session = okx.session("okx", rest_url="http://rest")
    names = ["BTC-USDT", "ETH-BTC", "BTC-USD-SWAP", "BTC-USD-220527", "BTC-USD-220527-30000-C"]
    asked = channels(session.subscribe(names))
    assert {(kind, name) for kind in ("books", "tickers", "trades") for name in names} < asked
    assert asked > {
        *[("mark-price", name) for name in ("BTC-USD-SWAP", "BTC-USD-220527", "BTC-USD-220527-30000-C")],
        *[("index-tickers", pair) for pair in ("BTC-USD", "BTC-USDT")],
        ("funding-rate", "BTC-USD-SWAP"),
        ("opt-summary", "BTC-USD"),
        *[("instruments", kind) for kind in ("SPOT", "SWAP", "FUTURES", "OPTION")],
    }
    assert ("mark-price", "BTC-USDT") not in asked
    assert ("index-tickers", "ETH-BTC") not in asked
    assert session.snapshot("BTC-USDT") == Ask("http://rest/market/books?instId=BTC-USDT&sz=400")


def test_a_bitget_session_asks_for_every_channel_of_every_instrument_in_requests_of_bounded_size() -> None:
    sent = bitget.session("bitget_usdt_futures").subscribe([f"A{i}USDT" for i in range(70)])
    assert channels(sent) == {("USDT-FUTURES", kind, f"A{i}USDT") for kind in ("books", "ticker", "trade") for i in range(70)}
    assert max(len(orjson.dumps(request)) for request in sent) <= 4096


def bitget_book(action: str, **fields: Any) -> bytes:
    """A Bitget book of v2, now."""
    data = {"bids": [["1.0", "1"]], "asks": [], "ts": str(time.time_ns() // 1_000_000), **fields}
    arg = {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}
    return orjson.dumps({"action": action, "arg": arg, "data": [data]})


def test_a_venue_hears_its_ping_and_a_book_is_asked_for_again_only_where_its_numbers_break() -> None:
    heard: list[Any] = []

    async def talk(socket: ServerConnection) -> None:
        heard.append(orjson.loads(await socket.recv())["op"])
        heard.append(await socket.recv())
        await socket.send("pong")
        await socket.send(bitget_book("snapshot", seq=1))
        await socket.send(bitget_book("update", seq=2))
        await socket.send(bitget_book("update", seq=4, pseq=2))
        await socket.send(bitget_book("update", seq=8, pseq=6))
        while len(heard) < 4:
            if (text := await socket.recv()) != "ping":
                heard.append(orjson.loads(text))
        await socket.send(bitget_book("snapshot", seq=9))
        await socket.wait_closed()

    async def scenario() -> tuple[list[Record], Tally]:
        async with venue(talk) as url:
            sink = Collected(lambda records: records[-1].row.get("sequence") == 9)
            tally = await collect(replace(bitget.session("bitget_spot", url=url), ping_s=0.01), ["BTCUSDT"], sink)
            return sink.records, tally

    records, tally = asyncio.run(scenario())
    assert heard[:2] == ["subscribe", "ping"]
    arg = {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}
    assert heard[2:] == [{"op": "unsubscribe", "args": [arg]}, {"op": "subscribe", "args": [arg]}]
    assert [record.row["sequence"] for record in records if record.table == "order_books"] == [1, 2, 4, 8, 9]
    assert (tally.control, tally.rejected) == (1, 0)


def test_the_top_of_a_book_is_none_that_its_changes_build_on(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(bitget_book("snapshot", seq=1))
        await socket.send(bitget_book("snapshot", seq=3).replace(b'"books"', b'"books5"'))
        await socket.send(bitget_book("update", seq=4, pseq=1))
        await socket.send(bitget_book("update", seq=9, pseq=8))
        for _ in range(2):
            await socket.recv()
        await socket.send(bitget_book("snapshot", seq=10))
        await socket.wait_closed()

    async def scenario() -> list[Record]:
        async with venue(talk) as url:
            sink = Collected(lambda records: records[-1].row.get("sequence") == 10)
            await collect(bitget.session("bitget_spot", url=url), ["BTCUSDT"], sink)
            return sink.records

    with caplog.at_level(logging.WARNING):
        records = asyncio.run(scenario())
    depths = [record.row["depth"] for record in records if record.table == "order_books"]
    assert depths == [None, 5, None, None, None]
    assert [message for message in caplog.messages if " follows " in message] == [
        message for message in caplog.messages if "8 follows 4" in message
    ]
    assert "8 follows 4" in caplog.text


def test_a_spot_snapshot_is_of_the_book_that_was_asked_for() -> None:
    """It names neither its symbol nor its time, and its connection shows several symbols."""

    async def talk(socket: ServerConnection) -> None:
        for symbol in ("BTCUSDT", "ETHUSDT"):
            best_price = {"u": 4, "s": symbol, "b": "1", "B": "1", "a": "2", "A": "1"}
            await socket.send(orjson.dumps({"stream": f"{symbol.lower()}@bookTicker", "data": best_price}))
        while True:
            await socket.send(orjson.dumps({"result": None, "id": 1}))
            await asyncio.sleep(0.01)

    async def scenario(rest_url: str) -> list[Record]:
        async with venue(talk) as url:
            sink = Collected(lambda records: sum(record.table == "order_books" for record in records) == 2)
            await collect(binance.session(SPOT, url=url, rest_url=rest_url), ["BTCUSDT", "ETHUSDT"], sink)
            return sink.records

    with rest(orjson.dumps({"lastUpdateId": 5, "bids": [["1", "1"]], "asks": []})) as (rest_url, _):
        records = asyncio.run(scenario(rest_url))
    books = [record.row for record in records if record.table == "order_books"]
    assert sorted((row["venue"], row["instrument"], row["depth"]) for row in books) == [
        (SPOT, "BTCUSDT", None),
        (SPOT, "ETHUSDT", None),
    ]


def test_a_session_of_binance_options() -> None:
    session = binance.session(OPTIONS)
    assert session.url == "wss://fstream.binance.com/public/stream"
    streams = [f"btc-251226-90000-c@{kind}" for kind in ("depth@100ms", "bookTicker", "optionTrade")]
    assert session.subscribe(["BTC-251226-90000-C"]) == [{"method": "SUBSCRIBE", "params": streams, "id": 1}]
    assert session.snapshot("BTC-251226-90000-C") == Ask(
        "https://eapi.binance.com/eapi/v1/depth?symbol=BTC-251226-90000-C&limit=1000"
    )


def test_stop_ends_a_silent_connection_and_one_that_cannot_be_opened() -> None:
    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async def scenario() -> None:
        async with venue(silent) as url:
            for address in (url, "ws://127.0.0.1:1"):
                sink = Collected(lambda records: False)
                asyncio.get_running_loop().call_later(0.1, sink.stop.set)
                assert await collect(deribit.session("deribit", url=address), NAMES, sink) == Tally()

    asyncio.run(scenario())


def refusing(statuses: list[int], talk: Callable[[ServerConnection], Awaitable[None]]) -> Any:
    """A server that refuses connections with these statuses, one after the other; 0 lets one in, and so does the end."""
    left = list(statuses)

    def answer(socket: ServerConnection, request: Any) -> Response | None:
        status = left.pop(0) if left else 0
        headers = Headers({"Retry-After": "1", "Content-Length": "0"})
        return Response(status, "", headers, b"") if status else None

    return serve(talk, "127.0.0.1", 0, process_request=answer)


async def sends_a_book(socket: ServerConnection) -> None:
    await requests(socket, 2)
    await socket.send(book(type="snapshot", change_id=1))


@pytest.mark.parametrize("statuses", [[0, 403, 403], [0, 401], [0, 404], [429]])
def test_a_refused_connection_is_tried_again_once_one_was_open_or_the_venue_says_when(statuses: list[int]) -> None:
    async def scenario() -> None:
        async with refusing(statuses, sends_a_book) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            start_s = time.monotonic()
            sink = Collected(
                lambda records: len([one for one in records if one.table == "order_books"]) == statuses.count(0) + 1
            )
            await collect(deribit.session("deribit", url=url), NAMES, sink)
            assert time.monotonic() - start_s >= len([status for status in statuses if status])  # Retry-After: 1

    asyncio.run(scenario())


def test_a_connection_that_is_refused_from_the_first_is_an_end() -> None:
    async def scenario() -> None:
        async with refusing([403], sends_a_book) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await collect(deribit.session("deribit", url=url), NAMES, Collected(lambda records: False))

    with pytest.raises(InvalidStatus, match="HTTP 403"):
        asyncio.run(scenario())


def test_the_last_of_several_tries_is_an_end_and_each_waits_as_it_is_told() -> None:
    async def scenario() -> None:
        async with refusing([403, 403], sends_a_book) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await collect(deribit.session("deribit", url=url), NAMES, Collected(lambda records: False), tries=2)

    start_s = time.monotonic()
    with pytest.raises(InvalidStatus, match="HTTP 403"):
        asyncio.run(scenario())
    assert time.monotonic() - start_s >= 1.0  # Retry-After: 1


def test_a_connection_whose_pings_are_answered_late_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a burst an answer is behind thousands of messages: here it never comes."""
    monkeypatch.setattr(live, "connect", partial(connect, ping_interval=0.02, ping_timeout=0.05))
    connections = []

    async def talk(socket: ServerConnection) -> None:
        connections.append(socket)
        socket.transport.pause_reading()
        for number in range(1, 6):
            await asyncio.sleep(0.1)
            await socket.send(book(type="snapshot", change_id=number))
        socket.transport.resume_reading()

    async def scenario() -> None:
        async with venue(talk) as url:
            sink = Collected(lambda records: records[-1].row.get("sequence") == 5)
            await collect(deribit.session("deribit", url=url), NAMES, sink)

    asyncio.run(scenario())
    assert len(connections) == 1


def test_a_connection_that_says_nothing_for_long_is_opened_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "SILENCE_S", 0.2)

    async def talk(socket: ServerConnection) -> None:
        await socket.send(book(type="snapshot", change_id=1))
        await socket.wait_closed()

    async def scenario() -> None:
        async with venue(talk) as url:
            sink = Collected(lambda records: sum(record.table == "order_books" for record in records) == 2)
            await collect(deribit.session("deribit", url=url), NAMES, sink)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "connection lost after message 1 (silent for 0.2 s)" in caplog.text


def test_requests_that_wait_for_their_turn_wait_on_when_the_venue_says_so() -> None:
    async def scenario() -> list[float]:
        pace, start_s = Pace(50), time.monotonic()

        async def ask() -> float:
            await pace.turn()
            return time.monotonic() - start_s

        asking = [asyncio.create_task(ask()) for _ in range(5)]
        await asking[0]
        pace.pause(0.3)
        return sorted(await asyncio.gather(*asking))

    times_s = asyncio.run(scenario())
    assert times_s[1] >= 0.3
    assert times_s[-1] >= 0.3 + 3 / 50  # and then one after the other


def test_a_sink_that_fails_ends_the_feed_with_its_error() -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.send(book(type="snapshot", change_id=1))
        await socket.wait_closed()

    def full(records: list[Record]) -> bool:
        raise BufferError("full")

    async def scenario() -> None:
        async with venue(talk) as url:
            await collect(deribit.session("deribit", url=url), NAMES, Collected(full))

    with pytest.raises(BufferError, match="full"):
        asyncio.run(scenario())


class Told:
    """A publisher that notes what it is told."""

    every_ms = 5

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.told: list[tuple[int, int]] = []  # the time, and when that was
        self.turns: list[str] = []
        self.is_busy = False

    def tick(self) -> None:
        self.turns.append("tick")
        self.counts["trades"] += self.is_busy

    def tell_time(self, receiver_ms: int) -> None:
        self.turns.append("tell")
        self.told.append((receiver_ms, time.time_ns() // 1_000_000))


async def passed(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_the_time_is_told_behind_the_clock_where_no_venue_tells_it() -> None:
    async def scenario(publisher: Told) -> None:
        clock = asyncio.create_task(keep_time(publisher, behind_ms=70))
        await passed(lambda: len(publisher.told) == 3)
        clock.cancel()

    publisher = Told()
    asyncio.run(scenario(publisher))
    assert all(70 <= now_ms - told_ms < 1_000 for told_ms, now_ms in publisher.told)
    assert publisher.told == sorted(publisher.told)


def test_the_clock_says_nothing_while_rows_come_or_while_messages_may_wait() -> None:
    async def scenario(publisher: Told) -> None:
        publisher.is_busy = True
        clock = asyncio.create_task(keep_time(publisher, behind_ms=70))
        await passed(lambda: len(publisher.turns) > 40)
        assert not publisher.told
        publisher.is_busy = False
        await passed(lambda: bool(publisher.told))
        turns = len(publisher.turns)
        time.sleep(0.3)  # what holds up this loop holds up the reading of sockets
        await passed(lambda: len(publisher.turns) >= turns + 2)
        assert publisher.turns[turns : turns + 2] == ["tick", "tick"]
        clock.cancel()

    asyncio.run(scenario(Told()))

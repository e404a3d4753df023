"""A feed as a service, against a venue on this machine that lists and plays what each test says."""

import asyncio
import gzip
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from feeds import Record, bitget
from feeds.capture import convert, read
from feeds.live import Asker
from feeds.recording import Recording, RecordingError
from feeds.service import TRIES, Feed, FeedError, Once
from feeds.session import Limits, Session

SPOT = "bitget_spot"


class Collected:
    """A sink that keeps what it gets, and wakes whoever waits for a condition on it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.changed = asyncio.Event()

    def publish(self, record: Record) -> None:
        self.records.append(record)
        self.changed.set()

    def ship(self) -> None:
        pass

    async def until(self, condition: Callable[[list[Record]], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition(self.records):
                await self.changed.wait()
                self.changed.clear()

    def books(self) -> list[tuple[str, int]]:
        return [(record.row["instrument"], record.row["sequence"]) for record in self.records if record.table == "order_books"]


@contextmanager
def listing(answers: list[list[str]], statuses: list[int] | None = None) -> Iterator[tuple[str, list[float]]]:
    """Bitget's listing: one answer after the other, the last one again and again; `statuses` come before them."""
    asked_s: list[float] = []
    refused = list(statuses or [])

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_s.append(time.monotonic())
            if refused:
                self.send_response(refused.pop(0))
                self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            names = answers.pop(0) if len(answers) > 1 else answers[0]
            body = orjson.dumps({"code": "00000", "requestTime": time.time_ns() // 1_000_000, "data": [*map(terms, names)]})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked_s
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def terms(name: str) -> dict[str, str]:
    """A spot pair as Bitget lists it."""
    return {
        "symbol": name,
        "category": "SPOT",
        "baseCoin": name.removesuffix("USDT"),
        "quoteCoin": "USDT",
        "priceMultiplier": "0.01",
        "pricePrecision": "2",
        "status": "online",
    }


class Venue:
    """Books of Bitget: a snapshot for each that is subscribed to, then `play` of the test."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.heard: list[tuple[str, str]] = []  # op and symbol, of books
        self.changed = asyncio.Event()

    async def talk(self, socket: ServerConnection) -> None:
        self.connections.append(socket)
        async for text in socket:
            if text == "ping":
                continue
            request = orjson.loads(text)
            for arg in request["args"]:
                if arg["channel"] == "books":
                    self.heard.append((request["op"], arg["instId"]))
                    self.changed.set()
                    if request["op"] == "subscribe":
                        await socket.send(book(arg["instId"], "snapshot", seq=1))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.changed.wait()
                self.changed.clear()


def book(symbol: str, action: str, **fields: Any) -> bytes:
    data = {"bids": [["1.0", "1"]], "asks": [], "ts": str(time.time_ns() // 1_000_000), **fields}
    arg = {"instType": "SPOT", "channel": "books", "instId": symbol}
    return orjson.dumps({"action": action, "arg": arg, "data": [data]})


def fed(
    answers: list[list[str]],
    patterns: list[str],
    play: Callable[[Venue, Collected, Feed], Awaitable[None]],
    statuses: list[int] | None = None,
    **options: Any,
) -> tuple[Collected, Venue, list[float]]:
    """Serve a feed while the test plays."""
    limits = Limits(requests_per_s=1000, asks_per_s=1000, symbols_per_connection=2)

    async def scenario(rest_url: str) -> tuple[Collected, Venue]:
        venue, sink, stop = Venue(), Collected(), asyncio.Event()
        async with serve(venue.talk, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            session: Session = replace(bitget.session(SPOT, url=url, rest_url=rest_url), limits=limits)
            feed = Feed(session, patterns, sink, pause_s=0.01, **options)
            serving = asyncio.create_task(feed.serve(stop))
            playing = asyncio.ensure_future(play(venue, sink, feed))
            await asyncio.wait({serving, playing}, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            await asyncio.gather(serving, playing)
            assert not [task for task in asyncio.all_tasks() if "Feed" in repr(task)]
        return sink, venue

    with listing(answers, statuses) as (rest_url, asked_s):
        sink, venue = asyncio.run(scenario(rest_url))
    return sink, venue, asked_s


def names_of(records: list[Record], table: str) -> set[str]:
    return {record.row["instrument"] for record in records if record.table == table}


def test_patterns_choose_of_what_is_listed_and_connections_hold_as_many_as_the_venue_allows() -> None:
    async def play(venue: Venue, sink: Collected, feed: Feed) -> None:
        await sink.until(lambda records: len(names_of(records, "order_books")) == 3)
        assert [symbols.names for symbols in feed.connections] == [["BTCUSDT", "ETHUSDT"], ["ETHWUSDT"]]

    sink, venue, _ = fed([["BTCUSDT", "ETHUSDT", "ETHWUSDT", "XRPUSDT"]], ["eth*", "BTCUSDT"], play)
    assert names_of(sink.records, "instruments") == {"BTCUSDT", "ETHUSDT", "ETHWUSDT", "XRPUSDT"}
    assert names_of(sink.records, "order_books") == {"BTCUSDT", "ETHUSDT", "ETHWUSDT"}
    assert len(venue.connections) == 2


def test_what_is_listed_joins_and_what_leaves_is_taken_back_on_the_same_connection() -> None:
    async def play(venue: Venue, sink: Collected, feed: Feed) -> None:
        await venue.until(lambda: ("unsubscribe", "BTCUSDT") in venue.heard and ("subscribe", "SOLUSDT") in venue.heard)
        await sink.until(lambda records: "SOLUSDT" in names_of(records, "order_books"))

    _, venue, _ = fed([["BTCUSDT", "ETHUSDT"], ["ETHUSDT", "SOLUSDT"]], ["*"], play, listing_s=0.05)
    assert len(venue.connections) == 1
    assert venue.heard.count(("subscribe", "ETHUSDT")) == 1


def test_of_two_connections_each_row_is_published_once_and_one_that_dies_costs_nothing() -> None:
    async def play(venue: Venue, sink: Collected, feed: Feed) -> None:
        await venue.until(lambda: len(venue.heard) == 2)
        await sink.until(lambda _: bool(sink.books()))
        for sequence in range(2, 6):
            message = book("BTCUSDT", "update", seq=sequence, pseq=sequence - 1)
            for socket in list(venue.connections):
                await socket.send(message)
            if sequence == 3:
                venue.connections.pop(0).transport.abort()
        await sink.until(lambda _: ("BTCUSDT", 5) in sink.books())
        assert [counts.name for counts in feed.counts] == ["1a", "1b"]
        await venue.until(lambda: len(venue.heard) == 3)
        assert [sum(getattr(counts, name) for counts in feed.counts) for name in ("opened", "lost")] == [3, 1]
        assert feed.duplicates >= 1

    sink, _, _ = fed([["BTCUSDT"]], ["BTCUSDT"], play, is_redundant=True)
    changes = [sequence for _, sequence in sink.books() if sequence > 1]
    assert changes == [2, 3, 4, 5]


def test_a_connection_that_is_far_behind_the_other_one_is_opened_again_before_its_rows_are_forgotten() -> None:
    async def play(venue: Venue, sink: Collected, feed: Feed) -> None:
        feed._once = once
        await venue.until(lambda: len(venue.heard) == 2)
        first, second = venue.connections
        messages = [book("BTCUSDT", "update", seq=sequence, pseq=sequence - 1) for sequence in range(2, 42)]
        for message in messages:
            await first.send(message)
        await sink.until(lambda _: ("BTCUSDT", 41) in sink.books())
        await second.send(messages[-2])
        await second.send(messages[0])
        await venue.until(lambda: len(venue.heard) == 3)

    once = Once(remembered=60)
    sink, venue, _ = fed([["BTCUSDT"]], ["BTCUSDT"], play, is_redundant=True)
    assert len(venue.connections) == 3
    assert [sequence for _, sequence in sink.books() if sequence > 1] == list(range(2, 42))


def test_a_venue_that_says_when_to_come_again_is_not_asked_before() -> None:
    async def play(venue: Venue, sink: Collected, feed: Feed) -> None:
        await sink.until(lambda _: bool(sink.books()))
        assert (feed.asker.refused, feed.asker.pauses) == (1, 1)

    _, _, asked_s = fed([["BTCUSDT"]], ["*"], play, statuses=[429])
    assert asked_s[1] - asked_s[0] >= 1.0


def test_a_pattern_that_matches_nothing_is_one_clear_line_with_the_nearest() -> None:
    async def play(venue: Venue, sink: Collected, feed: Feed) -> None:
        await asyncio.Event().wait()

    with pytest.raises(FeedError, match="bitget_spot lists no BTCUSD among 2 contracts; the nearest are BTCUSDT"):
        asyncio.run(_nothing(["BTCUSDT", "ETHUSDT"], "BTCUSD"))


async def _nothing(names: list[str], pattern: str) -> None:
    with listing([names]) as (rest_url, _):
        await Feed(bitget.session(SPOT, rest_url=rest_url), [pattern], Collected()).serve(asyncio.Event())


def test_a_path_that_is_dead_is_left_for_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """A proxy is a server that is asked to CONNECT; nobody listens on the first one's port."""
    connected: list[str] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        connected.append(head.split()[1])
        host, _, port = head.split()[1].partition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)
            target.close()

        await asyncio.gather(carry(reader, back), carry(there, writer))

    async def scenario(rest_url: str) -> None:
        venue, sink, stop = Venue(), Collected(), asyncio.Event()
        async with serve(venue.talk, "127.0.0.1", 0) as server, await asyncio.start_server(proxy, "127.0.0.1", 0) as way:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            alive = f"http://127.0.0.1:{way.sockets[0].getsockname()[1]}"
            session = bitget.session(SPOT, url=url, rest_url=rest_url)
            feed = Feed(session, ["*"], sink, paths=["http://127.0.0.1:1", alive], pause_s=0.01)
            # Listings are asked for by the machine's own way here: what is tested is the connection.
            feed.asker = Asker(session)
            serving = asyncio.create_task(feed.serve(stop))
            await sink.until(lambda _: bool(sink.books()))
            stop.set()
            await serving
            assert connected == [url.removeprefix("ws://")]
            assert feed.path_changes == 1
            (counts,) = feed.counts
            assert (counts.refused, counts.opened) == (TRIES, 1)

    with listing([["BTCUSDT"]]) as (rest_url, _):
        asyncio.run(scenario(rest_url))
    assert "is dead" in caplog.text


def test_what_is_recorded_is_replayed_as_it_was_published(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "bitget.log", max_bytes=2_000)

    async def play(venue: Venue, sink: Collected, feed: Feed) -> None:
        await sink.until(lambda _: bool(sink.books()))
        for sequence in range(2, 40):
            await venue.connections[0].send(book("BTCUSDT", "update", seq=sequence, pseq=sequence - 1))
        await sink.until(lambda _: ("BTCUSDT", 39) in sink.books())

    sink, _, _ = fed([["BTCUSDT"]], ["*"], play, recording=recording)
    recording.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 1
    assert sum(len(gzip.decompress(path.read_bytes())) for path in files) == recording.kept_bytes
    replayed = [
        (record.row["instrument"], record.row["sequence"])
        for path in files
        for converted in convert(read("bitget", path))
        for record in converted.records
        if record.table == "order_books"
    ]
    assert replayed == sink.books()


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match=r"file/feed\.log\.\S+\.gz: "):
        Recording(tmp_path / "file" / "feed.log")


def test_a_full_disk_is_one_clear_line_at_a_message_and_at_the_end(tmp_path: Path) -> None:
    """A limit on the size of files is what fills here: the system refuses the write as on a full disk."""
    code = """
import resource, signal, sys
from pathlib import Path
from feeds.recording import Recording, RecordingError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
recording = Recording(Path(sys.argv[1]))
def keep():
    for number in range(100_000):
        recording.keep("wss://venue", number, b"%x" % number)
for attempt in (keep, recording.close):
    try:
        attempt()
    except RecordingError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "feed.log")], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert len(lines) == 2
    assert all("File too large; free some space, or record elsewhere" in line for line in lines)


def test_a_row_is_let_through_once_and_forgotten_after_so_many_others() -> None:
    once = Once(remembered=2)
    rows = [Record("trades", number, {"trade_id": str(number), "received_at": "now"}) for number in range(3)]
    assert [once.is_new(row) for row in rows] == [True, True, True]
    assert not once.is_new(rows[2]._replace(row={"trade_id": "2", "received_at": "later"}))
    assert once.is_new(rows[0])

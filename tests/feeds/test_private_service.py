"""The private feed as a service, against websocket and HTTP servers of the tests that play one account's day."""

import asyncio
import http.server
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from cli import feeding
from feeds import Received, Record, Rejected
from feeds.capture import Tally
from feeds.private import PrivateSession, binance, bybit, deribit, okx, signing
from feeds.private.keys import Keys, Secret
from feeds.private.resume import Resume, _values, resume, resumed
from feeds.private.service import OVERLAP_MS, PrivateFeed, Published
from feeds.publish import PublishError
from feeds.service import FeedError
from feeds.session import Limits
from schemas.rows import encoded, fault
from tests.feeds import private_messages as messages

KEY, SECRET, PASSPHRASE, LISTEN_KEY, TOKEN = "visible-key-id", "hidden-secret", "hidden-passphrase", "l1sten-key", "t0ken"
KEYS = Keys(Secret(KEY), Secret(SECRET), Secret(PASSPHRASE), "/etc/keys.json")
SECRETS = (KEY, SECRET, PASSPHRASE, LISTEN_KEY, TOKEN, "signature=", "sig=")


class Collected:
    """A sink that keeps what it gets, and wakes whoever waits for a condition on it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.changed = asyncio.Event()

    def publish(self, record: Record) -> None:
        if record.table != "dead_letters":
            assert fault(record.table, record.row) is None
        self.records.append(record)
        self.changed.set()

    def ship(self) -> None:
        pass

    def fills(self) -> list[str]:
        return [record.row["fill_id"] for record in self.records if record.table == "fills"]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.changed.wait()
                self.changed.clear()


Answer = tuple[int, dict[str, str], Any]
"""Status, headers and JSON of an HTTP response; None is a page of HTML."""


@dataclass
class Asked:
    """An HTTP request as the server got it."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    at_s: float = field(default_factory=time.monotonic)

    def value(self, name: str) -> str:
        return parse_qs(self.query)[name][0]


@contextmanager
def rest(answer: Callable[[Asked], Answer]) -> Iterator[tuple[str, list[Asked]]]:
    """A venue's HTTP requests."""
    asked: list[Asked] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked.append(Asked(self.command, parts.path, parts.query, dict(self.headers)))
            status, headers, value = answer(asked[-1])
            body = b"<html>" if value is None else orjson.dumps(value)
            self.send_response(status)
            for name, text in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@asynccontextmanager
async def stream(talk: Callable[[ServerConnection], Awaitable[None]], **options: Any) -> AsyncIterator[str]:
    async with serve(talk, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def fed(session: PrivateSession, sink: Collected, enough: Callable[[], bool], **options: Any) -> PrivateFeed:
    """Serve a feed until there is enough."""
    quick = replace(session, limits=Limits(requests_per_s=1000, asks_per_s=1000))
    feed, stop = PrivateFeed(quick, KEYS, sink, pause_s=0.01, **options), asyncio.Event()
    serving = asyncio.create_task(feed.serve(stop))
    waiting = asyncio.create_task(sink.until(enough))
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    waiting.cancel()
    await asyncio.wait({waiting})
    await serving
    if waiting.done() and not waiting.cancelled():
        waiting.result()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and "PrivateFeed" in repr(task)]
    return feed


def no_trades(asked: Asked) -> Answer:
    """Nothing was missed, at any of the venues."""
    if "deribit" in asked.path or "/private/" in asked.path:
        return 200, {}, {"jsonrpc": "2.0", "result": {"trades": [], "has_more": False}}
    if asked.path.startswith("/v5"):
        return 200, {}, {"retCode": 0, "result": {"category": asked.value("category"), "list": [], "nextPageCursor": ""}}
    return 200, {}, {"code": "0", "data": []} if asked.path.startswith("/api/v5") else []


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def deribit_trade(number: int) -> dict[str, Any]:
    return {**messages.DERIBIT_TRADE, "trade_id": str(number), "timestamp": now_ms()}


def deribit_push(*trades: dict[str, Any], orders: tuple[dict[str, Any], ...] = ()) -> bytes:
    data = {"instrument_name": "BTC-PERPETUAL", "trades": trades, "orders": orders, "positions": []}
    return orjson.dumps(
        {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "user.changes.any.any.raw", "data": data}}
    )


def fill_id(number: int) -> str:
    return f"deribit:BTC-PERPETUAL:{number}:{messages.DERIBIT_TRADE['order_id']}"


async def deribit_admits(socket: ServerConnection, expires_in: float = 900) -> list[str]:
    """What Deribit says to a login and a subscription; returns the requests' methods."""
    said = []
    async for text in socket:
        request = orjson.loads(text)
        said.append(request["method"])
        if request["method"] == "public/auth":
            result: Any = {"access_token": TOKEN, "refresh_token": f"{TOKEN}-{len(said)}", "expires_in": expires_in}
        else:
            result = request["params"].get("channels", "ok")
        await socket.send(orjson.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))
        if request["method"] == "private/subscribe":
            break
    return said


def shows_no_secret(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether no record has one, of any level and library: but for the tests' own server, which shows what it is sent."""
    shown = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    return bool(shown) and not [secret for secret in SECRETS if secret in "\n".join(shown)]


def test_a_connection_logs_in_then_subscribes_and_replies_to_heartbeats() -> None:
    said: list[str] = []

    async def talk(socket: ServerConnection) -> None:
        said.extend(await deribit_admits(socket))
        await socket.send('{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}')
        said.append(orjson.loads(await socket.recv())["method"])
        order = {**messages.DERIBIT_ORDER, "last_update_timestamp": now_ms()}
        await socket.send(deribit_push(deribit_trade(1), orders=(order,)))
        await socket.wait_closed()

    async def scenario(rest_url: str) -> Collected:
        sink = Collected()
        async with stream(talk) as url:
            feed = await fed(deribit.session(KEYS, "desk", url=url, rest_url=rest_url), sink, lambda: len(sink.records) == 3)
        assert (feed.tally.messages, feed.tally.rejected) == ({"execution_reports": 1}, 0)
        return sink

    with rest(no_trades) as (rest_url, _):
        sink = asyncio.run(scenario(rest_url))
    assert said == ["public/auth", "public/set_heartbeat", "private/subscribe", "public/test"]
    traded, fill, order = sink.records
    assert (traded.row["exec_type"], traded.row["side"], traded.row["last_quantity"]) == ("trade", "buy", "100.0")
    assert (fill.table, fill.row["fill_id"], fill.row["account"]) == ("fills", fill_id(1), "desk")
    assert (order.row["exec_type"], order.row["order_status"], order.row["cum_quantity"]) == (
        "status",
        "partially_filled",
        "100",
    )


def test_after_a_lost_connection_each_fill_that_was_missed_comes_once(caplog: pytest.LogCaptureFixture) -> None:
    """Fill 1 comes by the stream, 2 in the gap, 3 by the stream and the history."""
    began_ms, connections = now_ms(), 0
    trades = [deribit_trade(number) for number in (1, 2, 3)]

    def answer(asked: Asked) -> Answer:
        wanted = connections == 2 and asked.value("currency") == deribit.CURRENCIES[-1]
        # Two pages, the second of which begins with the first one's last trade.
        start_ms = int(asked.value("start_timestamp"))
        is_first = start_ms < trades[1]["timestamp"]
        page = trades[:2] if is_first else trades[1:]
        return 200, {}, {"result": {"trades": page if wanted else [], "has_more": wanted and is_first}}

    async def talk(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await deribit_admits(socket)
        if connections == 1:
            await socket.send(deribit_push(trades[0]))
            await socket.send(deribit_push(trades[0]))
            await socket.send('{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}')
            await socket.recv()
            socket.transport.abort()
            return
        await socket.send(deribit_push(trades[2]))
        await socket.wait_closed()

    async def scenario(rest_url: str) -> Collected:
        sink = Collected()
        async with stream(talk) as url:
            await fed(deribit.session(KEYS, "desk", url=url, rest_url=rest_url), sink, lambda: len(set(sink.fills())) == 3)
        return sink

    trades[1]["timestamp"] += 1
    trades[2]["timestamp"] += 2
    with rest(answer) as (rest_url, asked), caplog.at_level(logging.DEBUG):
        sink = asyncio.run(scenario(rest_url))
    assert sorted(sink.fills()) == [fill_id(1), fill_id(2), fill_id(3)]
    assert [record.row["exec_id"] for record in sink.records if record.table == "execution_reports"] == sink.fills()
    # From the start of the feed on, and later from the request before, less the overlap.
    last, starts_ms = asked[-1], [int(request.value("start_timestamp")) for request in asked]
    assert began_ms <= starts_ms[0]
    assert min(starts_ms) >= began_ms - OVERLAP_MS
    assert {request.value("currency") for request in asked} == set(deribit.CURRENCIES)
    head, _, parts = last.headers["Authorization"].partition(" ")
    signed = dict(part.split("=", 1) for part in parts.split(","))
    expected = signing.deribit_request(Secret(SECRET), int(signed["ts"]), signed["nonce"], f"{last.path}?{last.query}")
    assert (head, signed["id"], signed["sig"]) == ("deri-hmac-sha256", KEY, expected)
    assert "connection lost" in caplog.text
    assert shows_no_secret(caplog)


def test_a_login_is_refreshed_before_it_expires_and_anew_after_a_refusal() -> None:
    grants: list[tuple[str, str | None]] = []

    async def talk(socket: ServerConnection) -> None:
        async for text in socket:
            request = orjson.loads(text)
            result: Any = request["params"].get("channels", "ok")
            if request["method"] == "public/auth":
                grants.append((request["params"]["grant_type"], request["params"].get("refresh_token")))
                if len(grants) == 3:
                    error = {"code": 13004, "message": "invalid_credentials"}
                    await socket.send(orjson.dumps({"id": request["id"], "error": error}))
                    continue
                # What expires at once is refreshed at once.
                expires_in = 0 if len(grants) < 4 else 900
                result = {"access_token": TOKEN, "refresh_token": f"{TOKEN}-{len(grants)}", "expires_in": expires_in}
            await socket.send(orjson.dumps({"id": request["id"], "result": result}))
            if request["method"] == "private/subscribe" and len(grants) == 4:
                await socket.send(deribit_push(deribit_trade(1)))

    async def scenario(rest_url: str) -> None:
        sink = Collected()
        async with stream(talk) as url:
            await fed(deribit.session(KEYS, "desk", url=url, rest_url=rest_url), sink, lambda: bool(sink.fills()))

    with rest(no_trades) as (rest_url, _):
        asyncio.run(scenario(rest_url))
    assert grants == [
        ("client_signature", None),
        ("refresh_token", f"{TOKEN}-1"),
        ("refresh_token", f"{TOKEN}-2"),
        ("client_signature", None),
    ]


REFUSALS: dict[str, tuple[Callable[[str, str], PrivateSession], dict[str, Any], str]] = {
    "deribit": (
        lambda url, rest_url: deribit.session(KEYS, "desk", url=url, rest_url=rest_url),
        {"id": "public/auth", "error": {"code": 13004, "message": f"invalid_credentials {KEY}"}},
        "13004 invalid_credentials …",
    ),
    "okx": (
        lambda url, rest_url: okx.session(KEYS, "desk", url=url, rest_url=rest_url),
        {"event": "error", "code": "60005", "msg": f"Invalid apiKey {KEY}"},
        "60005 Invalid apiKey …",
    ),
    "bybit": (
        lambda url, rest_url: bybit.session(KEYS, "desk", url=url, rest_url=rest_url),
        {"success": False, "ret_msg": f"API key is invalid. {KEY}", "op": "auth"},
        "API key is invalid. …",
    ),
    "binance_spot": (
        lambda url, rest_url: binance.session("binance_spot", KEYS, "desk", url=url, rest_url=rest_url),
        {"id": "login", "status": 401, "error": {"code": -2015, "msg": f"Invalid API-key {KEY}"}},
        "-2015 Invalid API-key …",
    ),
}


@pytest.mark.parametrize("market", REFUSALS)
def test_a_refused_key_is_final_with_one_line_that_names_its_file_and_not_the_key(
    market: str, caplog: pytest.LogCaptureFixture
) -> None:
    session, refusal, words = REFUSALS[market]
    connections = 0

    async def talk(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.recv()
        await socket.send(orjson.dumps(refusal))
        await socket.wait_closed()

    async def scenario() -> None:
        async with stream(talk) as url:
            await fed(session(url, "http://127.0.0.1:1"), Collected(), lambda: False)

    with caplog.at_level(logging.DEBUG), pytest.raises(FeedError) as caught:
        asyncio.run(scenario())
    line = str(caught.value)
    assert line.startswith(f"{market}: the venue refuses the key of /etc/keys.json: {words}; check ")
    assert "\n" not in line
    assert not [secret for secret in SECRETS if secret in line]
    assert connections == 1
    assert shows_no_secret(caplog)


def test_a_listen_key_that_is_refused_is_final() -> None:
    def refuse(asked: Asked) -> Answer:
        return 401, {}, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}

    with rest(refuse) as (rest_url, asked):
        session = binance.session("binance_usdm", KEYS, "desk", url="ws://127.0.0.1:1", rest_url=rest_url)
        with pytest.raises(FeedError, match=r"binance_usdm: .*/etc/keys\.json: HTTP 401, -2015"):
            asyncio.run(fed(session, Collected(), lambda: False))
    assert [(request.method, request.path, request.headers["X-MBX-APIKEY"]) for request in asked] == [
        ("POST", "/fapi/v1/listenKey", KEY)
    ]


def test_a_key_without_the_right_to_read_is_refused_at_the_subscription() -> None:
    async def talk(socket: ServerConnection) -> None:
        results: list[Any] = [{"access_token": TOKEN}, "ok", []]
        for result in results:
            request = orjson.loads(await socket.recv())
            await socket.send(orjson.dumps({"id": request["id"], "result": result}))
        await socket.wait_closed()

    async def scenario() -> None:
        async with stream(talk) as url:
            await fed(deribit.session(KEYS, "desk", url=url), Collected(), lambda: False)

    with pytest.raises(FeedError, match=r"no subscription to user\.changes"):
        asyncio.run(scenario())


def binance_fill(number: int, **changes: Any) -> bytes:
    order = {**messages.BINANCE_FUTURES, "T": now_ms(), "t": number, **changes}
    return orjson.dumps({"e": "ORDER_TRADE_UPDATE", "E": now_ms(), "T": now_ms(), "o": order})


def test_a_listen_key_is_renewed_and_a_stream_that_expires_gets_a_new_one(caplog: pytest.LogCaptureFixture) -> None:
    tickets = 0
    paths: list[str] = []
    renewed = threading.Event()

    def answer(asked: Asked) -> Answer:
        nonlocal tickets
        if asked.method == "POST":
            tickets += 1
            return 200, {}, {"listenKey": f"{LISTEN_KEY}{tickets}"}
        if asked.method == "PUT":
            renewed.set()
            return 200, {}, {}
        missed = {"symbol": "BTCUSDT", "id": 7, "orderId": 8886774, "side": "SELL", "price": "7100.5", "qty": "0.001"}
        trade = {**missed, "commission": "-0.01", "commissionAsset": "USDT", "time": now_ms(), "buyer": False, "maker": True}
        return 200, {}, [trade] if tickets == 2 else []

    async def talk(socket: ServerConnection) -> None:
        assert socket.request is not None
        paths.append(socket.request.path)
        if len(paths) == 1:
            await asyncio.to_thread(renewed.wait, 10)
            await socket.send(binance_fill(6))
            await socket.send(orjson.dumps({"e": "listenKeyExpired", "E": now_ms()}))
        await socket.wait_closed()

    async def scenario(rest_url: str) -> Collected:
        sink = Collected()
        async with stream(talk) as url:
            session = binance.session("binance_usdm", KEYS, "desk", url=url, rest_url=rest_url)
            await fed(replace(session, renewal_s=0.05), sink, lambda: len(sink.fills()) == 2)
        return sink

    with rest(answer) as (rest_url, asked), caplog.at_level(logging.DEBUG):
        sink = asyncio.run(scenario(rest_url))
    assert paths == [f"/ws/{LISTEN_KEY}1", f"/ws/{LISTEN_KEY}2"]
    assert sink.fills() == ["binance_usdm:BTCUSDT:6:8886774", "binance_usdm:BTCUSDT:7:8886774"]
    # The history is asked by the symbol that the stream has shown, and signed.
    question = next(request for request in asked if request.method == "GET")
    query, _, signature = question.query.rpartition("&signature=")
    assert (question.path, question.value("symbol")) == ("/fapi/v1/userTrades", "BTCUSDT")
    assert signature == signing.binance(Secret(SECRET), query)
    assert shows_no_secret(caplog)


def test_a_venue_that_says_when_to_come_again_is_not_asked_before(caplog: pytest.LogCaptureFixture) -> None:
    refused = [418]

    def answer(asked: Asked) -> Answer:
        if refused:
            return refused.pop(0), {"Retry-After": "1"}, {"code": -1003, "msg": "Too many requests."}
        return 200, {}, {"listenKey": LISTEN_KEY}

    async def talk(socket: ServerConnection) -> None:
        await socket.send(binance_fill(1))
        await socket.wait_closed()

    async def scenario(rest_url: str) -> None:
        sink = Collected()
        async with stream(talk) as url:
            session = binance.session("binance_usdm", KEYS, "desk", url=url, rest_url=rest_url)
            await fed(session, sink, lambda: bool(sink.fills()))

    with rest(answer) as (rest_url, asked):
        asyncio.run(scenario(rest_url))
    assert asked[1].at_s - asked[0].at_s >= 1.0
    assert "HTTP 418, -1003 Too many requests." in caplog.text


@pytest.mark.parametrize("is_handshake", [True, False], ids=["handshake", "login"])
def test_a_rate_limit_on_the_connection_is_waited_for_and_is_not_final(is_handshake: bool) -> None:
    opened_s: list[float] = []

    def handshake(socket: ServerConnection, request: Request) -> Response | None:
        opened_s.append(time.monotonic())
        if not is_handshake or len(opened_s) > 1:
            return None
        response = socket.respond(429, "too many")
        response.headers["Retry-After"] = "1"
        return response

    async def talk(socket: ServerConnection) -> None:
        if not is_handshake and len(opened_s) == 1:
            await socket.recv()
            await socket.send('{"id": "public/auth", "error": {"code": 10028, "message": "too_many_requests"}}')
            await socket.wait_closed()
            return
        await deribit_admits(socket)
        await socket.send(deribit_push(deribit_trade(1)))
        await socket.wait_closed()

    async def scenario(rest_url: str) -> None:
        sink = Collected()
        async with stream(talk, process_request=handshake) as url:
            session = deribit.session(KEYS, "desk", url=url, rest_url=rest_url)
            await fed(session, sink, lambda: bool(sink.fills()))

    with rest(no_trades) as (rest_url, _), pytest.MonkeyPatch.context() as patch:
        patch.setitem(deribit._PASSES_S, 10028, 0.3)
        asyncio.run(scenario(rest_url))
    assert len(opened_s) == 2
    assert opened_s[1] - opened_s[0] >= (1.0 if is_handshake else 0.3)


def test_a_refused_symbol_and_a_page_of_a_proxy_cost_the_other_symbols_nothing(caplog: pytest.LogCaptureFixture) -> None:
    has_page = True

    def answer(asked: Asked) -> Answer:
        nonlocal has_page
        if asked.method == "POST":
            return 200, {}, {"listenKey": LISTEN_KEY}
        if asked.value("symbol") == "WRONG":
            return 400, {}, {"code": -1121, "msg": "Invalid symbol."}
        if has_page:
            has_page = False
            return 200, {}, None
        trade = {"symbol": "ETHUSDT", "id": 7, "orderId": 1, "price": "2500", "qty": "0.1", "commission": "0.1"}
        return 200, {}, [{**trade, "commissionAsset": "USDT", "time": now_ms(), "buyer": True, "maker": False}]

    async def talk(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async def scenario(rest_url: str) -> Collected:
        sink = Collected()
        async with stream(talk) as url:
            session = binance.session("binance_usdm", KEYS, "desk", url=url, rest_url=rest_url)
            await fed(session, sink, lambda: bool(sink.fills()), symbols=["WRONG", "ETHUSDT"])
        return sink

    with rest(answer) as (rest_url, _):
        sink = asyncio.run(scenario(rest_url))
    assert sink.fills() == ["binance_usdm:ETHUSDT:7:1"]
    assert "executions that may have been missed cannot be requested: HTTP 400, -1121 Invalid symbol." in caplog.text
    assert not [record for record in sink.records if record.table == "dead_letters"]


def test_an_okx_history_is_paged_and_its_fees_are_those_of_the_channel() -> None:
    at_ms = now_ms()
    names = ("instId", "ordId", "clOrdId", "side", "fillPx", "fillSz", "execType")
    past = [
        {**{name: messages.OKX_FILL[name] for name in names}, "fee": "-0.021", "feeCcy": "USDT", "subType": "1"}
        | {"tradeId": str(number), "billId": str(1000 + number), "ts": str(at_ms), "fillTime": str(at_ms)}
        for number in range(130, 0, -1)
    ]
    pushed = {**messages.OKX_FILL, "tradeId": "130", "fillTime": str(at_ms), "uTime": str(at_ms)}

    def answer(asked: Asked) -> Answer:
        rows = [row for row in past if "after" not in asked.query or int(row["billId"]) < int(asked.value("after"))]
        return 200, {}, {"code": "0", "msg": "", "data": rows[:100]}

    async def talk(socket: ServerConnection) -> None:
        for said in ({"event": "login", "code": "0"}, {"event": "subscribe", "arg": {"channel": "orders"}}):
            await socket.recv()
            await socket.send(orjson.dumps(said))
        await socket.send(orjson.dumps({"arg": {"channel": "orders", "instType": "ANY"}, "data": [pushed]}))
        await socket.wait_closed()

    async def scenario(rest_url: str) -> Collected:
        sink = Collected()
        async with stream(talk) as url:
            await fed(okx.session(KEYS, "desk", url=url, rest_url=rest_url), sink, lambda: len(sink.fills()) == 130)
        return sink

    with rest(answer) as (rest_url, asked):
        sink = asyncio.run(scenario(rest_url))
    order = messages.OKX_FILL["ordId"]
    assert sorted(sink.fills()) == sorted(f"okx:BTC-USDT-SWAP:{number}:{order}" for number in range(1, 131))
    assert {record.row["fee"] for record in sink.records if record.table == "fills"} == {"0.021"}
    assert [("after" in request.query) for request in asked] == [False, True]
    headers = asked[0].headers
    expected = signing.okx(Secret(SECRET), headers["OK-ACCESS-TIMESTAMP"], "GET", f"{asked[0].path}?{asked[0].query}")
    assert (headers["OK-ACCESS-SIGN"], headers["OK-ACCESS-PASSPHRASE"]) == (expected, PASSPHRASE)


def test_a_bybit_history_covers_each_category_page_by_page() -> None:
    at = str(now_ms())

    def answer(asked: Asked) -> Answer:
        category = asked.value("category")
        number = 2 if "cursor" in asked.query else 1
        item = {name: value for name, value in messages.BYBIT_EXECUTION.items() if name != "category"}
        items = [{**item, "execId": f"{category}-{number}", "execTime": at}] if category in ("linear", "spot") else []
        cursor = "a%3A1%2Cb" if category == "linear" and number == 1 else ""
        return 200, {}, {"retCode": 0, "result": {"category": category, "list": items, "nextPageCursor": cursor}}

    async def talk(socket: ServerConnection) -> None:
        for op in ("auth", "subscribe"):
            await socket.recv()
            await socket.send(orjson.dumps({"success": True, "ret_msg": "", "op": op}))
        await socket.wait_closed()

    async def scenario(rest_url: str) -> Collected:
        sink = Collected()
        async with stream(talk) as url:
            await fed(bybit.session(KEYS, "desk", url=url, rest_url=rest_url), sink, lambda: len(sink.fills()) == 3)
        return sink

    with rest(answer) as (rest_url, asked):
        sink = asyncio.run(scenario(rest_url))
    assert sorted(fill.split(":")[2] for fill in sink.fills()) == ["linear-1", "linear-2", "spot-1"]
    for request in asked:
        headers = request.headers
        expected = signing.bybit_request(Secret(SECRET), int(headers["X-BAPI-TIMESTAMP"]), KEY, 5000, request.query)
        assert headers["X-BAPI-SIGN"] == expected


@pytest.mark.parametrize("market", ["binance_spot", "binance_coinm", "binance_options"])
def test_a_binance_history_gives_the_fill_that_the_stream_gives(market: str) -> None:
    """A fill is booked once only if both have the same contents."""
    at_ms = messages.NOW_MS - 60
    symbol = {"binance_spot": "ETHUSDT", "binance_coinm": "BTCUSD_PERP", "binance_options": "BTC-251226-90000-C"}[market]
    past: dict[str, Any] = {"symbol": symbol, "orderId": 8886774, "price": "7100.5", "time": at_ms}
    if market == "binance_options":
        past |= {"id": 99, "tradeId": 5, "quantity": "-0.001", "fee": "-0.01", "quoteAsset": "USDT", "side": "SELL"}
        past |= {"liquidity": "MAKER"}
        fee = {"n": "0.01", "N": "USDT"}
    else:
        buyer, maker = ("isBuyer", "isMaker") if market == "binance_spot" else ("buyer", "maker")
        fee = {"n": "0.01", "N": "USDT" if market == "binance_spot" else "BTC"}
        past |= {"id": 5, "qty": "0.001", "commission": fee["n"], "commissionAsset": fee["N"], buyer: False, maker: True}
    order = {**messages.BINANCE_FUTURES, **fee, "s": symbol, "t": 5}
    event = {"e": "executionReport", **order} if market == "binance_spot" else {"e": "ORDER_TRADE_UPDATE", "o": order}
    session = binance.session(market, KEYS, "desk")
    question = next(session.missed(0, 1, [symbol]))
    assert f"symbol={symbol}" in question(1).query

    def fill(message: Any, url: str) -> dict[str, Any]:
        received = Received(messages.NOW_MS * 1000, None, None, url)
        (row,) = [
            dict(record.row)
            for record in session.parse(orjson.dumps(message), received)
            if isinstance(record, Record) and record.table == "fills"
        ]
        return {name: float(value) if name in ("price", "size", "fee") else value for name, value in row.items()}

    assert fill([past], question(1).url) == fill(event, session.url)


PAST: dict[str, tuple[PrivateSession, str, Callable[[Any], Any], dict[str, Any]]] = {
    "okx": (
        okx.session(KEYS, "desk"),
        "https://www.okx.com/api/v5/trade/fills",
        lambda item: {"code": "0", "data": [item]},
        {name: messages.OKX_FILL[name] for name in ("instId", "ordId", "tradeId", "side", "fillPx", "fillSz")}
        | {"ts": str(messages.NOW_MS), "fee": "-0.021", "feeCcy": "USDT"},
    ),
    "bybit": (
        bybit.session(KEYS, "desk"),
        "https://api.bybit.com/v5/execution/list",
        lambda item: {"retCode": 0, "result": {"category": "linear", "list": [item]}},
        {
            name: messages.BYBIT_EXECUTION[name]
            for name in messages.BYBIT_EXECUTION
            if name in (*messages.BYBIT_FAST, "execType", "execFee") and name not in ("category", "orderLinkId")
        },
    ),
    "binance": (
        binance.session("binance_usdm", KEYS, "desk"),
        "https://fapi.binance.com/fapi/v1/userTrades",
        lambda item: [item],
        {"symbol": "ETHUSDT", "id": 7, "orderId": 1, "price": "2500", "qty": "0.1", "commission": "0.1"}
        | {"time": messages.NOW_MS, "buyer": True, "maker": False},
    ),
    "binance options": (
        binance.session("binance_options", KEYS, "desk"),
        "https://eapi.binance.com/eapi/v1/userTrades",
        lambda item: [item],
        {"symbol": "BTC-251226-90000-C", "tradeId": 5, "orderId": 1, "price": "100", "quantity": "1", "fee": "0"}
        | {"time": messages.NOW_MS, "side": "BUY"},
    ),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (*_, item) in PAST.items() for name in item])
@pytest.mark.parametrize("value", ["missing", {}], ids=["missing", "odd"])
def test_a_past_execution_with_a_bad_field_is_rejected_by_its_name(kind: str, name: str, value: Any) -> None:
    session, url, wrap, item = PAST[kind]
    received = Received(messages.NOW_MS * 1000, None, None, url)
    odd = {key: text for key, text in item.items() if key != name} | ({} if value == "missing" else {name: value})
    with pytest.raises(Rejected) as caught:
        session.parse(orjson.dumps(wrap(odd)), received)
    assert caught.value.fault.field == name


def test_a_stop_ends_a_feed_that_waits_for_its_login_or_cannot_connect() -> None:
    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async def scenario() -> None:
        async with stream(silent) as url:
            for address in (url, "ws://127.0.0.1:1"):
                feed, stop = PrivateFeed(deribit.session(KEYS, "desk", url=address), KEYS, Collected()), asyncio.Event()
                asyncio.get_running_loop().call_later(0.05, stop.set)
                async with asyncio.timeout(5):
                    await feed.serve(stop)

    asyncio.run(scenario())


def test_a_sink_that_fails_ends_the_feed_with_its_error() -> None:
    class Full(Collected):
        def publish(self, record: Record) -> None:
            raise PublishError("full")

    async def talk(socket: ServerConnection) -> None:
        await deribit_admits(socket)
        await socket.send(deribit_push(deribit_trade(1)))
        await socket.wait_closed()

    async def scenario(rest_url: str) -> None:
        async with stream(talk) as url:
            await fed(deribit.session(KEYS, "desk", url=url, rest_url=rest_url), Full(), lambda: False)

    with rest(no_trades) as (rest_url, _), pytest.raises(PublishError, match="full"):
        asyncio.run(scenario(rest_url))


def test_a_feed_resumes_at_the_newest_fill_of_its_account() -> None:
    session = bybit.session(KEYS, "desk")
    message = orjson.dumps({"topic": "execution", "data": [messages.BYBIT_EXECUTION]})
    records = session.parse(message, Received(messages.NOW_MS * 1000, None, None))
    (row,) = [record.row for record in records if isinstance(record, Record) and record.table == "fills"]
    (report,) = [record.row for record in records if isinstance(record, Record) and record.table == "execution_reports"]
    later = {**row, "event_at": "2025-05-11T08:00:00.000Z", "fill_id": "later"}
    values = [b"{", encoded({**later, "account": "other"}), encoded({**later, "venue": "okx"}), encoded(row)]
    published = Published()
    assert resumed(values, "bybit", "desk", published) == Resume(messages.NOW_MS - 60, ["BTCUSDT"])
    assert not published.add("fills", row)
    assert not published.add("execution_reports", report)
    assert published.add("fills", later)
    assert resumed([], "bybit", "desk", published) == Resume(None, [])
    with pytest.raises(PublishError, match=r"fills.v1 on 127.0.0.1:1"):
        resume("127.0.0.1:1", "bybit", "desk", published, timeout_s=0.5)


def test_the_fills_in_kafka_are_read_to_their_end_past_heartbeats() -> None:
    # A broker within the client, which cannot look up times: so from the first offset on.
    producer = Producer({"test.mock.num.brokers": 1})
    (broker,) = producer.list_topics(timeout=5).brokers.values()
    for number in range(3):
        producer.produce("fills.v1", b"%d" % number, "desk", 0)
        producer.produce("fills.v1", None, "heartbeat", 0)
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": f"{broker.host}:{broker.port}", "group.id": "test"})
    try:
        values = list(_values(consumer, TopicPartition("fills.v1", 0, 0), 10.0))
        assert not list(_values(consumer, TopicPartition("fills.v1", 0, -1), 10.0))
    finally:
        consumer.close()
    assert values == [b"0", b"1", b"2"]


def test_sigterm_stops_a_private_feed_and_the_time_is_kept_until_then() -> None:
    subscribed = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await deribit_admits(socket)
        subscribed.set()
        await socket.wait_closed()

    async def scenario(rest_url: str) -> Tally:
        publisher = mock.Mock(every_ms=10, counts=Counter())
        async with stream(talk) as url:
            feed = PrivateFeed(deribit.session(KEYS, "desk", url=url, rest_url=rest_url), KEYS, publisher)
            serving = asyncio.create_task(feeding.serve(feed, publisher))
            async with asyncio.timeout(10):
                await subscribed.wait()
                os.kill(os.getpid(), signal.SIGTERM)
                return await serving

    with rest(no_trades) as (rest_url, _):
        tally = asyncio.run(scenario(rest_url))
    assert tally.rejected == 0


def test_a_report_without_its_fee_and_the_same_with_it_are_both_published() -> None:
    published = Published(remembered=2)
    report = {"exec_id": "1", "fee": None}
    assert published.add("execution_reports", report)
    assert published.add("execution_reports", {**report, "fee": "0.1"})
    assert not published.add("execution_reports", report)
    assert published.add("execution_reports", {**report, "exec_id": "2"})
    assert published.add("execution_reports", report)  # forgotten after two others

"""A venue on this machine that does to a feed what venues do, on a schedule.

It plays Binance USD-M by its documented messages: combined streams, whole books and listings over HTTP.  What it sends follows
from a seed, but for times.  It keeps the true books, and which message was sent to which connection: see `Truth`.

Harms that come from elsewhere, such as a broker that is away, are done by `bench.feed_harms`.
"""

import asyncio
import signal
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import orjson
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bench.harmed_market import KINDS, Market, Plan, Slot

STEP_S = 0.01
UNSURE_S = 2.0
"""What was sent on a connection so long before it was broken may not have arrived."""
MOST_BYTES, SLOW_S = 32 << 20, 120.0
"""A client for which more is waiting is cut off; what was sent to it so long before may not have arrived."""


@dataclass(eq=False)
class Client:
    """One connection, and what it was sent."""

    socket: ServerConnection
    streams: dict[str, int] = field(default_factory=dict)  # with the venue's count when each began
    is_healthy: bool = True
    may_leave: bool = False  # it has been harmed: the feed may hang up


class Venue:
    """The server and its harms."""

    def __init__(self, plan: Plan, truth: Path) -> None:
        self.plan, self.truth, self.market = plan, truth, Market(plan)
        self.clients: list[Client] = []
        self.receivers: dict[str, list[ServerConnection]] = defaultdict(list)
        self.sent: list[tuple[str, int, int]] = []  # stream, and the counts between which it was surely sent to some client
        self.steps: list[tuple[float, int]] = []  # clock and count
        self.done: dict[str, int] = defaultdict(int)
        self.cut_answers = self.refused_requests = self.left = 0  # how many of the next; connections closed without need
        self.refusal: tuple[int, float] | None = None  # of upgrades: status, and until when
        self.limited: list[int] = []  # statuses of the next answers
        self.closed_until_s, self.asked_too_soon, self.asked = 0.0, 0, 0
        self.queue = self.to_skip = 0  # messages of a burst, and those that no one is to be sent
        self.unsent: list[int] = []  # their counts
        self.harms: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
            "cut": self._cut,
            "burst": self._burst,
            "half_open": self._half_open,
            "refused": self._refused,
            "listing": self._listing,
            "clock": self._clock,
            "forbidden": self._forbidden,
            "limited": self._limited,
            "outage": self._outage,
        }

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """What is asked over HTTP; None for a websocket."""
        address, now_s = urlsplit(request.path), time.monotonic()
        if address.path == "/stream":
            if self.refusal and now_s < self.refusal[1]:
                return _answered(self.refusal[0], b'{"code":-1003,"msg":"no more connections"}', self.plan.retry_s)
            return None
        self.asked += 1
        self.asked_too_soon += now_s < self.closed_until_s - 0.05  # one may be on its way when another is refused
        if self.limited:
            status = self.limited.pop(0)
            self.closed_until_s = now_s + self.plan.retry_s if status in (418, 429) else 0.0
            return _answered(status, b'{"code":-1003,"msg":"Too many requests."}', self.plan.retry_s)
        if address.path.endswith("/exchangeInfo"):
            return _answered(200, orjson.dumps(self.market.listing()))
        name = parse_qs(address.query)["symbol"][0]
        if name not in self.market.names:
            return _answered(400, b'{"code":-1121,"msg":"Invalid symbol."}')
        body = orjson.dumps(self.market.book(name))
        if self.cut_answers:
            self.cut_answers -= 1
            return _answered(200, body[: len(body) // 2], size=len(body))
        return _answered(200, body)

    async def talk(self, socket: ServerConnection) -> None:
        """One connection, until its end."""
        client = Client(socket)
        self.clients.append(client)
        is_refused = self.refused_requests > 0
        self.refused_requests -= is_refused
        try:
            async for text in socket:
                request = orjson.loads(text)
                if is_refused:
                    client.may_leave = True
                    error = {"error": {"code": 1, "msg": "Invalid request: no subscriptions now"}, "id": request["id"]}
                    await socket.send(orjson.dumps(error), text=True)
                    continue
                await socket.send(orjson.dumps({"result": None, "id": request["id"]}), text=True)
                for stream in request["params"]:
                    if request["method"] == "SUBSCRIBE" and client.is_healthy and stream not in client.streams:
                        client.streams[stream] = self.market.count
                        self.receivers[stream].append(socket)
                    elif request["method"] == "UNSUBSCRIBE" and stream in client.streams:
                        self._forget(client, stream, self.market.count)
        except ConnectionClosed:
            pass
        finally:
            if client.is_healthy and not client.may_leave:
                self.left += 1
                print(f"a healthy connection was closed: {socket.close_code} {socket.close_reason}", flush=True)
            self.end(client, UNSURE_S)
            self.clients.remove(client)

    def _forget(self, client: Client, stream: str, until: int) -> None:
        since = client.streams.pop(stream)
        if until > since:
            self.sent.append((stream, since, until))
        with suppress(ValueError):
            self.receivers[stream].remove(client.socket)

    def end(self, client: Client, unsure_s: float = 0.0) -> None:
        """Send no more; what was sent in the last `unsure_s` may not arrive."""
        client.is_healthy = False
        until = self.market.count
        if unsure_s:
            at = bisect_right(self.steps, (time.monotonic() - unsure_s, 0)) - 1
            until = self.steps[at][1] if at >= 0 else 0
        for stream in list(client.streams):
            self._forget(client, stream, until)

    async def play(self) -> None:
        """Send what is due, and harm as planned, until the end."""
        start_s = time.monotonic()
        harming = [asyncio.create_task(self._harm(slot, start_s)) for slot in self.plan.slots if slot.harm in self.harms]
        burst = 0
        # Harms take longer where the machine is busy: all of them have their end, and every connection is whole at last.
        while (now_s := time.monotonic() - start_s) < self.plan.seconds or not (
            all(task.done() for task in harming) and len(self._whole()) >= self.plan.connections
        ):
            due = now_s * self.plan.per_s - (self.market.count - burst)
            extra = min(self.queue, 1_000)
            self.queue -= extra
            burst += extra
            self._send(min(int(due), 1_000) + extra)
            await asyncio.sleep(0 if extra else STEP_S)
        await asyncio.gather(*harming)

    def _send(self, number: int) -> None:
        for _ in range(number):
            stream, text = self.market.message()
            if self.to_skip:
                self.to_skip -= 1
                self.unsent.append(self.market.count)
            else:
                broadcast(self.receivers[stream], text)
        self.steps.append((time.monotonic(), self.market.count))
        for client in [client for client in self.clients if client.is_healthy]:
            if client.socket.transport.get_write_buffer_size() > MOST_BYTES:
                self.done["cut_off"] += 1
                self.end(client, SLOW_S)
                client.socket.transport.abort()

    async def _harm(self, slot: Slot, start_s: float) -> None:
        await asyncio.sleep(max(0.0, start_s + slot.at_s - time.monotonic()))
        print(f"{slot.at_s:7.1f} s: {slot.harm}", flush=True)
        await self.harms[slot.harm](slot.turn)
        self.done[slot.harm] += 1

    async def _victim(self, turn: int) -> Client:
        """One of the connections, once all of them have everything."""
        while len(whole := self._whole()) < self.plan.connections:
            await asyncio.sleep(STEP_S)
        return whole[turn % len(whole)]

    def _whole(self) -> list[Client]:
        streams = {f"{name.lower()}@{kind}" for name in self.market.names for kind in KINDS}
        return [client for client in self.clients if streams <= client.streams.keys()]

    async def _cut(self, turn: int) -> None:
        """Hang up within a message, and within the next two whole books that are answered."""
        client = await self._victim(turn)
        self.end(client)
        self.cut_answers = 2
        stream, text = self.market.message()
        broadcast(self.receivers[stream], text)
        frame = bytes([0x81, 126]) + len(text).to_bytes(2, "big") + text.encode()
        client.socket.transport.write(frame[: len(frame) // 2])
        client.socket.transport.close()

    async def _burst(self, turn: int) -> None:
        self.queue += self.plan.burst

    async def _half_open(self, turn: int) -> None:
        """Send no more, and by turns do not even answer pings."""
        client = await self._victim(turn)
        self.end(client)
        if turn % 2 == 0:
            client.socket.transport.pause_reading()
            # It is not noticed here that the feed has left.
            await asyncio.sleep(min(120.0, 3 * self.plan.slot_s))
            client.socket.transport.abort()

    async def _refused(self, turn: int) -> None:
        """Hang up, and refuse what the next connection wants to hear."""
        client = await self._victim(turn)
        self.refused_requests = 1
        await self._hang_up(client)

    async def _listing(self, turn: int) -> None:
        """List a contract that expires in a while; then list it no more."""
        name = f"C{turn % 100:02d}USDT_2612{turn % 28 + 1:02d}"
        self.market.delivery_ms[name] = self.market.now_ms() + int(3_000 * self.plan.slot_s)
        self.market.names = [*self.market.names, name]
        await asyncio.sleep(3 * self.plan.slot_s)
        self.market.names = [other for other in self.market.names if other != name]

    async def _clock(self, turn: int) -> None:
        """Jump half a minute ahead, then behind, then back; a connection made when it is ahead misses messages later."""
        for ahead_ms in (30_000, -20_000, 0):
            self.market.ahead_ms = ahead_ms
            if ahead_ms > 0:
                await self._hang_up(await self._victim(turn))
            await self._victim(turn)
            await asyncio.sleep(self.plan.slot_s / 4)
            self.to_skip = 10 * self.plan.symbols

    async def _forbidden(self, turn: int) -> None:
        """Hang up, and forbid connections (403) and requests (401) for a while."""
        client = await self._victim(turn)
        self.refusal = 403, time.monotonic() + self.plan.slot_s / 4
        self.limited = [401, 403]
        await self._hang_up(client)

    async def _limited(self, turn: int) -> None:
        """Hang up, and refuse connections and requests for their rate."""
        client = await self._victim(turn)
        self.refusal = 429, time.monotonic() + self.plan.slot_s / 4
        self.limited = [429, 418, 429]
        await self._hang_up(client)

    async def _outage(self, turn: int) -> None:
        """Break every connection at once: what is made until they are back is lost."""
        for client in list(self.clients):
            self.end(client, UNSURE_S)
            client.socket.transport.abort()

    async def _hang_up(self, client: Client) -> None:
        self.end(client)
        await client.socket.close(1001, "going away")

    def write(self) -> None:
        """Write what is true: see `Truth`."""
        for client in self.clients:
            self.end(client)
        arrays: dict[str, Any] = {}
        sent: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for stream, since, until in self.sent:
            sent[stream].append((since, until))
        for stream, counts in self.market.counts.items():
            at = np.array(counts)
            is_sure = np.zeros(len(at), bool)
            for since, until in sent[stream]:
                is_sure[np.searchsorted(at, since, "right") : np.searchsorted(at, until, "right")] = True
            arrays[stream] = is_sure & ~np.isin(at, self.unsent)
        np.savez_compressed(self.truth.with_suffix(".npz"), **arrays)
        told = {
            "books": {name: self.market.book(name) for name in self.market.names},
            "messages": self.market.count,
            "harms": self.done,
            "closed_by_the_feed": self.left,
            "http_requests": self.asked,
            "http_requests_too_soon": self.asked_too_soon,
        }
        self.truth.write_bytes(orjson.dumps(told))


def _answered(status: int, body: bytes, retry_s: int | None = None, size: int | None = None) -> Response:
    headers = Headers({"Content-Length": str(len(body) if size is None else size), "Connection": "close"})
    if retry_s is not None:
        headers["Retry-After"] = str(retry_s)
    return Response(status, "", headers, body)


def run(plan: Plan, truth: Path, port: Any, has_ended: Any) -> None:
    """The venue's process: tells its port, plays once its connections have everything, and writes the truth.

    It goes on answering until it is ended.
    """

    async def served() -> None:
        venue, stop = Venue(plan, truth), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_queue": None}
        async with serve(venue.talk, "127.0.0.1", 0, process_request=venue.answer, close_timeout=60, **options) as server:
            port.value = server.sockets[0].getsockname()[1]
            await venue._victim(0)
            await venue.play()
            venue.write()
            has_ended.set()
            while not stop.is_set():
                broadcast(server.connections, '{"result":null,"id":0}')  # silence would be the end of a connection
                await asyncio.sleep(0.5)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(served())


class Truth:
    """What a venue wrote at its end.

    books    the last book of each contract that is still listed
    is_sure  by stream, whether each of its messages (numbered from 1) surely reached a connection that went on
    told     counts
    """

    def __init__(self, path: Path) -> None:
        self.told = orjson.loads(path.read_bytes())
        self.books = self.told.pop("books")
        with np.load(path.with_suffix(".npz")) as arrays:
            self.is_sure = {stream: arrays[stream] for stream in arrays.files}

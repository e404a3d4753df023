"""One stream of server-sent events per browser: what has changed since the frame before, ten times a second at most.

Nothing is queued for a browser that is slow.  A frame is made when the one before it has left; it has the newest values then,
so what came in between is not sent.  A browser that takes nothing for `STALLED_S` is let go.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from starlette.types import Message, Receive, Scope, Send

from page.tables import TABLES, Rows
from page.views import Want

FRAME_S = 0.1
ALIVE_S = 1.0
"""A frame is sent at least so often, for the clock and to show that the page lives."""
PATIENCE_S = 0.15
"""Parts that take long, as when a run's files are read, do not hold up those that are there."""
STALLED_S = 20.0


class Framing:
    """What one browser has been told."""

    def __init__(self, parts: Mapping[str, Want], head: Mapping[str, Any]) -> None:
        rings = {name: TABLES[part.tables[0]].ring for name, part in parts.items() if part.value is None}
        self.parts, self._head = parts, {**head, "rings": rings}
        self._versions: dict[str, int] = {}
        self._marks = dict.fromkeys(parts, 0)
        self._sent_s: dict[str, float] = {}
        self._clock_ms = -1
        self._epoch: int | None = None
        self._trouble: str | None = None

    def frame(self, rows: Rows, trouble: str | None, now_s: float) -> bytes | None:
        """The next frame, with all that has changed; None if nothing has.  `now_s` is a clock that never steps back."""
        told: dict[str, Any] = {}
        if self._epoch != (epoch := rows.epoch):
            self._head["is_new"] = True  # a browser forgets what it was told before
            self._epoch, self._versions, self._sent_s = epoch, {}, {}
            self._marks = dict.fromkeys(self.parts, 0)
        begun_s = time.monotonic()
        for name, part in self.parts.items():
            if told and time.monotonic() - begun_s > PATIENCE_S:
                break  # the others come with the next frame
            if now_s - self._sent_s.get(name, -1e9) < part.every_s * 0.99:
                continue
            version = rows.version(part.tables)
            if version == self._versions.get(name):
                continue
            if part.value is not None:
                told[name] = part.value(rows)
            else:
                fresh, self._marks[name] = rows.since(part.tables[0], self._marks[name], **(part.equal or {}))
                if fresh or name not in self._versions:
                    told[name] = fresh
            self._versions[name], self._sent_s[name] = version, now_s
        if not (told or self._head) and (rows.clock_ms, trouble) == (self._clock_ms, self._trouble):
            return None
        self._clock_ms, self._trouble = rows.clock_ms, trouble
        head, self._head = self._head, {}
        frame = {**head, "clock_ms": rows.clock_ms, "sent_ms": time.time_ns() // 1_000_000, "trouble": trouble, "parts": told}
        return b"data: " + orjson.dumps(frame, option=orjson.OPT_NON_STR_KEYS) + b"\n\n"


class Stream:
    """An ASGI response that streams frames until the browser goes, stalls, or `is_over`.

    look   the rows now, and why nothing comes if nothing does
    """

    def __init__(
        self,
        framing: Framing,
        look: Callable[[], tuple[Rows, str | None]],
        is_over: Callable[[], bool],
        stalled_s: float = STALLED_S,
    ) -> None:
        self._framing, self._look, self._is_over, self._stalled_s = framing, look, is_over, stalled_s
        self.sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        gone = asyncio.ensure_future(_gone(receive))
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._frames(gone, send)
        except TimeoutError:
            return  # the browser takes nothing: uvicorn closes a response that was not completed
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b""})

    async def _frames(self, gone: "asyncio.Future[None]", send: Send) -> None:
        last_s = time.monotonic()
        while not gone.done() and not self._is_over():
            begun_s = time.monotonic()
            frame = await asyncio.to_thread(self._next, begun_s)
            if frame is None and begun_s - last_s >= ALIVE_S:
                frame = b": alive\n\n"
            if frame is not None:
                message: Message = {"type": "http.response.body", "body": frame, "more_body": True}
                await asyncio.wait_for(send(message), self._stalled_s)
                self.sent += 1
                last_s = begun_s
            left_s = FRAME_S - (time.monotonic() - begun_s)
            await asyncio.wait([gone], timeout=max(0.001, left_s))

    def _next(self, now_s: float) -> bytes | None:
        rows, trouble = self._look()
        return self._framing.frame(rows, trouble, now_s)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""The server of the page: Starlette and uvicorn, one process, no state but what the source keeps."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from deploy.processes import StartError
from deploy.topics import TopicError
from page import flow, views, webjar
from page.frames import STALLED_S, Framing, Stream
from page.guard import Access, Guard, names
from page.sources import Source

STATIC = Path(__file__).with_name("static")
MOST_STREAMS = 64
MOST_FORM = 4_096
WRONG_S = 1.0
"""How long a wrong token is answered later."""
FASTEST = 1_000.0
WAITING_BYTES = 131_072
"""Of each connection, in the buffer of the kernel.  By default it grows to some megabytes: a slow browser would get frames
that are seconds old."""


class Page:
    """The page as an ASGI application.

    stalled_s  how long a browser may take nothing
    """

    def __init__(self, source: Source, access: Access, stalled_s: float = STALLED_S) -> None:
        self.source, self._stalled_s = source, stalled_s
        self.streams: set[Stream] = set()
        self.is_ending = False
        self._catalogue = orjson.dumps(flow.catalogue())
        self._story = asyncio.Semaphore(1)  # one at a time: each reads whole topics
        routes = [
            Route("/", lambda _: RedirectResponse("/trader", 303)),
            *(Route(f"/{view}", lambda _: FileResponse(STATIC / "index.html")) for view in views.VIEWS),
            Route("/vendor/{file}", vendor),
            Route("/catalogue.json", lambda _: Response(self._catalogue, media_type="application/json")),
            Route("/stream/{view}", self._stream),
            Route("/story", self._told),
            Route("/login", self._login, methods=["GET", "POST"]),
        ]
        app = Starlette(routes=routes)
        app.mount("/static", StaticFiles(directory=STATIC))
        self.app = self._guard = Guard(app, access)

    async def _stream(self, request: Request) -> Any:
        query = request.query_params
        try:
            parts = views.wants(request.path_params["view"], query)
            at_ms = int(query["at"]) if "at" in query else None
            speed = float(query.get("speed", "0"))
        except (views.UnknownView, ValueError) as error:
            return PlainTextResponse(f"{error.args[0]}\n", 404 if isinstance(error, KeyError) else 400)
        if not 0 <= speed <= FASTEST or not (at_ms is None or 0 <= at_ms < 2**52):
            return PlainTextResponse(f"speed: expected 0 to {FASTEST:g}; at: ms since 1970\n", 400)
        if len(self.streams) >= MOST_STREAMS:
            return PlainTextResponse(f"{MOST_STREAMS} browsers look already\n", 503)
        framing = Framing(parts, self.source.head())
        look = self.source.looking(at_ms, speed)
        stream = Stream(framing, look, lambda: self.is_ending, self._stalled_s)

        async def answer(*call: Any) -> None:
            self.streams.add(stream)
            try:
                with self.source.watching(views.tables(parts)):
                    await stream(*call)
            finally:
                self.streams.discard(stream)

        return answer

    async def _told(self, request: Request) -> Response:
        query = request.query_params
        try:
            at_ms = int(query["at"]) if "at" in query else None
            async with self._story:
                story = await asyncio.to_thread(self.source.story, query.get("account", ""), at_ms)
        except (ValueError, TopicError) as error:
            return PlainTextResponse(f"{error}\n", 409)
        return Response(orjson.dumps(story), media_type="application/json")

    async def _login(self, request: Request) -> Response:
        if request.method == "GET":
            return HTMLResponse((STATIC / "login.html").read_text())
        if int(request.headers.get("content-length", "0") or 0) > MOST_FORM:
            return PlainTextResponse("too long\n", 413)
        given = parse_qs((await request.body())[:MOST_FORM].decode(errors="replace")).get("token", [""])[0]
        if self._guard.is_token(given.strip()):
            return self._guard.logged_in()
        await asyncio.sleep(WRONG_S)
        return HTMLResponse((STATIC / "login.html").read_text().replace("<!-- wrong -->", "That is not the token."), 401)


def vendor(request: Request) -> Response:
    """A file of a library."""
    file = webjar.files().get(request.path_params["file"])
    return PlainTextResponse("no such file\n", 404) if file is None else Response(file.content, media_type=file.media_type)


class Server(uvicorn.Server):
    """uvicorn, whose streams end as soon as it is asked to."""

    def __init__(self, page: Page, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._page = page

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End the streams: otherwise uvicorn waits for them."""
        self._page.is_ending = True
        super().handle_exit(sig, frame)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there, for port 0 at a free one.  Raises `StartError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=128)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WAITING_BYTES)
        return listening
    except OSError as error:
        raise StartError(f"port {port} of {host}: {error.strerror or error}; --port names another one") from error


def serve(
    source: Source,
    access: Access,
    listening: socket.socket,
    certificate: tuple[Path, Path] | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve the page until SIGINT or SIGTERM.

    certificate  the files of the certificate and its key
    ready        called before the first request is answered
    """
    page = Page(source, access)
    with listening:
        ready()
        Server(page, _config(page, certificate)).run(sockets=[listening])


@contextmanager
def serving(
    source: Source, token: str | None = None, stalled_s: float = STALLED_S, port: int = 0
) -> Iterator[tuple[Page, int]]:
    """Serve the page on this machine, in a thread, until the block ends; gives its port, too.  Raises `StartError`."""
    with bound("127.0.0.1", port) as listening:
        port = listening.getsockname()[1]
        page = Page(source, Access(names("127.0.0.1", port), token=token), stalled_s)
        server = Server(page, _config(page))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="page", daemon=True)
        thread.start()
        try:
            yield page, port
        finally:
            page.is_ending = server.should_exit = True
            thread.join(timeout=10)


def _config(page: Page, certificate: tuple[Path, Path] | None = None) -> uvicorn.Config:
    cert, key = certificate or (None, None)
    return uvicorn.Config(
        page.app,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=30,
        limit_concurrency=4 * MOST_STREAMS,
        ssl_certfile=cert,
        ssl_keyfile=key,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
        h11_max_incomplete_event_size=65_536,
    )

"""Who may look: the addresses that the page answers to, the token, and what a browser may do with what it gets."""

import hmac
import secrets
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "gammaflow_page"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
OPEN = ("/login", "/static/page.css", "/static/icon.svg")
"""What is answered before anybody has logged in."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Access(NamedTuple):
    """Who may look.

    hosts   host:port that a request may name, in lower case: no other name leads here, whatever it resolves to
    scheme  http, or https with a certificate
    token   None: whoever reaches the page
    """

    hosts: Collection[str]
    scheme: str = "http"
    token: str | None = None


def names(host: str, port: int, more: Collection[str] = ()) -> set[str]:
    """What requests to a page at this address may call it."""
    known = {*LOOPBACK, *more} if host in ("127.0.0.1", "localhost", "::1") else {f"[{host}]" if ":" in host else host, *more}
    return {f"{name}:{port}".lower() for name in known} | {name.lower() for name in known if port in (80, 443)}


class Guard:
    """An ASGI application that lets only those requests through that `access` allows."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        headers, path = Headers(scope=scope), scope["path"]
        if headers.get("host", "").lower() not in self._access.hosts:
            await PlainTextResponse("This page does not go by that name.\n", 421)(scope, receive, sealed)
        elif not self._is_own(headers):
            await PlainTextResponse("Another site may not ask for this.\n", 403)(scope, receive, sealed)
        elif path in OPEN or self._is_known(headers):
            await self._app(scope, receive, sealed)
        elif headers.get("accept", "").startswith("text/html"):
            await RedirectResponse("/login", 303)(scope, receive, sealed)
        else:
            await PlainTextResponse("Log in first.\n", 401)(scope, receive, sealed)

    def _is_own(self, headers: Headers) -> bool:
        """Whether no other site makes the browser ask, as far as the browser says."""
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in {f"{self._access.scheme}://{host}" for host in self._access.hosts}:
            return False
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin") or headers.get("sec-fetch-mode") == "navigate"

    def _is_known(self, headers: Headers) -> bool:
        if self._access.token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.is_token(given)
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._session.encode())

    def is_token(self, given: str) -> bool:
        """Whether it is the token; told in the same time for every wrong one."""
        return self._access.token is not None and hmac.compare_digest(given.encode(), self._access.token.encode())

    def logged_in(self, location: str = "/") -> RedirectResponse:
        """The answer to whoever has given the token."""
        answer = RedirectResponse(location, 303)
        is_secure = self._access.scheme == "https"
        answer.set_cookie(COOKIE, self._session, httponly=True, samesite="strict", secure=is_secure, max_age=86_400)
        return answer

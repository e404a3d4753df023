"""How each venue wants a request to be signed: pure functions of the secret, the time and a nonce.

All are HMAC-SHA256 (RFC 2104) with the secret as key.  They differ in the signed text, and in how the digest is written.
"""

import hmac
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256

from feeds.private.keys import Secret


def deribit(secret: Secret, timestamp_ms: int, nonce: str, data: str = "") -> str:
    """The signature of a login over websocket: time, nonce and data, a line each, in hex.

    Source: docs.deribit.com, Authentication, "signature credentials (WebSocket API)".
    """
    return _digest(secret, f"{timestamp_ms}\n{nonce}\n{data}").hex()


def deribit_request(secret: Secret, timestamp_ms: int, nonce: str, path: str) -> str:
    """The signature of a GET over HTTP, whose path includes the query: in hex.

    Source: docs.deribit.com, Authentication, "Deribit signature credentials".
    """
    return deribit(secret, timestamp_ms, nonce, f"GET\n{path}\n\n")


def binance(secret: Secret, query: str) -> str:
    """The signature of the query of a request: in hex.

    Source: Binance Spot API docs, "SIGNED Endpoint security".
    """
    return _digest(secret, query).hex()


def binance_query(params: Mapping[str, str | int]) -> str:
    """The signed text of a websocket request: its parameters by name, `name=value` joined by &.

    Source: Binance Spot WebSocket API docs, "SIGNED request security", step 1.
    """
    return "&".join(f"{name}={params[name]}" for name in sorted(params))


def okx(secret: Secret, timestamp: int | str, method: str = "GET", path: str = "/users/self/verify", body: str = "") -> str:
    """The signature of a login over websocket (seconds; this method and path) or of an HTTP request (ISO 8601): in Base64.

    Source: OKX API v5 docs, WebSocket, "Login", and "REST Authentication".
    """
    return b64encode(_digest(secret, f"{timestamp}{method}{path}{body}")).decode()


def bybit(secret: Secret, expires_ms: int) -> str:
    """The signature of a login over websocket that is valid until `expires_ms`: in hex.

    Source: Bybit API v5 docs, WebSocket, "Authentication".
    """
    return _digest(secret, f"GET/realtime{expires_ms}").hex()


def bybit_request(secret: Secret, timestamp_ms: int, key: str, window_ms: int, query: str) -> str:
    """The signature of a GET over HTTP that is valid for `window_ms`: in hex.

    Source: Bybit API v5 docs, "Authentication".
    """
    return _digest(secret, f"{timestamp_ms}{key}{window_ms}{query}").hex()


def _digest(secret: Secret, text: str) -> bytes:
    return hmac.digest(secret.reveal().encode(), text.encode(), sha256)

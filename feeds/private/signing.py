"""How each venue wants a request signed: pure functions of the secret, and of a time and a nonce that are passed in.

All are HMAC-SHA256 (RFC 2104) with the secret as key; they differ in what is signed, and in how the digest is written.
"""

import hmac
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256

from feeds.private.keys import Secret


def deribit(secret: Secret, timestamp_ms: int, nonce: str, data: str = "") -> str:
    """Of a login over websocket: hex of time, nonce and data, a line each.

    Source: docs.deribit.com, Authentication, "signature credentials (WebSocket API)".
    """
    return _digest(secret, f"{timestamp_ms}\n{nonce}\n{data}").hex()


def binance(secret: Secret, query: str) -> str:
    """Of the parameters of a request, as they are sent in its query: hex.

    Source: Binance Spot API docs, "SIGNED Endpoint security".
    """
    return _digest(secret, query).hex()


def binance_query(params: Mapping[str, str | int]) -> str:
    """The parameters of a websocket request as they are signed: by name, `name=value` joined by &.

    Source: Binance Spot WebSocket API docs, "SIGNED request security", step 1.
    """
    return "&".join(f"{name}={params[name]}" for name in sorted(params))


def okx(secret: Secret, timestamp_s: int, method: str = "GET", path: str = "/users/self/verify", body: str = "") -> str:
    """Of a login over websocket, whose method and path are these, or of a REST request: Base64.

    Source: OKX API v5 docs, WebSocket, "Login".
    """
    return b64encode(_digest(secret, f"{timestamp_s}{method}{path}{body}")).decode()


def bybit(secret: Secret, expires_ms: int) -> str:
    """Of a login over websocket that holds until `expires_ms`: hex.

    Source: Bybit API v5 docs, WebSocket, "Authentication".
    """
    return _digest(secret, f"GET/realtime{expires_ms}").hex()


def _digest(secret: Secret, text: str) -> bytes:
    return hmac.digest(secret.reveal().encode(), text.encode(), sha256)

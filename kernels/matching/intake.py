"""What a request asks for: the words of rows of `orders`, checked."""

from collections.abc import Collection, Mapping
from typing import Any

from kernels.matching.side import BUY, SELL
from schemas.rows import to_ms

SIDES = {"buy": BUY, "sell": SELL}
IMMEDIATE = frozenset({"ioc", "fok"})
TIMES = IMMEDIATE | {"gtc", "gtd", "day", "post_only"}
DAY_MS = 24 * 60 * 60 * 1000


def word(row: Mapping[str, Any], column: str, known: Collection[str]) -> str:
    """The word of a column.  Raises `ValueError` where it is none of these."""
    given: str = row.get(column) or ""
    if given in known:
        return given
    raise ValueError(f"{column}: expected {', '.join(sorted(known))}, got {row.get(column)}")


def expiry(row: Mapping[str, Any], time_in_force: str, now_ms: int) -> int | None:
    """When an order ends by itself: gtd, and post-only if it says so, at its own instant; day at midnight UTC."""
    if time_in_force == "day":
        return (now_ms // DAY_MS + 1) * DAY_MS
    expires_at = row.get("expires_at")
    if time_in_force not in ("gtd", "post_only") or (time_in_force == "post_only" and expires_at is None):
        return None
    if expires_at is None or to_ms(expires_at) <= now_ms:
        raise ValueError(f"expires_at: expected an instant to come, got {expires_at}")
    return to_ms(expires_at)

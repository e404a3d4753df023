"""What a venue wants to hear: a `Session` is all that is said on its public connections, as data and pure functions.

The loop that says it (feeds/live.py) is the same for every venue.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import orjson

Item = TypeVar("Item")
Request = Mapping[str, Any]
"""A message to a venue, sent as JSON."""


class Ask(NamedTuple):
    """A question over HTTP; its answer is read by the adapter's `parse`."""

    url: str
    body: bytes | None = None  # JSON of a POST; None: a GET


@dataclass(frozen=True)
class Limits:
    """What a venue allows."""

    requests_per_s: float = 5.0  # messages to it, on one connection
    symbols_per_connection: int = 50
    asks_per_s: float = 5.0  # questions over HTTP, from one address


@dataclass(frozen=True)
class Session:
    """What is said to one market of a venue.

    subscribe    asks for books, trades, tickers and status of these symbols, in the venue's own batches
    unsubscribe  takes that back
    resubscribe  asks for one book anew, where the stream itself sends whole books; nothing elsewhere
    snapshot     where the whole book of a symbol is asked for beside the stream; None where the stream sends it
    listings     the questions whose answers list every contract of the market
    opening      sent first at each connection
    reply        what a message wants to hear back, such as a heartbeat
    refusal      why the venue refuses what it was asked, where a message says that it does: its own words
    ping         a text that the venue wants to hear every `ping_s`, or it hangs up
    symbols      those of a market that has no listings
    poll         the question over HTTP whose answer has the news of these symbols, for a market without a stream: it is asked
                 again and again, as often as `limits` allow
    """

    venue: str  # as in `feeds.venues.VENUES`
    market: str  # as in the rows: binance_spot
    url: str
    subscribe: Callable[[Sequence[str]], Sequence[Request]]
    unsubscribe: Callable[[Sequence[str]], Sequence[Request]]
    listings: Sequence[Ask] = ()
    resubscribe: Callable[[str], Sequence[Request]] = lambda symbol: ()
    snapshot: Callable[[str], Ask | None] = lambda symbol: None
    opening: Sequence[Request] = ()
    reply: Callable[[bytes], Request | None] = lambda message: None
    refusal: Callable[[bytes], str | None] = lambda message: None
    ping: str | None = None
    ping_s: float = 20.0
    symbols: Sequence[str] = ()
    poll: Callable[[Sequence[str]], Ask] | None = None
    limits: Limits = field(default_factory=Limits)


def batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in their order, `size` at a time: what a venue takes in one request."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def object_in(message: bytes) -> dict[str, Any]:
    """The JSON object in a message; an empty one if the message is no JSON object."""
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}

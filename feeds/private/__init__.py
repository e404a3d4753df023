"""An account's own orders and executions, from the venues' private channels.

A venue's module has `parse(message, received, account)`, which is pure, and `session(keys, account)`, which tells what is said
on the connection.  What is told of a trade becomes a row of `execution_reports` and one of `fills`, by which the account is
booked; what is told of an order becomes a row of `execution_reports` alone, and never adds to what is traded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from feeds import Received, Record, Rejected
from feeds.session import Limits, Request


class Signed(NamedTuple):
    """A question over HTTP that is asked with a key."""

    method: str
    url: str
    headers: Mapping[str, str]  # hold the key

    def __repr__(self) -> str:
        return f"Signed({self.method} {self.url})"


@dataclass(frozen=True)
class PrivateSession:
    """What is said for one account to one market of a venue.  What `login` and `address` give holds secrets: never log it.

    parse       the records in a message
    login       sent first at each connection, given the time (ms)
    admitted    whether a message says that the login holds: then it is time to subscribe
    subscribe   asks for orders and executions
    opening     sent with the subscriptions
    reply       what a message wants to hear back, such as a heartbeat
    refusal     why the venue refuses what it was asked, where a message says that it does: its own words
    is_over     whether a message says that the venue sends no more on this connection: then connect anew
    ping        a text that the venue wants to hear every `ping_s`, or it hangs up
    ticket      asked before each connection, where the venue wants that; `address` reads its answer
    renewal     asked every `renewal_s` as long as the connection stands, or the ticket expires
    """

    venue: str  # as in `feeds.venues.VENUES`
    market: str  # as in the rows, where all are of one market: binance_spot; else the venue
    account: str
    url: str  # without a secret: for logs and `Received.url`
    parse: Callable[[bytes, Received], Sequence[Record | Rejected]]
    login: Callable[[int], Sequence[Request]] = lambda now_ms: ()
    admitted: Callable[[bytes], bool] = lambda message: False
    subscribe: Callable[[], Sequence[Request]] = lambda: ()
    opening: Sequence[Request] = ()
    reply: Callable[[bytes], Request | None] = lambda message: None
    refusal: Callable[[bytes], str | None] = lambda message: None
    is_over: Callable[[bytes], bool] = lambda message: False
    ping: str | None = None
    ping_s: float = 20.0
    ticket: Signed | None = None
    address: Callable[[bytes], str] | None = None  # of the answer to `ticket`; raises `Rejected`
    renewal: Signed | None = None
    renewal_s: float = 1800.0
    limits: Limits = field(default_factory=Limits)

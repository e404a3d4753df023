"""An account's own orders and executions, from the venues' private channels.

A venue's module has two functions.  `parse(message, received, account)` is pure: a raw message in, records out.
`session(keys, account)` says how to speak on the connection; feeds/private/service.py is the loop that speaks it.

A trade becomes a row of `execution_reports` and a row of `fills`, which books the account.  A change of an order becomes only a
row of `execution_reports`: it never adds to the traded size.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from feeds import Received, Record, Rejected
from feeds.session import Limits, Request


class Signed(NamedTuple):
    """An HTTP request that is made with a key.  Headers and query are secret and never shown."""

    method: str
    url: str  # without its query
    headers: Mapping[str, str]
    query: str = ""  # as it was signed, in percent encoding

    def __repr__(self) -> str:
        return f"Signed({self.method} {self.url})"


class Refusal(NamedTuple):
    """A request that a venue refuses."""

    words: str  # the venue's own
    wait_s: float | None = None  # if the refusal passes: how long to wait before the next request; None if it is final


Question = Callable[[int], Signed]
"""An HTTP request, still to be signed for the time (ms) at which it is sent."""

History = Generator[Question, bytes, None]
"""Requests for executions of the past: it yields a request, is sent the response, and yields the next page."""


def no_history(since_ms: int, until_ms: int, symbols: Sequence[str]) -> History:
    """The history of a venue that has none."""
    yield from ()


@dataclass(frozen=True)
class PrivateSession:
    """How to speak for one account with one market of a venue.  Never log what `login` and `address` return: it has secrets.

    parse       the records in a message, or in a response to a request of `missed`
    login       sent first on each connection, given the time (ms); without any the address is the login
    admitted    whether a message says that the login succeeded: then it is time to subscribe
    refresh     if a message says that the login expires: after how many seconds to send which request
    subscribe   requests orders and executions; without any the login is the subscription
    subscribed  whether a message says that the subscription is in force
    opening     sent with the subscriptions
    reply       the reply to a message such as a heartbeat
    refusal     the refusal in a message or HTTP response
    is_over     whether a message says that the venue sends no more on this connection: then connect again
    ping        a text that the venue expects every `ping_s` seconds, or it hangs up
    silence_s   a connection that is silent for so long is lost; None if the venue may be silent for any time
    ticket      requested before each connection, for a venue with tickets; `address` reads the response
    renewal     requested every `renewal_s` while the connection is open, or the ticket expires
    missed      requests executions from one time (ms) to another; the symbols are for a venue that answers for one symbol only
    """

    venue: str  # as in `feeds.venues.VENUES`
    market: str  # as in the rows, if all are of one market: binance_spot; else the venue
    account: str
    url: str  # without a secret: for logs and `Received.url`
    parse: Callable[[bytes, Received], Sequence[Record | Rejected]]
    login: Callable[[int], Sequence[Request]] = lambda now_ms: ()
    admitted: Callable[[bytes], bool] = lambda message: False
    refresh: Callable[[bytes], tuple[float, Request] | None] = lambda message: None
    subscribe: Callable[[], Sequence[Request]] = lambda: ()
    subscribed: Callable[[bytes], bool] = lambda message: False
    opening: Sequence[Request] = ()
    reply: Callable[[bytes], Request | None] = lambda message: None
    refusal: Callable[[bytes], Refusal | None] = lambda message: None
    is_over: Callable[[bytes], bool] = lambda message: False
    ping: str | None = None
    ping_s: float = 20.0
    silence_s: float | None = 60.0
    ticket: Signed | None = None
    address: Callable[[bytes], str] | None = None  # raises `Rejected`
    renewal: Signed | None = None
    renewal_s: float = 1800.0
    missed: Callable[[int, int, Sequence[str]], History] = no_history
    needs_symbols: bool = False  # whether `missed` answers for one symbol only
    limits: Limits = field(default_factory=Limits)

"""Venues into Kafka.  An adapter is a module with one pure function, `parse`: a raw message in, records out."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from feeds.session import Session
from schemas.rows import Fault


class Record(NamedTuple):
    """One row for a topic, not yet written."""

    table: str
    event_ms: int  # exchange time; less the venue's offset (feeds/clocks.py) it becomes the Kafka record timestamp
    row: Mapping[str, Any]


class Received(NamedTuple):
    """What the receiver knows of a message beside its bytes."""

    received_us: int  # receiver's clock
    newest_event_ms: int | None  # the newest exchange time seen on this connection, for messages that carry none
    symbol: str | None  # the one symbol that this connection has shown, for messages that name none; None if several
    url: str | None = None  # the address that the message answers a request to, or that of its connection, where it is known


class Rejected(ValueError):
    """A message that cannot be used, or one item of it: the field at fault, what was expected there, and what stood there."""

    def __init__(self, field: str | None, expected: str, got: str | None, item: bytes | None = None) -> None:
        super().__init__(f"{field or 'message'}: expected {expected}, got {got}")
        self.fault = Fault(field, expected, got)
        self.item = item  # JSON of the item that is at fault, where the rest of its message can be used


class Adapter(Protocol):
    """What a venue module offers."""

    @staticmethod
    def parse(message: bytes, received: Received) -> Sequence[Record | Rejected]:
        """The records in one raw message; none for an acknowledgement or heartbeat.

        An item that cannot be used stands among them as `Rejected`.  Raises `Rejected` where the whole message cannot be used.
        """

    @staticmethod
    def describe(venue: str, symbol: str, received: Received) -> Record | None:
        """The contract terms that a symbol's name alone tells, as an `instruments` record; None where it tells none."""

    MARKETS: Sequence[str]
    """Its markets, as the rows name them: binance_spot."""

    @staticmethod
    def session(market: str, *, url: str | None = None, rest_url: str | None = None) -> Session:
        """What is said to a market of `MARKETS`; `url` and `rest_url` replace the venue's own addresses.  Raises `KeyError`."""

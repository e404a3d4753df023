"""Rows, messages and desks for tests of the gateway: no Java, no broker."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from feeds import Record
from gateway import Message, message
from gateway.config import Client, Gateway, Venue
from gateway.reports import from_timestamp
from gateway.venue import VenueDesk
from schemas.records import TABLES
from schemas.rows import instant_ms

NOW = "20261130-12:00:00.000"
NOW_US = from_timestamp(NOW)


def blank(table: str, **values: Any) -> dict[str, Any]:
    """A row with NULL in every other column."""
    return dict.fromkeys(TABLES[table].columns) | values


def order(name: str = "o1", kind: str = "new", **values: Any) -> dict[str, Any]:
    """A row of `orders`; `age_ms` is how old it is."""
    age_ms = values.pop("age_ms", 0)
    is_cancel = kind == "cancel"
    row = {
        "venue": "exch",
        "instrument": "BTC-PERP",
        "instrument_partition": 0,
        "event_at": instant_ms(NOW_US // 1000 - age_ms),
        "account": "desk",
        "number": 1,
        "client_order_id": name,
        "request": kind,
        "source": "algorithm",
        "owner_group": "desk",
        "side": "buy",
        "order_type": None if is_cancel else "limit",
        "time_in_force": None if is_cancel else "gtc",
        "price": None if is_cancel else "100.5",
        "quantity": None if is_cancel else "3",
        "is_reduce_only": None if is_cancel else False,
    }
    return blank("orders", **(row | values))


def state(event: str = "new", number: int = 1, *, key: str = "k1", **values: Any) -> dict[str, Any]:
    """A row of `order_states`."""
    row = {
        "account": "desk",
        "venue": "exch",
        "instrument": "BTC-PERP",
        "event_at": instant_ms(NOW_US // 1000),
        "order_key": key,
        "number": number,
        "client_order_id": key,
        "cause": "report",
        "cause_id": f"exch:20261130:x{number}:buy",
        "event": event,
        "from_status": "pending_new",
        "order_status": "new",
        "side": "buy",
        "price": "100.5",
        "quantity": "3",
        "cum_quantity": "0",
        "leaves_quantity": "3",
        "reserved_usd": 0.0,
    }
    return blank("order_states", **(row | values))


def report(
    exec_id: str = "x1", kind: str = "0", status: str = "0", name: str = "o1", further: Mapping[int, str | None] | None = None
) -> Message:
    """An ExecutionReport of a venue."""
    fields: dict[int, str | None] = {37: "v1", 11: name, 17: exec_id, 150: kind, 39: status, 55: "BTC-PERP", 54: "1", 38: "3"}
    fields |= {151: "3", 14: "0", 6: "0", 60: NOW}
    return message("8", (fields | dict(further or {})).items())


def trade(exec_id: str = "x2", name: str = "o1", **further: str) -> Message:
    """A report of a trade of 1 at 100.5, of an order of 3, with its fee."""
    fields = {32: "1", 31: "100.5", 14: "1", 151: "2", 6: "100.5", 12: "0.02", 13: "3"}
    return report(exec_id, "F", "1", name, fields | {int(tag.removeprefix("t")): value for tag, value in further.items()})


def venue(**values: Any) -> Venue:
    """The session of a venue, as its file would have it."""
    return Venue.model_validate(
        {"name": "exch", "sender": "DESK", "target": "EXCH", "connect": ["127.0.0.1:9"], "venue": "exch"} | values
    )


def client(**values: Any) -> Client:
    """The session of a client, as its file would have it."""
    own = {
        "name": "alice",
        "sender": "HOUSE",
        "target": "ALICE",
        "accept": "127.0.0.1:9",
        "accounts": ["desk"],
        "venue": "exch",
    }
    return Client.model_validate(own | values)


def gateway(store: Path, **sessions: Iterable[Mapping[str, Any]]) -> Gateway:
    """A gateway's file."""
    return Gateway.model_validate({"name": "test", "store": store, "settle_ms": 10, **sessions})


class Desk:
    """A venue's desk, with what it publishes and sends, and a clock to be set."""

    def __init__(self, **values: Any) -> None:
        self.records: list[Record] = []
        self.sent: list[Message] = []
        self.now_us = NOW_US
        self.takes = True
        self.desk = VenueDesk(venue(**values), self.records.append, self._send, lambda: self.now_us)

    def _send(self, found: Message) -> int:
        self.sent.append(found)
        return len(self.sent) if self.takes else 0

    def hear(self, *messages: Message) -> None:
        for found in messages:
            self.desk.message(found, self.now_us)

    def rows(self, table: str) -> list[Mapping[str, Any]]:
        return [record.row for record in self.records if record.table == table]

    def kinds(self) -> list[str]:
        return [found.kind for found in self.sent]

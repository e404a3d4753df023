"""The loop of a gateway: rows to sessions, messages to topics, one thing after the other.

Nothing is lost in a crash.  What a session brings counts as received once Kafka has acknowledged what followed from it: a run
that starts expects the other messages again, and the other side resends them.  What a client is told stands in the store of its
session before the position in `order_states` moves on.  So both may come twice inside, and each is told once outside.
"""

import base64
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from feeds import Record, Rejected
from gateway import SOH, Message
from gateway.clients import ClientDesk, Executions, RiskDesk
from gateway.config import Gateway, Session
from gateway.engine import Engine, State
from gateway.kafka import Positions, Row, Sink, Source
from gateway.ledger import Ledger
from gateway.once import Once, Recent
from gateway.venue import VenueDesk
from schemas.records import DeadLettersRow
from schemas.rows import instant_ms, shown

TICK_S = 0.01
_FIRST = ("orders", "execution_reports", "fills", "venue_reports", "order_states")
"""The order in which the tables of the past are taken: an order before what is said of it."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What is counted of a session."""

    messages_in: int = 0
    messages_out: int = 0
    logons: int = 0
    logouts: int = 0
    rejected: int = 0  # messages that could not be used
    newest_us: int | None = None  # receipt of the newest message


def tables_of(gateway: Gateway) -> dict[str, bool]:
    """The tables that a gateway reads, and whether it goes on to read them when it has read those of the past."""
    tells = bool(gateway.client or gateway.risk)
    tables = {"orders": True, "fills": False} if gateway.venue else {}
    return tables | {"execution_reports": tells} | ({"venue_reports": True, "order_states": True} if tells else {})


@dataclass
class Service:
    """A gateway.

    jars    the class path of QuickFIX/J
    now_us  the clock, in microseconds since 1970
    """

    gateway: Gateway
    jars: Sequence[Path]
    sink: Sink
    source: Source
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    counts: dict[str, Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gateway = self.gateway
        self._inbox: queue.SimpleQueue[tuple[str, str, Message | None] | Row] = queue.SimpleQueue()
        self.counts = {session.name: Counts() for session in gateway.sessions}
        self.engine = Engine(gateway, self.jars, lambda *happened: self._inbox.put(happened))
        self._settled = Positions(gateway.store / "settled.json")  # by session: the first message that is not safe
        self._told = Positions(gateway.store / "told.json")
        self._states: dict[str, int] = {}  # and the newest row of each partition of order_states
        once = {venue.venue: Once() for venue in gateway.venue}
        self.venues = {
            own.name: VenueDesk(own, self.sink.publish, self._sender(own), self.now_us, once[own.venue])
            for own in gateway.venue
        }
        self._copies = {own.name: (self.venues[own.of_venue], own) for own in gateway.drop_copy}
        executions = self._executions = Executions()
        self.clients = {
            own.name: ClientDesk(
                own,
                self.sink.publish,
                self._sender(own),
                self.now_us,
                Ledger(gateway.store / f"{own.name}.names"),
                Recent(dict.fromkeys(self.engine.sent(own.name, 17), "")),
                executions,
            )
            for own in gateway.client
        }
        self.risks = {
            own.name: RiskDesk(own, self._sender(own), Recent(dict.fromkeys(self.engine.sent(own.name, 17), "")), executions)
            for own in gateway.risk
        }
        self._is_on: dict[str, bool] = {}
        self._settle_us = 0

    def run(self, stop: threading.Event, tick: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop` is set; `tick` is called again and again.  Raises `EngineError`, `PublishError`."""
        try:
            self._begin()
            while not stop.is_set():
                self.turn()
                tick()
        finally:
            self.engine.stop()
            self.source.close()
            self._settle()
            for client in self.clients.values():
                client.ledger.close()

    def turn(self, wait_s: float = TICK_S) -> None:
        """Take what has come, and do what is due."""
        with suppress(queue.Empty):
            self._take(self._inbox.get(timeout=wait_s))
        self._drain()
        for venue in self.venues.values():
            venue.tick()
        self.sink.tick()
        if self.now_us() >= self._settle_us:
            self._settle_us = self.now_us() + self.gateway.settle_ms * 1000
            self._settle()

    def state(self, name: str) -> State:
        """How a session is."""
        return self.engine.state(name)

    def _begin(self) -> None:
        backlog = sorted(self.source.backlog(), key=lambda row: _FIRST.index(row.table))
        later: list[Row] = []
        for row in backlog:
            told = self._told.get(str(row.partition))
            is_new = row.table == "order_states" and not self._told.is_first and row.offset >= (told or 0)
            if is_new:
                later.append(row)
            else:
                self._take_row(row, is_backlog=True)
        for name in [*self.venues, *self.clients, *self._copies]:
            if (number := self._settled.get(name)) is not None:
                self.engine.expect(name, number)
        self.engine.start()
        for row in later:
            self._take_row(row)
        self._settle()
        self.source.follow(self._inbox.put)

    def _drain(self) -> None:
        for _ in range(self._inbox.qsize()):
            self._take(self._inbox.get())

    def _take(self, event: tuple[str, str, Message | None] | Row) -> None:
        if isinstance(event, Row):
            self._take_row(event)
            return
        name, what, found = event
        if what in ("logon", "logout"):
            self._changed(name, what == "logon")
        elif what == "declined" and found is not None:
            self.venues[name].gap_filled(found)
        elif found is not None:
            self._take_message(name, found)

    def _changed(self, name: str, is_on: bool) -> None:
        counts, was_on = self.counts[name], self._is_on.get(name, False)
        self._is_on[name] = is_on
        counts.logons += is_on
        counts.logouts += was_on and not is_on
        _log.info("%s: %s", name, "logged on" if is_on else "logged out")
        if name in self.venues:
            venue = self.venues[name]
            if is_on:
                venue.logged_on()
            else:
                venue.logged_out()
        elif name in self.clients and not is_on:
            self.clients[name].logged_out(was_on)

    def _take_message(self, name: str, found: Message) -> None:
        counts, received_us = self.counts[name], self.now_us()
        counts.messages_in += 1
        counts.newest_us = received_us
        try:
            if name in self.venues:
                self.venues[name].message(found, received_us)
            elif name in self._copies:
                venue, copy = self._copies[name]
                venue.message(found, received_us, copy)
            elif name in self.clients:
                self.clients[name].message(found)
        except Rejected as rejected:
            counts.rejected += 1
            self._letter(name, found, rejected)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            # One odd message costs its neighbours nothing.
            _log.exception("%s: a message that cannot be used", name)
            counts.rejected += 1
            self._letter(name, found, Rejected(None, "a message of FIX as it is documented", shown(str(error))))

    def _take_row(self, row: Row, is_backlog: bool = False) -> None:
        own = row.row
        if row.table == "orders":
            for venue in self.venues.values():
                if venue.is_ours(own):
                    venue.order(own, is_backlog)
        elif row.table == "order_states":
            for client in self.clients.values():
                client.state(own, is_backlog)
            for risk in self.risks.values():
                risk.state(own, is_backlog)
            self._states[str(row.partition)] = row.offset + 1
        else:
            if row.table != "fills":
                self._executions.report(own)
            if is_backlog and row.table in ("execution_reports", "fills"):
                for venue in self.venues.values():
                    venue.told_before(row.table, own)

    def _settle(self) -> None:
        """What has been taken is safe from now on."""
        # A session counts a message after it has been put into the inbox: all below these numbers are taken then.
        numbers = {name: self.engine.state(name).next_in for name in (*self.venues, *self.clients, *self._copies)}
        self._drain()
        self.sink.settle()
        for name, number in numbers.items():
            if number:
                self._settled.set(name, number)
        for partition, offset in self._states.items():
            self._told.set(partition, offset)
        self._settled.write()
        self._told.write()

    def _sender(self, session: Session) -> Callable[[Message], int]:
        def send(found: Message) -> int:
            number = self.engine.send(session.name, found)
            self.counts[session.name].messages_out += number > 0
            return number

        return send

    def _letter(self, name: str, found: Message, rejected: Rejected) -> None:
        text = SOH.join([f"35={found.kind}", *(f"{tag}={value}" for tag, value in found.pairs)])
        fault, at_ms = rejected.fault, self.now_us() // 1000
        row: DeadLettersRow = {
            "source": f"fix:{self.gateway.name}:{name}",
            "partition": None,
            "offset": found.number,
            "event_at": instant_ms(at_ms),
            "field": fault.field,
            "expected": fault.expected,
            "got": fault.got,
            "original": base64.b64encode(text.encode()).decode(),
        }
        self.sink.publish(Record("dead_letters", at_ms, row))


def kind_of(gateway: Gateway, session: Session) -> str:
    """venue, drop_copy, client or risk."""
    return next(kind for kind in ("venue", "drop_copy", "client", "risk") if session in getattr(gateway, kind))

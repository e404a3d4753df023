"""What a gateway says of its sessions: in the topic `gateway_sessions`, and to Prometheus."""

import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feeds import Record
from feeds.metrics import ALIVE_S
from feeds.status import EVERY_S, VERSION
from gateway.config import Session
from gateway.service import Service, kind_of
from schemas.records import GatewaySessionsRow
from schemas.rows import instant_ms, instant_us


@dataclass
class SessionStatus:
    """Writes how each session is, every `EVERY_S`, and how it ended."""

    service: Service
    started_us: int = field(default_factory=lambda: time.time_ns() // 1000)
    _written_s: float = 0.0

    def tick(self) -> None:
        """Write where it is time."""
        if time.monotonic() >= self._written_s + EVERY_S:
            self._written_s = time.monotonic()
            for row in self.rows():
                self._write(row)

    def end(self, state: str, reason: str | None = None) -> None:
        """Write how it ended."""
        for row in self.rows():
            self._write(row | {"state": state, "reason": reason})

    def rows(self) -> list[GatewaySessionsRow]:
        """How each session is now."""
        return [self._row(session) for session in self.service.gateway.sessions]

    def _row(self, session: Session) -> GatewaySessionsRow:
        service, now_us = self.service, self.service.now_us()
        counts, state = service.counts[session.name], service.state(session.name)
        venue = service.venues.get(session.name)
        return {
            "gateway": service.gateway.name,
            "session": session.name,
            "kind": kind_of(service.gateway, session),
            "counterparty": f"{session.begin} {session.sender} to {session.target}",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": VERSION,
            "started_at": instant_ms(self.started_us // 1000),
            "event_at": instant_ms(now_us // 1000),
            "state": "logged_on" if state.is_on else "waiting" if state.is_time else "closed",
            "reason": None,
            "next_out": state.next_out,
            "next_in": state.next_in,
            "messages_in": counts.messages_in,
            "messages_out": counts.messages_out,
            "orders_held": venue.held() if venue else 0,
            "orders_unknown": venue.unknown() if venue else 0,
            "newest_at": None if counts.newest_us is None else instant_us(counts.newest_us),
        }

    def _write(self, row: GatewaySessionsRow) -> None:
        self.service.sink.publish(Record("gateway_sessions", self.service.now_us() // 1000, row))


class GatewayMetrics(Collector):
    """The metrics of a gateway, read when they are asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Every metric, with its value now."""
        service = self._service
        sessions = service.gateway.sessions
        states = {session.name: service.state(session.name) for session in sessions}
        counts = service.counts
        is_due = {name: float(state.is_time and not state.is_on) for name, state in states.items()}
        yield self._gauge("session_up", "Whether a session is logged on", {n: float(s.is_on) for n, s in states.items()})
        yield self._gauge("session_missing", "Whether its schedule wants a session that is not logged on", is_due)
        yield self._gauge("next_out", "MsgSeqNum of the next message sent", {n: float(s.next_out) for n, s in states.items()})
        yield self._gauge("next_in", "MsgSeqNum of the next message expected", {n: float(s.next_in) for n, s in states.items()})
        for name, text in (
            ("messages_in", "Messages of applications received"),
            ("messages_out", "Messages of applications sent"),
            ("logons", "Logons"),
            ("logouts", "Connections that ended after a logon"),
            ("rejected", "Messages that could not be used: they are in dead_letters"),
        ):
            yield self._counter(name, text, {own: float(getattr(count, name)) for own, count in counts.items()})
        venues, clients = service.venues, service.clients
        yield self._gauge("orders_held", "Orders that wait to be sent", {n: float(v.held()) for n, v in venues.items()})
        yield self._gauge("orders_unknown", "Orders of unknown fate", {n: float(v.unknown()) for n, v in venues.items()})
        yield self._counter("orders_stale", "Orders reported as not sent", {n: float(v.stale) for n, v in venues.items()})
        yield self._counter("declined", "Stale messages gap-filled", {n: float(v.declined) for n, v in venues.items()})
        yield self._counter("repeats", "Reports that came again", {n: float(v.once.repeats) for n, v in venues.items()})
        yield self._counter("refusals", "Requests refused at once", {n: float(c.refusals) for n, c in clients.items()})

    def _gauge(self, name: str, text: str, values: dict[str, float]) -> Metric:
        return self._filled(GaugeMetricFamily(f"gammaflow_gateway_{name}", text, labels=["gateway", "session"]), values.items())

    def _counter(self, name: str, text: str, values: dict[str, float]) -> Metric:
        return self._filled(
            CounterMetricFamily(f"gammaflow_gateway_{name}", text, labels=["gateway", "session"]), values.items()
        )

    def _filled(
        self, family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[str, float]]
    ) -> GaugeMetricFamily | CounterMetricFamily:
        for session, value in values:
            family.add_metric([self._service.gateway.name, session], value)
        return family


@dataclass
class GatewayHealth:
    """Whether a gateway is alive, and whether every session that its schedule wants is logged on."""

    service: Service
    ticked_s: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Say, from the loop, that it runs."""
        self.ticked_s = time.monotonic()

    def status(self, path: str) -> int | None:
        """The HTTP status of a question; None where it is none about health."""
        if path == "/live":
            return 200 if time.monotonic() - self.ticked_s < ALIVE_S else 503
        if path == "/ready":
            states = [self.service.state(session.name) for session in self.service.gateway.sessions]
            return 200 if all(state.is_on or not state.is_time for state in states) else 503
        return None

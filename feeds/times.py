"""The time of several writers of feed topics.

Each writer reports the time up to which its rows are in the log.  The common time is the minimum over the writers that are
alive.  It depends only on the reports, their order, and the broker's timestamps on them: every reader of the same reports
computes the same time.
"""

import logging
import socket
import uuid
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Producer

from schemas.clients import Unreachable, reached
from schemas.rows import instant_ms, to_ms
from schemas.security import FEED, manner

TOPIC = "feed_times.v1"
"""All reports are in its first partition: schemas/_feed_times.sql."""
PARTITION = 0
JOINS, LIVES, LEAVES, TOLD = "joins", "lives", "leaves", "told"
"""The kinds of reports: the first three come from writers, the last one from the keeper."""
DEAD_MS = 5_000
"""How long a writer may be silent, by the broker's clock, before the keeper no longer waits for it."""
FAR_MS = 60_000
"""How far a writer may be behind the broker's clock before the keeper no longer waits for it.  A row advances the watermark at
this distance in any case (schemas/_connectors.sql)."""
JOIN_MS = 5_000
"""A writer joins at its clock less this: the time must not pass the first rows that it will write."""

_log = logging.getLogger(__name__)


class Report(NamedTuple):
    """A row of the topic."""

    writer: str
    kind: str
    time_ms: int


def encoded(report: Report) -> bytes:
    """A report as it stands in the topic."""
    return orjson.dumps({"writer": report.writer, "kind": report.kind, "event_at": instant_ms(report.time_ms)})


def parsed(value: bytes | None) -> Report | None:
    """The report in a record; None for what is none."""
    try:
        row = orjson.loads(value or b"")
        report = Report(row["writer"], row["kind"], to_ms(row["event_at"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    return report if report.kind in (JOINS, LIVES, LEAVES, TOLD) else None


def writer_name(subject: str) -> str:
    """A name that no other process has, nor the same one once it has been started again."""
    return f"{subject} {socket.gethostname()} {uuid.uuid4().hex[:8]}"


class Reporter:
    """Sends reports."""

    def __init__(self, servers: str, timeout_s: float = 30.0) -> None:
        """Connect to the brokers `servers`.  Raises `Unreachable`, also where there is no topic of reports that we may see."""
        settings = {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.timeout.ms": DEAD_MS,
            "delivery.report.only.error": True,
            "on_delivery": self._not_delivered,
            "logger": _log,
        }
        self._servers, self._timeout_s = servers, timeout_s
        self._fault = ""
        self._producer, known = reached(Producer, servers, FEED, settings, timeout_s)
        if not known.get(TOPIC):
            raise Unreachable(
                f"the broker at {servers} has no topic {TOPIC} that we may see, {manner(FEED)}; "
                "`gammaflow up` makes it, `gammaflow acls` lists the rights"
            )

    def send(self, report: Report) -> None:
        """Send one; what cannot be sent in time is lost, and the next one says more."""
        with suppress(BufferError):
            self._producer.produce(TOPIC, encoded(report), report.writer, PARTITION)
        self._producer.poll(0)

    def confirm(self) -> None:
        """Wait until all of them are there.  Raises `Unreachable` if the broker does not take them."""
        left = self._producer.flush(self._timeout_s)
        if left or self._fault:
            raise Unreachable(f"{TOPIC} at {self._servers}, {manner(FEED)}: {self._fault or 'not acknowledged'}")

    def flush(self) -> None:
        """Wait until all of them are there, or are given up."""
        self._producer.flush(DEAD_MS / 1000)

    def _not_delivered(self, error: Any, _: Any) -> None:
        if error is not None and error.str() != self._fault:
            self._fault = error.str()
            _log.warning("%s at %s, %s: %s", TOPIC, self._servers, manner(FEED), self._fault)


class Times:
    """The writers that live, and the time of all; takes the reports in the order of the log."""

    def __init__(self, dead_ms: int = DEAD_MS) -> None:
        self.told_ms = 0
        """The time that has been told; it never steps back."""
        self.writers: dict[str, int] = {}
        """The time of each writer that lives."""
        self._dead_ms = dead_ms
        self._heard_ms: dict[str, int] = {}  # when, by the broker's clock
        self._now_ms = 0
        self._last_ms = 0  # what the writer said who left last

    def take(self, report: Report, at_ms: int) -> list[str]:
        """Take a report of that instant of the broker's clock.  Returns the writers that are held for dead from now on."""
        self._now_ms = max(self._now_ms, at_ms)
        name = report.writer
        if report.kind == TOLD:
            self.told_ms = max(self.told_ms, report.time_ms)
        elif report.kind == LEAVES:
            self._heard_ms.pop(name, None)
            if self.writers.pop(name, None) is not None and not self.writers:
                self._last_ms = report.time_ms
        else:
            self._heard_ms[name] = self._now_ms
            self.writers[name] = max(self.writers.get(name, 0), report.time_ms)
        dead = [writer for writer, heard_ms in self._heard_ms.items() if heard_ms < self._now_ms - self._dead_ms]
        for writer in dead:
            del self._heard_ms[writer], self.writers[writer]
        return dead

    def time_ms(self) -> int:
        """The time up to which all rows are in the log, never less than has been told."""
        near = [time_ms for time_ms in self.writers.values() if time_ms >= self._now_ms - FAR_MS]
        if not near:
            # Whoever is away is not waited for; and of those who left, the last one has said how far it all went.
            return max(self.told_ms, 0 if self.writers else self._last_ms)
        return max(self.told_ms, min(near))

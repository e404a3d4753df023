"""What a feed shows of itself to Prometheus, and to whoever watches over its process.

The loops of a feed count in plain numbers.  These become metrics when somebody asks for `/metrics`, in a thread of its own.
`/live` is 200 while the feed's loop runs, `/ready` while a connection is open.
"""

import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, MetricsHandler, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.rows import to_us

if TYPE_CHECKING:
    from feeds.live import Symbols
    from feeds.publish import Publisher
    from feeds.service import Feed

REASONS = ("gap", "no_snapshot", "stale", "other")
"""Why a book is requested again: the feed sees a gap, or `resync_requests` says so."""
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the buckets of latencies."""
SAMPLED = 16
"""One acknowledged record in so many is timed: each costs some microseconds."""
ALIVE_S = 30.0
"""How long the loop of a feed may be busy with one thing."""
_RECEIVED = re.compile(rb'"received_at":"([^"]+)"')


class MetricsError(Exception):
    """Metrics that cannot be served; the message names the address and the reason."""


@dataclass(slots=True)
class ConnectionCounts:
    """What is counted of one connection, however often it is opened again."""

    name: str  # its number, with a or b where there are two for the same symbols
    is_open: bool = False
    opened: int = 0
    lost: int = 0
    refused: int = 0
    messages: int = 0
    gaps: int = 0
    newest_us: int = field(default_factory=lambda: time.time_ns() // 1000)  # receipt of the newest message, or the start
    symbols: "Symbols | None" = None  # that it follows
    requested: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(REASONS, 0)))  # books, by `REASONS`

    def is_needed(self) -> bool:
        """Whether it follows a symbol: where all have expired, it is silent rightly."""
        return self.symbols is None or bool(self.symbols.names)

    def requested_again(self, reason: str) -> None:
        """Count a request for one book."""
        self.requested[reason if reason in REASONS else "other"] += 1


class Latencies:
    """How long rows take from their receipt to Kafka's acknowledgement, of one record in `sampled`."""

    def __init__(self, sampled: int = SAMPLED) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)  # by `BOUNDS_S`, each up to its bound; the last one has no bound
        self.sum_s = 0.0
        self._sampled, self._left = sampled, 1

    def acknowledged(self, value: bytes | None) -> None:
        """Take notice that a record is acknowledged now: by its first row, which was received first."""
        self._left -= 1
        if self._left:
            return
        self._left = self._sampled
        if value is not None and (received := _RECEIVED.search(value)) is not None:
            self.add(time.time() - to_us(received[1].decode()) / 1e6)

    def add(self, seconds: float) -> None:
        """Count one latency; a clock that was set back in between makes it 0."""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class FeedMetrics(Collector):
    """The metrics of one feed, read when they are asked for.  Names and units are Prometheus' own conventions."""

    def __init__(self, feed: "Feed", publisher: "Publisher", latencies: Latencies, version: str) -> None:
        self._feed, self._publisher, self._latencies, self._version = feed, publisher, latencies, version
        self._market = feed.session.market

    def collect(self) -> Iterator[Metric]:
        """Every metric, with its value now."""
        yield from self._of_connections(list(self._feed.counts), time.time())
        yield from self._of_the_feed(time.time())
        yield from self._of_kafka()

    def _of_connections(self, counts: Sequence[ConnectionCounts], now_s: float) -> Iterator[Metric]:
        def each(name: str) -> Iterator[tuple[list[str], float]]:
            return (([connection.name], float(getattr(connection, name))) for connection in counts)

        labels = ["connection"]
        needed = [connection for connection in counts if connection.is_needed()]
        opens = (([connection.name], float(connection.is_open)) for connection in needed)
        yield self._gauge("connection_open", "Whether a connection is open", labels, opens)
        silences = (([connection.name], max(0.0, now_s - connection.newest_us / 1e6)) for connection in needed)
        yield self._gauge("connection_silence_seconds", "Time since the newest message, or since the start", labels, silences)
        yield self._counter("connections_opened", "Connections opened", labels, each("opened"))
        yield self._counter("connections_lost", "Connections that broke or were silent for too long", labels, each("lost"))
        yield self._counter("connections_refused", "Attempts to connect that failed", labels, each("refused"))
        yield self._counter("messages", "Messages received, and snapshots over HTTP", labels, each("messages"))
        yield self._counter("gaps", "Breaks in the sequence of a book", labels, each("gaps"))
        requested = Counter(dict.fromkeys(REASONS, 0))
        for connection in counts:
            requested.update(dict(connection.requested))
        yield self._counter("book_requests", "Requests for a book after the first", ["reason"], _labelled(requested))

    def _of_the_feed(self, now_s: float) -> Iterator[Metric]:
        feed = self._feed
        yield self._gauge("info", "The version of the feed", ["version"], [([self._version], 1.0)])
        yield self._gauge("symbols", "Symbols that are followed", [], [([], len(feed.names))])
        if feed.listed_s:
            age_s = max(0.0, now_s - feed.listed_s)
            yield self._gauge("listing_age_seconds", "Time since the venue last listed its contracts", [], [([], age_s)])
        yield self._counter("duplicates", "Rows that the other connection had brought", [], [([], feed.duplicates)])
        yield self._counter("path_changes", "Changes of a connection to the next proxy", [], [([], feed.path_changes)])
        yield self._counter(
            "http_failures", "HTTP requests without a response that can be used", [], [([], feed.asker.refused)]
        )
        yield self._counter("rate_limit_pauses", "Pauses that the venue asked for: 429 and 418", [], [([], feed.asker.pauses)])
        if feed.recording is not None:
            kept = float(feed.recording.kept_bytes)
            yield self._counter("recorded_bytes", "Bytes recorded, before compression", [], [([], kept)])

    def _of_kafka(self) -> Iterator[Metric]:
        publisher, latencies = self._publisher, self._latencies
        records = {"dead_letters": 0, **dict(publisher.counts)}
        yield self._counter("records", "Rows handed to Kafka's client", ["table"], _labelled(records))
        yield self._gauge("delivery_queue", "Records that Kafka has not acknowledged", [], [([], publisher.waiting())])
        offsets = (([venue], offset_ms / 1000) for venue, offset_ms in publisher.offsets_ms().items())
        yield self._gauge("clock_offset_seconds", "How far a venue's clock is ahead", ["venue"], offsets)
        counts, total, buckets = list(latencies.counts), 0, []
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        text = "Time from receipt to Kafka's acknowledgement, of a sample of records"
        family = HistogramMetricFamily("gammaflow_feed_latency_seconds", text, labels=["market"])
        family.add_metric([self._market], buckets, latencies.sum_s)
        yield family

    def _gauge(self, name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]) -> Metric:
        return self._filled(GaugeMetricFamily(f"gammaflow_feed_{name}", text, labels=["market", *labels]), values)

    def _counter(self, name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]) -> Metric:
        return self._filled(CounterMetricFamily(f"gammaflow_feed_{name}", text, labels=["market", *labels]), values)

    def _filled(
        self, family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[list[str], float]]
    ) -> GaugeMetricFamily | CounterMetricFamily:
        for own, value in values:
            family.add_metric([self._market, *own], value)
        return family


def _labelled(counts: Mapping[str, int]) -> list[tuple[list[str], float]]:
    return [([name], float(count)) for name, count in sorted(counts.items())]


class Answers(Protocol):
    """Whoever answers questions about health."""

    def status(self, path: str) -> int | None:
        """The HTTP status of a question; None where it is none about health."""


@dataclass
class Health:
    """Whether a feed is alive, and whether it does its work."""

    feed: "Feed"
    ticked_s: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Say, from the feed's loop, that it runs."""
        self.ticked_s = time.monotonic()

    def status(self, path: str) -> int | None:
        """The HTTP status of a question; None where it is none about health."""
        if path == "/live":
            return 200 if time.monotonic() - self.ticked_s < ALIVE_S else 503
        if path == "/ready":
            return 200 if any(counts.is_open for counts in list(self.feed.counts)) else 503
        return None


class _Server(ThreadingTCPServer):
    # Not http.server's own, which looks up the name of its address and may wait for that.
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def serving(metrics: Collector, health: Answers, address: str, port: int) -> Iterator[int]:
    """Answer at an address until the block ends; gives the port, another one for port 0.  Raises `MetricsError`."""
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)

    class Handler(MetricsHandler.factory(registry)):  # type: ignore[misc]
        timeout = 10.0  # of a client that says nothing

        def do_GET(self) -> None:  # noqa: N802 - the library's name
            status = health.status(self.path)
            if status is None:
                super().do_GET()
            else:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

    try:
        server = _Server((address, port), Handler)
    except OSError as error:
        reason = f"metrics cannot be served at {address}, port {port}: {error.strerror or error}"
        raise MetricsError(f"{reason}; name another port with --metrics-port") from error
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

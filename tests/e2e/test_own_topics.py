"""docs/bring_your_own_topics.md, done as it is written, and feeds of one broker whose keeper is replaced."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from cli.play import DETERMINISTIC
from deploy import cluster, runtime, topics
from deploy.runtime import Runtime
from feeds import Record
from feeds.following import Follower
from feeds.keeper import Keeper
from feeds.publish import END_MS, FEED_TABLES, Publisher, PublishError
from schemas.clients import to_end
from tests.jobs.playing import read

PAGE = (cluster.ROOT / "docs" / "bring_your_own_topics.md").read_text()
FILES = dict(re.findall(r"^`([\w.]+)`\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SCRIPT = """
from pyflink.table import EnvironmentSettings, TableEnvironment

import schemas

tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
for statement in schemas.statements(SQL):
    if setting := schemas.setting(statement):
        tables.get_config().set(*setting)
    else:
        tables.execute_sql(statement)
"""
"""What the SQL client does, which PyFlink comes without."""
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
DELAY_MS = 100
DEAD_MS = 1_500


def command(line: str, place: Runtime) -> list[str]:
    """A command of the page as it is called here."""
    words = line.removesuffix(" &").replace("localhost:9092", place.kafka).split()
    own = {
        ".venv/bin/gammaflow": [sys.executable, "-m", "cli.main"],
        ".venv/bin/python": [sys.executable],
    }
    return [*own[words[0]], *words[1:]]


def environment(place: Runtime) -> dict[str, str]:
    return {
        **os.environ,
        **cluster.environment(Path(place.home) / "flink"),
        "GAMMAFLOW_HOME": place.home,
        "PYTHONPATH": str(cluster.ROOT),
    }


@contextmanager
def running(line: str, place: Runtime, folder: Path, said: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command of the page that goes on while the block lasts; at its end `said` gets what it has said."""
    with subprocess.Popen(
        command(line, place), cwd=folder, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            said.append(process.communicate(timeout=20)[0])


@pytest.fixture(scope="module")
def folder(suite: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page."""
    path = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (path / name).write_text(text.replace("localhost:9092", suite.kafka))
    # Nobody waits for an idle timeout: there is none.
    runtime.submit(suite, ["bars"], settings=DETERMINISTIC)
    return path


def test_trades_of_a_plain_producer_and_of_a_mapped_topic_reach_bars(suite: Runtime, folder: Path) -> None:
    beating, producing, tailing, mapping = COMMANDS
    assert mapping == "sql-client.sh -f acme.sql"
    (folder / "acme.py").write_text(f"SQL = {(folder / 'acme.sql').read_text()!r}\n{SCRIPT}")
    topics.create_named(suite.kafka, {"acme": False}, 3)
    runtime.flink_run(suite, ["acme"], ["-py", str(folder / "acme.py")])
    producer = Producer({"bootstrap.servers": suite.kafka})
    said: list[str] = []
    with running(producing, suite, folder, []), running(beating, suite, folder, said) as keeper:
        for number in range(3):
            trade = {"sym": "MAPPED", "id": number, "px": 7.5, "lots": -200, "ts": time.time_ns() // 1_000_000}
            producer.produce("acme", json.dumps(trade), partition=number)
        producer.flush(10)
        tailed = subprocess.run(
            command(tailing, suite), cwd=folder, env=environment(suite), capture_output=True, text=True, timeout=180
        )
        assert keeper.poll() is None
        wait(lambda: any(row["instrument"] == "MAPPED" for row in bars(suite)), "bars of the mapped topic")
    rows = [json.loads(line) for line in tailed.stdout.splitlines()]
    assert [(row["venue"], row["instrument"]) for row in rows] == [("acme", "ACME-PERP")] * 3
    assert all(row["trade_count"] >= 1 and 100 <= row["low_price"] <= row["high_price"] <= 106 for row in rows)
    found = [row for row in bars(suite) if row["instrument"] == "MAPPED" and row["interval_s"] == 1]
    assert sum(row["trade_count"] for row in found) == 3
    assert {(row["vwap"], row["volume"] / row["trade_count"]) for row in found} == {(7.5, 2.0)}
    assert keeper.returncode == 0
    assert re.search(r"keeping the time of trades\.v1 at .*\nstopped after [1-9]\d* records\n", said[0])


def bars(suite: Runtime) -> list[dict[str, Any]]:
    starts = dict.fromkeys(topics.ends(suite.kafka, ["bars"]), 0)
    return [json.loads(value) for _, value in read(suite.kafka, ["bars"], starts)]


def wait(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["trade.v1"], "trade.v1: feeds do not write such a topic; they write instruments.v1"),
        (["bars.v1"], "bars.v1: feeds do not write such a topic"),
    ],
)
def test_a_topic_that_feeds_do_not_write_is_named(suite: Runtime, names: list[str], said: str) -> None:
    with pytest.raises(PublishError, match=re.escape(said)):
        Follower(suite.kafka, names, 1_000, 20)


def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(PublishError, match=r"no Kafka broker answers at 127\.0\.0\.1:1 within 0\.5 s"):
        Follower("127.0.0.1:1", ["trades.v1"], 1_000, 20, timeout_s=0.5)


class Feed(threading.Thread):
    """A feed of an index each 20 ms, which takes so long to come."""

    def __init__(self, servers: str, name: str, way_ms: int) -> None:
        super().__init__(daemon=True)
        self.publisher, self.name, self.way_ms = Publisher(servers, writer=name), name, way_ms
        self.newest_ms = 0
        self.is_stopped = threading.Event()
        self.is_killed = False
        self.start()

    def run(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self.publisher)
            # Of a venue comes what happens after the feed has connected.
            connected_s = time.monotonic() + (100 + self.way_ms) / 1000
            while not self.is_stopped.wait(0.02):
                if time.monotonic() > connected_s:
                    self.newest_ms = time.time_ns() // 1_000_000 - self.way_ms
                    row = {"venue": self.name, "underlying": "BTC", "quote_currency": "USD", "price_usd": 1.0}
                    self.publisher.publish(Record("index_prices", self.newest_ms, row))
                self.publisher.tick()
            if self.is_killed:
                stack.pop_all()

    def stop(self) -> None:
        self.is_stopped.set()
        self.join()


def test_no_row_is_late_and_time_goes_on_when_the_keeper_stops_and_a_feed_dies(suite: Runtime) -> None:
    tables = list(FEED_TABLES)
    starts = topics.ends(suite.kafka, tables)

    def told_ms() -> int:
        return min(max((ms for value, ms in log if value is None), default=0) for log in logs(suite, starts).values())

    with Keeper(suite.kafka, dead_ms=DEAD_MS) as first:
        near, far = Feed(suite.kafka, "near", 5), Feed(suite.kafka, "far", 300)
        began_ms = time.time_ns() // 1_000_000
        wait(lambda: told_ms() > began_ms, "heartbeats")
        assert first.is_keeper
        second = Keeper(suite.kafka, dead_ms=DEAD_MS).__enter__()
        wait(lambda: told_ms() > began_ms + 1_000, "the keeper goes on while another candidate comes")
        assert first.is_keeper
        assert not second.is_keeper
    stopped_ms = far.newest_ms
    wait(lambda: told_ms() > stopped_ms + 500, "another keeper")
    assert second.is_keeper
    far.is_killed = True
    far.stop()
    wait(lambda: told_ms() > far.newest_ms + 500, "time without the one that died")
    near.stop()
    second.__exit__(None, None, None)
    assert told_ms() == near.newest_ms + END_MS
    rows = 0
    for log in logs(suite, starts).values():
        newest_ms = 0
        for value, ms in log:
            if value is None:
                assert ms > newest_ms
                newest_ms = ms
            else:
                assert ms > newest_ms - DELAY_MS
                rows += 1
    assert rows > 100


def logs(suite: Runtime, starts: dict[tuple[str, int], int]) -> dict[tuple[str, int], list[tuple[bytes | None, int]]]:
    """Value and timestamp of each record of the partitions, from these offsets on."""
    records: dict[tuple[str, int], list[tuple[bytes | None, int]]] = {part: [] for part in starts}
    consumer, _ = topics.consuming(suite.kafka, "gammaflow-logs", {"enable.partition.eof": True})
    try:
        for message in to_end(consumer, [TopicPartition(*part, offset) for part, offset in starts.items()]):
            records[message.topic(), message.partition()].append((message.value(), message.timestamp()[1]))
    finally:
        consumer.close()
    return records

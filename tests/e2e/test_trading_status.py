"""`gammaflow status --trading` on a broker: the newest rows of its topics, however many came before."""

import os
import subprocess
import sys
from typing import Any

from confluent_kafka import Producer

from cli import trading_shown
from deploy import cluster
from deploy.runtime import Runtime
from schemas.clients import reached
from schemas.records import TABLES
from schemas.rows import encoded
from schemas.security import OPERATOR
from tests.cli.test_trading_shown import NOW_MS, broken, halt, price, source, trouble

ROWS: dict[str, list[Any]] = {
    "oracle_prices": [price()],
    "oracle_sources": [source("a:index:BTC"), source("b:index:BTC", "older than 10 s")],
    "oracle_faults": [trouble("b:index:BTC")],
    "circuit_breaks": [broken()],
    "trading_halts": [halt("ETHUSDT")],
}


def test_the_newest_rows_are_shown_and_only_as_many_records_as_wanted_are_read(suite: Runtime) -> None:
    own = {"partitioner": "murmur2_random"}
    producer, _ = reached(Producer, suite.kafka, OPERATOR, own)
    for table, rows in ROWS.items():
        topic = TABLES[table].topic
        for number in range(50):
            producer.produce(topic, None, "heartbeat", partition=0, timestamp=NOW_MS - 60_000 + number)
        for row in rows:
            producer.produce(topic, encoded(row), "key", partition=0, timestamp=NOW_MS)
    assert producer.flush(30) == 0

    whole = trading_shown.newest(suite.kafka)
    assert whole.rows == ROWS and whole.since_ms == {}
    newest = trading_shown.newest(suite.kafka, dict.fromkeys(ROWS, 10))
    assert newest.rows == ROWS
    assert newest.since_ms == {table: NOW_MS - 60_000 + 40 + len(rows) for table, rows in ROWS.items()}

    env = {**os.environ, "GAMMAFLOW_KAFKA": suite.kafka, "COLUMNS": "250"}
    command = [sys.executable, "-m", "cli.main", "status", "--trading"]
    shown = subprocess.run(command, env=env, cwd=cluster.ROOT, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    text = " ".join(shown.stdout.split())
    for part in ("no control is on", "b:index:BTC: older than 10 s", "frozen", "breaker spread", "binance_spot:ETHUSDT"):
        assert part in text

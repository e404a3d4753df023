"""A gateway as a process that may be killed: `python -m tests.gateway.killed_gateway <store> <port> <topics>`.

Its topics are the lines of a file.  A row stands there once it is settled, as Kafka's acknowledgement would say; a row that is
not settled dies with the process.
"""

import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from deploy import jars
from feeds import Record
from gateway.kafka import Row
from gateway.service import Service
from tests.gateway.gateway_rows import gateway, order

TABLES = ("orders", "execution_reports", "fills")


class FileTopics:
    """Sink and source in one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[bytes] = []

    def publish(self, record: Record) -> None:
        self._waiting.append(orjson.dumps([record.table, record.row]) + b"\n")

    def settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        with self._path.open("ab") as file:
            file.write(b"".join(waiting))

    def tick(self) -> None:
        pass

    def backlog(self) -> Iterable[Row]:
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for number, (table, row) in enumerate(map(orjson.loads, lines)):
            if table in TABLES:
                yield Row(table, 0, number, row)

    def follow(self, take: Callable[[Row], None]) -> None:
        if not self._path.exists() or not self._path.stat().st_size:
            row = order(event_at="2099-01-01T00:00:00.000Z", quantity="1000")
            self._path.write_bytes(orjson.dumps(["orders", row]) + b"\n")
            take(Row("orders", 0, 0, row))

    def close(self) -> None:
        pass


if __name__ == "__main__":
    store, port, path = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    own = {"name": "exch", "sender": "DESK", "target": "EXCH", "connect": [f"127.0.0.1:{port}"], "venue": "exch"}
    topics = FileTopics(path)
    config = gateway(store, venue=[own | {"reconnect_s": [1], "answer_s": 60}])
    Service(config, jars.fetch("fix")["fix"], topics, topics).run(threading.Event())

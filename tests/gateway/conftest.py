"""QuickFIX/J for the tests that need it, and a gateway whose topics are lists."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from feeds import Record
from gateway.config import Gateway
from gateway.kafka import Row
from tests.gateway.peer import until


class ListSink:
    """Takes rows; they are safe at once, unless it is told to hold them."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def publish(self, record: Record) -> None:
        self.records.append(record)

    def settle(self) -> None:
        pass

    def tick(self) -> None:
        pass

    def rows(self, table: str) -> list[Any]:
        return [record.row for record in self.records if record.table == table]


class ListSource:
    """Rows of the past, and what `put` brings."""

    def __init__(self, past: Iterable[Row] = ()) -> None:
        self.past = list(past)
        self._take: Callable[[Row], None] | None = None
        self._offset = 1_000

    def backlog(self) -> Iterable[Row]:
        return self.past

    def follow(self, take: Callable[[Row], None]) -> None:
        self._take = take

    def put(self, table: str, row: dict[str, Any]) -> None:
        until(lambda: self._take is not None, "the gateway follows its topics")
        assert self._take is not None
        self._offset += 1
        self._take(Row(table, 0, self._offset, row))

    def close(self) -> None:
        pass


class Running:
    """A gateway that runs in a thread."""

    def __init__(self, gateway: Gateway, jars: list[Path], past: Iterable[Row] = ()) -> None:
        from gateway.service import Service

        self.sink, self.source = ListSink(), ListSource(past)
        self.service = Service(gateway, jars, self.sink, self.source)
        self.failures: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.service.run(self._stop)
        except BaseException as error:
            self.failures.append(error)

    def is_on(self, name: str) -> bool:
        return self.service.counts[name].logons > self.service.counts[name].logouts

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert self.failures == []


Start = Callable[..., Running]


@pytest.fixture(scope="session")
def fix_jars() -> list[Path]:
    """The class path of QuickFIX/J."""
    pytest.importorskip("jpype", reason="jpype1 is not installed: requirements.txt")
    from deploy import jars

    try:
        return jars.fetch("fix")["fix"]
    except jars.JarError as error:
        pytest.skip(f"QuickFIX/J is not there: {error}")


@pytest.fixture
def start(fix_jars: list[Path]) -> Iterator[Start]:
    """Start gateways; they stop at the end of the test."""
    with ExitStack() as stack:

        def started(gateway: Gateway, past: Iterable[Row] = ()) -> Running:
            running = Running(gateway, fix_jars, past)
            stack.callback(running.stop)
            return running

        yield started

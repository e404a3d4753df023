"""Where the rows of a page come from: a broker, or the files of a finished run."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cli import explain
from page.finished import Moment, Run
from page.store import Store
from page.tables import Rows
from schemas.rows import instant_ms

MOST_LINES = 500
"""Of an account's story, the newest."""
STORY_RECORDS = 20_000
"""How many of the newest records of each partition are read for a story, heartbeats included."""


class Source(Protocol):
    """Where rows come from."""

    def head(self) -> dict[str, Any]:
        """What a browser must know before the first rows."""

    def watching(self, tables: Iterable[str]) -> AbstractContextManager[None]:
        """Somebody looks at these tables until the block ends."""

    def looking(self, at_ms: int | None, speed: float) -> Callable[[], tuple[Rows, str | None]]:
        """What one browser sees: from an instant on, so many times as fast as it was; and why nothing comes."""

    def story(self, account: str, at_ms: int | None) -> dict[str, Any]:
        """The story of an account up to an instant.  Raises `ValueError`, `TopicError`."""


class Live:
    """Rows that come now.

    watch   called with the tables that somebody looks at, whenever these change
    read    an account's rows for its story
    """

    def __init__(
        self,
        store: Store,
        watch: Callable[[set[str]], None] = lambda _: None,
        read: Callable[[str], explain.Rows] | None = None,
    ) -> None:
        self.store = store
        self._watch, self._read = watch, read
        self._watched: list[str] = []

    def head(self) -> dict[str, Any]:
        """What a browser must know before the first rows."""
        return {"kind": "live"}

    @contextmanager
    def watching(self, tables: Iterable[str]) -> Iterator[None]:
        """Somebody looks at these tables until the block ends."""
        own = list(tables)
        self._watched += own
        self._watch(set(self._watched))
        try:
            yield
        finally:
            for table in own:
                self._watched.remove(table)
            self._watch(set(self._watched))

    def looking(self, at_ms: int | None, speed: float) -> Callable[[], tuple[Rows, str | None]]:
        """The newest rows, whatever instant is asked for."""
        return lambda: (self.store, self.store.trouble)

    def story(self, account: str, at_ms: int | None) -> dict[str, Any]:
        """The story of an account up to now."""
        if self._read is None:
            raise ValueError("no broker is known from which stories could be read")
        told = as_json(explain.story(self._read(account)))
        return told | {"note": f"from the newest {STORY_RECORDS:,} records of each partition; `gammaflow explain` reads all"}


class Finished:
    """A finished run; each browser is at an instant of its own."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder)

    def head(self) -> dict[str, Any]:
        """What a browser must know before the first rows."""
        first_ms, last_ms = self.run.span_ms
        return {"kind": "finished", "first_ms": first_ms, "last_ms": last_ms, "counts": self.run.counts()}

    @contextmanager
    def watching(self, tables: Iterable[str]) -> Iterator[None]:
        """Nothing is to be done."""
        yield

    def looking(self, at_ms: int | None, speed: float) -> Callable[[], tuple[Rows, str | None]]:
        """The run from an instant on, by default at its end."""
        _, last_ms = self.run.span_ms
        start_ms, begun_s = (last_ms if at_ms is None else at_ms), time.monotonic()

        def look() -> tuple[Rows, str | None]:
            now_ms = start_ms + round(1000 * speed * (time.monotonic() - begun_s))
            return Moment(self.run, max(start_ms, min(now_ms, last_ms)) if speed else start_ms), None

        return look

    def story(self, account: str, at_ms: int | None) -> dict[str, Any]:
        """The story of an account up to an instant."""
        until = None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)
        return as_json(explain.story(explain.read_parquet(self.run.folder, account), until))


def as_json(told: explain.Story) -> dict[str, Any]:
    """A story as a browser gets it: the newest lines, oldest first."""
    lines = told.lines[-MOST_LINES:]
    return {
        "holdings": [[asset, explain.plain(amount)] for asset, amount in told.holdings.items()],
        "before": len(told.lines) - len(lines),
        "lines": [[instant_ms(round(line.at.timestamp() * 1000)), line.what, line.why] for line in lines],
    }

"""A finished run at an instant: the same questions as of a live page, answered from the Parquet files of the archive."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from page.store import ON_THE_WALL
from page.tables import SECOND, TABLES, Row
from schemas.rows import instant_ms, instant_us, to_us

MOST_ROWS = 20_000_000
"""Of the tables that the page shows, together: they are held in memory, some 100 bytes a row."""
Ints = NDArray[np.int64]


class RunError(ValueError):
    """The folder has no run that can be shown; the message says why."""


class Table:
    """The rows of a table in the order of event time; those of one instant as they stand in the files."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.kept = name, TABLES[name]
        rows = pq.read_table(folder / name)
        times = pc.cast(rows["event_at"], pa.timestamp("us")).cast(pa.int64()).to_numpy() // 1000
        order = np.argsort(times, kind="stable")
        self.rows = rows.take(pa.array(order))
        self.times_ms: Ints = times[order]
        self._parts: dict[tuple[tuple[str, Any], ...], Ints] = {}
        self._codes: Ints | None = None

    def count(self, at_ms: int) -> int:
        """How many rows there are up to an instant, that one included."""
        return int(np.searchsorted(self.times_ms, at_ms, "right"))

    def newest(self, at_ms: int, equal: dict[str, Any]) -> list[Row]:
        """The newest row of each key up to an instant."""
        part = self._part(equal)
        part = part[: np.searchsorted(part, self.count(at_ms))]
        if self._codes is None:
            self._codes = _codes(self.rows, self.kept.key)
        last = np.full(int(self._codes.max(initial=-1)) + 1, -1, dtype=np.int64)
        last[self._codes[part]] = part  # of several rows with a key, the last one is assigned
        return self.as_rows(np.sort(last[last >= 0]))

    def ring(self, first: int, at_ms: int, equal: dict[str, Any]) -> list[Row]:
        """The rows from number `first` on up to an instant, the newest so many."""
        part = self._part(equal, self.kept.every_ms)
        begin, end = np.searchsorted(part, [first, self.count(at_ms)])
        return self.as_rows(part[max(begin, end - self.kept.ring) : end])

    def _part(self, equal: dict[str, Any], every_ms: int = 0) -> Ints:
        """The numbers of the rows whose columns are as told; not nearer to each other than `every_ms`."""
        name = (*sorted(equal.items()), ("every_ms", every_ms))
        if name not in self._parts:
            is_wanted = np.ones(len(self.times_ms), dtype=bool)
            for column, value in equal.items():
                text = self.rows[column]
                if pa.types.is_timestamp(text.type):
                    times_us = pc.cast(text, pa.timestamp("us")).cast(pa.int64())
                    is_wanted &= pc.equal(times_us, to_us(value)).fill_null(False).to_numpy()
                else:
                    is_wanted &= pc.equal(text, value).fill_null(False).to_numpy()
            part = np.flatnonzero(is_wanted)
            if every_ms:
                chosen, last_ms = [], -every_ms
                for number, ms in zip(part.tolist(), self.times_ms[part].tolist(), strict=True):
                    if ms - last_ms >= every_ms:
                        chosen.append(number)
                        last_ms = ms
                part = np.array(chosen, dtype=np.int64)
            if len(self._parts) > 200:
                self._parts.clear()
            self._parts[name] = part
        return self._parts[name]

    def as_rows(self, numbers: Ints) -> list[Row]:
        """Rows as they stand in JSON."""
        return [{name: _value(value) for name, value in row.items()} for row in self.rows.take(pa.array(numbers)).to_pylist()]


def _codes(rows: pa.Table, key: Sequence[str]) -> Ints:
    """A number for each row, equal for rows of one key."""
    codes = np.zeros(len(rows), dtype=np.int64)
    for column in key:
        text = pc.dictionary_encode(rows[column], null_encoding="encode").combine_chunks()
        text = text.chunk(0) if isinstance(text, pa.ChunkedArray) else text
        codes = codes * (len(text.dictionary) + 1) + text.indices.fill_null(0).to_numpy(zero_copy_only=False)
        codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    return codes


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        us = round(value.timestamp() * 1_000_000)
        return instant_us(us) if us % 1000 else instant_ms(us // 1000)
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return b64encode(value).decode() if isinstance(value, bytes) else value


class Run:
    """The Parquet files of a run; a table is read when somebody first looks at it.  Raises `RunError`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise RunError(f"{folder}: no such folder; `gammaflow replay --out {folder}` would make it")
        self.names = [name for name in TABLES if any((folder / name).glob("*.parquet"))]
        if not self.names:
            raise RunError(f"{folder}: no Parquet files of {', '.join(TABLES)}; name the folder that a replay or demo wrote")
        count = sum(pq.read_metadata(file).num_rows for name in self.names for file in (folder / name).glob("*.parquet"))
        if count > MOST_ROWS:
            raise RunError(f"{folder}: {count:,} rows; a page shows runs of at most {MOST_ROWS:,}, which it holds in memory")
        self._tables: dict[str, Table] = {}
        self._lock = Lock()

    def table(self, name: str) -> Table | None:
        """A table's rows; None where it has none."""
        if name not in self.names:
            return None
        with self._lock:
            if name not in self._tables:
                self._tables[name] = Table(name, self.folder)
            return self._tables[name]

    @cached_property
    def span_ms(self) -> tuple[int, int]:
        """The first and the last instant, by the tables that go by event time."""
        spans: list[tuple[int, int]] = []
        for name in self.names:
            if name in ON_THE_WALL | {"instruments", "venue_clocks", "trading_halts"} and len(self.names) > 4:
                continue
            for file in (self.folder / name).glob("*.parquet"):
                times = pc.cast(pq.read_table(file, columns=["event_at"])["event_at"], pa.timestamp("us")).cast(pa.int64())
                if len(times):
                    bounds = pc.min_max(times).as_py()
                    spans.append((bounds["min"] // 1000, -(-bounds["max"] // 1000)))
        return min(low for low, _ in spans), max(high for _, high in spans)

    def counts(self) -> dict[str, int]:
        """How many rows each table has, also those that no view shows."""
        folders = [folder for folder in self.folder.iterdir() if folder.is_dir()]
        found = {folder.name: [*folder.glob("*.parquet")] for folder in folders}
        return {name: sum(pq.read_metadata(file).num_rows for file in files) for name, files in found.items() if files}


class Moment:
    """A run at an instant; it implements `Rows`."""

    epoch = 0

    def __init__(self, run: Run, at_ms: int) -> None:
        self.run, self.at_ms = run, at_ms

    @property
    def clock_ms(self) -> int:
        """The instant."""
        return self.at_ms

    def version(self, names: Sequence[str]) -> int:
        """How many rows of these tables there are up to the instant."""
        tables = [self.run.table(name) for name in names]
        seconds = self.at_ms // 1000 if SECOND in names else 0
        return seconds + sum(table.count(self.at_ms) for table in tables if table is not None)

    def newest(self, table: str, **equal: Any) -> list[Row]:
        """The newest row of each key up to the instant."""
        rows = self.run.table(table)
        return [] if rows is None else rows.newest(self.at_ms, equal)

    def since(self, table: str, mark: int, **equal: Any) -> tuple[list[Row], int]:
        """The rows of a ring behind a mark up to the instant, and the next mark."""
        rows = self.run.table(table)
        return ([], 0) if rows is None else (rows.ring(mark, self.at_ms, equal), rows.count(self.at_ms))

    def reached(self) -> dict[str, tuple[int, int]]:
        """By table, the time of its newest row up to the instant, and how many rows there are up to then."""
        known: dict[str, tuple[int, int]] = {}
        for name in self.run.names:
            rows = self.run.table(name)
            if rows is not None and (count := rows.count(self.at_ms)):
                known[name] = int(rows.times_ms[count - 1]), count
        return known

    def cluster(self) -> dict[str, Any]:
        """Nothing: a finished run has no cluster."""
        return {}

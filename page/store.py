"""The newest rows, as they come: what a live page shows.  Rows are put in by one thread and read by another."""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from threading import Lock
from typing import Any

import orjson

from page.tables import CLUSTER, SECOND, TABLES, Row
from schemas import FOR_PEOPLE
from schemas.rows import encoded, to_ms

MOST_RINGS = 300
"""Of a table with a ring for each book or account, the so many that had a row last are kept."""
ON_THE_WALL = FOR_PEOPLE | {"trading_controls", "dead_letters"}
"""Tables whose times are those of a clock on the wall, also where an old market is replayed."""
MOST_KEYS = 50_000
"""Of a table; beyond them, the key whose row came first is forgotten."""

Key = tuple[Any, ...]
Ring = deque[tuple[int, int, bytes]]  # version, event time in ms, row as JSON: an object takes ten times as much


class Store:
    """Newest rows and rings of `page.tables.TABLES`; it implements `Rows`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._newest: dict[str, OrderedDict[Key, Row]] = {}
        self._rings: dict[str, OrderedDict[Key, Ring]] = {}
        self._versions: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._times_ms: dict[str, int] = {}
        self._cluster: dict[str, Any] = {}
        self.epoch = 0
        self.trouble: str | None = None
        """Why nothing comes; None while all is well."""

    def put(self, table: str, rows: Sequence[Row], at_ms: int = 0) -> None:
        """Take rows that keep their DDL, in the order of the log; and the record's time, which a heartbeat has, too."""
        kept = TABLES[table]
        with self._lock:
            newest = self._newest.setdefault(table, OrderedDict())
            for row in rows:
                self._versions[table] += 1
                self._counts[table] += 1
                event_ms = to_ms(row["event_at"])
                at_ms = max(at_ms, event_ms)
                if kept.key:
                    key = tuple([row.get(column) for column in kept.key])
                    known = newest.get(key)
                    # Of controls the newest in the log counts, and all others tell their times in order.
                    if known is None or table == "trading_controls" or to_ms(known["event_at"]) <= event_ms:
                        newest[key] = row
                        newest.move_to_end(key)
                if kept.ring:
                    self._append(table, event_ms, row)
            while len(newest) > MOST_KEYS:
                newest.popitem(last=False)
            if at_ms > self._times_ms.get(table, 0):
                self._times_ms[table] = at_ms

    def _append(self, table: str, event_ms: int, row: Row) -> None:
        kept = TABLES[table]
        rings = self._rings.setdefault(table, OrderedDict())
        key = tuple([row.get(column) for column in kept.ring_by])
        ring = rings.get(key)
        if ring is None:
            ring = rings[key] = deque(maxlen=kept.ring)
            while len(rings) > MOST_RINGS:
                rings.popitem(last=False)
        elif kept.every_ms and 0 <= event_ms - ring[-1][1] < kept.every_ms:
            return
        rings.move_to_end(key)
        ring.append((self._versions[table], event_ms, encoded(row)))

    def remove(self, table: str, key: Key) -> None:
        """Forget a key: its record has been taken back."""
        with self._lock:
            if (known := self._newest.get(table)) is not None and known.pop(key, None) is not None:
                self._versions[table] += 1

    def forget(self, *tables: str) -> None:
        """Forget all rows of these tables, of all without names."""
        with self._lock:
            self.epoch += not tables
            for table in tables or TABLES:
                self._newest.pop(table, None)
                self._rings.pop(table, None)
                self._times_ms.pop(table, None)
                self._counts.pop(table, None)
                self._versions[table] += 1

    def put_cluster(self, known: dict[str, Any]) -> None:
        """Take what is known of the cluster."""
        self._cluster = known
        self._versions[CLUSTER] += 1

    @property
    def clock_ms(self) -> int:
        """The newest time of any table but of those `ON_THE_WALL`."""
        with self._lock:
            return max((ms for table, ms in self._times_ms.items() if table not in ON_THE_WALL), default=0)

    def version(self, names: Sequence[str]) -> int:
        """A number that changes whenever one of these tables has changed, or one of `SECOND` and `CLUSTER`."""
        with self._lock:
            return sum([int(time.monotonic()) if name == SECOND else self._versions[name] for name in names])

    def newest(self, table: str, **equal: Any) -> list[Row]:
        """The newest row of each key, of those keys whose columns are as told."""
        key = TABLES[table].key
        with self._lock:
            rows = self._newest.get(table, OrderedDict[Key, Row]())
            if equal.keys() == set(key):
                row = rows.get(tuple([equal[column] for column in key]))
                return [] if row is None else [row]
            found = list(rows.values())
        return [row for row in found if all(row.get(column) == value for column, value in equal.items())]

    def since(self, table: str, mark: int, **equal: Any) -> tuple[list[Row], int]:
        """The rows of a ring behind a mark, oldest first, and the next mark; mark 0 is the beginning."""
        key = tuple([equal[column] for column in TABLES[table].ring_by])
        with self._lock:
            ring = self._rings.get(table, OrderedDict[Key, Ring]()).get(key, Ring())
            found: list[bytes] = []
            for version, _, row in reversed(ring):
                if version <= mark:
                    break
                found.append(row)
            next_mark = self._versions[table]
        return [orjson.loads(row) for row in reversed(found)], next_mark

    def reached(self) -> dict[str, tuple[int, int]]:
        """By table, up to which time it is known, and how many rows of it have been seen."""
        with self._lock:
            return {table: (ms, self._counts[table]) for table, ms in self._times_ms.items()}

    def cluster(self) -> dict[str, Any]:
        """What is known of Flink's jobs."""
        return self._cluster

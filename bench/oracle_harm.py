"""Whether each harm to a source of an oracle is found in time and rightly named, and nothing is found where there is none.

The simulator's sources, books and trades go through the kernels `books` and `oracles` as fast as they can, without Flink and
Kafka: by the timestamps that a feed gives them, in windows of 100 ms, what comes behind the watermark as late.  What
jobs/oracle_faults.sql makes of their rows is computed by SQLite from the text of that file: its views `signs`, `held`, `faults`
and the last one.  Only MATCH_RECOGNIZE is put in other words, as any two rows in sequence that differ in their fault.

A harm must be found within the limit of its source, 20 of its median gaps but at least two seconds, and 200 ms.

    quiet    an hour of a market in which nothing is wrong: nothing may be found
    scripts  an hour in which one source after another is harmed in every way
    moves    crashes, in each of which one source is late with the move
"""

import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
import orjson
import typer

import jobs
from bench.passes import BenchError
from bench.report import Figures, console, run_chosen
from engine import batch
from engine.contract import Lines, Message
from feeds import Record
from feeds.clocks import Clocks
from feeds.publish import SPOKEN
from feeds.simulator import SOURCES, Harm, Scenario, simulate
from feeds.simulator.harm import CONSENSUS, PRICES, source_of
from kernels import books, oracles
from schemas import TABLE_OF
from schemas.records import TABLES
from schemas.rows import encoded, instant_ms, to_ms

WINDOW_MS, DELAY_MS = 100, 100
"""Of the job `oracles`, and how long jobs wait for rows that are out of order."""
LEAST_MS, GAPS, SLACK_MS = 2_000, 20, 200
QUIET = Scenario(
    duration_s=3_600,
    crash_size=0.0,
    book_updates_per_s=40,
    tickers_per_s=0,
    trades_per_s=8,
    fills_per_s=0,
    strikes=1,
    expiries=1,
    depth=2,
    accounts=0,
    doomed=0,
    sources=SOURCES,
)
"""A market in which nothing is wrong, with quiet books."""
READ = frozenset({"instruments", "index_prices", "oracle_updates", "trades", "book_tops"})

Row = dict[str, Any]


class Kernels:
    """The kernels from the rows of feeds to those of `oracle_sources`."""

    def __init__(self) -> None:
        self.books, self.oracles = books.KERNEL.new(), oracles.KERNEL.new()
        self.clocks = Clocks()
        self.offsets_ms: dict[str, int] = {}
        self.until_ms = 0  # the end of the last window that is closed
        self.waiting: dict[int, list[Message]] = defaultdict(list)  # by the end of their window
        self.letters: list[Row] = []
        self.count = 0

    def play(self, records: Iterable[Record]) -> Iterator[Row]:
        """The rows of `oracle_sources` that come of records in the order of their arrival."""
        for record in records:
            yield from self._take(record)
        for end_ms in range(self.until_ms + WINDOW_MS, max(self.waiting, default=0) + 1, WINDOW_MS):
            yield from self._close(end_ms)

    def _take(self, record: Record) -> Iterator[Row]:
        row = dict(record.row)
        self.count += 1
        stamp_ms = self.clocks.timestamp_ms(row, record.event_ms, record.table in SPOKEN)
        now_ms = self.clocks.common_ms(to_ms(row["received_at"]) if row.get("received_at") else record.event_ms) - DELAY_MS
        if not self.until_ms:
            self.until_ms = now_ms // WINDOW_MS * WINDOW_MS
        for end_ms in range(self.until_ms + WINDOW_MS, now_ms + 1, WINDOW_MS):
            yield from self._close(end_ms)
        message = Message(record.table, 0, self.count, row)
        if stamp_ms < self.until_ms:
            yield from self._ran([message], None)
        else:
            self.waiting[(stamp_ms // WINDOW_MS + 1) * WINDOW_MS].append(message)

    def _close(self, end_ms: int) -> Iterator[Row]:
        self.until_ms = end_ms
        messages = self.waiting.pop(end_ms, [])
        for venue, offset_ms in self.clocks.offsets_ms().items():
            if offset_ms != self.offsets_ms.get(venue, 0):
                self.offsets_ms[venue] = offset_ms
                at = {"event_at": instant_ms(end_ms - 1), "received_at": instant_ms(end_ms - 1) + ""}
                messages.append(Message("venue_times", 0, self.count, {"venue": venue, "offset_ms": offset_ms} | at))
        yield from self._ran(messages, end_ms)

    def _ran(self, messages: list[Message], until_ms: int | None) -> Iterator[Row]:
        updates = [message for message in messages if message.table == "order_books"]
        heard = [message for message in messages if message.table in READ or message.table == "venue_times"]
        if updates:
            heard += self._tops(updates, until_ms)
        outputs = self.oracles and oracles.KERNEL.step(self.oracles, heard, until_ms) if heard else []
        lines = batch.encode(outputs) + ([] if until_ms is None else oracles.end_window(self.oracles, until_ms))
        self.letters += _rows(lines, "dead_letters")
        yield from _rows(lines, "oracle_sources")

    def _tops(self, updates: list[Message], until_ms: int | None) -> list[Message]:
        topic = TABLES["order_books"].topic.encode()
        data = batch.RECORD.join(
            batch.FIELD.join((topic, b"0", b"%d" % message.offset, encoded(message.row))) for message in updates
        )
        lines = batch.run(books.KERNEL, self.books, data, until_ms)
        return [Message("book_tops", 0, self.count, row) for row in _rows(lines, "book_tops")]


def _rows(lines: list[Lines], table: str) -> list[Row]:
    return [row for part in lines if part.table == table for row in orjson.loads(b"[" + part.values.replace(b"\n", b",") + b"]")]


# --- What the job says of the rows


COLUMNS = (
    *("underlying", "source", "kind", "price_usd", "consensus_usd", "deviation", "age_ms", "silent_ms", "limit_ms", "still_ms"),
    *("still_limit_ms", "moved", "lag_ms", "step_back_ms"),
)
CHUNK_MS, KEPT_MS = 60_000, 2_000
CHANGES = """
CREATE TEMPORARY TABLE changes AS
SELECT * FROM (
  SELECT *, fault AS new_fault, event_at AS closed_at,
    LAG(fault) OVER (PARTITION BY `partition`, underlying, source ORDER BY event_at) AS old_fault
  FROM held
) WHERE old_fault <> new_fault
"""
"""The view `changes` without MATCH_RECOGNIZE: any two rows in sequence that differ."""


def faults(sources: Iterable[Row]) -> Iterator[Row]:
    """The rows of `oracle_faults`, by the text of the job, of rows of `oracle_sources` in the order of their time."""
    views = _views()
    kept: list[tuple[Any, ...]] = []
    since_ms = told_ms = 0
    for row in sources:
        # The record timestamp, which is what the job reads as `event_at`.
        event_ms = to_ms(row["event_at"]) - 1
        since_ms = since_ms or event_ms
        if event_ms >= since_ms + CHUNK_MS:
            yield from _decided(views, kept, told_ms)
            told_ms, since_ms = kept[-1][0], event_ms
            kept = [one for one in kept if one[0] > told_ms - KEPT_MS]
        kept.append((event_ms, *(row[column] for column in COLUMNS)))
    yield from _decided(views, kept, told_ms)


def _views() -> dict[str, str]:
    text = (Path(jobs.__file__).parent / "oracle_faults.sql").read_text(encoding="utf-8")
    bare = re.sub(r"--[^\n]*", "", text)
    bare = bare.replace("CAST(closed_at + INTERVAL '0.001' SECOND AS TIMESTAMP_LTZ(3))", "closed_at + 1")
    bare = bare.replace("CAST(closed_at AS TIMESTAMP_LTZ(3))", "closed_at")
    views = {match[1]: match[0] for match in re.finditer(r"CREATE TEMPORARY VIEW (\w+)[^;]*;", bare)}
    return views | {"changes": CHANGES}


def _decided(views: Mapping[str, str], rows: list[tuple[Any, ...]], told_ms: int) -> list[Row]:
    """The faults after an instant; of what was before it the rows are there that decide about the first ones after it."""
    database = sqlite3.connect(":memory:")
    database.create_function("IF", 3, lambda holds, then, otherwise: then if holds else otherwise, deterministic=True)
    database.create_function("GREATEST", 2, lambda a, b: None if a is None or b is None else max(a, b), deterministic=True)
    database.create_function("ELT", -1, lambda place, *values: values[place - 1], deterministic=True)
    types = {"underlying": "TEXT", "source": "TEXT", "kind": "TEXT", "step_back_ms": "BIGINT"}
    columns = ", ".join(f"{column} {types.get(column, 'DOUBLE')}" for column in COLUMNS)
    database.execute(f"CREATE TABLE oracle_sources (`partition` INT, event_at BIGINT, {columns})")
    database.executemany(f"INSERT INTO oracle_sources VALUES (0{', ?' * (1 + len(COLUMNS))})", rows)
    for name in ("signs", "held", "changes", "faults", "oracle_faults_rows"):
        database.execute(views[name])
    database.row_factory = sqlite3.Row
    found = database.execute("SELECT * FROM oracle_faults_rows WHERE closed_at > ? ORDER BY closed_at, source", [told_ms])
    answer = [dict(row) for row in found]
    database.close()
    return answer

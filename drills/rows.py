"""The rows of topics, and whether two runs have the same."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import orjson
from confluent_kafka import KafkaException, TopicPartition

import jobs
from deploy import topics
from deploy.topics import TopicError
from engine.offline import Given, Offline
from feeds.publish import DRAIN_MS
from feeds.simulator import Scenario, simulate
from schemas.clients import to_end
from schemas.records import TABLES
from schemas.rows import key, parted

ARCHIVE = "archive/"
"""Prefix of a table's name for its rows in the archive."""


class Row(NamedTuple):
    """A row as its readers see it; its offset does not matter, nor which rows share its record."""

    key: bytes
    event_ms: int
    value: bytes


Rows = dict[str, Counter[Row]]
"""By table, the number of occurrences of each row."""


def read(servers: str, tables: list[str]) -> Rows:
    """Every committed row of the tables' topics, without heartbeats.  Raises `TopicError`."""
    consumer, partitions = topics.consuming(servers, "gammaflow-drill", {"enable.partition.eof": True})
    rows: Rows = {table: Counter() for table in tables}
    table_of = {TABLES[table].topic: table for table in tables}
    parts = [TopicPartition(topic, part, 0) for topic in table_of for part in range(partitions[topic])]
    try:
        for message in to_end(consumer, parts):
            if message.value() is not None:
                table, own = table_of[message.topic()], parted(message.value())
                for value in own:
                    # A record with rows of several keys has no key.
                    row_key = message.key() if len(own) == 1 else key(table, orjson.loads(value)).encode()
                    rows[table][Row(row_key, message.timestamp()[1], value)] += 1
    except KafkaException as error:
        raise TopicError(error.args[0].str()) from error
    finally:
        consumer.close()
    return rows


def offline(names: list[str], also_read: list[str], scenario: Scenario) -> Rows:
    """Every row that jobs with kernels write of a market, in this process."""
    flow = Offline(names, also_read)
    market = sorted(simulate(scenario), key=lambda record: record.event_ms)
    rows: Rows = {table: Counter() for name in names for table in jobs.job(name).writes}
    until_ms = market[-1].event_ms + DRAIN_MS
    for row in chain(flow.play((Given(*record) for record in market), until_ms), flow.finish()):
        rows[row.table][Row(row.key, row.event_ms, row.value)] += 1
    return rows


def archived(folder: Path, tables: list[str]) -> Rows:
    """Every row of the tables' finished Parquet files, each table under the name `archive/<table>`."""
    from pyarrow import parquet  # takes a while to load

    rows: Rows = {}
    for table in tables:
        counts = rows[f"{ARCHIVE}{table}"] = Counter()
        for file in sorted((folder / table).glob("[!._]*")):
            for row in parquet.read_table(file).to_pylist():
                event_ms = round(row["event_at"].timestamp() * 1000)
                counts[Row(b"", event_ms, repr(sorted(row.items())).encode())] += 1
    return rows


def miscounted(rows: Rows) -> list[str]:
    """The faults of an archive: it must have as many rows as the topic, for it is written exactly once."""
    counts = {table: (rows[table].total(), rows[table.removeprefix(ARCHIVE)].total()) for table in rows if ARCHIVE in table}
    wrong = {table: both for table, both in counts.items() if both[0] != both[1]}
    return [f"{table}: {count:,} rows, where the topic has {expected:,}" for table, (count, expected) in wrong.items()]


def open_transactions(servers: str, tables: list[str]) -> list[str]:
    """The topics with records in an open transaction: no reader gets the records after them."""
    committed = topics.ends(servers, tables)
    written = topics.ends(servers, tables, isolation="read_uncommitted")
    return sorted({topic for (topic, part), end in written.items() if committed[topic, part] < end})


class Comparison(NamedTuple):
    """The rows of one table, compared."""

    table: str
    rows: int  # expected
    missing: int  # of these
    unexpected: int  # rows that should not be
    repeats: int  # of rows that should
    example: Row | None  # one that is missing, unexpected or, where that is a fault, repeated

    @property
    def is_same(self) -> bool:
        """Whether its readers get the same: no repeats if delivery is exactly-once, or else the same distinct rows."""
        return self.example is None


def compare(expected: Rows, actual: Rows) -> list[Comparison]:
    """Compare each table of an undisturbed run with that of a drill."""
    return [_compared(table, rows, actual[table]) for table, rows in expected.items()]


def _compared(table: str, expected: Counter[Row], actual: Counter[Row]) -> Comparison:
    is_exactly_once = TABLES[table.removeprefix(ARCHIVE)].is_exactly_once
    missing = expected - actual if is_exactly_once else Counter(expected.keys()) - actual
    more = actual - expected
    unexpected = [row for row in more if row not in expected]
    repeats = sum(count for row, count in more.items() if row in expected)
    faults = [*missing, *unexpected]
    if is_exactly_once:
        faults += more
    return Comparison(
        table,
        rows=expected.total(),
        missing=missing.total(),
        unexpected=sum(more[row] for row in unexpected),
        repeats=repeats,
        example=min(faults, key=lambda row: row.event_ms, default=None),
    )

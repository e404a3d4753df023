"""Every job against its cases, with the production SQL, on the real broker and cluster.

A case is a folder `<job>/<a sentence>` of rows given and rows expected, a file a table.  All cases of all jobs are played in
one run, so each has venues, accounts and a minute of its own.

given     A row of the table, or {"raw": …, "key": …, "event_at": …} for a value that is none: each character of `raw` is one
          byte.  The record timestamp is `event_at`, less what a feed finds the venue's clock wrong by.  Rows of all tables are
          published in the order of `received_at`, so that one can come late; a raw value is received at its `event_at` where
          it does not say another.  One that is more than a second behind, its receipt too, comes when all before it have been
          read, and so is late for certain.
expect    The columns that matter of every row that the job writes for the case's venues and accounts, up to a second after
          its last given row; no file, no rows.  In the folder of a stage the stage's tables count, in that of its job those
          that the cases there expect.  A row of an underlying alone belongs to the case that has a venue of its name.
          A dead letter belongs to the case whose names stand in its original, which is shown as text.
"""

import json
import math
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition

import jobs
from cli.play import DETERMINISTIC
from deploy import runtime, topics
from deploy.runtime import Runtime
from feeds import Record
from feeds.publish import Publisher
from schemas.records import TABLES
from schemas.rows import to_ms, to_us

FOLDER = Path(__file__).parent
JOBS = [name for name in jobs.FLOW if name != "archive"]
AFTER_MS = 1000
OWN_TOPICS = {"book_tops", "book_depth", "account_margin"}
"""Topics that cases give, or do without, though a job writes them."""
STAGES = {"margin": "liquidations"}
"""Folders of the cases of one stage, by its name, and the job that runs it."""

Row = dict[str, Any]
Rows = dict[str, list[Row]]


@dataclass(frozen=True)
class Case:
    """One folder."""

    stage: str  # a job, or a stage of one
    sentence: str

    @property
    def job(self) -> str:
        """Whose rows are expected."""
        return STAGES.get(self.stage, self.stage)

    @property
    def tables(self) -> list[str]:
        """What the job writes; of a job with stages what the stage writes, as its cases say, and dead letters."""
        writes = jobs.job(self.job).writes
        if self.job not in STAGES.values():
            return writes
        own = {file.stem for file in (FOLDER / self.stage).glob("*/expect/*.jsonl")}
        return [table for table in writes if table in {*own, "dead_letters"}]

    def rows(self, side: str) -> Rows:
        """The rows given or expected, by table."""
        files = sorted((FOLDER / self.stage / self.sentence / side).glob("*.jsonl"))
        return {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files}

    @property
    def given(self) -> list[tuple[str, Row]]:
        """The rows given, with their tables, in the order in which they come."""
        rows = [(table, row) for table, rows in self.rows("given").items() for row in rows]
        return sorted(rows, key=lambda item: to_us(item[1].get("received_at") or item[1]["event_at"]))

    @property
    def names(self) -> set[str]:
        """The venues and accounts that are its own."""
        return {row[column] for _, row in self.given for column in ("venue", "account") if column in row}

    @property
    def end_ms(self) -> int:
        """Until when its rows count: later ones answer to the prices of another case."""
        return max(to_ms(row["event_at"]) for _, row in self.given if row["event_at"] < "2027") + AFTER_MS

    def owns(self, table: str, row: Row) -> bool:
        """Whether a row that was written is its own."""
        if table == "dead_letters":
            original = row["original"]
            return any(f'"{name}"' in original for name in self.names) or original in self.raws
        names = {row.get("venue"), row.get("account"), row.get("underlying")}
        return bool(names & self.names) and to_ms(row["event_at"]) <= self.end_ms

    @property
    def raws(self) -> set[str]:
        """The values given that are no rows."""
        return {row["raw"] for _, row in self.given if "raw" in row}


CASES = [
    Case(stage, folder.name) for stage in (*JOBS, *STAGES) for folder in sorted((FOLDER / stage).iterdir()) if folder.is_dir()
]


@pytest.fixture(scope="module")
def written(suite: Runtime) -> Rows:
    """What the jobs wrote, by table, when all cases had been played at parallelism 2."""
    sinks = sorted({table for job in JOBS for table in jobs.job(job).writes})
    starts = topics.ends(suite.kafka, sinks)
    runtime.submit(suite, JOBS, 2, DETERMINISTIC)
    play(suite)
    runtime.drain(suite, JOBS)
    written = {table: list(read(suite.kafka, table, starts)) for table in sinks}
    for letter in written["dead_letters"]:
        letter["original"] = b64decode(letter["original"]).decode("latin-1")
    return written


def play(suite: Runtime) -> None:
    """Publish every case's rows, the cases in the order of their time."""
    producer = Producer({"bootstrap.servers": suite.kafka, "partitioner": "murmur2_random"})
    with Publisher(suite.kafka) as publisher:
        newest_ms, was_late = 0, False
        before: list[str] = []
        for case in sorted(CASES, key=lambda case: case.end_ms):
            given = {table for table, _ in case.given}
            upstream = [job for job in JOBS if set(jobs.job(job).writes) & set(jobs.job(case.job).reads) - given - OWN_TOPICS]
            # What comes by two jobs must be there before the next case's rows are.  Between cases lies a minute, which takes no
            # time here: let the first of the two be done with what was, and then with this.
            for job in {*before, *upstream}:
                publisher.flush()
                runtime.wait_read(suite, job)
            before = upstream
            for table, row in case.given:
                event_ms = to_ms(row["event_at"])
                received_ms = to_ms(row.get("received_at") or row["event_at"])
                # Not what is only behind a venue whose clock is ahead.
                is_late = event_ms < min(newest_ms, received_ms) - AFTER_MS
                if is_late and not was_late:
                    publisher.flush()
                    # All of them, in the order of their flow: what one has read moves the time of those after it.
                    for job in JOBS:
                        runtime.wait_read(suite, job)
                if "raw" in row:
                    publisher.flush()
                    producer.produce(TABLES[table].topic, row["raw"].encode("latin-1"), row["key"], timestamp=event_ms)
                    assert producer.flush(30) == 0
                else:
                    publisher.publish(Record(table, event_ms, row))
                newest_ms, was_late = max(newest_ms, event_ms), is_late


def read(servers: str, table: str, starts: dict[tuple[str, int], int]) -> Iterator[Row]:
    """The rows of a topic; heartbeats, which have no value, left out."""
    topic = TABLES[table].topic
    consumer = KafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed", enable_auto_commit=False)
    try:
        for part in sorted(consumer.partitions_for_topic(topic)):
            at = TopicPartition(topic, part)
            consumer.assign([at])
            consumer.seek(at, starts[topic, part])
            end = consumer.end_offsets([at])[at]
            while consumer.position(at) < end:
                for records in consumer.poll(timeout_ms=1000).values():
                    yield from (json.loads(record.value) for record in records if record.value is not None)
    finally:
        consumer.close()


def agrees(actual: object, expected: object) -> bool:
    """Whether a value is the expected one; numbers to nine digits."""
    if isinstance(expected, float) and isinstance(actual, int | float):
        return math.isclose(actual, expected, rel_tol=1e-9, abs_tol=1e-12)
    return actual == expected


def unmatched(actual: list[Row], expected: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows expected that were not written, and those written that were not expected, each row matched once."""
    left = list(actual)
    missing: list[Row] = []
    for wanted in expected:
        found = next((row for row in left if all(agrees(row.get(column), wanted[column]) for column in wanted)), None)
        if found is None:
            missing.append(wanted)
        else:
            left.remove(found)
    return missing, left


def test_bars_are_what_exact_arithmetic_makes_of_their_trades(written: Rows) -> None:
    trades: dict[tuple[str, str, str], dict[str, Row]] = {}
    for case in CASES:
        for table, row in case.given:
            if (case.job, table) == ("bars", "trades") and "raw" not in row and row.get("off_market") is None:
                trades.setdefault((row["venue"], row["instrument"], row["event_at"][:19]), {})[row["trade_id"]] = row
    bars = [bar for bar in written["bars"] if bar["interval_s"] == 1 and bar["venue"].startswith("bars_")]
    for bar in bars:
        of_second = list(trades[bar["venue"], bar["instrument"], bar["start_at"][:19]].values())
        if bar["trade_count"] != len(of_second):
            assert bar["venue"] == "bars_closed"
            continue
        volume = sum(Fraction(str(row["size"])) for row in of_second)
        turnover = sum(Fraction(str(row["price"])) * Fraction(str(row["size"])) for row in of_second)
        assert bar["volume"] == pytest.approx(float(volume), rel=4e-16, abs=0)
        assert bar["vwap"] == pytest.approx(float(turnover / volume), rel=1e-15, abs=0)
        assert bar["low_price"] <= bar["vwap"] <= bar["high_price"]
    assert len(bars) > 50


def test_no_two_cases_share_a_name_or_a_minute() -> None:
    names = [name for case in CASES for name in case.names]
    assert len(names) == len(set(names))
    spans = sorted(
        (min(to_ms(row["event_at"]) for _, row in case.given if row["event_at"] > "2026"), case.end_ms) for case in CASES
    )
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_every_dead_letter_belongs_to_one_case(written: Rows) -> None:
    for letter in written["dead_letters"]:
        assert len([case for case in CASES if case.owns("dead_letters", letter)]) == 1, letter


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.stage}-{case.sentence}")
def test_case(case: Case, written: Rows) -> None:
    expected = case.rows("expect")
    tables = case.tables
    assert set(expected) <= set(tables)
    wrong: list[str] = []
    for table in tables:
        columns = {column for row in expected.get(table, []) for column in row}
        missing, left = unmatched([row for row in written[table] if case.owns(table, row)], expected.get(table, []))
        wrong += [f"{table} lacks {json.dumps(row)}" for row in missing]
        wrong += [f"{table} has  {json.dumps({k: v for k, v in row.items() if not columns or k in columns})}" for row in left]
    assert not wrong, "\n".join(wrong)

"""Jobs of SQL alone tell the time: their topics say what time it is, in order with their rows, and a kernel can wait for them.

A job of the test's own reads `bars` together with `tickers` and emits a row for each bar of a second.  There is no idle
timeout: without heartbeats in `bars` it would wait for ever.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import pytest
from kafka import KafkaConsumer, TopicPartition

import jobs
from cli.play import DETERMINISTIC
from deploy import runtime, topics
from deploy.runtime import Runtime
from feeds.publish import END_MS, Publisher
from feeds.simulator import Scenario, simulate
from schemas.records import TABLES
from schemas.rows import to_ms

MARKET = Scenario(
    duration_s=6,
    book_updates_per_s=100,
    tickers_per_s=50,
    trades_per_s=30,
    fills_per_s=0,
    strikes=2,
    expiries=2,
    accounts=0,
    doomed=0,
    crash_size=0,
)
END_OF_FEED_MS = MARKET.start_ms + 1000 * MARKET.duration_s + END_MS
BARS_DELAY_MS = 1000
"""How long jobs of SQL alone wait for records that are out of order."""
HEARTBEAT_MS, WINDOW_MS = 100, 20
LAST_BAR_MS = END_OF_FEED_MS - BARS_DELAY_MS - HEARTBEAT_MS - WINDOW_MS
"""Until when the time that is told in `bars` has passed the end of a batch, once the feed has ended."""
SQL_JOBS = [name for name in jobs.FLOW if jobs.job(name).kernel is None and jobs.job(name).tells_time]
UPSTREAM = jobs.upstream(SQL_JOBS)
PROBE = {
    "jobs/probe.sql": """-- probe: which batch has each bar of a second, and how many tickers has its shard got by then?
SET 'gammaflow.reads' = 'bars, tickers';
SET 'gammaflow.kernel' = 'probe';
SET 'gammaflow.writes' = 'option_greeks';
""",
    "kernels/probe.py": """
from engine.contract import Kernel, Output
from schemas.rows import instant_us

class Tickers:
    def __init__(self):
        self.touched = set()
        self.count = 0

    def encode(self, name):
        return b"%d" % self.count

    def decode(self, name, data):
        self.count = int(data)

def step(state, messages, until_ms):
    state.count += sum(message.table == "tickers" for message in messages)
    state.touched.add("count")
    bars = [message.row for message in messages if message.table == "bars" and message.row["interval_s"] == 1]
    received_at = instant_us(1000 * (until_ms or 0))
    names = ("venue", "instrument", "event_at")
    rows = [{**{name: bar[name] for name in names}, "received_at": received_at, "reason": str(state.count)} for bar in bars]
    return [Output("option_greeks", until_ms or 0, row) for row in rows]

KERNEL = Kernel(name="probe", version=1, new=Tickers, step=step)
""",
}


@dataclass(frozen=True)
class Record:
    """One record of a topic; a heartbeat has no value."""

    partition: int
    event_ms: int
    value: bytes | None


def read(suite: Runtime, table: str) -> list[Record]:
    """Every record of a table's topic, partition by partition."""
    topic = TABLES[table].topic
    consumer = KafkaConsumer(bootstrap_servers=suite.kafka, enable_auto_commit=False)
    records: list[Record] = []
    try:
        for partition in range(topics.partitions(suite.kafka)):
            part = TopicPartition(topic, partition)
            consumer.assign([part])
            consumer.seek_to_beginning(part)
            end = consumer.end_offsets([part])[part]
            while consumer.position(part) < end:
                for batch in consumer.poll(timeout_ms=1000).values():
                    records += [Record(partition, record.timestamp, record.value) for record in batch]
    finally:
        consumer.close()
    return records


def expected_bars(records: list[Record]) -> set[tuple[str, str, str, int]]:
    """The bars of a second whose batch is over once the feed has ended, with their partitions."""
    rows = [(json.loads(record.value), record) for record in records if record.value and record.event_ms <= LAST_BAR_MS]
    return {(row["venue"], row["instrument"], row["event_at"], at.partition) for row, at in rows if row["interval_s"] == 1}


@pytest.fixture(scope="module")
def probed(suite: Runtime) -> list[Record]:
    """What the job of the test's own emits while nothing has been drained."""
    # All bring the same code: a TaskManager imports `kernels` once.
    runtime.submit(suite, UPSTREAM, 2, DETERMINISTIC, changed=PROBE)
    runtime.flink_run(suite, ["probe"], ["-pym", "engine.run", "probe"], 2, DETERMINISTIC, changed=PROBE)
    with Publisher(suite.kafka) as publisher:
        for record in simulate(MARKET):
            publisher.publish(record)
    deadline_s = time.monotonic() + 60
    while True:
        bars = read(suite, "bars")
        told = {record.partition for record in bars if record.value is None and record.event_ms >= LAST_BAR_MS}
        rows = [record for record in read(suite, "option_greeks") if record.value]
        has_all_bars = len(told) == topics.partitions(suite.kafka)
        if (has_all_bars and len(rows) >= len(expected_bars(bars))) or time.monotonic() > deadline_s:
            break
    return rows


@pytest.fixture(scope="module")
def drained(suite: Runtime, probed: list[Record]) -> dict[str, list[Record]]:
    """The records of every topic in which a job of SQL alone tells the time, by table, once the jobs have ended."""
    assert probed
    runtime.drain(suite, UPSTREAM)
    return {table: read(suite, table) for name in SQL_JOBS for table in jobs.job(name).tells_time}


def test_bars_and_book_metrics_are_among_them(drained: dict[str, list[Record]]) -> None:
    assert set(drained) >= {"bars", "book_metrics"}


@pytest.mark.parametrize("table", ["bars", "book_metrics"])
def test_every_record_is_later_than_the_heartbeats_before_it_in_its_partition(
    drained: dict[str, list[Record]], table: str
) -> None:
    newest_ms: dict[int, int] = {}
    kinds: Counter[tuple[int, bool]] = Counter()
    for record in drained[table]:
        assert record.event_ms > newest_ms.get(record.partition, 0)
        kinds[record.partition, record.value is None] += 1
        if record.value is None:
            newest_ms[record.partition] = record.event_ms
    assert all(kinds[partition, True] > 10 for partition in newest_ms)
    # Rows and heartbeats are in one partition, or there would be nothing to be out of order.
    assert sum(kinds[partition, False] > 0 for partition in newest_ms) > 1


@pytest.mark.parametrize("table", ["bars", "book_metrics"])
def test_every_partition_has_the_time_of_the_inputs_to_their_end(
    suite: Runtime, drained: dict[str, list[Record]], table: str
) -> None:
    (name,) = [name for name in SQL_JOBS if table in jobs.job(name).tells_time]
    for partition in range(topics.partitions(suite.kafka)):
        times_ms = [record.event_ms for record in drained[table] if record.partition == partition and record.value is None]
        told_ms = {
            record.event_ms
            for source in jobs.job(name).reads
            for record in read(suite, source)
            if record.partition == partition and record.value is None
        }
        # A heartbeat of the inputs is passed on at the end of its own 0.1 s.
        assert {ms // HEARTBEAT_MS * HEARTBEAT_MS + HEARTBEAT_MS - 1 for ms in told_ms} <= set(times_ms)
        assert max(times_ms) >= max(told_ms)
        assert all(before < after for before, after in pairwise(times_ms))


def test_a_kernel_gets_the_bars_of_a_job_of_sql_alone_with_the_tickers_of_their_time_and_waits_for_nothing(
    suite: Runtime, probed: list[Record], drained: dict[str, list[Record]]
) -> None:
    rows = [(json.loads(record.value or b""), record) for record in probed]
    emitted = {(row["venue"], row["instrument"], row["event_at"], at.partition) for row, at in rows}
    assert len(emitted) == len(rows)
    assert emitted == expected_bars(drained["bars"])
    tickers = [record for record in read(suite, "tickers") if record.value]
    for row, record in rows:
        assert record.event_ms == to_ms(row["event_at"]) + WINDOW_MS
        before = [one for one in tickers if one.partition == record.partition and one.event_ms < record.event_ms]
        assert int(row["reason"]) == len(before)

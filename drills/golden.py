"""Golden savepoints: what each job had stored half way through the market, kept, and gone on from by every later version.

`python -m drills.golden <folder>` makes a folder of them: a savepoint a job; the market that was played, for the last digit of
its numbers differs from processor to processor, and one day it may be simulated otherwise; and `written.json`, which says how
much of it was half, how far each topic had been written by then and how many rows each table had.  A version is recorded once,
when it is released; what was recorded is never recorded again.

Whoever goes on from it needs no topic of that time.  A savepoint knows offsets, so each partition is filled with as many
records without a value, which nobody reads, and the rest of the market is played.  Before and after together must be the rows
of a run that never stopped.
"""

import gzip
import json
import shutil
import sys
from collections import Counter
from itertools import takewhile
from pathlib import Path

from confluent_kafka import Producer

import jobs
from deploy import runtime, topics
from deploy.savepoints import folder_of
from drills.rows import Rows
from drills.stage import Stage
from drills.suite import HALF_TIME_MS, MARKET, WAIT_S
from feeds import Record
from feeds.publish import Publisher
from feeds.simulator import simulate
from schemas import RETIRED

NAMES = [name for name in jobs.FLOW if name != "archive"]
"""All jobs with state that outlives them; the archive's are its read positions."""
BEGUN_ANEW = {"0.1.0": ("bars", "book_metrics", "venue_clocks")}
"""SQL jobs whose state has changed since a version: they do not go on from its savepoints, but begin anew."""
MORE_ROWS = {"0.1.0": ("book_depth", "book_metrics")}
"""Tables that get more rows now than in that version: each book is written again every ten seconds."""
RESTATED = {"0.1.0": ("account_margin", "position_margin")}
"""Tables of which some rows are written again at the start: margin is a stage of a job now that did not store the status
of accounts, and writes a row of each at the first whole second."""
SETTINGS = {"gammaflow.window": "0.05"}
"""What the jobs had when version 0.1.0 was recorded: rows say at the end of which micro-batch they were made."""
WRITTEN, PLAYED = "written.json", "market.jsonl.gz"


def record(folder: Path) -> None:
    """Play half of the market, stop every job with a savepoint, and keep these in a new folder.

    Raises `FileExistsError`, and as `drills.suite.played`.
    """
    folder.mkdir(parents=True)
    kept = "".join(json.dumps(record) + "\n" for record in simulate(MARKET))
    (folder / PLAYED).write_bytes(gzip.compress(kept.encode(), mtime=0))
    with Stage() as stage:
        suite = stage.suite(NAMES)
        place = suite.place
        suite.submit()
        with Publisher(place.kafka) as publisher:
            first_half = list(takewhile(lambda one: one.event_ms < HALF_TIME_MS, market(folder)))
            for one in first_half:
                publisher.publish(one)
            publisher.flush()
            for name in NAMES:
                runtime.wait_read(place, name, WAIT_S)
                savepoint = folder_of(runtime.stop(place, name))
                assert savepoint is not None, "an embedded cluster's savepoints are here"
                shutil.copytree(savepoint, folder / name)
            ends = topics.ends(place.kafka, _tables(), isolation="read_uncommitted")
            rows = {table: found.total() for table, found in suite.read().items()}
    named = {f"{topic}/{part}": end for (topic, part), end in sorted(ends.items())}
    written = {"played": len(first_half), "ends": named, "rows": rows}
    (folder / WRITTEN).write_text(json.dumps(written, indent=1) + "\n")


def kept(folder: Path) -> list[str]:
    """The jobs that go on from a folder's savepoints."""
    return [name for name in NAMES if name not in BEGUN_ANEW.get(folder.name, ())]


def market(folder: Path) -> list[Record]:
    """What a folder's jobs were played, and what came after it, in the order of arrival."""
    with gzip.open(folder / PLAYED, "rt") as lines:
        return [Record(*json.loads(line)) for line in lines]


def gone_on(stage: Stage, folder: Path) -> Rows:
    """Let today's jobs go on from a folder's savepoints, through the rest of the market; returns what they write.

    Raises as `drills.suite.played`.
    """
    written, records = json.loads((folder / WRITTEN).read_text()), market(folder)
    names = kept(folder)
    suite = stage.suite(names, settings=SETTINGS)
    # A broker that has been upgraded has the topics of its earlier versions.
    topics.create_named(suite.place.kafka, dict.fromkeys(RETIRED, False), topics.partitions(suite.place.kafka))
    producer = Producer({"bootstrap.servers": suite.place.kafka})
    for of, end in written["ends"].items():
        topic, _, part = of.rpartition("/")
        for _ in range(end):
            producer.produce(topic, None, "before", int(part), timestamp=records[0].event_ms)
            producer.poll(0)
    producer.flush()
    suite.submit({name: (folder / name).resolve().as_uri() for name in names})
    with Publisher(suite.place.kafka) as publisher:
        for one in records[written["played"] :]:
            publisher.publish(one)
    runtime.drain(suite.place, names, WAIT_S)
    return suite.read()


def differences(folder: Path, expected: Rows, found: Rows) -> list[str]:
    """What is wrong with what was written after a folder's savepoints, beside the rows of a run that never stopped."""
    before = json.loads((folder / WRITTEN).read_text())["rows"]
    wrong = []
    for table, rows in expected.items():
        after = found.get(table, Counter())
        unexpected, left = after - rows, rows - after
        if unexpected and table not in RESTATED.get(folder.name, ()):
            wrong.append(f"{table}: {unexpected.total()} rows that should not be, e.g. {min(unexpected)}")
        has_more = table in MORE_ROWS.get(folder.name, ())
        if left.total() < before[table] or (left.total() > before[table] and not has_more):
            wrong.append(f"{table}: {left.total()} rows did not come, of which {before[table]} were written before")
    return wrong


def _tables() -> list[str]:
    """Every table that a job reads or writes."""
    return sorted({table for name in NAMES for table in (*jobs.job(name).reads, *jobs.job(name).writes)})


if __name__ == "__main__":
    record(Path(sys.argv[1]))

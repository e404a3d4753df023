"""Golden savepoints: the state of each job half way through the market, which every later version must restore.

`python -m drills.golden <folder>` makes a folder with a savepoint for each job; the market that was played, for the last digit
of its numbers depends on the processor, and the simulation may change; and `written.json`, which says where its half was, how
far each topic had been written by then and how many rows each table had.  A version is recorded once, when it is released.

A restore does not need the topics of that time.  A savepoint has offsets, so each partition is filled with as many records
without a value, which no job reads, and the rest of the market is played.  The rows before and after must together be those of
a run that never stopped.
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
"""All jobs with state beyond read positions: not the archive."""
NEWER = {"0.1.0": ("oracles", "oracle_faults", "breakers", "orders", "matching", "fund", "execution")}
"""Jobs that are newer than a version."""
BEGUN_ANEW = {"0.1.0": ("bars", "book_metrics", "venue_clocks")}
"""SQL jobs whose state has changed since a version: they start without its savepoints."""
MORE_ROWS = {"0.1.0": ("book_depth", "book_metrics", "liquidation_events", "loss_claims")}
"""Tables that have more rows now than in that version: each book has a row every ten seconds, and a loss is claimed from
the fund, which was part of the job."""
RESTATED = {"0.1.0": ("account_margin", "position_margin")}
"""Tables with some rows repeated at the start: margin is now a stage of a job that did not store the status of accounts, and
writes a row of each account at the first whole second."""
TOLD = {"0.1.0": {"instruments": {"amount_per_contract": 1.0}}}
"""What feeds tell now in tables that had no such column in a version: here, that the sizes of the simulated venues are
contracts."""
SETTINGS = {"gammaflow.window": "0.05", "gammaflow.controls": "recorded"}
"""The settings when version 0.1.0 was recorded, for rows have the end of their micro-batch; and nobody is listened to."""
WRITTEN, PLAYED = "written.json", "market.jsonl.gz"


def record(folder: Path) -> None:
    """Play half of the market, stop every job with a savepoint, and keep these in a new folder.

    Raises `FileExistsError`, and what `drills.suite.played` raises.
    """
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(record) + "\n" for record in simulate(MARKET))
    (folder / PLAYED).write_bytes(gzip.compress(lines.encode(), mtime=0))
    with Stage() as stage:
        suite = stage.suite(NAMES)
        up = suite.up
        suite.submit()
        with Publisher(up.kafka) as publisher:
            first_half = list(takewhile(lambda record: record.event_ms < HALF_TIME_MS, market(folder)))
            for record in first_half:
                publisher.publish(record)
            publisher.flush()
            for name in NAMES:
                runtime.wait_read(up, name, WAIT_S)
                savepoint = folder_of(runtime.stop(up, name))
                assert savepoint is not None, "an embedded cluster's savepoints are here"
                shutil.copytree(savepoint, folder / name)
            ends = topics.ends(up.kafka, _tables(), isolation="read_uncommitted")
            rows = {table: counts.total() for table, counts in suite.read().items()}
    named = {f"{topic}/{part}": end for (topic, part), end in sorted(ends.items())}
    written = {"played": len(first_half), "ends": named, "rows": rows}
    (folder / WRITTEN).write_text(json.dumps(written, indent=1) + "\n")


def kept(folder: Path) -> list[str]:
    """The jobs that restore a folder's savepoints."""
    return [name for name in names(folder) if name not in BEGUN_ANEW.get(folder.name, ())]


def names(folder: Path) -> list[str]:
    """The jobs whose savepoints a folder holds."""
    return [name for name in NAMES if name not in NEWER.get(folder.name, ())]


def market(folder: Path) -> list[Record]:
    """The whole market of a folder, in the order of arrival, with what feeds tell now."""
    told = TOLD.get(folder.name, {})
    with gzip.open(folder / PLAYED, "rt") as lines:
        records = [Record(*json.loads(line)) for line in lines]
    return [record._replace(row={**told[record.table], **record.row}) if record.table in told else record for record in records]


def gone_on(stage: Stage, folder: Path) -> Rows:
    """Restore a folder's savepoints with today's jobs, and play the rest of the market; returns what the jobs write.

    Raises what `drills.suite.played` raises.
    """
    written, records = json.loads((folder / WRITTEN).read_text()), market(folder)
    names = kept(folder)
    suite = stage.suite(names, settings=SETTINGS)
    # An upgraded broker still has the topics of earlier versions.
    topics.create_named(suite.up.kafka, dict.fromkeys(RETIRED, False), topics.partitions(suite.up.kafka))
    producer = Producer({"bootstrap.servers": suite.up.kafka})
    for topic_and_part, end in written["ends"].items():
        topic, _, part = topic_and_part.rpartition("/")
        for _ in range(end):
            producer.produce(topic, None, "before", int(part), timestamp=records[0].event_ms)
            producer.poll(0)
    producer.flush()
    suite.submit({name: (folder / name).resolve().as_uri() for name in names})
    with Publisher(suite.up.kafka) as publisher:
        for record in records[written["played"] :]:
            publisher.publish(record)
    runtime.drain(suite.up, names, WAIT_S)
    return suite.read()


def differences(folder: Path, expected: Rows, actual: Rows) -> list[str]:
    """The faults in the rows after a folder's savepoints, compared with a run that never stopped."""
    before = json.loads((folder / WRITTEN).read_text())["rows"]
    wrong = []
    for table, rows in expected.items():
        after = actual.get(table, Counter())
        unexpected, left = after - rows, rows - after
        if unexpected and table not in RESTATED.get(folder.name, ()):
            wrong.append(f"{table}: {unexpected.total()} rows that should not be, e.g. {min(unexpected)}")
        has_more = table in MORE_ROWS.get(folder.name, ())
        written = before.get(table, 0)  # a table may be newer
        if left.total() < written or (left.total() > written and not has_more):
            wrong.append(f"{table}: {left.total()} rows did not come, of which {written} were written before")
    return wrong


def _tables() -> list[str]:
    """Every table that a job reads or writes."""
    return sorted({table for name in NAMES for table in (*jobs.job(name).reads, *jobs.job(name).writes)})


if __name__ == "__main__":
    record(Path(sys.argv[1]))

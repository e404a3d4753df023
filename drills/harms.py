"""The drills, and the harm of each."""

import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import orjson
from confluent_kafka import Producer

import jobs
from cli import controls
from deploy import processes, runtime, topics
from deploy.processes import StartError
from deploy.savepoints import FILE, folder_of
from drills import versions
from drills.rows import Rows, open_transactions
from drills.suite import HALF_TIME_MS, JOBS, MARKET, OWN_VENUE, Harm, Suite
from drills.versions import Version
from feeds import Record
from feeds.publish import FEED_TABLES, Publisher
from feeds.simulator import Scenario, simulate
from jobs import APPLIED
from schemas import TOLD_AHEAD
from schemas.controls import ALL, CANCEL_ALL
from schemas.records import TABLES
from schemas.rows import instant_ms, to_ms

OLDER = {"books": 2}
UNKNOWN_VERSION = 99
JUMPING = "sim_alpha"
JUMP_MS = 60 * 60 * 1000
NEW_COLUMN = re.compile(rb',"price_range":[^,}]+')
PARTITION = re.compile(rb'_partition":\d+')
POISON = b"\x00 is no JSON"


def kill_taskmanager(suite: Suite) -> list[str]:
    """Kill the TaskManager of the first job, whose rows other jobs read; the other one has slots for its tasks."""
    return kill_holder(suite.names[0])(suite)


def kill_holder(job: str) -> Harm:
    """Kill the TaskManager that runs a job."""

    def harm(suite: Suite) -> list[str]:
        victim, restarting = next((name, held) for name, held in suite.taskmanagers().items() if job in held)
        processes.kill(suite.up.started[victim])
        return restarting

    return harm


def kill_jobmanager(suite: Suite) -> list[str]:
    """Kill the JobManager and start another one, like a supervisor: it finds the jobs in ZooKeeper."""
    processes.kill(suite.up.started["jobmanager"])
    runtime.restart(suite.up, "jobmanager")
    return suite.names


def kill_both(suite: Suite) -> list[str]:
    """Kill a TaskManager and the JobManager, and start only the JobManager again."""
    kill_taskmanager(suite)
    return kill_jobmanager(suite)


def restart_broker(suite: Suite) -> list[str]:
    """Stop the broker and start it again; jobs and feed wait for it."""
    processes.stop([suite.up.started["broker"]])
    runtime.restart(suite.up, "broker")
    return []


def kill_broker(suite: Suite) -> list[str]:
    """Kill the broker while a transaction is open, and start it again."""
    up = suite.up
    suite.wait(lambda: bool(open_transactions(up.kafka, suite.written)), "a transaction is open")
    processes.kill(up.started["broker"])
    runtime.restart(up, "broker")
    return []


def rescale(parallelism: int) -> Harm:
    """Stop every job with a savepoint and start it from there at another parallelism."""

    def harm(suite: Suite) -> list[str]:
        savepoints = suite.stop()
        suite.parallelism = parallelism
        suite.submit(savepoints)
        return suite.names

    return harm


def offer_unknown_state(suite: Suite) -> list[str]:
    """Start the first job from a savepoint of a future version, which it must refuse; then restore all from their own."""
    savepoints = suite.stop()
    name = suite.names[0]
    file = _noted(savepoints[name])
    own = file.read_text()
    _note({name: savepoints[name]}, {name: UNKNOWN_VERSION})
    try:
        suite.submit(savepoints)
    except StartError as error:
        if f"kernel {name} is {UNKNOWN_VERSION}" not in str(error) or suite.up.rest.active():
            raise
    else:
        raise StartError(f"job {name} was started from a savepoint of version {UNKNOWN_VERSION}")
    file.write_text(own)
    suite.submit(savepoints)
    return suite.names


def upgrade(suite: Suite) -> list[str]:
    """Stop the jobs of an older version, and restore their savepoints with the newer version."""
    savepoints = suite.stop()
    _note(savepoints, OLDER)
    suite.restart_taskmanagers()
    suite.version = {}
    suite.submit(savepoints)
    return suite.names


def go_back(suite: Suite) -> list[str]:
    """Upgrade one job, let it write, and go back to the older version and the savepoint from before.

    The job's tables are at-least-once: rows that the newer version has written stay, and are written again.
    """
    name, table = "books", "book_tops"
    savepoints = suite.stop([name])
    _note(savepoints, OLDER)
    older, suite.version = suite.version, {}
    suite.restart_taskmanagers()
    suite.submit(savepoints, [name])
    ends = topics.ends(suite.up.kafka, [table])
    suite.wait(lambda: topics.ends(suite.up.kafka, [table]) != ends, "the newer version writes")
    suite.up.rest.cancel(suite.up.rest.active()[name])
    suite.wait(lambda: name not in suite.up.rest.active(), "the newer version ends")
    suite.version = older
    suite.restart_taskmanagers()
    suite.submit(savepoints, [name])
    return suite.names


def widen(suite: Suite) -> list[str]:
    """Stop a job of SQL alone, and restore its savepoint with a version whose rows have one more column."""
    savepoints = suite.stop(["bars"])
    suite.version = versions.wider()
    suite.submit(savepoints, ["bars"])
    return ["bars"]


def without_range(rows: Rows, names: list[str]) -> list[str]:
    """Remove the new column from the rows of bars; returns a fault if all rows have it, or none."""
    found, rows["bars"], wide = rows["bars"], Counter(), 0
    for row, count in found.items():
        value = NEW_COLUMN.sub(b"", row.value)
        wide += value != row.value
        rows["bars"][row._replace(value=value)] += count
    return [] if 0 < wide < len(found) else [f"bars: {wide} of {len(found)} rows have the new column"]


def _note(savepoints: dict[str, str], kernels: dict[str, int]) -> None:
    """Note in savepoints the versions that stored them, which are not those of this code."""
    for path in savepoints.values():
        file = _noted(path)
        noted = json.loads(file.read_text())
        noted["kernels"] |= {name: version for name, version in kernels.items() if name in noted["kernels"]}
        file.write_text(json.dumps(noted))


def _noted(savepoint: str) -> Path:
    folder = folder_of(savepoint)
    assert folder is not None, f"{savepoint} is not on this machine"
    return folder / FILE


def poison(suite: Suite) -> list[str]:
    """Write an unreadable record into every topic that a job reads, with a time that the topic has reached."""
    producer = Producer({"bootstrap.servers": suite.up.kafka})  # the suite's own broker, which needs no password
    for table in sorted({table for name in suite.names for table in jobs.job(name).reads}):
        event_ms = HALF_TIME_MS - 1_000 if table in FEED_TABLES else MARKET.start_ms
        producer.produce(TABLES[table].topic, POISON, "poison", timestamp=event_ms)
    if left := producer.flush(30):
        raise StartError(f"the broker did not accept {left} poisoned records")
    return []


def without_poison(rows: Rows, names: list[str]) -> list[str]:
    """Remove the poison and its dead letters from the rows; returns what is wrong with the letters.

    Each job that writes dead letters must have written one for each topic that it reads.
    """
    for table in rows.values():
        for row in [row for row in table if row.value == POISON]:
            del table[row]
    expected = Counter(
        TABLES[table].topic for name in names if "dead_letters" in jobs.job(name).writes for table in jobs.job(name).reads
    )
    found: Counter[str] = Counter()
    for row in list(rows["dead_letters"]):
        letter = orjson.loads(row.value)
        if b64decode(letter["original"]) == POISON:
            found[letter["source"]] += rows["dead_letters"].pop(row)
    return [
        f"dead_letters: {found[topic]} about {topic}, not {count}" for topic, count in expected.items() if found[topic] != count
    ]


def jump_clock(suite: Suite) -> list[str]:
    """Repeat one venue's messages of the last moment with times an hour later: its clock has jumped, and jumps back."""
    # Without the heartbeats that end a feed, with a time past its last record: the other feed, which goes on, is not there yet.
    publisher = Publisher(suite.up.kafka)
    for table, event_ms, row in simulate(MARKET):
        if row.get("venue") == JUMPING and HALF_TIME_MS - 500 <= event_ms < HALF_TIME_MS:
            jumped = Record(table, event_ms + JUMP_MS, {**row, "event_at": instant_ms(event_ms + JUMP_MS)})
            # Later records have not been received yet.
            if to_ms(row["received_at"]) < HALF_TIME_MS:
                publisher.publish(jumped)
    publisher.flush()
    return []


def without_jump(rows: Rows, names: list[str]) -> list[str]:
    """Remove the dead letters about rows of an hour later; returns a fault if there are none."""
    count = 0
    for row in list(rows["dead_letters"]):
        letter = orjson.loads(row.value)
        if letter["field"] == "event_at" and JUMPING.encode() in b64decode(letter["original"]):
            count += rows["dead_letters"].pop(row)
    return [] if count else ["dead_letters: none about what the venue said of an hour later"]


def lose_checkpoints(suite: Suite) -> list[str]:
    """Prevent checkpoints until one has failed in every job, then allow them again.

    A file takes the place of the folder, because the superuser can write into any folder.
    """
    folder = Path(suite.up.home) / "checkpoints"
    away = folder.with_name("checkpoints.away")
    rest = suite.up.rest
    active = rest.active()
    failed = {name: rest.checkpoints(active[name])["counts"]["failed"] for name in suite.names}
    folder.rename(away)
    folder.touch()
    suite.wait(
        lambda: all(rest.checkpoints(active[name])["counts"]["failed"] > failed[name] for name in suite.names),
        "a checkpoint fails in every job",
    )
    folder.unlink()
    away.rename(folder)
    return []


def lose_cluster(suite: Suite) -> list[str]:
    """Kill the cluster and remove all its state and rows: a fresh one has only the topics of feeds."""
    up = suite.up
    cluster = [name for name in up.started if name != "broker"]
    for name in cluster:
        processes.kill(up.started[name])
    suite.lose_stored()
    topics.renew(up.kafka, suite.written, suite.names)
    suite.start_again(cluster)
    suite.submit()
    return suite.names


def forget(suite: Suite) -> list[str]:
    """Start each job again without its state: its rows are written twice, which is a fault in exactly-once topics."""
    rest = suite.up.rest
    for job in rest.active().values():
        rest.cancel(job)
    suite.wait(lambda: not rest.active(), "the jobs end")
    suite.submit()
    return suite.names


def kill_switch(suite: Suite) -> list[str]:
    """Kill all trading in the middle of a crash, liquidations named, and then the TaskManager of those who obey."""
    servers = suite.up.kafka
    suite.wait(lambda: _records(servers, "liquidation_orders") > 0, "orders are written")
    before = _records(servers, APPLIED)
    controls.say(servers, controls.control("all", CANCEL_ALL, "a drill", liquidations=True, who="drill"))
    # A row of each shard.
    suite.wait(lambda: _records(servers, APPLIED) >= before + topics.partitions(servers), "every shard obeys")
    victim, restarting = next((name, held) for name, held in suite.taskmanagers().items() if "liquidations" in held)
    processes.kill(suite.up.started[victim])
    return restarting


def _records(servers: str, table: str) -> int:
    return sum(topics.ends(servers, [table], "read_uncommitted").values())


def obeyed(rows: Rows, names: list[str]) -> list[str]:
    """What is wrong with how a kill was obeyed: orders behind it, or nobody who was held by it."""
    applied = [orjson.loads(row.value) for row in rows[APPLIED]]
    kills = [row for row in applied if row["scope"] == ALL and row["mode"] == CANCEL_ALL]
    if not kills:
        return [f"{APPLIED}: no shard has obeyed the kill"]
    since = max(row["event_at"] for row in kills)
    late = [row for row in map(orjson.loads, (row.value for row in rows["liquidation_orders"])) if row["event_at"] > since]
    events = [orjson.loads(row.value) for row in rows["liquidation_events"]]
    faults = [f"liquidation_orders: {len(late)} after the kill of {since}; e.g. {late[0]}"] if late else []
    if not any(row["kind"] == "held" and CANCEL_ALL in row["reason"] for row in events):
        faults.append("liquidation_events: nobody was held by the kill")
    if not any(row["is_start"] and row["event_at"] >= min(kill["event_at"] for kill in kills) for row in applied):
        faults.append(f"{APPLIED}: no shard has started again after the kill")
    return faults


def without_partitions(rows: Rows, names: list[str]) -> list[str]:
    """Remove from the rows in which partitions others are, for offline there is one; returns a fault if there are no fills."""
    for table in ("orders", "venue_reports", "venue_fills", "fund_fills", "fund_transfers"):
        found, rows[table] = rows[table], Counter()
        for row, count in found.items():
            rows[table][row._replace(value=PARTITION.sub(b'_partition":0', row.value))] += count
    return [] if rows["venue_fills"] else ["venue_fills: nothing was traded"]


class Drill(NamedTuple):
    """One drill."""

    what: str  # happens
    harm: Harm
    parallelism: int = 1
    is_highly_available: bool = False
    settle: Callable[[Rows, list[str]], list[str]] = lambda rows, names: []
    """Removes from the rows what the harm itself has put in, given the names of the jobs; returns what is wrong with that."""
    version: Callable[[], Version] = dict  # of our code, before the harm
    settings: Mapping[str, str] = MappingProxyType({})  # of the jobs, beside those of every drill
    apart: frozenset[str] = frozenset()
    """The tables that the harm changes for good: `settle` alone judges them."""
    jobs: frozenset[str] = frozenset(JOBS)
    """The jobs that it needs, with those whose topics they read."""
    scenario: Scenario = MARKET
    """One of its own has the rows of the same jobs offline to compare with."""


# The archive would contain what the harm has put in.
_WITHOUT_ARCHIVE = frozenset(JOBS) - {"archive"}

_CHANGELOG = {"state.changelog.enabled": "true", "state.changelog.periodic-materialize.interval": "3 s"}

_CLOSED = {jobs.ALSO_READ: ",".join(sorted(TOLD_AHEAD - {"algorithm_requests", "hedge_requests"}))}
_LOOP = frozenset({"books", "positions", "liquidations", "orders", "matching", "fund"})

# Depth and snapshots go on for as long as jobs live; sums of floats are in another order where there is one shard.
_APART = frozenset({"book_tops", "book_depth", "venue_order_books", "venue_tickers", "account_margin", "position_margin"})

# In an order in which most drills use the processes of the one before: by version and kind of cluster.
DRILLS = {
    "taskmanager": Drill("A TaskManager is killed.", kill_taskmanager),
    "changelog": Drill(
        "A TaskManager is killed while jobs write a changelog of their state.",
        kill_taskmanager,
        settings=_CHANGELOG,
        jobs=frozenset({"books", "positions", "liquidations"}),
    ),
    "changelog-rescale": Drill(
        "Jobs with a changelog stop with a savepoint and go on with two tasks instead of one.",
        rescale(2),
        settings=_CHANGELOG,
        jobs=frozenset({"books", "positions", "liquidations"}),
    ),
    "killswitch": Drill(
        "All trading is killed in the crash, and then a TaskManager: no order comes any more, and other rows are as ever.",
        kill_switch,
        settle=obeyed,
        settings={"gammaflow.controls": "live"},
        apart=frozenset({"liquidation_orders", "liquidation_events", APPLIED}),
        jobs=frozenset({"books", "positions", "liquidations"}),
    ),
    "venue": Drill(
        "The own venue's TaskManager is killed in a crash that closes itself: orders, fills and ledgers are as offline.",
        kill_holder("matching"),
        settle=without_partitions,
        apart=_APART,
        settings=_CLOSED,
        jobs=_LOOP,
        scenario=OWN_VENUE,
    ),
    "order-path": Drill(
        "The order path's TaskManager is killed with orders open on the own venue.",
        kill_holder("orders"),
        settle=without_partitions,
        apart=_APART,
        settings=_CLOSED,
        jobs=_LOOP,
        scenario=OWN_VENUE,
    ),
    "poison": Drill("Every topic gets an unreadable message.", poison, settle=without_poison, jobs=_WITHOUT_ARCHIVE),
    "rescale-up": Drill("Each job stops with a savepoint and goes on with two tasks instead of one.", rescale(2)),
    "rescale-down": Drill(
        "Each job stops with a savepoint and goes on with one task instead of two.", rescale(1), parallelism=2
    ),
    "broker": Drill("The broker is stopped and started again.", restart_broker),
    "transaction": Drill(
        "The broker is killed while a transaction is open.", kill_broker, jobs=frozenset({"positions", "archive"})
    ),
    "clock": Drill("A venue's clock jumps by an hour and back.", jump_clock, settle=without_jump, jobs=_WITHOUT_ARCHIVE),
    "checkpoints": Drill("For a while, checkpoints fail.", lose_checkpoints, jobs=frozenset({"books", "positions", "archive"})),
    "version": Drill(
        "A savepoint of an unknown version is refused, and no job is started.",
        offer_unknown_state,
        jobs=frozenset({"books", "positions"}),
    ),
    "column": Drill(
        "A job of SQL goes on as a version with one more column.", widen, settle=without_range, jobs=frozenset({"bars"})
    ),
    "upgrade": Drill(
        "Jobs stop, and go on as a version that stores one more field.",
        upgrade,
        version=versions.older,
        jobs=frozenset({"books", "positions", "liquidations"}),
    ),
    "replay": Drill("A fresh cluster has only the topics of feeds.", lose_cluster),
    "rollback": Drill(
        "A job is upgraded, and goes back to the previous version.",
        go_back,
        version=versions.older,
        jobs=frozenset({"books"}),
    ),
    "jobmanager": Drill("The JobManager is killed and started again.", kill_jobmanager, is_highly_available=True),
    "both": Drill("JobManager and TaskManager are killed at once.", kill_both, is_highly_available=True),
}

CONTROLS = {
    "forgetful": Drill("Each job is cancelled and starts without its state: this one must be red.", forget),
}

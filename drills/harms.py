"""The drills: what happens in each, and how."""

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
from drills.suite import HALF_TIME_MS, JOBS, MARKET, Harm, Suite
from drills.versions import Version
from feeds import Record
from feeds.publish import FEED_TABLES, Publisher
from feeds.simulator import simulate
from jobs import APPLIED
from schemas.controls import ALL, CANCEL_ALL
from schemas.records import TABLES
from schemas.rows import instant_ms, to_ms

OLDER = {"books": 2}
UNKNOWN_VERSION = 99
JUMPING = "sim_alpha"
JUMP_MS = 60 * 60 * 1000
NEW_COLUMN = re.compile(rb',"price_range":[^,}]+')
POISON = b"\x00 is no JSON"


def kill_taskmanager(suite: Suite) -> list[str]:
    """Kill the TaskManager of the first job, whose rows others read; the other one has room for its tasks."""
    victim, restarting = next((name, held) for name, held in suite.taskmanagers().items() if suite.names[0] in held)
    processes.kill(suite.place.started[victim])
    return restarting


def kill_jobmanager(suite: Suite) -> list[str]:
    """Kill the JobManager and start another one, as a supervisor would: it finds the jobs in ZooKeeper."""
    processes.kill(suite.place.started["jobmanager"])
    runtime.restart(suite.place, "jobmanager")
    return suite.names


def kill_both(suite: Suite) -> list[str]:
    """Kill a TaskManager and the JobManager, and start only the latter again."""
    kill_taskmanager(suite)
    return kill_jobmanager(suite)


def restart_broker(suite: Suite) -> list[str]:
    """Stop the broker and start it again; jobs and feed wait for it."""
    processes.stop([suite.place.started["broker"]])
    runtime.restart(suite.place, "broker")
    return []


def kill_broker(suite: Suite) -> list[str]:
    """Kill the broker while a transaction is open, and start it again."""
    place = suite.place
    suite.wait(lambda: bool(open_transactions(place.kafka, suite.written)), "a transaction is open")
    processes.kill(place.started["broker"])
    runtime.restart(place, "broker")
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
    """Offer the first job a savepoint of a version to come, which it must refuse, then let all go on from their own."""
    savepoints = suite.stop()
    name = suite.names[0]
    file = _noted(savepoints[name])
    own = file.read_text()
    _note({name: savepoints[name]}, {name: UNKNOWN_VERSION})
    try:
        suite.submit(savepoints)
    except StartError as error:
        if f"kernel {name} is {UNKNOWN_VERSION}" not in str(error) or suite.place.rest.active():
            raise
    else:
        raise StartError(f"job {name} was started from a savepoint of version {UNKNOWN_VERSION}")
    file.write_text(own)
    suite.submit(savepoints)
    return suite.names


def upgrade(suite: Suite) -> list[str]:
    """Stop the jobs of an older version, and let the newer one go on from their savepoints."""
    savepoints = suite.stop()
    _note(savepoints, OLDER)
    suite.restart_taskmanagers()
    suite.version = {}
    suite.submit(savepoints)
    return suite.names


def go_back(suite: Suite) -> list[str]:
    """Upgrade one job, let it write, and go back to the older version and the savepoint from before.

    One whose tables are at-least-once: what the newer version has written stands, and is written again.
    """
    name, table = "books", "book_tops"
    savepoints = suite.stop([name])
    _note(savepoints, OLDER)
    older, suite.version = suite.version, {}
    suite.restart_taskmanagers()
    suite.submit(savepoints, [name])
    ends = topics.ends(suite.place.kafka, [table])
    suite.wait(lambda: topics.ends(suite.place.kafka, [table]) != ends, "the newer version writes")
    suite.place.rest.cancel(suite.place.rest.active()[name])
    suite.wait(lambda: name not in suite.place.rest.active(), "the newer version ends")
    suite.version = older
    suite.restart_taskmanagers()
    suite.submit(savepoints, [name])
    return suite.names


def widen(suite: Suite) -> list[str]:
    """Stop a job of SQL alone, and let one whose rows have a column more go on from its savepoint."""
    savepoints = suite.stop(["bars"])
    suite.version = versions.wider()
    suite.submit(savepoints, ["bars"])
    return ["bars"]


def without_range(rows: Rows, names: list[str]) -> list[str]:
    """Take the new column out of the rows of bars; returns what is wrong with it: all have it, or none."""
    found, rows["bars"], wide = rows["bars"], Counter(), 0
    for row, count in found.items():
        value = NEW_COLUMN.sub(b"", row.value)
        wide += value != row.value
        rows["bars"][row._replace(value=value)] += count
    return [] if 0 < wide < len(found) else [f"bars: {wide} of {len(found)} rows have the new column"]


def _note(savepoints: dict[str, str], kernels: dict[str, int]) -> None:
    """Note in savepoints the versions that stored them: they were written by another version than this."""
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
    """Write a record that no job can read into every topic that one reads, as of a time that the topic has reached."""
    producer = Producer({"bootstrap.servers": suite.place.kafka})  # the suite's own broker, which has no locks
    for table in sorted({table for name in suite.names for table in jobs.job(name).reads}):
        event_ms = HALF_TIME_MS - 1_000 if table in FEED_TABLES else MARKET.start_ms
        producer.produce(TABLES[table].topic, POISON, "poison", timestamp=event_ms)
    if left := producer.flush(30):
        raise StartError(f"{left} poisoned records were not taken by the broker")
    return []


def without_poison(rows: Rows, names: list[str]) -> list[str]:
    """Take the poison, and the dead letters about it, out of the rows; returns what is wrong with the letters.

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
    """Say once more, as of an hour later, what one venue said in the last moment: its clock has jumped, and jumps back."""
    # It does not end as a feed does, by telling a time past its last record: the other one, which goes on, is not there yet.
    publisher = Publisher(suite.place.kafka)
    for table, event_ms, row in simulate(MARKET):
        if row.get("venue") == JUMPING and HALF_TIME_MS - 500 <= event_ms < HALF_TIME_MS:
            jumped = Record(table, event_ms + JUMP_MS, {**row, "event_at": instant_ms(event_ms + JUMP_MS)})
            # What is received later has not been said yet.
            if to_ms(row["received_at"]) < HALF_TIME_MS:
                publisher.publish(jumped)
    publisher.flush()
    return []


def without_jump(rows: Rows, names: list[str]) -> list[str]:
    """Take the dead letters about rows of an hour later out; returns what is wrong with them: that there are none."""
    count = 0
    for row in list(rows["dead_letters"]):
        letter = orjson.loads(row.value)
        if letter["field"] == "event_at" and JUMPING.encode() in b64decode(letter["original"]):
            count += rows["dead_letters"].pop(row)
    return [] if count else ["dead_letters: none about what the venue said of an hour later"]


def lose_checkpoints(suite: Suite) -> list[str]:
    """Let no checkpoint be written until one has failed in every job, then let them be written again.

    A file stands where the folder was: to the superuser no folder is read-only.
    """
    folder = Path(suite.place.home) / "checkpoints"
    away = folder.with_name("checkpoints.away")
    rest = suite.place.rest
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
    """Kill the cluster and lose all that it has stored and written: a fresh one has nothing but the feeds' log."""
    place = suite.place
    cluster = [name for name in place.started if name != "broker"]
    for name in cluster:
        processes.kill(place.started[name])
    suite.lose_stored()
    topics.renew(place.kafka, suite.written, suite.names)
    suite.start_again(cluster)
    suite.submit()
    return suite.names


def forget(suite: Suite) -> list[str]:
    """Start each job again without its state: its rows come twice, which the topics that are exactly-once must not have."""
    rest = suite.place.rest
    for job in rest.active().values():
        rest.cancel(job)
    suite.wait(lambda: not rest.active(), "the jobs end")
    suite.submit()
    return suite.names


def kill_switch(suite: Suite) -> list[str]:
    """Kill all trading in the middle of a crash, liquidations named, and then the TaskManager of those who obey."""
    servers = suite.place.kafka
    suite.wait(lambda: _records(servers, "liquidation_orders") > 0, "orders are written")
    before = _records(servers, APPLIED)
    controls.say(servers, controls.control("all", CANCEL_ALL, "a drill", liquidations=True, who="drill"))
    # A row of each shard.
    suite.wait(lambda: _records(servers, APPLIED) >= before + topics.partitions(servers), "every shard obeys")
    victim, restarting = next((name, held) for name, held in suite.taskmanagers().items() if "liquidations" in held)
    processes.kill(suite.place.started[victim])
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


class Drill(NamedTuple):
    """One drill."""

    what: str  # happens
    harm: Harm
    parallelism: int = 1
    is_highly_available: bool = False
    settle: Callable[[Rows, list[str]], list[str]] = lambda rows, names: []
    """Takes out of the rows what the harm itself has put in, given the names of the jobs; returns what is wrong with that."""
    version: Callable[[], Version] = dict  # of our code, before the harm
    settings: Mapping[str, str] = MappingProxyType({})  # of the jobs, beside those of every drill
    apart: frozenset[str] = frozenset()
    """The tables that the harm changes for good: `settle` alone judges them."""
    jobs: frozenset[str] = frozenset(JOBS)
    """Which of those that are drilled it needs, with those whose topics they read."""


# The archive would hold what the harm has put in.
_WITHOUT_ARCHIVE = frozenset(JOBS) - {"archive"}

_CHANGELOG = {"state.changelog.enabled": "true", "state.changelog.periodic-materialize.interval": "3 s"}

# In this order most can go on with the processes of the one before: those of one version and one kind of cluster together.
DRILLS = {
    "taskmanager": Drill("A TaskManager is killed.", kill_taskmanager),
    "changelog": Drill(
        "A TaskManager is killed while jobs write down each change of what they store.",
        kill_taskmanager,
        settings=_CHANGELOG,
        jobs=frozenset({"books", "positions", "liquidations"}),
    ),
    "changelog-rescale": Drill(
        "Jobs that write down each change stop with a savepoint and go on with two tasks in place of one.",
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
    "poison": Drill("A message that is none comes in every topic.", poison, settle=without_poison, jobs=_WITHOUT_ARCHIVE),
    "rescale-up": Drill("Each job stops with a savepoint and goes on with two tasks in place of one.", rescale(2)),
    "rescale-down": Drill(
        "Each job stops with a savepoint and goes on with one task in place of two.", rescale(1), parallelism=2
    ),
    "broker": Drill("The broker is stopped and started again.", restart_broker),
    "transaction": Drill(
        "The broker is killed while a transaction is open.", kill_broker, jobs=frozenset({"positions", "archive"})
    ),
    "clock": Drill("A venue's clock jumps by an hour and back.", jump_clock, settle=without_jump, jobs=_WITHOUT_ARCHIVE),
    "checkpoints": Drill(
        "For a while no checkpoint can be written.", lose_checkpoints, jobs=frozenset({"books", "positions", "archive"})
    ),
    "version": Drill(
        "A savepoint of an unknown version is refused, and no job started.",
        offer_unknown_state,
        jobs=frozenset({"books", "positions"}),
    ),
    "column": Drill(
        "A job of SQL goes on as a version with a column more.", widen, settle=without_range, jobs=frozenset({"bars"})
    ),
    "upgrade": Drill(
        "Jobs stop, and go on as a version that stores a field more.",
        upgrade,
        version=versions.older,
        jobs=frozenset({"books", "positions", "liquidations"}),
    ),
    "replay": Drill("A fresh cluster has nothing but the feeds' log.", lose_cluster),
    "rollback": Drill(
        "A job is upgraded, and goes back to the version before.",
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

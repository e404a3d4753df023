"""The drills: what happens in each, and how."""

from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import orjson
from confluent_kafka import Producer

import jobs
from deploy import processes, runtime
from deploy.processes import StartError
from drills.rows import Rows
from drills.suite import HALF_TIME_MS, Harm, Suite
from schemas.records import TABLES

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


def rescale(parallelism: int) -> Harm:
    """Stop every job with a savepoint and start it from there at another parallelism."""

    def harm(suite: Suite) -> list[str]:
        savepoints = suite.stop()
        suite.parallelism = parallelism
        suite.submit(savepoints)
        return suite.names

    return harm


def poison(suite: Suite) -> list[str]:
    """Write a record that no job can read into every topic that one reads."""
    producer = Producer({"bootstrap.servers": suite.place.kafka})
    for table in sorted({table for name in suite.names for table in jobs.sources(name)}):
        producer.produce(TABLES[table].topic, POISON, "poison", timestamp=HALF_TIME_MS)
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
        TABLES[table].topic for name in names if "dead_letters" in jobs.sinks(name) for table in jobs.sources(name)
    )
    found: Counter[str] = Counter()
    for row in list(rows["dead_letters"]):
        letter = orjson.loads(row.value)
        if b64decode(letter["original"]) == POISON:
            found[letter["source"]] += rows["dead_letters"].pop(row)
    return [
        f"dead_letters: {found[topic]} about {topic}, not {count}" for topic, count in expected.items() if found[topic] != count
    ]


def forget(suite: Suite) -> list[str]:
    """Start each job again without its state: its rows come twice, which the topics that are exactly-once must not have."""
    rest = suite.place.rest
    for job in rest.active().values():
        rest.cancel(job)
    suite.wait(lambda: not rest.active(), "the jobs end")
    suite.submit()
    return suite.names


class Drill(NamedTuple):
    """One drill."""

    what: str  # happens
    harm: Harm
    parallelism: int = 1
    is_highly_available: bool = False
    settle: Callable[[Rows, list[str]], list[str]] = lambda rows, names: []
    """Takes out of the rows what the harm itself has put in, given the names of the jobs; returns what is wrong with that."""


DRILLS = {
    "taskmanager": Drill("A TaskManager is killed.", kill_taskmanager),
    "poison": Drill("A message that is none comes in every topic.", poison, settle=without_poison),
    "rescale-up": Drill("Each job stops with a savepoint and goes on with two tasks in place of one.", rescale(2)),
    "rescale-down": Drill(
        "Each job stops with a savepoint and goes on with one task in place of two.", rescale(1), parallelism=2
    ),
    "jobmanager": Drill("The JobManager is killed and started again.", kill_jobmanager, is_highly_available=True),
    "both": Drill("JobManager and TaskManager are killed at once.", kill_both, is_highly_available=True),
    "broker": Drill("The broker is stopped and started again.", restart_broker),
}

CONTROLS = {
    "forgetful": Drill("Each job is cancelled and starts without its state: this one must be red.", forget),
}

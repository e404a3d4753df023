"""One drill from start to verdict."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jobs
from deploy.processes import StartError
from deploy.rest import FlinkError
from deploy.topics import TopicError
from drills import suite as suites
from drills.harms import Drill
from drills.rows import ARCHIVE, Comparison, Rows, compare, miscounted, offline
from drills.stage import Stage
from drills.suite import JOBS
from feeds.publish import PublishError


@dataclass
class Report:
    """The result of a drill."""

    drill: str
    rows: int  # expected in all tables
    silence_s: float | None = None  # the longest time without a row in a steady table, after the harm
    read_again: int = 0  # records since the last checkpoints of the jobs that restarted, with heartbeats
    repeats: dict[str, int] = field(default_factory=dict)  # repeated rows, by table, if delivery is at-least-once
    faults: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def is_green(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def reported(
    stage: Stage, name: str, drill: Drill, expected: Rows, names: list[str], say: Callable[[str], None] = lambda _: None
) -> Report:
    """Run one drill with those of the named jobs that it needs; `expected` are the rows of an undisturbed run of all.

    A failure of the suite is a fault in the report, not an error.  After a fault, the stage is closed.
    """
    if drill.scenario is suites.MARKET:
        left_out = [job for job in names if job in JOBS and job not in drill.jobs]
        names = [job for job in names if job not in left_out]
        expected = without(expected, left_out, names)
    else:
        names = [job for job in jobs.FLOW if job in drill.jobs]
        expected = offline(names, drill.settings.get(jobs.ALSO_READ, "").split(","), drill.scenario)
    report = Report(name, sum(rows.total() for rows in expected.values()))
    if not names:
        report.faults.append(f"it needs {' or '.join(sorted(drill.jobs))}")
        return report
    began_s = time.monotonic()
    try:
        suite = stage.suite(names, drill.parallelism, drill.is_highly_available, drill.version(), drill.settings, say)
        suite.scenario = drill.scenario
        played = suites.played(suite, drill.harm, say)
    except (StartError, FlinkError, TopicError, PublishError) as error:
        report.faults.append(str(error))
    else:
        report.silence_s, report.read_again = played.silence_s, played.read_again
        report.faults += drill.settle(played.rows, names)
        report.faults += [f"{topic}: a transaction is open" for topic in played.open_transactions]
        report.faults += miscounted(played.rows)
        for table in compare(expected, played.rows):
            if table.table in drill.apart:
                continue
            if not table.is_same:
                report.faults.append(fault(table))
            elif table.repeats:
                report.repeats[table.table] = table.repeats
    if not report.is_green:
        stage.close()
    report.took_s = time.monotonic() - began_s
    return report


def without(rows: Rows, left_out: list[str], names: list[str]) -> Rows:
    """The rows of all named jobs, without those that depend on the jobs left out."""
    written, unwritten = ({table for job in some for table in jobs.job(job).writes} for some in (names, left_out))
    if "archive" not in names:
        return {table: counts for table, counts in rows.items() if table in written}
    return {table: counts for table, counts in rows.items() if table.removeprefix(ARCHIVE) not in unwritten - written}


def fault(table: Comparison) -> str:
    """The faults of a table, in one line."""
    counts = {"missing": table.missing, "that should not be": table.unexpected, "repeated": table.repeats}
    counted = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    return f"{table.table}: of {table.rows:,} rows {counted}; e.g. {table.example}"

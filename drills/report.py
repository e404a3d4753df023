"""One drill from start to verdict."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jobs
from deploy.processes import StartError
from deploy.rest import FlinkError
from deploy.topics import TopicError
from drills import suite
from drills.harms import Drill
from drills.rows import Comparison, Rows, compare, miscounted
from feeds.publish import PublishError


@dataclass
class Report:
    """What a drill has shown."""

    drill: str
    rows: int  # that there should be, in all tables
    silence_s: float | None = None  # the longest after the harm in which some steady table got no row
    read_again: int = 0  # records since the last checkpoints of the jobs that had to start again, heartbeats too
    repeats: dict[str, int] = field(default_factory=dict)  # of rows, by table, where delivery is at-least-once
    faults: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def is_green(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def reported(name: str, drill: Drill, expected: Rows, names: list[str], say: Callable[[str], None]) -> Report:
    """Do one drill with the named jobs; `expected` is what an undisturbed run of them has left.

    What fails in the suite is a fault in the report, not an error.
    """
    if not drill.has_archive:
        names = [job for job in names if job != "archive"]
        written = {table for job in names for table in jobs.sinks(job)}
        expected = {table: rows for table, rows in expected.items() if table in written}
    report = Report(name, sum(rows.total() for rows in expected.values()))
    began_s = time.monotonic()
    try:
        played = suite.played(names, drill.harm, drill.parallelism, drill.is_highly_available, say, drill.version())
    except (StartError, FlinkError, TopicError, PublishError) as error:
        report.faults.append(str(error))
    else:
        report.silence_s, report.read_again = played.silence_s, played.read_again
        report.faults += drill.settle(played.rows, names)
        report.faults += [f"{topic}: a transaction is open" for topic in played.open_transactions]
        report.faults += miscounted(played.rows)
        for table in compare(expected, played.rows):
            if not table.is_same:
                report.faults.append(fault(table))
            elif table.repeats:
                report.repeats[table.table] = table.repeats
    report.took_s = time.monotonic() - began_s
    return report


def fault(table: Comparison) -> str:
    """What is wrong with a table, in one line."""
    counts = {"missing": table.missing, "that should not be": table.unexpected, "repeated": table.repeats}
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"{table.table}: of {table.rows:,} rows {told}; e.g. {table.example}"

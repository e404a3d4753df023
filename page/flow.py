"""The flow as the operator's view draws it: from the catalogue, so that a new job is on it without a word."""

from typing import Any

import jobs
from schemas.records import TABLES

HIDDEN = {"dead_letters", "resync_requests"}


def catalogue() -> dict[str, Any]:
    """The jobs with their place in the flow, and the topics.

    `layer` is one more than that of the last job before it; a topic in which the time is told ahead puts nobody behind its
    writer, or there would be circles.
    """
    writers: dict[str, list[str]] = {}
    layers: dict[str, int] = {}
    told: list[dict[str, Any]] = []
    for job in map(jobs.job, jobs.FLOW):
        before = [layers[writer] for table in (*job.reads, *job.may_read) for writer in writers.get(table, ())]
        layers[job.name] = 1 + max(before, default=0)
        for table in set(job.writes) - set(job.tells_ahead) - HIDDEN:
            writers.setdefault(table, []).append(job.name)
        reads = ["*"] if job.is_for_each_topic else job.reads
        told.append(
            {
                "name": job.name,
                "question": job.question,
                "layer": layers[job.name],
                "reads": reads,
                "may_read": list(job.may_read),
                "writes": [table for table in job.writes if table not in HIDDEN],
                "has_kernel": job.kernel is not None,
                "window_ms": jobs.window_ms(job),
            }
        )
    return {"jobs": told, "topics": {name: table.topic for name, table in TABLES.items()}}

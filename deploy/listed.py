"""The lists of jobs in the README and the compose file: `python -m deploy.listed` writes them, --check compares them.

Each list is between two marker lines, and is made from the catalogue (jobs/__init__.py).
"""

import re
import sys
from collections.abc import Callable

import jobs
from deploy import cluster
from schemas.records import TABLES


def table() -> str:
    """The README's table: what each job answers, reads and writes."""
    lines = ["| job | question | reads | writes |", "|---|---|---|---|"]
    for job in map(jobs.job, jobs.FLOW):
        reads = "every topic" if job.is_for_each_topic else ", ".join(job.reads)
        reads += "".join(f", ({table})" for table in job.may_read)
        writes = ", ".join(table for table in job.writes if table != "dead_letters") or "Parquet files"
        lines.append(f"| `{job.name}` | {job.question[0].upper()}{job.question[1:]} | {reads} | {writes} |")
    return "\n".join(lines)


def picture() -> str:
    """The README's flow chart: boxes are topics, rounded ones jobs."""
    shown = [job for job in map(jobs.job, jobs.FLOW) if not job.is_for_each_topic]
    written = {table for job in shown for table in job.writes}
    read = [table for table in TABLES if any(table in job.reads for job in shown)]
    lines = ["```mermaid", "flowchart LR"]
    feeds = " & ".join(f"t_{table}[{table}]" for table in read if table not in written)
    lines.append(f"  F[venues, captures,<br>simulator] --> {feeds}")
    for job in shown:
        reads = " & ".join(f"t_{table}[{table}]" for table in job.reads)
        writes = " & ".join(f"t_{table}[{table}]" for table in job.writes if table not in ("dead_letters", "resync_requests"))
        lines.append(f"  {reads} --> j_{job.name}([{job.name}]) --> {writes}")
        if job.may_read:
            lines.append(f"  {' & '.join(f't_{table}[{table}]' for table in job.may_read)} -.-> j_{job.name}")
    return "\n".join([*lines, "```"])


def submitted() -> str:
    """The compose file's list of jobs to submit: all but the archive, which needs a folder."""
    names = " ".join(name for name in jobs.FLOW if not jobs.job(name).is_for_each_topic)
    return f'        jobs="{names}"'


PARTS: list[tuple[str, str, Callable[[], str]]] = [
    ("README.md", "<!-- jobs: made by python -m deploy.listed -->", table),
    ("README.md", "<!-- flow: made by python -m deploy.listed -->", picture),
    ("deploy/docker/compose.yaml", "        # jobs: made by python -m deploy.listed", submitted),
]


def filled(text: str, marker: str, part: str) -> str:
    """A text with `part` between its two markers.  Raises `ValueError` unless there are two."""
    pieces = re.split(rf"^{re.escape(marker)}\n", text, flags=re.MULTILINE)
    if len(pieces) != 3:
        raise ValueError(f"expected two lines {marker.strip()!r}, found {len(pieces) - 1}")
    return f"{pieces[0]}{marker}\n{part}\n{marker}\n{pieces[2]}"


def main(arguments: list[str]) -> None:
    """Write each part, or with --check exit with a message where one is stale."""
    for file, marker, render in PARTS:
        path = cluster.ROOT / file
        text = path.read_text()
        new = filled(text, marker, render())
        if "--check" not in arguments:
            path.write_text(new)
        elif new != text:
            raise SystemExit(f"{file} is stale: run `python -m deploy.listed`")


if __name__ == "__main__":
    main(sys.argv[1:])

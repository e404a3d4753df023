"""A note beside each savepoint about what it holds, checked before a job restores it.

Flink itself would restore it without a check, and fail or go wrong at the first record.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import jobs
from deploy.processes import StartError
from engine.contract import kernel

FILE = "gammaflow.json"


def contract(job: str, partitions: int) -> dict[str, Any]:
    """What the state of a job depends on, by name: a savepoint and the code that restores it must agree.

    For kernels that means that this code reads the version that stored the entries.
    """
    return {
        "job": job,
        "kernels": {name: versions[0] for name, versions in _readable(job).items()},
        "partitions": partitions,
        "execution mode": "thread",
    }


def note(savepoint: str, job: str, partitions: int) -> None:
    """Note what a new savepoint holds, if its folder can be reached from here."""
    folder = folder_of(savepoint)
    if folder is not None and folder.is_dir():
        (folder / FILE).write_text(json.dumps(contract(job, partitions)))


def check(savepoint: str, job: str, partitions: int) -> None:
    """Raise `StartError` if, by its note, a savepoint holds what this code cannot read.  One without a note is accepted."""
    folder = folder_of(savepoint)
    if folder is None or not (folder / FILE).exists():
        return
    noted = json.loads((folder / FILE).read_text())
    refused = f"job {job} was not started from {savepoint}"
    for key, expected in contract(job, partitions).items():
        if key != "kernels" and noted.get(key) != expected:
            raise StartError(f"{refused}: its {key} is {noted.get(key)}, this code reads {expected}")
    readable, stored = _readable(job), noted.get("kernels") or {}
    for name in sorted(readable.keys() | stored.keys()):
        if stored.get(name) not in readable.get(name, []):
            known = " or ".join(map(str, readable.get(name, []))) or "none"
            raise StartError(f"{refused}: its version of kernel {name} is {stored.get(name)}, this code reads {known}")


def _readable(job: str) -> dict[str, list[int]]:
    return {name: versions for part in jobs.job(job).kernels for name, versions in kernel(part).readable().items()}


def folder_of(savepoint: str) -> Path | None:
    """A savepoint's folder; None if it is not on this machine."""
    address = urlparse(savepoint)
    return Path(unquote(address.path)) if address.scheme in ("", "file") else None

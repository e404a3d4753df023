"""What a savepoint holds, told in a file beside it, and checked before a job starts from it.

Flink itself restores what it cannot understand and fails, or goes wrong, at the first record.
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
    """What the state of a job depends on, by name: its savepoint and whoever starts from it must agree in all of it.

    Kernels agree where what stored the entries is of a version that can be read.
    """
    return {
        "job": job,
        "kernels": {name: versions[0] for name, versions in _readable(job).items()},
        "partitions": partitions,
        "execution mode": "thread",
    }


def note(savepoint: str, job: str, partitions: int) -> None:
    """Note what a new savepoint holds, where its folder can be reached from here."""
    folder = folder_of(savepoint)
    if folder is not None and folder.is_dir():
        (folder / FILE).write_text(json.dumps(contract(job, partitions)))


def check(savepoint: str, job: str, partitions: int) -> None:
    """Raise `StartError` where a savepoint is noted to hold what this code cannot read.  One without a note is let pass."""
    folder = folder_of(savepoint)
    if folder is None or not (folder / FILE).exists():
        return
    noted = json.loads((folder / FILE).read_text())
    refused = f"job {job} was not started from {savepoint}"
    for what, expected in contract(job, partitions).items():
        if what != "kernels" and noted.get(what) != expected:
            raise StartError(f"{refused}: its {what} is {noted.get(what)}, this code reads {expected}")
    readable, stored = _readable(job), noted.get("kernels") or {}
    for name in sorted(readable.keys() | stored.keys()):
        if stored.get(name) not in readable.get(name, []):
            told = " or ".join(map(str, readable.get(name, []))) or "none"
            raise StartError(f"{refused}: its version of kernel {name} is {stored.get(name)}, this code reads {told}")


def _readable(job: str) -> dict[str, list[int]]:
    return {name: versions for own in jobs.job(job).kernels for name, versions in kernel(own).readable().items()}


def folder_of(savepoint: str) -> Path | None:
    """A savepoint's folder; None where it is not on this machine."""
    address = urlparse(savepoint)
    return Path(unquote(address.path)) if address.scheme in ("", "file") else None

"""What every benchmark says of its run, and where its figures are written."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def write(name: str, figures: dict[str, Any], *, keep: bool = False) -> None:
    """Write `results/<name>.json`: the figures, the machine, its load, the commit and the date; and show it.

    With `keep` the figures of an earlier run that are not among these stay.
    """
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text()) if keep and path.exists() else {}
    place = {
        "load_average_at_end": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    result = {name: value for name, value in before.items() if name not in place} | figures | place
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    table = Table(title=name, show_header=False)
    for figure, value in result.items():
        table.add_row(figure, f"{value:,}" if isinstance(value, int | float) else str(value))
    console.print(table)
    console.print(f"written to {path}")


def machine() -> str:
    """Processor, cores and memory."""
    models = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB"


def commit() -> str:
    """The commit of the tree, short, or `unknown`."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"

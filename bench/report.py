"""How a benchmark runs its parts, and where its figures are written.

`results/<bench>.json` is one flat object.  A part's figures stand beside its stamp: `<part>_commit`, `<part>_date`,
`<part>_machine`, `<part>_load_average_at_end` and `<part>_figures`, the names of its figures.  So it is clear when each part
was measured, and on what.  `commit`, `date` and `machine` without a part are those of the last write.
"""

import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import typer
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
STAMPS = ("commit", "date", "machine")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)

Figures = dict[str, Any]


def run(bench: str, parts: Mapping[str, Callable[[], Figures]], results: Path = RESULTS) -> None:
    """Run each part by itself and write its figures as soon as it is done.

    A part that fails leaves no figures, not even those of an earlier run, and the other parts still run.  When all have run, it
    names the failed parts and exits with 1.
    """
    path = results / f"{bench}.json"
    failures: dict[str, Exception] = {}
    for part, measure in parts.items():
        # Before the part: a later commit is not the measured one.
        stamp = {"commit": commit(), "date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine()}
        console.print(f"[bold]{bench}: {part}[/bold]")
        figures: Figures | None = None
        try:
            figures = measure()
        except Exception as error:
            traceback.print_exc()
            failures[part] = error
        before = json.loads(path.read_text()) if path.exists() else {}
        result = updated(before, part, figures, stamp, round(os.getloadavg()[0], 1))
        results.mkdir(exist_ok=True)
        written = path.with_suffix(".tmp")
        written.write_text(json.dumps(result, indent=2) + "\n")
        written.replace(path)
        if figures is not None:
            show(f"{bench}: {part}", figures | stamp)
            console.print(f"written to {path}")
    if failures:
        for part, failure in failures.items():
            console.print(f"{bench}: the part {part} failed: {failure}", markup=False)
        raise SystemExit(1)


def updated(
    before: Figures, part: str, figures: Figures | None, stamp: Mapping[str, str], load_average: float = 0.0
) -> Figures:
    """The object of an earlier run with this part's figures instead of its old ones, or without any if `figures` is None.

    Parts that were not run keep their figures.  A figure that no part's stamp names is dropped, for its run is unknown.  Raises
    `ValueError` if two parts have a figure of the same name.
    """
    kept = [name.removesuffix("_figures") for name in before if name.endswith("_figures") and name != f"{part}_figures"]
    result: Figures = {}
    for kept_part in kept:
        names = [*before[f"{kept_part}_figures"].split(", "), *stamped(kept_part)]
        result |= {name: before[name] for name in names if name in before}
    if figures is not None:
        own_stamp = dict(zip(stamped(part), [*(stamp[name] for name in STAMPS), load_average, ", ".join(figures)], strict=True))
        if doubled := (figures.keys() & {*result, *own_stamp, *STAMPS}) | (own_stamp.keys() & result.keys()):
            raise ValueError(f"the part {part} has figures that another part has: {', '.join(sorted(doubled))}")
        result |= figures | own_stamp
    return result | {name: stamp[name] for name in STAMPS}


def stamped(part: str) -> list[str]:
    """The names of a part's stamp."""
    return [f"{part}_{name}" for name in (*STAMPS, "load_average_at_end", "figures")]


def show(title: str, figures: Figures) -> None:
    """Print figures as a table."""
    table = Table(title=title, show_header=False)
    for name, value in figures.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value))
    console.print(table)


def run_chosen(bench: str, parts: Mapping[str, Callable[[], Figures]], names: str) -> None:
    """Run the parts that a comma-separated list names.  Raises `typer.BadParameter` for an unknown name."""
    try:
        selected = chosen(parts, names)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    run(bench, selected)


def chosen(parts: Mapping[str, Callable[[], Figures]], names: str) -> dict[str, Callable[[], Figures]]:
    """The parts that a comma-separated list names, in their own order.  Raises `ValueError` for an unknown name."""
    selected = [name.strip() for name in names.split(",")]
    if unknown := sorted(set(selected) - parts.keys()):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(parts)}")
    return {name: part for name, part in parts.items() if name in selected}


def has_default_settings() -> bool:
    """Whether no variable of the environment changes what the product does by default."""
    return not any(os.environ.get(f"GAMMAFLOW_{name}") for name in ("PARTITIONS", "HEARTBEAT_MS", "KAFKA", "FLINK"))


def machine() -> str:
    """Processor, cores and memory."""
    models = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB"


def commit(tree: Path = RESULTS.parent.parent) -> str:
    """The commit of the tree, short, with `-dirty` where files other than results differ from it; or `unknown`."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=tree, capture_output=True, text=True).stdout.strip()

    head = git("rev-parse", "--short", "HEAD")
    if not head:
        return "unknown"
    is_dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    return f"{head}-dirty" if is_dirty else head

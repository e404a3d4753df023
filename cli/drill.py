"""The output of drills: a table, or JSON."""

import json
import logging
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

import jobs
from cli.display import Display
from drills.harms import CONTROLS, DRILLS
from drills.report import Report, reported
from drills.stage import Stage
from drills.suite import played


def run(chosen: list[str], names: list[str], console: Console) -> list[Report]:
    """Run some drills with the named jobs, with progress on `console`.

    Raises `KeyError` for an unknown drill or job, and the errors of `drills.suite.played` if even an undisturbed
    run fails; what was started is stopped in any case.
    """
    drills = {**DRILLS, **CONTROLS}
    for name in chosen:
        if name not in drills:
            raise KeyError(f"no drill {name!r}; there are {', '.join(drills)}")
    for job in names:
        jobs.job(job)
    # A broker that is down is part of a drill, and Kafka's client logs it many times.
    logging.getLogger("feeds.publish").setLevel(logging.CRITICAL)
    display = Display(console)
    display.step("an undisturbed run, to compare with")
    names = sorted(names, key=jobs.FLOW.index)
    reports: list[Report] = []
    with Stage() as stage:
        expected = played(stage.suite(names, say=display.step), say=display.step).rows
        for name in chosen:
            display.step(f"drill {name}: {drills[name].what}")
            reports.append(reported(stage, name, drills[name], expected, names, display.step))
            display.step(f"drill {name}: {'green' if reports[-1].is_green else 'red'}")
            for fault in reports[-1].faults:
                console.print(f"  {fault}", markup=False, soft_wrap=True)
    return reports


def show(console: Console, reports: list[Report]) -> None:
    """Print a line for each drill, and its faults below."""
    table = Table(box=None, header_style="dim")
    for heading in ("drill", "silence", "read again", "rows", "repeats", "took", "verdict"):
        table.add_column(heading, justify="left" if heading in ("drill", "verdict") else "right")
    for report in reports:
        table.add_row(
            report.drill,
            "–" if report.silence_s is None else f"{report.silence_s:.1f} s",
            f"{report.read_again:,}",
            f"{report.rows:,}",
            f"{sum(report.repeats.values()):,}",
            f"{report.took_s:.0f} s",
            "[green]green[/]" if report.is_green else "[red]red[/]",
        )
    console.print(table)
    for report in reports:
        for fault in report.faults:
            console.print(f"  {report.drill}: {fault}", markup=False, soft_wrap=True)
        if report.repeats:
            repeats = ", ".join(f"{count:,} {name}" for name, count in report.repeats.items())
            console.print(f"  {report.drill}: repeated where delivery is at-least-once: {repeats}", style="dim", soft_wrap=True)


def as_json(reports: list[Report]) -> str:
    """The reports as a JSON array."""
    return json.dumps([{**asdict(report), "is_green": report.is_green} for report in reports], indent=2)

"""The display of a run: one line for each step, and a live line of figures."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import requests
from rich.console import Console
from rich.live import Live
from rich.table import Table

import jobs
from deploy import topics
from deploy.rest import FlinkError, Job
from deploy.runtime import Runtime
from deploy.topics import TopicError

REFRESH_S = 1.0


class Display:
    """Steps and figures on a terminal; plain lines where there is none."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()

    def step(self, text: str) -> None:
        """Announce a step."""
        self.console.print(f"[dim]{time.monotonic() - self._started:6.1f} s[/]  {text}", highlight=False)

    @contextmanager
    def watching(self, running: Runtime, published: Callable[[], int], names: Sequence[str]) -> Iterator[None]:
        """Show the figures of the named jobs until the block ends; `published` returns the number of records published."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(running, published, names, done), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join(timeout=10)

    def _watch(self, running: Runtime, published: Callable[[], int], names: Sequence[str], done: threading.Event) -> None:
        last = (time.monotonic(), 0, 0)
        with Live(console=self.console, auto_refresh=False, transient=not self.console.is_terminal) as live:
            while not done.wait(REFRESH_S):
                try:
                    written = sum(
                        topics.ends(running.kafka, sorted({t for job in names for t in jobs.job(job).writes})).values()
                    )
                    decisions = sum(topics.ends(running.kafka, ["liquidation_events"]).values())
                    behind = {job: topics.lag(running.kafka, job, jobs.job(job).reads) for job in names}
                    time_reached = watermark(running, "liquidations")
                except (TopicError, FlinkError, requests.RequestException):
                    continue
                now, went_in = time.monotonic(), published()
                seconds = now - last[0]
                table = Table(box=None, show_header=True, header_style="dim")
                for heading in ("in/s", "out/s", "records in", "lag", "watermark", "liquidation events"):
                    table.add_column(heading, justify="right")
                table.add_row(
                    f"{(went_in - last[1]) / seconds:,.0f}",
                    f"{(written - last[2]) / seconds:,.0f}",
                    f"{went_in:,}",
                    f"{max(behind.values()):,}",
                    time_reached,
                    f"{decisions:,}",
                )
                last = (now, went_in, written)
                live.update(table, refresh=True)


def kernels_table(running: Runtime, shown: Iterable[Job]) -> Table:
    """The work of the jobs' kernels since their tasks started; times are the 99th percentile over the last batches."""
    table = Table(box=None, header_style="dim")
    for heading in ("kernel", "messages", "late", "dead letters", "stale books", "batch takes", "decision after"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    names = ("messages", "late_messages", "dead_letters.rows", "stale_instruments", "kernel_us_p99", "decision_ms_p99")
    for job in shown:
        if not (metrics := running.rest.metrics(job, names)):
            continue
        counts = [f"{metrics[name].sum:,.0f}" if name in metrics else "–" for name in names[:4]]
        times = [
            _duration(metrics[name].max * unit) if name in metrics else "–"
            for name, unit in zip(names[4:], (1e-3, 1), strict=True)
        ]
        table.add_row(job.name, *counts, *times)
    return table


def _duration(ms: float) -> str:
    """A time in ms; only "> 1 h" for an old market that is replayed."""
    if math.isnan(ms):
        return "–"
    return f"{ms:,.1f} ms" if ms < 10 else f"{ms:,.0f} ms" if ms < 3_600_000 else "> 1 h"


def watermark(running: Runtime, name: str) -> str:
    """The event time that a job has reached, as text; a dash if it has none yet."""
    job = running.rest.active().get(name)
    if job is None:
        return "–"
    reached_ms = running.rest.watermark_ms(job)
    return "–" if reached_ms is None else f"{datetime.fromtimestamp(reached_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"

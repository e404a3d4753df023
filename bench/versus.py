"""Is the books job as fast as it was at an older commit?  `make bench BENCH=versus BASE=<commit>`.

The older commit is checked out into a temporary folder, and has a broker and a cluster of its own beside those of the working
tree, with the same virtual environment.  Both read the same load.  After a warm-up, these passes alternate:

  new    the working tree with the default settings
  equal  the older commit, with each setting in which its defaults differ from those of the working tree set to the latter
  base   the older commit with its own default settings

Only one job runs at a time.  Each figure is the median of `PASSES` passes, with the least and the greatest beside it; a ratio
is the median of the ratios of passes of one turn.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Annotated

import typer

import jobs
import schemas
from bench.books import WARM_PASSES, announced, lengthened, production
from bench.contender import MARK, flat
from bench.load import Load
from bench.passes import BenchError, Pass, Spread
from bench.report import Figures, console, has_default_settings, run
from deploy import cluster, processes
from deploy.runtime import Runtime

TREE = Path(__file__).parent.parent
PASSES = 5
STOP_S = 60.0
JOB_SETTINGS = ("execution.", "pipeline.", "table.", "state.", "python.")
"""The prefixes of Flink settings that can be set for a job; others are for a cluster."""


class Contender:
    """A version of the suite, its runtime, and the load in its broker."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._lines: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout
        fields = json.loads(self._answer())
        self.up = Runtime(fields["kafka"], fields["flink"], fields["home"], fields["started"])
        self.reads: list[str] = fields["reads"]
        self.settings: dict[str, str] = fields["settings"]

    def submit(self, settings: dict[str, str]) -> None:
        """Submit the books job with these Flink options."""
        self._lines.write(json.dumps(settings) + "\n")
        self._lines.flush()
        self._answer()

    def _answer(self) -> str:
        for line in self._answers:
            if line.startswith(MARK):
                return line.removeprefix(MARK)
        raise BenchError(f"a version has ended with {self._process.wait()}; its output is above")


@contextmanager
def contender(tree: Path) -> Iterator[Contender]:
    """The version of the suite that is in a folder, stopped at the end."""
    # Not -m: it needs the packages of the older version, but not its bench.
    command = [sys.executable, "-P", str(TREE / "bench" / "contender.py")]
    process = subprocess.Popen(
        command,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # only this process gets Ctrl-C, and then stops the other
    )
    try:
        yield Contender(process)
    finally:
        with processes.uninterrupted():
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                processes.stop([process.pid])


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the tree of a commit, removed at the end.  Raises `BenchError` for an unknown commit."""

    def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["git", *arguments], cwd=TREE, capture_output=True, text=True)

    with TemporaryDirectory(prefix="gammaflow-versus-") as folder:
        tree = Path(folder) / "tree"
        try:
            done = git("worktree", "add", "--detach", str(tree), commit)
            if done.returncode:
                raise BenchError(f"{commit} could not be checked out: {done.stderr.strip()}")
            yield tree
        finally:
            with processes.uninterrupted():
                git("worktree", "remove", "--force", str(tree))


def job_settings(flink: dict[str, str]) -> dict[str, str]:
    """This tree's settings that differ from an older version's and can be set for a job."""
    from engine import run as runner  # PyFlink takes seconds to import

    settings = flat(cluster.layered(["config", "local"]))
    different = {name: value for name, value in settings.items() if name.startswith(JOB_SETTINGS) and flink.get(name) != value}
    ours = {"gammaflow.window": jobs.WINDOW_S, "gammaflow.delay": runner.DELAY_S, "gammaflow.drift": runner.DRIFT_S}
    declared = dict(filter(None, map(schemas.setting, schemas.statements(jobs.job("books").sql))))
    return different | {name: declared.get(name, value) for name, value in ours.items()}


def measured(base: str, messages: int, instruments: int, passes: int) -> Figures:
    """All passes of both versions."""
    with checked_out(base) as tree, contender(tree) as old, contender(TREE) as new:
        equal = job_settings(old.settings)
        console.print(f"settings of the older commit in equal passes: {equal}")
        sides = {"new": (new, {}), "equal": (old, equal), "base": (old, {})}
        loads: dict[int, Load] = {}
        for side in (old, new):
            console.print(f"making and publishing {messages:,} messages of {instruments:,} instruments; logs in {side.up.logs}")
            loads[id(side)] = Load(side.up.kafka, instruments, heartbeat_tables=side.reads)
            loads[id(side)].add(messages)

        def a_pass(name: str) -> Pass:
            side, settings = sides[name]
            return announced(name, production(side.up, loads[id(side)], partial(side.submit, settings)))[0]

        # The older version's JVM runs two of three passes: the new JVM must be as warm.
        for turn in range(WARM_PASSES):
            took_s = [a_pass(name).took_s for name in ("new", "equal", "new", "base")]
            if turn == 0:
                # Both versions read the same load: the fastest pass decides its length.
                for given in loads.values():
                    lengthened(given, min(took_s))
        rates: dict[str, list[float]] = {name: [] for name in sides}
        costs: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(passes):
            for name in sides:
                result = a_pass(name)
                rates[name].append(result.messages_per_s)
                costs[name].append(result.us_per_message)
        total = loads[id(new)].messages
    figures: Figures = {
        "base_commit": base,
        "default_settings": has_default_settings(),
        "settings_of_equal_passes": ", ".join(f"{name}={value}" for name, value in equal.items()),
        "passes": passes,
        "messages": total,
        "instruments": instruments,
    }
    for name in sides:
        figures |= Spread.of_passes(rates[name]).figures(f"{name}_messages_per_s", 0)
        figures |= Spread.of_passes(costs[name]).figures(f"{name}_us_per_message", 3)
    for name in ("equal", "base"):
        ratios = [ours / theirs for ours, theirs in zip(rates["new"], rates[name], strict=True)]
        figures |= Spread.of_passes(ratios).figures(f"ratio_to_{name}", 3)
    return figures


def main(
    base: Annotated[str, typer.Argument(help="The older commit.")],
    messages: Annotated[int, typer.Option(min=20_000, help="Book messages in the load; more on a fast machine.")] = 4_000_000,
    instruments: Annotated[int, typer.Option(min=1, help="Instruments in the load.")] = 50,
    passes: Annotated[int, typer.Option(min=1, help="Passes of each version.")] = PASSES,
) -> None:
    """Measure the books job of an older commit against that of the working tree."""
    run("versus", {"books": lambda: measured(base, messages, instruments, passes)})


if __name__ == "__main__":
    typer.run(main)

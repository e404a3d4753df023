"""A client of Flink's REST interface, as far as we need it."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import requests

IDS_CHARACTERS = 3_500
"""How many characters of metric names a request may have: the server accepts addresses up to 4 KB."""
OFFSET = re.compile(r"\.KafkaSourceReader\.topic\.([^.]+)\.partition\.(\d+)\.currentOffset$")
POLL_S = 0.1
SETTLED_MS = 4_000
"""Metrics of a task are there at the latest this long after it has begun to run: see metrics.fetcher.update-interval."""


class FlinkError(RuntimeError):
    """The cluster could not be reached, or refused."""


class Job(NamedTuple):
    """One job on the cluster."""

    id: str
    name: str
    state: str
    running: int  # tasks that run or have ended well
    tasks: int
    duration_s: float

    @property
    def is_running(self) -> bool:
        """Whether all its tasks run.  A job that a new JobManager has not restored yet has no tasks."""
        return self.running == self.tasks > 0


class Aggregate(NamedTuple):
    """One metric of several tasks and shards."""

    sum: float
    max: float


class Flink:
    """A cluster at `address`, host:port."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"

    def get(self, path: str) -> Any:
        """The JSON at `path`.  Raises `FlinkError`."""
        return self._call("GET", path)

    def jobs(self) -> list[Job]:
        """Every job that the cluster knows, the newest first."""
        rows = sorted(self.get("/jobs/overview")["jobs"], key=lambda job: -job["start-time"])
        return [
            Job(
                row["jid"],
                row["name"],
                row["state"],
                row["tasks"]["running"] + row["tasks"]["finished"],
                row["tasks"]["total"],
                row["duration"] / 1000,
            )
            for row in rows
        ]

    def active(self) -> dict[str, Job]:
        """The jobs that are neither finished, failed nor cancelled, by name."""
        return {job.name: job for job in self.jobs() if job.state not in ("FINISHED", "FAILED", "CANCELED")}

    def checkpoints(self, job: Job) -> dict[str, Any]:
        """The checkpoint statistics of a job."""
        return dict(self.get(f"/jobs/{job.id}/checkpoints"))

    def watermark_ms(self, job: Job) -> int | None:
        """The event time that all tasks of a job have reached, in ms since 1970; None if it has none yet."""
        lows: list[int] = []
        for vertex in self.get(f"/jobs/{job.id}")["vertices"]:
            values = self.get(f"/jobs/{job.id}/vertices/{vertex['id']}/watermarks")
            lows += [int(value["value"]) for value in values]
        return min((low for low in lows if 0 < low < 2**62), default=None)

    def metrics(self, job: Job, names: Iterable[str]) -> dict[str, Aggregate]:
        """These metrics of the keyed operator (engine/metrics.py), by name, over all its tasks, shards and tables.

        A row count has its table before the name, a histogram the statistic after it: `dead_letters.rows`, `kernel_us_p99`.  A
        metric that no task has yet is left out.
        """
        endings = tuple(f".{name}" for name in names)
        by_name: dict[str, list[dict[str, float]]] = {}
        for vertex in self.get(f"/jobs/{job.id}")["vertices"]:
            path = f"/jobs/{job.id}/vertices/{vertex['id']}/subtasks/metrics"
            ids = [row["id"] for row in self.get(path) if ".gammaflow." in row["id"] and row["id"].endswith(endings)]
            for portion in _portions(ids):
                for row in self.get(f"{path}?get={','.join(portion)}&agg=sum,max"):
                    by_name.setdefault(next(end[1:] for end in endings if row["id"].endswith(end)), []).append(row)
        return {
            name: Aggregate(sum(row["sum"] for row in rows), max(row["max"] for row in rows)) for name, rows in by_name.items()
        }

    def read(self, job: Job) -> dict[tuple[str, int], int]:
        """The read position of a job, by topic and partition: the offset after the newest record that it has read.

        Partitions without a record since the job was started are left out.  Dots in a topic's name are underscores here.  The
        result is empty for a job that was restored from a checkpoint a moment ago: metrics of its former tasks may still be
        there.
        """
        offsets: dict[tuple[str, int], int] = {}
        sources = [vertex["id"] for vertex in self.get(f"/jobs/{job.id}")["vertices"] if vertex["name"].startswith("Source")]
        if self.is_restored(job) and not all(self._has_settled(job, source) for source in sources):
            return offsets
        for source in sources:
            path = f"/jobs/{job.id}/vertices/{source}/subtasks/metrics"
            ids = [row["id"] for row in self.get(path) if OFFSET.search(row["id"])]
            for portion in _portions(ids):
                for row in self.get(f"{path}?get={','.join(portion)}&agg=max"):
                    part = OFFSET.search(row["id"])
                    if part is not None and row["max"] >= 0:
                        offsets[part[1], int(part[2])] = round(row["max"]) + 1
        return offsets

    def _has_settled(self, job: Job, vertex: str) -> bool:
        """Whether all tasks of an operator have run for so long that their metrics are their own."""
        tasks = self.get(f"/jobs/{job.id}/vertices/{vertex}")["subtasks"]
        return all(task["status"] == "RUNNING" and task["status-duration"]["RUNNING"] > SETTLED_MS for task in tasks)

    def is_restored(self, job: Job) -> bool:
        """Whether a job goes on from a checkpoint, after a failure."""
        restored = self.checkpoints(job)["latest"]["restored"]
        return restored is not None and not restored["is_savepoint"]

    def failure(self, job: Job) -> str:
        """The root cause of a job's newest failure, one line, or an empty text."""
        entries = self.get(f"/jobs/{job.id}/exceptions")["exceptionHistory"]["entries"]
        if not entries:
            return ""
        return _root_cause(entries[0]["stacktrace"])

    def wait_running(self, names: list[str], timeout_s: float = 180.0) -> None:
        """Return once every task of the named jobs runs.  Raises `FlinkError` with the cause if one fails."""
        deadline = time.monotonic() + timeout_s
        while True:
            active = self.active()
            if all(name in active and active[name].is_running for name in names):
                return
            for job in self.jobs():
                if job.name in names and job.state in ("FAILED", "RESTARTING") and (cause := self.failure(job)):
                    raise FlinkError(f"job {job.name} does not start: {cause}")
            if time.monotonic() > deadline:
                raise FlinkError(f"jobs {', '.join(names)} were not running after {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def checkpoint(self, job: Job) -> bool:
        """Let a job make a checkpoint now, and wait for it; False if it cannot, for example while it restarts."""
        with suppress(FlinkError):
            trigger = self._call("POST", f"/jobs/{job.id}/checkpoints", {})["request-id"]
            return not self._completed(job, f"/checkpoints/{trigger}").get("failure-cause")
        return False

    def drain(self, job: Job, target: str) -> None:
        """Let a job process all that it has read, fire its last windows and timers, and finish."""
        self._stop(job, target, is_drained=True)

    def stop(self, job: Job, target: str) -> str:
        """Stop a job with a savepoint below `target`; returns the savepoint's path."""
        return self._stop(job, target, is_drained=False)

    def _stop(self, job: Job, target: str, is_drained: bool) -> str:
        body = {"drain": is_drained, "targetDirectory": target}
        trigger = self._call("POST", f"/jobs/{job.id}/stop", body)["request-id"]
        operation = self._completed(job, f"/savepoints/{trigger}")
        if cause := operation.get("failure-cause"):
            why = self.failure(job) or _root_cause(cause["stack-trace"])
            raise FlinkError(f"job {job.name} could not be stopped: {why}")
        return str(operation["location"])

    def _completed(self, job: Job, path: str, timeout_s: float = 300.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.get(f"/jobs/{job.id}{path}")
            if answer["status"]["id"] == "COMPLETED":
                return dict(answer["operation"])
            if time.monotonic() > deadline:
                raise FlinkError(f"job {job.name} has not written its state after {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def cancel(self, job: Job) -> None:
        """Cancel a job."""
        self._call("PATCH", f"/jobs/{job.id}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            answer = requests.request(method, self.url + path, json=body, timeout=30)
            answer.raise_for_status()
            return answer.json() if answer.content else {}
        except requests.RequestException as error:
            raise FlinkError(f"no answer from Flink at {self.url}{path}: {error}") from error


def _root_cause(stacktrace: str) -> str:
    lines = stacktrace.splitlines()
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by")]
    return causes[-1] if causes else lines[0]


def _portions(ids: list[str]) -> Iterator[list[str]]:
    """The names in portions, each short enough for the address of a request."""
    portion: list[str] = []
    for name in ids:
        if portion and sum(map(len, portion)) + len(portion) + len(name) > IDS_CHARACTERS:
            yield portion
            portion = []
        portion.append(name)
    if portion:
        yield portion

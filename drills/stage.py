"""The broker and cluster of drills, one drill after the other."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import jobs
from deploy import processes, runtime, topics
from deploy.processes import StartError
from deploy.rest import FlinkError
from deploy.topics import TopicError
from drills.suite import Suite
from drills.versions import Version
from schemas.records import TABLES

# Both TaskManagers get jobs; by default the second gets none until the first is full.
CONF = {"taskmanager": {"load-balance": {"mode": "SLOTS"}}}
TASKMANAGERS = 2


class Stage:
    """A broker and a cluster, which are cleaned between drills.

    A warm cluster starts jobs in half the time.  After a drill that was not green, `close` it: the next drill gets new
    processes.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        self._last: Suite | None = None
        self._is_highly_available = False

    def suite(
        self,
        names: list[str],
        parallelism: int = 1,
        is_highly_available: bool = False,
        version: Version | None = None,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Suite:
        """The named jobs, of a `version` of our code, on empty topics and without state; they are not submitted.

        `settings` are those of these jobs beside those of every suite.  Raises `StartError`, `TopicError`.
        """
        if foreign := [name for name in ("GAMMAFLOW_KAFKA", "GAMMAFLOW_FLINK") if os.environ.get(name)]:
            raise StartError(f"{' and '.join(foreign)}: drills kill what they run on; it must be embedded")
        last, version = self._last, version or {}
        if last is not None and (is_highly_available != self._is_highly_available or not _is_as_new(last, version, say)):
            self.close()
            last = None
        if last is None:
            make = runtime.temporary(CONF, TASKMANAGERS, say, is_highly_available=is_highly_available, is_brief=True)
            up = self._held.enter_context(make)
        else:
            up = last.up
        self._is_highly_available = is_highly_available
        self._last = Suite(up, names, parallelism, version, settings or {})
        return self._last

    def close(self) -> None:
        """Stop the processes, and remove their data."""
        self._last = None
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def _is_as_new(last: Suite, version: Version, say: Callable[[str], None]) -> bool:
    """Whether broker and cluster of a suite could be cleaned; its TaskManagers have imported only this version of our code."""
    say("broker and cluster of the run before, emptied")
    up = last.up
    try:
        last.wait(lambda: not up.rest.active(), "all jobs have ended")
        last.lose_stored()
        topics.renew(up.kafka, list(TABLES), jobs.FLOW)
        if version != last.version:
            last.restart_taskmanagers()
        last.start_again([name for name, pid in up.started.items() if not processes.is_alive(pid)])
    except (StartError, FlinkError, TopicError):
        return False
    return True

"""When a drill considers a suite's jobs restarted."""

from typing import Any

import pytest

from deploy.rest import Flink, Job
from deploy.runtime import Runtime
from drills.suite import Suite

HARMED_MS = 1_000


@pytest.mark.parametrize(
    ("state", "running", "started_ms", "has_restarted"),
    [
        ("INITIALIZING", 0, [], False),  # a new JobManager knows none of its tasks yet
        ("RUNNING", 1, [2_000, 2_000], False),
        ("RUNNING", 2, [900, 900], False),  # as it ran before the harm
        ("RUNNING", 2, [2_000, 2_000], True),
    ],
)
def test_a_job_has_restarted_once_all_its_tasks_run_that_were_started_after_the_harm(
    state: str, running: int, started_ms: list[int], has_restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    vertices: dict[str, Any] = {"vertices": [{"start-time": at_ms} for at_ms in started_ms]}
    monkeypatch.setattr(Flink, "jobs", lambda _: [Job("id", "books", state, running, len(started_ms), 1.0)])
    monkeypatch.setattr(Flink, "get", lambda *_: vertices)
    suite = Suite(Runtime("kafka", "flink", "home", {}), ["books"], 1)
    assert suite.have_restarted(["books"], HARMED_MS) is has_restarted
    assert not suite.have_restarted(["books", "bars"], HARMED_MS)

"""Fixtures and order of all tests."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

import jobs
from deploy import runtime, topics
from deploy.runtime import Runtime
from schemas.records import TABLES


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for the cases of tests/jobs."""
    parser.addoption("--up", action="store_true", help="play cases on the runtime that `gammaflow up` has started")


def pytest_configure(config: pytest.Config) -> None:
    """Silence the import of kafka-python, which warns two hundred times about a standard library function."""
    config.addinivalue_line("filterwarnings", r"ignore:(read|open)_text is deprecated:DeprecationWarning")


# No test may fail because a machine is slow, or because a first call compiles.
settings.register_profile("at_any_pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("at_any_pace")

LANES = (
    # Those that need the default ports are in one lane.
    (
        "tests/e2e/test_suite.py",
        "tests/e2e/test_add_a_job.py",
        "tests/e2e/test_drills.py",
        "tests/e2e/test_golden.py",
    ),
    (
        "tests/jobs/",
        "tests/e2e/",
        "tests/cli/test_book_command.py",
        "tests/feeds/test_resync.py",
        "tests/kernels/test_crash.py",
    ),
)
"""Tests that start a cluster: those of one lane run one after the other, two lanes side by side, for a cluster often waits."""


def lane(nodeid: str) -> int | None:
    """The lane of a test that starts a cluster."""
    return next((number for number, paths in enumerate(LANES) if nodeid.startswith(paths)), None)


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """Distributes files over the processes, but runs those of a lane one after the other in one process."""

    def _split_scope(self, nodeid: str) -> str:
        number = lane(nodeid)
        return nodeid.partition("::")[0] if number is None else f"lane {number}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """How `make test` distributes the tests."""
    return Lanes(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start a cluster run last."""
    items.sort(key=lambda item: -1 if (number := lane(item.nodeid)) is None else number)


@pytest.fixture(scope="session")
def shared_runtime() -> Iterator[Runtime]:
    """A broker and a cluster that modules use one after the other."""
    with runtime.temporary(is_brief=True) as shared:
        yield shared


@pytest.fixture(scope="module")
def suite(shared_runtime: Runtime) -> Iterator[Runtime]:
    """A broker and a cluster for one module's tests: no other job runs, and every topic is empty."""
    try:
        yield shared_runtime
    finally:
        rest = shared_runtime.rest
        for job in rest.active().values():
            rest.cancel(job)
        deadline_s = time.monotonic() + 60
        while rest.active() and time.monotonic() < deadline_s:
            time.sleep(0.1)
        topics.renew(shared_runtime.kafka, list(TABLES), jobs.FLOW)

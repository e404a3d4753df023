"""A drill's verdict, and what happens to its stage."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

import jobs
from deploy.rest import FlinkError
from drills import suite as suites
from drills.harms import DRILLS
from drills.report import Report, reported
from drills.rows import Row, Rows
from drills.suite import JOBS, Played

ROWS: Rows = {
    table: Counter([Row(b"key", 0, b"{}")]) for table in ("book_tops", "feed_faults", "resync_requests", "dead_letters")
}


class Held:
    """A stage that notes whether it was closed."""

    is_closed = False

    def suite(self, *_: Any) -> Any:
        """Nobody plays it."""
        return SimpleNamespace()

    def close(self) -> None:
        """Take note."""
        self.is_closed = True


def verdict(monkeypatch: pytest.MonkeyPatch, left: Played | Exception) -> tuple[Report, Held]:
    def played(*_: Any) -> Played:
        if isinstance(left, Exception):
            raise left
        return left

    monkeypatch.setattr(suites, "played", played)
    stage: Any = Held()
    return reported(stage, "broker", DRILLS["broker"], ROWS, ["books"]), stage


def test_a_green_drill_leaves_what_it_ran_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    report, stage = verdict(monkeypatch, Played(dict(ROWS), []))
    assert report.is_green
    assert not stage.is_closed


@pytest.mark.parametrize(
    "left", [Played(ROWS | {"book_tops": Counter()}, []), Played(dict(ROWS), ["book_tops.v1"]), FlinkError("no answer")]
)
def test_a_drill_that_is_red_or_fails_does_not(left: Played | Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    report, stage = verdict(monkeypatch, left)
    assert not report.is_green
    assert stage.is_closed


@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_has_the_jobs_whose_topics_its_jobs_read(name: str) -> None:
    """Without them it would wait for rows that no job writes.  The archive reads whatever is there."""
    own = DRILLS[name].jobs
    for job in own - {"archive"}:
        read = set(jobs.job(job).reads)
        assert {writer for writer in JOBS if read & set(jobs.job(writer).writes)} <= own, job

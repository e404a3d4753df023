"""Today's jobs restore the savepoints of every earlier version."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from drills import golden
from drills.stage import Stage
from drills.suite import played

FOLDER = Path(__file__).parents[1] / "golden"
VERSIONS = sorted(folder.name for folder in FOLDER.iterdir())


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.mark.parametrize("version", VERSIONS)
def test_what_came_before_and_comes_after_a_golden_savepoint_is_a_run_that_never_stopped(version: str, stage: Stage) -> None:
    folder = FOLDER / version
    undisturbed = played(stage.suite(golden.kept(folder), settings=golden.SETTINGS), market=golden.market(folder)).rows
    assert golden.differences(folder, undisturbed, golden.gone_on(stage, folder)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_savepoint_holds_state_of_every_job(version: str) -> None:
    for name in golden.names(FOLDER / version):
        size = sum(file.stat().st_size for file in (FOLDER / version / name).iterdir())
        assert size > 10_000
        assert (FOLDER / version / name / "gammaflow.json").exists()

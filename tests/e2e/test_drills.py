"""A short selection of the drills, and that they can fail."""

from collections.abc import Iterator

import pytest

from drills.harms import CONTROLS, DRILLS, rescale
from drills.report import fault, reported
from drills.rows import Rows, compare, miscounted
from drills.stage import Stage
from drills.suite import JOBS, played

DRILLED = [name for name in JOBS if name != "archive"]
LEDGER = ["positions", "balances", "ledger_entries", "dead_letters"]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def undisturbed(stage: Stage) -> Rows:
    return played(stage.suite([*DRILLED, "option_greeks"])).rows


def test_the_undisturbed_run_has_rows_where_a_drill_could_cost_some(undisturbed: Rows) -> None:
    for table in ("book_tops", "book_depth", "bars", "positions", "ledger_entries", "account_margin", "liquidation_orders"):
        assert undisturbed[table]
        assert max(undisturbed[table].values()) == 1


@pytest.mark.parametrize("name", ["taskmanager", "poison"])
def test_drill(name: str, stage: Stage, undisturbed: Rows) -> None:
    report = reported(stage, name, DRILLS[name], undisturbed, DRILLED)
    assert report.faults == []
    assert (report.read_again > 0) == (name != "poison")  # which stops no job


def test_jobs_in_a_group_emit_what_they_emit_alone_also_through_a_savepoint(stage: Stage, undisturbed: Rows) -> None:
    suite = stage.suite(["books", "bars+positions+option_greeks", "liquidations"])
    rows = played(suite, rescale(2)).rows
    assert rows.keys() == undisturbed.keys()
    assert [fault(table) for table in compare(undisturbed, rows) if not table.is_same] == []
    assert miscounted(rows) == []


def test_a_job_that_starts_without_its_state_turns_a_drill_red(stage: Stage, undisturbed: Rows) -> None:
    ledger = {table: undisturbed[table] for table in LEDGER}
    report = reported(stage, "forgetful", CONTROLS["forgetful"], ledger, ["positions"])
    (fault,) = report.faults
    assert fault.startswith("ledger_entries: ")
    assert "repeated" in fault
    assert report.repeats["positions"] > 0

"""A short selection of the drills, and that they can fail."""

import pytest

from drills.harms import CONTROLS, DRILLS
from drills.report import Report, reported
from drills.rows import Rows
from drills.suite import JOBS, played

DRILLED = [name for name in JOBS if name != "archive"]
LEDGER = ["positions", "balances", "ledger_entries", "dead_letters"]


@pytest.fixture(scope="module")
def undisturbed() -> Rows:
    return played(DRILLED).rows


def drilled(name: str, expected: Rows, names: list[str]) -> Report:
    return reported(name, {**DRILLS, **CONTROLS}[name], expected, names, lambda _: None)


def test_the_undisturbed_run_has_rows_where_a_drill_could_cost_some(undisturbed: Rows) -> None:
    for table in ("book_tops", "book_depth", "bars", "positions", "ledger_entries", "account_margin", "liquidation_orders"):
        assert undisturbed[table]
        assert max(undisturbed[table].values()) == 1


@pytest.mark.parametrize("name", ["taskmanager", "rescale-up", "poison"])
def test_drill(name: str, undisturbed: Rows) -> None:
    report = drilled(name, undisturbed, DRILLED)
    assert report.faults == []
    assert (report.read_again > 0) == (name != "poison")  # which stops no job


def test_a_job_that_starts_without_its_state_turns_a_drill_red(undisturbed: Rows) -> None:
    report = drilled("forgetful", {table: undisturbed[table] for table in LEDGER}, ["positions"])
    (fault,) = report.faults
    assert fault.startswith("ledger_entries: ")
    assert "repeated" in fault
    assert report.repeats["positions"] > 0

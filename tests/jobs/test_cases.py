"""Every job against its cases, with the production SQL, on the real broker and cluster.

A case is a folder `<job>/<a sentence>` of rows given and rows expected, a file a table; a stage of a job may have a
folder of its own.  Names and times are any: cases are played side by side in one minute, each under names of its own
(`cases.py`).

given     A row of the table, or {"raw": …, "key": …, "event_at": …} for a value that is none: each character of `raw` is one
          byte.  The record timestamp is `event_at`, less what a feed finds the venue's clock wrong by.  Rows of all tables are
          published in the order of `received_at`, so that one can come late; a raw value is received at its `event_at`.  One
          that is more than a second behind, its receipt too, comes when all before it have been read, and so is late for
          certain.
expect    The columns that matter of every row that the job writes for the case's names, up to a second after its last given
          row.  A table without a file has no rows, unless it is of another stage (`cases.STAGES`).  No row of any job may
          belong to no case.

There are two passes, each at hours of its own: `straight`; and `harmed`, in which the TaskManager is killed in the middle, and
the jobs go on from a checkpoint, and are stopped with a savepoint later, and go on at another parallelism.  The rows are the
same; only after a crash may those of topics that are not exactly-once be repeated.

    pytest tests/jobs/test_cases.py                                every case in both passes
    pytest tests/jobs/test_cases.py -k 'a_gap_makes'               these straight, with the jobs that they need
    pytest tests/jobs/test_cases.py -k 'a_gap_makes and harmed'    these through a crash and at another parallelism
    pytest tests/jobs/test_cases.py -k 'a_gap_makes' --up          on the runtime that `gammaflow up` has started
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from deploy import runtime
from tests.jobs.cases import CASES, PASSES, Case, Row, wrong
from tests.jobs.playing import FIRST_DAY_MS, Runner, Written, newest_day_ms


@pytest.fixture(scope="module")
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    """What the jobs wrote when the selected cases had been played."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module]
    selected: list[tuple[Any, Any]] = [
        (item.callspec.params["case"], item.callspec.params["way"]) for item in items if hasattr(item, "callspec")
    ]
    if any("exact_arithmetic" in item.name for item in items):
        selected += [(case, "straight") for case in CASES if case.folder == "bars"]
    selected = list(dict.fromkeys(selected))
    if request.config.getoption("--up"):
        place = runtime.current(runtime.default_home())
        runner = Runner(place, selected, newest_day_ms(place.kafka))
        busy = sorted(set(runner.names) & set(place.rest.active()))
        assert not busy, f"jobs {', '.join(busy)} are running on {place.flink}; stop them first"
        yield runner.run()
    else:
        with runtime.temporary(is_brief=True) as place:
            yield Runner(place, selected, FIRST_DAY_MS).run()


@pytest.mark.parametrize("way", PASSES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case, way: str, written: Written) -> None:
    faults = wrong(case, written.rows[case, way], is_repeated=way == "harmed")
    assert not faults, "\n".join(faults)


def test_every_row_belongs_to_one_case(written: Written) -> None:
    assert not written.strays, "\n".join(written.strays[:20])


def test_bars_are_what_exact_arithmetic_makes_of_their_trades(written: Written) -> None:
    bars_seen = 0
    for case in CASES:
        if case.folder != "bars" or "has_closed" in case.sentence:
            continue
        trades: dict[tuple[str, str, str], dict[str, Row]] = {}
        for _, row in case.given:
            if "raw" not in row and row.get("off_market") is None:
                trades.setdefault((row["venue"], row["instrument"], row["event_at"][:19]), {})[row["trade_id"]] = row
        for bar in written.rows[case, "straight"]["bars"]:
            if bar["interval_s"] != 1:
                continue
            of_second = list(trades[bar["venue"], bar["instrument"], bar["start_at"][:19]].values())
            assert bar["trade_count"] == len(of_second)
            volume = sum(Fraction(str(row["size"])) for row in of_second)
            turnover = sum(Fraction(str(row["price"])) * Fraction(str(row["size"])) for row in of_second)
            assert bar["volume"] == pytest.approx(float(volume), rel=4e-16, abs=0)
            assert bar["vwap"] == pytest.approx(float(turnover / volume), rel=1e-15, abs=0)
            assert bar["low_price"] <= bar["vwap"] <= bar["high_price"]
            bars_seen += 1
    assert bars_seen > 50

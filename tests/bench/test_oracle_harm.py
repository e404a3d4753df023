"""Harm to sources of an oracle is found in time and rightly named: the kernel's rows, judged by the text of the job."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.oracle_harm import QUIET, SLACK_MS, Kernels, faults, moving, tried
from feeds.capture import convert, read
from feeds.simulator import Harm, Scenario, simulate
from kernels import oracles

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures"
SOURCES_ALONE = replace(QUIET, book_updates_per_s=0, trades_per_s=0)


def during(kind: str, source: str, from_s: float, until_s: float) -> Harm:
    return Harm(kind, source, QUIET.start_ms + int(1000 * from_s), QUIET.start_ms + int(1000 * until_s))


SCRIPT = replace(
    SOURCES_ALONE,
    duration_s=80,
    harms=(
        during("freeze", "sim_slots:publisher:BTC/USD", 18.2, 30),
        during("withhold", "sim_gamma:index:ETH:USDT", 22.3, 46),
        during("withhold", "sim_oracle:index:ETH", 25.1, 32),
        during("spike", "sim_oracle:index:BTC", 34.5, 37),
        during("step_back", "sim_beta:index:BTC:USDT", 41.2, 48),
        during("freeze", "sim_oracle:index:BTC", 50.05, 57),
        during("depeg", "USDT", 52, 80),
    ),
)
QUICKLY = moving(0.01, "sim_oracle:index:{}", 1)


def is_quiet(scenario: Scenario) -> None:
    trial = tried(scenario)
    assert trial.failures == []
    assert trial.row_count > 20 * 10 * scenario.duration_s


def test_nothing_is_found_in_a_quiet_market() -> None:
    is_quiet(replace(QUIET, duration_s=35, seed=4))


def test_each_harm_is_found_within_the_limit_of_its_source_and_as_nothing_else() -> None:
    trial = tried(SCRIPT)
    assert trial.failures == []
    limits = {verdict.harm.source: verdict.limit_ms for verdict in trial.verdicts}
    assert limits["sim_oracle:index:BTC"] == 4_000 and limits["sim_gamma:index:ETH:USDT"] == pytest.approx(20_000, rel=0.02)


def test_a_source_that_is_late_with_a_move_is_found_delayed_and_nobody_else_is() -> None:
    crash_s = 15.0
    moved_ms = int(1000 * (crash_s - 30))
    harms = tuple(harm._replace(from_ms=harm.from_ms + moved_ms, until_ms=harm.until_ms + moved_ms) for harm in QUICKLY.harms)
    trial = tried(replace(QUICKLY, duration_s=32, crash_at_s=crash_s, harms=harms))
    assert trial.failures == []
    assert all(verdict.took_ms is not None and verdict.took_ms > SLACK_MS for verdict in trial.verdicts)


def test_a_fault_is_over_a_second_after_its_last_sign() -> None:
    spike = during("spike", "sim_oracle:index:BTC", 6, 8)
    rows = Kernels().play(simulate(replace(SOURCES_ALONE, duration_s=12, harms=(spike,))))
    began, ended = faults(rows)
    assert (began["kind"], ended["kind"], began["is_over"], ended["is_over"]) == ("deviating", "deviating", 0, 1)
    assert 900 <= ended["event_at"] - spike.until_ms <= 1_400
    assert began["measured"] > 90 and began["allowed"] == 0.01 and began["unit"] == "fraction"


@pytest.mark.parametrize(
    ("venue", "name"),
    [("okx", "okx/2022-05-13.ws.log"), ("bitget", "bitget/ws.1.log"), ("deribit", "deribit/2021-07-22.ws.log")],
)
def test_nothing_is_found_in_a_capture(venue: str, name: str) -> None:
    if not (CAPTURES / name).exists():
        pytest.skip(f"{CAPTURES / name} is not there")
    kernels = Kernels()
    # No capture has a rate of USDT; without one nothing quoted in it would be compared.
    sources = oracles.RULES.sources._replace(assumed_rates={"USDT": 1.0})
    kernels.oracles = oracles.State(oracles.RULES._replace(sources=sources))
    records = (record for converted in convert(read(venue, CAPTURES / name)) for record in converted.records)
    assert list(faults(kernels.play(record for record in records if record.table != "dead_letters"))) == []
    assert kernels.letters == []

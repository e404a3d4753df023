"""Sources of an oracle keep their habits, and a script harms just what it names."""

from collections import defaultdict
from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import median
from typing import Any

import pytest

from feeds import Record
from feeds.simulator import ARRIVAL_DISORDER_MS, SOURCES, Harm, Scenario, simulate
from feeds.simulator.harm import PRICES, harmed, source_of
from schemas.rows import fault, instant_ms, to_ms, to_us

CALM = Scenario(
    duration_s=30,
    crash_size=0.0,
    book_updates_per_s=40,
    tickers_per_s=10,
    trades_per_s=5,
    fills_per_s=0,
    strikes=1,
    expiries=1,
    accounts=4,
    doomed=0,
    sources=SOURCES,
)
T0 = CALM.start_ms
SOURCE = "a:index:BTC"


@cache
def stream(scenario: Scenario) -> tuple[Record, ...]:
    return tuple(simulate(scenario))


def by_source(scenario: Scenario) -> dict[str, list[Record]]:
    series: dict[str, list[Record]] = defaultdict(list)
    for record in stream(scenario):
        if record.table in PRICES:
            series[source_of(record.table, record.row)].append(record)
    return series


def test_the_market_is_the_same_with_sources_and_without() -> None:
    named = {habits.source(underlying) for habits in SOURCES for underlying in habits.underlyings}
    rest = [r for r in stream(CALM) if r.table not in PRICES or source_of(r.table, r.row) not in named]
    assert rest == list(stream(replace(CALM, sources=())))


def test_the_same_seed_gives_the_same_sources_and_another_one_others() -> None:
    assert tuple(simulate(CALM)) == stream(CALM)
    other = by_source(replace(CALM, seed=2))
    assert all(other[name] != records for name, records in by_source(CALM).items())


def test_every_record_of_a_source_is_what_its_table_says_and_comes_in_the_order_of_arrival() -> None:
    assert [fault(r.table, r.row) for r in stream(CALM) if r.table in PRICES and fault(r.table, r.row)] == []
    arrived = [to_us(r.row["received_at"]) for r in stream(CALM)]
    assert arrived == sorted(arrived)
    newest = disorder = 0
    for record in stream(CALM):
        assert record.event_ms == to_ms(record.row["event_at"])
        newest = max(newest, record.event_ms)
        disorder = max(disorder, newest - record.event_ms)
    assert disorder <= ARRIVAL_DISORDER_MS


def test_each_source_speaks_as_often_as_is_its_habit() -> None:
    series = by_source(CALM)
    assert set(series) == set(CALM.source_names)
    for habits in SOURCES:
        for underlying in habits.underlyings:
            times = [record.event_ms for record in series[habits.source(underlying)]]
            if habits.heartbeat_ms:
                assert len(times) < 5
            else:
                gaps = [later - earlier for earlier, later in pairwise(times)]
                assert median(gaps) == pytest.approx(habits.every_ms, abs=habits.jitter_ms)


def test_there_are_sources_of_three_venues_for_each_underlying_and_few_rows_of_them() -> None:
    venues = defaultdict(set)
    for source, records in by_source(CALM).items():
        venues[records[0].row["underlying"]].add(source.partition(":")[0])
    assert {underlying: len(names) >= 3 for underlying, names in venues.items()} == dict.fromkeys(
        ("BTC", "ETH", "USDC", "USDT"), True
    )
    more = len(stream(CALM)) - len(stream(replace(CALM, sources=())))
    assert more < 25 * CALM.duration_s


def test_rounds_come_at_a_deviation_or_a_heartbeat() -> None:
    crash = replace(CALM, duration_s=90, crash_size=0.2, crash_at_s=70.0)
    times = [(r.event_ms - T0) / 1000 for r in by_source(crash)["sim_rounds:publisher:BTC/USD"]]
    calm = [at for at in times if at < 70]
    assert len(calm) == 2 and calm[1] - calm[0] == pytest.approx(60, abs=2.5)
    assert len([at for at in times if 70 <= at < 80]) >= 3


# --- Harm


def spoken(count: int = 10, venue: str = "a", **changed: Any) -> list[Record]:
    """A price a second, each a dollar above the one before."""
    rows = []
    for n in range(count):
        row = {"venue": venue, "underlying": "BTC", "event_at": instant_ms(T0 + 1000 * n), "price_usd": 100.0 + n}
        rows.append(Record("index_prices", T0 + 1000 * n, row | {"received_at": instant_ms(T0 + 1000 * n + 5)} | changed))
    return rows


def prices(records: list[Record]) -> list[float]:
    return [record.row["price_usd"] for record in records]


def done(kind: str, source: str = SOURCE, size: float | None = None, **changed: Any) -> list[Record]:
    """What a harm from the fourth to the seventh second leaves of `spoken`."""
    return list(harmed(spoken(**changed), [Harm(kind, source, T0 + 3_000, T0 + 7_000, size)]))


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("freeze", None, [100, 101, 102, 102, 102, 102, 102, 107, 108, 109]),
        ("withhold", None, [100, 101, 102, 107, 108, 109]),
        ("delay", 2_000.0, [100, 101, 102, 101, 102, 103, 104, 107, 108, 109]),
        ("delay", 60_000.0, [100, 101, 102, 100, 100, 100, 100, 107, 108, 109]),
        ("spike", None, [100, 101, 102, 10_300, 10_400, 10_500, 10_600, 107, 108, 109]),
        ("step_back", None, [100, 101, 102, 103, 104, 105, 106, 107, 108, 109]),
    ],
)
def test_a_harm_changes_the_prices_of_its_source_for_its_time(kind: str, size: float | None, expected: list[float]) -> None:
    assert prices(done(kind, size=size)) == expected
    assert prices(done(kind, source="b:index:BTC", size=size)) == prices(spoken())


def test_only_a_clock_that_steps_back_changes_times_and_receipts_stay() -> None:
    assert [r.event_ms for r in done("freeze")] == [r.event_ms for r in spoken()]
    back = done("step_back", size=1_500.0)
    assert [before.event_ms - after.event_ms for before, after in zip(spoken(), back, strict=True)] == [
        *(0, 0, 0),
        *(1_500, 1_500, 1_500, 1_500),
        *(0, 0, 0),
    ]
    assert all(to_ms(record.row["event_at"]) == record.event_ms for record in back)
    assert [r.row["received_at"] for r in back] == [r.row["received_at"] for r in spoken()]


def test_in_a_depeg_the_coin_falls_and_what_is_quoted_in_it_rises_so_that_both_agree() -> None:
    harm = [Harm("depeg", "USDT", T0, T0 + 60_000)]
    coin = prices(list(harmed(spoken(60, underlying="USDT", price_usd=1.0), harm)))
    quoted = prices(list(harmed(spoken(60, quote_currency="USDT", price_usd=100.0), harm)))
    assert coin[0] == 1.0 and coin[4] == pytest.approx(0.98) and min(coin) == coin[30] == pytest.approx(0.95)
    assert [rate * price for rate, price in zip(coin, quoted, strict=True)] == pytest.approx([100.0] * 60)
    assert prices(list(harmed(spoken(quote_currency="USD"), harm))) == prices(spoken())


@pytest.mark.parametrize(
    "harm",
    [
        Harm("melt", "sim_oracle:index:BTC", T0, T0 + 1),
        Harm("freeze", "nobody:index:BTC", T0, T0 + 1),
        Harm("freeze", "USDT", T0, T0 + 1),
        Harm("depeg", "USDC", T0, T0 + 1),
        Harm("spike", "sim_oracle:index:BTC", T0, T0),
    ],
)
def test_a_harm_that_could_not_be_done_is_refused(harm: Harm) -> None:
    with pytest.raises(ValueError, match="harm"):
        replace(CALM, harms=(harm,))

"""The declarations of jobs agree with their SQL."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import jobs
import schemas
from engine import run
from engine.contract import kernel
from schemas.records import TABLES


@pytest.mark.parametrize("name", jobs.FLOW)
def test_a_job_comes_behind_all_whose_topics_it_reads(name: str) -> None:
    before = jobs.FLOW[: jobs.FLOW.index(name)]
    for other in jobs.FLOW:
        reads = {*jobs.job(name).reads, *jobs.job(name).may_read} - schemas.TOLD_AHEAD
        if other != name and set(jobs.job(other).writes) & reads - {"dead_letters"}:
            assert other in before


@pytest.mark.parametrize(
    "name", [name for name in jobs.FLOW if jobs.job(name).kernel is None and not jobs.job(name).is_for_each_topic]
)
def test_a_job_of_sql_alone_writes_what_it_declares(name: str) -> None:
    job = jobs.job(name)
    written = {
        table
        for table in schemas.names()
        if re.search(rf"\b(?:INSERT INTO|VIEW) {table}_rows\b", schemas.without_comments(job.sql))
    }
    assert written == set(job.writes)


def test_who_writes_a_topic_that_another_kernel_reads_tells_the_time_there() -> None:
    for name in jobs.FLOW:
        if jobs.job(name).kernel is None:
            continue
        for other in jobs.FLOW:
            shared = set(jobs.job(other).writes) & {*jobs.job(name).reads, *jobs.job(name).may_read}
            assert shared <= set(jobs.job(other).tells_time), (other, name)


def test_a_topic_that_a_job_writes_is_no_feed_topic() -> None:
    feeds = set(jobs.feed_topics())
    assert {"order_books.v1", "fills.v1", "index_prices.v1", "venue_times.v1"} <= feeds
    assert not feeds & {"book_tops.v1", "positions.v1", "balances.v1", "book_depth.v1"}


def test_a_topic_for_people_is_read_by_no_job_and_waited_for_by_none() -> None:
    for table in schemas.FOR_PEOPLE:
        assert not [name for name in jobs.FLOW if table in (*jobs.job(name).reads, *jobs.job(name).writes)]
        assert TABLES[table].topic not in jobs.feed_topics()
    assert jobs.job("archive").reads == schemas.kept() == sorted(set(schemas.names()) - schemas.FOR_PEOPLE)


def test_upstream_is_all_that_a_job_needs() -> None:
    assert jobs.upstream(["bars"]) == ["bars"]
    assert set(jobs.upstream(["liquidations"])) >= {"positions", "liquidations"}
    assert set(jobs.upstream(["book_metrics"])) >= {"books", "book_metrics"}


def test_what_a_job_may_read_it_reads_if_it_is_asked_to() -> None:
    job = jobs.job("liquidations")
    assert set(job.may_read) >= {"oracle_prices", "circuit_breaks"} and not set(job.may_read) & set(job.reads)
    assert job.reading(["oracle_prices", "bars"]).reads == [*job.reads, "oracle_prices"]
    assert jobs.job("bars").reading(["oracle_prices"]) == jobs.job("bars")
    assert "oracles" not in jobs.upstream(["liquidations"])
    assert set(jobs.upstream(["liquidations"], jobs.optional())) >= {"oracles", "oracle_faults", "breakers", "liquidations"}
    assert jobs.optional(["oracles", "bars"]) == ["oracle_prices"]
    group = jobs.job("chains+liquidations").reading(["circuit_breaks"])
    assert [("circuit_breaks" in member.reads) for member in group.members] == [False, True]


def test_an_unknown_job_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"no job 'none'; there are .*books"):
        jobs.job("none")


def test_a_group_is_its_members_in_the_order_of_the_flow() -> None:
    group = jobs.job("book_metrics+bars")
    assert group.name == "bars+book_metrics"
    assert group.writes == ["bars", "book_metrics"]
    assert group.reads == ["trades", "book_tops", "book_depth"]
    assert jobs.is_known("bars+book_metrics")
    assert not jobs.is_known("book_metrics+bars")
    assert jobs.job("chains+option_greeks").kernels == ["chains", "option_greeks"]
    assert jobs.position("books+chains+option_greeks") == jobs.position("option_greeks")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("books+chains", "chains reads book_tops, which books writes; they cannot share a source"),
        ("positions+liquidations", "liquidations reads balances, which positions writes; they cannot share a source"),
        ("books+option_greeks", "kernels that share a source wait equally long"),
        ("bars+bars", "a job is in a group once"),
        ("archive+bars", "archive reads every topic"),
    ],
)
def test_jobs_that_cannot_be_a_group_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        jobs.job(name)


def test_in_a_group_no_job_waits_longer_because_of_another_one() -> None:
    def pace(group: str) -> dict[str, str]:
        chosen: dict[str, str] = {}
        tables: Any = SimpleNamespace(get_config=lambda: SimpleNamespace(set=chosen.__setitem__))
        job = jobs.job(group)
        run.keep_pace(tables, job.members or (job,))
        return chosen

    assert pace("bars") == pace("bars+book_metrics") == dict.fromkeys(run.PACE, "100 ms")
    assert pace("chains+bars") == pace("chains") == {}


def test_no_job_on_the_way_to_an_order_is_slowed_down() -> None:
    loop = jobs.loop(sorted({table for name in jobs.FLOW for table in jobs.job(name).may_read}))
    assert {"books", "liquidations", "orders", "matching"} <= set(loop)
    assert not [name for name in loop if not {*run.PACE}.isdisjoint(jobs.settings(jobs.job(name)))]


def test_a_semicolon_that_ends_a_comment_ends_no_statement() -> None:
    text = "-- one; and\n-- two;\nSET 'a' = 'b';  -- three;\n\nSELECT 1;\n"
    assert schemas.statements(text) == ["-- one; and\n-- two;\nSET 'a' = 'b'", "SELECT 1"]


def test_orders_positions_and_liquidations_are_in_one_loop_with_the_own_venue() -> None:
    assert jobs.loop(["venue_fills", "venue_reports"]) == ["positions", "liquidations", "orders", "matching"]
    assert "fund" in jobs.loop(["fund_fills"])
    assert jobs.loop(["venue_reports"]) == ["liquidations", "orders", "matching"]
    assert jobs.loop(jobs.optional()) == []
    ahead = {table for name in jobs.FLOW for table in jobs.job(name).tells_ahead}
    assert ahead == schemas.TOLD_AHEAD
    assert not ahead & set(jobs.optional())


@pytest.mark.parametrize("name", [name for name in jobs.FLOW if jobs.job(name).kernel])
def test_who_tells_a_time_ahead_has_a_latency_and_nobody_else(name: str) -> None:
    job = jobs.job(name)
    assert job.kernel is not None
    assert bool(job.tells_ahead) == bool(kernel(job.kernel).latency_ms)
    assert set(job.tells_ahead) in (set(), set(job.tells_time))
    assert kernel(job.kernel).latency_ms % schemas.AHEAD_MS == 0


def test_each_window_of_a_loop_ends_where_the_time_is_told_ahead() -> None:
    closed = jobs.loop(jobs.told_ahead(jobs.FLOW))
    assert closed
    assert {schemas.AHEAD_MS % jobs.window_ms(jobs.job(name)) for name in closed} == {0}


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("fills.account", "keyed-by names fills, which it does not list itself"),
        ("orders.account_part", "keyed-by names orders.account_part; orders has no such column"),
        ("positions.instrument_partition", "keyed-by names positions, which it does not list itself"),  # every shard gets it
    ],
)
def test_a_table_is_keyed_only_by_its_own_column_and_only_if_not_every_shard_gets_it(declared: str, reason: str) -> None:
    (table, column), matching = declared.split("."), jobs.job("matching")
    with pytest.raises(ValueError, match=re.escape(reason)):
        jobs._check(replace(matching, keyed_by=((table, column),)))

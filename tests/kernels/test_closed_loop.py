"""A crash on the own venue: orders come back as fills, and fills move accounts, all in this process."""

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

from engine.offline import Given, Offline, Written
from feeds.simulator import Quoting, Scenario, simulate
from kernels.matching.rules import RULES
from kernels.orders.ids import client_order_id
from schemas import TOLD_AHEAD
from schemas.rows import to_ms
from udfs.profits import profits

JOBS = ("books", "positions", "liquidations", "orders", "matching", "fund")
CLOSED = tuple(sorted(TOLD_AHEAD - {"algorithm_requests", "hedge_requests"}))
CRASH = Scenario(duration_s=16, crash_at_s=8.0, strikes=3, expiries=1, accounts=16, doomed=8, fills_per_s=20, quoting=Quoting())
DRAIN_MS = 5_000
Rows = dict[str, list[dict[str, Any]]]


def played() -> list[Written]:
    market = sorted(simulate(CRASH), key=lambda record: record.event_ms)
    until_ms = CRASH.start_ms + 1000 * CRASH.duration_s + DRAIN_MS
    return list(Offline(JOBS, CLOSED).play((Given(*record) for record in market), until_ms))


@cache
def once() -> list[Written]:
    return played()


@cache
def rows() -> Rows:
    by_table: Rows = defaultdict(list)
    for row in once():
        by_table[row.table].append(row.row)
    return by_table


def newest(table: str, *columns: str) -> dict[tuple[str, ...], dict[str, Any]]:
    return {tuple(row[column] for column in columns): row for row in rows()[table]}


def test_the_same_market_gives_the_same_rows_to_the_last_byte() -> None:
    assert once() == played()


def test_each_trade_has_two_sides_so_positions_of_a_contract_sum_to_zero() -> None:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for (_, instrument), row in newest("positions", "account", "instrument").items():
        sums[instrument] += Decimal(str(row["size"]))
    assert sums
    assert not any(sums.values())


def test_what_all_win_and_lose_sums_to_zero_to_the_last_digit() -> None:
    market = list(simulate(CRASH))
    terms = {(r.row["venue"], r.row["instrument"]): dict(r.row) for r in market if r.table == "instruments"}
    tickers = [r.row for r in market if r.table == "tickers"] + rows()["venue_tickers"]
    marks = {(row["venue"], row["instrument"]): row["mark_price"] for row in tickers if row["mark_price"] is not None}
    sums: dict[str, Fraction] = defaultdict(Fraction)
    for (_, currency), profit in profits(rows()["venue_fills"], terms, marks).items():
        sums[currency] += profit.total
    assert set(sums) == {"USDC", "BTC", "ETH"}
    assert not any(sums.values())


def test_every_fill_is_booked_once_as_the_venue_told_it() -> None:
    told = {(row["account"], row["fill_id"]): row for row in rows()["venue_fills"]}
    assert len(told) == len(rows()["venue_fills"])
    assert {(row["account"], row["fill_id"]) for row in rows()["positions"]} == told.keys()
    reported = {row["exec_id"] for row in rows()["venue_reports"] if row["exec_type"] == "trade"}
    assert reported == {fill_id for _, fill_id in told}


def test_every_order_that_was_sent_has_come_to_an_end() -> None:
    statuses = {row["order_status"] for row in newest("order_states", "account", "order_key").values()}
    assert statuses <= {"filled", "cancelled", "expired", "rejected"}


def test_the_crash_liquidates_the_doomed_and_nobody_else_by_orders_that_trade() -> None:
    ordered = {(row["account"], client_order_id("liquidation", row["order_id"])) for row in rows()["liquidation_orders"]}
    traded = {(row["account"], row["client_order_id"]) for row in rows()["venue_reports"] if row["exec_type"] == "trade"}
    assert {account for account, _ in ordered} == {f"doomed-{n:04d}" for n in range(8)}
    assert len({account for account, _ in ordered & traded}) >= 4


def test_a_report_comes_the_latency_of_the_venue_after_its_order() -> None:
    sent = {(row["account"], row["client_order_id"]): to_ms(row["event_at"]) for row in rows()["orders"]}
    for row in rows()["venue_reports"]:
        if row["exec_type"] == "new":
            assert to_ms(row["event_at"]) - sent[row["account"], row["client_order_id"]] == RULES.latency_ms

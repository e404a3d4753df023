"""The simulated market keeps its promises, and its liquidations are those that standard margin finds in it."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import Record
from feeds.simulator import ARRIVAL_DISORDER_MS, Scenario, expected_liquidations, simulate
from feeds.simulator.surface import slice_at
from schemas.rows import fault, to_ms, to_us
from udfs.svi import total_variance

BRIEF = Scenario(
    seed=7, duration_s=9, crash_at_s=5, book_updates_per_s=1_200, tickers_per_s=500, strikes=3, expiries=2, accounts=24
)
YEAR_MS = 365 * 86_400_000

Row = dict[str, Any]


@cache
def stream(scenario: Scenario) -> tuple[Record, ...]:
    return tuple(simulate(scenario))


def rows(scenario: Scenario, table: str) -> list[Row]:
    return [dict(record.row) for record in stream(scenario) if record.table == table]


def instrument(row: Row) -> tuple[str, str]:
    return row["venue"], row["instrument"]


# --- The stream


def test_the_same_seed_gives_the_same_records() -> None:
    assert tuple(simulate(BRIEF)) == stream(BRIEF)


def test_another_seed_gives_other_records() -> None:
    assert stream(replace(BRIEF, seed=8)) != stream(BRIEF)


def test_every_record_is_what_its_table_says() -> None:
    faults = [(record, fault(record.table, record.row)) for record in stream(BRIEF)]
    assert [f for f in faults if f[1]] == []
    assert {record.table for record in stream(BRIEF)} == {
        *("instruments", "transfers", "order_books", "index_prices", "tickers", "trades", "fills")
    }


def test_event_time_is_that_of_the_row() -> None:
    assert all(record.event_ms == to_ms(record.row["event_at"]) for record in stream(BRIEF))


def test_records_come_in_order_of_arrival_and_none_before_it_happened() -> None:
    arrived = [to_us(record.row["received_at"]) for record in stream(BRIEF)]
    assert arrived == sorted(arrived)
    assert all(us > record.event_ms * 1000 for us, record in zip(arrived, stream(BRIEF), strict=True))


def test_exchange_times_are_out_of_order_but_within_the_bound() -> None:
    newest, disorder = 0, 0
    for record in stream(BRIEF):
        newest = max(newest, record.event_ms)
        disorder = max(disorder, newest - record.event_ms)
    assert 5 < disorder <= ARRIVAL_DISORDER_MS


@pytest.mark.parametrize("table", ["order_books", "tickers", "trades", "fills"])
def test_exchange_times_are_in_order_within_one_instrument(table: str) -> None:
    newest: dict[tuple[str, str], str] = defaultdict(str)
    for row in rows(BRIEF, table):
        assert row["event_at"] >= newest[instrument(row)]
        newest[instrument(row)] = row["event_at"]


def test_terms_and_deposits_and_snapshots_come_before_what_needs_them() -> None:
    kinds = [r.row["kind"] if r.table == "order_books" else r.table for r in stream(BRIEF) if r.table != "index_prices"]
    opening = [kind for kind in dict.fromkeys(kinds) if kind in ("instruments", "transfers", "snapshot")]
    assert opening == ["instruments", "transfers", "snapshot"] == list(dict.fromkeys(kinds))[:3]
    listed = {instrument(row) for row in rows(BRIEF, "instruments")}
    snapshots = [instrument(row) for row in rows(BRIEF, "order_books") if row["kind"] == "snapshot"]
    assert sorted(snapshots) == sorted(listed)


def test_identifiers_are_unique() -> None:
    for table, owner, name in (
        ("trades", instrument, "trade_id"),
        ("fills", lambda row: row["account"], "fill_id"),
        ("transfers", lambda row: row["account"], "transfer_id"),
    ):
        ids = [(owner(row), row[name]) for row in rows(BRIEF, table)]
        assert len(set(ids)) == len(ids)


def test_it_is_a_stream() -> None:
    endless = Scenario(duration_s=86_400)
    assert len(list(islice(simulate(endless), 5_000))) == 5_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"crash_size": 0.9},
        {"crash_size": 0.05},
        {"crash_at_s": 58.0},
        {"duration_s": 0},
        {"duration_s": 6},
        {"strikes": 0},
        {"expiries": 7},
        {"doomed": 41},
        {"trades_per_s": -1},
    ],
)
def test_an_impossible_scenario_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        Scenario(**wrong)


@pytest.mark.parametrize(
    "quiet",
    [
        Scenario(duration_s=1, crash_size=0),
        Scenario(
            duration_s=1,
            crash_size=0,
            book_updates_per_s=0,
            tickers_per_s=0,
            trades_per_s=0,
            fills_per_s=0,
            accounts=0,
            doomed=0,
        ),
        Scenario(duration_s=1, crash_size=0, accounts=8, doomed=8),
        Scenario(duration_s=1, crash_size=0, strikes=1, expiries=1, depth=1),
        Scenario(duration_s=1, crash_size=0, strikes=41, expiries=6),
    ],
)
def test_small_and_large_scenarios_run(quiet: Scenario) -> None:
    assert all(fault(record.table, record.row) is None for record in stream(quiet))
    listed = [instrument(row) for row in rows(quiet, "instruments")]
    assert len(set(listed)) == len(listed) == 8 + 4 * quiet.strikes * quiet.expiries


def test_an_option_is_named_after_its_terms() -> None:
    names = {row["instrument"]: row for row in rows(Scenario(duration_s=1, crash_size=0), "instruments")}
    terms = names["BTC-27DEC24-60000-C"]
    assert (terms["option_type"], terms["strike_usd"], terms["quote_currency"]) == ("call", 60_000.0, "BTC")
    assert terms["expiry_at"] == "2024-12-27T08:00:00.000Z"
    assert "ETH-3JAN25-3000-P" in names


# --- Books


class Book:
    """What a consumer rebuilds; it asserts what a venue promises."""

    def __init__(self, snapshot: Row) -> None:
        assert snapshot["kind"] == "snapshot"
        assert snapshot["prev_sequence"] is None
        self.sides = [dict(map(tuple, snapshot[side])) for side in ("bids", "asks")]
        self.sequence = snapshot["sequence"]

    def change(self, row: Row) -> None:
        assert row["kind"] == "change"
        assert row["prev_sequence"] == self.sequence < row["sequence"]
        self.sequence = row["sequence"]
        for levels, side in zip(self.sides, (row["bids"], row["asks"]), strict=True):
            assert len({price for price, _ in side}) == len(side)
            for price, size in side:
                assert price > 0
                assert size >= 0
                if size:
                    levels[price] = size
                else:
                    del levels[price]  # a KeyError would be a delete of nothing

    def best(self) -> tuple[float | None, float | None, float | None, float | None]:
        bids, asks = self.sides
        bid, ask = max(bids, default=None), min(asks, default=None)
        assert bid is None or ask is None or bid < ask
        return bid, None if bid is None else bids[bid], ask, None if ask is None else asks[ask]


def replayed(scenario: Scenario) -> Iterator[tuple[Row, Book]]:
    """Each row of books, tickers and trades in exchange order (trades and tickers after their millisecond's books)."""
    books: dict[tuple[str, str], Book] = {}
    order = {"order_books": 0, "trades": 1, "tickers": 1}
    flow = sorted((r for r in stream(scenario) if r.table in order), key=lambda r: (r.event_ms, order[r.table]))
    for record in flow:
        row = dict(record.row)
        name = instrument(row)
        if record.table != "order_books":
            pass
        elif name in books:
            books[name].change(row)
        else:
            books[name] = Book(row)
        yield row, books[name]


def test_books_are_never_crossed_and_their_chains_unbroken() -> None:
    applied = 0
    for row, book in replayed(BRIEF):
        if "kind" in row:
            book.best()
            applied += 1
    assert applied == len(rows(BRIEF, "order_books")) > 9 * BRIEF.book_updates_per_s


def test_each_ticker_shows_the_book_of_its_exchange_time() -> None:
    checked = 0
    for row, book in replayed(BRIEF):
        if "mark_price" in row:
            shown = row["bid_price"], row["bid_size"], row["ask_price"], row["ask_size"]
            assert (shown, row["sequence"]) == (book.best(), book.sequence)
            assert (row["bid_price"] or 0.0) <= row["mark_price"] < row["ask_price"]
            checked += 1
    assert checked > 8 * BRIEF.tickers_per_s


def test_in_arrival_order_some_tickers_precede_their_book() -> None:
    sequences: dict[tuple[str, str], int] = {}
    early = 0
    for record in stream(BRIEF):
        if record.table == "order_books":
            sequences[instrument(dict(record.row))] = record.row["sequence"]
        elif record.table == "tickers":
            early += record.row["sequence"] != sequences[instrument(dict(record.row))]
    assert early > 100


def test_prices_are_on_the_tick_and_trades_at_the_touch() -> None:
    ticks = {instrument(row): row["tick_size"] for row in rows(BRIEF, "instruments")}
    books_of_the_millisecond: dict[tuple[str, str], tuple[str, list[Any]]] = {}
    for row, book in replayed(BRIEF):
        name = instrument(row)
        if "kind" in row:
            event_at, tops = books_of_the_millisecond.get(name, ("", []))
            tops = tops if event_at == row["event_at"] else []
            books_of_the_millisecond[name] = row["event_at"], [*tops, book.best()]
        elif "trade_id" in row:
            assert row["price"] / ticks[name] == pytest.approx(round(row["price"] / ticks[name]), abs=1e-6)
            _, tops = books_of_the_millisecond[name]
            assert row["price"] in [top[2 if row["side"] == "buy" else 0] for top in tops]
            assert row["size"] > 0


def test_a_message_changes_a_handful_of_levels() -> None:
    calm = [row for row in rows(BRIEF, "order_books") if row["kind"] == "change"][:4_000]
    assert 2 <= sum(len(row["bids"]) + len(row["asks"]) for row in calm) / len(calm) <= 6


# --- Prices


def terms_of(scenario: Scenario) -> dict[tuple[str, str], Row]:
    return {instrument(row): row for row in rows(scenario, "instruments")}


def normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_option_marks_are_black_76_of_their_own_forward_and_volatility() -> None:
    terms = terms_of(BRIEF)
    checked = 0
    for row in rows(BRIEF, "tickers"):
        option = terms[instrument(row)]
        if option["kind"] != "option":
            continue
        F, K = row["forward_usd"], option["strike_usd"]
        deviation = row["mark_iv"] * math.sqrt((to_ms(option["expiry_at"]) - to_ms(row["event_at"])) / YEAR_MS)
        d1 = math.log(F / K) / deviation + deviation / 2
        call = normal(d1) - K / F * normal(d1 - deviation)
        value = call if option["option_type"] == "call" else call - 1 + K / F
        assert row["mark_price"] == pytest.approx(value, abs=1e-12)
        checked += 1
    assert checked > 1_000


def test_call_less_put_is_forward_less_strike() -> None:
    dense = replace(BRIEF, strikes=1, expiries=1)
    terms = terms_of(dense)
    marks: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in rows(dense, "tickers"):
        option = terms[instrument(row)]
        if option["kind"] == "option":
            pair = marks[row["event_at"], option["underlying"]]
            pair[option["option_type"]] = row["mark_price"]
            pair["parity"] = 1 - option["strike_usd"] / row["forward_usd"]
    pairs = [pair for pair in marks.values() if len(pair) == 3]
    assert len(pairs) > 20
    assert all(pair["call"] - pair["put"] == pytest.approx(pair["parity"], abs=1e-12) for pair in pairs)


@given(st.floats(-2, 2), st.floats(0.2, 2), st.floats(1e-3, 3), st.floats(1.001, 10))
def test_total_variance_is_positive_and_grows_with_time(k: float, vol: float, years: float, longer: float) -> None:
    w = [float(total_variance(slice_at(np.array(T), np.array(vol)), np.array(k))) for T in (years, longer * years)]
    assert 0 <= w[0] < w[1]


@given(st.floats(-2, 2), st.floats(0.2, 2), st.floats(1e-3, 3))
def test_the_surface_has_no_butterfly(k: float, vol: float, years: float) -> None:
    h = 1e-3 * vol * math.sqrt(years)
    below, w, above = (float(total_variance(slice_at(np.array(years), np.array(vol)), np.array(x))) for x in (k - h, k, k + h))
    slope, bend = (above - below) / (2 * h), (above - 2 * w + below) / h**2
    durrleman = (1 - k * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + 1 / 4) + bend / 2
    assert durrleman > -1e-4


def test_venues_move_together_through_the_crash() -> None:
    marks: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows(BRIEF, "tickers"):
        if "PERP" in row["instrument"]:
            marks[instrument(row)].append(row["mark_price"])
    assert len(marks) == 4
    for prices in marks.values():
        assert min(prices) / prices[0] == pytest.approx(0.75, abs=0.01)
        assert prices[-1] > 1.01 * min(prices)


def test_the_index_is_published_with_a_confidence_that_widens_in_the_crash() -> None:
    btc = [row for row in rows(BRIEF, "index_prices") if row["underlying"] == "BTC"]
    assert len(btc) == 9 * BRIEF.index_prices_per_s
    width = [row["confidence_usd"] / row["price_usd"] for row in btc]
    assert min(width) >= 1e-4
    assert max(width[25:40]) > 5 * max(width[:25])


# --- Accounts


def test_every_fill_is_a_trade_between_two_accounts() -> None:
    trades = {(instrument(row), row["trade_id"]): row for row in rows(BRIEF, "trades")}
    sides: dict[Any, list[Row]] = defaultdict(list)
    for row in rows(BRIEF, "fills"):
        sides[instrument(row), row["fill_id"]].append(row)
    for trade_id, fills in sides.items():
        taker, maker = sorted(fills, key=lambda row: row["account"].startswith("maker-"))
        assert maker["account"].startswith("maker-")
        assert not taker["account"].startswith("maker-")
        assert {taker["side"], maker["side"]} == {"buy", "sell"}
        trade = trades[trade_id]
        for fill in fills:
            assert (float(fill["price"]), float(fill["size"])) == (trade["price"], trade["size"])
            assert fill["event_at"] == trade["event_at"]
        assert taker["side"] == trade["side"]


class Ledger:
    """Standard margin in plain Python, over the stream as it arrives."""

    def __init__(self) -> None:
        self.terms: dict[tuple[str, str], Row] = {}
        self.marks: dict[tuple[str, str], Row] = {}
        self.index_usd: dict[str, float] = {"USDC": 1.0}
        self.cash: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.contracts: dict[str, dict[tuple[str, str], float]] = defaultdict(lambda: defaultdict(float))

    def take(self, record: Record) -> None:
        row = dict(record.row)
        match record.table:
            case "instruments":
                self.terms[instrument(row)] = row
            case "transfers":
                self.cash[row["account"]][row["currency"]] += float(row["amount"])
            case "tickers":
                self.marks[instrument(row)] = row
            case "index_prices":
                self.index_usd[row["underlying"]] = row["price_usd"]
            case "fills":
                terms = self.terms[instrument(row)]
                signed = float(row["size"]) if row["side"] == "buy" else -float(row["size"])
                # Paying the whole price in cash and owning the position at its mark comes to the same as a running
                # profit: for a perpetual it is cost basis, for an option premium.
                paid = signed * terms["contract_size"] * float(row["price"]) + float(row["fee"])
                self.cash[row["account"]][terms["settlement_currency"]] -= paid
                self.contracts[row["account"]][instrument(row)] += signed

    def valued(self, account: str) -> tuple[float, float, float]:
        """Equity, initial and maintenance margin, in USD."""
        equity = sum(amount * self.index_usd[currency] for currency, amount in self.cash[account].items())
        initial = maintenance = 0.0
        for name, contracts in self.contracts[account].items():
            terms, ticker = self.terms[name], self.marks[name]
            units, mark = contracts * terms["contract_size"], ticker["mark_price"]
            if terms["kind"] == "perpetual":
                equity += units * mark
                slope = {"BTC": 5e-5, "ETH": 4e-6}[terms["underlying"]] * abs(units)
                initial += (0.02 + slope) * abs(units) * mark
                maintenance += (0.01 + slope) * abs(units) * mark
                continue
            index_usd, F, K = ticker["index_price_usd"], ticker["forward_usd"], terms["strike_usd"]
            equity += units * mark * index_usd
            if units < 0 and terms["option_type"] == "call":
                im, mm = max(0.15 - max(K - F, 0) / F, 0.1) + mark, 0.075 + mark
            elif units < 0:
                mm = max(0.075, 0.075 * mark) + mark
                im = max(max(0.15 - max(F - K, 0) / F, 0.1) + mark, mm)
            else:
                im = mm = 0.0
            initial += im * -units * index_usd
            maintenance += mm * -units * index_usd
        return equity, initial, maintenance


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("crash_size", [0.15, 0.25, 0.4])
def test_margin_over_the_stream_liquidates_the_doomed_and_no_one_else(seed: int, crash_size: float) -> None:
    scenario = replace(BRIEF, seed=seed, crash_size=crash_size, doomed=8, book_updates_per_s=500, trades_per_s=50)
    ledger = Ledger()
    worst: dict[str, float] = defaultdict(float)
    opening: dict[str, float] = defaultdict(float)
    crash_ms = scenario.start_ms + 1000 * scenario.crash_from_s
    for record in simulate(scenario):
        ledger.take(record)
        if record.table != "index_prices" or record.row["underlying"] != "ETH":
            continue
        for account, held in ledger.contracts.items():
            if held.keys() <= ledger.marks.keys():
                equity, initial, maintenance = ledger.valued(account)
                worst[account] = max(worst[account], maintenance / equity if equity > 0 else math.inf)
                if record.event_ms < crash_ms:
                    opening[account] = max(opening[account], initial / equity if equity > 0 else math.inf)
    assert {account for account, ratio in worst.items() if ratio >= 1} == expected_liquidations(scenario)
    assert len(worst) == scenario.accounts + 2
    # The margins are wide: details of a model cannot turn an outcome.
    for account, ratio in worst.items():
        if account.startswith("doomed-"):
            assert ratio > 1.5
            assert opening[account] < 0.85
        else:
            assert ratio < 0.35


def test_without_a_crash_no_one_is_liquidated() -> None:
    assert expected_liquidations(replace(BRIEF, crash_size=0)) == frozenset()
    assert len(expected_liquidations(BRIEF)) == BRIEF.doomed

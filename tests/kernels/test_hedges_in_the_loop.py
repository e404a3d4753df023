"""A market maker through a crash, hedged and not: limits, hedges and fills in a circle, by the two kernels that decide."""

import random
from collections import defaultdict
from functools import cache
from typing import Any, NamedTuple

import orjson

from engine.contract import Message
from kernels import hedges, liquidations
from schemas.rows import instant_ms, to_ms
from tests.kernels.hedging import T0, book, limit, terms, ticker
from tests.kernels.test_exposures_stage import balance, position

SECONDS, CRASH_S = 180, 90
MAKER, TWIN = "mm", "twin"
ENTER, CONTRACT, FEE = 10_000.0, 0.001, 0.0005
VENUE_MS = 200
HALF_SPREAD = 1.0


class Played(NamedTuple):
    """What came of it."""

    outside: dict[str, int]  # seconds, by account
    cost: float
    naive_cost: float
    decisions: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    sizes: dict[str, float]


def price_at(ms: int) -> float:
    """A walk that falls by a quarter within 20 s."""
    second = (ms - T0) / 1000
    fallen = min(max(second - CRASH_S, 0.0), 20.0) / 20 * 0.25
    return round(60_000.0 * (1 - fallen) * (1 + 0.001 * random.Random(int(second * 2)).uniform(-1, 1)))


class Loop:
    """Both kernels, window by window of 100 ms."""

    def __init__(self, kills_at_s: float) -> None:
        self.kills_ms = T0 + 1000 * kills_at_s
        self.accounts, self.hedges = liquidations.KERNEL.new(), hedges.KERNEL.new()
        self.sizes = {MAKER: 0.0, TWIN: 0.0}
        self.due: dict[int, list[Message]] = defaultdict(list)  # what positions and orders tell, by window
        self.cost = self.naive_cost = self.naive = 0.0
        self.decisions: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.outside = {MAKER: 0, TWIN: 0}

    def window(self, begin_ms: int, *first: Message) -> None:
        """One window."""
        end_ms, price = begin_ms + 100, price_at(begin_ms)
        prices = [ticker(begin_ms + 10, mark_price=price), book(begin_ms + 10, mid=price, half=HALF_SPREAD, size=40.0)]
        market = [*first, *prices, *self.due.pop(begin_ms, [])]
        rows = liquidations.KERNEL.step(self.accounts, [m for m in market if m.table != "order_states"], end_ms)
        told = [Message(row.table, 0, 0, dict(row.row)) for row in rows if row.table == "risk_exposures"]
        wanted = [m for m in market if m.table not in ("positions", "balances")] + told
        self.decisions += [dict(output.row) for output in hedges.KERNEL.step(self.hedges, wanted, end_ms)]
        for lines in hedges.KERNEL.end_window(self.hedges, end_ms) if hedges.KERNEL.end_window else []:
            decided = [orjson.loads(value) for value in lines.values.split(b"\n")]
            (self.requests if lines.table == "hedge_requests" else self.decisions).extend(decided)
            for row in decided if lines.table == "hedge_requests" else []:
                self.answer(row)
        if end_ms % 1000 == 0:
            for account, size in self.sizes.items():
                self.outside[account] += abs(size * CONTRACT * price) > ENTER

    def answer(self, request: dict[str, Any]) -> None:
        """A fill, or a refusal once orders are killed."""
        ms = to_ms(request["event_at"]) + VENUE_MS
        begin_ms, quantity = ms // 100 * 100, float(request["quantity"])
        row = {column: request[column] for column in ("account", "venue", "instrument", "side", "price", "quantity")}
        row |= {"event_at": instant_ms(ms), "order_key": request["client_order_id"], "number": 1, "reserved_usd": 0.0}
        row |= {"client_order_id": request["client_order_id"], "cause": "report", "cause_id": "r", "leaves_quantity": "0"}
        if ms >= self.kills_ms:
            killed = {"event": "refused", "order_status": "rejected", "cum_quantity": "0", "rule": "gate", "reason": "killed"}
            self.due[begin_ms].append(Message("order_states", 0, 0, row | killed))
            return
        filled = {"event": "trade", "order_status": "filled", "cum_quantity": request["quantity"], "rule": None, "reason": None}
        self.due[begin_ms].append(Message("order_states", 0, 0, row | filled))
        self.trade(request["account"], quantity if request["side"] == "buy" else -quantity, ms)
        levels = [HALF_SPREAD * (2 * number + 1) for number in range(20)]
        gap = sum(min(40.0, max(quantity - 40.0 * number, 0.0)) * level for number, level in enumerate(levels)) * CONTRACT
        self.cost += gap + quantity * CONTRACT * price_at(ms) * FEE

    def trade(self, account: str, size: float, ms: int) -> None:
        """A position changes."""
        self.sizes[account] += size
        self.due[ms // 100 * 100].append(position(account, self.sizes[account], ms))

    def clients(self, ms: int, chance: random.Random) -> None:
        """What clients trade with the maker within a second, the same with its twin; in the crash they sell."""
        second = (ms - T0) // 1000
        lean = 0.2 if CRASH_S <= second < CRASH_S + 20 else 0.0
        size = chance.choice((20, 30, 40)) * (1 if chance.random() < 0.5 + lean else -1)
        for account in (MAKER, TWIN):
            self.trade(account, float(size), ms + 50)
        # Naive: whatever is not flat is traded away each second.
        self.naive_cost += abs(size) * CONTRACT * (HALF_SPREAD + price_at(ms) * FEE)


@cache
def played(kills_at_s: float = 10**6) -> Played:
    loop, chance = Loop(kills_at_s), random.Random(5)
    limits = [limit(leave=7_000.0), limit(leave=7_000.0, subject=TWIN, is_hedged=False)]
    first = [terms(), *limits, *(balance(name, 1e6, T0) for name in (MAKER, TWIN))]
    for number in range(10 * SECONDS):
        ms = T0 + 100 * number
        if ms % 1000 == 0 and number:
            loop.clients(ms, chance)
        loop.window(ms, *(first if not number else ()))
    return Played(loop.outside, loop.cost, loop.naive_cost, loop.decisions, loop.requests, loop.sizes)


def test_the_maker_is_within_its_limit_in_nearly_every_second_and_its_twin_is_not_in_half_of_them() -> None:
    assert played().outside[MAKER] <= 0.05 * SECONDS
    assert played().outside[TWIN] >= 0.5 * SECONDS


def test_hedges_cost_less_than_to_be_flat_each_second() -> None:
    assert 0 < played().cost < 0.6 * played().naive_cost


def test_no_order_is_requested_within_the_band_and_each_leads_back_towards_it() -> None:
    assert len(played().requests) == len([row for row in played().decisions if row["instrument"]]) > 5
    for row in played().decisions:
        assert abs(row["exposure_before"]) > 7_000.0  # breached: it was beyond `enter`, and is not back within `leave`
        assert (row["side"] == "sell") == (row["exposure_before"] > 0)
        assert abs(row["exposure_after"]) < abs(row["exposure_before"])
        assert row["exposure_after"] * row["exposure_before"] >= 0  # never through zero


def test_after_a_kill_nothing_trades_and_requests_become_rare() -> None:
    killed = played(100.0)
    after = [row for row in killed.requests if to_ms(row["event_at"]) + VENUE_MS >= T0 + 100_000]
    assert 1 <= len(after) <= 7
    assert [row["state"] for row in killed.decisions].count("refused") == len(after)
    assert killed.outside[MAKER] > played().outside[MAKER]

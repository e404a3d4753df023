"""The job breakers: when a rule is broken, what stops, until when, and when it goes on."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import breakers
from kernels.breakers import watched
from schemas.rows import fault, instant_ms, to_ms
from tests.kernels import market
from tests.kernels.market import DAY, T0
from tests.kernels.stored import Stored
from udfs import breaker_rules
from udfs.breaker_rules import Rule
from udfs.margin_parameters import Entry

BATCH_MS = 100
BAND = {"kind": "price_band", "reference": "mark", "down": 0.05, "up": 0.05, "is_by_side": True, "halt_s": 60}
DYNAMIC = {"kind": "dynamic", "fraction": 0.1, "tick": 0.01, "window_s": 3600, "halt_s": 120, "late_halt_s": 5}
LULD = {"kind": "luld", "bands": "luld_2019", "tier": 1, "update_fraction": 0.01, "update_s": 30, "hold_s": 15, "halt_s": 300}
SPREAD = {"kind": "spread", "most": 0.01, "hold_s": 2, "calm_s": 3}
DEPTH = {"kind": "depth", "within": 0.01, "least": 0.1, "window_s": 60, "hold_s": 0, "calm_s": 1}
FALL = {
    "kind": "market_wide",
    "watches": "index_prices",
    "stops": "underlying",
    "halt_s": 900,
    "levels": [{"fraction": 0.07, "halt_s": 900}, {"fraction": 0.13, "halt_s": 900}, {"fraction": 0.2}],
}
SETTLED_S = 8 * 3600


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Rule, ...]]:
    """Sets the rules that the kernel applies."""

    def use(*changed: dict[str, Any]) -> tuple[Rule, ...]:
        items = [{"name": f"rule-{number}", "stops": "instrument"} | rule for number, rule in enumerate(changed)]
        parsed = breaker_rules.rules(Entry({"rules": items}, "test:"))
        monkeypatch.setattr(watched, "RULES", parsed)
        by_name = {rule.name: rule for rule in parsed}
        monkeypatch.setattr(watched, "RULE", by_name)
        monkeypatch.setattr(breakers, "RULE", by_name)
        return parsed

    return use


def trade(price: float, ms: int = T0, side: str = "buy", offset: int = 0, **changed: Any) -> Message:
    row = {"venue": "deribit", "instrument": "BTC-P", **market.at(ms), "trade_id": f"{ms}/{offset}", "side": side}
    return Message("trades", 1, offset, row | {"price": price, "size": 1.0, "off_market": None} | changed)


def mark(price: float, ms: int = T0, offset: int = 0) -> Message:
    return market.ticker("BTC-P", ms, offset, mark_price=price)


def top(bid: float | None, ask: float | None, ms: int = T0, is_stale: bool = False) -> Message:
    return market.top("BTC-P", bid, ask, ms, is_stale=is_stale)


def index(usd: float, ms: int = T0) -> Message:
    return market.index(usd, ms)


def depth(size: float, ms: int = T0, is_stale: bool = False) -> Message:
    row = {"venue": "deribit", "instrument": "BTC-P", "event_at": instant_ms(ms), "sequence": 1, "is_stale": is_stale}
    return Message("book_depth", 1, 0, row | {"bids": [[100.0, size], [50.0, 1e6]], "asks": [[100.2, size]]})


def until(ms: int) -> int:
    """The end of the micro-batch of an instant."""
    return (ms // BATCH_MS + 1) * BATCH_MS


class Feed:
    """A kernel that is fed messages, each in the micro-batch of its time, and told the time."""

    def __init__(self, state: watched.State | None = None) -> None:
        self.state = state or breakers.KERNEL.new()
        self.rows: list[dict[str, Any]] = []
        self.now_ms = 0

    def take(self, *messages: Message, until_ms: int | None = None) -> list[dict[str, Any]]:
        """Step through one micro-batch; returns its rows."""
        ends = [until(market_ms(message)) for message in messages]
        until_ms = max(ends) if until_ms is None else until_ms
        outputs = breakers.step(self.state, list(messages), until_ms) + breakers.decide(self.state, until_ms)
        for output in outputs:
            assert fault(output.table, output.row) is None
            assert output.event_ms <= until_ms
            assert output.table == "dead_letters" or output.event_ms == until_ms - 1
        rows = [dict(output.row) for output in outputs if output.table == "circuit_breaks"]
        self.rows += rows
        return rows

    def tell(self, ms: int) -> list[dict[str, Any]]:
        """A micro-batch without messages that ends then."""
        rows = [dict(output.row) for output in breakers.decide(self.state, ms)]
        self.rows += rows
        return rows


def market_ms(message: Message) -> int:
    return to_ms(message.row["event_at"])


def states(rows: list[dict[str, Any]]) -> list[str]:
    return [row["state"] for row in rows]


def test_a_trade_beyond_the_band_of_the_mark_halts_its_instrument_for_as_long_as_the_rule_says(rules: Any) -> None:
    rules(BAND)
    feed = Feed()
    assert feed.take(mark(100.0), trade(105.0, T0 + 1)) == []
    (row,) = feed.take(trade(105.5, T0 + 210))
    assert row == {
        "break_id": f"rule-0/deribit:BTC-P/{instant_ms(T0 + 300)}",
        "subject": "deribit:BTC-P",
        "event_at": instant_ms(T0 + 300),
        "rule": "rule-0",
        "kind": "price_band",
        "state": "halted",
        "is_halted": True,
        "venue": "deribit",
        "instrument": "BTC-P",
        "underlying": None,
        "passes_exits": False,
        "observed_at": instant_ms(T0 + 210),
        "figure": 105.5,
        "reference": 100.0,
        "lower_limit": 95.0,
        "upper_limit": 105.0,
        "planned_end_at": instant_ms(T0 + 60_300),
        "reason": "105.5 is beyond the band of the mark, from 95 up to 105",
    }
    assert feed.take(trade(110.0, T0 + 400)) == []
    assert feed.tell(T0 + 60_299) == []
    (end,) = feed.tell(T0 + 60_300)
    told = {
        name: row[name] for name in ("break_id", "subject", "rule", "kind", "venue", "instrument", "underlying", "passes_exits")
    }
    figures = dict.fromkeys(breakers.FIGURES)
    ended = {"event_at": instant_ms(T0 + 60_300), "state": "resumed", "is_halted": False, "reason": "the halt is over"}
    assert end == {**told, **figures, **ended}
    assert states(feed.take(trade(106.0, T0 + 60_400))) == ["halted"]


def test_an_end_does_not_depend_on_what_else_comes_and_the_next_trade_is_judged(rules: Any) -> None:
    rules(BAND)
    feed = Feed()
    feed.take(mark(100.0), trade(106.0, T0 + 1))
    end, again = feed.take(trade(106.0, T0 + 300_000), trade(100.0, T0 + 300_001))
    assert (end["state"], end["event_at"]) == ("resumed", instant_ms(T0 + 60_100))
    assert (again["state"], again["event_at"]) == ("halted", instant_ms(T0 + 300_100))


def test_a_passive_side_and_an_execution_that_is_no_trade_of_the_market_break_no_band(rules: Any) -> None:
    rules(BAND)
    feed = Feed()
    feed.take(mark(100.0), trade(100.0))
    assert feed.take(trade(106.0, T0 + 100, "sell"), trade(94.0, T0 + 101, "buy")) == []
    assert feed.take(trade(106.0, T0 + 200, off_market="adl"), trade(-1.0, T0 + 201)) == []


def test_a_dynamic_breaker_is_about_the_extremes_of_its_window_and_begins_anew(rules: Any) -> None:
    rules(DYNAMIC | {"fixings": {"settlement": SETTLED_S}})
    feed = Feed()
    feed.take(trade(65.37))  # the first price stands for the settlement: the variant is 6.53
    feed.take(trade(66.1, T0 + 1000), trade(64.8, T0 + 1001))
    assert feed.take(trade(71.33, T0 + 2000)) == []
    (row,) = feed.take(trade(71.34, T0 + 2100))
    assert (row["lower_limit"], row["upper_limit"], row["reference"]) == (64.8, 71.33, 65.37)
    assert row["planned_end_at"] == instant_ms(until(T0 + 2100) + 120_000)
    assert states(feed.tell(until(T0 + 2100) + 120_000)) == ["resumed"]
    assert feed.take(trade(90.0, T0 + 130_000)) == []  # the window is empty
    assert states(feed.take(trade(96.6, T0 + 130_100))) == ["halted"]


def test_prices_leave_a_rolling_window(rules: Any) -> None:
    rules(DYNAMIC | {"fixings": {"settlement": SETTLED_S}, "window_s": 60})
    feed = Feed()
    for second in range(0, 200, 20):
        feed.take(trade(100.0 + second * 0.1, T0 + 1000 * second))
    assert feed.rows == []


def test_a_dynamic_breaker_halts_for_seconds_just_before_its_settlement(rules: Any) -> None:
    rules(DYNAMIC | {"fixings": {"settlement": SETTLED_S}})
    late_ms = (T0 // DAY + 1) * DAY + 1000 * SETTLED_S - 4 * 60_000
    feed = Feed()
    feed.take(trade(100.0, late_ms))
    (row,) = feed.take(trade(120.0, late_ms + 100))
    assert row["planned_end_at"] == instant_ms(until(late_ms + 100) + 5000)


def test_a_settlement_is_the_last_price_before_its_time_of_day(rules: Any) -> None:
    rules(DYNAMIC | {"fixings": {"settlement": SETTLED_S}})
    settled_ms = (T0 // DAY + 1) * DAY + 1000 * SETTLED_S
    feed = Feed()
    feed.take(trade(50.0, settled_ms - 4_000_000))
    feed.take(trade(54.0, settled_ms - 1))
    feed.take(trade(54.5, settled_ms))
    (row,) = feed.take(trade(60.0, settled_ms + 1000))
    assert (row["reference"], row["upper_limit"]) == (54.0, 59.4)


def test_a_quote_at_its_band_is_a_limit_state_and_a_pause_when_it_lasts(rules: Any) -> None:
    rules(LULD)
    feed = Feed()
    feed.take(trade(100.0))
    (limit,) = feed.take(top(94.0, 95.0, T0 + 1000))
    assert (limit["state"], limit["is_halted"], limit["lower_limit"], limit["upper_limit"]) == ("limit", False, 95.0, 105.0)
    assert limit["planned_end_at"] == instant_ms(until(T0 + 1000) + 15_000)
    assert feed.tell(until(T0 + 1000) + 14_999) == []
    (pause,) = feed.tell(until(T0 + 1000) + 15_000)
    assert (pause["state"], pause["break_id"]) == ("halted", limit["break_id"])
    assert pause["planned_end_at"] == instant_ms(until(T0 + 1000) + 315_000)
    (end,) = feed.tell(until(T0 + 1000) + 315_000)
    assert (end["state"], end["break_id"]) == ("resumed", limit["break_id"])
    # The first trade after the pause is the new reference.
    assert feed.take(trade(90.0, T0 + 320_000), top(89.0, 91.0, T0 + 320_001)) == []


def test_a_limit_state_that_does_not_last_is_over_and_told_so(rules: Any) -> None:
    rules(LULD)
    feed = Feed()
    feed.take(trade(100.0))
    feed.take(top(105.0, 106.0, T0 + 1000))
    feed.take(top(104.9, 106.0, T0 + 2000))
    feed.tell(T0 + 60_000)
    assert states(feed.rows) == ["limit", "resumed"]
    assert not any(row["is_halted"] for row in feed.rows)
    assert len({row["break_id"] for row in feed.rows}) == 1


def test_the_reference_follows_the_mean_by_a_percent_and_not_more_often_than_each_half_minute(rules: Any) -> None:
    rules(LULD)
    feed = Feed()
    feed.take(trade(100.0))
    feed.take(trade(104.0, T0 + 10_000))
    feed.take(trade(104.0, T0 + 29_000))
    assert states(feed.take(trade(105.5, T0 + 29_500))) == ["limit"]  # still by 100
    feed.take(trade(104.0, T0 + 30_000))  # the mean of those before is 103.375, rounded bands 98.21 and 108.54
    assert feed.take(trade(108.5, T0 + 30_100)) == []
    assert states(feed.rows) == ["limit", "resumed"]


def test_a_wide_spread_breaks_once_it_lasts_and_ends_when_it_has_been_calm(rules: Any) -> None:
    rules(SPREAD)
    feed = Feed()
    assert feed.take(top(99.0, 101.0)) == []
    assert feed.take(top(99.9, 100.1, T0 + 1000)) == []  # too short
    start_ms = until(T0 + 2000)
    feed.take(top(99.0, None, T0 + 2000))
    (row,) = feed.tell(start_ms + 2000)
    assert (row["state"], row["planned_end_at"], row["reason"]) == ("halted", None, "the book has no ask")
    calm_ms = until(T0 + 10_000)
    assert feed.take(top(99.9, 100.1, T0 + 10_000)) == []
    assert feed.take(top(99.9, 100.1, T0 + 11_000, is_stale=True)) == []  # nobody knows
    assert feed.tell(calm_ms + 5000) == []
    calm_ms = until(T0 + 20_000)
    feed.take(top(99.9, 100.1, T0 + 20_000))
    assert feed.tell(calm_ms + 2999) == []
    assert states(feed.tell(calm_ms + 3000)) == ["resumed"]


def test_a_book_that_collapses_breaks_and_ends_when_it_is_full_again(rules: Any) -> None:
    rules(DEPTH)
    feed = Feed()
    for second in range(30):
        assert feed.take(depth(10.0, T0 + 1000 * second)) == []
    assert feed.take(depth(0.5, T0 + 30_000, is_stale=True)) == []
    (row,) = feed.take(depth(0.5, T0 + 31_000))
    assert (row["state"], row["figure"]) == ("halted", 0.5)
    assert feed.take(depth(0.5, T0 + 40_000)) == []
    calm_ms = until(T0 + 41_000)
    assert feed.take(depth(9.0, T0 + 41_000)) == []
    assert states(feed.tell(calm_ms + 1000)) == ["resumed"]


def test_an_index_that_falls_stops_its_underlying_once_for_each_level_between_settlements(rules: Any) -> None:
    rules(FALL | {"fixings": {"settlement": SETTLED_S}})
    feed = Feed()
    feed.take(index(100.0))
    (row,) = feed.take(index(93.0, T0 + 1000))
    assert (row["venue"], row["instrument"], row["underlying"], row["subject"]) == (None, None, "BTC", "oracle:BTC:")
    feed.tell(T0 + 1_000_000)
    assert feed.take(index(92.0, T0 + 1_000_100)) == []  # level 1 again
    (row,) = feed.take(index(79.0, T0 + 1_000_200))
    settled_ms = next(ms for ms in (T0 // DAY * DAY + 1000 * SETTLED_S, (T0 // DAY + 1) * DAY + 1000 * SETTLED_S) if ms > T0)
    assert (row["planned_end_at"], row["lower_limit"]) == (instant_ms(settled_ms), 80.0)
    assert states(feed.tell(settled_ms)) == ["resumed"]
    feed.take(index(100.0, settled_ms + 1))  # by the last price before the settlement, 79
    assert states(feed.take(index(73.0, settled_ms + 2))) == ["halted"]


def test_a_jump_by_the_factor_is_a_break_and_volatility_one_of_the_window(rules: Any) -> None:
    common = {"watches": "index_prices", "stops": "underlying", "halt_s": 60}
    rules(common | {"kind": "deviation", "factor": 2}, common | {"kind": "volatility", "most": 5, "window_s": 60})
    feed = Feed()
    feed.take(index(100.0))
    assert feed.take(index(150.0, T0 + 100)) == []
    assert [row["kind"] for row in feed.take(index(75.0, T0 + 200))] == ["deviation"]
    for second in range(1, 10):
        feed.take(index(100.0 if second % 2 else 101.0, T0 + 1000 * second))
    (row,) = [row for row in feed.rows if row["kind"] == "volatility"]
    assert row["figure"] > 5 == row["upper_limit"]


def source_fault(source: str, kind: str, ms: int, is_over: bool = False, offset: int = 0) -> Message:
    row = {"underlying": "BTC", "source": source, "kind": kind, "event_at": instant_ms(ms), "is_over": is_over}
    figures = {"measured": 1.0, "allowed": 0.5, "unit": "ms", "price_usd": None, "consensus_usd": None}
    return Message("oracle_faults", 0, offset, row | figures)


def test_so_many_sources_of_an_oracle_with_faults_at_once_stop_their_underlying_until_they_are_over(rules: Any) -> None:
    rule = {"kind": "oracle_fault", "stops": "underlying", "faults": ["frozen", "withheld"], "least": 2, "passes_exits": True}
    rules(rule | {"hold_s": 1, "calm_s": 2})
    feed = Feed()
    assert feed.take(source_fault("a", "frozen", T0), source_fault("a", "withheld", T0), source_fault("c", "delayed", T0)) == []
    feed.take(source_fault("b", "withheld", T0 + 1000))
    start_ms = until(T0 + 1000) + 1000
    (row,) = feed.tell(start_ms)
    assert (row["subject"], row["underlying"], row["venue"], row["figure"]) == ("BTC", "BTC", None, 2.0)
    assert (row["event_at"], row["planned_end_at"], row["passes_exits"]) == (instant_ms(start_ms), None, True)
    assert row["reason"] == "sources of the oracle with faults: a/frozen, a/withheld, b/withheld"
    feed.take(source_fault("b", "withheld", T0 + 5000, is_over=True))
    (end,) = feed.tell(T0 + 60_000)
    assert (end["state"], end["event_at"]) == ("resumed", instant_ms(until(T0 + 5000) + 2000))


@pytest.mark.parametrize(
    ("rule", "messages", "figure"),
    [
        (
            {"kind": "fill_band", "index": 0.1, "mean": 0.5},
            [market.ticker("BTC-P", T0, index_price_usd=100.0), trade(109.9, T0 + 1), trade(110.0, T0 + 2)],
            110.0,
        ),
        (
            {"kind": "maker_band", "fraction": 0.05},
            [market.ticker("BTC-P", T0, index_price_usd=100.0), trade(105.0, T0 + 1, "buy"), trade(105.0, T0 + 2, "sell")],
            105.0,
        ),
        (
            {"kind": "order_price_protection", "steps": [{"up_to": 1.0, "fraction": 1.0}, {"fraction": 0.5}]},
            [top(0.7, 0.8), trade(1.6, T0 + 1), trade(2.0, T0 + 2)],
            2.0,
        ),
        ({"kind": "price_range", "bid": [0.5, 2.0], "ask": [0.5, 1.5]}, [trade(10.0), trade(16.0, T0 + 1, "sell")], 16.0),
        (
            {"kind": "price_variation", "limit": 8, "where": "advantage only", "ticks": [{"from": 0, "tick": 0.01}]},
            [trade(9.0), trade(8.93, T0 + 1), trade(8.85, T0 + 2)],
            8.85,
        ),
        (
            {
                "kind": "session_limit",
                "fixings": {"previous": SETTLED_S},
                "up": [{"reference": "previous", "fraction": 0.07}],
                "down": [{"reference": "previous", "fraction": 0.07}],
            },
            [trade(100.0), trade(107.0, T0 + 1), trade(92.9, T0 + 2)],
            92.9,
        ),
    ],
)
def test_every_other_kind_of_rule_is_applied_to_trades(rules: Any, rule: Any, messages: list[Message], figure: float) -> None:
    rules(rule | {"halt_s": 10})
    rows = Feed().take(*messages)
    assert [(row["kind"], row["figure"]) for row in rows] == [(rule["kind"], figure)]


def test_a_rule_about_an_underlying_waits_for_the_terms_and_stops_all_of_it(rules: Any) -> None:
    rules(BAND | {"stops": "underlying", "kinds": ["perpetual"], "underlyings": ["BTC"]})
    feed = Feed()
    assert feed.take(mark(100.0), trade(110.0, T0 + 1)) == []
    terms = market.instrument("BTC-P", kind="perpetual", expiry_at=None, option_type=None, strike_usd=None)
    (row,) = feed.take(terms, trade(110.0, T0 + 200))
    assert (row["venue"], row["instrument"], row["underlying"]) == (None, None, "BTC")
    # Other terms, of which it is no rule: what was stopped goes on.
    other = market.instrument("BTC-P", T0 + 300, kind="spot", expiry_at=None, option_type=None, strike_usd=None)
    (end,) = feed.take(other)
    assert (end["state"], end["underlying"], end["break_id"]) == ("resumed", "BTC", row["break_id"])


def test_a_late_message_is_learned_and_breaks_nothing_by_itself(rules: Any) -> None:
    rules(DYNAMIC | {"fixings": {"settlement": SETTLED_S}})
    feed = Feed()
    feed.take(trade(100.0, T0))
    assert breakers.step(feed.state, [trade(115.0, T0 - 50)], None) == []
    assert feed.take(trade(104.0, T0 + 200)) == feed.rows[:1]
    assert [row["lower_limit"] for row in feed.rows] == [105.0]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (trade(float("nan")), "price"),
        (trade(1.0, event_at="soon"), "event_at"),
        (trade(1.0, T0 + 10 * DAY), "event_at"),
        (index(-1.0), "price_usd"),
        (top(float("inf"), 1.0), "bid_price"),
    ],
)
def test_a_bad_message_is_a_dead_letter_and_its_neighbours_are_judged(rules: Any, message: Message, field: str) -> None:
    rules(BAND)
    outputs = breakers.step(breakers.KERNEL.new(), [mark(100.0), message, trade(120.0, offset=9)], T0 + 100)
    assert [output.row["field"] for output in outputs if output.table == "dead_letters"] == [field]
    assert sum(output.table == "circuit_breaks" for output in outputs) == 1


WILD = st.sampled_from([0.0, -1.0, 1e-320, 1e-9, 1.0, 99.0, 100.0, 101.0, 1e14, 1e300, -1e300])


@st.composite
def message(draw: Any) -> Message:
    ms = T0 + draw(st.integers(0, 400_000))
    kind = draw(st.sampled_from(["trade", "top", "depth", "ticker", "index"]))
    if kind == "trade":
        return trade(draw(WILD), ms, draw(st.sampled_from(["buy", "sell", "none"])), draw(st.integers(0, 9)))
    if kind == "top":
        return top(draw(st.none() | WILD), draw(st.none() | WILD), ms, draw(st.booleans()))
    if kind == "depth":
        return depth(draw(WILD), ms, draw(st.booleans()))
    if kind == "ticker":
        return market.ticker("BTC-P", ms, mark_price=draw(WILD), index_price_usd=draw(WILD))
    return index(draw(WILD.filter(lambda price: price > 0)), ms)


PUBLISHED = breaker_rules.rule_set("published")


def played(messages: list[Message], chance: random.Random | None) -> list[dict[str, Any]]:
    """The rows of messages by micro-batch, each in any order; with a restart between any two where `chance` says so."""
    stored = Stored(breakers, breakers.KERNEL.new())
    rows: list[Output] = []
    batches: dict[int, list[Message]] = {}
    for item in messages:
        batches.setdefault(until(market_ms(item)), []).append(item)
    for end_ms in sorted({*batches, *range(until(T0), T0 + 1_000_000, 20_000)}):
        batch = batches.get(end_ms, [])
        if chance is not None:
            chance.shuffle(batch)
        if batch:
            rows += breakers.step(stored.state, batch, end_ms)
        rows += breakers.decide(stored.state, end_ms)
        stored.store()
        if chance is not None and chance.random() < 0.3:
            stored.restart(chance)
    return [dict(output.row) for output in rows if output.table == "circuit_breaks"]


@settings(max_examples=30, deadline=None)
@given(st.lists(message(), max_size=25), st.integers(0, 10))
def test_rows_depend_neither_on_the_order_within_a_batch_nor_on_restarts_and_nothing_raises(
    messages: list[Message], seed: int
) -> None:
    unique = [item._replace(offset=number) for number, item in enumerate(messages)]
    with pytest.MonkeyPatch.context() as patch:
        rules = (*PUBLISHED, *watched.RULES)
        names = {rule.name: rule for rule in rules}
        patch.setattr(watched, "RULES", tuple(names.values()))
        patch.setattr(watched, "RULE", names)
        patch.setattr(breakers, "RULE", names)
        rows = played(list(unique), None)
        assert played(list(unique), random.Random(seed)) == rows
    assert all(fault("circuit_breaks", row) is None for row in rows)
    halted: dict[str, bool] = {}
    for row in rows:
        assert row["state"] != "resumed" or row["break_id"] in halted
        halted[row["break_id"]] = row["is_halted"]
    ended = [row for row in rows if row["state"] == "halted" and (row["planned_end_at"] or "9") < instant_ms(T0 + 980_000)]
    assert not any(halted[row["break_id"]] for row in ended)


def test_a_break_of_a_rule_that_is_gone_ends(rules: Any) -> None:
    rules(SPREAD | {"hold_s": 0})
    stored = Stored(breakers, breakers.KERNEL.new())
    feed = Feed(stored.state)
    feed.take(top(90.0, 100.0))
    assert states(feed.rows) == ["halted"]
    stored.store()
    rules(BAND | {"name": "another"})
    stored.restart()
    feed.state = stored.state
    assert states(feed.tell(T0 + 1000)) == ["resumed"]
    assert feed.tell(T0 + 2000) == []


def test_what_has_been_silent_for_two_days_is_forgotten_unless_it_is_broken(rules: Any) -> None:
    rules(SPREAD | {"hold_s": 0})
    feed = Feed()
    feed.take(top(90.0, 100.0), trade(1.0, instrument="ETH-P"))
    breakers.step(feed.state, [], T0 + 3 * DAY)
    assert set(feed.state.markets) == {"deribit:BTC-P"}
    assert feed.state.encode("market/deribit:ETH-P") is None
    assert breakers.gauges(feed.state) == {"active_breaks": 1.0, "breaks_in_force": 1.0}


def test_a_quiet_market_breaks_none_of_the_rules_of_the_suite() -> None:
    feed = Feed()
    chance = random.Random(5)
    terms = market.instrument("BTC-P", kind="perpetual", expiry_at=None, option_type=None, strike_usd=None)
    feed.take(terms)
    price = 60_000.0
    for second in range(0, 3600, 10):
        price *= 1 + chance.gauss(0, 0.0002)
        ms = T0 + 1000 * second
        size = chance.uniform(5, 15)
        feed.take(
            mark(price, ms),
            index(price, ms),
            top(price - 1, price + 1, ms),
            depth(size, ms),
            trade(price * (1 + chance.gauss(0, 0.0003)), ms + 1, chance.choice(["buy", "sell"])),
        )
    assert feed.rows == []

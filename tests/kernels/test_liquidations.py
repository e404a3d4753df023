"""The liquidation engine: a crash against a plain reference that shares no code with it, and what must hold it back."""

import random
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import liquidations, positions
from kernels.liquidations import cases, decisions
from kernels.liquidations.account import Account
from kernels.liquidations.rules import RULES
from kernels.orders.ids import client_order_id
from schemas.rows import fault, instant_ms, instant_us
from tests.kernels.obeying import READ

T0 = 1_700_000_000_000
COINS = {"AAA": 100.0, "BBB": 2_000.0}
IM, MM = 0.10, 0.05  # of an underlying without a schedule of its own
SECOND = 1000


def at(ms: int) -> dict[str, str]:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000 + 7)}


def instrument(coin: str) -> Message:
    row = {
        "venue": "v",
        "instrument": f"{coin}-PERP",
        **at(T0),
        "kind": "perpetual",
        "underlying": coin,
        "quote_currency": "USDC",
        "settlement_currency": "USDC",
        "is_inverse": False,
        "contract_size": 1.0,
        "amount_per_contract": 1.0,
    }
    return Message("instruments", 0, 0, row)


def ticker(coin: str, mark: float, ms: int) -> Message:
    return Message("tickers", 0, ms - T0, {"venue": "v", "instrument": f"{coin}-PERP", **at(ms), "mark_price": mark})


def index(coin: str, price: float, ms: int, width: float | None = None) -> Message:
    row = {"venue": "v", "underlying": coin, **at(ms), "price_usd": price, "confidence_usd": width}
    return Message("index_prices", 0, ms - T0, row)


def depth(coin: str, bids: list[list[float]], asks: list[list[float]], ms: int, is_stale: bool = False) -> Message:
    row = {"venue": "v", "instrument": f"{coin}-PERP", "event_at": instant_ms(ms), "sequence": 1}
    return Message("book_depth", 0, ms - T0, row | {"bids": bids, "asks": asks, "is_stale": is_stale})


def halt(of: str | None, is_halted: bool, ms: int, reason: str | None = None, venue: str = "v") -> Message:
    row = {"venue": venue, "instrument": of, **at(ms), "is_halted": is_halted, "reason": reason}
    return Message("trading_halts", 0, ms - T0, row)


def position(account: str, coin: str, size: float, average: float, ms: int = T0) -> Message:
    row = {
        "account": account,
        "venue": "v",
        "instrument": f"{coin}-PERP",
        **at(ms),
        "size": str(size),
        "average_price": str(average) if size else None,
        "realised_pnl": "0",
        "settlement_currency": "USDC",
        "fill_id": "f",
    }
    return Message("positions", 0, ms - T0, row)


def balance(account: str, amount: float, ms: int = T0) -> Message:
    row = {"account": account, "currency": "USDC", **at(ms), "amount": str(amount), "cause_id": "t"}
    return Message("balances", 0, ms - T0, row)


def step(state: liquidations.State, *messages: Message, until_ms: int) -> list[Output]:
    """The decisions, and dead letters."""
    outputs = liquidations.step(state, [READ, *messages], until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return [output for output in outputs if output.table.startswith(("liquidation_", "dead_", "loss_"))]


def rows(outputs: list[Output], table: str = "liquidation_orders") -> list[Any]:
    return [output.row for output in outputs if output.table == table]


def kinds(outputs: list[Output]) -> list[str]:
    return [row["kind"] for row in rows(outputs, "liquidation_events")]


def begun(*messages: Message) -> liquidations.State:
    """One market at 100, seen for a minute, and what else is given."""
    state = liquidations.new()
    step(state, instrument("AAA"), index("AAA", 100.0, T0), until_ms=T0 + 10)
    step(state, ticker("AAA", 100.0, T0 + 10), *messages, until_ms=T0 + 50)
    return state


def long(account: str = "a", size: float = 100.0, cash: float = 1_500.0) -> tuple[Message, Message]:
    return position(account, "AAA", size, 100.0), balance(account, cash)


def fallen(state: liquidations.State, mark: float = 89.0, ms: int = T0 + SECOND, *more: Message) -> list[Output]:
    """At 89 a long of 100 with 1,500 USDC has 400 of equity and needs 445."""
    return step(state, ticker("AAA", mark, ms), index("AAA", mark, ms), *more, until_ms=ms + 50)


def test_rounds_go_on_after_each_pause_until_the_rest_is_borne() -> None:
    state = begun(*long())
    outputs = fallen(state)
    assert kinds(outputs) == ["locked", "round"]
    (order,) = rows(outputs)
    assert (order["side"], order["size"], order["round"], order["visible_size"]) == ("sell", 25.0, 1, None)
    # ABR = 1 - 400/445; the spread is a tenth of it, of 445 USD over 100 contracts.
    assert order["limit_price"] == pytest.approx(89 - (1 - 400 / 445) * 0.1 * 4.45)
    assert fallen(state, 89.0, T0 + 1500) == []
    (second,) = rows(fallen(state, 88.9, T0 + 2000))
    assert (second["size"], second["round"]) == (25.0, 2)
    assert second["order_id"] == f"a/{instant_ms(T0 + 2049)}/1"
    filled = position("a", "AAA", 60.0, 100.0, T0 + 2100), balance("a", 1_060.0, T0 + 2100)
    outputs = step(state, *filled, until_ms=T0 + 2150)
    assert kinds(outputs) == ["recovered"]
    (event,) = rows(outputs, "liquidation_events")
    assert event["state"] == "margin_call" and "cancel what is open of 10 v:AAA-PERP" in event["reason"]
    assert kinds(fallen(state, 100.0, T0 + 3000)) == ["recovered"]


def test_who_recovers_and_falls_again_waits_for_the_rest_of_the_pause() -> None:
    state = begun(*long())
    assert kinds(fallen(state)) == ["locked", "round"]
    for n in range(3):
        assert kinds(fallen(state, 100.0, T0 + 1200 + 200 * n)) == ["recovered"]
        assert kinds(fallen(state, 89.0, T0 + 1300 + 200 * n)) == ["locked"]
    assert kinds(fallen(state, 89.0, T0 + 1999)) == []
    (order,) = rows(fallen(state, 89.0, T0 + 2000))
    assert (order["size"], order["round"]) == (25.0, 1)


def test_a_case_is_closed_once_no_pause_can_matter_to_the_account_any_more() -> None:
    state = begun(*long())
    fallen(state)
    assert kinds(fallen(state, 100.0, T0 + 1200)) == ["recovered"]
    fallen(state, 100.0, T0 + SECOND + 29_999)
    assert set(state.decisions.cases) == {"a"}
    state.touched.clear()
    assert fallen(state, 100.0, T0 + SECOND + 30_000) == []
    assert state.decisions.cases == {} and state.encode("case/a") is None and "case/a" in state.touched


def test_what_is_ordered_never_exceeds_the_position() -> None:
    state = begun(*long())
    ordered = sum(row["size"] for n in range(20) for row in rows(fallen(state, 89.0, T0 + SECOND * (n + 1))))
    assert ordered == pytest.approx(100.0)
    flipped = step(
        state, position("a", "AAA", -5.0, 100.0, T0 + 30_000), balance("a", -600.0, T0 + 30_000), until_ms=T0 + 30_050
    )
    assert [row["side"] for row in rows(flipped)] in ([], ["buy"])


def report(order: dict[str, Any], status: str, traded: float, ms: int, account: str = "a") -> Message:
    """What the venue says of an order once it is over."""
    row = {
        **{column: order[column] for column in ("venue", "instrument", "side")},
        **at(ms),
        "account": account,
        "exec_id": f"v:AAA-PERP:{ms}",
        "exec_type": status,
        "order_status": status,
        "client_order_id": client_order_id("liquidation", order["order_id"]),
        "order_type": "limit",
        "quantity": str(order["size"]),
        "cum_quantity": str(traded),
        "leaves_quantity": "0",
    }
    return Message("execution_reports", 0, ms - T0, row)


@pytest.mark.parametrize("is_reported_first", [True, False])
def test_what_is_left_of_an_order_that_is_over_is_ordered_again_and_what_was_traded_is_not(is_reported_first: bool) -> None:
    state = begun(*long())
    (first,) = rows(fallen(state))
    assert first["size"] == 25.0 and state.decisions.cases["a"].open == {"v:AAA-PERP": 25.0}
    ended = [report(first, "cancelled", 10.0, T0 + 1200)]
    smaller = [position("a", "AAA", 90.0, 100.0, T0 + 1300), balance("a", 1_390.0, T0 + 1300)]
    left = []
    for number, news in enumerate([ended, smaller] if is_reported_first else [smaller, ended]):
        fallen(state, 89.0, T0 + 1400 + 100 * number, *news)
        left.append(dict(state.decisions.cases["a"].open))
    assert left == [{"v:AAA-PERP": 10.0 if is_reported_first else 15.0}, {}]
    assert rows(fallen(state, 89.0, T0 + 1700, *ended)) == []  # the same report once more
    ordered = [row["size"] for second in range(2, 12) for row in rows(fallen(state, 89.0, T0 + second * SECOND))]
    assert sum(ordered) == pytest.approx(90.0)


@pytest.mark.parametrize("status", ["rejected", "expired", "cancelled"])
def test_a_bankrupt_account_whose_order_found_no_buyer_is_ordered_whole_again_after_the_pause(status: str) -> None:
    state = begun(*long())
    fallen(state, 80.0)
    (order,) = rows(step(state, until_ms=T0 + 1300))
    assert order["size"] == 100.0
    assert rows(fallen(state, 80.0, T0 + 1500, report(order, status, 0.0, T0 + 1400))) == []
    (again,) = rows(fallen(state, 80.0, T0 + 2300))
    assert again["size"] == 100.0 and again["order_id"] != order["order_id"]
    # Without a report it counts as open, and is not ordered twice.
    assert rows(fallen(state, 80.0, T0 + 5000)) == []


def test_a_report_of_an_order_that_nobody_waits_for_changes_nothing() -> None:
    state = begun(*long())
    (order,) = rows(fallen(state))
    unnamed = report(order, "cancelled", 0.0, T0 + 1230)
    del unnamed.row["client_order_id"]  # a writer may leave out what is NULL
    news = (
        unnamed,
        report(order, "partially_filled", 5.0, T0 + 1200),
        report(order | {"order_id": "of a person"}, "cancelled", 0.0, T0 + 1210),
        report(order, "cancelled", 0.0, T0 + 1220, account="b"),
    )
    assert fallen(state, 89.0, T0 + 1300, *news) == []
    assert state.decisions.cases["a"].open == {"v:AAA-PERP": 25.0}


def test_an_order_is_no_larger_than_what_the_book_shows_within_its_limit() -> None:
    state = begun(*long(), depth("AAA", [[88.97, 3.0], [88.96, 4.0], [80.0, 1e6]], [], T0 + 10))
    (order,) = rows(fallen(state))
    assert (order["size"], order["visible_size"]) == (7.0, 7.0)
    empty = begun(*long(), depth("AAA", [[80.0, 1e6]], [], T0 + 10))
    assert kinds(fallen(empty)) == ["locked", "held"]
    assert kinds(fallen(empty, 89.0, T0 + 1100)) == []
    assert kinds(fallen(empty, 89.0, T0 + 1200, depth("AAA", [[88.97, 3.0]], [], T0 + 1200))) == ["resumed", "round"]


def test_a_hold_for_want_of_depth_ends_when_the_position_has_become_a_large_one_whose_pause_is_longer() -> None:
    state = begun(position("a", "AAA", -1_000.0, 90.0), balance("a", 12_000.0), depth("AAA", [], [[99.0, 5.0]], T0 + 10))
    (order,) = rows(fallen(state, 99.0))
    assert (order["side"], order["size"]) == ("buy", 5.0)
    filled = position("a", "AAA", -995.0, 90.0, T0 + 1500), depth("AAA", [], [[120.0, 1e6]], T0 + 1500)
    assert kinds(fallen(state, 99.0, T0 + 1500, *filled)) == []
    assert kinds(fallen(state, 99.5, T0 + 2000)) == ["held"]
    assert kinds(fallen(state, 99.5, T0 + 2500)) == []
    assert kinds(fallen(state, 101.0, T0 + 3000)) == ["resumed"]


def test_a_large_position_goes_by_a_fifth_and_then_waits() -> None:
    state = begun(*long(size=10_000.0, cash=150_000.0))
    assert [row["size"] for row in rows(fallen(state))] == [2_000.0]
    assert rows(fallen(state, 89.0, T0 + 20_000)) == []
    assert [row["size"] for row in rows(fallen(state, 89.0, T0 + 31_000))] == [2_000.0]


HOLDS = {
    "a spike": ([ticker("AAA", 1.0, T0 + SECOND)], "too volatile: price of v:AAA-PERP"),
    "a spike of the oracle": ([index("AAA", 10_000.0, T0 + SECOND)], "too volatile: index of AAA"),
    "no sense": ([ticker("AAA", 0.0, T0 + SECOND)], "non-positive: price of v:AAA-PERP"),
    "doubt": ([index("AAA", 89.0, T0 + SECOND, 5.0)], "too uncertain: index of AAA"),
    "stale book": ([depth("AAA", [[99.0, 1e6]], [], T0 + SECOND, True)], "stale book: v:AAA-PERP"),
    "withheld price": ([ticker("AAA", 89.0, T0 + 32_000), index("AAA", 89.0, T0 + SECOND)], "stale: index of AAA"),
}


@pytest.mark.parametrize("name", HOLDS)
def test_what_cannot_be_trusted_holds_the_decision_and_says_so_once(name: str) -> None:
    messages, held = HOLDS[name]
    state = begun(*long())
    given = {message.table: message for message in (ticker("AAA", 89.0, T0 + SECOND), index("AAA", 89.0, T0 + SECOND))}
    given |= {message.table: message for message in messages}
    until_ms = T0 + (32_050 if name == "withheld price" else 1050)
    outputs = step(state, *given.values(), until_ms=until_ms)
    if name == "no sense":  # without a mark there is nothing to liquidate by
        assert outputs == []
        return
    assert rows(outputs) == []
    assert kinds(outputs)[-1] == "held"
    assert state.decisions.cases["a"].held == held
    assert step(state, until_ms=until_ms + 50) == []
    ms = until_ms + 100
    again = fallen(state, 89.0, ms, depth("AAA", [[88.97, 1e6]], [], ms))
    assert kinds(again)[0] == "resumed" and kinds(again)[-1] == "round"


def reasons(outputs: list[Output]) -> list[str]:
    return [row["reason"] for row in rows(outputs, "liquidation_events")]


@pytest.mark.parametrize(("of", "name"), [("AAA-PERP", "v:AAA-PERP"), (None, "v")])
def test_a_halt_of_what_is_held_or_of_its_venue_holds_every_order_of_the_account(of: str | None, name: str) -> None:
    others = position("a", "BBB", 0.01, 2_000.0), position("b", "BBB", 1.0, 2_000.0), balance("b", 250.0)
    state = begun(instrument("BBB"), ticker("BBB", 2_000.0, T0 + 10), index("BBB", 2_000.0, T0 + 10), *long(), *others)
    outputs = fallen(state, 89.0, T0 + SECOND, ticker("BBB", 1_800.0, T0 + SECOND), halt(of, True, T0 + SECOND, "auction"))
    told = [(row["kind"], row["reason"]) for row in rows(outputs, "liquidation_events") if row["account"] == "a"]
    assert told == [("held", f"held: trading of {name} is halted since {instant_ms(T0 + SECOND)}: auction")]
    # What the other account holds is halted only where the whole venue is.
    assert {row["account"] for row in rows(outputs)} == ({"b"} if of else set())
    assert "a" not in {row["account"] for row in rows(fallen(state, 89.0, T0 + 1500), "liquidation_events")}
    resumed = fallen(state, 89.0, T0 + 3000, halt(of, False, T0 + 3000))
    mine = [row for row in rows(resumed, "liquidation_events") if row["account"] == "a"]
    assert [row["kind"] for row in mine] == ["resumed", "locked", "round"]
    assert mine[0]["reason"] == f"no longer held (halted: {name})"


def test_a_halt_goes_before_every_check_of_prices() -> None:
    halted = halt("AAA-PERP", True, T0 + 900)
    spike = begun(*long(), halted)
    assert kinds(fallen(spike, 1.0)) == ["held"] and spike.decisions.cases["a"].held == "halted: v:AAA-PERP"
    # An open case whose price then goes missing is held by the halt, and by the price once that is over.
    state = begun(*long())
    assert kinds(fallen(state)) == ["locked", "round"]
    blind = step(state, halt(None, True, T0 + 2000), ticker("AAA", 0.0, T0 + 2000), until_ms=T0 + 2050)
    assert kinds(blind) == ["held"] and state.decisions.cases["a"].held == "halted: v"
    assert kinds(step(state, halt(None, False, T0 + 3000), until_ms=T0 + 3050)) == ["held"]
    assert state.decisions.cases["a"].held == "no valuation"


def test_the_halts_of_a_venue_and_of_an_instrument_end_by_themselves_and_the_newest_row_stands() -> None:
    state = begun(*long(), halt("AAA-PERP", True, T0 + 20), halt(None, True, T0 + 20))
    assert reasons(fallen(state)) == [f"held: trading of v is halted since {instant_ms(T0 + 20)}"]
    both = halt(None, False, T0 + 1500), halt("AAA-PERP", True, T0 + 10)
    assert reasons(step(state, *both, until_ms=T0 + 1550)) == [
        f"held: trading of v:AAA-PERP is halted since {instant_ms(T0 + 20)}"
    ]
    assert kinds(fallen(state, 89.0, T0 + 2000, halt("AAA-PERP", False, T0 + 2000))) == ["resumed", "locked", "round"]
    older = fallen(state, 89.0, T0 + 3000, halt("AAA-PERP", True, T0 + 1900), halt("AAA-PERP", True, T0 + 1900, venue="w"))
    assert kinds(older) == ["round"]


def test_an_account_that_recovers_during_a_halt_is_let_go() -> None:
    state = begun(*long(), halt("AAA-PERP", True, T0 + 20))
    assert kinds(fallen(state)) == ["held"]
    (event,) = rows(fallen(state, 100.0, T0 + 2000), "liquidation_events")
    assert event["kind"] == "resumed" and "(halted: v:AAA-PERP), and no longer to be liquidated" in event["reason"]


def test_halts_are_put_back_and_freed_a_day_after_they_can_matter() -> None:
    state = begun(*long(), halt("AAA-PERP", True, T0 + 20, "auction"), halt("GONE", True, T0 + 20), halt(None, False, T0 + 20))
    fresh = liquidations.new()
    for name in state.touched:
        if data := state.encode(name):
            fresh.decode(name, data)
    assert fallen(fresh) == fallen(state) != []
    step(state, until_ms=T0 + 20 + 86_400_000 - 1)
    assert state.decisions.halts.rows.keys() == {"v:AAA-PERP", "v:GONE", "v"}
    state.touched.clear()
    step(state, until_ms=T0 + 20 + 86_400_000)
    assert state.decisions.halts.rows.keys() == {"v:AAA-PERP"}
    assert {"halt/v:GONE", "halt/v"} <= state.touched and state.encode("halt/v") is None


def test_a_spike_of_one_tick_does_not_shut_out_the_price_after_it() -> None:
    state = begun(position("s", "AAA", -100.0, 100.0), balance("s", 1_500.0))
    assert kinds(step(state, ticker("AAA", 10_000.0, T0 + SECOND), until_ms=T0 + 1050)) == ["held"]
    assert kinds(step(state, ticker("AAA", 101.0, T0 + 2 * SECOND), until_ms=T0 + 2050)) == ["resumed"]
    assert kinds(
        step(state, ticker("AAA", 112.0, T0 + 3 * SECOND), index("AAA", 112.0, T0 + 3 * SECOND), until_ms=T0 + 3050)
    ) == [
        "locked",
        "round",
    ]


def claims(outputs: list[Output]) -> list[Any]:
    return rows(outputs, "loss_claims")


def amounts(outputs: list[Output]) -> list[float]:
    return [row["missing_usd"] for row in claims(outputs)]


def flat(account: str = "a", ms: int = T0 + 2 * SECOND, coin: str = "AAA") -> Message:
    return position(account, coin, 0.0, 0.0, ms)


def test_whose_equity_is_gone_claims_the_loss_and_sells_once_the_fund_has_answered() -> None:
    state = begun(*long())
    outputs = fallen(state, 80.0)
    assert kinds(outputs) == ["locked", "bankrupt", "claimed"] and rows(outputs) == []
    (claim,) = claims(outputs)
    claimed_ms = T0 + SECOND + 49
    assert (claim["claim_id"], claim["event_at"]) == (f"a/{instant_ms(claimed_ms)}", instant_ms(claimed_ms))
    assert (claim["missing_usd"], claim["currency"], claim["is_settled"]) == (500.0, "USD", False)
    # Closed at 85 it has nothing left and owes nothing.
    assert (claim["instrument"], claim["size"], claim["price"], claim["share_usd"]) == ("AAA-PERP", 100.0, 85.0, 500.0)
    assert step(state, until_ms=claimed_ms + RULES.answer_ms) == []
    later = step(state, until_ms=claimed_ms + RULES.answer_ms + 1)
    assert kinds(later) == ["round"] and [row["size"] for row in rows(later)] == [100.0]
    # A price that falls further is no loss until something is closed at it.
    assert fallen(state, 70.0, T0 + 3 * SECOND) == []


def test_what_others_have_closed_by_then_is_not_sold() -> None:
    state = begun(*long())
    fallen(state, 80.0)
    ms = T0 + SECOND + 49 + RULES.answer_ms
    partly = position("a", "AAA", 30.0, 100.0, ms), balance("a", 450.0, ms)
    outputs = step(state, *partly, until_ms=ms + 1)
    # What they bore is gone: 150 of 500 are missing still.
    assert amounts(outputs) == [150.0] and rows(outputs) == []
    assert [row["size"] for row in rows(step(state, until_ms=ms + RULES.answer_ms + 1))] == [30.0]


def test_a_loss_that_the_last_fill_makes_is_claimed_and_the_account_is_settling_until_it_is_paid() -> None:
    state = begun(*long())
    assert kinds(fallen(state)) == ["locked", "round"]
    ms = T0 + 2 * SECOND
    outputs = fallen(state, 89.0, ms, flat(ms=ms), balance("a", -50.0, ms))
    assert kinds(outputs) == ["bankrupt", "claimed"]
    (claim,) = claims(outputs)
    assert (claim["missing_usd"], claim["currency"], claim["is_settled"], claim["instrument"]) == (50.0, "USDC", True, None)
    assert {row["state"] for row in rows(outputs, "liquidation_events")} == {"settling"}
    assert liquidations.gauges(state)["accounts_settling"] == 1
    for later in range(3, 90):
        assert fallen(state, 89.0, T0 + later * SECOND) == []
    assert kinds(fallen(state, 89.0, T0 + 90 * SECOND, balance("a", 0.0, T0 + 90 * SECOND))) == ["recovered"]
    assert fallen(state, 89.0, T0 + 91 * SECOND) == [] and state.decisions.cases == {}


def test_every_change_of_holdings_is_claimed_whole_and_bears_the_beginning_of_its_case() -> None:
    """Equity of a long of 100 with 1,500: -50 at 84.5, where it is gone, and -500 at 80, where it is closed in two parts."""
    state = begun(*long())
    at_ms = [T0 + n * SECOND for n in range(7)]
    told = claims(fallen(state, 84.5))
    assert fallen(state, 80.0, at_ms[2]) != [] and claims(fallen(state, 80.0, at_ms[2] + 100)) == []
    told += claims(fallen(state, 80.0, at_ms[3], position("a", "AAA", 40.0, 100.0, at_ms[3]), balance("a", 300.0, at_ms[3])))
    told += claims(fallen(state, 80.0, at_ms[4], flat(ms=at_ms[4]), balance("a", -500.0, at_ms[4])))
    told += claims(fallen(state, 80.0, at_ms[5], balance("a", -450.0, at_ms[5])))
    assert [(row["missing_usd"], row["is_settled"]) for row in told] == [
        (50.0, False),
        (500.0, False),
        (500.0, True),
        (450.0, True),
    ]
    assert {row["broke_at"] for row in told} == {told[0]["event_at"]}
    assert kinds(fallen(state, 80.0, at_ms[6], balance("a", 0.0, at_ms[6]))) == ["recovered"]
    (again,) = claims(fallen(state, 80.0, at_ms[6] + 500, balance("a", -7.0, at_ms[6] + 500)))
    assert (again["missing_usd"], again["broke_at"]) == (7.0, again["event_at"])


@pytest.mark.parametrize("model", ["never held anything", "was healthy", "only options that are worth less than its debt"])
def test_a_debt_without_a_liquidation_is_claimed_too(model: str) -> None:
    """Funding, fees or a withdrawal took more than there was."""
    option = instrument("AAA").row | {"instrument": "AAA-C", "kind": "option", "option_type": "call", "strike_usd": 100.0}
    call = Message("instruments", 0, 0, option | {"expiry_at": instant_ms(T0 + 9 * 86_400_000)})
    row = ticker("AAA", 4.0, T0).row | {"instrument": "AAA-C", "forward_usd": 100.0}
    state = begun(balance("a", 5.0), call, Message("tickers", 0, 0, row))
    held = []
    if model.startswith("was"):
        step(state, *long(), until_ms=T0 + 100)
        step(state, flat(ms=T0 + 200), until_ms=T0 + 250)
    if model.startswith("only"):
        of = position("a", "AAA", 10.0, 4.0, T0 + 300)
        held = [of._replace(row=of.row | {"instrument": "AAA-C"})]
    outputs = fallen(state, 100.0, T0 + SECOND, balance("a", -75.0 - (40.0 if held else 0.0), T0 + SECOND), *held)
    assert kinds(outputs) == ["bankrupt", "claimed"]
    assert [(row["missing_usd"], row["is_settled"]) for row in claims(outputs)] == [(75.0, not held)]
    outputs = step(state, until_ms=T0 + SECOND + 50 + RULES.answer_ms)
    assert [(row["instrument"], row["side"], row["size"]) for row in rows(outputs)] == (
        [("AAA-C", "sell", 10.0)] if held else []
    )


def test_less_than_a_cent_below_zero_is_nobody_s_loss() -> None:
    state = begun(balance("a", -0.004))
    assert fallen(state, 100.0) == [] and state.decisions.cases == {}


def test_who_waits_for_a_payment_is_looked_at_again_only_when_something_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    class Watched(Account):
        def advanced(self) -> list[Output]:
            looked_at.append(self.now_ms)
            return super().advanced()

    monkeypatch.setattr(decisions, "Account", Watched)
    state = begun()
    assert amounts(fallen(state, 100.0, T0 + SECOND, balance("a", -50.0, T0 + SECOND))) == [50.0]
    for n in range(2, 50):
        fallen(state, 100.0 + n, T0 + n * SECOND)
    assert amounts(fallen(state, 100.0, T0 + 50 * SECOND, balance("a", -40.0, T0 + 50 * SECOND))) == [40.0]
    assert kinds(fallen(state, 100.0, T0 + 51 * SECOND, balance("a", 10.0, T0 + 51 * SECOND))) == ["recovered"]
    fallen(state, 100.0, T0 + 52 * SECOND)
    assert looked_at == [T0 + n * SECOND + 49 for n in (1, 50, 51)]


def test_a_loss_waits_while_prices_cannot_be_trusted_and_is_claimed_then() -> None:
    state = begun(*long())
    assert amounts(fallen(state, 84.5)) == [50.0]
    ms = T0 + 2 * SECOND
    sold = position("a", "AAA", 50.0, 100.0, ms), balance("a", 500.0, ms), index("AAA", 80.0, ms, 40.0)
    assert kinds(step(state, ticker("AAA", 80.0, ms), *sold, until_ms=ms + 50)) == ["held"]
    outputs = fallen(state, 80.0, ms + SECOND)
    assert kinds(outputs) == ["resumed", "claimed"] and amounts(outputs) == [500.0]


def test_an_account_that_a_thin_book_holds_is_bankrupt_and_claims_its_loss() -> None:
    state = begun(*long(), depth("AAA", [[10.0, 1.0]], [], T0 + 10))
    assert kinds(fallen(state)) == ["locked", "held"]
    outputs = fallen(state, 80.0, T0 + 2 * SECOND)
    assert kinds(outputs) == ["bankrupt", "claimed"] and amounts(outputs) == [500.0]
    assert fallen(state, 80.0, T0 + 3 * SECOND) == []


def inverse(coin: str = "BBB") -> Message:
    """A contract is 10 USD, paid in coins."""
    terms = {"settlement_currency": coin, "quote_currency": "USD", "is_inverse": True, "contract_size": 10.0}
    return instrument(coin)._replace(row=instrument(coin).row | terms)


def test_positions_bear_a_loss_by_their_requirements_at_prices_that_make_it_up_to_the_cent() -> None:
    """A short of a linear contract and a long of an inverse one."""
    start = inverse(), ticker("BBB", 2_000.0, T0 + 10), index("BBB", 2_000.0, T0 + 10)
    held = position("a", "AAA", -100.0, 100.0), position("a", "BBB", 3_000.0, 2_000.0), balance("a", 2_000.0)
    state = begun(*start, *held)
    # -1,000 of the short; of the long 30,000 USD in coins, 15 for the 16.67 that they are now, -1.667 at 1,800.
    outputs = fallen(state, 110.0, T0 + SECOND, ticker("BBB", 1_800.0, T0 + SECOND), index("BBB", 1_800.0, T0 + SECOND))
    missing = 3_000 + 1_000 - 2_000.0
    named = {row["instrument"]: row for row in claims(outputs)}
    assert amounts(outputs) == pytest.approx([missing, missing])
    assert {of: row["size"] for of, row in named.items()} == {"AAA-PERP": -100.0, "BBB-PERP": 3_000.0}
    gained = {
        "AAA-PERP": 100.0 * (110.0 - named["AAA-PERP"]["price"]),
        "BBB-PERP": 30_000.0 * (1 / 1_800.0 - 1 / named["BBB-PERP"]["price"]) * 1_800.0,
    }
    requirements = {"AAA-PERP": MM * 11_000.0, "BBB-PERP": MM * 30_000.0}
    assert gained == pytest.approx({of: missing * each / 2_050.0 for of, each in requirements.items()})
    assert {of: row["share_usd"] for of, row in named.items()} == pytest.approx(gained)


def test_no_position_bears_more_than_it_is_worth() -> None:
    state = begun(position("a", "AAA", -1.0, 100.0), balance("a", 400.0))
    (claim,) = claims(fallen(state, 100.0, T0 + SECOND, balance("a", -400.0, T0 + SECOND)))
    assert (claim["missing_usd"], claim["instrument"], claim["is_settled"]) == (400.0, None, False)


@pytest.mark.parametrize(
    "case",
    [
        b'\x01{"state":"bankrupt","events":4,"round":1,"round_ms":1700000000049,"held":null,"open":{"v:AAA-PERP":100.0},'
        b'"is_paid":true,"sizes":{"v:AAA-PERP":100.0}}',
        b'\x03{"state":"bankrupt","events":4,"round":1,"round_ms":1700000000049,"held":null,"open":{"v:AAA-PERP":100.0},'
        b'"sizes":{"v:AAA-PERP":100.0},"closing":{"v:AAA-PERP":[[3.0,85.0]]},"due":{"a/1":50.0},"paid_usd":50.0,'
        b'"uncovered_usd":0.0,"borne_ms":1700000000049,"seen":null,"has_changed":false}',
    ],
)
def test_cases_of_earlier_versions_go_on_and_claim_what_is_missing_once_something_changes(case: bytes) -> None:
    state = begun(*long())
    state.decode("case/a", case)
    state.decode("fund", b"\x03[999500.0]")
    assert "fund" in state.touched and state.encode("fund") is None
    assert fallen(state, 80.0) == []
    ms = T0 + 2 * SECOND
    (claim,) = claims(fallen(state, 78.0, ms, flat(ms=ms), balance("a", -700.0, ms)))
    assert (claim["missing_usd"], claim["broke_at"]) == (700.0, claim["event_at"])


def option(name: str = "AAA-P", settlement: str = "AAA", is_inverse: bool = True) -> Message:
    terms = {"instrument": name, "kind": "option", "option_type": "put", "strike_usd": 100.0}
    terms |= {"settlement_currency": settlement, "is_inverse": is_inverse, "expiry_at": instant_ms(T0 + 90 * 86_400_000)}
    return Message("instruments", 0, 0, instrument("AAA").row | terms)


def told(ms: int, name: str = "AAA-P", **values: Any) -> Message:
    return Message("tickers", 0, ms - T0, {"venue": "v", "instrument": name, **at(ms), **values})


@pytest.mark.parametrize(("settlement", "is_inverse", "mark"), [("AAA", True, 0.12), ("USDC", False, 12.0)])
@pytest.mark.parametrize("seed", range(4))
def test_an_option_whose_mark_and_forward_are_told_apart_is_liquidated(
    settlement: str, is_inverse: bool, mark: float, seed: int
) -> None:
    """A short put that its cash does not cover; tickers tell mark, forward, quote, vol or nothing, in any order."""
    chance, state = random.Random(seed), liquidations.new()
    step(state, option(settlement=settlement, is_inverse=is_inverse), index("AAA", 100.0, T0), until_ms=T0 + 10)
    parts: list[dict[str, Any]] = [
        {"mark_price": mark},
        {"forward_usd": 101.0},
        {"mark_iv": 0.7},
        {"bid_price": None, "ask_price": 1e5},
        {},
    ]
    step(state, told(T0 + 10, **parts[0]), told(T0 + 11, **parts[1]), until_ms=T0 + 20)
    short = position("a", "AAA", -1_000.0, mark)
    cash = balance("a", 150.0 if is_inverse else 15_000.0)
    cash = cash._replace(row=cash.row | {"currency": settlement})
    outputs = step(state, short._replace(row=short.row | {"instrument": "AAA-P"}), cash, until_ms=T0 + 50)
    for n in range(1, 40):
        ms = T0 + 100 * n
        said = [told(ms + k, **chance.choice(parts)) for k in range(chance.randint(0, 3))]
        outputs += step(state, *said, index("AAA", 100.0, ms), until_ms=ms + 50)
    assert [row["size"] for row in rows(outputs)] == [250.0] * 4
    assert "held" not in kinds(outputs)
    assert set(state.decisions.guards) == {"forward of v:AAA-P", "index of AAA"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["option", "perpetual"]),
            st.sampled_from([None, 0.05, 0.4]),
            st.sampled_from([None, 90.0, 110.0, 5_000.0]),
        ),
        max_size=20,
    )
)
def test_a_guard_is_an_average_of_one_quantity_by_itself(rows_told: list[Any]) -> None:
    """Whatever tickers tell besides: as if each had told that alone."""
    mixed, alone = liquidations.new(), liquidations.new()
    for state in (mixed, alone):
        step(state, option(), instrument("AAA"), until_ms=T0 + 1)
    for n, (kind, mark, forward) in enumerate(rows_told, start=1):
        name, column = ("AAA-P", "forward_usd") if kind == "option" else ("AAA-PERP", "mark_price")
        ms = T0 + 100 * n
        values = {"mark_price": mark, "forward_usd": forward, "bid_price": 1e6, "ask_price": 2e6, "last_price": 3.0}
        step(mixed, told(ms, name, **values), until_ms=ms + 50)
        step(alone, told(ms, name, **{column: values[column]}), until_ms=ms + 50)
    assert mixed.decisions.guards == alone.decisions.guards


@pytest.mark.parametrize("kind", ["perpetual", "option", "forward"])
def test_what_is_told_of_something_else_makes_no_mark_newer(kind: str) -> None:
    state = begun(option(), told(T0 + 10, mark_price=0.12, forward_usd=100.0))
    of = position("a", "AAA", -100.0, 100.0)
    if kind != "perpetual":
        of = of._replace(row=of.row | {"instrument": "AAA-P", "average_price": "0.12"})
    step(state, of, balance("a", 1e6), until_ms=T0 + 60)
    late = T0 + 31_000
    renewed: dict[str, dict[str, float]] = {
        "perpetual": {"last_price": 100.0, "index_price_usd": 100.0},
        "option": {"forward_usd": 100.0, "mark_iv": 0.7},
    }
    values = renewed.get(kind, {"mark_price": 0.12})
    said = told(late, "AAA-PERP" if kind == "perpetual" else "AAA-P", **values)
    (event,) = rows(
        step(state, said, index("AAA", 100.0, late), balance("a", 1.0, late), until_ms=late + 50), "liquidation_events"
    )
    name = {"perpetual": "price of v:AAA-PERP", "option": "mark of v:AAA-P", "forward": "forward of v:AAA-P"}[kind]
    assert event["kind"] == "held" and event["reason"] == f"held: the {name} is 31.0 s old, more than 30 s"
    assert state.decisions.cases["a"].held == f"stale: {name}"


@pytest.mark.parametrize(
    "values",
    [{"bid_price": 99.0, "ask_price": 101.0}, {"last_price": 100.0}, {"mark_price": 100.0}],
    ids=["quote", "trade", "mark"],
)
@pytest.mark.parametrize("is_before_terms", [True, False])
def test_whatever_values_a_future_grows_old(values: dict[str, float], is_before_terms: bool) -> None:
    state = liquidations.new()
    first, second = told(T0, "AAA-PERP", **values), instrument("AAA")
    for message in (first, second) if is_before_terms else (second, first):
        step(state, message, until_ms=T0 + 10)
    held = liquidations.new()
    for name in sorted(state.touched):
        held.decode(name, state.encode(name) or b"")
    for each in (state, held):
        young, old = T0 + 29_000, T0 + 31_000
        outputs = step(each, *long(cash=10.0), index("AAA", 100.0, young), until_ms=young + 50)
        assert kinds(outputs) == ["locked", "round"]
        outputs = step(each, index("AAA", 100.0, old), *long("b", cash=10.0), until_ms=old + 50)
        (event,) = [row for row in rows(outputs, "liquidation_events") if row["account"] == "b"]
        assert event["kind"] == "held"
        assert event["reason"] == "held: the price of v:AAA-PERP is 31.0 s old, more than 30 s"


def test_an_index_has_a_guard_for_each_currency_and_that_in_usd_counts_first() -> None:
    def quoted(price: float, ms: int, currency: str | None) -> Message:
        return index("AAA", price, ms)._replace(row=index("AAA", price, ms).row | {"quote_currency": currency})

    state = begun(*long(), quoted(900.0, T0 + 20, "USDT"))
    assert set(state.decisions.guards) == {"index of AAA", "index of AAA:USDT", "price of v:AAA-PERP"}
    assert kinds(fallen(state, 89.0, T0 + SECOND, quoted(9.0, T0 + SECOND, "USDT"))) == ["locked", "round"]
    fallen(state, 89.0, T0 + 1500, quoted(90.0, T0 + 1500, "USD"))
    assert state.decisions.guards["index of AAA"].points == 4


def test_guards_of_version_1_are_dropped_for_options_and_what_is_not_known_and_kept_for_the_rest() -> None:
    state = liquidations.new()
    for name in ("price of v:AAA-PERP", "price of v:AAA-P", "price of v:GONE", "index of AAA"):
        state.decode(f"guard/{name}", b"\x01[1700000000000,100.0,50.25,7,0.0]")
    market = begun(option()).accounts
    for name in ("instrument/v:AAA-PERP", "instrument/v:AAA-P"):
        state.decode(name, market.encode(name) or b"")
    step(state, until_ms=T0 + 50)
    assert set(state.decisions.guards) == {"price of v:AAA-PERP", "index of AAA"}
    assert {"guard/price of v:AAA-P", "guard/price of v:GONE"} <= state.touched
    assert state.encode("guard/price of v:AAA-P") is None


def test_guards_go_with_their_contract() -> None:
    expiry_ms = T0 + 90 * 86_400_000
    state = begun(option(), told(T0 + 10, mark_price=0.12, forward_usd=100.0))
    step(state, until_ms=expiry_ms + 86_400_000 - 1)
    assert "forward of v:AAA-P" in state.decisions.guards
    state.touched.clear()
    step(state, until_ms=expiry_ms + 86_400_000)
    assert (
        set(state.decisions.guards) == {"price of v:AAA-PERP", "index of AAA"} and "guard/forward of v:AAA-P" in state.touched
    )


@pytest.mark.parametrize("cash", [1_500.0, -1_000.0])
def test_a_book_that_says_nothing_any_more_holds_the_order_though_no_update_was_lost(cash: float) -> None:
    state = begun(*long(cash=100_000.0), depth("AAA", [[88.97, 3.0]], [], T0 + 10))
    last = T0 + 30_011
    assert fallen(state, 89.0, last) == []
    outputs = fallen(state, 89.0, last + 50, balance("a", cash, last + 50))
    assert rows(outputs) == [] and kinds(outputs)[-1] == "held"
    assert reasons(outputs)[-1] == "held: the book of v:AAA-PERP is 30.1 s old, more than 30 s"
    assert state.decisions.cases["a"].held == "stale book: v:AAA-PERP"
    # A venue whose clock is ahead says so at a time that is yet to come.
    outputs = fallen(state, 89.0, last + 100, depth("AAA", [[88.97, 3.0]], [], last + 59_000))
    # Whose equity is gone waits for the answer of the fund.
    outputs += fallen(state, 89.0, last + 50 + RULES.answer_ms)
    assert kinds(outputs) == ["resumed", "round"]


def test_a_book_is_held_from_the_first_batch_in_which_it_is_too_old() -> None:
    """Also where the account waits for depth, and is passed over as long as there is none."""
    state = begun(*long(), depth("AAA", [[80.0, 1e6]], [], T0 + 10))
    held = [
        (ms, row["reason"])
        for ms in range(T0 + SECOND, T0 + 32_000, 500)
        for row in rows(fallen(state, 89.0, ms), "liquidation_events")
    ]
    assert [ms for ms, _ in held] == [T0 + SECOND, T0 + SECOND, T0 + 30_000]
    assert held[-1][1] == "held: the book of v:AAA-PERP is 30.0 s old, more than 30 s"


def test_an_account_without_a_price_is_left_alone_and_a_case_is_held() -> None:
    state = liquidations.new()
    assert step(state, instrument("AAA"), *long(cash=-5e6), until_ms=T0 + 50) == []


def reference(holdings: dict[str, tuple[float, dict[str, float]]], path: list[dict[str, float]]) -> dict[str, int]:
    """Who must be liquidated along a path of prices, and at which step first: equity below maintenance."""
    found: dict[str, int] = {}
    for n, prices in enumerate(path):
        for name, (cash, sizes) in holdings.items():
            equity = cash + sum(size * (prices[coin] - COINS[coin]) for coin, size in sizes.items())
            needed = sum(abs(size) * prices[coin] * MM for coin, size in sizes.items())
            if name not in found and needed > equity:
                found[name] = n
    return found


def crash(accounts: int, seed: int) -> tuple[dict[str, tuple[float, dict[str, float]]], list[dict[str, float]]]:
    chance = random.Random(seed)
    holdings = {}
    for n in range(accounts):
        sizes = {coin: round(chance.uniform(-3e4, 3e4) / price, 2) for coin, price in COINS.items() if chance.random() < 0.7}
        gross = sum(abs(size) * COINS[coin] for coin, size in sizes.items())
        holdings[f"acct-{n:05d}"] = (round(gross * chance.uniform(0.12, 0.6), 2), sizes)
    path = [
        {coin: round(price * (1 - 0.03 * min(n, 10) + 0.01 * max(n - 10, 0)), 2) for coin, price in COINS.items()}
        for n in range(14)
    ]
    return holdings, path


def play(holdings: Any, path: Any, cuts: frozenset[int] = frozenset()) -> list[Output]:
    """The crash, without fills; cut and restored after some of its steps."""
    state, outputs = liquidations.new(), []
    stored: dict[str, bytes | None] = {}
    opening = [instrument(coin) for coin in COINS]
    opening += [message for coin, price in COINS.items() for message in (ticker(coin, price, T0), index(coin, price, T0))]
    for name, (cash, sizes) in holdings.items():
        opening.append(balance(name, cash))
        opening += [position(name, coin, size, COINS[coin]) for coin, size in sizes.items() if size]
    outputs += step(state, *opening, until_ms=T0 + 50)
    for n, prices in enumerate(path):
        ms = T0 + 2000 * (n + 1)
        messages = [message for coin, price in prices.items() for message in (ticker(coin, price, ms), index(coin, price, ms))]
        outputs += step(state, *messages, until_ms=ms + 50)
        if n in cuts:
            stored |= {name: state.encode(name) for name in state.touched}
            state.touched.clear()
            state = liquidations.new()
            for name, data in random.Random(n).sample(sorted(stored.items()), len(stored)):
                if data is not None:
                    state.decode(name, data)
    return outputs


@pytest.mark.parametrize(("accounts", "seed"), [(200, 1), (10_000, 2)])
def test_in_a_crash_exactly_those_are_liquidated_that_a_plain_reckoning_says(accounts: int, seed: int) -> None:
    holdings, path = crash(accounts, seed)
    expected = reference(holdings, path)
    assert 0.05 * accounts < len(expected) < 0.95 * accounts
    first: dict[str, int] = {}
    ordered: dict[tuple[str, str], float] = defaultdict(float)
    ids = set()
    for output in play(holdings, path):
        if output.table == "liquidation_orders":
            row = output.row
            first.setdefault(row["account"], (output.event_ms + 1 - 50 - T0) // 2000 - 1)
            ids.add(row["order_id"])
            coin = row["instrument"].removesuffix("-PERP")
            size = holdings[row["account"]][1][coin]
            assert row["side"] == ("sell" if size > 0 else "buy")
            ordered[row["account"], coin] += row["size"]
            assert ordered[row["account"], coin] <= abs(size) * (1 + 1e-9)
        elif output.table == "liquidation_events":
            assert output.row["kind"] != "held", output.row
    assert first == expected


def test_a_crash_that_is_cut_anywhere_and_restored_is_the_same_crash() -> None:
    holdings, path = crash(150, 3)
    straight = play(holdings, path)
    assert play(holdings, path) == straight
    for cuts in (frozenset({4}), frozenset({0, 3, 5, 9}), frozenset(range(len(path)))):
        assert play(holdings, path, cuts) == straight


def test_about_whom_a_batch_passes_over_there_is_nothing_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in steps shorter than the pause, with fills, thin books, a halt and a spike, with and without looking at all."""
    looked_at = Counter[str]()

    class Watched(Account):
        def advanced(self) -> list[Output]:
            looked_at[(self.case.held or "").partition(":")[0]] += 1
            return super().advanced()

    monkeypatch.setattr(decisions, "Account", Watched)

    def played() -> list[Output]:
        chance, (holdings, _) = random.Random(4), crash(300, 4)
        outputs: list[Output] = []
        state, sizes = liquidations.new(), {name: dict(held) for name, (_, held) in holdings.items()}
        step(state, *(instrument(coin) for coin in COINS), until_ms=T0)
        opening = [balance(name, cash) for name, (cash, _) in holdings.items()]
        held = [(name, coin, size) for name, of in sizes.items() for coin, size in of.items() if size]
        step(state, *opening, *(position(*one, COINS[one[1]]) for one in held), until_ms=T0 + 1)
        for n in range(60):
            ms, fall = T0 + 250 * (n + 1), 0.012 * min(n, 40)
            prices = {coin: price * (1 - fall) * (9 if n == 30 and coin == "AAA" else 1) for coin, price in COINS.items()}
            said = [] if n == 0 else [ticker(coin, price, ms) for coin, price in prices.items()]
            said += [index(coin, price, ms) for coin, price in prices.items()]
            said += [halt("AAA-PERP", n == 20, ms)] if n in (20, 24) else []
            far = 0.0005 if n % 7 else 0.01
            said += [
                depth(coin, [[price * (1 - far), 1e9]], [[price * (1 + far), 1e9]], ms, coin == "BBB" and n == 13)
                for coin, price in prices.items()
            ]
            for order in rows(outputs[-40:]):
                name, coin = order["account"], order["instrument"].removesuffix("-PERP")
                if chance.random() < 0.5:
                    sizes[name][coin] -= order["size"] * (1 if order["side"] == "sell" else -1)
                    said.append(position(name, coin, sizes[name][coin], COINS[coin], ms))
            outputs += step(state, *said, until_ms=ms + 50)
        return outputs

    passed_over = played()
    assert set(kinds(passed_over)) >= {"margin_call", "locked", "round", "held", "resumed", "recovered", "bankrupt"}
    few = looked_at.copy()
    looked_at.clear()
    monkeypatch.setattr(cases.Case, "standing", lambda _: cases.OTHER_CASE)
    assert played() == passed_over
    for held in ("", "no depth"):
        assert 0 < few[held] < looked_at[held]
    assert few["stale book"] > 0


def test_fills_ten_times_and_a_minute_late_end_in_the_same_ledger_and_margin() -> None:
    """From fills on: the ledger's rows lead the engine to the same orders whatever order the fills came in."""
    chance = random.Random(5)

    def fills() -> list[Message]:
        made = []
        for n in range(300):
            account, coin = f"acct-{n % 17}", chance.choice(list(COINS))
            row = {
                "account": account,
                "venue": "v",
                "instrument": f"{coin}-PERP",
                **at(T0 + 200 * n),
                "fill_id": f"f{n}",
                "side": chance.choice(["buy", "sell"]),
                "price": str(COINS[coin] + chance.randint(-5, 5)),
                "size": str(chance.randint(1, 50)),
                "fee": "0.01",
            }
            made.append(Message("fills", 0, n, row))
        return made

    made = fills()

    def newest(batches: list[list[Message]]) -> dict[Any, Any]:
        state, found = positions.new(), {}
        positions.step(state, [instrument(coin) for coin in COINS], T0 + 50)
        for batch in batches:
            for output in positions.step(state, batch, T0 + 61_000):
                assert output.table != "dead_letters", output.row
                row = {k: v for k, v in output.row.items() if k not in ("received_at", "fill_id", "cause_id")}
                if output.table != "ledger_entries":
                    found[output.table, row["account"], row.get("instrument") or row["currency"]] = row
            assert set(positions.totals(state).values()) <= {Decimal(0)}
        return found

    straight = newest([made])
    often = [message for message in made for _ in range(10)]
    chance.shuffle(often)
    assert newest([often[n : n + 97] for n in range(0, len(often), 97)]) == straight


def test_accounts_are_liquidated_by_requirements_that_follow_the_vol() -> None:
    terms = instrument("AAA").row | {"instrument": "AAA-CALL", "kind": "option", "option_type": "call", "strike_usd": 100.0}
    call = Message("instruments", 0, 0, terms | {"expiry_at": instant_ms(T0 + 86_400_000)})

    def quoted(vol: float, ms: int) -> Message:
        row = ticker("AAA", 4.0, ms).row | {"instrument": "AAA-CALL", "mark_iv": vol, "forward_usd": 100.0}
        return Message("tickers", 0, ms - T0, row)

    state = begun(call, quoted(0.6, T0 + 20), *long(cash=900.0))
    assert kinds(fallen(state, 100.0)) == []
    # 500 USD at the reference vol; twice that at twice the vol, of which there are 900.
    assert kinds(fallen(state, 100.0, T0 + 2000, quoted(1.2, T0 + 2000))) == ["locked", "round"]
    (order,) = rows(fallen(state, 100.0, T0 + 3000))
    assert order["maintenance_margin_usd"] == 1_000.0


def test_an_account_with_ten_thousand_positions_is_closed_by_the_largest_or_at_once() -> None:
    """Position n is of n + 1 hundredths of a contract, in a market of its own that stands at 100."""

    def of(message: Message, number: int) -> Message:
        return message._replace(row=message.row | {"instrument": f"{number:05d}"})

    def tickers(mark: float, ms: int) -> list[Message]:
        return [of(ticker("AAA", mark, ms), number) for number in range(10_000)]

    state, numbers = liquidations.new(), range(10_000)
    held = [of(position("a", "AAA", (number + 1) / 100, 100.0), number) for number in numbers]
    step(state, index("AAA", 100.0, T0), *(of(instrument("AAA"), number) for number in numbers), until_ms=T0 + 10)
    size = sum(number + 1 for number in numbers) / 100
    step(state, *tickers(100.0, T0 + 10), *held, balance("a", 15 * size), until_ms=T0 + 50)
    (first,) = rows(step(state, *tickers(89.0, T0 + SECOND), until_ms=T0 + SECOND + 50))
    assert (first["instrument"], first["size"]) == ("09999", 25.0)
    step(state, *tickers(84.0, T0 + 3 * SECOND), until_ms=T0 + 3 * SECOND + 50)
    last = step(state, until_ms=T0 + 3 * SECOND + 50 + RULES.answer_ms)
    closed = {row["instrument"]: row["size"] for row in rows(last)}
    assert closed == pytest.approx({f"{n:05d}": (n + 1) / 100 - 25 * (n == 9_999) for n in numbers})
    assert len({row["order_id"] for row in rows(last)}) == 10_000


def test_a_sweep_that_is_older_than_what_was_judged_changes_nothing() -> None:
    state = begun(*long())
    fallen(state)
    assert step(state, until_ms=T0 - 3_600_000) == []
    assert kinds(fallen(state, 89.0, T0 + 2 * SECOND)) == ["round"]


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="version 9, this code reads version 5"):
        liquidations.new().decode("case/a", b"\x09[1]")


def test_gauges_tell_cases_by_state_and_what_is_held() -> None:
    state = begun(*long(), *long("b", cash=2_000.0), *long("c", cash=9_000.0))
    assert not any(count for name, count in liquidations.gauges(state).items() if name.startswith("accounts_"))
    fallen(state)
    told = liquidations.gauges(state)
    assert (told["accounts"], told["accounts_liquidating"], told["accounts_margin_call"], told["accounts_held"]) == (3, 1, 0, 0)
    fallen(state, 50.0, T0 + 2_000)
    told = liquidations.gauges(state)
    assert (told["accounts_bankrupt"], told["accounts_liquidating"]) == (2, 0)
    fallen(state, 50.0, T0 + 3_000, halt(None, True, T0 + 3_000))
    assert liquidations.gauges(state)["accounts_held"] == 2

"""The liquidation engine: a crash against a plain reference that shares no code with it, and what must hold it back."""

import random
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest

from kernels import Message, Output, liquidations, positions
from schemas.rows import fault, instant_ms, instant_us

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
    outputs = liquidations.step(state, list(messages), until_ms)
    assert [fault(output.table, output.row) for output in outputs] == [None] * len(outputs)
    return outputs


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
    assert set(state.cases) == {"a"}
    state.touched.clear()
    assert fallen(state, 100.0, T0 + SECOND + 30_000) == []
    assert state.cases == {} and state.encode("case/a") is None and "case/a" in state.touched


def test_what_is_ordered_never_exceeds_the_position() -> None:
    state = begun(*long())
    ordered = sum(row["size"] for n in range(20) for row in rows(fallen(state, 89.0, T0 + SECOND * (n + 1))))
    assert ordered == pytest.approx(100.0)
    flipped = step(
        state, position("a", "AAA", -5.0, 100.0, T0 + 30_000), balance("a", -600.0, T0 + 30_000), until_ms=T0 + 30_050
    )
    assert [row["side"] for row in rows(flipped)] in ([], ["buy"])


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
    "no sense": ([ticker("AAA", 0.0, T0 + SECOND)], "non positive: price of v:AAA-PERP"),
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
    assert state.cases["a"].held == held
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
    assert kinds(fallen(spike, 1.0)) == ["held"] and spike.cases["a"].held == "halted: v:AAA-PERP"
    # An open case whose price then goes missing is held by the halt, and by the price once that is over.
    state = begun(*long())
    assert kinds(fallen(state)) == ["locked", "round"]
    blind = step(state, halt(None, True, T0 + 2000), ticker("AAA", 0.0, T0 + 2000), until_ms=T0 + 2050)
    assert kinds(blind) == ["held"] and state.cases["a"].held == "halted: v"
    assert kinds(step(state, halt(None, False, T0 + 3000), until_ms=T0 + 3050)) == ["held"]
    assert state.cases["a"].held == "no valuation"


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
    assert state.halts.keys() == {"v:AAA-PERP", "v:GONE", "v"}
    state.touched.clear()
    step(state, until_ms=T0 + 20 + 86_400_000)
    assert state.halts.keys() == {"v:AAA-PERP"}
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


def test_a_loss_is_paid_by_the_fund_once_or_else_by_the_other_side() -> None:
    others = [
        position("rich", "AAA", -30.0, 100.0), balance("rich", 1e6),
        position("keen", "AAA", -30.0, 100.0), balance("keen", 400.0),
        position("late", "AAA", -200.0, 81.0), balance("late", 1e6),
    ]  # fmt: skip
    state = begun(*long(), *others)
    outputs = fallen(state, 80.0)
    assert [row["kind"] for row in rows(outputs, "liquidation_events") if row["account"] == "a"] == [
        "locked",
        "bankrupt",
        "insurance",
        "round",
    ]
    assert [row["size"] for row in rows(outputs)] == [100.0]
    assert state.fund_usd == liquidations.RULES.fund_usd - 500.0
    assert fallen(state, 79.0, T0 + 3 * SECOND) == []

    poor = begun(*long(), *others)
    poor.fund_usd = 499.0
    events = rows(fallen(poor, 80.0), "liquidation_events")
    shared = [row for row in events if row["kind"] == "deleveraging"]
    assert [(row["counter_account"], row["amount_usd"]) for row in shared] == [
        ("keen", 2_400.0),
        ("rich", 2_400.0),
        ("late", 3_200.0),
    ]
    assert {row["account"] for row in events if row["kind"] == "deleveraged"} == {"keen", "rich", "late"}
    assert "at 85, the bankruptcy price: rank 1" in shared[0]["reason"]
    assert poor.fund_usd == 499.0


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

    class Account(liquidations._Account):
        def advanced(self) -> list[Output]:
            looked_at[(self.case.held or "").partition(":")[0]] += 1
            return super().advanced()

    monkeypatch.setattr(liquidations, "_Account", Account)

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
    monkeypatch.setattr(liquidations.Case, "standing", lambda _: liquidations.OTHER_CASE)
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
    last = step(state, *tickers(84.0, T0 + 3 * SECOND), until_ms=T0 + 3 * SECOND + 50)
    closed = {row["instrument"]: row["size"] for row in rows(last)}
    assert closed == pytest.approx({f"{n:05d}": (n + 1) / 100 - 25 * (n == 9_999) for n in numbers})
    assert len({row["order_id"] for row in rows(last)}) == 10_000


def test_a_sweep_that_is_older_than_what_was_judged_changes_nothing() -> None:
    state = begun(*long())
    fallen(state)
    assert step(state, until_ms=T0 - 3_600_000) == []
    assert kinds(fallen(state, 89.0, T0 + 2 * SECOND)) == ["round"]


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="version 9, this code reads version 2"):
        liquidations.new().decode("fund", b"\x09[1]")


def test_gauges_tell_cases_by_state_what_is_held_and_the_fund() -> None:
    state = begun(*long(), *long("b", cash=2_000.0), *long("c", cash=9_000.0))
    assert not any(count for name, count in liquidations.gauges(state).items() if name.startswith("accounts_"))
    fallen(state)
    told = liquidations.gauges(state)
    assert (told["accounts"], told["accounts_liquidating"], told["accounts_margin_call"], told["accounts_held"]) == (3, 1, 0, 0)
    fallen(state, 50.0, T0 + 2_000)
    told = liquidations.gauges(state)
    assert (told["accounts_bankrupt"], told["accounts_liquidating"]) == (2, 0)
    assert told["insurance_fund_usd"] == pytest.approx(liquidations.RULES.fund_usd - 3_500 - 3_000)
    fallen(state, 50.0, T0 + 3_000, halt(None, True, T0 + 3_000))
    assert liquidations.gauges(state)["accounts_held"] == 2

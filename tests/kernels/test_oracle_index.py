"""Margin and liquidations by the prices of `oracles`, and what the validity of these holds."""

from typing import Any

import pytest

from engine.contract import Message
from kernels import liquidations
from kernels.market import indices
from schemas.rows import instant_ms
from tests.kernels.stored import Stored
from tests.kernels.test_liquidations import SECOND, T0, balance, begun, halt, index, kinds, long, rows, step, ticker
from udfs.oracle_rules import rules
from udfs.oracle_validity import ACTIONS, CLASSES

HELD = rules().holds


def oracle(underlying: str, price: float, ms: int, validity: str = "valid", held: str | None = None) -> Message:
    row = {
        "underlying": underlying,
        "event_at": instant_ms(ms),
        "price_usd": price,
        "confidence_usd": 0.0005 * price,
        "average_usd": price,
        "age_ms": 120.0,
        "source_count": 5,
        "venue_count": 3,
        "validity": validity,
        "held": held,
        "rules": "default/1",
    }
    return Message("oracle_prices", 0, ms - T0, row)


def broken(ms: int, is_halted: bool = True, **columns: Any) -> Message:
    row = {
        "break_id": "spread/v:AAA-PERP/1",
        "subject": "v:AAA-PERP",
        "event_at": instant_ms(ms),
        "rule": "spread",
        "kind": "spread",
        "state": "halted" if is_halted else "resumed",
        "is_halted": is_halted,
        "venue": "v",
        "instrument": "AAA-PERP",
        "reason": "the spread is 12 %",
    }
    return Message("circuit_breaks", 0, ms - T0, row | columns)


def usd(state: liquidations.State, coin: str, own: str = indices.USD) -> float:
    columns = state.accounts.index_columns
    return float(columns["usd"][columns.row((coin, own))])


def held_actions(validity: str) -> str | None:
    return ",".join(action for action in ACTIONS if action in HELD.get(validity, ())) or None


def test_the_oracles_price_is_the_index_from_its_first_row_on() -> None:
    state = begun(*long())
    assert usd(state, "AAA", "USDC") == 100.0
    step(state, oracle("AAA", 101.0, T0 + 100), until_ms=T0 + 150)
    # The contract is quoted in USDC, of which no price is known yet: an index in that currency is better than a guess.
    assert usd(state, "AAA", "USDC") == 100.0
    step(state, oracle("USDC", 0.8, T0 + 200), until_ms=T0 + 250)
    assert usd(state, "AAA", "USDC") == pytest.approx(101.0 / 0.8)
    step(state, index("AAA", 55.0, T0 + 300), until_ms=T0 + 350)
    assert usd(state, "AAA", "USDC") == pytest.approx(101.0 / 0.8)
    step(state, oracle("USDC", 1.0, T0 + 400), oracle("AAA", 90.0, T0 + 90), until_ms=T0 + 450)
    assert usd(state, "AAA", "USDC") == 101.0


def test_cash_in_a_coin_is_worth_what_its_oracle_says() -> None:
    state = liquidations.new()
    coin = Message("balances", 0, 1, balance("a", 2.0).row | {"currency": "AAA"})
    step(state, index("AAA", 100.0, T0), coin, until_ms=T0 + 50)
    valuation = state.valuation
    assert valuation is not None and valuation.equity[0] == 200.0
    step(state, oracle("AAA", 99.0, T0 + 100), until_ms=T0 + 150)
    assert state.valuation is not None and state.valuation.equity[0] == 198.0


@pytest.mark.parametrize("validity", CLASSES)
def test_a_liquidation_is_held_by_a_class_only_where_the_rules_say_so(validity: str) -> None:
    state = begun(*long())
    step(state, oracle("USDC", 1.0, T0 + 100), oracle("AAA", 100.0, T0 + 100), until_ms=T0 + 150)
    at = T0 + SECOND
    fall = ticker("AAA", 89.0, at), oracle("USDC", 1.0, at), oracle("AAA", 89.0, at, validity, held_actions(validity))
    outputs = step(state, *fall, until_ms=at + 50)
    if "liquidate" not in HELD.get(validity, ()):
        assert kinds(outputs) == ["locked", "round"]
        return
    assert kinds(outputs) == ["held"]
    (event,) = rows(outputs, "liquidation_events")
    assert event["reason"].startswith(
        f"held: the oracle price of AAA is {validity.replace('_', ' ')} by the rules default/1: 89"
    )
    valid = oracle("AAA", 89.0, at + 100), ticker("AAA", 89.0, at + 100)
    assert kinds(step(state, *valid, until_ms=at + 150)) == ["resumed", "locked", "round"]


def test_what_is_no_part_of_an_account_does_not_hold_it() -> None:
    state = begun(*long())
    at = T0 + SECOND
    other = oracle("BBB", 1.0, at, "too_volatile", held_actions("too_volatile"))
    fall = ticker("AAA", 89.0, at), oracle("AAA", 89.0, at), oracle("USDC", 1.0, at)
    assert kinds(step(state, *fall, other, until_ms=at + 50)) == ["locked", "round"]


@pytest.mark.parametrize(("held", "named"), [("increase,reduce,adl", None), ("increase,reduce", "AAA-PERP")])
def test_what_the_rules_hold_from_being_deleveraged_is_not_named_and_the_liquidation_goes_on(
    held: str, named: str | None
) -> None:
    state = begun(*long("a", 100.0, 1_500.0))
    at = T0 + SECOND
    fall = ticker("AAA", 70.0, at), oracle("USDC", 1.0, at), oracle("AAA", 70.0, at, "too_uncertain", held)
    outputs = step(state, *fall, until_ms=at + 50)
    assert [output.row["instrument"] for output in outputs if output.table == "loss_claims"] == [named]
    assert "held" not in kinds(outputs)


def test_the_prices_of_oracles_are_put_back() -> None:
    stored = Stored(liquidations, begun(*long()))
    step(stored.state, oracle("USDC", 1.0, T0 + 100), oracle("AAA", 101.0, T0 + 100), until_ms=T0 + 150)
    stored.state.touched |= {"instrument/v:AAA-PERP", "index/AAA"}
    stored.store()
    stored.restart()
    assert usd(stored.state, "AAA", "USDC") == 101.0


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, ["held"]),
        ({"venue": None, "instrument": None, "underlying": "AAA"}, ["held"]),
        ({"venue": None, "instrument": None, "underlying": "BBB"}, ["locked", "round"]),
        ({"passes_exits": True}, ["locked", "round"]),
    ],
)
def test_a_break_of_our_own_holds_what_it_names_unless_exits_pass(columns: dict[str, Any], expected: list[str]) -> None:
    state = begun(*long())
    at = T0 + SECOND
    fall = ticker("AAA", 89.0, at), index("AAA", 89.0, at), broken(at, **columns)
    assert kinds(step(state, *fall, until_ms=at + 50)) == expected
    if expected == ["held"]:
        after = step(state, broken(at + 100, False, **columns), until_ms=at + 150)
        assert kinds(after) == ["resumed", "locked", "round"]


@pytest.mark.parametrize(("pattern", "expected"), [("AAA-*", ["held"]), ("BBB-*", ["locked", "round"]), ("*", ["held"])])
def test_a_halt_of_a_pattern_stops_the_instruments_that_it_matches(pattern: str, expected: list[str]) -> None:
    state = begun(*long())
    at = T0 + SECOND
    fall = ticker("AAA", 89.0, at), index("AAA", 89.0, at), halt(pattern, True, at)
    assert kinds(step(state, *fall, until_ms=at + 50)) == expected

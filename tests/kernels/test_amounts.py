"""Books and trades count in the venue's unit of amount: whatever it is, decisions are those of contracts."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checks import checked
from engine.contract import Message, Output
from engine.entries import packed
from kernels import execution, liquidations, matching, orders
from kernels.execution.market import Market
from kernels.market.terms import in_contracts, tradable, untold_amount
from schemas.rows import instant_ms
from tests.kernels.executing import T0 as DAY
from tests.kernels.executing import Execution, book, depth, fills_all, parent, terms, trade
from tests.kernels.test_liquidations import SECOND, T0, begun, fallen, inverse, kinds, long, rows
from tests.kernels.test_liquidations import depth as shown
from tests.kernels.test_liquidations import instrument as contract

UNITS = [10.0, 1.0, 0.1, 0.001, 3.0]
amounts = st.floats(0, 1e12)
units = st.sampled_from(UNITS) | st.floats(1e-6, 1e6)


def retold(message: Message, **more: Any) -> Message:
    return message._replace(row=message.row | more)


@given(amounts, units)
def test_contracts_times_the_unit_are_the_amount_but_for_a_part_of_1e_18(amount: float, unit: float) -> None:
    contracts = in_contracts(amount, unit)
    assert contracts is not None
    exact = Fraction(repr(amount)) / Fraction(repr(unit))
    assert exact - Fraction(1, 10**18) < Fraction(contracts) <= exact or unit == 1


@given(st.integers(0, 10**9), st.sampled_from(UNITS))
def test_whole_contracts_stay_whole(count: int, unit: float) -> None:
    amount = Decimal(count) * Decimal(repr(unit))
    assert in_contracts(float(amount), unit) == count or Decimal(repr(float(amount))) != amount


@pytest.mark.parametrize("unit", [None, float("nan"), 0.0, -1.0])
def test_an_unknown_unit_is_no_number_and_least_of_all_one(unit: float | None) -> None:
    assert in_contracts(5.0, unit) is None


@pytest.mark.parametrize(("amount", "unit"), [(1e300, 1e-300), (1e-300, 1e300), (1e308, 3.0)])
def test_the_widest_numbers_that_a_row_can_have_are_divided_too(amount: float, unit: float) -> None:
    assert in_contracts(amount, unit) is not None


@pytest.mark.parametrize("amount", [0.0, -10.0])
def test_a_unit_that_is_not_above_zero_is_a_dead_letter(amount: float) -> None:
    good, (letter,) = checked([retold(contract("AAA"), amount_per_contract=amount)], None)
    assert not good
    assert (letter.row["field"], letter.row["expected"]) == ("amount_per_contract", "above zero")


# Liquidations


def liquidated(unit: float | None, is_inverse: bool = False) -> list[Output]:
    """A fall in three batches, of a book that shows 3, 5 and 1,000 contracts."""
    each = unit or 1.0
    sized = retold(inverse("AAA") if is_inverse else contract("AAA"), amount_per_contract=unit, event_at=instant_ms(T0 + 1))
    size, cash = (1_000.0, 15.0) if is_inverse else (100.0, 1_500.0)
    outputs: list[Output] = []
    state = begun(sized, *long(size=size, cash=cash), shown("AAA", [[88.97, 3 * each], [88.96, 5 * each]], [], T0 + 10))
    for number, mark in enumerate((89.0, 88.9, 88.8)):
        ms = T0 + (number + 1) * SECOND
        outputs += fallen(state, mark, ms, shown("AAA", [[mark - 0.03, 5 * each], [80.0, 1_000 * each]], [], ms))
    return outputs


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("is_inverse", [False, True])
def test_a_book_in_amounts_and_the_same_in_contracts_liquidate_alike(unit: float, is_inverse: bool) -> None:
    in_amounts = liquidated(unit, is_inverse)
    assert in_amounts == liquidated(1.0, is_inverse)
    assert [row["visible_size"] for row in rows(in_amounts)][:1] == [5.0]


def test_a_book_in_usd_offers_a_tenth_of_its_numbers_in_contracts_of_10_usd() -> None:
    state = begun(retold(contract("AAA"), amount_per_contract=10.0, event_at=instant_ms(T0 + 1)), *long())
    (order,) = rows(fallen(state, 89.0, T0 + SECOND, shown("AAA", [[88.97, 70.0]], [], T0 + SECOND)))
    assert (order["size"], order["visible_size"]) == (7.0, 7.0), "not 25 of the round, though the book says 70"


def test_an_order_is_held_while_nobody_has_told_the_unit_of_the_book_and_the_event_says_so() -> None:
    outputs = liquidated(None)
    assert rows(outputs) == []
    assert kinds(outputs) == ["locked", "held"]
    (reason,) = {row["reason"] for row in rows(outputs, "liquidation_events") if row["kind"] == "held"}
    assert reason == "held: what one contract of v:AAA-PERP is in the amounts of its book is not told"


def test_it_goes_on_as_soon_as_the_unit_is_told() -> None:
    state = begun(retold(contract("AAA"), amount_per_contract=None, event_at=instant_ms(T0 + 1)), *long())
    assert kinds(fallen(state, 89.0, T0 + SECOND, shown("AAA", [[88.97, 0.004]], [], T0 + SECOND)))[-1] == "held"
    told = retold(contract("AAA"), amount_per_contract=0.001, event_at=instant_ms(T0 + 2))
    outputs = fallen(state, 89.0, T0 + 2 * SECOND, told)
    assert kinds(outputs) == ["resumed", "round"]
    assert [row["size"] for row in rows(outputs)] == [4.0]


def test_without_a_book_the_unit_does_not_matter() -> None:
    state = begun(retold(contract("AAA"), amount_per_contract=None, event_at=instant_ms(T0 + 1)), *long())
    assert [row["visible_size"] for row in rows(fallen(state))] == [None]


# Large orders


def worked(unit: float, **wanted: Any) -> dict[str, list[dict[str, Any]]]:
    """A minute of a large order, with a book and trades of others in this unit."""
    worker = Execution(fills_all, terms(amount_per_contract=unit), parent(end_at=instant_ms(DAY + 60_000), **wanted))

    def market(ms: int) -> list[Message]:
        sides = [[99.5, 40 * unit], [99.0, 7 * unit]], [[100.5, 24 * unit], [101.0, 30 * unit]]
        return [depth(ms, *sides), trade(ms, 25 * unit)]

    worker.until(DAY + 62_000, SECOND, market)
    return {table: worker.rows.get(table, []) for table in ("algorithm_requests", "execution_states", "execution_quality")}


@pytest.mark.parametrize("unit", [10.0, 0.1, 0.001])
@pytest.mark.parametrize(
    "wanted",
    [
        {"algorithm": "pov", "participation": 0.25, "slice_count": 4},
        {"slice_count": 2, "depth_share": 0.5},
        {"slice_count": 2},
        {"algorithm": "vwap", "volume_profile": [[0, 3.0], [30, 1.0]], "participation": 0.5},
        {"algorithm": "iceberg", "limit_price": "100.5", "display_quantity": "20"},
    ],
)
def test_a_market_in_amounts_and_the_same_in_contracts_are_followed_alike(unit: float, wanted: dict[str, Any]) -> None:
    in_amounts = worked(unit, **wanted)
    assert in_amounts == worked(1.0, **wanted)
    assert in_amounts["algorithm_requests"]


def test_others_who_trade_1_000_usd_have_traded_100_contracts_of_10_usd() -> None:
    worker = Execution(fills_all, terms(amount_per_contract=10.0), parent(algorithm="pov", participation=0.1))
    worker.run(book(DAY + 200), trade(DAY + 200, 1_000.0))
    worker.until(DAY + 3 * SECOND, SECOND, lambda ms: [book(ms)])
    assert Decimal(worker.told["market_volume"]) + Decimal(worker.told["traded_quantity"]) == 100, "ours are among them"
    assert 0 < sum(worker.sizes) <= 10


def test_a_large_order_waits_while_the_unit_is_not_told_says_so_and_goes_on_with_it() -> None:
    worker = Execution(fills_all, terms(amount_per_contract=None), parent(end_at=instant_ms(DAY + 60_000), slice_count=2))
    worker.until(DAY + 3 * SECOND, SECOND, lambda ms: [book(ms), trade(ms, 5.0)])
    assert worker.told["held"] == "unknown unit"
    assert worker.told["reason"] == "what one contract of v:P is in the venue's amounts is not told"
    assert "algorithm_requests" not in worker.rows
    worker.run(terms(amount_per_contract=10.0, event_at=instant_ms(DAY + 1)))
    worker.until(DAY + 6 * SECOND, SECOND, lambda ms: [book(ms)])
    assert worker.told["held"] is None
    assert worker.rows["algorithm_requests"]


# State of before


@pytest.mark.parametrize(
    ("name", "size", "unit"),
    [
        ("deribit:BTC-PERPETUAL", 10.0, 10.0),
        ("deribit:BTC_USDC-PERPETUAL", 0.001, 0.001),
        ("deribit:SOL_USDC-PERPETUAL", None, None),
        ("binance_coinm:BTCUSD_PERP", 100.0, 1.0),
        ("okx:BTC-USDT-SWAP", 0.01, 1.0),
        ("sim_beta:BTC-PERP", 0.01, 1.0),
        ("bitget_coin_futures:BTCUSD", None, None),
        ("mine:P", 5.0, None),
    ],
)
def test_terms_of_before_have_the_unit_in_which_the_feed_of_the_venue_has_always_written(
    name: str, size: float | None, unit: float | None
) -> None:
    assert untold_amount(name, size) == unit
    older = packed(6, [1, "perpetual", "BTC", "USDC", False, None, None, size, None, "USDC"])
    state = liquidations.new()
    state.decode(f"instrument/{name}", older)
    assert state.accounts.terms[name].amount_per_contract == unit
    listed = [1, "perpetual", "BTC", "USDC", "USDC", False, size, None, None, 0.5, 1.0, None, None]
    for kernel in (orders, matching, execution):
        listing = kernel.new()
        listing.decode(f"contract/{name}", packed(1, listed))
        assert listing.listing.terms[name].amount_per_contract == unit
        assert listing.encode(f"contract/{name}") == packed(2, [*listed, unit])


def test_a_large_order_that_version_1_stored_has_its_unit_and_waits_for_the_next_book() -> None:
    worker = Execution(fills_all, terms(), book(DAY), parent())
    stored = {name: worker.state.encode(name) for name in worker.state.touched}
    older = execution.new()
    market = Market()
    market.show(book(DAY).row, 1.0)
    entries: dict[str, Any] = {"market/v:P": market.stored()[:5]}
    assert any(name.startswith("parent/") for name in stored)
    held = worker.state.parents["a", "P1"].stored()
    entries['parent/["a","P1"]'] = [held[0], list(tradable(terms().row))[:-1], *held[2:]]
    for name, content in entries.items():
        older.decode(name, packed(1, content))
    assert (older.markets["v:P"].bids, older.markets["v:P"].is_stale) == ([], True)
    assert older.parents["a", "P1"].contract == tradable(terms(amount_per_contract=None).row), "v is no venue of a feed"

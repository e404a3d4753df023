"""Orders that are not as anybody expects: numbers beyond all measure, ids that are others', sizes that are no whole lots."""

from random import Random
from typing import Any

import pytest

from engine.contract import Message, Output
from kernels import orders
from schemas.rows import instant_ms
from tests.kernels.order_path import (
    DAY,
    T0,
    Path,
    contract,
    fill,
    held,
    liquidation,
    margin,
    refusals,
    report,
    request,
    sent,
    transitions,
)
from tests.kernels.stored import Stored


def letters(outputs: list[Output]) -> list[str]:
    return [str(output.row["field"]) for output in outputs if output.table == "dead_letters"]


@pytest.mark.parametrize("number", ["1e400", "1e-400", "1e999999999", "9" * 50, "1e20"])
@pytest.mark.parametrize("column", ["last_quantity", "last_price", "quantity", "price", "cum_quantity", "fee"])
def test_a_report_with_a_number_beyond_all_decimals_is_a_dead_letter_and_its_neighbours_count(column: str, number: str) -> None:
    path = Path()
    path.step(request())
    odd = fill("1", "1")
    outputs = path.step(odd._replace(row=odd.row | {column: number}), fill("2", "3"))
    assert letters(outputs) == [column]
    assert transitions(outputs) == [("trade", "partially_filled")]
    assert outputs[-1].row["leaves_quantity"] == "7"


@pytest.mark.parametrize("number", ["1e400", "1e-400", "1e999999999", "9" * 50])
def test_a_request_with_such_a_number_is_a_dead_letter(number: str) -> None:
    outputs = Path().step(request("A", quantity=number), request("B", price=number), request("C"))
    assert letters(outputs) == ["quantity", "price"]
    assert sent(outputs) == [("new", "C", None)]


@pytest.mark.parametrize("changed", [{"last_quantity": "-5"}, {"quantity": "-5"}, {"cum_quantity": "-5"}, {"side": "hold"}])
def test_a_report_of_less_than_nothing_or_of_no_side_is_a_dead_letter(changed: dict[str, str]) -> None:
    path = Path()
    path.step(request())
    odd = fill("1", "1")
    assert letters(path.step(odd._replace(row=odd.row | changed))) == list(changed)


@pytest.mark.parametrize(("column", "number"), [("tick_size", 1e-300), ("lot_size", -1.0), ("contract_size", 1e300)])
def test_terms_on_no_grid_are_a_dead_letter_and_those_before_hold(column: str, number: float) -> None:
    path = Path()
    terms, _ = contract("P", T0 + 1, **{column: number})
    outputs = path.step(terms, request())
    assert letters(outputs) == [column]
    assert sent(outputs) == [("new", "X", None)]


@pytest.mark.parametrize("size", [1e308, 1e20, -4.0, 1e-300])
def test_a_liquidation_of_a_size_beyond_all_decimals_is_a_dead_letter(size: float) -> None:
    path = Path()
    path.step(held("10", "0"))
    assert letters(path.step(liquidation(size))) == ["size"]
    assert letters(path.step(liquidation(limit=1e308))) == ["limit_price"]


def test_an_order_that_nobody_can_value_keeps_back_all_credit_rather_than_none() -> None:
    path = Path()
    path.step(*contract("H", mark=1e300))
    outputs = path.step(report("1", "new", "Z", instrument="H", quantity="1e19"))
    assert outputs[0].row["reserved_usd"] == 1e20
    assert refusals(path.step(request())) == ["credit"]


def test_margin_whose_difference_is_infinite_is_no_credit_without_end() -> None:
    path = Path()
    path.step(margin(T0, -1.7e308, 1.7e308))
    assert refusals(path.step(request())) == ["credit"]


def test_an_option_on_an_index_that_is_not_above_zero_is_worth_nothing_known() -> None:
    path = Path()
    terms: dict[str, Any] = {"kind": "option", "option_type": "call", "strike_usd": 100.0, "tick_size": 0.0001}
    terms["expiry_at"] = instant_ms(T0 + DAY)
    path.step(*contract("O", ticker={"index_price_usd": 0.0}, mark=0.05, **terms))
    assert refusals(path.step(request(instrument="O", side="sell", price="0.05"))) == ["notional"]


@pytest.mark.parametrize(
    ("position", "size", "ordered"), [("5", 0.0004, "0.001"), ("0.0005", 0.0004, None), ("5", 1.0019, "1.001")]
)
def test_a_liquidation_of_less_than_a_lot_closes_one_but_no_more_than_is_held(
    position: str, size: float, ordered: str | None
) -> None:
    path = Path()
    path.step(held(position, "0"))
    outputs = path.step(liquidation(size))
    assert [row["quantity"] for table, _, row in outputs if table == "orders"] == ([] if ordered is None else [ordered])
    assert refusals(outputs) == ([] if ordered else ["form"])


def test_liquidations_of_less_than_a_lot_do_not_add_up_to_more_than_is_held() -> None:
    path = Path()
    path.step(held("0.001", "0"))
    again = liquidation(0.0004)
    again.row["order_id"] = "a/1/2"
    outputs = path.step(liquidation(0.0004), again)
    assert [row["quantity"] for table, _, row in outputs if table == "orders"] == ["0.001"]


def test_orders_by_hand_with_one_id_on_two_instruments_are_two() -> None:
    path = Path()
    path.step(*contract("Q"))
    for name, order_id in (("1", None), (None, "7"), (None, None)):
        exec_id = f"{name}{order_id}"
        first = path.step(fill(f"{exec_id}p", "2", name=name, order_id=order_id))  # type: ignore[arg-type]
        other = path.step(fill(f"{exec_id}q", "3", name=name, order_id=order_id, instrument="Q"))  # type: ignore[arg-type]
        again = path.step(fill(f"{exec_id}r", "1", name=name, order_id=order_id, instrument="Q"))  # type: ignore[arg-type]
        rows = [outputs[0].row for outputs in (first, other, again)]
        assert [row["instrument"] for row in rows] == ["P", "Q", "Q"]
        assert [row["cum_quantity"] for row in rows] == ["2", "3", "4" if name or order_id else "1"]
        assert rows[0]["order_key"] != rows[1]["order_key"]


@pytest.mark.parametrize("seed", range(4))
def test_an_id_that_two_orders_bear_is_that_of_the_first_also_after_a_restart(seed: int) -> None:
    stored, path = Stored(orders), Path()
    stored.state = path.state
    path.step(*contract("Q"), request("A", quantity="7"))
    path.step(report("1", "replaced", "N", instrument="Q", orig_client_order_id="M", quantity="9", order_id="o"))
    path.step(report("2", "replaced", "N", T0 + 1, orig_client_order_id="A", order_id="p"))
    path.step(report("3", "new", "Z", instrument="Q", order_id="o"))
    stored.store()
    stored.restart(Random(seed))
    path.state = stored.state
    outputs = path.step(request("C", "cancel", "N", instrument="Q"), fill("4", "1", name=None, order_id="o", instrument="Q"))  # type: ignore[arg-type]
    assert {row["order_key"] for table, _, row in outputs if table == "order_states"} == {"M"}


def test_two_orders_that_were_requested_stay_two_though_a_report_names_both() -> None:
    path = Path()
    path.step(request("A"), request("B", quantity="7"))
    path.step(report("1", "pending_cancel", "A", orig_client_order_id="B"))
    outputs = path.step(fill("2", "4", name="A"), fill("3", "5", T0 + 1, name="B"))
    assert [(row["order_key"], row["leaves_quantity"]) for _, _, row in outputs] == [("A", "6"), ("B", "2")]


def test_an_order_that_was_requested_takes_over_what_came_under_an_id_of_the_venue() -> None:
    path = Path()
    path.step(request("A"))
    path.step(fill("1", "4", name="W", price="100"))
    outputs = path.step(report("2", "replaced", "W", T0 + 1, orig_client_order_id="A"))
    row = outputs[-1].row
    assert (row["order_key"], row["cum_quantity"], row["leaves_quantity"]) == ("A", "4", "6")


def test_an_id_of_the_venue_that_came_with_no_news_is_known_after_a_restart() -> None:
    stored = Stored(orders)
    path = Path()
    stored.state = path.state
    path.step(request())
    path.step(report("1", "new"))
    assert path.step(report("2", "status", order_id="o")) == []
    stored.store()
    stored.restart()
    path.state = stored.state
    outputs = path.step(fill("3", "4", T0 + 1, name=None, order_id="o"))  # type: ignore[arg-type]
    assert [(row["order_key"], row["leaves_quantity"]) for _, _, row in outputs] == [("X", "6")]


def test_a_trade_on_the_other_side_is_an_alarm_and_does_not_count() -> None:
    path = Path()
    path.step(request())
    odd: Message = fill("1", "4", side="sell")
    outputs = path.step(odd)
    assert transitions(outputs) == [("conflict", "pending_new")]
    assert outputs[0].row["reason"] == "a trade to sell of an order to buy"
    assert path.step(odd) == []

"""`gammaflow order`: a person's requests, and the story of an order."""

import pytest

from cli import orders
from engine.contract import Message
from kernels.orders import KERNEL, wrong_request
from schemas.rows import fault, instant_ms, instant_us

T0 = 1_700_000_000_000


def test_a_request_is_a_row_that_the_job_takes_and_the_same_command_twice_is_two() -> None:
    row = orders.requested("new", "a", "v:P", side="buy", quantity="1e1", price="100.5", now_ms=T0)
    assert fault("order_requests", row) is None and wrong_request(dict(row)) is None
    assert (row["quantity"], row["order_type"], row["source"]) == ("10", "limit", "person")
    later = orders.requested("new", "a", "v:P", side="buy", quantity="1e1", price="100.5", now_ms=T0 + 1)
    assert later["client_order_id"] != row["client_order_id"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"market": "P"}, "venue:instrument"),
        ({"quantity": "many"}, "quantity: expected a number"),
        ({"price": "NaN"}, "price: expected a number"),
        ({"name": "a-b"}, "client_order_id"),
        ({"orig": "X"}, "orig_client_order_id"),
    ],
)
def test_what_is_no_request_is_refused_with_the_field_and_what_was_expected(fields: dict[str, str], wrong: str) -> None:
    given = {"market": "v:P", "side": "buy", "quantity": "1"} | fields
    with pytest.raises(ValueError, match=wrong):
        orders.requested("new", "a", given.pop("market"), **given)  # type: ignore[arg-type]


def test_the_story_of_an_order_has_each_transition_once_with_its_cause() -> None:
    state = KERNEL.new()
    name = {"account": "a", "venue": "v", "instrument": "P", "event_at": instant_ms(T0)}
    report = name | {"received_at": instant_us(T0 * 1000), "exec_id": "e", "side": "buy", "client_order_id": "X"}
    batches = [
        [
            Message(
                "order_requests", 0, 0, dict(orders.requested("new", "a", "v:P", side="buy", quantity="1", name="X", now_ms=T0))
            )
        ],
        [Message("execution_reports", 0, 0, report | {"exec_type": "trade", "last_quantity": "1", "last_price": "7"})],
    ]
    rows = [
        dict(output.row)
        for number, batch in enumerate(batches)
        for output in KERNEL.step(state, batch, T0 + 50 * (number + 1))
        if output.table == "order_states"
    ]
    lines = orders.told([*rows, *rows], "X")
    unread = "controls unread: the topic of controls has not been read yet"
    assert [line.split("  ")[1:] for line in lines] == [
        ["X", f"refused by gate (request X) -> rejected, 0 of 1 traded, 0 left: {unread}"],
        ["X", "trade 1 at 7 (report e) -> filled, 1 of 1 traded, 0 left"],
    ]
    assert orders.told(rows, "Y") == []

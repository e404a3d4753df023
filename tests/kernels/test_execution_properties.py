"""All four algorithms in any market: what is sent and what is not sum to the order, within every limit."""

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rows import instant_ms, to_ms
from tests.kernels.executing import T0, Execution, Order, book, halt, parent, terms, trade

SECOND = 1_000
LENGTH_S = 60
KINDS: dict[str, dict[str, Any]] = {
    "twap": {"slice_count": 12},
    "vwap": {"volume_profile": [[0, 1.0], [7, 4.0], [20, 0.0], [30, 2.0], [48, 3.0]]},
    "pov": {"participation": 0.25, "slice_count": 8},
    "iceberg": {"display_quantity": "7", "limit_price": "100"},
}
SECONDS = st.fixed_dictionaries(
    {
        "mid": st.integers(95, 105),
        "size": st.integers(0, 40),
        "stall": st.sampled_from([1, 1, 1, 1, 15]),
        "event": st.sampled_from(["", "", "", "", "", "", "halt", "go", "pause", "resume", "refuse", "accept"]),
        "fill": st.integers(0, 100),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.integers(10, 400),
    st.sampled_from(["rest", "take"]),
    st.sampled_from(["cancel", "take"]),
    st.sampled_from([None, 0.05, 0.3]),
    st.sampled_from(["1", "3"]),
    st.sampled_from(["buy", "sell"]),
    st.lists(SECONDS, min_size=8, max_size=LENGTH_S),
)
def test_sent_and_unsent_sum_to_the_order_in_any_market(
    algorithm: str,
    quantity: int,
    urgency: str,
    end_rule: str,
    share: float | None,
    least: str,
    side: str,
    seconds: list[dict[str, Any]],
) -> None:
    wanted: dict[str, Any] = {"participation": share, "limit_price": "100", **KINDS[algorithm]}
    wanted |= {"urgency": urgency, "end_rule": end_rule, "min_quantity": least, "side": side}
    filled = {"percent": 0}

    def fills(order: Order) -> Decimal:
        return (order.quantity - order.traded) * filled["percent"] // 100

    quantity -= quantity % 3  # so that it is whole in both sizes of the smallest order
    first = parent(algorithm=algorithm, quantity=str(quantity), end_at=instant_ms(T0 + LENGTH_S * SECOND), **wanted)
    execution = Execution(fills, terms(), book(T0), first)
    volume = Decimal(0)
    for number, second in enumerate(seconds):
        at, filled["percent"] = execution.now_ms, second["fill"]
        messages = [book(at, float(second["mid"]))]
        if second["size"] and at < T0 + LENGTH_S * SECOND:
            volume += second["size"]
            messages.append(trade(at, float(second["size"]), name=str(number)))
        if second["event"] in ("halt", "go"):
            messages.append(halt(at, is_halted=second["event"] == "halt"))
        elif second["event"] in ("pause", "resume"):
            messages.append(parent("P1", second["event"], at))
        elif second["event"]:
            execution.refuses = "gate" if second["event"] == "refuse" else None
        execution.run(*messages, ms=second["stall"] * SECOND)
        if wanted["participation"] is not None:
            cap = Decimal(repr(wanted["participation"]))
            assert execution.sent <= cap * (volume - execution.sent)
    execution.until(T0 + (LENGTH_S + 30) * SECOND, SECOND)
    last = execution.told
    traded, working, unsent = (Decimal(last[f"{name}_quantity"]) for name in ("traded", "working", "unsent"))
    assert last["status"] == "done"
    assert working == 0
    assert traded == sum((order.traded for order in execution.orders.values()), Decimal(0))
    assert traded + unsent == quantity
    assert unsent >= 0
    for row in execution.rows["execution_states"]:
        figures = [row[f"{name}_quantity"] for name in ("traded", "working", "unsent")]
        assert sum(map(Decimal, figures)) == quantity
    _check_requests(execution, algorithm, side, Decimal(least))


def _check_requests(execution: Execution, algorithm: str, side: str, least: Decimal) -> None:
    plan = execution.state.parents["a", "P1"].plan
    assert plan is not None
    slots: list[int] = []
    for ms, size in execution.slices:
        slot = plan.slot(T0 + ms)
        assert size % plan.lot == 0
        assert least <= size < plan.most(slot) * plan.lot + least, "no more than a slice and a quarter, and a rest that joins"
        slots.append(slot)
    if algorithm != "iceberg":
        refused = [order for order in execution.orders.values() if order.ending == "rejected"]
        assert len(slots) - len(set(slots)) <= len(refused), "one slice in the time of each, save those that were refused"
    for row in execution.rows.get("algorithm_requests", []):
        if row["price"] is not None:
            price = Decimal(row["price"])
            assert (price <= 100) if side == "buy" else (price >= 100)
        assert to_ms(row["event_at"]) >= T0

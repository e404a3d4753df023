"""The order path under any order of messages: what comes late, twice or around a restart changes no sum and breaks no limit."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import Message, Output
from kernels import orders as kernel
from kernels.orders.executions import ZERO
from kernels.orders.order import Order
from tests.kernels.obeying import READ
from tests.kernels.order_path import T0, fill, guard, held, liquidation, margin, market, report, request
from tests.kernels.stored import Stored

BATCHES = 8
TABLES = ("orders", "order_states", "order_guards")


def story(chance: Random) -> list[Message]:
    """Requests for three orders and for all orders, what the venue may say of them, and what accounts hold."""
    messages: list[Message] = [guard("S", "mmp", underlying="BTC", window_s=0.2, frozen_s=0.1, max_fills=chance.randint(0, 3))]
    number = 0

    def instant() -> int:
        return T0 + chance.randrange(50 * BATCHES)

    for name in "ABC":
        side, is_mmp = chance.choice(["buy", "sell"]), chance.random() < 0.5
        fields: dict[str, Any] = {"side": side, "is_mmp": is_mmp, "is_reduce_only": chance.random() < 0.2}
        quantity, price = str(chance.randint(1, 60)), str(chance.choice([99, 100, 101]))
        messages.append(request(name, ms=instant(), quantity=quantity, price=price, **fields))
        if chance.random() < 0.5:
            messages.append(request(f"{name}r", "replace", name, instant(), quantity=str(chance.randint(1, 60)), side=side))
        if chance.random() < 0.5:
            messages.append(request(f"{name}c", "cancel", name, instant()))
        for _ in range(chance.randint(1, 5)):
            number += 1
            kind = chance.choice(
                ["new", "trade", "trade", "trade", "cancelled", "replaced", "pending_cancel", "cancel_rejected"]
            )
            by = chance.choice([name, f"{name}r", f"{name}c"])
            if kind == "trade":
                size = str(chance.randint(1, 40))
                messages.append(fill(f"e{number}", size, instant(), by, side=side))
                messages.append(held(size, f"e{number}", instant()))
                if chance.random() < 0.3:
                    ref = {"exec_ref_id": f"e{number}", "side": side}
                    messages.append(report(f"b{number}", "trade_cancel", by, instant(), **ref))
            else:
                orig = None if by == name else name
                messages.append(report(f"e{number}", kind, by, instant(), side=side, orig_client_order_id=orig))
    guards: list[tuple[str, dict[str, Any]]] = [
        ("timer", {"after_s": 0.1}),
        ("timer", {"after_s": 0.0}),
        ("cancel_all", {"venue": "v"}),
        ("mmp_reset", {"underlying": "BTC"}),
    ]
    messages += [guard(f"G{n}", kind, instant(), **given) for n, (kind, given) in enumerate(guards) if chance.random() < 0.4]
    if chance.random() < 0.3:
        messages.append(liquidation(ms=instant()))
    messages.append(margin(instant(), 2_000.0, 10.0))
    return messages


def play(batches: list[list[Message]], cut: int | None = None) -> list[Output]:
    """Every row; from the cut on by a state that was restored.  What must hold after each batch is checked."""
    stored, outputs = Stored(kernel), []
    for number, messages in enumerate(batches):
        if number == cut:
            stored.restart(Random(number))
        until_ms = T0 + 50 * (number + 1) if number < BATCHES + 1 else T0 + 20_000 + number
        rows = kernel.step(stored.state, messages, until_ms)
        stored.store()
        outputs += rows
        for output in rows:
            if output.table == "order_states":
                leaves, quantity = float(str(output.row["leaves_quantity"])), output.row["quantity"]
                assert 0 <= leaves <= float(str(quantity or 0)) and float(str(output.row["reserved_usd"])) >= 0
        for account in stored.state.accounts.values():
            assert all(order.reserved_usd >= 0 for order in account.orders)
            assert all(unbooked.reserved_usd >= 0 for unbooked in account.unbooked.values())
            free_usd = account.free_usd(without=Order("none"))
            assert free_usd is None or free_usd <= account.margin[1]
            assert min(account.opened("v:P", side, Order("none")) for side in ("buy", "sell")) >= ZERO
    return outputs


@settings(max_examples=100, deadline=None, database=None)
@given(st.integers(0, 2**32))
def test_any_interleaving_keeps_the_limits_and_goes_on_equally_after_a_restart(seed: int) -> None:
    chance = Random(seed)
    messages = story(chance)
    for _ in range(3):
        batches: list[list[Message]] = [[READ, *market()], *([] for _ in range(BATCHES))]
        for message in [*messages, *chance.choices(messages, k=chance.randint(0, 6))]:
            chance.choice(batches[1:]).append(message)
        # Then the time for answers is over, and everything comes once more.
        batches += [[], messages]
        outputs = play(batches)
        assert play(batches, chance.randrange(1, len(batches))) == outputs
        again = T0 + 20_000 + len(batches) - 2
        assert [output for output in outputs if output.table in TABLES and output.event_ms >= again] == []
        counted = [row["cause_id"] for table, _, row in outputs if table == "order_states" and row["event"] == "trade"]
        assert len(counted) == len(set(counted)), "a fill counts once"
        sent = [row["client_order_id"] for table, _, row in outputs if table == "orders"]
        assert len(sent) == len(set(sent)), "a request is sent once"

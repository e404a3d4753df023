"""Large orders through the whole path: execution, orders with its checks, and the own venue."""

from decimal import Decimal
from typing import Any

import orjson

from engine import batch
from engine.contract import Message, Output
from kernels import execution, matching, orders
from schemas import READ_AS
from schemas.rows import instant_ms, instant_us, to_ms
from tests.kernels.obeying import READ, applied

T0 = 1_700_000_000_000
PLACE = {"venue": "sim_alpha", "instrument": "P"}
Row = dict[str, Any]


class Loop:
    """The three kernels in event time: whatever one writes is read by the others in the window of its time."""

    def __init__(self) -> None:
        self.now_ms = T0
        self.waiting: list[tuple[int, Message]] = []
        self.rows: dict[str, list[Row]] = {}
        self.execution, self.orders, self.matching = (kernel.KERNEL.new() for kernel in (execution, orders, matching))
        self.pending: list[Message] = []
        orders.KERNEL.step(self.orders, [READ], T0)

    def give(self, table: str, ms: int, **row: Any) -> None:
        self.waiting.append(
            (ms, Message(table, 0, 0, {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)} | row))
        )

    def run(self, until_ms: int) -> None:
        while self.now_ms < until_ms:
            self.now_ms += 50
            due = [message for ms, message in self.waiting if ms < self.now_ms]
            self.waiting = [(ms, message) for ms, message in self.waiting if ms >= self.now_ms]
            self.pending += due
            sent = self._take(orders.KERNEL.step(self.orders, self._of("orders", due), self.now_ms))
            self._take(matching.KERNEL.step(self.matching, self._of("matching", due + sent), self.now_ms))
            self.pending += sent
            if self.now_ms % 100 == 0:
                self._execute()

    def _execute(self) -> None:
        messages = self._of("execution", self.pending)
        self.pending = []
        if messages:
            data = batch.RECORD.join(batch.record(message.table, 0, 0, message.row) for message in messages)
            lines = batch.run(execution.KERNEL, self.execution, data, self.now_ms)
        else:
            lines = batch.end_window(execution.KERNEL, self.execution, self.now_ms)
        for part in lines:
            rows = [orjson.loads(value) for value in part.values.split(b"\n")]
            self._take([Output(part.table, to_ms(row["event_at"]), row) for row in rows])

    def _of(self, job: str, messages: list[Message]) -> list[Message]:
        reads = {
            "orders": {
                *("instruments", "tickers", "order_requests", "execution_reports", "account_margin"),
                "controls_applied",
            },
            "matching": {"instruments", "tickers", "orders"},
            "execution": {"instruments", "trades", "book_depth", "execution_parents", "order_states"},
        }
        return [message for message in messages if message.table in reads[job]]

    def _take(self, outputs: list[Output]) -> list[Message]:
        """What this window writes: rows of now at once, those of a time ahead when it has come."""
        now = []
        for output in outputs:
            self.rows.setdefault(output.table, []).append(dict(output.row))
            message = Message(READ_AS.get(output.table, output.table), 0, 0, dict(output.row))
            if output.event_ms < self.now_ms:
                now.append(message)
            else:
                self.waiting.append((output.event_ms, message))
        return now


def market(loop: Loop) -> None:
    terms: Row = {"kind": "perpetual", "underlying": "BTC", "quote_currency": "USDT", "settlement_currency": "USDT"}
    terms |= {"is_inverse": False, "contract_size": 1.0, "tick_size": 0.5, "lot_size": 1.0, "option_type": None}
    terms |= {"amount_per_contract": 1.0, "strike_usd": None, "expiry_at": None, "last_trading_at": None}
    loop.give("instruments", T0, **PLACE, **terms)
    for account in ("a", "maker"):
        figures = {"equity_usd": 1e6, "initial_margin_usd": 0.0, "model": "standard", "status": "healthy"}
        loop.give("account_margin", T0, account=account, **figures)
    for number in range(4):
        ask = {"side": "sell", "order_type": "limit", "price": "100.5", "quantity": "12", "source": "person"}
        names = {"account": "maker", "client_order_id": f"M{number}", "orig_client_order_id": None, "request": "new"}
        loop.give("order_requests", T0 + 200 + number * 200, **PLACE, **names, **ask)
    for second in range(90):
        loop.give("tickers", T0 + second * 1000 + 10, **PLACE, mark_price=100.0)
        levels = {"bids": [[99.5, 40.0]], "asks": [[100.5, 48.0]], "sequence": second, "is_stale": False}
        loop.give("book_depth", T0 + second * 1000 + 20, **PLACE, **levels)


def parent(loop: Loop, **changed: Any) -> None:
    row: Row = {"account": "a", "parent_client_order_id": "P1", "request": "new", "algorithm": "twap", "side": "buy"}
    row |= {"quantity": "30", "start_at": instant_ms(T0 + 2_000), "end_at": instant_ms(T0 + 62_000), "slice_count": 6}
    loop.give("execution_parents", T0 + 1_000, **PLACE, **row | {"urgency": "take"} | changed)


def test_a_twap_is_worked_to_its_end_through_the_checks_and_the_own_venue() -> None:
    loop = Loop()
    market(loop)
    parent(loop)
    loop.run(T0 + 70_000)
    assert "dead_letters" not in loop.rows
    last = loop.rows["execution_states"][-1]
    assert (last["status"], last["traded_quantity"], last["unsent_quantity"]) == ("done", "30", "0")
    sent = [row for row in loop.rows["orders"] if row["account"] == "a"]
    assert [row["quantity"] for row in sent] == ["5"] * 6
    assert {row["parent_client_order_id"] for row in sent} == {"P1"}
    fills = [row for row in loop.rows["venue_fills"] if row["account"] == "a"]
    assert sum(Decimal(row["size"]) for row in fills) == 30
    fees = sum(Decimal(row["fee"]) for row in fills)
    assert fees > 0
    quality = loop.rows["execution_quality"][-1]
    assert abs(quality["fees"] * quality["decision_value"] - float(fees)) < 1e-9
    assert quality["average_price"] == 100.5


def test_what_rests_is_replaced_by_each_slice_and_cancelled_at_the_end() -> None:
    loop = Loop()
    market(loop)
    parent(loop, urgency="rest")
    loop.run(T0 + 70_000)
    sent = [(row["request"], row["quantity"]) for row in loop.rows["orders"] if row["account"] == "a"]
    quantities = [("replace", str(5 * number)) for number in range(2, 7)]
    assert sent == [("new", "5"), *quantities, ("cancel", None)]
    last = loop.rows["execution_states"][-1]
    assert (last["status"], last["traded_quantity"], last["unsent_quantity"]) == ("done", "0", "30")


def test_an_iceberg_shows_its_next_part_when_the_venue_has_filled_the_one_before() -> None:
    loop = Loop()
    market(loop)
    parent(loop, algorithm="iceberg", display_quantity="12", limit_price="101", start_at=None)
    loop.run(T0 + 10_000)
    sent = [(row["quantity"], row["time_in_force"]) for row in loop.rows["orders"] if row["account"] == "a"]
    assert sent == [("12", "gtc"), ("12", "gtc"), ("6", "gtc")]
    assert loop.rows["execution_states"][-1]["status"] == "done"


def test_a_child_that_the_checks_refuse_is_unsent_and_the_parent_says_which_check() -> None:
    loop = Loop()
    market(loop)
    parent(loop, quantity="300000", slice_count=1)
    loop.run(T0 + 5_000)
    last = loop.rows["execution_states"][-1]
    assert (last["held"], last["working_quantity"], last["unsent_quantity"]) == ("refused by notional", "0", "300000")


def test_a_kill_of_the_algorithms_cancels_what_rests_and_holds_every_parent() -> None:
    loop = Loop()
    market(loop)
    parent(loop, urgency="rest")
    kill = applied("algo:execution", "cancel-all", T0 + 15_000)
    loop.waiting.append((T0 + 15_000, kill))
    loop.run(T0 + 40_000)
    sent = [(row["request"], row["source"]) for row in loop.rows["orders"] if row["account"] == "a"]
    assert sent == [("new", "algorithm"), ("replace", "algorithm"), ("cancel", "gate")]
    last = loop.rows["execution_states"][-1]
    assert (last["held"], last["working_quantity"], last["unsent_quantity"]) == ("refused by gate", "0", "30")
    assert "a drill" in last["reason"]

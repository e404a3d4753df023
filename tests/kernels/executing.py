"""A kernel of execution in event time, window by window, with a venue that answers what it requests."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson

from engine import batch
from engine.contract import Message
from kernels.execution import KERNEL, State
from schemas.rows import fault, instant_ms, instant_us, to_ms

T0 = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000  # midnight
Row = dict[str, Any]
MARKET = {"venue": "v", "instrument": "P"}


def terms(lot: float | None = 1.0, **changed: Any) -> Message:
    row: Row = {**MARKET, "event_at": instant_ms(T0), "received_at": instant_us(T0 * 1000), "kind": "perpetual"}
    row |= {"underlying": "BTC", "quote_currency": "USDT", "settlement_currency": "USDT", "is_inverse": False}
    row |= {
        "contract_size": 1.0,
        "amount_per_contract": 1.0,
        "tick_size": 0.5,
        "lot_size": lot,
        "option_type": None,
        "strike_usd": None,
    }
    return Message("instruments", 0, 0, row | {"expiry_at": None, "last_trading_at": None} | changed)


def parent(name: str = "P1", request: str = "new", ms: int = T0, **changed: Any) -> Message:
    row: Row = {"account": "a", **MARKET, "event_at": instant_ms(ms), "parent_client_order_id": name, "request": request}
    if request == "new":
        row |= {"algorithm": "twap", "side": "buy", "quantity": "100", "urgency": "take"}
    return Message("execution_parents", 0, 0, row | changed)


def depth(ms: int, bids: list[list[float]], asks: list[list[float]], is_stale: bool = False) -> Message:
    row: Row = {**MARKET, "event_at": instant_ms(ms), "sequence": 1, "bids": bids, "asks": asks, "is_stale": is_stale}
    return Message("book_depth", 0, 0, row)


def book(ms: int, mid: float = 100.0, size: float = 1e7, spread: float = 1.0) -> Message:
    return depth(ms, [[mid - spread / 2, size]], [[mid + spread / 2, size]])


def trade(ms: int, size: float, price: float = 100.0, name: str | None = None, **changed: Any) -> Message:
    row: Row = {**MARKET, "event_at": instant_ms(ms), "received_at": instant_us(ms * 1000), "trade_id": name or str(ms)}
    return Message("trades", 0, 0, row | {"side": "buy", "price": price, "size": size, "off_market": None} | changed)


def halt(ms: int, is_halted: bool = True, reason: str | None = "news") -> Message:
    row: Row = {**MARKET, "event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)}
    return Message("trading_halts", 0, 0, row | {"is_halted": is_halted, "reason": reason})


class Order:
    """A child at the venue, by the rows that the job `orders` tells of it."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.key = self.name = row["client_order_id"]
        self.quantity, self.price = Decimal(row["quantity"]), Decimal(row["price"])
        self.traded = self.worth = Decimal(0)
        self.number = 0
        self.ending: str | None = None

    @property
    def status(self) -> str:
        if self.ending is not None:
            return self.ending
        return "filled" if self.traded == self.quantity else "partially_filled" if self.traded else "new"

    def tell(self, ms: int, event: str, cause_id: str, status: str | None = None, **more: Any) -> Message:
        self.number += 1
        status = status or self.status
        left = Decimal(0) if status in ("filled", "cancelled", "expired", "rejected") else self.quantity - self.traded
        row: Row = {"account": self.row["account"], **MARKET, "event_at": instant_ms(ms), "order_key": self.key}
        row |= {"number": self.number, "client_order_id": self.name, "cause": "report", "cause_id": cause_id, "event": event}
        row |= {"order_status": status, "side": self.row["side"], "price": f"{self.price:f}", "quantity": f"{self.quantity:f}"}
        row |= {"cum_quantity": f"{self.traded:f}", "leaves_quantity": f"{left:f}", "reserved_usd": 0.0}
        row["average_price"] = f"{self.worth / self.traded:f}" if self.traded else None
        return Message("order_states", 0, 0, row | more)

    def fill(self, ms: int, quantity: Decimal, price: Decimal | None = None) -> Message:
        self.traded += quantity
        self.worth += quantity * (self.price if price is None else price)
        more = {"last_quantity": f"{quantity:f}", "last_price": f"{self.price if price is None else price:f}"}
        return self.tell(ms, "trade", f"e{self.key}{self.number}", **more, last_fee="0", fee_currency="USDT")


def fills_all(order: Order) -> Decimal:
    return order.quantity - order.traded


class Execution:
    """The kernel through its windows.  `fills` says how much of a child that is new or replaced trades at once."""

    def __init__(self, fills: Callable[[Order], Decimal] = fills_all, *first: Message) -> None:
        self.state: State = KERNEL.new()
        self.now_ms = T0
        self.fills = fills
        self.refuses: str | None = None
        self.orders: dict[str, Order] = {}
        self.rows: dict[str, list[Row]] = {}
        self.answers: list[Message] = []
        self.run(*first)

    def run(self, *messages: Message, ms: int = 100) -> dict[str, list[Row]]:
        """One window; returns its rows by table."""
        self.now_ms += ms
        due = [answer for answer in self.answers if to_ms(answer.row["event_at"]) < self.now_ms]
        self.answers = [answer for answer in self.answers if answer not in due]
        records = [batch.record(message.table, 0, at, message.row) for at, message in enumerate([*messages, *due])]
        rows: dict[str, list[Row]] = {}
        if records:
            written = batch.run(KERNEL, self.state, batch.RECORD.join(records), self.now_ms)
        else:
            written = batch.end_window(KERNEL, self.state, self.now_ms)
        for lines in written:
            ahead_ms = KERNEL.latency_ms if lines.table == "algorithm_requests" else 0
            for head, value in zip(lines.heads.split(b"\n"), lines.values.split(b"\n"), strict=True):
                row = orjson.loads(value)
                assert fault(lines.table, row) is None, (lines.table, fault(lines.table, row))
                assert int(head[:13]) < self.now_ms + ahead_ms or lines.table == "dead_letters"
                rows.setdefault(lines.table, []).append(row)
                self.rows.setdefault(lines.table, []).append(row)
        for row in rows.get("algorithm_requests", []):
            self._answer(row)
        return rows

    def until(self, ms: int, step_ms: int = 100, market: Callable[[int], list[Message]] = lambda ms: []) -> None:
        """Windows until an instant; `market` gives the messages of the one that begins at its argument."""
        while self.now_ms < ms:
            self.run(*market(self.now_ms), ms=step_ms)

    def restore(self) -> None:
        """Go on with a state of stored entries."""
        names = self.state.touched
        stored = {name: data for name in sorted(names, reverse=True) if (data := self.state.encode(name)) is not None}
        self.state = KERNEL.new()
        for name, data in stored.items():
            self.state.decode(name, data)
        self.state.touched |= names

    def _answer(self, row: Row) -> None:
        ms, name = to_ms(row["event_at"]) + 50, row["client_order_id"]
        if row["request"] == "new":
            order = self.orders[name] = Order(row)
            if self.refuses is not None:
                order.ending = "rejected"
                self.answers.append(order.tell(ms, "refused", name, rule=self.refuses, reason="no"))
                return
            self.answers += [order.tell(ms, "requested", name, "pending_new"), order.tell(ms, "new", f"n{name}")]
        else:
            order = next(order for order in self.orders.values() if order.name == row["orig_client_order_id"])
            if order.ending is not None or order.status == "filled":
                self.answers.append(order.tell(ms, "refused", name, rule="too late", reason="done"))
                return
            pending = "pending_cancel" if row["request"] == "cancel" else "pending_replace"
            self.answers.append(order.tell(ms, f"{row['request']}_requested", name, pending))
            if row["request"] == "cancel":
                order.ending = "cancelled"
                self.answers.append(order.tell(ms, "cancelled", f"c{name}"))
                return
            order.name, order.price, order.quantity = name, Decimal(row["price"]), Decimal(row["quantity"])
            self.answers.append(order.tell(ms, "replaced", f"r{name}"))
        quantity = self.fills(order)
        if quantity > 0:
            self.answers.append(order.fill(ms, quantity))
        if row["time_in_force"] == "ioc" and order.status != "filled":
            order.ending = "expired"
            self.answers.append(order.tell(ms, "expired", f"x{name}"))

    @property
    def sizes(self) -> list[Decimal]:
        """What each request added."""
        return [size for _, size in self.slices]

    @property
    def slices(self) -> list[tuple[int, Decimal]]:
        """When each slice was decided, in ms after the start, and the contracts that it added."""
        added: list[tuple[int, Decimal]] = []
        last: dict[str, Decimal] = {}
        for row in self.rows.get("algorithm_requests", []):
            if row["request"] == "cancel":
                continue
            before = last.get(row["orig_client_order_id"] or "", Decimal(0))
            quantity = last[row["client_order_id"]] = Decimal(row["quantity"])
            if quantity > before:
                added.append((to_ms(row["event_at"]) - KERNEL.latency_ms - T0, quantity - before))
        return added

    @property
    def told(self) -> Row:
        """The newest row of execution_states."""
        return self.rows["execution_states"][-1]

    @property
    def quality(self) -> Row:
        """The newest row of execution_quality."""
        return self.rows["execution_quality"][-1]

    @property
    def sent(self) -> Decimal:
        """What children have traded or may trade, by the venue."""
        return sum((order.traded if order.ending else order.quantity for order in self.orders.values()), Decimal(0))

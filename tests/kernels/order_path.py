"""The order path as tests drive it: its inputs, batch by batch, and what comes out."""

from typing import Any

from engine.contract import Message, Output
from kernels.orders import KERNEL, State
from schemas.rows import fault, instant_ms, instant_us
from tests.kernels.obeying import READ

T0 = 1_700_000_000_000
DAY = 86_400_000


def at(ms: int) -> dict[str, str]:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)}


def market(ms: int = T0, mark: float = 100.0) -> list[Message]:
    """A perpetual that is traded, and an account with 1,000 USD that are free."""
    return [*contract("P", ms, mark), margin(ms)]


def contract(
    instrument: str, ms: int = T0, mark: float = 100.0, ticker: dict[str, Any] | None = None, **changed: Any
) -> list[Message]:
    """The terms and the mark of a contract."""
    terms: dict[str, Any] = {"kind": "perpetual", "underlying": "BTC", "quote_currency": "USDT", "settlement_currency": "USDT"}
    terms |= {"is_inverse": False, "contract_size": 1.0, "tick_size": 0.5, "lot_size": 0.001} | changed
    name = {"venue": "v", "instrument": instrument} | at(ms)
    return [
        Message("instruments", 0, 0, name | terms),
        Message("tickers", 0, 0, name | {"mark_price": mark} | (ticker or {})),
    ]


def guard(name: str, kind: str, ms: int = T0, **fields: Any) -> Message:
    """A request for all orders of an account."""
    row: dict[str, Any] = {"account": "a", "event_at": instant_ms(ms), "source": "person", "client_order_id": name}
    return Message("order_requests", 0, 0, row | {"request": kind} | fields)


def margin(ms: int, equity: float = 1_000.0, initial: float = 0.0) -> Message:
    row: dict[str, Any] = {"account": "a", "event_at": instant_ms(ms), "model": "standard", "status": "healthy"}
    return Message("account_margin", 0, 0, row | {"equity_usd": equity, "initial_margin_usd": initial})


def request(name: str = "X", kind: str = "new", orig: str | None = None, ms: int = T0, **changed: Any) -> Message:
    row: dict[str, Any] = {"account": "a", "venue": "v", "instrument": "P", "event_at": instant_ms(ms), "source": "person"}
    row |= {"client_order_id": name, "orig_client_order_id": orig, "request": kind}
    if kind in ("new", "replace"):
        row |= {"side": "buy", "order_type": "limit", "price": "100", "quantity": "10"}
    return Message("order_requests", 0, 0, row | changed)


def report(exec_id: str, kind: str, name: str | None = "X", ms: int = T0, **changed: Any) -> Message:
    row = {"account": "a", "venue": "v", "instrument": "P", **at(ms), "exec_id": exec_id, "exec_type": kind, "side": "buy"}
    return Message("execution_reports", 0, 0, row | {"client_order_id": name} | changed)


def fill(exec_id: str, size: str, ms: int = T0, name: str = "X", price: str = "100", **changed: Any) -> Message:
    return report(exec_id, "trade", name, ms, last_quantity=size, last_price=price, **changed)


def held(size: str, fill_id: str, ms: int = T0) -> Message:
    row = {"account": "a", "venue": "v", "instrument": "P", **at(ms), "size": size, "realised_pnl": "0", "fill_id": fill_id}
    return Message("positions", 0, 0, row | {"settlement_currency": "USDT", "average_price": None})


def liquidation(size: float = 4.0, limit: float | None = 95.3, side: str = "sell", ms: int = T0) -> Message:
    row: dict[str, Any] = {
        "order_id": "a/1/1",
        "account": "a",
        "event_at": instant_ms(ms),
        "venue": "v",
        "instrument": "P",
        "side": side,
    }
    row |= {"size": size, "mark_price": 100.0, "equity_usd": -1.0, "maintenance_margin_usd": 5.0, "reason": "r"}
    return Message("liquidation_orders", 0, 0, row | {"limit_price": limit})


def broken(passes_exits: bool) -> Message:
    row: dict[str, Any] = {"break_id": "r/v:P/1", "subject": "v:P", "event_at": instant_ms(T0), "rule": "r", "kind": "dynamic"}
    row |= {
        "state": "halted",
        "is_halted": True,
        "venue": "v",
        "instrument": "P",
        "passes_exits": passes_exits,
        "reason": "far",
    }
    return Message("circuit_breaks", 0, 0, row)


class Path:
    """The kernel, batch by batch of 50 ms."""

    def __init__(self) -> None:
        self.state = State()
        self.until_ms = T0
        self.step(READ, *market())

    def step(self, *messages: Message, ms: int = 50) -> list[Output]:
        self.until_ms += ms
        outputs = KERNEL.step(self.state, list(messages), self.until_ms)
        for output in outputs:
            assert fault(output.table, output.row) is None
            assert output.event_ms < self.until_ms or output.table == "dead_letters"
        return outputs


def sent(outputs: list[Output]) -> list[tuple[str, str, str | None]]:
    return [
        (output.row["request"], output.row["client_order_id"], output.row["orig_client_order_id"])
        for output in outputs
        if output.table == "orders"
    ]


def transitions(outputs: list[Output]) -> list[tuple[str, str]]:
    return [(output.row["event"], output.row["order_status"]) for output in outputs if output.table == "order_states"]


def refusals(outputs: list[Output]) -> list[str]:
    return [
        str(output.row["rule"]) for output in outputs if output.table == "order_states" and output.row["event"] == "refused"
    ]


def cancels(outputs: list[Output]) -> list[str | None]:
    """The orders whose cancel is sent."""
    return [orig for kind, _, orig in sent(outputs) if kind == "cancel"]


def guarded(outputs: list[Output]) -> list[tuple[str, str]]:
    return [(output.row["guard"], output.row["event"]) for output in outputs if output.table == "order_guards"]

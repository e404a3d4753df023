"""The kernel `matching`, batch by batch, and rows for it."""

from typing import Any

import orjson

from bench import order_flow
from bench.order_flow import T0, listing
from engine.contract import Lines, Message, Output
from kernels.matching import KERNEL, State
from kernels.matching.rules import RULES, Rules
from schemas.rows import fault, instant_ms, instant_us

SECOND, DAY = 1_000, 86_400_000
VENUE = order_flow.VENUE


def order(name: str, account: str, side: str = "buy", quantity: str = "1", price: str | None = "100", **more: Any) -> Message:
    row: dict[str, Any] = {"venue": VENUE, "instrument": "P", "account": account, "number": 0, **order_flow.NONE}
    row |= {"client_order_id": name, "request": "new", "source": "person", "owner_group": account, "side": side}
    row |= {"order_type": "market" if price is None else "limit", "time_in_force": "ioc" if price is None else "gtc"}
    return Message("orders", 0, 0, row | {"price": price, "quantity": quantity, "is_reduce_only": False} | more)


def replace(name: str, orig: str, account: str, side: str = "buy", quantity: str = "1", price: str = "100") -> Message:
    return order(name, account, side, quantity, price, request="replace", orig_client_order_id=orig)


def cancel(name: str, orig: str, account: str, side: str = "buy") -> Message:
    nothing: dict[str, Any] = dict.fromkeys(("order_type", "time_in_force", "quantity", "is_reduce_only"))
    return order(name, account, side, price=None, request="cancel", orig_client_order_id=orig, **nothing)


def circuit_break(kind: str, passes_exits: bool) -> Message:
    row: dict[str, Any] = {"break_id": f"r/{VENUE}:P/1", "subject": f"{VENUE}:P", "event_at": instant_ms(T0), "rule": "r"}
    row |= {"kind": kind, "state": "halted", "is_halted": True, "venue": VENUE, "instrument": "P", "reason": "far"}
    return Message("circuit_breaks", 0, 0, row | {"passes_exits": passes_exits})


def position(account: str, size: str, fill_id: str = "f", ms: int = T0) -> Message:
    at = {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)}
    row = {"account": account, "venue": VENUE, "instrument": "P", **at, "size": size, "realised_pnl": "0", "fill_id": fill_id}
    return Message("positions", 0, 0, row | {"settlement_currency": "USDC", "average_price": None})


class Venue:
    """The kernel, batch by batch of 50 ms."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.state = State(rules)
        self.until_ms = T0
        self.numbers: dict[str, int] = {}
        self.step(*listing())

    def window(self, *messages: Message, ms: int = 50) -> list[Output]:
        """A batch, and what is due at its end."""
        outputs = self.step(*messages, ms=ms)
        assert KERNEL.end_window is not None
        return outputs + rows_of(KERNEL.end_window(self.state, self.until_ms))

    def step(self, *messages: Message, ms: int = 50) -> list[Output]:
        self.until_ms += ms
        numbered = [self.numbered(message) if message.table == "orders" else message for message in messages]
        outputs = KERNEL.step(self.state, numbered, self.until_ms)
        for output in outputs:
            assert fault(output.table, output.row) is None, output
            latency_ms = KERNEL.latency_ms if output.table.startswith("venue_") else 0
            assert output.event_ms < self.until_ms + latency_ms
        return outputs

    def numbered(self, message: Message) -> Message:
        account = message.row["account"]
        self.numbers[account] = self.numbers.get(account, 0) + 1
        # Requests of one batch come in the order in which they are given.
        event_at = instant_ms(self.until_ms - 50 + sum(self.numbers.values()) % 50)
        return message._replace(row=message.row | {"number": self.numbers[account], "event_at": event_at})


def told(outputs: list[Output]) -> list[tuple[str, str]]:
    return [(row["client_order_id"], row["exec_type"]) for table, _, row in outputs if table == "venue_reports"]


def trades(outputs: list[Output]) -> list[tuple[str, str, str]]:
    rows = [row for table, _, row in outputs if table == "venue_reports" and row["exec_type"] == "trade"]
    return [(row["client_order_id"], row["last_quantity"], row["last_price"]) for row in rows]


def reasons(outputs: list[Output]) -> list[str]:
    return [row["reason"] for table, _, row in outputs if table == "venue_reports" and row["reason"]]


def rows_of(lines: list[Lines]) -> list[Output]:
    """Lines as outputs, each in accord with its DDL."""
    outputs = []
    for table, heads, values in lines:
        for head, value in zip(heads.split(b"\n"), values.split(b"\n"), strict=True):
            outputs.append(Output(table, int(head[:13]), orjson.loads(value)))
            assert fault(table, outputs[-1].row) is None, value
    return outputs

"""Executions of liquidation orders, which the fund has a part of: rows of `liquidation_orders` and `order_states`."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kernels.orders.ids import client_order_id
from schemas.rows import key, to_ms


class Execution(NamedTuple):
    """A part of a position that was closed."""

    number: int  # of the row of its order
    change: str  # contracts, as a decimal; a sale is negative
    price: str


class Liquidation:
    """A liquidation order: what its account had, and what was executed of it."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.event_ms = to_ms(row["event_at"])
        self.account: str = row["account"]
        self.contract = key("instruments", row)
        self.equity_usd: float = row["equity_usd"]  # of the account, when it was decided
        self.maintenance_usd: float = row["maintenance_margin_usd"]
        self.number = 0  # of the newest row of the order
        self.executed: list[Execution] = []  # for the next batch

    def learn(self, row: Mapping[str, Any]) -> bool:
        """Take a checked row of the order; returns whether it is new."""
        if row["number"] <= self.number:
            return False
        self.number = row["number"]
        if row["event"] == "trade" and row.get("last_quantity") is not None and row.get("last_price") is not None:
            contracts = Decimal(row["last_quantity"])
            change = contracts if row.get("side") == "buy" else contracts.copy_negate()
            self.executed.append(Execution(self.number, str(change), row["last_price"]))
        return True


def named(row: Mapping[str, Any]) -> str:
    """The `order_key` in order_states of a row of `liquidation_orders`."""
    return client_order_id("liquidation", row["order_id"])

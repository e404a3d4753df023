"""Rows of `venue_reports` and `venue_fills`."""

from collections.abc import Mapping
from typing import Any

from engine.contract import Output
from kernels.matching.numbers import divided, text
from kernels.matching.side import BUY, Order
from schemas.rows import instant_ms, instant_us

REPORTS, FILLS = "venue_reports", "venue_fills"


class Reports:
    """What is told in one micro-batch."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.event_at, self.received_at = instant_ms(now_ms), instant_us(now_ms * 1000)
        self.outputs: list[Output] = []

    def tell(
        self,
        market: tuple[str, str],
        order: Order,
        exec_id: str,
        exec_type: str,
        status: str,
        *,
        name: str | None = None,
        orig: str | None = None,
        reason: str | None = None,
        trade: tuple[str, str, str, str, bool] | None = None,  # price, size, fee and its currency, whether a maker
    ) -> None:
        """One change of an order; `name` is the client_order_id of a request that is not the order's own."""
        price, size, fee, currency, is_maker = trade or _NO_TRADE
        cum = order.cum
        self.outputs.append(
            Output(
                REPORTS,
                self.now_ms,
                {
                    "account": order.seat.account,
                    "venue": market[0],
                    "instrument": market[1],
                    "event_at": self.event_at,
                    "received_at": self.received_at,
                    "exec_id": exec_id,
                    "exec_type": exec_type,
                    "order_status": status,
                    "order_id": order.order_id,
                    "client_order_id": name or order.client_order_id,
                    "orig_client_order_id": orig,
                    "side": "buy" if order.side == BUY else "sell",
                    "order_type": order.order_type,
                    "time_in_force": order.time_in_force,
                    "price": None if order.price is None else text(order.price),
                    "quantity": text(order.quantity),
                    "leaves_quantity": text(order.left),
                    "cum_quantity": text(cum),
                    "last_price": price,
                    "last_quantity": size,
                    "average_price": text(divided(order.worth, cum)) if cum else None,
                    "fee": fee,
                    "fee_currency": currency,
                    "is_maker": is_maker,
                    "exec_ref_id": None,
                    "reason": reason,
                },
            )
        )
        if trade is not None:
            self.outputs.append(
                Output(
                    FILLS,
                    self.now_ms,
                    {
                        "account": order.seat.account,
                        "venue": market[0],
                        "instrument": market[1],
                        "event_at": self.event_at,
                        "received_at": self.received_at,
                        "fill_id": exec_id,
                        "side": "buy" if order.side == BUY else "sell",
                        "price": price,
                        "size": size,
                        "fee": fee,
                        "kind": None,
                        "corrects_id": None,
                    },
                )
            )

    def refuse(self, row: Mapping[str, Any], exec_id: str, exec_type: str, reason: str) -> None:
        """A request that changes nothing: of a new order `rejected`, of another `cancel_rejected`."""
        is_new = exec_type == "rejected"
        told = {
            **{column: row[column] for column in ("account", "venue", "instrument", "client_order_id", "side")},
            **{column: row.get(column) for column in ("orig_client_order_id", "order_id", "order_type", "time_in_force")},
            **{column: row.get(column) for column in ("price", "quantity")},
            **dict.fromkeys(("last_price", "last_quantity", "average_price", "fee", "fee_currency", "is_maker", "exec_ref_id")),
            "event_at": self.event_at,
            "received_at": self.received_at,
            "exec_id": exec_id,
            "exec_type": exec_type,
            "order_status": "rejected" if is_new else None,
            "leaves_quantity": "0" if is_new else None,
            "cum_quantity": "0" if is_new else None,
            "reason": reason,
        }
        self.outputs.append(Output(REPORTS, self.now_ms, told))


_NO_TRADE = (None, None, None, None, None)

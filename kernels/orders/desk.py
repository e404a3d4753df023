"""What one micro-batch writes of a shard's orders: what is sent to venues, and every transition with its cause."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from engine.checks import MOST
from engine.contract import Output
from kernels.orders.checks import Refusal
from kernels.orders.executions import EXACT
from kernels.orders.ids import client_order_id
from kernels.orders.order import NO_TRADE, TRADES, Change, Order, Report, Request
from kernels.orders.state import ANSWER, Account, Due, State, order_entry
from kernels.orders.worth import Mark, reserve_usd
from schemas.rows import instant_ms

GATE = "gate"
"""The source of cancels that nobody has requested: controls, and liquidations."""


class Cause(NamedTuple):
    """Why a row is written, as in `order_states`."""

    kind: str  # request, report, timer or mmp
    id: str


class Desk:
    """The orders of a shard during one micro-batch."""

    def __init__(self, state: State, now_ms: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self.outputs: list[Output] = []

    def remember(self, order: Order, name: str, digest: str) -> None:
        """Know a request by its client_order_id, with its contents."""
        order.ids[name] = None
        order.digests[name] = digest

    def send(self, account_name: str, order: Order, row: Mapping[str, Any], cause: Cause | None = None) -> None:
        """Send a request to the venue; `row` is one of `order_requests`, of a cancel only what names it."""
        account = self.state.account(account_name)
        kind, name = row["request"], row["client_order_id"]
        before = order.last_status
        quantity, price = decimal(row.get("quantity")), decimal(row.get("price"))
        orig = None if kind == "new" else row["orig_client_order_id"]
        order.ask(name, Request(kind, orig, self.now_ms, quantity, price))
        self.state.wake(Due(self.now_ms + self.state.answer_ms, ANSWER, account_name, (order.key, name)))
        account.sent += 1
        is_cancel = kind == "cancel"
        sent = {
            "venue": order.venue,
            "instrument": order.instrument,
            "instrument_partition": self.state.partition(f"{order.venue}:{order.instrument}"),
            "event_at": instant_ms(self.now_ms),
            "account": account_name,
            "number": account.sent,
            "client_order_id": name,
            "orig_client_order_id": orig,
            "parent_client_order_id": order.nature.parent,
            "order_id": None if kind == "new" else order.order_id,
            "request": kind,
            "source": row["source"],
            "owner_group": order.nature.owner_group or account_name,
            "side": order.side or "buy",
            "order_type": None if is_cancel else row.get("order_type"),
            "time_in_force": None if is_cancel else row.get("time_in_force") or "gtc",
            "price": None if is_cancel else digits(price),
            "quantity": None if is_cancel else digits(quantity),
            "is_reduce_only": None if is_cancel else order.nature.is_reduce_only,
            "expires_at": None if is_cancel else row.get("expires_at"),
        }
        self.outputs.append(Output("orders", self.now_ms, sent))
        self.reserve(account_name, order)
        event = "requested" if kind == "new" else f"{kind}_requested"
        change = Change(event, order.status(), reason=row.get("reason"))
        self.transition(account_name, order, cause or Cause("request", name), change, before, orig=orig)

    def cancel(self, account_name: str, order: Order, source: str, why: str | None, cause: Cause | None = None) -> None:
        """Ask the venue to cancel an open order."""
        about = (self.now_ms,) if cause is None else cause
        name = client_order_id(source, account_name, order.key, *about)
        row = {"client_order_id": name, "orig_client_order_id": order.client_order_id, "request": "cancel", "source": source}
        self.remember(order, name, "")
        self.send(account_name, order, row | {"reason": why}, cause)

    def refuse(self, account_name: str, order: Order, row: Mapping[str, Any], refused: Refusal) -> None:
        """Say why a request is not sent."""
        change = Change("refused", order.status(), reason=refused.reason)
        cause, orig = Cause("request", row["client_order_id"]), row.get("orig_client_order_id")
        self.transition(account_name, order, cause, change, order.last_status, refused.rule, orig=orig)

    def reserve(self, account_name: str, order: Order) -> None:
        """Keep back credit for what an order may still trade."""
        order.reserved_usd = self.needed(account_name, order, order.largest_left)

    def needed(self, account_name: str, order: Order, quantity: Decimal) -> float:
        """What credit keeps back for contracts of an order; what cannot be valued keeps what it did."""
        market = f"{order.venue}:{order.instrument}"
        contract, mark = self.state.listing.terms.get(market), self.state.marks.get(market, Mark())
        if order.nature.is_reduce_only or quantity <= 0 or contract is None:
            return 0.0
        limits = self.state.rules.limits_of(account_name)
        asked_prices = [request.price for request in order.requests.values() if request.price is not None]
        prices = [float(price) for price in (order.price, *asked_prices) if price is not None]
        price = max(prices) if prices else mark.price
        needed = None if price is None else reserve_usd(contract, mark, order.side, quantity, price, limits)
        return order.reserved_usd if needed is None else max(0.0, min(MOST, needed))

    def transition(
        self,
        account_name: str,
        order: Order,
        cause: Cause,
        change: Change,
        before: str | None,
        rule: str | None = None,
        *,
        orig: str | None = None,
        report: Report | None = None,
    ) -> None:
        """Write a row of `order_states`, and store the order."""
        order.rows += 1
        order.changed_ms = self.now_ms
        order.last_status = change.status
        trade = report if report is not None and report.exec_type in TRADES else NO_TRADE
        row = {
            "account": account_name,
            "venue": order.venue,
            "instrument": order.instrument,
            "event_at": instant_ms(self.now_ms),
            "order_key": order.key,
            "number": order.rows,
            "client_order_id": order.client_order_id,
            "orig_client_order_id": orig if report is None else report.orig_client_order_id,
            "cause": cause.kind,
            "cause_id": cause.id,
            "event": change.event,
            "from_status": before,
            "order_status": change.status,
            "side": order.side,
            "price": digits(order.price),
            "quantity": digits(order.quantity),
            "cum_quantity": digits(order.cum_quantity),
            "leaves_quantity": digits(order.leaves_quantity),
            "average_price": digits(order.executions.average()),
            "last_price": digits(trade.last_price),
            "last_quantity": digits(trade.last_quantity),
            "last_fee": digits(trade.fee),
            "fee_currency": trade.fee_currency,
            "reserved_usd": order.reserved_usd,
            "rule": rule,
            "reason": change.reason,
        }
        self.outputs.append(Output("order_states", self.now_ms, row))
        self.state.keep(account_name, order)
        self.state.touched.add(f"account/{account_name}")

    def drop(self, account_name: str, order: Order) -> None:
        """Count an order no more, which turns out to be another one."""
        self.state.account(account_name).discount(order)
        self.state.touched.add(order_entry(account_name, order.key))

    def resting(self, account: Account) -> list[Order]:
        """The open orders of an account, in the order of their keys."""
        return [account.open[key] for key in sorted(account.open)]


def decimal(number: Any) -> Decimal | None:
    """A number of a row; None for NULL."""
    return None if number is None else Decimal(str(number))


def digits(number: Decimal | None) -> str | None:
    """A number for a row: plain digits without zeros at the end."""
    return None if number is None else f"{number.normalize(EXACT):f}"

"""One micro-batch of an account's orders: requests, reports, and what is due by time."""

import heapq
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from hashlib import sha256
from typing import Any

from engine.contract import Output
from kernels.gate import Held
from kernels.orders.checks import Intent, Refusal, View, refusal, request_of
from kernels.orders.executions import EXACT, ZERO
from kernels.orders.ids import client_order_id
from kernels.orders.order import NO_TRADE, TRADES, Change, Nature, Order, Report, Request
from kernels.orders.state import Account, Due, State, Unbooked, kept_ms, order_entry
from kernels.orders.worth import Mark, reserve_usd
from schemas.controls import CANCEL_ALL
from schemas.rows import encoded, instant_ms, to_ms

SECOND_MS, GATE = 1000, "gate"
CONTENTS = (
    *("venue", "instrument", "request", "orig_client_order_id", "side", "order_type", "time_in_force", "price", "quantity"),
    *("is_reduce_only", "expires_at", "owner_group", "source"),
)
"""What a repeat of a request has in common with the first."""


class Desk:
    """The orders of a shard during one micro-batch."""

    def __init__(self, state: State, now_ms: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self.outputs: list[Output] = []

    def request(self, row: Mapping[str, Any]) -> None:
        """Take a checked row of `order_requests`: send it, or say why not.  A repeat does nothing."""
        account_name, name = row["account"], row["client_order_id"]
        account = self.state.account(account_name)
        digest = _digest(row)
        known = account.orders.get(name)
        if known is not None:
            self._again(account_name, known, row, digest)
            return
        order = account.orders.get(row["orig_client_order_id"]) if row["request"] != "new" else self._new(row)
        if order is None:
            order = self._new(row)
            order.ending = "rejected"
            self._remember(order, name, digest)
            why = f"no order has, or had lately, the client_order_id {row['orig_client_order_id']}"
            self._refuse(account_name, order, row, Refusal("unknown order", why))
            return
        self._remember(order, name, digest)
        refused = self._refusal(account_name, account, order, row)
        self._count(account, row)
        if refused is None:
            self._send(account_name, account, order, row)
            return
        if row["request"] == "new":
            order.ending = "rejected"
        self._refuse(account_name, order, row, refused)

    def _again(self, account_name: str, known: Order, row: Mapping[str, Any], digest: str) -> None:
        name = row["client_order_id"]
        other = f"{name}/{digest}"
        if known.digests.get(name) == digest or other in known.digests:
            return
        known.digests[other] = digest
        why = f"client_order_id {name} is known, with other contents"
        self._refuse(account_name, known, row, Refusal("client_order_id", why))

    def liquidation(self, row: Mapping[str, Any]) -> None:
        """Take a checked row of `liquidation_orders`: cancel the account's own open orders, then request it."""
        name = client_order_id("liquidation", row["order_id"])
        if self.state.account(row["account"]).orders.get(name) is not None:
            return
        is_old = self.now_ms - to_ms(row["event_at"]) > self.state.rules.limits_of(row["account"]).max_age_s * SECOND_MS
        for order in self._resting(row["account"]):
            if order.nature.source != "liquidation" and not is_old:
                self._cancel(row["account"], order, f"the account is liquidated by {row['order_id']}")
        contract = self.state.listing.terms.get(f"{row['venue']}:{row['instrument']}")
        # Towards less: it may not trade worse than its limit, nor more than was decided.
        tick, lot = (contract.tick_size, contract.lot_size) if contract is not None else (None, None)
        size = on_grid(Decimal(repr(row["size"])), lot, ROUND_FLOOR)
        limit = row.get("limit_price")
        if limit is not None:
            limit = on_grid(Decimal(repr(limit)), tick, ROUND_FLOOR if row["side"] == "buy" else ROUND_CEILING)
        self.request(
            {
                **{column: row[column] for column in ("account", "venue", "instrument", "event_at", "side")},
                "client_order_id": name,
                "orig_client_order_id": None,
                "parent_client_order_id": None,
                "request": "new",
                "source": "liquidation",
                "owner_group": None,
                "order_type": "market" if limit is None else "limit",
                "time_in_force": "ioc",
                "price": _digits(limit),
                "quantity": _digits(size),
                "is_reduce_only": True,
                "expires_at": None,
                "max_notional_usd": None,
                "reason": row["reason"],
            }
        )

    def report(self, row: Mapping[str, Any]) -> None:
        """Take a checked row of `execution_reports`."""
        account_name = row["account"]
        account, report = self.state.account(account_name), _report(row)
        order, change, absorbed = account.orders.apply(report, row["venue"], row["instrument"])
        for other in absorbed:
            other.ending = "cancelled"  # it is the other one now
            account.count(other)
            self.state.touched.add(order_entry(account_name, other.key))
        if change is None:
            return
        before = order.told_status
        if report.exec_type in TRADES and change.event != "conflict":
            self._unbooked(account_name, account, order, report, change)
        self._reserve(account_name, order)
        self._row(account_name, order, "report", report.exec_id, change, before, report=report)

    def due(self) -> None:
        """Report requests that nobody answers, and forget orders that ended long ago."""
        queue = self.state.due
        while queue and queue[0].at_ms <= self.now_ms:
            _, account_name, key, name = heapq.heappop(queue)
            account = self.state.accounts.get(account_name)
            order = account.orders.by_key.get(key) if account else None
            if order is None:
                continue
            if name == "":
                if not order.is_working and order.changed_ms + kept_ms(order) <= self.now_ms:
                    self.state.forget(account_name, order)
            elif (request := order.requests.get(name)) is not None and not request.is_unanswered:
                order.requests[name] = request._replace(is_unanswered=True)
                why = f"no answer to the {request.kind} {name} within {self.state.rules.answer_s:g} s"
                self._row(
                    account_name, order, "timer", name, Change("unanswered", order.status(), reason=why), order.told_status
                )

    def obey(self) -> None:
        """Cancel what the gate says must not rest."""
        gate = self.state.gate
        if not any(control["mode"] == CANCEL_ALL for control in gate.controls.values()):
            return
        for account_name in sorted(self.state.accounts):
            account = self.state.accounts[account_name]
            for order in self._resting(account_name):
                intent = _intent_of(account_name, order)
                request = request_of(intent, self._view(account, order, intent))
                (must_end,) = gate.to_cancel([request])
                if must_end and (held := gate.control(request)) is not None:
                    self._cancel(account_name, order, held.why)

    def _resting(self, account_name: str) -> list[Order]:
        """The open orders of an account whose cancel has not been asked for, in the order of their keys."""
        account = self.state.account(account_name)
        resting = [account.open[key] for key in sorted(account.open)]
        return [order for order in resting if not any(request.kind == "cancel" for request in order.requests.values())]

    def _cancel(self, account_name: str, order: Order, why: str) -> None:
        name = client_order_id(GATE, account_name, order.key, self.now_ms)
        row = {"client_order_id": name, "orig_client_order_id": order.client_order_id, "request": "cancel", "source": GATE}
        self._remember(order, name, "")
        self._send(account_name, self.state.account(account_name), order, row | {"reason": why})

    def _new(self, row: Mapping[str, Any]) -> Order:
        nature = Nature(
            row["source"],
            row.get("owner_group"),
            row.get("parent_client_order_id"),
            bool(row.get("is_reduce_only")),
            row.get("expires_at"),
        )
        return Order(
            row["client_order_id"],
            venue=row["venue"],
            instrument=row["instrument"],
            side=row.get("side"),
            quantity=_decimal(row.get("quantity")),
            price=_decimal(row.get("price")),
            order_type=row.get("order_type"),
            time_in_force=row.get("time_in_force") or "gtc",
            nature=nature,
        )

    def _refusal(self, account_name: str, account: Account, order: Order, row: Mapping[str, Any]) -> Refusal | None:
        differing = [column for column in ("venue", "instrument") if row[column] != getattr(order, column)]
        if row["request"] == "replace" and row.get("side") != order.side:
            differing.append("side")
        if differing:
            return Refusal("form", "; ".join(f"{column} {row.get(column)} of an order with another" for column in differing))
        if row["request"] == "cancel":
            is_over = order.ending is not None or (order.quantity is not None and not order.is_working)
            return Refusal("too late", f"the order is {order.status()}, nothing is left of it") if is_over else None
        if row["request"] == "replace" and order.ending is not None:
            return Refusal("too late", f"the order is {order.status()}")
        intent = _intent(account_name, order, row)
        view = self._view(account, order, intent)
        view = view._replace(held=self._held(intent, view))
        rules = self.state.rules
        return refusal(intent, view, rules.limits_of(account_name), rules.exempt.get(intent.source, frozenset()))

    def _held(self, intent: Intent, view: View) -> Held | None:
        """What the gate holds the order for."""
        request, (venue, instrument) = request_of(intent, view), (intent.venue, intent.instrument)
        halted = self.state.halts.held(venue, instrument)
        conditions = [held for held in (halted, self.state.breaks.held(request)) if held is not None]
        return self.state.gate.held(request, conditions)

    def _view(self, account: Account, order: Order, intent: Intent) -> View:
        market, alike = f"{intent.venue}:{intent.instrument}", _alike(intent)
        account.lately = [(ms, like) for ms, like in account.lately if ms > self.now_ms - SECOND_MS]
        return View(
            self.now_ms,
            self.state.listing.terms.get(market),
            self.state.marks.get(market, Mark()),
            None,
            market in self.state.rules.restricted,
            account.position(market),
            account.opened(market, "buy", without=order),
            account.opened(market, "sell", without=order),
            account.free_usd(without=order),
            order.reserved_usd,
            len(account.open) - (order.key in account.open),
            len(account.lately),
            sum(like == alike for _, like in account.lately),
        )

    def _count(self, account: Account, row: Mapping[str, Any]) -> None:
        if row["request"] != "cancel":
            account.lately.append((self.now_ms, _alike_row(row)))

    def _send(self, account_name: str, account: Account, order: Order, row: Mapping[str, Any]) -> None:
        kind, name = row["request"], row["client_order_id"]
        before = order.told_status
        quantity, price = _decimal(row.get("quantity")), _decimal(row.get("price"))
        orig = None if kind == "new" else row["orig_client_order_id"]
        order.ask(name, Request(kind, orig, self.now_ms, quantity, price))
        self.state.wake(Due(self.now_ms + round(self.state.rules.answer_s * SECOND_MS), account_name, order.key, name))
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
            "price": None if is_cancel else _digits(price),
            "quantity": None if is_cancel else _digits(quantity),
            "is_reduce_only": None if is_cancel else order.nature.is_reduce_only,
            "expires_at": None if is_cancel else row.get("expires_at"),
        }
        self.outputs.append(Output("orders", self.now_ms, sent))
        self._reserve(account_name, order)
        event = "requested" if kind == "new" else f"{kind}_requested"
        change = Change(event, order.status(), reason=row.get("reason"))
        self._row(account_name, order, "request", name, change, before, orig=orig)

    def _refuse(self, account_name: str, order: Order, row: Mapping[str, Any], refused: Refusal) -> None:
        change = Change("refused", order.status(), reason=refused.reason)
        name, orig = row["client_order_id"], row.get("orig_client_order_id")
        self._row(account_name, order, "request", name, change, order.told_status, refused.rule, orig=orig)

    def _remember(self, order: Order, name: str, digest: str) -> None:
        order.ids[name] = None
        order.digests[name] = digest

    def _unbooked(self, account_name: str, account: Account, order: Order, report: Report, change: Change) -> None:
        """Keep back the part of a fill until a row of margin includes it."""
        booked_ms = account.booked.pop(report.exec_id, None)
        signed = change.traded if order.side == "buy" else -change.traded
        kept = self._needed(account_name, order, max(change.traded, ZERO))
        account.unbooked[report.exec_id] = Unbooked(f"{order.venue}:{order.instrument}", signed, kept, booked_ms)
        self.state.touched.add(f"account/{account_name}")

    def _reserve(self, account_name: str, order: Order) -> None:
        order.reserved_usd = self._needed(account_name, order, order.largest_left)

    def _needed(self, account_name: str, order: Order, quantity: Decimal) -> float:
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
        return order.reserved_usd if needed is None else needed

    def _row(
        self,
        account_name: str,
        order: Order,
        cause: str,
        cause_id: str,
        change: Change,
        before: str | None,
        rule: str | None = None,
        *,
        orig: str | None = None,
        report: Report | None = None,
    ) -> None:
        order.rows += 1
        order.changed_ms = self.now_ms
        order.told_status = change.status
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
            "cause": cause,
            "cause_id": cause_id,
            "event": change.event,
            "from_status": before,
            "order_status": change.status,
            "side": order.side,
            "price": _digits(order.price),
            "quantity": _digits(order.quantity),
            "cum_quantity": _digits(order.cum_quantity),
            "leaves_quantity": _digits(order.leaves_quantity),
            "average_price": _digits(order.executions.average()),
            "last_price": _digits(trade.last_price),
            "last_quantity": _digits(trade.last_quantity),
            "last_fee": _digits(trade.fee),
            "fee_currency": trade.fee_currency,
            "reserved_usd": order.reserved_usd,
            "rule": rule,
            "reason": change.reason,
        }
        self.outputs.append(Output("order_states", self.now_ms, row))
        self.state.keep(account_name, order)
        self.state.touched.add(f"account/{account_name}")


def on_grid(number: Decimal, step: float | None, rounding: str) -> Decimal:
    """The nearest multiple of a step on one side; the number itself where there is no step."""
    if not step:
        return number
    each = Decimal(repr(step))
    return EXACT.multiply(EXACT.divide(number, each).to_integral_value(rounding), each).normalize(EXACT)


def _report(row: Mapping[str, Any]) -> Report:
    reason = row.get("reason")
    return Report(
        row["exec_id"],
        row["exec_type"],
        to_ms(row["event_at"]),
        row.get("client_order_id"),
        row.get("orig_client_order_id"),
        row.get("order_id"),
        row.get("order_status"),
        row["side"],
        price=_decimal(row.get("price")),
        quantity=_decimal(row.get("quantity")),
        cum_quantity=_decimal(row.get("cum_quantity")),
        last_price=_decimal(row.get("last_price")),
        last_quantity=_decimal(row.get("last_quantity")),
        exec_ref_id=row.get("exec_ref_id"),
        reason=reason,
        # At-least-once: an order that was sent again is refused as such, and stands as it did.
        is_repeat=reason is not None and "duplicate" in reason.lower(),
        fee=_decimal(row.get("fee")),
        fee_currency=row.get("fee_currency"),
    )


def _intent(account_name: str, order: Order, row: Mapping[str, Any]) -> Intent:
    expires_at = row.get("expires_at")
    return Intent(
        account_name,
        row["venue"],
        row["instrument"],
        row["source"],
        row.get("side"),
        row.get("order_type"),
        row.get("time_in_force") or "gtc",
        _decimal(row.get("price")),
        _decimal(row.get("quantity")),
        order.nature.is_reduce_only,
        to_ms(row["event_at"]),
        None if expires_at is None else to_ms(expires_at),
        row.get("max_notional_usd"),
        order.cum_quantity,
    )


def _intent_of(account_name: str, order: Order) -> Intent:
    """The order as it rests."""
    nature = order.nature
    return Intent(
        account_name,
        order.venue,
        order.instrument,
        nature.source,
        order.side,
        order.order_type,
        order.time_in_force or "gtc",
        order.price,
        order.quantity,
        nature.is_reduce_only,
        traded=order.cum_quantity,
    )


def _alike(intent: Intent) -> str:
    return f"{intent.venue}:{intent.instrument} {intent.side} {intent.order_type} {intent.price} {intent.quantity}"


def _alike_row(row: Mapping[str, Any]) -> str:
    price, quantity = _decimal(row.get("price")), _decimal(row.get("quantity"))
    return f"{row['venue']}:{row['instrument']} {row.get('side')} {row.get('order_type')} {price} {quantity}"


def _digest(row: Mapping[str, Any]) -> str:
    contents = {column: row.get(column) for column in CONTENTS}
    for column in ("price", "quantity"):
        number = _decimal(contents[column])
        contents[column] = None if number is None else f"{number.normalize(EXACT):f}"
    return sha256(encoded(contents)).hexdigest()[:16]


def _decimal(number: Any) -> Decimal | None:
    return None if number is None else Decimal(str(number))


def _digits(number: Decimal | None) -> str | None:
    return None if number is None else f"{number.normalize(EXACT):f}"

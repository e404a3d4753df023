"""Requests for an order, and decisions of liquidations: checked, then sent or refused."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from hashlib import sha256
from typing import Any

from engine.checks import LEAST
from kernels.gate import Held
from kernels.orders.checks import Intent, Refusal, View, refusal, request_of
from kernels.orders.desk import GATE, Desk, decimal, digits
from kernels.orders.executions import EXACT, ZERO
from kernels.orders.ids import client_order_id
from kernels.orders.order import Nature, Order
from kernels.orders.state import Account
from kernels.orders.worth import Mark
from schemas.rows import encoded, to_ms

SECOND_MS = 1000
CONTENTS = (
    *("venue", "instrument", "request", "orig_client_order_id", "side", "order_type", "time_in_force", "price", "quantity"),
    *("is_reduce_only", "expires_at", "owner_group", "source"),
)
LATER_CONTENTS = frozenset(
    ("is_mmp", "after_s", "underlying", "window_s", "frozen_s", "max_fills", "max_quantity", "max_delta")
)
"""What a repeat of a request has in common with the first; of the later ones what is not NULL."""


def take(desk: Desk, row: Mapping[str, Any]) -> None:
    """Take a checked row of `order_requests` for one order: send it, or say why not.  A repeat does nothing."""
    account_name, name = row["account"], row["client_order_id"]
    account, digest = desk.state.account(account_name), digest_of(row)
    if (known := account.orders.get(name)) is not None:
        _repeated(desk, known, row, digest)
        return
    order = account.orders.get(row["orig_client_order_id"]) if row["request"] != "new" else _new(row)
    if order is None:
        order = _new(row)
        order.ending = "rejected"
        desk.remember(order, name, digest)
        why = f"no order has, or had lately, the client_order_id {row['orig_client_order_id']}"
        desk.refuse(account_name, order, row, Refusal("unknown order", why))
        return
    desk.remember(order, name, digest)
    refused = _refusal(desk, account, order, row)
    if row["request"] != "cancel":
        account.lately.add(desk.now_ms, _alike_row(row))
    if refused is None:
        desk.send(account_name, order, row)
        return
    if row["request"] == "new":
        order.ending = "rejected"
    desk.refuse(account_name, order, row, refused)


def liquidate(desk: Desk, row: Mapping[str, Any]) -> None:
    """Take a checked row of `liquidation_orders`: cancel the account's own open orders, then request it."""
    account_name, name = row["account"], client_order_id("liquidation", row["order_id"])
    account = desk.state.account(account_name)
    if account.orders.get(name) is not None:
        return
    is_old = desk.now_ms - to_ms(row["event_at"]) > desk.state.rules.limits_of(account_name).max_age_s * SECOND_MS
    for order in desk.resting(account):
        if not (is_old or order.nature.source == "liquidation" or order.is_cancel_asked):
            desk.cancel(account_name, order, GATE, f"the account is liquidated by {row['order_id']}")
    contract = desk.state.listing.terms.get(f"{row['venue']}:{row['instrument']}")
    # Towards less: it may not trade worse than its limit, nor more than was decided.
    tick, lot = (contract.tick_size, contract.lot_size) if contract is not None else (None, None)
    size = on_grid(Decimal(repr(row["size"])), lot or LEAST, ROUND_FLOOR)
    if not size and lot and _left_to_close(account, row) >= (least := Decimal(repr(lot))):
        size = least  # a part of a lot is nothing, and the account would never be smaller
    limit = row.get("limit_price")
    if limit is not None:
        limit = on_grid(Decimal(repr(limit)), tick or LEAST, ROUND_FLOOR if row["side"] == "buy" else ROUND_CEILING)
    request = {
        **{column: row[column] for column in ("account", "venue", "instrument", "event_at", "side")},
        "client_order_id": name,
        "orig_client_order_id": None,
        "parent_client_order_id": None,
        "request": "new",
        "source": "liquidation",
        "owner_group": None,
        "order_type": "market" if limit is None else "limit",
        "time_in_force": "ioc",
        "price": digits(limit),
        "quantity": digits(size),
        "is_reduce_only": True,
        "expires_at": None,
        "max_notional_usd": None,
        "reason": row["reason"],
    }
    take(desk, request)


def _left_to_close(account: Account, row: Mapping[str, Any]) -> Decimal:
    """Contracts of a position that no order of a liquidation is to close yet."""
    held = account.position(f"{row['venue']}:{row['instrument']}")
    closing = [
        order.largest_left
        for order in account.open.values()
        if order.nature.source == "liquidation" and (order.venue, order.instrument) == (row["venue"], row["instrument"])
    ]
    return (held if row["side"] == "sell" else -held) - sum(closing, ZERO)


def view_of(desk: Desk, account: Account, order: Order, intent: Intent) -> View:
    """What is known of an order that is about to be sent, or rests; but not what the gate says."""
    state, market = desk.state, f"{intent.venue}:{intent.instrument}"
    lately, alike_lately = account.lately.since(desk.now_ms - SECOND_MS, _alike(intent))
    return View(
        desk.now_ms,
        state.listing.terms.get(market),
        state.marks.get(market, Mark()),
        None,
        market in state.rules.restricted,
        account.position(market),
        account.opened(market, "buy", without=order),
        account.opened(market, "sell", without=order),
        account.free_usd(without=order),
        order.reserved_usd,
        len(account.open) - (order.key in account.open),
        lately,
        alike_lately,
    )


def resting_intent(account_name: str, order: Order) -> Intent:
    """An order as it rests."""
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
        is_mmp=nature.is_mmp,
    )


def on_grid(number: Decimal, step: float | None, rounding: str) -> Decimal:
    """The nearest multiple of a step on one side; the number itself where there is no step."""
    if not step:
        return number
    each = Decimal(repr(step))
    return EXACT.multiply(EXACT.divide(number, each).to_integral_value(rounding), each).normalize(EXACT)


def digest_of(row: Mapping[str, Any]) -> str:
    """The contents of a request in short: equal for a repeat, also with other digits of the same number."""
    contents = {column: row.get(column) for column in CONTENTS}
    for column in ("price", "quantity"):
        number = decimal(contents[column])
        contents[column] = None if number is None else f"{number.normalize(EXACT):f}"
    if not LATER_CONTENTS.isdisjoint(row):
        contents |= {column: row[column] for column in sorted(LATER_CONTENTS) if row.get(column) is not None}
    return sha256(encoded(contents)).hexdigest()[:16]


def _repeated(desk: Desk, known: Order, row: Mapping[str, Any], digest: str) -> None:
    name = row["client_order_id"]
    conflicting = f"{name}/{digest}"
    if known.digests.get(name) == digest or conflicting in known.digests:
        return
    known.digests[conflicting] = digest
    why = f"client_order_id {name} is known, with other contents"
    desk.refuse(row["account"], known, row, Refusal("client_order_id", why))


def _new(row: Mapping[str, Any]) -> Order:
    nature = Nature(
        row["source"],
        row.get("owner_group"),
        row.get("parent_client_order_id"),
        bool(row.get("is_reduce_only")),
        row.get("expires_at"),
        bool(row.get("is_mmp")),
    )
    return Order(
        row["client_order_id"],
        venue=row["venue"],
        instrument=row["instrument"],
        side=row.get("side"),
        quantity=decimal(row.get("quantity")),
        price=decimal(row.get("price")),
        order_type=row.get("order_type"),
        time_in_force=row.get("time_in_force") or "gtc",
        nature=nature,
    )


def _refusal(desk: Desk, account: Account, order: Order, row: Mapping[str, Any]) -> Refusal | None:
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
    intent = _intent(row, order)
    view = view_of(desk, account, order, intent)
    unprotected = _unprotected(desk, intent, view) if intent.is_mmp else None
    view = view._replace(held=_held(desk, intent, view), unprotected=unprotected)
    rules = desk.state.rules
    return refusal(intent, view, rules.limits_of(row["account"]), rules.exempt.get(intent.source, frozenset()))


def _held(desk: Desk, intent: Intent, view: View) -> Held | None:
    """What the gate holds the order for.

    A circuit break holds no post-only order: it takes no price, and without such orders nobody could trade with those who exit.
    """
    request, state = request_of(intent, view), desk.state
    halted = state.halts.held(intent.venue, intent.instrument)
    broken = None if intent.time_in_force == "post_only" else state.breaks.held(request)
    return state.gate.held(request, [held for held in (halted, broken) if held is not None])


def _unprotected(desk: Desk, intent: Intent, view: View) -> str | None:
    """Why market-maker protection refuses a marked order."""
    if view.contract is None:
        return None
    underlying = view.contract.underlying
    guards = desk.state.guards.get(intent.account)
    protection = guards.protections.get(underlying) if guards is not None else None
    why = "no protection is set" if protection is None else protection.refuses(desk.now_ms)
    return None if why is None else f"{underlying}: {why}"


def _intent(row: Mapping[str, Any], order: Order) -> Intent:
    expires_at = row.get("expires_at")
    return Intent(
        row["account"],
        row["venue"],
        row["instrument"],
        row["source"],
        row.get("side"),
        row.get("order_type"),
        row.get("time_in_force") or "gtc",
        decimal(row.get("price")),
        decimal(row.get("quantity")),
        order.nature.is_reduce_only,
        to_ms(row["event_at"]),
        None if expires_at is None else to_ms(expires_at),
        row.get("max_notional_usd"),
        order.cum_quantity,
        order.nature.is_mmp,
    )


def _alike(intent: Intent) -> str:
    return f"{intent.venue}:{intent.instrument} {intent.side} {intent.order_type} {intent.price} {intent.quantity}"


def _alike_row(row: Mapping[str, Any]) -> str:
    price, quantity = decimal(row.get("price")), decimal(row.get("quantity"))
    return f"{row['venue']}:{row['instrument']} {row.get('side')} {row.get('order_type')} {price} {quantity}"

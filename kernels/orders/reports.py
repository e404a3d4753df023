"""Reports of venues: what they change of an order, and what credit keeps back for fills."""

from collections.abc import Mapping
from typing import Any

from kernels.orders import guarding
from kernels.orders.desk import Cause, Desk, decimal
from kernels.orders.executions import ZERO
from kernels.orders.order import TRADES, Change, Order, Report
from kernels.orders.state import Unbooked
from schemas.rows import to_ms


def take(desk: Desk, row: Mapping[str, Any]) -> None:
    """Take a checked row of `execution_reports`."""
    account_name, report = row["account"], _report(row)
    order, change, absorbed = desk.state.account(account_name).orders.apply(report, row["venue"], row["instrument"])
    for same_order in absorbed:
        desk.drop(account_name, same_order)
    if absorbed:
        desk.state.wake_answers(account_name, order)
    if change is None:
        # Its ids, and what was absorbed, may be new all the same.
        desk.state.keep(account_name, order)
        return
    before = order.last_status
    if report.exec_type in TRADES and change.event != "conflict":
        _keep_unbooked(desk, account_name, order, report, change)
    desk.reserve(account_name, order)
    desk.transition(account_name, order, Cause("report", report.exec_id), change, before, report=report)
    # A maker's protection is against being hit: what it took itself does not count.
    if order.nature.is_mmp and change.event == "trade" and change.traded > 0 and row.get("is_maker") is not False:
        guarding.count_fill(desk, account_name, order, report, change.traded)


def _keep_unbooked(desk: Desk, account_name: str, order: Order, report: Report, change: Change) -> None:
    """Keep back the part of a fill until a row of margin includes it."""
    account = desk.state.account(account_name)
    booked_ms = account.booked.pop(report.exec_id, None)
    signed = change.traded if order.side == "buy" else -change.traded
    kept = desk.needed(account_name, order, max(change.traded, ZERO))
    account.unbooked[report.exec_id] = Unbooked(f"{order.venue}:{order.instrument}", signed, kept, booked_ms)
    desk.state.touched.add(f"account/{account_name}")


def _report(row: Mapping[str, Any]) -> Report:
    reason = row.get("reason")
    return Report(
        row["exec_id"],
        row["exec_type"],
        to_ms(row["event_at"]),
        row.get("client_order_id") or None,
        row.get("orig_client_order_id") or None,
        row.get("order_id") or None,
        row.get("order_status"),
        row["side"],
        price=decimal(row.get("price")),
        quantity=decimal(row.get("quantity")),
        cum_quantity=decimal(row.get("cum_quantity")),
        last_price=decimal(row.get("last_price")),
        last_quantity=decimal(row.get("last_quantity")),
        exec_ref_id=row.get("exec_ref_id"),
        reason=reason,
        # At-least-once: an order that was sent again is refused as such, and stands as it did.
        is_repeat=reason is not None and "duplicate" in reason.lower(),
        fee=decimal(row.get("fee")),
        fee_currency=row.get("fee_currency"),
    )

"""What cancels many orders of an account at once: controls, requests to cancel all, timers, and market-maker protection.

An order of a liquidation is nobody's to cancel but by controls.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from engine.contract import Output
from kernels.orders.checks import Refusal, request_of
from kernels.orders.desk import GATE, Cause, Desk
from kernels.orders.guards import KEPT_MS, Fill, Guards, Protection, Scope, Timer
from kernels.orders.intake import digest_of, resting_intent, view_of
from kernels.orders.order import Order, Report
from kernels.orders.requests import CANCEL_ALL, MMP, MMP_RESET, TIMER
from kernels.orders.worth import Mark, underlying_quantity, unit_delta
from schemas import controls
from schemas.rows import instant_ms, to_ms


def obey(desk: Desk) -> None:
    """Cancel what the gate says must not rest."""
    gate = desk.state.gate
    if not any(control["mode"] == controls.CANCEL_ALL for control in gate.controls.values()):
        return
    for account_name in sorted(desk.state.accounts):
        account = desk.state.accounts[account_name]
        for order in desk.resting(account):
            if order.is_cancel_asked:
                continue
            intent = resting_intent(account_name, order)
            request = request_of(intent, view_of(desk, account, order, intent))
            (must_end,) = gate.to_cancel([request])
            if must_end and (held := gate.control(request)) is not None:
                desk.cancel(account_name, order, GATE, held.why)


def take(desk: Desk, row: Mapping[str, Any]) -> None:
    """Take a checked row of `order_requests` for all orders of an account.  A repeat does nothing."""
    guards, name, digest = desk.state.guards_of(row["account"]), row["client_order_id"], digest_of(row)
    first = guards.take(name, digest, desk.now_ms)
    if first is not None:
        if first != digest and guards.take(f"{name}/{digest}", digest, desk.now_ms) is None:
            _refuse(desk, row, Refusal("client_order_id", f"client_order_id {name} is known, with other contents"))
        return
    age_ms = desk.now_ms - to_ms(row["event_at"])
    if age_ms >= KEPT_MS:
        _refuse(desk, row, Refusal("age", f"decided {age_ms / 1000:g} s ago, and may be a repeat after {KEPT_MS / 1000:g} s"))
        return
    _TAKES[row["request"]](desk, guards, row)


def run_out(desk: Desk, account_name: str, scope: Scope) -> None:
    """Cancel the orders of a timer, if its time is over."""
    guards = desk.state.guards.get(account_name)
    timer = None if guards is None else guards.timers.get(scope)
    if guards is None or timer is None or timer.ends_ms is None or timer.ends_ms > desk.now_ms:
        return
    guards.timers[scope] = timer._replace(ends_ms=None)
    why = f"the timer of {timer.client_order_id} ran out at {instant_ms(timer.ends_ms)}"
    cause = Cause("timer", timer.client_order_id)
    count = _cancel_all(desk, account_name, lambda order: _is_within(order, scope), TIMER, why, cause)
    _write(desk, account_name, TIMER, "ran_out", cause.id, scope=scope, orders=count, reason=why)


def count_fill(desk: Desk, account_name: str, order: Order, report: Report, traded: Decimal) -> None:
    """Count a fill of a marked order; cancel all that are marked if it hits a limit."""
    market = f"{order.venue}:{order.instrument}"
    contract = desk.state.listing.terms.get(market)
    guards = desk.state.guards.get(account_name)
    protection = guards.protections.get(contract.underlying) if guards is not None and contract is not None else None
    if protection is None or contract is None:
        return
    price = None if report.last_price is None else float(report.last_price)
    quantity = underlying_quantity(contract, traded, price)
    delta = quantity * unit_delta(contract, desk.state.marks.get(market, Mark()), desk.now_ms)
    fill = Fill(report.event_ms, quantity, delta if order.side == "buy" else -delta)
    why = protection.count(report.exec_id, fill, desk.now_ms)
    desk.state.guards_of(account_name)  # to be stored
    if why is None:
        return
    protection.freeze(why, desk.now_ms)
    underlying, terms = contract.underlying, desk.state.listing.terms

    def is_protected(open_order: Order) -> bool:
        its_terms = terms.get(f"{open_order.venue}:{open_order.instrument}")
        return open_order.nature.is_mmp and its_terms is not None and its_terms.underlying == underlying

    reason = f"{underlying}: {why}"
    count = _cancel_all(desk, account_name, is_protected, MMP, reason, Cause(MMP, report.exec_id))
    ends_ms = protection.ends_ms
    _write(desk, account_name, MMP, "hit", report.exec_id, underlying=underlying, ends_ms=ends_ms, orders=count, reason=reason)


def _take_cancel_all(desk: Desk, _: Guards, row: Mapping[str, Any]) -> None:
    scope, name = _scope(row), row["client_order_id"]
    cause, why = Cause("request", name), row.get("reason")
    count = _cancel_all(desk, row["account"], lambda order: _is_within(order, scope), row["source"], why, cause)
    _write(desk, row["account"], CANCEL_ALL, "cancelled", name, scope=scope, orders=count, reason=why)


def _take_timer(desk: Desk, guards: Guards, row: Mapping[str, Any]) -> None:
    scope, set_ms, name = _scope(row), to_ms(row["event_at"]), row["client_order_id"]
    known = guards.timers.get(scope)
    if known is not None:
        if known.set_ms > set_ms:
            _refuse(desk, row, Refusal("age", f"it was set later, by {known.client_order_id}"))
            return
        if known.ends_ms is not None and known.ends_ms <= set_ms:
            run_out(desk, row["account"], scope)  # before it was set anew
    after_ms = round(row["after_s"] * 1000)
    guards.timers[scope] = timer = Timer(set_ms, set_ms + after_ms if after_ms else None, name)
    desk.state.wake_timer(row["account"], scope, timer)
    event = "cleared" if timer.ends_ms is None else "set"
    _write(desk, row["account"], TIMER, event, name, scope=scope, ends_ms=timer.ends_ms, reason=row.get("reason"))


def _take_mmp(desk: Desk, guards: Guards, row: Mapping[str, Any]) -> None:
    set_ms, name, underlying = to_ms(row["event_at"]), row["client_order_id"], row["underlying"]
    window_ms, frozen_ms = round(row["window_s"] * 1000), round((row.get("frozen_s") or 0) * 1000)
    known = guards.protections.get(underlying)
    if known is None:
        guards.protections[underlying] = Protection(set_ms, window_ms, frozen_ms, row)
    elif known.set_ms > set_ms:
        _refuse(desk, row, Refusal("age", "it was set later"))
        return
    else:
        known.set(set_ms, window_ms, frozen_ms, row)
    event = "set" if window_ms else "cleared"
    _write(desk, row["account"], MMP, event, name, underlying=underlying, reason=row.get("reason"))


def _take_mmp_reset(desk: Desk, guards: Guards, row: Mapping[str, Any]) -> None:
    if (protection := guards.protections.get(row["underlying"])) is not None:
        protection.reset()
    _write(desk, row["account"], MMP, "reset", row["client_order_id"], underlying=row["underlying"], reason=row.get("reason"))


_TAKES: dict[str, Callable[[Desk, Guards, Mapping[str, Any]], None]] = {
    CANCEL_ALL: _take_cancel_all,
    TIMER: _take_timer,
    MMP: _take_mmp,
    MMP_RESET: _take_mmp_reset,
}


def _cancel_all(
    desk: Desk, account_name: str, is_meant: Callable[[Order], bool], source: str, why: str | None, cause: Cause
) -> int:
    """Ask for the cancel of open orders; returns of how many.  A cancel that nobody has answered in time is asked for again."""
    account, count = desk.state.account(account_name), 0
    for order in desk.resting(account):
        if is_meant(order) and order.nature.source != "liquidation" and not order.is_cancel_awaited:
            desk.cancel(account_name, order, source, why, cause)
            count += 1
    return count


def _scope(row: Mapping[str, Any]) -> Scope:
    return row.get("venue") or "", row.get("instrument") or ""


def _is_within(order: Order, scope: Scope) -> bool:
    return scope[0] in ("", order.venue) and scope[1] in ("", order.instrument)


def _refuse(desk: Desk, row: Mapping[str, Any], refused: Refusal) -> None:
    guard = MMP if row["request"] == MMP_RESET else row["request"]
    scope, underlying = _scope(row), row.get("underlying")
    _write(
        desk,
        row["account"],
        guard,
        "refused",
        row["client_order_id"],
        scope=scope,
        underlying=underlying,
        rule=refused.rule,
        reason=refused.reason,
    )


def _write(
    desk: Desk,
    account_name: str,
    guard: str,
    event: str,
    cause_id: str,
    *,
    scope: Scope = ("", ""),
    underlying: str | None = None,
    ends_ms: int | None = None,
    orders: int | None = None,
    rule: str | None = None,
    reason: str | None = None,
) -> None:
    """Write a row of `order_guards`."""
    guards = desk.state.guards_of(account_name)
    guards.rows += 1
    row = {
        "account": account_name,
        "event_at": instant_ms(desk.now_ms),
        "number": guards.rows,
        "guard": guard,
        "event": event,
        "cause_id": cause_id,
        "venue": scope[0] or None,
        "instrument": scope[1] or None,
        "underlying": underlying,
        "ends_at": None if ends_ms is None else instant_ms(ends_ms),
        "orders": orders,
        "rule": rule,
        "reason": reason,
    }
    desk.outputs.append(Output("order_guards", desk.now_ms, row))

"""What is due by event time: answers that did not come, timers that run out, and orders that can be forgotten."""

import heapq

from kernels.orders import guarding
from kernels.orders.desk import Cause, Desk
from kernels.orders.order import Change
from kernels.orders.state import ANSWER, FORGET, OVERDUE, TIMER, kept_ms
from schemas.rows import instant_ms


def due(desk: Desk, since_ms: int) -> None:
    """Do what has become due since the batch before."""
    queue, overdue = desk.state.due, set()
    while queue and queue[0].at_ms <= desk.now_ms:
        at_ms, what, account_name, subject = heapq.heappop(queue)
        if what == TIMER:
            guarding.run_out(desk, account_name, subject)
        elif what == ANSWER:
            _unanswered(desk, account_name, *subject)
        elif what == FORGET:
            _forget(desk, account_name, subject[0])
        elif what == OVERDUE and at_ms > since_ms and at_ms == desk.state.overdue_ms(subject[0]):
            overdue.add(subject[0])
    for market in sorted(overdue):
        _overdue(desk, market)


def _unanswered(desk: Desk, account_name: str, key: str, name: str) -> None:
    """Report a request that nobody answers.  No state is made up."""
    account = desk.state.accounts.get(account_name)
    order = account.orders.by_key.get(key) if account else None
    request = order.requests.get(name) if order else None
    if order is None or request is None or request.is_unanswered:
        return
    order.requests[name] = request._replace(is_unanswered=True)
    why = f"no answer to the {request.kind} {name} within {desk.state.rules.answer_s:g} s"
    change = Change("unanswered", order.status(), reason=why)
    desk.transition(account_name, order, Cause("timer", name), change, order.last_status)


def _forget(desk: Desk, account_name: str, key: str) -> None:
    account = desk.state.accounts.get(account_name)
    order = account.orders.by_key.get(key) if account else None
    if order is not None and not order.is_working and order.changed_ms + kept_ms(order) <= desk.now_ms:
        desk.state.forget(account_name, order)


def _overdue(desk: Desk, market: str) -> None:
    """Report the orders for a contract whose trading has ended, and of which the venue has not said so."""
    end_ms = desk.state.listing.terms[market].end_ms
    assert end_ms is not None
    why = f"trading of {market} ended at {instant_ms(end_ms)}, and {desk.state.rules.answer_s:g} s later the order had not"
    for account_name in sorted(desk.state.accounts):
        for order in desk.resting(desk.state.accounts[account_name]):
            if f"{order.venue}:{order.instrument}" == market:
                change = Change("overdue", order.status(), reason=why)
                name = order.client_order_id or order.key
                desk.transition(account_name, order, Cause("timer", name), change, order.last_status)

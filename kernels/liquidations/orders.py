"""Liquidation orders: their sizes and limit prices, for an account's positions."""

from typing import NamedTuple

from engine.contract import Output
from kernels.gate import Held, Reason
from kernels.liquidations.cases import LIQUIDATING, LOCKED
from kernels.liquidations.rules import RULES
from kernels.liquidations.subject import Subject
from kernels.orders.ids import client_order_id
from schemas.rows import instant_ms
from udfs import liquidation


class Planned(NamedTuple):
    """An order to be made."""

    instrument: str
    size: float  # contracts
    limit_price: float
    visible: float | None  # contracts


def planned(subject: Subject) -> tuple[list[Planned], Held | None]:
    """The orders to make now: a part of one position, or of all positions if equity is gone; and the reason why one is
    blocked."""
    case, rules, rounds = subject.case, RULES.orders, RULES.orders.rounds
    since_s = subject.since_s
    orders: list[Planned] = []
    blocked: Held | None = None
    for contract in subject.ordered_by_requirement():
        size = subject.sizes[contract]
        free = abs(size) - case.open.get(contract, 0.0)
        if free <= 1e-12 * abs(size):
            continue
        if subject.equity <= 0:
            wanted = free if since_s >= rules.round_s else 0.0
        else:
            wanted = min(free, abs(liquidation.round_size(size, subject.batch.quote(contract).unit_usd, since_s, *rounds)))
        if wanted == 0:
            break  # the pause is not over
        if control := subject.state.gate.control(subject.request(contract)):
            blocked = control
            continue
        limit = subject.batch.quote(contract).limit(size, subject.equity, subject.maintenance)
        depth, visible = subject.state.depths.get(contract), None
        if depth and (doubt := depth.doubt(contract, subject.now_ms)):
            blocked = Held(Reason.STALE_BOOK, contract, doubt)
            continue
        if depth:
            visible = subject.batch.visible(contract, size, limit)
            if visible is None:
                why = f"what one contract of {contract} is in the amounts of its book is not told"
                blocked = Held(Reason.UNKNOWN_UNIT, contract, why)
                continue
            if visible <= 0:
                why = f"the book of {contract} shows nothing within {limit:.6g}, the fillable price"
                blocked = Held(Reason.NO_DEPTH, contract, why)
                continue
        if subject.equity <= 0 and subject.waits:
            continue
        orders.append(Planned(contract, wanted if visible is None else min(wanted, visible), limit, visible))
        if subject.equity > 0:
            break
    return orders, blocked


def place(subject: Subject, order: Planned) -> None:
    """Order a part of a position."""
    case, (contract, ordered, limit, visible) = subject.case, order
    size, mark = subject.sizes[contract], subject.batch.quote(contract).mark
    case.round += 1
    case.round_ms = subject.now_ms
    if case.state == LOCKED:
        case.state = LIQUIDATING
    case.open[contract] = case.open.get(contract, 0.0) + ordered
    case.sizes[contract] = size
    venue, _, instrument = contract.partition(":")
    subject.orders += 1
    order_id = f"{subject.name}/{instant_ms(subject.now_ms)}/{subject.orders}"
    case.sent[client_order_id("liquidation", order_id)] = [contract, ordered]
    by_book = "" if visible is None else f", of {visible:g} that the book shows within the limit"
    reason = (
        f"maintenance margin {subject.maintenance:.2f} USD exceeds equity {subject.equity:.2f} USD; round {case.round} closes "
        f"{ordered:g} of {abs(size):g} {instrument}{by_book}"
    )
    row = {
        "order_id": order_id,
        "account": subject.name,
        "event_at": instant_ms(subject.now_ms),
        "venue": venue,
        "instrument": instrument,
        "side": "sell" if size > 0 else "buy",
        "size": ordered,
        "mark_price": mark,
        "equity_usd": subject.equity,
        "maintenance_margin_usd": subject.maintenance,
        "reason": reason,
        "limit_price": limit,
        "round": case.round,
        "visible_size": visible,
    }
    subject.outputs.append(Output("liquidation_orders", subject.now_ms, row))
    subject.event(
        "round", reason, order_id=order_id, instrument=contract, amount_usd=ordered * subject.batch.quote(contract).unit_usd
    )

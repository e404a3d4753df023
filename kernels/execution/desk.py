"""What is decided of large orders at the end of a micro-batch: children are requested, changed and cancelled."""

from decimal import Decimal
from typing import Any

from engine.contract import Output
from kernels.execution.market import Market
from kernels.execution.parameters import TAKE, Plan, digits
from kernels.execution.parent import DONE, ENDING, HALTED, PAUSED, WAITING, WORKING, Child, Parent
from kernels.execution.quality import HORIZON_MS, row_of
from kernels.execution.state import State
from kernels.gate import Act, Held, Request
from kernels.orders.executions import EXACT, UNIT, ZERO
from kernels.orders.ids import client_order_id
from schemas.rows import instant_ms
from udfs import execution_schedules as schedules

LATENCY_MS = 200
"""From what a decision knows to the decision.  Orders need the time of algorithm_requests, which is told as far ahead: live it
is at least the p99 of the way from here to the orders and back (docs/decisions/29-the-loop-of-orders.md)."""
SECOND_MS, MINUTE_MS = 1_000, 60_000
ANSWER_MS = 60_000
"""So long a parent that ends waits for its last child."""
END_TOLD = -2
"""In place of the minute of the newest row of execution_quality."""


class Desk:
    """The large orders of a shard at the end of one micro-batch."""

    def __init__(self, state: State, now_ms: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self.outputs: list[Output] = []

    def decide(self) -> list[Output]:
        """Look at every parent that is due."""
        for key in sorted(self.state.active):
            self._look(self.state.active[key])
        return self.outputs

    def _look(self, parent: Parent) -> None:
        plan, market, sums = parent.plan, self.state.markets[parent.market], parent.quality
        assert plan is not None
        is_due = parent.is_stirred or self.now_ms >= parent.wake_ms
        if is_due or market.mid != sums.mid:
            sums.pass_time(self.now_ms, market.mid, plan.start_ms, plan.end_ms, plan.side)
            self.state.touch(parent)
        if not is_due:
            return
        parent.is_stirred = False
        if parent.status != DONE:
            self._work(parent, plan, market)
        turns = (plan.start_ms, plan.end_ms, *plan.starts[parent.slot + 1 : parent.slot + 2])
        later = [turn for turn in turns if turn > self.now_ms]
        parent.wake_ms = min([(self.now_ms // SECOND_MS + 1) * SECOND_MS, *later])
        self.tell(parent)
        self._tell_quality(parent)

    def _work(self, parent: Parent, plan: Plan, market: Market) -> None:
        status, stop = self._status(parent, plan)
        if status != parent.status:
            parent.status, parent.status_ms = status, self.now_ms
        if self.now_ms >= parent.retry_ms:
            parent.held = parent.reason = None
        if stop is not None:
            parent.held, parent.reason = stop.kind, stop.why
        for stray in [parent.open[key] for key in sorted(parent.open) if key != parent.newest or status != WORKING]:
            if stray.asked_id is None and self.now_ms >= parent.retry_ms:
                self._request(parent, stray, "cancel", ZERO, ZERO, None)
        if status == ENDING:
            self._end(parent, plan)
        elif status == WORKING and self.now_ms >= parent.retry_ms and len(parent.open) <= 1:
            child = parent.child
            if child is None or (child.asked_id is None and child.is_resting):
                self._send(parent, plan, market)

    def _status(self, parent: Parent, plan: Plan) -> tuple[str, Held | None]:
        if parent.is_cancelled or self.now_ms >= plan.end_ms or parent.traded >= plan.quantity:
            return ENDING, None
        if self.now_ms < plan.start_ms:
            return WAITING, None
        if parent.is_paused:
            return PAUSED, None
        stop = self._stop(parent, plan)
        return (WORKING, None) if stop is None else (HALTED, stop)

    def _stop(self, parent: Parent, plan: Plan) -> Held | None:
        """The halt of the venue, or the break of our own, that stops it; whether it reduces is for `orders` to prove."""
        venue, instrument = parent.row["venue"], parent.row["instrument"]
        if (halted := self.state.halts.held(venue, instrument)) is not None:
            return halted
        contract = self.state.listing.terms.get(parent.market)
        act = Act.REDUCE if plan.is_reduce_only else Act.INCREASE
        underlying = "" if contract is None else contract.underlying
        return self.state.breaks.held(Request(act, venue, instrument, underlying, parent.account))

    def _end(self, parent: Parent, plan: Plan) -> None:
        if parent.open and self.now_ms < parent.status_ms + ANSWER_MS:
            return
        parent.status, parent.status_ms, parent.held = DONE, self.now_ms, None
        left = plan.quantity - parent.traded
        why = "its time is over" if self.now_ms >= plan.end_ms else "everything is traded"
        if parent.is_cancelled and left > 0:
            why = "it is cancelled"
        lost = f"; {parent.working:f} of a child without an answer" if parent.working else ""
        parent.reason = f"{why}: {parent.traded:f} of {plan.quantity:f} traded{lost}"

    def _send(self, parent: Parent, plan: Plan, market: Market) -> None:
        child, slot = parent.child, plan.slot(self.now_ms)
        takes = plan.urgency == TAKE or (plan.taking_ms is not None and self.now_ms >= plan.taking_ms)
        is_iceberg = plan.algorithm == "iceberg"
        lots = 0
        if (child is None and is_iceberg) or (slot > parent.slot and not (is_iceberg and child is not None)):
            lots = self._lots(parent, plan, market, slot, takes)
        if child is None and not lots:
            return
        working = child.quantity - child.traded if child is not None else ZERO
        price = self._price(parent, plan, market, takes, lots * plan.lot + working)
        if price is None or (child is not None and not lots and price == child.price):
            return
        before = parent.slot
        if lots:
            parent.slot = slot
        if child is None:
            self._new(parent, plan, market, lots * plan.lot, price, takes, before)
        else:
            parent.commit(lots * plan.lot)
            quantity = EXACT.add(child.quantity, lots * plan.lot)
            self._request(parent, child, "replace", quantity, price, before if lots else None)

    def _lots(self, parent: Parent, plan: Plan, market: Market, slot: int, takes: bool) -> int:
        """The lots of the next slice; 0 where none is due, or something holds it."""
        left = int(EXACT.divide(plan.quantity - parent.traded - parent.working, plan.lot).to_integral_value("ROUND_FLOOR"))
        due = self._scheduled(plan, slot) - (plan.lots - left)
        usual = min(due, plan.most(slot))
        size = schedules.following(usual, left, plan.least)
        if size <= 0:
            return 0
        for held, most in (("depth", self._shown(plan, market, takes)), ("spread", _narrowed(plan, market, size))):
            if most is not None and most < size:
                size = schedules.following(most, left, plan.least)
                if size <= 0:
                    self._hold(parent, held, f"no more than {most} lots are to be sent at once")
                    return 0
        if plan.rate is None:
            return size
        earned = int(EXACT.divide(EXACT.divide(parent.tokens, parent.cost), plan.lot).to_integral_value("ROUND_FLOOR"))
        size = size if size <= earned else schedules.following(earned, left, plan.least)
        if 0 < size <= earned:
            return size
        if plan.algorithm != "pov":  # which waits for the trades of others all the time
            self._hold(
                parent, "participation", f"others traded {parent.others_volume:f}, of which {plan.rate:f} may be followed"
            )
        return 0

    def _scheduled(self, plan: Plan, slot: int) -> int:
        """The lots that are to be sent by now."""
        if not plan.starts:
            return plan.lots
        return plan.targets[slot] if slot >= 0 else 0

    def _shown(self, plan: Plan, market: Market, takes: bool) -> int | None:
        """The most lots of a child by what the book shows; None: any."""
        if plan.depth_share is None or plan.algorithm == "iceberg":
            return None
        shown = sum(size for _, size in market.levels(plan.side, takes, plan.limit))
        return int(min(Decimal(repr(plan.depth_share * shown)), plan.quantity) // plan.lot)

    def _price(self, parent: Parent, plan: Plan, market: Market, takes: bool, quantity: Decimal) -> Decimal | None:
        """The limit of a child; None, with what holds it, where there is none."""
        if plan.algorithm == "iceberg" and not takes:
            return plan.limit
        if market.book_ms < 0 or (market.is_stale and market.bids + market.asks == []):
            return self._hold(parent, "no book", f"no row of book_depth of {parent.market} has come")
        if market.is_stale:
            return self._hold(parent, "stale book", f"the book of {parent.market} is stale")
        if takes:
            price = market.taking_price(plan.side, float(quantity), plan.limit)
            if price is None:
                best = market.levels(plan.side, True)
                if not best:
                    return self._hold(parent, "no book", "nobody is on the other side")
                return self._hold(parent, "beyond limit", f"the best is {best[0][0]:g}, the limit {plan.limit}")
            return Decimal(repr(price))
        own = market.levels(plan.side, False)
        if not own:
            return plan.limit if plan.limit is not None else self._hold(parent, "no book", "nobody is on its side")
        best_price = Decimal(repr(own[0][0]))
        if plan.limit is None:
            return best_price
        return min(best_price, plan.limit) if plan.side == "buy" else max(best_price, plan.limit)

    def _hold(self, parent: Parent, held: str, why: str) -> Decimal | None:
        """Say what holds a parent; there is no price then."""
        parent.held, parent.reason = held, why
        return None

    def _new(
        self, parent: Parent, plan: Plan, market: Market, quantity: Decimal, price: Decimal, takes: bool, before: int
    ) -> None:
        parent.commit(quantity)
        key = client_order_id("algorithm", parent.account, parent.name, parent.asked + 1)
        child = Child(key, parent.account, parent.name)
        child.is_resting, child.price = not takes, price
        child.offered = market.taken_at(plan.side, float(quantity))
        self.state.children[parent.account, key] = parent.open[key] = child
        parent.newest = key
        parent.child_count += 1
        self._request(parent, child, "new", quantity, price, before)

    def _request(
        self, parent: Parent, child: Child, kind: str, quantity: Decimal, price: Decimal, slot_before: int | None
    ) -> None:
        plan = parent.plan
        assert plan is not None
        parent.asked += 1
        name = client_order_id("algorithm", parent.account, parent.name, parent.asked)
        child.ask(kind, name, quantity, price, slot_before)
        is_cancel, decided_ms = kind == "cancel", self.now_ms + LATENCY_MS
        row: dict[str, Any] = {
            **{column: parent.row[column] for column in ("account", "venue", "instrument", "parent_client_order_id")},
            "event_at": instant_ms(decided_ms),
            "client_order_id": name,
            "orig_client_order_id": None if kind == "new" else child.client_order_id,
            "request": kind,
            "source": "algorithm",
            "owner_group": parent.row.get("owner_group"),
            "side": None if is_cancel else plan.side,
            "order_type": None if is_cancel else "limit",
            "time_in_force": None if is_cancel else "gtc" if child.is_resting else "ioc",
            "price": None if is_cancel else digits(price),
            "quantity": None if is_cancel else digits(quantity),
            "is_reduce_only": None if is_cancel else plan.is_reduce_only,
            "expires_at": None,
            "max_notional_usd": None,
            "reason": f"{plan.algorithm} of {parent.name}",
        }
        self.outputs.append(Output("algorithm_requests", decided_ms, row))
        self.state.touch(parent, child)

    def tell(self, parent: Parent) -> None:
        """A row of `execution_states`, if anything has changed since the last one."""
        said = [parent.status, digits(parent.traded), digits(parent.working), parent.child_count, parent.held]
        if said != parent.told:
            parent.told = said
            self.say(parent, None, parent.reason)

    def say(self, parent: Parent, rule: str | None, reason: str | None) -> None:
        """A row of `execution_states`."""
        parent.rows += 1
        plan, traded, working = parent.plan, parent.traded, parent.working
        figures: dict[str, Any] = {}
        if plan is not None:
            slot = plan.slot(self.now_ms)
            scheduled = self._scheduled(plan, slot) * plan.lot
            if plan.algorithm == "pov":
                scheduled = min(EXACT.multiply(plan.rate or ZERO, parent.others_volume), plan.quantity)
            figures = {
                "scheduled_quantity": digits(scheduled.quantize(UNIT, "ROUND_FLOOR", EXACT)),
                "working_quantity": digits(working),
                "traded_quantity": digits(traded),
                "unsent_quantity": digits(EXACT.subtract(plan.quantity, EXACT.add(traded, working))),
                "market_volume": digits(parent.others_volume),
                "average_price": digits(EXACT.divide(parent.worth, traded).quantize(UNIT, context=EXACT)) if traded else None,
                "child_count": parent.child_count,
            }
        self.outputs.append(Output("execution_states", self.now_ms, state_row(parent, self.now_ms, rule, reason) | figures))
        self.state.touch(parent)

    def _tell_quality(self, parent: Parent) -> None:
        plan, minute = parent.plan, self.now_ms // MINUTE_MS
        assert plan is not None
        if self.now_ms < plan.start_ms and parent.status != DONE:
            return
        if parent.status == DONE:
            # Without a book the figures of a minute later will never be known.
            is_known = not parent.quality.ahead or self.now_ms >= parent.status_ms + 2 * HORIZON_MS
            if not is_known and parent.told_minute == END_TOLD:
                return
            parent.told_minute = END_TOLD
            if is_known:
                self.state.settle(parent)
        elif minute == parent.told_minute:
            return
        else:
            parent.told_minute = minute
        self.outputs.append(Output("execution_quality", self.now_ms, row_of(parent, self.now_ms)))
        self.state.touch(parent)


def state_row(parent: Parent, now_ms: int, rule: str | None = None, reason: str | None = None) -> dict[str, Any]:
    """A row of `execution_states` without figures."""
    columns = ("account", "venue", "instrument", "parent_client_order_id")
    names = ("scheduled_quantity", "working_quantity", "traded_quantity", "unsent_quantity", "market_volume", "average_price")
    return {
        **{column: parent.row[column] for column in columns},
        **dict.fromkeys(names),
        "event_at": instant_ms(now_ms),
        "number": parent.rows,
        "status": parent.status,
        "algorithm": parent.row.get("algorithm"),
        "side": parent.row.get("side"),
        "quantity": parent.row.get("quantity"),
        "child_count": parent.child_count,
        "held": parent.held,
        "rule": rule,
        "reason": reason,
    }


def _narrowed(plan: Plan, market: Market, size: int) -> int | None:
    """The lots of a slice in a wide spread; None where it is not wide, or does not matter."""
    spread = market.spread
    if plan.wide_spread is None or spread is None or spread <= plan.wide_spread:
        return None
    return int(size * plan.wide_spread / spread)

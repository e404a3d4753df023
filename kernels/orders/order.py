"""The state of an order, by the rule of FIX 4.4 (volume 4, order state change matrices A to L).

Nothing that a venue tells of a status or a sum is taken over.  CumQty is the sum of executions; LeavesQty is OrderQty less
CumQty, never below zero, and zero once the order is done; of several statuses that hold at once the one of the higher
precedence is told.  So messages may come twice, late and in another order, and the sums stay the same.

- A cancel or a replace is pending once the venue says so, until it is accepted or refused.  An acknowledgement of the order
  itself tells the status without what is pending.
- A replace takes the quantity that was asked for, at least what has traded; the client_order_ids form a chain.  A trade that
  bears the id of a replace says that it was accepted.  A replace of an open replace that is accepted accepts both.
- More traded than ordered is a reason in the row, and nothing is left.
- An order that is done stays so: a later fill raises CumQty and changes no status.  Only a bust, a correction or a replace to
  more opens an order again that was filled.
"""

from decimal import Decimal
from typing import Any, NamedTuple

from kernels.orders.executions import EXACT, ZERO, Execution, Executions

PRECEDENCE = {
    "pending_cancel": 12,
    "pending_replace": 11,
    "done_for_day": 10,
    "filled": 8,
    "stopped": 7,
    "cancelled": 5,
    "expired": 5,
    "partially_filled": 4,
    "new": 2,
    "rejected": 2,
    "pending_new": 2,
}
"""By FIX 4.4, volume 4.  Of equal ones the one that came about last is told: new after pending_new, rejected after new."""
ENDINGS = ("cancelled", "expired", "rejected")
TRADES = ("trade", "trade_cancel", "trade_correct")


class Report(NamedTuple):
    """What a venue says of an order: a row of `execution_reports` with decimals."""

    exec_id: str
    exec_type: str
    event_ms: int = 0
    client_order_id: str | None = None
    orig_client_order_id: str | None = None
    order_id: str | None = None
    order_status: str | None = None
    side: str | None = None
    price: Decimal | None = None
    quantity: Decimal | None = None
    cum_quantity: Decimal | None = None
    last_price: Decimal | None = None
    last_quantity: Decimal | None = None
    exec_ref_id: str | None = None
    reason: str | None = None
    is_repeat: bool = False  # of a rejection: of the same order sent once more, which says nothing of the first
    ratio: Decimal = Decimal(1)  # of a restatement: into how many contracts each was split
    fee: Decimal | None = None
    fee_currency: str | None = None

    @property
    def contents(self) -> tuple[str | Decimal | None, ...]:
        """What must be the same however often it comes; None is left open."""
        return self.exec_type, self.side, self.last_quantity, self.last_price, self.exec_ref_id


NO_TRADE = Report("", "")
"""In place of the report of a trade."""


class Request(NamedTuple):
    """A cancel or a replace that was sent and is not answered, or the order itself that is not."""

    kind: str  # new, cancel or replace
    orig: str | None  # client_order_id
    sent_ms: int
    quantity: Decimal | None = None
    price: Decimal | None = None
    is_pending: bool = False  # the venue has said so
    is_unanswered: bool = False  # and the time for it is over: a row says so


class Nature(NamedTuple):
    """What an order is and stays, through all its replaces."""

    source: str = "venue"  # liquidation, hedge, algorithm or person; venue: not requested here
    owner_group: str | None = None
    parent: str | None = None  # client_order_id
    is_reduce_only: bool = False
    expires_at: str | None = None
    is_mmp: bool = False  # market-maker protection counts its fills and cancels it


class Change(NamedTuple):
    """What a report has changed."""

    event: str
    status: str  # as FIX tells it with this report
    traded: Decimal = ZERO  # by how much CumQty changes
    reason: str | None = None


class Order:
    """One order, through all its replaces."""

    def __init__(
        self,
        key: str,
        *,
        venue: str = "",
        instrument: str = "",
        side: str | None = None,
        quantity: Decimal | None = None,
        price: Decimal | None = None,
        order_type: str | None = None,
        time_in_force: str | None = None,
        nature: Nature | None = None,
    ) -> None:
        self.key = key
        self.nature = nature or Nature()
        self.venue = venue
        self.instrument = instrument
        self.side = side
        self.quantity = quantity  # in force
        self.price = price  # in force
        self.order_type = order_type
        self.time_in_force = time_in_force
        self.client_order_id: str | None = key  # in force
        self.order_id: str | None = None  # the venue's
        self.ids: dict[str, None] = {key: None}  # every client_order_id of it, also of cancels
        self.requests: dict[str, Request] = {}
        self.executions = Executions()
        self.seen: dict[str, tuple[Any, ...]] = {}  # contents by exec_id
        self.is_acknowledged = False
        self.is_done_for_day = False
        self.is_stopped = False
        self.ending: str | None = None
        self.rows = 0  # written of it
        self.last_status: str | None = None  # in the last of them
        self.changed_ms = 0
        self.reserved_usd = 0.0  # what credit keeps back for what is open of it
        self.counted = ZERO, 0  # contracts and millionths of USD among what its account has open
        self.digests: dict[str, str] = {}  # of the contents of each request, by client_order_id

    @property
    def cum_quantity(self) -> Decimal:
        """Contracts traded so far."""
        return self.executions.quantity

    @property
    def leaves_quantity(self) -> Decimal:
        """Contracts still to be traded."""
        return self.left_of(self.quantity)

    def left_of(self, quantity: Decimal | None) -> Decimal:
        """What would be left to trade if the order were for this quantity: never below zero."""
        is_over_for_good = self.is_done_for_day and self.time_in_force not in ("gtc", "gtd", "post_only")
        if quantity is None or self.ending is not None or is_over_for_good:
            return ZERO
        return max(EXACT.subtract(quantity, self.cum_quantity), ZERO)

    @property
    def largest_left(self) -> Decimal:
        """What may still trade at most: by the quantity in force, or by one that an open replace asks for."""
        most = self.leaves_quantity
        for request in self.requests.values():
            if request.kind == "replace":
                most = max(most, self.left_of(request.quantity))
        return most

    @property
    def is_working(self) -> bool:
        """Whether a part of it may still trade."""
        return self.largest_left > 0

    @property
    def is_cancel_asked(self) -> bool:
        """Whether a cancel of it was asked for and is not answered."""
        return any(request.kind == "cancel" for request in self.requests.values())

    @property
    def is_cancel_awaited(self) -> bool:
        """Likewise, and the time for an answer is not over."""
        return any(request.kind == "cancel" and not request.is_unanswered for request in self.requests.values())

    def status(self, is_with_pending: bool = True) -> str:
        """The status of the highest precedence among those that hold."""
        holds = ["pending_new"]
        if self.is_acknowledged:
            holds.append("new")
        if self.cum_quantity > 0:
            is_filled = self.quantity is not None and self.cum_quantity >= self.quantity
            holds.append("filled" if is_filled else "partially_filled")
        elif self.quantity is not None and self.quantity <= 0 and self.ending is None:
            holds.append("cancelled")  # replaced to nothing
        if self.ending is not None:
            holds.append(self.ending)
        elif self.is_stopped:
            holds.append("stopped")
        if self.is_done_for_day:
            holds.append("done_for_day")
        if is_with_pending:
            holds += [f"pending_{request.kind}" for request in self.requests.values() if request.is_pending]
        return max(reversed(holds), key=PRECEDENCE.__getitem__)

    def ask(self, client_order_id: str, request: Request) -> None:
        """Remember a request that is sent."""
        self.ids[client_order_id] = None
        self.requests[client_order_id] = request

    def apply(self, report: Report) -> Change | None:
        """Take a report; returns what changes, None for one that came before or changes nothing.

        A report with the exec_id of another and other contents, or a trade on the other side, is a change `conflict`, which
        changes nothing else.
        """
        if (known := self.seen.get(report.exec_id)) is not None:
            return self._repeated(report, known)
        before = self._shown()
        self.seen[report.exec_id] = report.contents
        if report.exec_type in TRADES and None not in (report.side, self.side) and report.side != self.side:
            return Change("conflict", self.status(), reason=f"a trade to {report.side} of an order to {self.side}")
        if report.order_id is not None and self.order_id is None:
            self.order_id = report.order_id
        traded, reasons = ZERO, [report.reason] if report.reason else []
        if report.exec_type in TRADES:
            traded = self._trade(report)
            if self.quantity is not None and self.cum_quantity > self.quantity:
                reasons.append(f"traded {self.cum_quantity:f} of {self.quantity:f}")
        else:
            self._apply_status(report)
            venue_sum = report.cum_quantity
            if report.exec_type != "restated" and venue_sum is not None and venue_sum != self.cum_quantity:
                reasons.append(f"the venue tells {venue_sum:f} traded, its executions sum to {self.cum_quantity:f}")
        if report.exec_type == "status" and self._shown() == before:
            return None
        status = self.status(is_with_pending=report.exec_type != "new")
        return Change(report.exec_type, status, traded, "; ".join(reasons) or None)

    def absorb(self, other: "Order") -> None:
        """Take over what was told of this order before its client_order_id was known."""
        self.order_id = self.order_id or other.order_id
        self.is_acknowledged |= other.is_acknowledged
        self.is_stopped |= other.is_stopped
        self.is_done_for_day |= other.is_done_for_day
        self._end(other.ending)
        self.seen |= other.seen
        self.ids |= other.ids
        self.digests = other.digests | self.digests
        if self.ending is None:
            self.requests = other.requests | self.requests
        for exec_id, execution in other.executions.by_id.items():
            if exec_id not in self.executions.by_id:
                self.executions.add(exec_id, execution)

    def _shown(self) -> tuple[Any, ...]:
        return self.status(), self.quantity, self.price, self.leaves_quantity, self.client_order_id

    def _repeated(self, report: Report, known: tuple[Any, ...]) -> Change | None:
        pairs = list(zip(known, report.contents, strict=True))
        differing = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None and ours != theirs]
        if differing:
            reason = "; ".join(f"{theirs} where the first had {ours}" for ours, theirs in differing)
            return Change("conflict", self.status(), reason=f"exec_id {report.exec_id} came with other contents: {reason}")
        merged: tuple[Any, ...] = tuple(theirs if ours is None else ours for ours, theirs in pairs)
        if merged == known or report.exec_id not in self.executions.by_id:
            return None
        self.seen[report.exec_id] = merged
        quantity: Decimal | None = merged[2]
        price: Decimal | None = merged[3]
        is_bust = report.exec_type == "trade_cancel"
        traded = self.executions.complete(report.exec_id, ZERO if is_bust or quantity is None else quantity, price)
        return Change(report.exec_type, self.status(), traded, report.reason)

    def _trade(self, report: Report) -> Decimal:
        self.is_acknowledged = True
        if report.client_order_id in self.requests and self.requests[report.client_order_id].kind == "replace":
            self._replace(report._replace(quantity=None, price=None))
        self._answered("new")
        is_bust = report.exec_type == "trade_cancel"
        quantity = ZERO if is_bust or report.last_quantity is None else report.last_quantity
        corrects = None if report.exec_type == "trade" else report.exec_ref_id or ""
        return self.executions.add(report.exec_id, Execution(report.event_ms, quantity, report.last_price, corrects))

    def _apply_status(self, report: Report) -> None:
        kind = report.exec_type
        if kind in ("pending_cancel", "pending_replace"):
            self._pend(kind.removeprefix("pending_"), report)
        elif kind == "cancel_rejected":
            self.requests.pop(report.client_order_id or "", None)
        elif kind in ENDINGS:
            if not (kind == "rejected" and report.is_repeat):
                self._end(kind)
        else:
            self.is_acknowledged = True
            self._answered("new")
        if kind == "new" and self.quantity is None:
            self.quantity = report.quantity
        elif kind == "replaced":
            self._replace(report)
        elif kind == "restated":
            self._restate(report)
        elif kind == "done_for_day":
            self.is_done_for_day = True
        elif kind == "stopped":
            self.is_stopped = True
        elif kind == "status" and report.order_status in ENDINGS:
            self._end(report.order_status)

    def _pend(self, kind: str, report: Report) -> None:
        name = report.client_order_id
        if name is None or name == self.client_order_id or self.ending is not None:
            return
        if name in self.requests:
            self.requests[name] = self.requests[name]._replace(is_pending=True)
        elif name not in self.ids:  # asked for elsewhere
            request = Request(kind, report.orig_client_order_id, report.event_ms, report.quantity, report.price, True)
            self.ask(name, request)

    def _replace(self, report: Report) -> None:
        name = report.client_order_id
        asked = self.requests.pop(name or "", None)
        if asked is None and name is not None and name in self.ids:
            return  # it has been accepted already, by a trade or by a replace of it
        earlier = asked.orig if asked else None
        while earlier is not None and (request := self.requests.get(earlier)) is not None and request.kind == "replace":
            del self.requests[earlier]
            earlier = request.orig
        quantity = report.quantity if report.quantity is not None else asked and asked.quantity
        if quantity is not None:
            self.quantity = max(quantity, self.cum_quantity)
        price = report.price if report.price is not None else asked and asked.price
        if price is not None:
            self.price = price
        if name is not None:
            self.client_order_id = name
            self.ids[name] = None

    def _restate(self, report: Report) -> None:
        self.is_done_for_day = False
        if report.ratio != 1:
            self.executions.split(report.ratio)
        if report.quantity is not None:
            self.quantity = report.quantity
        if report.price is not None:
            self.price = report.price

    def _answered(self, kind: str) -> None:
        for name in [name for name, request in self.requests.items() if request.kind == kind]:
            del self.requests[name]

    def _end(self, ending: str | None) -> None:
        if ending is None:
            return
        self.ending = ending if self.ending is None else min(ending, self.ending, key=ENDINGS.index)
        self.requests.clear()

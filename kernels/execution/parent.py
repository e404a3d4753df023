"""A large order and the children by which it is worked."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kernels.execution.parameters import Plan, Refusal, planned
from kernels.execution.quality import Quality
from kernels.market.terms import Tradable
from kernels.orders.executions import EXACT, ZERO
from schemas.rows import to_ms

WAITING, WORKING, PAUSED, HALTED, ENDING, DONE, REFUSED = (
    *("waiting", "working", "paused", "halted", "ending", "done", "refused"),
)
ENDINGS = frozenset({"filled", "cancelled", "rejected", "expired", "done_for_day"})
PENDING = frozenset({"pending_new", "pending_cancel", "pending_replace"})
FAILURES = frozenset({"refused", "rejected", "cancel_rejected"})
MOST_WAIT_S = 60
"""After a refusal the next try waits 2 s, then 4 s, and at most so long."""


class Child:
    """One order of a parent, as `order_states` tells it."""

    def __init__(self, key: str, account: str, parent: str) -> None:
        self.key = key  # its first client_order_id
        self.account = account
        self.parent = parent
        self.number = 0  # of the newest row
        self.client_order_id = key
        self.is_resting = True
        self.price = ZERO
        self.quantity = ZERO  # in force
        self.asked_id: str | None = None  # of the request that is not answered
        self.asked_kind = "new"
        self.asked_quantity = ZERO
        self.asked_price = ZERO
        self.is_seen = False  # whether `orders` has told of that request
        self.slot_before: int | None = None  # if that request is for a slice: the newest slice of the parent before it
        self.traded = ZERO
        self.worth = ZERO  # quantity × price
        self.is_done = False
        self.offered: float | None = None  # what the book offered on average when it was decided

    @property
    def exposure(self) -> Decimal:
        """The most that it has traded in the end."""
        return self.traded if self.is_done else max(self.quantity, self.asked_quantity, self.traded)

    def ask(self, kind: str, name: str, quantity: Decimal, price: Decimal, slot_before: int | None) -> None:
        """A request of it is sent; of a cancel only the kind counts."""
        self.asked_id, self.asked_kind, self.is_seen, self.slot_before = name, kind, False, slot_before
        if kind != "cancel":
            self.asked_quantity, self.asked_price = quantity, price

    def apply(self, row: Mapping[str, Any]) -> bool:
        """Take a row of `order_states`; returns whether it says something new."""
        if row["number"] <= self.number:
            return False
        self.number = row["number"]
        traded, average = Decimal(row["cum_quantity"]), row.get("average_price")
        self.traded = traded
        self.worth = EXACT.multiply(traded, Decimal(average)) if average is not None else ZERO
        status = row["order_status"]
        self.is_done = status in ENDINGS and not Decimal(row["leaves_quantity"])
        if row.get("quantity") is not None and row["event"] != "refused":
            self.quantity = Decimal(row["quantity"])
        if row.get("price") is not None:
            self.price = Decimal(row["price"])
        if row.get("client_order_id") is not None:
            self.client_order_id = row["client_order_id"]
        self.is_seen = self.is_seen or row["cause_id"] == self.asked_id
        is_open = status in PENDING and row["event"] != "refused"
        if self.asked_id is not None and (self.is_done or (self.is_seen and not is_open)):
            self.asked_id, self.asked_quantity = None, ZERO
        return True

    def stored(self) -> list[Any]:
        """As an entry has it."""
        numbers = (self.price, self.quantity, self.asked_quantity, self.asked_price, self.traded, self.worth)
        what = [self.account, self.parent, self.number, self.client_order_id, self.is_resting, self.is_done, self.offered]
        return [what, [self.asked_id, self.asked_kind, self.is_seen, self.slot_before], list(map(str, numbers))]

    @classmethod
    def restored(cls, key: str, stored: Sequence[Any]) -> "Child":
        """What `stored` returned."""
        (account, parent, *what), asked, numbers = stored
        child = cls(key, account, parent)
        child.number, child.client_order_id, child.is_resting, child.is_done, child.offered = what
        child.asked_id, child.asked_kind, child.is_seen, child.slot_before = asked
        child.price, child.quantity, child.asked_quantity, child.asked_price, child.traded, child.worth = map(Decimal, numbers)
        return child


class Parent:
    """One large order."""

    def __init__(self, row: Mapping[str, Any], contract: Tradable | None, taken_ms: int) -> None:
        self.row = dict(row)
        self.contract = contract
        self.taken_ms = taken_ms
        self.seen: set[str] = set()  # digests of requests
        plan = planned(row, contract, taken_ms)
        self.plan: Plan | None = plan if isinstance(plan, Plan) else None
        self.refusal: Refusal | None = plan if isinstance(plan, Refusal) else None
        self.status = WAITING if self.plan else REFUSED
        self.status_ms = taken_ms
        self.is_paused = False
        self.is_cancelled = False
        self.rows = 0
        self.asked = 0  # requests of children
        self.child_count = 0
        self.slot = -1  # the newest in which something was sent
        self.retry_ms = 0
        self.failures = 0
        self.tokens = ZERO  # contracts, that participation lets trade
        self.market_volume = ZERO  # contracts, with our own where the venue's trades have them
        self.traded = ZERO
        self.worth = ZERO
        self.open: dict[str, Child] = {}  # by key; more than one only where an execution of an older one was undone
        self.newest: str | None = None  # the child that is worked
        self.held: str | None = None
        self.reason: str | None = None
        self.told: list[Any] = []  # what the newest row said
        self.quality = Quality(None if row.get("decision_price") is None else float(row["decision_price"]))
        self.told_minute = -1
        self.is_settled = self.plan is None  # nothing of it will change, unless an execution is undone
        self.wake_ms = 0
        self.is_stirred = True

    @property
    def account(self) -> str:
        """Whose it is."""
        return str(self.row["account"])

    @property
    def name(self) -> str:
        """Its parent_client_order_id."""
        return str(self.row["parent_client_order_id"])

    @property
    def market(self) -> str:
        """Its venue:instrument."""
        return f"{self.row['venue']}:{self.row['instrument']}"

    @property
    def child(self) -> Child | None:
        """The child that is worked, while it may trade."""
        return self.open.get(self.newest) if self.newest is not None else None

    @property
    def working(self) -> Decimal:
        """Contracts that children may still trade."""
        return sum((child.exposure - child.traded for child in self.open.values()), ZERO)

    @property
    def cost(self) -> Decimal:
        """Tokens that a contract takes: where the venue's trades have our own among them, also what it will seem to others'."""
        assert self.plan is not None
        return 1 + (self.plan.rate or ZERO) if self.plan.has_own_trades else Decimal(1)

    @property
    def others_volume(self) -> Decimal:
        """What others have traded since the start."""
        assert self.plan is not None
        return max(self.market_volume - self.traded, ZERO) if self.plan.has_own_trades else self.market_volume

    def see(self, event_ms: int, price: float, contracts: Decimal) -> bool:
        """A trade of the market; returns whether it counts."""
        plan = self.plan
        if plan is None or self.status == DONE or not plan.start_ms <= event_ms < plan.end_ms:
            return False
        self.market_volume = EXACT.add(self.market_volume, contracts)
        self.quality.see(price, float(contracts))
        if plan.rate is not None:
            self._earn(EXACT.multiply(plan.rate, contracts))
        return True

    def commit(self, quantity: Decimal) -> None:
        """Contracts are about to be sent."""
        self.tokens -= EXACT.multiply(quantity, self.cost)

    def apply(self, child: Child, row: Mapping[str, Any], mid: float | None) -> bool:
        """Take a row of `order_states` of a child; returns whether it says something new."""
        assert self.plan is not None
        before = child.exposure, child.traded, child.worth
        was_asked = child.asked_id
        if not child.apply(row):
            return False
        event_ms = to_ms(row["event_at"])
        traded, worth = child.traded - before[1], child.worth - before[2]
        self.traded, self.worth = self.traded + traded, self.worth + worth
        self.quality.trade(self.plan.side, event_ms, row, float(traded), mid, child.offered)
        if (back := before[0] - child.exposure) > 0 and self.plan.rate is not None:
            self._earn(EXACT.multiply(back, self.cost))
        if child.is_done:
            self.open.pop(child.key, None)
        elif child.key not in self.open:
            self.open[child.key] = child  # an execution was undone
        if row["event"] in FAILURES and was_asked is not None and child.asked_id is None:
            self._fail(child, event_ms, row)
        elif row["event"] in ("new", "trade", "replaced"):
            self.failures = 0
        self.is_stirred = True
        return True

    def _earn(self, tokens: Decimal) -> None:
        assert self.plan is not None
        self.tokens = min(EXACT.add(self.tokens, tokens), EXACT.multiply(self.plan.bucket, self.cost))

    def _fail(self, child: Child, event_ms: int, row: Mapping[str, Any]) -> None:
        """A request came back: try again in the same slice, but not at once."""
        self.failures += 1
        self.retry_ms = event_ms + min(MOST_WAIT_S, 2**self.failures) * 1000
        if child.slot_before is not None:
            self.slot = child.slot_before
        self.held = f"refused by {row.get('rule') or 'the venue'}"
        self.reason = row.get("reason")

    def stored(self) -> list[Any]:
        """As an entry has it, without its children."""
        contract = None if self.contract is None else list(self.contract)
        flags = [self.status, self.status_ms, self.is_paused, self.is_cancelled, self.is_settled, self.is_stirred]
        counts = [self.rows, self.asked, self.child_count, self.slot, self.retry_ms, self.failures, self.wake_ms]
        numbers = list(map(str, (self.tokens, self.market_volume, self.traded, self.worth)))
        said = [self.newest, self.held, self.reason, self.told, self.told_minute, sorted(self.seen)]
        return [self.row, contract, self.taken_ms, flags, counts, numbers, said, self.quality.stored()]

    @classmethod
    def restored(cls, stored: Sequence[Any]) -> "Parent":
        """What `stored` returned; its open children are added by whoever restores them."""
        row, contract, taken_ms, flags, counts, numbers, said, quality = stored
        parent = cls(row, None if contract is None else Tradable(*contract), taken_ms)
        parent.status, parent.status_ms, parent.is_paused, parent.is_cancelled, parent.is_settled, parent.is_stirred = flags
        parent.rows, parent.asked, parent.child_count, parent.slot, parent.retry_ms, parent.failures, parent.wake_ms = counts
        parent.tokens, parent.market_volume, parent.traded, parent.worth = map(Decimal, numbers)
        parent.newest, parent.held, parent.reason, parent.told, parent.told_minute, seen = said
        parent.seen = set(seen)
        parent.quality = Quality.restored(quality)
        return parent

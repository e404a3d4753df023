"""A book that is as simple as its rules: lists, decimals, and a search through all orders for each step.

It shares nothing with `kernels.matching` but the rules.  Halts, bands and reduce-only are in it; fees and expiry are not.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

ZERO = Decimal(0)
Event = tuple[str, str, str, Decimal, Decimal]
"""exec_type, account, client_order_id, price and size of a trade; zeros otherwise."""


@dataclass
class Resting:
    """An order on the book."""

    account: str
    group: str
    names: list[str]
    is_buy: bool
    price: Decimal
    left: Decimal
    quantity: Decimal
    time: int
    is_reduce_only: bool
    is_post_only: bool

    @property
    def name(self) -> str:
        """Its client_order_id in force."""
        return self.names[-1]


@dataclass
class ReferenceBook:
    """The orders of one instrument, and what its accounts hold."""

    lowest: Decimal
    highest: Decimal
    mark: Decimal
    resting: list[Resting] = field(default_factory=list)
    positions: dict[str, Decimal] = field(default_factory=dict)
    is_halted: bool = False
    time: int = 0
    events: list[Event] = field(default_factory=list)

    def request(self, row: dict[str, Any]) -> None:
        """Take a row of `orders`."""
        self.time += 1
        account, name = row["account"], row["client_order_id"]
        if row["request"] == "new":
            self.new(account, name, row)
            return
        order = next((o for o in self.resting if o.account == account and row["orig_client_order_id"] in o.names), None)
        if order is None:
            self.tell("cancel_rejected", account, name)
        elif row["request"] == "cancel":
            self.resting.remove(order)
            self.tell("cancelled", account, name)
        else:
            self.replace(order, name, row)

    def new(self, account: str, name: str, row: dict[str, Any]) -> None:
        """Take a new order."""
        is_buy, quantity = row["side"] == "buy", Decimal(row["quantity"])
        is_market = row["order_type"] == "market"
        price = (self.highest if is_buy else self.lowest) if is_market else Decimal(row["price"])
        tif = row["time_in_force"]
        order = Resting(
            account,
            row["owner_group"],
            [name],
            is_buy,
            price,
            quantity,
            quantity,
            self.time,
            row["is_reduce_only"],
            tif == "post_only",
        )
        is_immediate = is_market or tif in ("ioc", "fok")
        is_refused = self.is_beyond(order.price, is_buy) or (is_immediate and self.is_halted)
        is_refused |= order.is_reduce_only and self.most(order) <= 0
        is_refused |= order.is_post_only and not self.is_halted and self.opposite(order) is not None
        if is_refused:
            self.tell("rejected", account, name)
            return
        self.tell("new", account, name)
        if tif == "fok" and not self.would_fill(order):
            self.tell("cancelled", account, name)
            return
        self.match(order)
        if order.left > 0 and (is_immediate or self.most(order) <= 0):
            self.tell("cancelled", account, name)
        elif order.left > 0:
            self.resting.append(order)

    def replace(self, order: Resting, name: str, row: dict[str, Any]) -> None:
        """Change an order."""
        price, quantity = Decimal(row["price"]), Decimal(row["quantity"])
        traded = order.quantity - order.left
        keeps_time = price == order.price and quantity <= order.quantity
        moved = Resting(**(vars(order) | {"price": price}))
        if self.is_beyond(price, order.is_buy) or (
            order.is_post_only and not keeps_time and not self.is_halted and self.opposite(moved) is not None
        ):
            order.names.insert(0, name)
            self.tell("cancel_rejected", order.account, name)
            return
        order.names.append(name)
        self.tell("replaced", order.account, name)
        if quantity <= traded:
            self.resting.remove(order)
            return
        order.price, order.quantity, order.left = price, quantity, quantity - traded
        if keeps_time:
            return
        self.resting.remove(order)
        order.time = self.time
        self.match(order)
        if order.left > 0 and self.most(order) <= 0:
            self.tell("cancelled", order.account, order.name)
        elif order.left > 0:
            self.resting.append(order)

    def match(self, order: Resting) -> None:
        """Trade with what rests, as far as the price of the order."""
        while not self.is_halted and order.left > 0 and self.most(order) > 0:
            other = self.opposite(order)
            if other is None:
                return
            self.meet(order, other, other.price)

    def meet(self, late: Resting, early: Resting, price: Decimal) -> None:
        """Let two orders trade, or end one that may not."""
        if self.is_own(late, early):
            self.end(early)
            return
        for order in (early, late):
            if self.most(order) <= 0:
                self.end(order)
                return
        size = min(self.most(late), self.most(early))
        for order in (early, late):
            order.left -= size
            self.positions[order.account] = self.positions.get(order.account, ZERO) + (size if order.is_buy else -size)
            self.events.append(("trade", order.account, order.name, price, size))
            if order in self.resting:
                if order.left == 0:
                    self.resting.remove(order)
                elif self.most(order) <= 0:
                    self.end(order)

    def resume(self) -> None:
        """Begin to trade again, with an auction."""
        self.is_halted = False
        while True:
            buys = sorted((o for o in self.resting if o.is_buy), key=lambda o: (-o.price, o.time))
            sales = sorted((o for o in self.resting if not o.is_buy), key=lambda o: (o.price, o.time))
            if not buys or not sales or buys[0].price < sales[0].price:
                return
            for order in buys + sales:
                if self.most(order) <= 0:
                    self.end(order)
            buys, sales = ([o for o in side if o in self.resting] for side in (buys, sales))
            if not buys or not sales or buys[0].price < sales[0].price:
                return
            prices = {o.price for o in buys + sales} | {self.mark}

            def merit(price: Decimal, buys: list[Resting] = buys, sales: list[Resting] = sales) -> tuple[Decimal, ...]:
                wanted = sum((self.most(o) for o in buys if o.price >= price), ZERO)
                offered = sum((self.most(o) for o in sales if o.price <= price), ZERO)
                return min(wanted, offered), -abs(wanted - offered), -abs(price - self.mark), price

            price = max(prices, key=merit)
            while True:
                buys = [o for o in buys if o in self.resting and o.price >= price]
                sales = [o for o in sales if o in self.resting and o.price <= price]
                if not buys or not sales:
                    break
                early, late = sorted((buys[0], sales[0]), key=lambda o: o.time)
                self.meet(late, early, price)

    def would_fill(self, order: Resting) -> bool:
        """Whether all of an order can trade at once."""
        if self.most(order) < order.quantity:
            return False
        positions, missing = dict(self.positions), order.quantity
        others = [o for o in self.resting if o.is_buy != order.is_buy and self.crosses(order, o) and not self.is_own(order, o)]
        for other in sorted(others, key=lambda o: (-o.price if o.is_buy else o.price, o.time)):
            held = positions.get(other.account, ZERO)
            size = min(other.left, max(ZERO, -held if other.is_buy else held)) if other.is_reduce_only else other.left
            positions[other.account] = held + (size if other.is_buy else -size)
            missing -= size
        return missing <= 0

    def opposite(self, order: Resting) -> Resting | None:
        """The order that it would trade with first."""
        others = [o for o in self.resting if o.is_buy != order.is_buy and self.crosses(order, o)]
        return min(others, key=lambda o: (-o.price if o.is_buy else o.price, o.time), default=None)

    def crosses(self, order: Resting, other: Resting) -> bool:
        """Whether two prices agree."""
        return order.price >= other.price if order.is_buy else order.price <= other.price

    def is_own(self, order: Resting, other: Resting) -> bool:
        """Whether both belong to one owner."""
        return order.group == other.group or order.account == other.account

    def is_beyond(self, price: Decimal, is_buy: bool) -> bool:
        """Whether an aggressive price is outside the band."""
        return price > self.highest if is_buy else price < self.lowest

    def most(self, order: Resting) -> Decimal:
        """What it may trade at most."""
        if not order.is_reduce_only:
            return order.left
        held = self.positions.get(order.account, ZERO)
        return min(order.left, max(ZERO, -held if order.is_buy else held))

    def end(self, order: Resting) -> None:
        """Take an order off the book."""
        self.resting.remove(order)
        self.tell("cancelled", order.account, order.name)

    def tell(self, kind: str, account: str, name: str) -> None:
        """Note what an account is told."""
        self.events.append((kind, account, name, ZERO, ZERO))

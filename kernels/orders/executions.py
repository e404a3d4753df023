"""What has traded of an order: its executions, their corrections and busts, whatever the order in which they come.

An execution counts once, by its id.  A correction or a bust names another execution, which may be a correction itself; of all
that lead to one trade the newest counts, by event time, then by how many corrections it goes through, then by id.  What names
an execution that has not come yet waits for it.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Any, NamedTuple

EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""Enough for sums of quantity × price with every digit."""
UNIT = Decimal("1e-18")
ZERO = Decimal(0)


class Execution(NamedTuple):
    """A trade, or what a correction or a bust makes of one."""

    event_ms: int
    quantity: Decimal  # contracts; 0 of a bust
    price: Decimal | None  # in the quote currency; None where it is not told
    corrects: str | None = None  # the exec_id that it names


class Executions:
    """The executions of one order, and what they sum to."""

    def __init__(self) -> None:
        self.by_id: dict[str, Execution] = {}
        self._named: set[str] = set()  # by corrections and busts
        self.quantity = ZERO
        self.worth: Decimal | None = ZERO  # quantity × price; None where a price is missing

    def add(self, exec_id: str, execution: Execution) -> Decimal:
        """Count an execution; returns by how much the quantity traded changes."""
        before = self.quantity
        is_plain = execution.corrects is None and exec_id not in self._named
        self.by_id[exec_id] = execution
        if execution.corrects is not None:
            self._named.add(execution.corrects)
        if is_plain:
            self._sum(execution)
        else:
            self._sum_again()
        return EXACT.subtract(self.quantity, before)

    def complete(self, exec_id: str, quantity: Decimal, price: Decimal | None) -> Decimal:
        """Give an execution what its first report left open; returns by how much the quantity traded changes."""
        before = self.quantity
        self.by_id[exec_id] = self.by_id[exec_id]._replace(quantity=quantity, price=price)
        self._sum_again()
        return EXACT.subtract(self.quantity, before)

    def split(self, ratio: Decimal) -> None:
        """Restate what has traded: each contract becomes `ratio` contracts of the same worth."""
        for exec_id, (event_ms, quantity, price, corrects) in self.by_id.items():
            divided = None if price is None else EXACT.divide(price, ratio)
            self.by_id[exec_id] = Execution(event_ms, EXACT.multiply(quantity, ratio), divided, corrects)
        self._sum_again()

    def average(self) -> Decimal | None:
        """The average price to 18 decimals, half to even; None where nothing has traded or a price is not known."""
        if self.worth is None or not self.quantity:
            return None
        return EXACT.divide(self.worth, self.quantity).quantize(UNIT, context=EXACT)

    def stored(self) -> dict[str, Any]:
        """As an entry has them."""
        return {
            exec_id: [event_ms, str(quantity), None if price is None else str(price), corrects]
            for exec_id, (event_ms, quantity, price, corrects) in self.by_id.items()
        }

    def restore(self, stored: dict[str, Any]) -> None:
        """What `stored` returned."""
        for exec_id, (event_ms, quantity, price, corrects) in stored.items():
            self.by_id[exec_id] = Execution(event_ms, Decimal(quantity), None if price is None else Decimal(price), corrects)
        self._named = {execution.corrects for execution in self.by_id.values() if execution.corrects is not None}
        self._sum_again()

    def _sum(self, execution: Execution) -> None:
        self.quantity = EXACT.add(self.quantity, execution.quantity)
        if execution.price is not None and self.worth is not None:
            self.worth = EXACT.add(self.worth, EXACT.multiply(execution.quantity, execution.price))
        elif execution.quantity:
            self.worth = None

    def _sum_again(self) -> None:
        newest: dict[str, tuple[tuple[int, int, str], Execution]] = {}
        for exec_id, execution in self.by_id.items():
            root, depth = self._root(exec_id)
            if root is not None:
                rank = execution.event_ms, depth, exec_id
                if root not in newest or rank > newest[root][0]:
                    newest[root] = rank, execution
        self.quantity, self.worth = ZERO, ZERO
        for _, execution in newest.values():
            self._sum(execution)

    def _root(self, exec_id: str) -> tuple[str | None, int]:
        """The trade that an execution leads to, None where it has not come; and through how many corrections."""
        depth = 0
        while (execution := self.by_id.get(exec_id)) is not None:
            if execution.corrects is None:
                return exec_id, depth
            depth += 1
            if depth > len(self.by_id):  # they name each other
                return None, depth
            exec_id = execution.corrects
        return None, depth

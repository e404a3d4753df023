"""One side of a book: its orders by price, then by time."""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator

BUY, SELL = 1, -1


class Seat:
    """An account at an instrument: what it holds there, and its open orders."""

    __slots__ = ("account", "base", "entry", "head", "key", "number", "orders", "pending", "position", "row_ms")

    def __init__(self, account: str, key: str, head: str, entry: str) -> None:
        self.account = account
        self.key = key  # of its rows
        self.head = head  # what they begin with
        self.entry = entry  # the name of its entry of state
        self.number = 0  # of the last row of `orders` that was taken
        self.position = 0  # units of contracts; short is negative
        self.base = 0  # of these, what `positions` has told
        self.row_ms = -1  # when it told that
        self.pending: dict[str, tuple[int, int]] = {}  # by exec_id: contracts that it has not told yet, and when they traded
        self.orders: dict[str, Order] = {}  # open, by every client_order_id that they have had

    def trade(self, exec_id: str, change: int, now_ms: int, kept_ms: int) -> None:
        """Count a fill until `positions` tells of it; what it has not told for long counts as told."""
        pending = self.pending
        pending[exec_id] = change, now_ms
        self.position += change
        first = next(iter(pending))
        if pending[first][1] <= now_ms - kept_ms:
            self.base += pending.pop(first)[0]

    def hold(self, row_ms: int, size: int, fill_id: str) -> bool:
        """Take a row of `positions`; returns whether it changes anything: an older one does not."""
        if row_ms < self.row_ms:
            return False
        if fill_id in self.pending:
            # It has this fill, and so those before it.
            while next(iter(self.pending)) != fill_id:
                del self.pending[next(iter(self.pending))]
            del self.pending[fill_id]
        self.row_ms, self.base = row_ms, size
        self.position = size + sum(change for change, _ in self.pending.values())
        return True


class Order:
    """An open order.  Numbers are in units (`kernels.matching.numbers`)."""

    __slots__ = (
        *("seat", "group", "side", "order_id", "client_order_id", "ids", "order_type", "time_in_force", "is_reduce_only"),
        *("ahead", "expires_ms", "number", "priority", "rank", "price", "quantity", "left", "cum", "worth", "entry", "told"),
    )

    def __init__(self, seat: Seat, group: str, side: int, number: int, entry: str) -> None:
        self.seat = seat
        self.group = group
        self.side = side
        self.number = number  # of the order in its book
        self.priority = number  # less is earlier, at one price
        self.order_id = ""
        self.client_order_id = ""  # in force
        self.ids: list[str] = []  # every one of its chain
        self.order_type = "limit"
        self.time_in_force = "gtc"
        self.is_reduce_only = False
        self.expires_ms: int | None = None
        self.price: int | None = None
        self.rank = 0  # its price; of a sale less than zero: the higher, the better
        self.quantity = 0
        self.left = 0
        self.cum = 0
        self.worth = 0  # price × contracts of what has traded
        self.ahead: int | None = None  # on paper: contracts before it at its price; None where these were not seen yet
        self.entry = entry  # the name of its entry of state

        self.told: dict[str, str] = {}  # what its reports, and its fills, begin with

    def may_trade(self) -> int:
        """Contracts that it may still trade: of reduce-only at most what brings its position to zero."""
        if not self.is_reduce_only:
            return self.left
        return max(0, min(self.left, -self.side * self.seat.position))

    def is_own(self, other: "Order") -> bool:
        """Whether both belong to one owner, so that they must not trade."""
        return self.group == other.group or self.seat is other.seat


class Side:
    """The open orders that buy, or that sell."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.ranks: list[int] = []  # of prices with orders, the best one last
        self.levels: dict[int, OrderedDict[int, Order]] = {}  # by rank; at one price by priority
        self.changed: set[int] = set()  # ranks whose size may be another one than was told

    def add(self, order: Order) -> None:
        """Let an order rest, behind those at its price.  Its priority must be above theirs."""
        level = self.levels.get(order.rank)
        if level is None:
            level = self.levels[order.rank] = OrderedDict()
            insort(self.ranks, order.rank)
        level[order.priority] = order
        self.changed.add(order.rank)

    def remove(self, order: Order) -> None:
        """Take an order off the book."""
        level = self.levels[order.rank]
        del level[order.priority]
        self.changed.add(order.rank)
        if not level:
            del self.levels[order.rank]
            del self.ranks[bisect_left(self.ranks, order.rank)]

    def size(self, rank: int) -> int:
        """Contracts that rest at a price."""
        return sum([order.left for order in self.levels[rank].values()]) if rank in self.levels else 0

    def best(self) -> Order | None:
        """The order that trades first."""
        return next(iter(self.levels[self.ranks[-1]].values())) if self.ranks else None

    def __iter__(self) -> Iterator[Order]:
        """All orders, in the order in which they trade."""
        for rank in reversed(self.ranks):
            yield from self.levels[rank].values()

    def stand(self, orders: list[Order]) -> None:
        """Restore the orders, given in any order."""
        self.ranks, self.levels = [], {}
        for order in sorted(orders, key=lambda order: order.priority):
            self.add(order)

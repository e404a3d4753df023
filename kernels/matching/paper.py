"""The paper book of an instrument of a real venue: which orders would have traded with what the venue shows?

Market      the rows of `book_depth`: the book as the suite has rebuilt and checked it, which says itself when it is stale.  To
            rebuild it here from `order_books` would be a second book, for the sake of changes within 100 ms.  With them the
            rows of `trades`.  Of what comes late of either nothing counts
Latency     a request meets the book that is shown once its way to the venue is over; what is told of it comes `latency_ms` of
            the rules later, like all that matching tells.  The way is what the venue's own latency has beyond that
Take        an order takes what is shown at its price or better, best first, and no more: what is left of it rests, or ends
Once        what was taken of a price stays taken: of what the next rows show there, as much is left out.  Where a price shows
            less than was taken of it, that is what is taken.  So what a price shows anew, above what it showed last, is there
Queue       an order rests behind all that is shown at its price when it comes; behind all that is seen there first, where the
            price is beyond the levels that are shown.  It is never moved back
            Trades at its price move it forward by their size
            Cancellations do by its part: of what is gone from the price without a trade, as much as was before the order of all
            that was there.  The uniform rule of Rigtorp's estimator, as hftbacktest has it with f(x) = x:
            https://hftbacktest.readthedocs.io/en/v1.8.4/reference/queue_models.html
            At most what the price still shows is before it
Fill        at its own price, as a maker: by what is left of a trade at its price once all before it has traded; by a trade
            through its price; and by what the other side shows at its price or better.  A trade fills no more than its size, of
            several orders the better price first, then the earlier
Halt        nothing is filled, and a new order is refused with the reason: also where the book is stale or not known, or what a
            contract is in the venue's amounts
Not here    orders on paper move no market, and do not trade with each other.  An auction of the venue fills nothing: its orders
            are filled by the trades after it
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kernels.market.terms import Tradable, in_contracts
from kernels.matching.book import Book
from kernels.matching.numbers import UNIT, whole_of
from kernels.matching.reports import Reports
from kernels.matching.rules import Fees, Paper
from kernels.matching.side import BUY, SELL, Order, Side
from kernels.orders.executions import EXACT
from schemas.rows import to_ms

MOST_LEVELS = 20
"""A side of `book_depth` has no more; of one with fewer all is shown."""
MOST_TRADES = 1_000
"""So many ids of trades are known again."""
Row = dict[str, Any]


class Depth(NamedTuple):
    """A row of `book_depth`."""

    event_ms: int
    is_stale: bool
    bids: list[list[float]]  # price and size, the best first
    asks: list[list[float]]


class Shown(NamedTuple):
    """One side of what the venue shows."""

    sizes: dict[int, int]  # contracts by rank, the best first
    worst: int | None  # the last rank that would be shown; None where all are

    def size(self, rank: int) -> int | None:
        """What is shown at a price; None where it is beyond the levels that are shown."""
        return self.sizes.get(rank, 0) if self.worst is None or rank >= self.worst else None


class PaperBook(Book):
    """The open orders on paper of one instrument, and what the real venue shows of it."""

    def __init__(
        self, market: tuple[str, str], paper: Paper, touched: set[str], way_ms: int, partition: Callable[[str], int]
    ) -> None:
        super().__init__(market, Fees(), touched, set(), partition)
        self.display = None
        self.paper_entry = f"paper/{self.name}"
        self._paper = paper
        self._way_ms = way_ms
        self.depth: Depth | None = None
        self.waiting: list[tuple[int, Row]] = []  # requests on their way, each with when it is there
        self.taken: dict[int, dict[int, int]] = {BUY: {}, SELL: {}}  # contracts by rank, of each side
        self.traded: dict[int, dict[int, int]] = {BUY: {}, SELL: {}}  # since the newest depth
        self.trade_ids: dict[str, None] = {}
        self._shown: dict[int, Shown] = {}  # of the newest depth
        self._amount_per_contract: float | None = None  # in what the venue shows; None where it is not known

    def list_as(self, terms: Tradable | None) -> None:
        """Go by these terms from now on, and by the venue's fees of their kind."""
        if terms is not self.terms:
            self._shown = {}
        super().list_as(terms)
        self._amount_per_contract = None if terms is None else terms.amount_per_contract
        self.fees = self._paper.fees.get(terms.kind, Fees()) if terms is not None else Fees()

    def request(self, row: Mapping[str, Any], reports: Reports) -> None:
        """Send a request on its way.  A number that is not above the account's last one is a repeat, and does nothing."""
        if self._is_new(self.seat(row["account"]), row):
            self.waiting.append((reports.now_ms + self._way_ms, dict(row)))
            self.touched.add(self.paper_entry)

    def arrive(self, reports: Reports) -> None:
        """Let the requests meet the book whose way is over."""
        due = [row for due_ms, row in self.waiting if due_ms <= reports.now_ms]
        if due:
            self.waiting = [(due_ms, row) for due_ms, row in self.waiting if due_ms > reports.now_ms]
            self.touched.add(self.paper_entry)
        for row in due:
            self._act(self.seat(row["account"]), row, reports)

    def resume(self, reports: Reports) -> None:
        """Begin to trade again."""
        self.halt = None

    def show(self, depth: Depth, reports: Reports) -> None:
        """Go by a newer row of `book_depth`: move queues, and fill what it crosses."""
        is_concerned = self._amount_per_contract is not None and (self.open or any(self.taken.values()))
        before = {sign: self._side(sign) for sign in (BUY, SELL)} if is_concerned else {}
        self.depth, self._shown = depth, {}
        for sign, shown in before.items():
            now = self._side(sign)
            for order in self._orders(sign):
                self._advance(order, shown.size(order.rank), now.size(order.rank))
            taken = self.taken[sign]
            for rank in list(taken):
                if left := min(taken[rank], now.sizes.get(rank, 0)):
                    taken[rank] = left
                else:
                    del taken[rank]
            self.touched.add(self.paper_entry)
        self.traded = {BUY: {}, SELL: {}}
        if self._is_open():
            for sign in (BUY, SELL):
                for order in list(self._orders(sign)):
                    self._take_shown(order, -order.rank, reports, is_maker=True)

    def pass_trade(self, row: Mapping[str, Any], reports: Reports) -> None:
        """Move queues by a row of `trades`, and fill what it reaches."""
        if not self.open or not self._is_open() or row.get("off_market") is not None or row["trade_id"] in self.trade_ids:
            return
        self.trade_ids[row["trade_id"]] = None
        if len(self.trade_ids) > MOST_TRADES:
            del self.trade_ids[next(iter(self.trade_ids))]
        sign = BUY if row["side"] == "sell" else SELL  # the side that rested
        rank, flow = sign * whole_of(row["price"]), self._contracts(row["size"])
        self.traded[sign][rank] = self.traded[sign].get(rank, 0) + flow
        self.touched.add(self.paper_entry)
        for order in list(self._orders(sign)):
            if order.rank < rank or flow <= 0:
                break
            if order.rank > rank:
                order.ahead = 0
            if order.ahead is None:
                continue
            reached, order.ahead = max(0, flow - order.ahead), max(0, order.ahead - flow)
            self.touched.add(order.entry)
            if size := min(order.may_trade(), reached):
                assert order.price is not None
                self._execute(order, order.price, size, is_maker=True, reports=reports)
                flow -= size

    def _check_open(self, is_immediate: bool) -> None:
        if self.halt is not None:
            raise ValueError(f"trading is halted: {self.halt}")
        if self.depth is None:
            raise ValueError("the venue's book is not known")
        if self._amount_per_contract is None:
            raise ValueError("what one contract is in the venue's amounts is not told")
        if self.depth.is_stale:
            raise ValueError("the venue's book is stale")

    def _is_open(self) -> bool:
        if self.depth is None or self._amount_per_contract is None:
            return False
        return self.halt is None and not self.depth.is_stale

    def _would_trade(self, side: int, limit: int) -> bool:
        best = next(iter(self._side(-side).sizes), None)
        return best is not None and best >= limit

    def _is_fillable(self, order: Order, limit: int) -> bool:
        missing = order.quantity
        return order.may_trade() >= missing and sum(size for _, size in self._free(-order.side, limit)) >= missing

    def _take(self, order: Order, limit: int, reports: Reports) -> None:
        self._take_shown(order, limit, reports, is_maker=False)

    def _take_shown(self, order: Order, limit: int, reports: Reports, is_maker: bool) -> None:
        """Trade with what the other side shows, as far as the limit: a maker at his own price."""
        sign = -order.side
        for rank, free in list(self._free(sign, limit)):
            if not (size := min(order.may_trade(), free)):
                break
            self.taken[sign][rank] = self.taken[sign].get(rank, 0) + size
            self.touched.add(self.paper_entry)
            price = order.price if is_maker else rank * sign
            assert price is not None
            self._execute(order, price, size, is_maker, reports)

    def _rest(self, order: Order, is_immediate: bool, reports: Reports) -> None:
        order.ahead = self._side(order.side).size(order.rank)
        super()._rest(order, is_immediate, reports)

    def _advance(self, order: Order, before: int | None, now: int | None) -> None:
        """Move an order forward, by what its price showed, and shows now."""
        if now is None:
            return
        ahead = order.ahead
        if ahead is not None and before is not None:
            there = before - self.traded[order.side].get(order.rank, 0)
            if there > now:
                ahead -= (there - now) * min(ahead, there) // there
        order.ahead = now if ahead is None else min(ahead, now)
        self.touched.add(order.entry)

    def _free(self, sign: int, limit: int) -> Iterator[tuple[int, int]]:
        """What is shown of a side, and not taken yet, as far as the limit: rank and contracts, the best first."""
        taken = self.taken[sign]
        for rank, size in self._side(sign).sizes.items():
            if rank < limit:
                return
            if (free := size - taken.get(rank, 0)) > 0:
                yield rank, free

    def _orders(self, sign: int) -> Side:
        return self.bids if sign == BUY else self.asks

    def _side(self, sign: int) -> Shown:
        if self.depth is None:
            return Shown({}, None)
        if sign not in self._shown:
            levels = self.depth.bids if sign == BUY else self.depth.asks
            sizes = {sign * whole_of(price): self._contracts(size) for price, size in levels}
            self._shown[sign] = Shown(sizes, min(sizes) if len(levels) >= MOST_LEVELS else None)
        return self._shown[sign]

    def _contracts(self, size: float) -> int:
        """Contracts of a size that the venue shows; a part of 1e-18 is left out."""
        contracts = in_contracts(size, self._amount_per_contract)
        return 0 if contracts is None else int(EXACT.multiply(contracts, Decimal(UNIT)))

    def stored(self) -> list[Any]:
        """What the entry of the book has."""
        by_side = [
            [[rank * sign, size] for rank, size in sizes[sign].items()]
            for sizes in (self.taken, self.traded)
            for sign in (BUY, SELL)
        ]
        return [[[str(price), str(size)] for price, size in levels] for levels in by_side] + [
            list(self.trade_ids),
            self.waiting,
        ]

    def restore_paper(self, stored: list[Any]) -> None:
        """What `stored` returned."""
        *by_side, trade_ids, waiting = stored
        for levels, (sizes, sign) in zip(
            by_side, [(sizes, sign) for sizes in (self.taken, self.traded) for sign in (BUY, SELL)], strict=True
        ):
            sizes[sign] = {sign * int(price): int(size) for price, size in levels}
        self.trade_ids = dict.fromkeys(trade_ids)
        self.waiting = [(due_ms, row) for due_ms, row in waiting]


def depth_of(row: Mapping[str, Any]) -> Depth:
    """A checked row of `book_depth`."""
    return Depth(to_ms(row["event_at"]), row["is_stale"], row["bids"], row["asks"])

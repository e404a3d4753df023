"""The books of a shard, and what they go by, as stored."""

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from engine.contract import Migration
from engine.entries import packed, unpacked
from kernels import gate
from kernels.halts import Halt, Halts
from kernels.market.indices import Indices, Price, Series
from kernels.market.terms import Listing, Tradable, contract_with_amount
from kernels.matching.book import Book
from kernels.matching.display import Display
from kernels.matching.numbers import UNIT
from kernels.matching.paper import Depth, PaperBook
from kernels.matching.reports import Reports
from kernels.matching.rules import RULES, Fees, Rules
from kernels.matching.side import Order, Seat

THIN = frozenset({"spread", "depth"})
"""Kinds of breaks that halt no book.  They watch the book itself: one that is not shown would never be seen to recover."""
VERSION = 2
MIGRATIONS: dict[int, Migration] = {1: contract_with_amount}
"""In version 2 contracts have their `amount_per_contract`."""
MARKED = frozenset({"future", "perpetual"})
"""Kinds of contracts that the venue marks itself, if they are linear."""


class State:
    """The books of one shard."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.books: dict[str, Book] = {}  # by venue:instrument
        self.listing: Listing[Tradable] = Listing()
        self.marks: dict[str, tuple[int, float | None]] = {}  # when, in the quote currency
        self.indices = Indices()
        self.depths: dict[str, Depth] = {}  # of instruments whose orders trade on paper
        self.halts = Halts()
        self.breaks = gate.Breaks()
        self.now_ms = 0  # the last instant of the newest batch
        self.shown_ms = 0  # the end of the newest window
        self.touched: set[str] = set()
        self.changed: set[str] = set()  # books whose levels may be others than were told
        self.quoted: set[str] = set()  # books whose ticker may be another one than was told
        self.partition: Callable[[str], int] = lambda key: 0
        self.is_own: Callable[[str], bool] = lambda key: True
        self.restored: set[str] = set()  # books whose orders have no places yet

    def book(self, venue: str, instrument: str) -> Book:
        """A book of the own venue, new where there is none."""
        if (book := self.books.get(f"{venue}:{instrument}")) is None:
            book = self._made(venue, instrument)
            self.inform(book.name)
            book.halt = self.halt(book)
            self.touched.add(book.entry)
        return book

    def _made(self, venue: str, instrument: str) -> Book:
        market, touched, rules = (venue, instrument), self.touched, self.rules
        book: Book
        if (paper := rules.paper.get(venue)) is None:
            book = Book(market, rules.fees.get(venue, Fees()), touched, self.changed, lambda account: self.partition(account))
        else:
            way_ms = max(0, paper.latency_ms - rules.latency_ms)
            book = on_paper = PaperBook(market, paper, touched, way_ms, lambda account: self.partition(account))
            on_paper.depth = self.depths.get(book.name)
        book.index = lambda terms: self.index(terms, venue)
        self.books[book.name] = book
        return book

    def inform(self, name: str) -> None:
        """Let a book go by the newest terms and mark."""
        if (book := self.books.get(name)) is not None:
            terms, (_, mark) = self.listing.terms.get(name), self.marks.get(name, (0, None))
            if book.display is not None and (own := book.display.mark) is not None:
                mark = own / UNIT
            book.list_as(terms)
            book.value(mark, None if terms is None else self.rules.bands.get(terms.kind))
            self.quoted.add(name)

    def index(self, terms: Tradable, venue: str) -> float | None:
        """The index of a linear contract."""
        return self.indices.value(terms.underlying, terms.quote_currency, venue)

    def mark(self, book: Book, display: Display, now_ms: int) -> float | None:
        """Mark a contract of the venue's own; returns the index by which it does, None where the mark is that of tickers."""
        terms, index = book.terms, None
        if terms is not None and terms.kind in MARKED and not terms.is_inverse:
            index = self.index(terms, book.market[0])
        mark = None if index is None else display.sample(index, book.tick, self.rules, now_ms)
        if mark != display.mark:
            display.mark = mark
            self.inform(book.name)
        return index

    def trades(self, venue: str) -> bool:
        """Whether orders for a venue trade here."""
        return venue in self.rules.fees or venue in self.rules.paper

    def see(self, name: str, depth: Depth, reports: Reports) -> None:
        """Go by a row of `book_depth` of a real venue, unless an older one."""
        known = self.depths.get(name)
        if known is None or known.event_ms <= depth.event_ms:
            self.depths[name] = depth
            self.touched.add(f"depth/{name}")
            if isinstance(book := self.books.get(name), PaperBook):
                book.show(depth, reports)

    def halt(self, book: Book) -> str | None:
        """Why nothing trades in a book: its venue's halts, then our own breaks; None where it does.

        While a break lets exits pass there must be somebody to trade with, so the book trades on; `orders` holds the others.
        """
        venue, instrument = book.market
        held = self.halts.held(venue, instrument)
        if held is None and not self.breaks.is_quiet():
            underlying = "" if book.terms is None else book.terms.underlying
            held = self.breaks.held(gate.Request(gate.Act.REDUCE, venue, instrument, underlying), but=THIN)
        return None if held is None else held.why

    def settle(self) -> None:
        """Put restored orders in their places."""
        for name in self.restored:
            book = self.books[name]
            if isinstance(book, PaperBook):
                book.depth = self.depths.get(name)
            book.settle()
            self.inform(name)
        self.restored.clear()

    def free(self, names: Iterable[str]) -> None:
        """Forget contracts that are gone, with their books."""
        for name in names:
            self.marks.pop(name, None)
            self.depths.pop(name, None)
            self.touched.update(f"{kind}/{name}" for kind in ("contract", "mark", "book", "display", "depth", "paper"))
            self.changed.discard(name)
            self.quoted.discard(name)
            if (book := self.books.pop(name, None)) is not None:
                self.touched.update(seat.entry for seat in book.seats.values())

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        stored: Any = None
        if kind in ("order", "seat"):  # first, for nearly all are
            book_name, key = orjson.loads(subject)
            stored = self._stored(kind, self.books.get(book_name), key)
        elif kind == gate.BREAK:
            return self.breaks.encode(subject)
        elif kind == "clock":
            stored = self.now_ms
        elif kind == "shown":
            stored = self.shown_ms
        elif kind == "index":
            stored = list(price) if (price := self.indices.get(Series.of_name(subject))) else None
        elif kind == "depth":
            stored = list(depth) if (depth := self.depths.get(subject)) else None
        elif kind == "paper":
            if isinstance(book := self.books.get(subject), PaperBook):
                stored = [*book.market, book.stored()]
        elif kind == "display":
            if (book := self.books.get(subject)) and (shown := book.display):
                stored = [*book.market, shown.sequence, shown.told, _digits(shown.mark), shown.basis, shown.sampled_ms]
        elif kind == "contract":
            stored = list(terms) if (terms := self.listing.terms.get(subject)) else None
        elif kind == "mark":
            stored = self.marks.get(subject)
        elif kind == "halt":
            stored = list(halt) if (halt := self.halts.rows.get(subject)) else None
        elif kind == "book" and (book := self.books.get(subject)):
            stored = [*book.market, book.numbers, book.told, _digits(book.last_price), book.halt]
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, subject = name.partition("/")
        if kind == gate.BREAK:
            self.breaks.decode(subject, data)
            return
        stored = unpacked("matching", name, data, VERSION, MIGRATIONS)
        if kind == "clock":
            self.now_ms = stored
        elif kind == "shown":
            self.shown_ms = stored
        elif kind == "index":
            self.indices.put(Series.of_name(subject), Price(*stored))
        elif kind == "depth":
            self.depths[subject] = Depth(*stored)
        elif kind == "paper":
            venue, instrument, content = stored
            if isinstance(book := self._restored(venue, instrument), PaperBook):
                book.restore_paper(content)
        elif kind == "display":
            venue, instrument, sequence, told, mark, basis, sampled_ms = stored
            if (shown := self._restored(venue, instrument).display) is not None:
                shown.sequence, shown.told, shown.basis, shown.sampled_ms = sequence, told, basis, sampled_ms
                shown.mark = None if mark is None else int(mark)
        elif kind == "contract":
            self.listing.put(subject, Tradable(*stored))
        elif kind == "mark":
            self.marks[subject] = stored[0], stored[1]
        elif kind == "halt":
            self.halts.put(subject, Halt(*stored))
        elif kind == "book":
            venue, instrument, numbers, told, last_price, halt = stored
            book = self._restored(venue, instrument)
            book.numbers, book.told, book.halt = numbers, told, halt
            book.last_price = None if last_price is None else int(last_price)
        elif kind == "seat":
            _, account = orjson.loads(subject)
            venue, instrument, number, base, row_ms, pending = stored
            seat = self._restored(venue, instrument).seat(account)
            seat.number, seat.base, seat.row_ms = number, int(base), row_ms
            seat.pending = {exec_id: (int(change), ms) for exec_id, change, ms in pending}
            seat.position = seat.base + sum(change for change, _ in seat.pending.values())
        else:
            _, number = orjson.loads(subject)
            venue, instrument, account, *content = stored
            book = self._restored(venue, instrument)
            book.restore(_order(book.seat(account), number, name, content))

    def _restored(self, venue: str, instrument: str) -> Book:
        name = f"{venue}:{instrument}"
        self.restored.add(name)
        return self.books.get(name) or self._made(venue, instrument)

    @staticmethod
    def _stored(kind: str, book: Book | None, key: Any) -> list[Any] | None:
        if book is None:
            return None
        if kind == "seat":
            if (seat := book.seats.get(key)) is None:
                return None
            pending = [[exec_id, str(change), ms] for exec_id, (change, ms) in seat.pending.items()]
            return [*book.market, seat.number, str(seat.base), seat.row_ms, pending]
        if (order := book.open.get(key)) is None:
            return None
        what = [order.group, order.side, order.priority, order.order_id, order.client_order_id, order.ids]
        how = [order.order_type, order.time_in_force, order.is_reduce_only, order.expires_ms]
        numbers = [str(number) for number in (order.price, order.quantity, order.cum, order.worth)]
        if isinstance(book, PaperBook):
            numbers.append("" if order.ahead is None else str(order.ahead))
        return [*book.market, order.seat.account, what, how, numbers]


def _digits(number: int | None) -> str | None:
    # A whole number of JSON has no more than 64 bits.
    return None if number is None else str(number)


def _order(seat: Seat, number: int, entry: str, content: list[Any]) -> Order:
    what, how, numbers = content
    group, side, *rest = what
    order = Order(seat, group, side, number, entry)
    order.priority, order.order_id, order.client_order_id, order.ids = rest
    order.order_type, order.time_in_force, order.is_reduce_only, order.expires_ms = how
    price, order.quantity, order.cum, order.worth = map(int, numbers[:4])
    order.ahead = int(numbers[4]) if numbers[4:] and numbers[4] else None
    order.price, order.rank, order.left = price, price * side, order.quantity - order.cum
    return order

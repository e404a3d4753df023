"""The accounts of a shard, and the market data that they need, as stored."""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from engine.contract import Migration
from engine.entries import packed, unpacked
from kernels.market.indices import Series
from kernels.market.terms import Listing, Terms
from kernels.positions.ledger import CONTEXT, FLAT, UNSETTLED, ZERO, Contract, Position, Settled, Trade, traded

VERSION = 3
HOUR_MS = 3_600_000
KEPT_MS = 7 * 24 * HOUR_MS


def contract(terms: Terms) -> Contract:
    """The contract of an account by these terms."""
    style = terms.kind if terms.kind in ("spot", "option") else "inverse" if terms.is_inverse else "linear"
    return Contract(
        style, Decimal(str(terms.contract_size or 1)), terms.settlement_currency, terms.underlying, terms.quote_currency
    )


class Index(NamedTuple):
    """The prices of one underlying by one publisher in one currency."""

    event_ms: int
    price: Decimal  # the newest
    averages: dict[int, tuple[Decimal, int]]  # by expiry: sum of price × ms up to event_ms, and how many ms


class Balance(NamedTuple):
    """The balance of one currency."""

    amount: Decimal
    event_ms: int  # of the newest row written


class Applied(NamedTuple):
    """A fill or transfer that has been booked; for a transfer only time and contents, for a fill also the fields that
    the fold needs."""

    event_ms: int
    contents: str  # digest
    instrument: str = ""
    change: Decimal = ZERO
    price: Decimal = ZERO
    fee: Decimal = ZERO
    corrects: str | None = None  # fill_id


class Book:
    """The book of one contract in an account."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.base = FLAT  # after the trades that are forgotten
        self.held = FLAT  # after all trades
        self.settled = UNSETTLED
        self.event_ms = -(1 << 62)  # of the newest row written
        self.history: list[tuple[tuple[int, str], Trade, Position]] | None = None
        """The remembered trades in order, each with the position after it.  Built when it is first needed."""

    @property
    def size(self) -> Decimal:
        """Contracts; nothing once settled."""
        return CONTEXT.add(self.held.size, self.settled.change)

    @property
    def realised(self) -> Decimal:
        """Settlement currency, since the first trade."""
        return CONTEXT.add(self.held.realised, self.settled.realised)


class Account:
    """One account."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.balances: dict[str, Balance] = {}
        self.applied: dict[str, Applied] = {}
        self.corrections: dict[str, tuple[int, str]] = {}  # by corrected fill: time and id of the newest correction
        self.pending: dict[str, list[tuple[int, int, dict[str, Any]]]] = {}  # by fill: partition, offset and row of corrections
        self.entries = 0  # booked so far
        self.booked_ms = -(1 << 62)  # the newest of them
        self.swept_ms = 0  # ids from before this have been looked through
        self.forgotten_ms = 0  # ids from before this have been freed

    def trade(self, name: str, fill_id: str) -> Trade:
        """The current contents of a fill; `name` is its account's."""
        first = self.applied[applied_name(name, "fills", fill_id)]
        newest = self.corrections.get(fill_id)
        counts = self.applied[applied_name(name, "fills", newest[1])] if newest else first
        return Trade(first.event_ms, fill_id, counts.change, counts.price, counts.fee)

    def trades(self, name: str, instrument: str, among: Iterable[str]) -> list[Trade]:
        """The fills of one contract, in their order."""
        trades = []
        for entry in among:
            applied = self.applied[entry]
            if applied.instrument == instrument and applied.corrects is None:
                trades.append(self.trade(name, orjson.loads(entry)[2]))
        return sorted(trades, key=lambda trade: trade[:2])

    def forget(self, name: str, before_ms: int) -> set[str]:
        """Free the ids of events before this instant; returns the names of the entries that change."""
        if before_ms <= self.swept_ms:
            return set()
        self.swept_ms = before_ms
        forgotten = {entry: applied for entry, applied in self.applied.items() if applied.event_ms < before_ms}
        instruments = sorted({applied.instrument for applied in forgotten.values() if applied.instrument})
        for instrument in instruments:
            book = self.books[instrument]
            if book.contract.style == "spot":
                continue
            for trade in self.trades(name, instrument, forgotten):
                book.base = traded(book.contract, book.base, trade)
            book.history = None
        for entry in forgotten:
            del self.applied[entry]
            _, table, applied_id = orjson.loads(entry)
            if table == "fills":
                self.corrections.pop(applied_id, None)
        self.forgotten_ms = max(self.forgotten_ms, *(applied.event_ms + 1 for applied in forgotten.values()), 0)
        return {f"applied/{entry}" for entry in forgotten} | {book_entry(name, instrument) for instrument in instruments}


class State:
    """The accounts of one shard, and the contracts."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.listing: Listing[Terms] = Listing()
        self.settlements: dict[str, Decimal] = {}  # the settlement price of each
        self.indices: dict[Series, Index] = {}
        self.house: dict[str, dict[str, Decimal]] = {}
        self.first_expiry_ms: float = math.inf  # of those that are not settled
        self.touched: set[str] = set()

    def put(self, name: str, terms: Terms, settlement: Decimal | None) -> None:
        """Set the terms of a contract."""
        self.listing.put(name, terms)
        if settlement is not None:
            self.settlements[name] = settlement
        elif terms.expiry_ms is not None:
            self.first_expiry_ms = min(self.first_expiry_ms, terms.expiry_ms)

    @property
    def terms(self) -> dict[str, Terms]:
        """The terms of each contract."""
        return self.listing.terms

    def find_first_expiry(self) -> None:
        """Find the next expiry to settle."""
        unsettled = [terms.expiry_ms for name, terms in self.terms.items() if name not in self.settlements and terms.expiry_ms]
        self.first_expiry_ms = min(unsettled, default=math.inf)

    def expiries(self, underlying: str) -> set[int]:
        """The expiries of the contracts on an underlying that are not settled yet."""
        return {
            terms.expiry_ms
            for name, terms in self.terms.items()
            if terms.underlying == underlying and terms.expiry_ms is not None and name not in self.settlements
        }

    def free(self, until_ms: int) -> None:
        """Forget the terms of contracts that expired a week or more before `until_ms`."""
        expired = self.listing.free(until_ms - KEPT_MS)
        if not expired:
            return
        for name in expired:
            self.settlements.pop(name, None)
        self.touched |= {f"instrument/{name}" for name in expired}
        self.find_first_expiry()

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None if it no longer exists."""
        kind, _, subject = name.partition("/")
        stored: Any = None
        if kind == "instrument":
            if terms := self.terms.get(subject):
                settlement = self.settlements.get(subject)
                stored = [_stored_terms(terms), None if settlement is None else str(settlement)]
        elif kind == "index":
            if index := self.indices.get(Series.of_name(subject)):
                averages = {expiry: [str(total), ms] for expiry, (total, ms) in index.averages.items()}
                stored = [index.event_ms, str(index.price), averages]
        elif kind == "house":
            if held := self.house.get(subject):
                stored = {asset: str(amount) for asset, amount in held.items()}
        elif kind == "applied":
            account = self.accounts.get(orjson.loads(subject)[0])
            if account and (applied := account.applied.get(subject)):
                event_ms, contents, instrument, change, price, fee, corrects = applied
                stored = [event_ms, contents, instrument, str(change), str(price), str(fee), corrects]
        elif kind == "book":
            account_name, instrument = orjson.loads(subject)
            account = self.accounts.get(account_name)
            if account and (book := account.books.get(instrument)):
                stored = _stored_book(book)
        elif account := self.accounts.get(subject):
            balances = {currency: [str(amount), ms] for currency, (amount, ms) in account.balances.items()}
            counts = account.entries, account.booked_ms, account.swept_ms, account.forgotten_ms
            stored = [{}, balances, account.pending, *counts]
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Restore one entry.  Raises `ValueError` if this code cannot read the version of the bytes."""
        kind, _, subject = name.partition("/")
        stored = unpacked("positions", name, data, VERSION, MIGRATIONS)
        if kind == "instrument":
            terms, settlement = stored
            self.put(subject, _restored_terms(terms), None if settlement is None else Decimal(settlement))
        elif kind == "index":
            averages = {int(expiry): (Decimal(total), ms) for expiry, (total, ms) in stored[2].items()}
            self.indices[Series.of_name(subject)] = Index(stored[0], Decimal(stored[1]), averages)
        elif kind == "house":
            self.house[subject] = {asset: Decimal(amount) for asset, amount in stored.items()}
        elif kind == "applied":
            event_ms, contents, instrument, change, price, fee, corrects = stored
            account_name, _, applied_id = orjson.loads(subject)
            account = self.accounts.setdefault(account_name, Account())
            amounts = Decimal(change), Decimal(price), Decimal(fee)
            account.applied[subject] = Applied(event_ms, contents, instrument, *amounts, corrects)
            if corrects is not None:
                account.corrections[corrects] = max((event_ms, applied_id), account.corrections.get(corrects, (event_ms, "")))
        elif kind == "book":
            account_name, instrument = orjson.loads(subject)
            self.accounts.setdefault(account_name, Account()).books[instrument] = _restored_book(stored)
        else:
            account = self.accounts.setdefault(subject, Account())
            books, balances, pending, account.entries, account.booked_ms, account.swept_ms, account.forgotten_ms = stored
            for instrument, book in books.items():  # as of version 2
                account.books[instrument] = _restored_book(book)
                self.touched.add(book_entry(subject, instrument))
            account.balances = {currency: Balance(Decimal(amount), ms) for currency, (amount, ms) in balances.items()}
            account.pending = {fill: [(part, at, row) for part, at, row in waiting] for fill, waiting in pending.items()}


MIGRATIONS: dict[int, Migration] = {2: lambda _, stored: stored}
"""Before version 3 an account's entry also had its positions: they are stored separately at the next change."""


def totals(state: State) -> dict[str, Decimal]:
    """The sum of each asset over all accounts, those of the house too: always zero."""
    sums: dict[str, Decimal] = {}
    for account in state.accounts.values():
        for name, book in account.books.items():
            sums[name] = CONTEXT.add(sums.get(name, ZERO), book.size)
        for currency, balance in account.balances.items():
            sums[currency] = CONTEXT.add(sums.get(currency, ZERO), balance.amount)
    for held in state.house.values():
        for asset, amount in held.items():
            sums[asset] = CONTEXT.add(sums.get(asset, ZERO), amount)
    return sums


def applied_name(account: str, table: str, applied_id: str) -> str:
    """The entry of a fill or transfer, without its kind."""
    return orjson.dumps([account, table, applied_id]).decode()


def book_entry(account: str, instrument: str) -> str:
    """The entry of a position."""
    return f"book/{orjson.dumps([account, instrument]).decode()}"


def _stored_book(book: Book) -> list[Any]:
    style, contract_size, *currencies = book.contract
    closed = [str(amount) for amount in book.settled]
    contract = [style, str(contract_size), *currencies]
    return [contract, _stored_position(book.base), _stored_position(book.held), closed, book.event_ms]


def _restored_book(stored: list[Any]) -> Book:
    contract, base, held, closed, event_ms = stored
    book = Book(Contract(contract[0], Decimal(contract[1]), *contract[2:]))
    book.base, book.held = _restored_position(base), _restored_position(held)
    book.settled, book.event_ms = Settled(*map(Decimal, closed)), event_ms
    return book


def _stored_position(held: Position) -> list[Any]:
    size, basis, realised, paid, newest = held
    return [str(size), str(basis), str(realised), str(paid), newest]


def _restored_position(stored: list[Any]) -> Position:
    size, basis, realised, paid, (event_ms, fill_id) = stored
    return Position(Decimal(size), Decimal(basis), Decimal(realised), Decimal(paid), (event_ms, fill_id))


def _stored_terms(terms: Terms) -> list[Any]:
    size, strike = (None if number is None else str(number) for number in (terms.contract_size, terms.strike_usd))
    return list(terms._replace(contract_size=size, strike_usd=strike))  # type: ignore[arg-type]


def _restored_terms(stored: list[Any]) -> Terms:
    terms = Terms(*stored)
    size, strike = (None if number is None else float(number) for number in (terms.contract_size, terms.strike_usd))
    return terms._replace(contract_size=size, strike_usd=strike)

"""positions: what does each account hold, at what average price, and how much cash, after each fill and transfer?

Entries    account/<account>: balances, corrections that wait for their fill
           book/["<account>","<venue:instrument>"]: one position
           applied/["<account>","<table>","<id>"]: the time and the contents of one fill or transfer
           instrument/<venue:instrument>: the terms of one contract, and how it was settled; every shard has them all; freed a
           week after expiry
           index/<venue:underlying>, with the currency behind it where that is not USD: the newest index price, and the
           averages up to the expiries ahead
           house/<account>: what this shard's entries have left with one account of the house
Order      the instruments of a batch are applied before its index prices, these before its fills and transfers, and these by
           event time, then id.  What a position comes to is the fold of its trades in the order of event time and id: one that
           comes later than it should is put in its place, and what that changes is booked
Once       an id is applied once an account; with other contents it is a dead letter.  Ids are remembered for a week of
           event time (and freed, by the hour, when their account next moves); what is older than the ids that its
           account has forgotten is a dead letter, for it may be a repeat
Correction a fill of kind `correction` or `bust` names another fill, which from then on counts with the contents of its newest
           correction, at its own time, or not at all.  One that comes before its fill waits a week for it, and is a dead letter
           then
Late       fills and transfers are applied like any other; index prices are not
Expiry     a contract is settled by the first batch that ends at its expiry or later.  A future closes at S, the index's average
           by time over the 30 minutes before expiry (a price stands until the next; without any price it is settled when there
           is one); an option at max(S - K, 0) or max(K - S, 0), over S where it is inverse.  The index is in the currency that
           `kernels.indices` says: the venue's own, or where it has none the middle one of the others'.  What is delivered
           beyond that comes as transfers of that kind
Ledger     every change of a position or balance is a row of `ledger_entries`: kernels/ledger.py

Arithmetic is decimal: sums and products are exact, what is booked or written is rounded to 18 decimals, half to even.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from decimal import Decimal, DivisionByZero, InvalidOperation
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from engine.checks import checked, dead_letter, in_common_time
from engine.contract import Kernel, Message, Migration, Output
from engine.entries import packed, unpacked
from kernels import indices
from kernels.indices import Series
from kernels.ledger import (
    CONTEXT,
    EXCHANGE,
    FEES,
    FLAT,
    HOUSE,
    INSURANCE,
    OUTSIDE,
    UNSETTLED,
    ZERO,
    Contract,
    Position,
    Settled,
    Trade,
    average,
    product,
    rounded,
    settled,
    text,
    traded,
)
from schemas.rows import Fault, instant_ms, key, shown, to_ms

VERSION = 3
HOUR_MS = 3_600_000
KEPT_MS = 7 * 24 * HOUR_MS
STORE_SHARE = 10.0
"""A fill is an entry, and none is touched twice: waiting would leave as much to store, and more to step through again."""
SETTLEMENT_MS = 30 * 60_000
"""How long before an expiry its index is averaged."""


class Terms(NamedTuple):
    """What a fill needs of a contract."""

    published_ms: int
    kind: str
    underlying: str
    quote_currency: str
    settlement_currency: str
    is_inverse: bool
    contract_size: str | None
    expiry_ms: int | None
    option_type: str | None
    strike_usd: str | None

    def contract(self) -> Contract:
        """What an account trades by these terms."""
        style = self.kind if self.kind in ("spot", "option") else "inverse" if self.is_inverse else "linear"
        each = Decimal(self.contract_size or 1)
        return Contract(style, each, self.settlement_currency, self.underlying, self.quote_currency)


class Index(NamedTuple):
    """The prices of one underlying by one publisher in one currency."""

    event_ms: int
    price: Decimal  # the newest
    averages: dict[int, tuple[Decimal, int]]  # by expiry: sum of price × ms up to event_ms, and how many ms


class Balance(NamedTuple):
    """What an account holds of one currency."""

    amount: Decimal
    event_ms: int  # of the newest row written


class Applied(NamedTuple):
    """A fill or transfer that has been booked; of a transfer only when and what, of a fill also what a fold of it needs."""

    event_ms: int
    contents: str  # digest
    instrument: str = ""
    change: Decimal = ZERO
    price: Decimal = ZERO
    fee: Decimal = ZERO
    corrects: str | None = None  # fill_id


class Book:
    """What an account has of one contract."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.base = FLAT  # after the trades that are forgotten
        self.held = FLAT  # after all trades
        self.settled = UNSETTLED
        self.event_ms = -(1 << 62)  # of the newest row written
        self.history: list[tuple[tuple[int, str], Trade, Position]] | None = None
        """The trades that are remembered in their order, each with the position after it.  Made when it is first needed."""

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
        self.corrections: dict[str, tuple[int, str]] = {}  # of each fill corrected: time and id of the newest
        self.pending: dict[str, list[tuple[int, int, dict[str, Any]]]] = {}  # by fill: partition, offset and row of corrections
        self.entries = 0  # booked so far
        self.booked_ms = -(1 << 62)  # the newest of them
        self.swept_ms = 0  # ids from before this have been looked through
        self.forgotten_ms = 0  # ids from before this have been freed

    def trade(self, name: str, fill_id: str) -> Trade:
        """A fill as it counts now; `name` is its account's."""
        first = self.applied[_applied_name(name, "fills", fill_id)]
        newest = self.corrections.get(fill_id)
        counts = self.applied[_applied_name(name, "fills", newest[1])] if newest else first
        return Trade(first.event_ms, fill_id, counts.change, counts.price, counts.fee)

    def trades(self, name: str, instrument: str, among: Iterable[str]) -> list[Trade]:
        """The fills of one contract, in their order."""
        found = []
        for of in among:
            applied = self.applied[of]
            if applied.instrument == instrument and applied.corrects is None:
                found.append(self.trade(name, orjson.loads(of)[2]))
        return sorted(found, key=lambda trade: trade[:2])

    def forget(self, name: str, before_ms: int) -> set[str]:
        """Free the ids of events before this, and name the entries that change by it."""
        if before_ms <= self.swept_ms:
            return set()
        self.swept_ms = before_ms
        gone = {of: applied for of, applied in self.applied.items() if applied.event_ms < before_ms}
        instruments = sorted({applied.instrument for applied in gone.values() if applied.instrument})
        for instrument in instruments:
            book = self.books[instrument]
            if book.contract.style == "spot":
                continue
            for trade in self.trades(name, instrument, gone):
                book.base = traded(book.contract, book.base, trade)
            book.history = None
        for of in gone:
            del self.applied[of]
            _, table, applied_id = orjson.loads(of)
            if table == "fills":
                self.corrections.pop(applied_id, None)
        self.forgotten_ms = max(self.forgotten_ms, *(applied.event_ms + 1 for applied in gone.values()), 0)
        return {f"applied/{of}" for of in gone} | {_book_entry(name, instrument) for instrument in instruments}


class State:
    """The accounts of one shard, and the contracts."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.terms: dict[str, Terms] = {}
        self.settlements: dict[str, Decimal] = {}  # at what price each was settled
        self.indices: dict[Series, Index] = {}
        self.house: dict[str, dict[str, Decimal]] = {}
        self.first_expiry_ms: float = math.inf  # of those that are not settled
        self.first_end_ms: float = math.inf  # of all
        self.touched: set[str] = set()

    def put(self, name: str, terms: Terms, settlement: Decimal | None) -> None:
        """Set the terms of a contract."""
        self.terms[name] = terms
        if settlement is not None:
            self.settlements[name] = settlement
        if terms.expiry_ms is not None:
            self.first_end_ms = min(self.first_end_ms, terms.expiry_ms)
            if settlement is None:
                self.first_expiry_ms = min(self.first_expiry_ms, terms.expiry_ms)

    def expiries(self, underlying: str) -> set[int]:
        """When the contracts on an underlying expire that are not settled yet."""
        return {
            terms.expiry_ms
            for name, terms in self.terms.items()
            if terms.underlying == underlying and terms.expiry_ms is not None and name not in self.settlements
        }

    def free(self, until_ms: int) -> None:
        """Forget the terms of what expired a week and more before `until_ms`."""
        if self.first_end_ms + KEPT_MS > until_ms:
            return
        expiries = {name: terms.expiry_ms for name, terms in self.terms.items() if terms.expiry_ms is not None}
        gone = {name for name, expiry_ms in expiries.items() if expiry_ms + KEPT_MS <= until_ms}
        for name in gone:
            del self.terms[name]
            self.settlements.pop(name, None)
        self.touched |= {f"instrument/{name}" for name in gone}
        self.first_end_ms = min((ms for name, ms in expiries.items() if name not in gone), default=math.inf)
        self.first_expiry_ms = min(
            (ms for name, ms in expiries.items() if name not in gone and name not in self.settlements), default=math.inf
        )

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        stored: Any = None
        if kind == "instrument":
            if terms := self.terms.get(of):
                settlement = self.settlements.get(of)
                stored = [list(terms), None if settlement is None else str(settlement)]
        elif kind == "index":
            if index := self.indices.get(Series.of_name(of)):
                averages = {expiry: [str(total), ms] for expiry, (total, ms) in index.averages.items()}
                stored = [index.event_ms, str(index.price), averages]
        elif kind == "house":
            if held := self.house.get(of):
                stored = {asset: str(amount) for asset, amount in held.items()}
        elif kind == "applied":
            account = self.accounts.get(orjson.loads(of)[0])
            if account and (applied := account.applied.get(of)):
                event_ms, contents, instrument, change, price, fee, corrects = applied
                stored = [event_ms, contents, instrument, str(change), str(price), str(fee), corrects]
        elif kind == "book":
            account_name, instrument = orjson.loads(of)
            account = self.accounts.get(account_name)
            if account and (book := account.books.get(instrument)):
                stored = _stored_book(book)
        elif account := self.accounts.get(of):
            balances = {currency: [str(amount), ms] for currency, (amount, ms) in account.balances.items()}
            counts = account.entries, account.booked_ms, account.swept_ms, account.forgotten_ms
            stored = [{}, balances, account.pending, *counts]
        return None if stored is None else packed(VERSION, stored)

    def decode(self, name: str, data: bytes) -> None:
        """Put one entry back.  Raises `ValueError` if the bytes are of no version that this code reads."""
        kind, _, of = name.partition("/")
        stored = unpacked("positions", name, data, VERSION, MIGRATIONS)
        if kind == "instrument":
            terms, how = stored
            self.put(of, Terms(*terms), None if how is None else Decimal(how))
        elif kind == "index":
            averages = {int(expiry): (Decimal(total), ms) for expiry, (total, ms) in stored[2].items()}
            self.indices[Series.of_name(of)] = Index(stored[0], Decimal(stored[1]), averages)
        elif kind == "house":
            self.house[of] = {asset: Decimal(amount) for asset, amount in stored.items()}
        elif kind == "applied":
            event_ms, contents, instrument, change, price, fee, corrects = stored
            account_name, _, applied_id = orjson.loads(of)
            account = self.accounts.setdefault(account_name, Account())
            amounts = Decimal(change), Decimal(price), Decimal(fee)
            account.applied[of] = Applied(event_ms, contents, instrument, *amounts, corrects)
            if corrects is not None:
                account.corrections[corrects] = max((event_ms, applied_id), account.corrections.get(corrects, (event_ms, "")))
        elif kind == "book":
            account_name, instrument = orjson.loads(of)
            self.accounts.setdefault(account_name, Account()).books[instrument] = _book(stored)
        else:
            account = self.accounts.setdefault(of, Account())
            books, balances, pending, account.entries, account.booked_ms, account.swept_ms, account.forgotten_ms = stored
            for instrument, book in books.items():  # as of version 2
                account.books[instrument] = _book(book)
                self.touched.add(_book_entry(of, instrument))
            account.balances = {currency: Balance(Decimal(amount), ms) for currency, (amount, ms) in balances.items()}
            account.pending = {fill: [(part, at, row) for part, at, row in waiting] for fill, waiting in pending.items()}


MIGRATIONS: dict[int, Migration] = {2: lambda _, stored: stored}
"""Until version 3 an account's entry had its positions, too: they are stored apart the next time that anything is."""


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


class _RefusedError(Exception):
    """A row that cannot be booked."""

    def __init__(self, field: str | None, expected: str, got: object) -> None:
        self.fault = Fault(field, expected, got if got is None or isinstance(got, str) else shown(got))


def new() -> State:
    """An empty state."""
    return State()


def gauges(state: State) -> dict[str, float]:
    """Accounts that have moved."""
    return {"accounts": len(state.accounts)}


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: `positions`, `balances` and `ledger_entries` rows in the order of the events."""
    good, outputs = checked(messages, until_ms)
    for message in good:
        if message.table == "instruments":
            _learn(state, message.row)
    if until_ms is not None:
        prices = [message.row for message in good if message.table == "index_prices"]
        for row in sorted(prices, key=lambda row: (to_ms(row["event_at"]), row["received_at"], row["price_usd"])):
            _learn_index(state, row)
    for (*_, contents, _, _, _), message in sorted(((_turn(m), m) for m in good if m.table in _ID), key=lambda one: one[0]):
        outputs += _applied_or_refused(state, message, contents, until_ms)
    if until_ms is not None:
        outputs += _settle(state, until_ms)
        state.free(until_ms)
    return in_common_time(outputs, until_ms)


_ID = {"fills": "fill_id", "transfers": "transfer_id"}
_CONTENTS = {
    "fills": ("venue", "instrument", "event_at", "side", "price", "size", "fee", "kind", "corrects_id"),
    "transfers": ("event_at", "currency", "amount", "kind", "margin_model"),
}
_AMOUNTS = ("price", "size", "fee", "amount")
_COUNTER = {"transfer": OUTSIDE, "funding": EXCHANGE, "delivery": EXCHANGE, "insurance": INSURANCE}


def _learn(state: State, row: dict[str, Any]) -> None:
    name = key("instruments", row)
    size, strike, expiry_at = row.get("contract_size"), row.get("strike_usd"), row.get("expiry_at")
    terms = Terms(
        to_ms(row["event_at"]),
        row["kind"],
        row["underlying"],
        row["quote_currency"],
        row["settlement_currency"],
        row["is_inverse"],
        None if size is None else str(size),
        None if expiry_at is None else to_ms(expiry_at),
        row.get("option_type"),
        None if strike is None else str(strike),
    )
    known = state.terms.get(name)
    # Of two rows of one instant the greater stands, so that the order within a batch does not matter.
    if known is None or _rank(known) < _rank(terms):
        state.put(name, terms, state.settlements.get(name))
        state.touched.add(f"instrument/{name}")


def _rank(terms: Terms) -> tuple[int, str]:
    return terms.published_ms, repr(terms)


def _learn_index(state: State, row: dict[str, Any]) -> None:
    series, event_ms, price = Series.of_row(row), to_ms(row["event_at"]), Decimal(str(row["price_usd"]))
    known = state.indices.get(series)
    if known is not None and event_ms < known.event_ms:
        return
    averages: dict[int, tuple[Decimal, int]] = {}
    if state.first_expiry_ms - SETTLEMENT_MS <= event_ms and known is not None:
        averages = {expiry_ms: _averaged(known, expiry_ms, event_ms) for expiry_ms in state.expiries(row["underlying"])}
    state.indices[series] = Index(event_ms, price, {expiry_ms: sums for expiry_ms, sums in averages.items() if sums[1]})
    state.touched.add(f"index/{series.name}")


def _averaged(index: Index, expiry_ms: int, until_ms: int) -> tuple[Decimal, int]:
    """Sum of price × ms, and the ms, of the window before an expiry, up to an instant."""
    total, ms = index.averages.get(expiry_ms, (ZERO, 0))
    stood_ms = min(until_ms, expiry_ms) - max(index.event_ms, expiry_ms - SETTLEMENT_MS)
    if stood_ms <= 0:
        return total, ms
    return CONTEXT.add(total, CONTEXT.multiply(index.price, stood_ms)), ms + stood_ms


def _turn(message: Message) -> tuple[int, str, str, str, str, int, int]:
    """When its turn comes among the fills and transfers of a batch: whatever the order they came in."""
    row, table = message.row, message.table
    contents = _digest(table, row)
    return (
        to_ms(row["event_at"]),
        row[_ID[table]],
        table,
        contents,
        row["received_at"],
        message.partition,
        message.offset,
    )


def _digest(table: str, row: dict[str, Any]) -> str:
    """What tells a repeat from another event of its id: not when it was received, nor how its numbers are written."""
    values = [_read(row[column])[1] if column in _AMOUNTS else row.get(column) for column in _CONTENTS[table]]
    return blake2b(orjson.dumps(values), digest_size=12).hexdigest()


@lru_cache(maxsize=4096)
def _read(amount: str | int) -> tuple[Decimal | None, str]:
    """An amount as it is booked, None where it is beyond DECIMAL(38, 18); and as it is written."""
    # Kept, for whoever tells repeats apart asks first, and whoever books it next.
    try:
        booked = rounded(Decimal(amount))
    except InvalidOperation:
        return None, str(amount)
    return booked, text(booked)


def _applied_name(account: str, table: str, of: str) -> str:
    return orjson.dumps([account, table, of]).decode()


def _book_entry(account: str, instrument: str) -> str:
    return f"book/{orjson.dumps([account, instrument]).decode()}"


def _applied_or_refused(state: State, message: Message, contents: str, until_ms: int | None) -> list[Output]:
    try:
        return _apply(state, message, contents, until_ms)
    except _RefusedError as refused:
        return [dead_letter(message, refused.fault, until_ms)]


def _apply(state: State, message: Message, contents: str, until_ms: int | None) -> list[Output]:
    """Book one fill or transfer of these contents, or raise `_RefusedError` and leave the account as it was."""
    row, table = message.row, message.table
    event_ms, name = to_ms(row["event_at"]), row["account"]
    if name in HOUSE:
        raise _RefusedError("account", "an account that is not the house's", name)
    account = state.accounts.get(name) or Account()
    id_column = _ID[table]
    applied_name = _applied_name(name, table, row[id_column])
    if known := account.applied.get(applied_name):
        if known.contents == contents:
            return []
        raise _RefusedError(id_column, f"the contents that {row[id_column]} had before", "others")
    if event_ms < account.forgotten_ms:
        expected = f"no earlier than {instant_ms(account.forgotten_ms)}: ids from before are forgotten, and it may be a repeat"
        raise _RefusedError("event_at", expected, row["event_at"])

    cause = _Cause(state, name, account, row, event_ms, table, row[id_column], row.get("corrects_id"))
    try:
        if table == "transfers":
            applied, outputs = _transfer(cause, contents)
        elif row.get("kind") in (None, "fill"):
            applied, outputs = _fill(cause, contents)
        elif _waits(cause, message, contents):
            return []
        else:
            applied, outputs = _correction(cause, contents)
    except (InvalidOperation, DivisionByZero):
        raise _RefusedError(None, "amounts that keep the account within DECIMAL(38, 18)", row[id_column]) from None
    account.applied[applied_name] = applied
    state.touched.add(f"account/{name}")
    state.touched.add(f"applied/{applied_name}")
    if applied.instrument:
        state.touched.add(_book_entry(name, applied.instrument))
    state.accounts[name] = account
    if table == "fills":
        for partition, offset, waiting in sorted(account.pending.pop(row["fill_id"], []), key=lambda one: one[:2]):
            message = Message("fills", partition, offset, waiting)
            outputs += _applied_or_refused(state, message, _digest("fills", waiting), until_ms)
    if until_ms is not None:
        before_ms = (until_ms - KEPT_MS) // HOUR_MS * HOUR_MS
        state.touched |= account.forget(name, before_ms)
        outputs += _given_up(account, before_ms, until_ms)
    return outputs


class _Change(NamedTuple):
    """One entry to be made."""

    kind: str
    asset: str
    amount: Decimal
    counter: str
    price: Decimal | None = None


class _Cause(NamedTuple):
    """What is being booked, and where."""

    state: State
    name: str  # of the account
    account: Account
    row: dict[str, Any]
    event_ms: int
    kind: str  # the table, or settlement
    id: str
    corrected: str | None = None


def _transfer(cause: _Cause, contents: str) -> tuple[Applied, list[Output]]:
    row, kind = cause.row, cause.row.get("kind") or "transfer"
    if kind not in _COUNTER:
        raise _RefusedError("kind", "transfer, funding, delivery or insurance", shown(kind))
    change = _Change(kind, row["currency"], _amount(row, "amount"), _COUNTER[kind])
    return Applied(cause.event_ms, contents), _booked(cause, [change], None)


def _fill(cause: _Cause, contents: str) -> tuple[Applied, list[Output]]:
    row, account = cause.row, cause.account
    if row.get("corrects_id") is not None:
        raise _RefusedError("corrects_id", "NULL of a fill", shown(row["corrects_id"]))
    name, terms = _terms(cause)
    if terms.expiry_ms is not None and cause.event_ms >= terms.expiry_ms:
        raise _RefusedError("event_at", f"before the expiry at {instant_ms(terms.expiry_ms)}", row["event_at"])
    change, price, fee = _contents(row, terms)
    book = account.books.get(name) or Book(terms.contract())
    trade = Trade(cause.event_ms, row["fill_id"], change, price, fee)
    outputs = _counted(cause, book, name, None, trade)
    account.books[name] = book
    return Applied(cause.event_ms, contents, name, change, price, fee), outputs


def _waits(cause: _Cause, message: Message, contents: str) -> bool:
    """Whether a correction has to wait for its fill; it is put by, once."""
    row, account = cause.row, cause.account
    if row["kind"] not in ("correction", "bust"):
        raise _RefusedError("kind", "fill, correction or bust", shown(row["kind"]))
    fill_id = row.get("corrects_id")
    if fill_id is None or fill_id == row["fill_id"]:
        raise _RefusedError("corrects_id", "the fill_id of another fill", shown(fill_id))
    if _applied_name(cause.name, "fills", fill_id) in account.applied:
        return False
    for *_, waiting in account.pending.get(fill_id, []):
        if waiting["fill_id"] == row["fill_id"]:
            if _digest("fills", waiting) == contents:
                return True
            raise _RefusedError("fill_id", f"the contents that {row['fill_id']} had before", "others")
    account.pending.setdefault(fill_id, []).append((message.partition, message.offset, row))
    cause.state.accounts[cause.name] = account
    cause.state.touched.add(f"account/{cause.name}")
    return True


def _given_up(account: Account, before_ms: int, until_ms: int) -> list[Output]:
    """Dead letters of the corrections from before an instant that have waited in vain."""
    letters: list[Output] = []
    if not account.pending:
        return letters
    for fill_id, waiting in sorted(account.pending.items()):
        left = [one for one in waiting if to_ms(one[2]["event_at"]) >= before_ms]
        fault = Fault("corrects_id", "a fill of the account that is no older than a week", fill_id)
        letters += [
            dead_letter(Message("fills", p, o, row), fault, until_ms) for p, o, row in waiting if (p, o, row) not in left
        ]
        account.pending[fill_id] = left
    account.pending = {fill_id: left for fill_id, left in account.pending.items() if left}
    return letters


def _correction(cause: _Cause, contents: str) -> tuple[Applied, list[Output]]:
    row, account, fill_id = cause.row, cause.account, cause.row["corrects_id"]
    first = account.applied[_applied_name(cause.name, "fills", fill_id)]
    name, terms = _terms(cause)
    if first.corrects is not None:
        raise _RefusedError("corrects_id", "the fill_id of a fill, not of a correction", fill_id)
    if first.instrument != name:
        raise _RefusedError("instrument", f"that of the fill, {first.instrument}", name)
    if cause.event_ms < first.event_ms:
        raise _RefusedError("event_at", f"no earlier than its fill at {instant_ms(first.event_ms)}", row["event_at"])
    amounts = (ZERO, ZERO, ZERO) if row["kind"] == "bust" else _contents(row, terms)
    applied = Applied(cause.event_ms, contents, name, *amounts, fill_id)
    newest = cause.event_ms, row["fill_id"]
    if newest < account.corrections.get(fill_id, newest):
        return applied, []
    now = account.trade(cause.name, fill_id)
    outputs = _counted(cause, account.books[name], name, now, Trade(first.event_ms, fill_id, *amounts))
    account.corrections[fill_id] = newest
    return applied, outputs


def _terms(cause: _Cause) -> tuple[str, Terms]:
    name = key("instruments", cause.row)
    terms = cause.state.terms.get(name)
    if terms is None:
        raise _RefusedError("instrument", "an instrument whose terms are known", cause.row["instrument"])
    return name, terms


def _contents(row: dict[str, Any], terms: Terms) -> tuple[Decimal, Decimal, Decimal]:
    """Signed size, price and fee of a fill."""
    if row["side"] not in ("buy", "sell"):
        raise _RefusedError("side", "buy or sell", row["side"])
    price, size, fee = _amount(row, "price"), _amount(row, "size"), _amount(row, "fee")
    if size <= 0:
        raise _RefusedError("size", "above zero", row["size"])
    is_inverse_future = terms.is_inverse and terms.kind in ("perpetual", "future")
    if price < 0 or (price == 0 and is_inverse_future):
        raise _RefusedError("price", "above zero" if is_inverse_future else "zero or above", row["price"])
    if terms.contract_size is None and terms.kind != "spot":
        raise _RefusedError("instrument", "an instrument whose contract size is known", row["instrument"])
    return (size if row["side"] == "buy" else size.copy_negate()), price, fee


def _counted(cause: _Cause, book: Book, name: str, before: Trade | None, now: Trade) -> list[Output]:
    """Let a trade count, in the place of what it was before if it was there before, and book what that changes."""
    contract, minus = book.contract, CONTEXT.subtract
    paid: list[_Change] = []
    change = minus(now.change, before.change) if before else now.change
    fee = minus(now.fee, before.fee) if before else now.fee
    if contract.style == "spot":
        was = before or now._replace(change=ZERO)
        units = (rounded(product(one.change, contract.each)) for one in (now, was))
        worth = (rounded(contract.worth(one.change, one.price)) for one in (now, was))
        paid.append(_Change("spot", contract.underlying, minus(*units), EXCHANGE))
        paid.append(_Change("spot", contract.quote, minus(*worth).copy_negate(), EXCHANGE))
        paid.append(_Change("fee", contract.settlement, fee.copy_negate(), FEES))
        return _booked(cause, paid, None)

    held, history, at = _refolded(cause, book, name, before, now)
    closed, settlement = UNSETTLED, cause.state.settlements.get(name)
    paid.append(_Change("trade", name, change, EXCHANGE, now.price if now.change else before.price if before else None))
    kind = "premium" if contract.style == "option" else "pnl"
    paid.append(_Change(kind, contract.settlement, minus(held.paid, book.held.paid), EXCHANGE))
    if settlement is not None:
        closed = settled(contract, held, settlement)
        paid += _settlement_changes(name, contract, settlement, book.settled, closed)
    paid.append(_Change("fee", contract.settlement, fee.copy_negate(), FEES))
    after = Book(contract)
    after.held, after.settled = held, closed
    outputs = _booked(cause, paid, _Move(name, book, after))
    book.held, book.settled, book.event_ms = held, closed, after.event_ms
    if history:
        assert book.history is not None
        book.history[at:] = history
    return outputs


def _refolded(
    cause: _Cause, book: Book, name: str, before: Trade | None, now: Trade
) -> tuple[Position, list[tuple[tuple[int, str], Trade, Position]], int]:
    """The position with a trade in its place; and the new end of the book's history, and where that begins."""
    place = now.event_ms, now.fill_id
    if before is None and place > book.held.newest and book.history is None:
        return traded(book.contract, book.held, now), [], 0
    if book.history is None:
        position, book.history = book.base, []
        for trade in cause.account.trades(cause.name, name, cause.account.applied):
            position = traded(book.contract, position, trade)
            book.history.append((trade[:2], trade, position))
    at = bisect_left(book.history, place, key=lambda entry: entry[0])
    position = book.history[at - 1][2] if at else book.base
    end = []
    for trade in (now, *(entry[1] for entry in book.history[at + (before is not None) :])):
        position = traded(book.contract, position, trade)
        end.append((trade[:2], trade, position))
    return position, end, at


class _Move(NamedTuple):
    """A position that changes."""

    name: str
    before: Book
    after: Book  # with what changes


def _booked(cause: _Cause, changes: list[_Change], move: _Move | None) -> list[Output]:
    """Make the changes: rows of the position and the balances that stand after them, and an entry of each change.

    Raises `InvalidOperation` before anything has changed.
    """
    account, row, event_ms, always = cause.account, cause.row, cause.event_ms, cause.kind == "transfers"
    changes = [change for change in changes if change.amount or always]
    holdings: dict[str, Decimal] = {}
    balances: dict[str, Balance] = {}
    running: list[str] = []  # what stands of its asset after each change
    for change in changes:
        if move and change.asset == move.name:
            amount = rounded(CONTEXT.add(holdings.get(change.asset, move.before.size), change.amount))
        else:
            held = account.balances.get(change.asset, Balance(ZERO, event_ms))
            amount = rounded(CONTEXT.add(holdings.get(change.asset, held.amount), change.amount))
            # Never before the row that stands, or a reader who keeps the newest would not see it.
            balances[change.asset] = Balance(amount, max(event_ms, held.event_ms))
        holdings[change.asset] = amount
        running.append(text(amount))
    at_last = {change.asset: after_it for change, after_it in zip(changes, running, strict=True)}

    outputs: list[Output] = []
    average_price = realised = None
    if move:
        before, after = move.before, move.after
        after.event_ms = max(event_ms, before.event_ms)
        average_price = text(average(after.contract, after.held)) if after.held.size else None
        realised = text(after.realised)
        position = {
            "account": cause.name,
            "venue": row["venue"],
            "instrument": row["instrument"],
            "event_at": instant_ms(after.event_ms),
            "received_at": row["received_at"],
            "size": text(after.size),
            "average_price": average_price if after.size else None,
            "realised_pnl": realised,
            "settlement_currency": after.contract.settlement,
            "fill_id": cause.id,
        }
        if changes:
            outputs.append(Output("positions", after.event_ms, position))
    for currency, balance in sorted(balances.items()):
        cash = {
            "account": cause.name,
            "currency": currency,
            "event_at": instant_ms(balance.event_ms),
            "received_at": row["received_at"],
            "amount": at_last[currency],
            "cause_id": cause.id,
            "margin_model": row.get("margin_model"),
        }
        outputs.append(Output("balances", balance.event_ms, cash))

    booked_ms = max(event_ms, account.booked_ms)
    booked_at, caused_at, cause_id = instant_ms(booked_ms), instant_ms(event_ms), f"{cause.kind}/{cause.id}"
    for number, (change, after_it) in enumerate(zip(changes, running, strict=True), start=account.entries + 1):
        is_position = move is not None and change.asset == move.name
        entry = {
            "entry_id": f"{cause.name}/{cause_id}/{change.kind}/{change.asset}",
            "account": cause.name,
            "number": number,
            "event_at": booked_at,
            "caused_at": caused_at,
            "counter_account": change.counter,
            "kind": change.kind,
            "asset": change.asset,
            "amount": text(change.amount),
            "price": None if change.price is None else text(change.price),
            "balance": after_it,
            "average_price": average_price if is_position and after_it != "0" else None,
            "realised_pnl": realised if is_position else None,
            "cause_kind": cause.kind,
            "cause_id": cause.id,
            "corrected_id": cause.corrected,
        }
        outputs.append(Output("ledger_entries", booked_ms, entry))
    for change in changes:
        house = cause.state.house.setdefault(change.counter, {})
        house[change.asset] = CONTEXT.subtract(house.get(change.asset, ZERO), change.amount)
        cause.state.touched.add(f"house/{change.counter}")
    account.balances |= balances
    if changes:
        account.entries += len(changes)
        account.booked_ms = booked_ms
    return outputs


def _settle(state: State, until_ms: int) -> list[Output]:
    """Settle what has expired and has a price."""
    if state.first_expiry_ms > until_ms:
        return []
    due: dict[str, Decimal] = {}
    for name, terms in state.terms.items():
        is_due = terms.expiry_ms is not None and terms.expiry_ms <= until_ms and name not in state.settlements
        if is_due and (price := _settlement_price(state, name, terms)) is not None:
            due[name] = price
    if not due:
        return []
    state.settlements |= due
    state.touched |= {f"instrument/{name}" for name in due}
    unsettled = [terms.expiry_ms for name, terms in state.terms.items() if name not in state.settlements and terms.expiry_ms]
    state.first_expiry_ms = min(unsettled, default=math.inf)
    outputs: list[Output] = []
    for of, account in sorted(state.accounts.items()):
        for name in sorted(due.keys() & account.books.keys()):
            book, price, terms = account.books[name], due[name], state.terms[name]
            if book.held.size:
                outputs += _closed(state, of, account, name, book, price, terms.expiry_ms or 0)
    return outputs


def _settlement_price(state: State, name: str, terms: Terms) -> Decimal | None:
    """At what a contract that has expired is settled, in its own quotation; None where there is no index price."""
    expiry_ms = terms.expiry_ms or 0
    venue, found = name.partition(":")[0], {}
    known = [
        (series, series.quote, index.event_ms)
        for series, index in state.indices.items()
        if series.underlying == terms.underlying
    ]
    for series in indices.chosen(known, indices.own_currency(terms._asdict())):
        index = state.indices[series]
        total, ms = _averaged(index, expiry_ms, expiry_ms)
        found[series.venue] = CONTEXT.divide(total, ms) if ms else index.price
    if not found:
        return None
    S = rounded(found[venue] if venue in found else sorted(found.values())[(len(found) - 1) // 2])
    if terms.kind != "option":
        return S
    K = Decimal(terms.strike_usd or 0)
    side = 1 if terms.option_type == "call" else -1
    intrinsic = max(CONTEXT.multiply(side, CONTEXT.subtract(S, K)), ZERO)
    return rounded(CONTEXT.divide(intrinsic, S) if terms.is_inverse else intrinsic)


def _closed(state: State, of: str, account: Account, name: str, book: Book, price: Decimal, expiry_ms: int) -> list[Output]:
    """Settle one position."""
    venue, _, instrument = name.partition(":")
    row = {"venue": venue, "instrument": instrument, "received_at": f"{instant_ms(expiry_ms)[:-1]}000Z"}
    cause = _Cause(state, of, account, row, expiry_ms, "settlement", name)
    after = Book(book.contract)
    after.held, after.settled = book.held, settled(book.contract, book.held, price)
    changes = _settlement_changes(name, book.contract, price, UNSETTLED, after.settled)
    outputs = _booked(cause, changes, _Move(name, book, after))
    book.settled, book.event_ms = after.settled, after.event_ms
    state.touched |= {f"account/{of}", _book_entry(of, name)}
    return outputs


def _settlement_changes(name: str, contract: Contract, price: Decimal, before: Settled, after: Settled) -> list[_Change]:
    change, _, paid = (CONTEXT.subtract(now, was) for now, was in zip(after, before, strict=True))
    return [
        _Change("settlement", name, change, EXCHANGE, price),
        _Change("settlement", contract.settlement, paid, EXCHANGE),
    ]


def _amount(row: dict[str, Any], column: str) -> Decimal:
    amount, _ = _read(row[column])
    if amount is None:
        raise _RefusedError(column, "within DECIMAL(38, 18)", row[column])
    return amount


def _stored_book(book: Book) -> list[Any]:
    style, each, *currencies = book.contract
    closed = [str(amount) for amount in book.settled]
    contract = [style, str(each), *currencies]
    return [contract, _stored_position(book.base), _stored_position(book.held), closed, book.event_ms]


def _book(stored: list[Any]) -> Book:
    contract, base, held, closed, event_ms = stored
    book = Book(Contract(contract[0], Decimal(contract[1]), *contract[2:]))
    book.base, book.held = _position(base), _position(held)
    book.settled, book.event_ms = Settled(*map(Decimal, closed)), event_ms
    return book


def _stored_position(held: Position) -> list[Any]:
    size, basis, realised, paid, newest = held
    return [str(size), str(basis), str(realised), str(paid), newest]


def _position(stored: list[Any]) -> Position:
    size, basis, realised, paid, (event_ms, fill_id) = stored
    return Position(Decimal(size), Decimal(basis), Decimal(realised), Decimal(paid), (event_ms, fill_id))


KERNEL = Kernel(
    name="positions",
    version=VERSION,
    new=new,
    step=step,
    gauges=gauges,
    migrations=MIGRATIONS,
    store_share=STORE_SHARE,
)

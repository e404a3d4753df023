"""positions: what does each account hold, at what average price, and how much cash, after each fill and transfer?

Entries    account/<account>: positions and balances
           applied/["<account>","<table>","<id>"]: the time and the contents of one fill or transfer
           instrument/<venue:instrument>: the terms of one contract; every shard has them all; freed a week after expiry
Order      the instruments of a batch are applied before its fills and transfers, and these by event time, then id; what
           comes in a later batch is applied when it comes, whatever its event time
Once       an id is applied once an account; with other contents it is a dead letter.  Ids are remembered for a week of
           event time (and freed, by the hour, when their account next moves); what is older than the ids that its
           account has forgotten is a dead letter, for it may be a repeat
Late       applied like any other
Not here   settlement at expiry, funding payments and deleveraging: a position stays as it is when its contract expires

Average cost.  With n the signed contracts, c the contract size, p the price and a the average price:
    linear     pnl = n c (p - a), in the settlement currency; a is the mean of the entry prices by size
    inverse    pnl = n c (1/a - 1/p), in coin, c in USD; a is the harmonic mean, so that the cost in coin adds up
    option     pnl as for linear; the premium n c p leaves the balance at the fill, so pnl is only reported
    spot       no position: the underlying is added to its balance, the price taken from that of the quote currency
Fees leave the balance of the settlement currency.

Arithmetic is decimal, to 60 digits; what is booked or written is rounded to 18 decimals, half to even.
"""

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from kernels import Message, Output
from kernels.checks import checked, dead_letter
from schemas.rows import Fault, instant_ms, key, shown, to_ms

VERSION = 1
SHARED: frozenset[str] = frozenset({"instruments"})
HOUR_MS = 3_600_000
KEPT_MS = 7 * 24 * HOUR_MS
CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
UNIT = Decimal("1e-18")
LIMIT = Decimal("1e20")
"""Where DECIMAL(38, 18) ends."""
ZERO = Decimal(0)


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


class Position(NamedTuple):
    """What an account holds of one contract."""

    size: Decimal  # contracts; short is negative
    average: Decimal  # quote currency, unrounded; 0 when flat
    realised: Decimal  # settlement currency
    event_ms: int  # of the newest row written


class Balance(NamedTuple):
    """What an account holds of one currency."""

    amount: Decimal
    event_ms: int  # of the newest row written


class Applied(NamedTuple):
    """A fill or transfer that has been booked."""

    event_ms: int
    contents: str  # digest


class Account:
    """One account."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
        self.balances: dict[str, Balance] = {}
        self.applied: dict[str, Applied] = {}
        self.swept_ms = 0  # ids from before this have been looked through
        self.forgotten_ms = 0  # ids from before this have been freed

    def forget(self, before_ms: int) -> set[str]:
        """Free the ids of events before this, and name them."""
        if before_ms <= self.swept_ms:
            return set()
        self.swept_ms = before_ms
        gone = {name: applied.event_ms for name, applied in self.applied.items() if applied.event_ms < before_ms}
        for name in gone:
            del self.applied[name]
        self.forgotten_ms = max(self.forgotten_ms, *(event_ms + 1 for event_ms in gone.values()), 0)
        return set(gone)


class State:
    """The accounts of one shard, and the contracts."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.terms: dict[str, Terms] = {}
        self.first_expiry_ms: float = math.inf
        self.touched: set[str] = set()

    def put(self, name: str, terms: Terms) -> None:
        """Set the terms of a contract."""
        self.terms[name] = terms
        if terms.expiry_ms is not None:
            self.first_expiry_ms = min(self.first_expiry_ms, terms.expiry_ms)

    def free(self, until_ms: int) -> None:
        """Forget the terms of what expired a week and more before `until_ms`."""
        if self.first_expiry_ms + KEPT_MS > until_ms:
            return
        expiries = {name: terms.expiry_ms for name, terms in self.terms.items() if terms.expiry_ms is not None}
        gone = {name for name, expiry_ms in expiries.items() if expiry_ms + KEPT_MS <= until_ms}
        for name in gone:
            del self.terms[name]
        self.touched |= {f"instrument/{name}" for name in gone}
        self.first_expiry_ms = min((ms for name, ms in expiries.items() if name not in gone), default=math.inf)

    def encode(self, name: str) -> bytes | None:
        """One entry as bytes; None where it is gone."""
        kind, _, of = name.partition("/")
        stored: Any = None
        if kind == "instrument":
            stored = self.terms.get(of)
        elif kind == "applied":
            account = self.accounts.get(orjson.loads(of)[0])
            stored = None if account is None else account.applied.get(of)
        elif account := self.accounts.get(of):
            stored = (
                {k: [str(p.size), str(p.average), str(p.realised), p.event_ms] for k, p in account.positions.items()},
                {currency: [str(b.amount), b.event_ms] for currency, b in account.balances.items()},
                account.swept_ms,
                account.forgotten_ms,
            )
        return None if stored is None else bytes([VERSION]) + orjson.dumps(list(stored))

    def decode(self, name: str, data: bytes) -> None:
        """Put one entry back."""
        if data[0] != VERSION:
            raise ValueError(f"positions: {name} is stored as version {data[0]}, this code reads version {VERSION}")
        kind, _, of = name.partition("/")
        stored = orjson.loads(data[1:])
        if kind == "instrument":
            self.put(of, Terms(*stored))
        elif kind == "applied":
            self.accounts.setdefault(orjson.loads(of)[0], Account()).applied[of] = Applied(*stored)
        else:
            account = self.accounts.setdefault(of, Account())
            positions, balances, account.swept_ms, account.forgotten_ms = stored
            account.positions = {
                k: Position(Decimal(size), Decimal(average), Decimal(realised), ms)
                for k, (size, average, realised, ms) in positions.items()
            }
            account.balances = {currency: Balance(Decimal(amount), ms) for currency, (amount, ms) in balances.items()}


class _RefusedError(Exception):
    """A row that cannot be booked."""

    def __init__(self, field: str | None, expected: str, got: object) -> None:
        self.fault = Fault(field, expected, got if got is None or isinstance(got, str) else shown(got))


def new() -> State:
    """An empty state."""
    return State()


def step(state: State, messages: list[Message], until_ms: int | None) -> list[Output]:
    """Apply one micro-batch in place: `positions` and `balances` rows in the order of the events."""
    good, outputs = checked(messages, until_ms)
    for message in good:
        if message.table == "instruments":
            _learn(state, message.row)
    for message in sorted((m for m in good if m.table in _ID), key=_turn):
        try:
            outputs += _apply(state, message, until_ms)
        except _RefusedError as refused:
            outputs.append(dead_letter(message, refused.fault, until_ms))
    if until_ms is not None:
        state.free(until_ms)
    return outputs


_ID = {"fills": "fill_id", "transfers": "transfer_id"}
_CONTENTS = {
    "fills": ("venue", "instrument", "event_at", "side", "price", "size", "fee"),
    "transfers": ("event_at", "currency", "amount"),
}
_AMOUNTS = ("price", "size", "fee", "amount")


def _learn(state: State, row: dict[str, Any]) -> None:
    name = key("instruments", row)
    size, expiry_at = row.get("contract_size"), row.get("expiry_at")
    terms = Terms(
        to_ms(row["event_at"]),
        row["kind"],
        row["underlying"],
        row["quote_currency"],
        row["settlement_currency"],
        row["is_inverse"],
        None if size is None else str(size),
        None if expiry_at is None else to_ms(expiry_at),
    )
    known = state.terms.get(name)
    # Of two rows of one instant the greater stands, so that the order within a batch does not matter.
    if known is None or _rank(known) < _rank(terms):
        state.put(name, terms)
        state.touched.add(f"instrument/{name}")


def _rank(terms: Terms) -> tuple[int, str]:
    return terms.published_ms, repr(terms)


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
    values = [_plain(row[column]) if column in _AMOUNTS else row[column] for column in _CONTENTS[table]]
    return blake2b(orjson.dumps(values), digest_size=12).hexdigest()


def _plain(amount: str | int) -> str:
    try:
        return _text(Decimal(amount))
    except InvalidOperation:
        return str(amount)


def _apply(state: State, message: Message, until_ms: int | None) -> list[Output]:
    """Book one fill or transfer, or raise `_RefusedError` and leave the account as it was."""
    row, table = message.row, message.table
    event_ms, contents = to_ms(row["event_at"]), _digest(table, row)
    account = state.accounts.get(row["account"], Account())
    id_column = _ID[table]
    name = orjson.dumps([row["account"], table, row[id_column]]).decode()
    if known := account.applied.get(name):
        if known.contents == contents:
            return []
        raise _RefusedError(id_column, f"the contents that {row[id_column]} had before", "others")
    if event_ms < account.forgotten_ms:
        expected = f"no earlier than {instant_ms(account.forgotten_ms)}: ids from before are forgotten, and it may be a repeat"
        raise _RefusedError("event_at", expected, row["event_at"])

    try:
        outputs = _transfer(account, row, event_ms) if table == "transfers" else _fill(state, account, row, event_ms)
    except InvalidOperation:
        raise _RefusedError(None, "amounts that keep the account within DECIMAL(38, 18)", row[id_column]) from None
    account.applied[name] = Applied(event_ms, contents)
    state.touched |= {f"account/{row['account']}", f"applied/{name}"}
    if until_ms is not None:
        gone = account.forget((until_ms - KEPT_MS) // HOUR_MS * HOUR_MS)
        state.touched |= {f"applied/{name}" for name in gone}
    state.accounts[row["account"]] = account
    return outputs


def _transfer(account: Account, row: dict[str, Any], event_ms: int) -> list[Output]:
    change = {row["currency"]: _amount(row, "amount")}
    return _pay(account, change, row, row["transfer_id"], event_ms)


def _fill(state: State, account: Account, row: dict[str, Any], event_ms: int) -> list[Output]:
    name = key("instruments", row)
    terms = state.terms.get(name)
    if terms is None:
        raise _RefusedError("instrument", "an instrument whose terms are known", row["instrument"])
    if terms.expiry_ms is not None and event_ms >= terms.expiry_ms:
        raise _RefusedError("event_at", f"before the expiry at {instant_ms(terms.expiry_ms)}", row["event_at"])
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

    each = Decimal(terms.contract_size or 1)
    change = size if row["side"] == "buy" else size.copy_negate()
    paid = {terms.settlement_currency: fee.copy_negate()}
    if terms.kind == "spot":
        _add(paid, terms.underlying, _product(change, each))
        _add(paid, terms.quote_currency, _product(change, each, price).copy_negate())
        return _pay(account, paid, row, row["fill_id"], event_ms)
    held = account.positions.get(name, Position(ZERO, ZERO, ZERO, 0))
    size, average, pnl = traded(held.size, held.average, change, price, is_inverse_future)
    pnl = _rounded(_product(pnl, each))
    premium = _product(change, each, price)
    _add(paid, terms.settlement_currency, premium.copy_negate() if terms.kind == "option" else pnl)
    # Never before the row that stands, or a reader who keeps the newest would not see it.
    held = Position(size, average, _rounded(CONTEXT.add(held.realised, pnl)), max(event_ms, held.event_ms))
    position = {
        "account": row["account"],
        "venue": row["venue"],
        "instrument": row["instrument"],
        "event_at": instant_ms(held.event_ms),
        "received_at": row["received_at"],
        "size": _text(held.size),
        "average_price": _text(held.average) if held.size else None,
        "realised_pnl": _text(held.realised),
        "settlement_currency": terms.settlement_currency,
        "fill_id": row["fill_id"],
    }
    balances = _pay(account, paid, row, row["fill_id"], event_ms)
    account.positions[name] = held
    return [Output("positions", held.event_ms, position), *balances]


def traded(
    size: Decimal, average: Decimal, change: Decimal, price: Decimal, is_inverse: bool
) -> tuple[Decimal, Decimal, Decimal]:
    """A position of `size` at `average` after a trade of `change` at `price`, by average cost.

    Returns the new size, the new average price (0 when flat) and the realised profit for a contract size of 1.  Inverse
    prices must be above zero.
    """
    c = CONTEXT
    total = c.add(size, change)
    if size == 0 or (size > 0) == (change > 0):
        if is_inverse:
            cost = c.add(c.divide(size, average) if size else ZERO, c.divide(change, price))
            return total, c.divide(total, cost), ZERO
        return total, c.divide(c.add(c.multiply(size, average), c.multiply(change, price)), total), ZERO
    closes_all = change.copy_abs() >= size.copy_abs()
    closed = size if closes_all else change.copy_negate()
    gain = c.subtract(c.divide(1, average), c.divide(1, price)) if is_inverse else c.subtract(price, average)
    pnl = c.multiply(closed, gain)
    if total == 0:
        return ZERO, ZERO, pnl
    return total, price if closes_all else average, pnl


def _pay(account: Account, paid: dict[str, Decimal], row: dict[str, Any], cause: str, event_ms: int) -> list[Output]:
    """Add to the balances: one row for each that moved; a transfer's always."""
    after = {
        # As for positions: never before the row that stands.
        currency: Balance(_rounded(CONTEXT.add(held.amount, amount)), max(event_ms, held.event_ms))
        for currency, amount in paid.items()
        for held in [account.balances.get(currency, Balance(ZERO, 0))]
        if _rounded(amount) or "transfer_id" in row
    }
    account.balances |= after
    return [
        Output(
            "balances",
            balance.event_ms,
            {
                "account": row["account"],
                "currency": currency,
                "event_at": instant_ms(balance.event_ms),
                "received_at": row["received_at"],
                "amount": _text(balance.amount),
                "cause_id": cause,
            },
        )
        for currency, balance in sorted(after.items())
    ]


def _add(paid: dict[str, Decimal], currency: str, amount: Decimal) -> None:
    paid[currency] = CONTEXT.add(paid.get(currency, ZERO), _rounded(amount))


def _product(*factors: Decimal) -> Decimal:
    product = Decimal(1)
    for factor in factors:
        product = CONTEXT.multiply(product, factor)
    return product


def _amount(row: dict[str, Any], column: str) -> Decimal:
    try:
        return _rounded(Decimal(row[column]))
    except InvalidOperation:
        raise _RefusedError(column, "within DECIMAL(38, 18)", row[column]) from None


def _rounded(amount: Decimal) -> Decimal:
    """To 18 decimals, half to even.  Raises `InvalidOperation` beyond DECIMAL(38, 18)."""
    if amount.copy_abs() >= LIMIT:
        raise InvalidOperation
    return CONTEXT.quantize(amount, UNIT)


def _text(amount: Decimal) -> str:
    """Without exponent or idle zeros."""
    text = f"{_rounded(amount):f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text

"""Fills, corrections, busts and transfers: each is applied once, and its changes are booked."""

from bisect import bisect_left
from decimal import Decimal, DivisionByZero, InvalidOperation
from typing import Any

from engine.checks import dead_letter
from engine.contract import Message, Output
from kernels.market.terms import Terms
from kernels.positions.booking import Cause, Change, Move, booked
from kernels.positions.ledger import (
    CONTEXT,
    EXCHANGE,
    FEES,
    HOUSE,
    INSURANCE,
    OUTSIDE,
    UNSETTLED,
    ZERO,
    Position,
    Trade,
    product,
    rounded,
    settled,
    traded,
)
from kernels.positions.rows import BOOKED_AS, ID_COLUMNS, RefusedError, amount_in, digest
from kernels.positions.settlement import settlement_changes
from kernels.positions.state import HOUR_MS, KEPT_MS, Account, Applied, Book, State, applied_name, book_entry, contract
from schemas.rows import Fault, instant_ms, key, shown, to_ms

_COUNTER = {"transfer": OUTSIDE, "funding": EXCHANGE, "delivery": EXCHANGE, "insurance": INSURANCE, "fee": FEES}


def applied_or_refused(state: State, message: Message, contents: str, until_ms: int | None) -> list[Output]:
    """Book one fill or transfer with these contents, or return its dead letter."""
    try:
        return _apply(state, message, contents, until_ms)
    except RefusedError as refused:
        return [dead_letter(message, refused.fault, until_ms)]


def _apply(state: State, message: Message, contents: str, until_ms: int | None) -> list[Output]:
    """Book one fill or transfer with these contents, or raise `RefusedError` and leave the account unchanged."""
    row, table = message.row, BOOKED_AS[message.table]
    event_ms, name = to_ms(row["event_at"]), row["account"]
    if name in HOUSE:
        raise RefusedError("account", "an account that is not the house's", name)
    account = state.accounts.get(name) or Account()
    id_column = ID_COLUMNS[table]
    entry = applied_name(name, table, row[id_column])
    if known := account.applied.get(entry):
        if known.contents == contents:
            return []
        raise RefusedError(id_column, f"the contents that {row[id_column]} had before", "others")
    if event_ms < account.forgotten_ms:
        expected = f"no earlier than {instant_ms(account.forgotten_ms)}: ids from before are forgotten, and it may be a repeat"
        raise RefusedError("event_at", expected, row["event_at"])

    cause = Cause(state, name, account, row, event_ms, table, row[id_column], row.get("corrects_id"))
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
        raise RefusedError(None, "amounts that keep the account within DECIMAL(38, 18)", row[id_column]) from None
    account.applied[entry] = applied
    state.touched.add(f"account/{name}")
    state.touched.add(f"applied/{entry}")
    if applied.instrument:
        state.touched.add(book_entry(name, applied.instrument))
    state.accounts[name] = account
    if table == "fills":
        for partition, offset, waiting in sorted(
            account.pending.pop(row["fill_id"], []), key=lambda correction: correction[:2]
        ):
            message = Message("fills", partition, offset, waiting)
            outputs += applied_or_refused(state, message, digest("fills", waiting), until_ms)
    if until_ms is not None:
        before_ms = (until_ms - KEPT_MS) // HOUR_MS * HOUR_MS
        state.touched |= account.forget(name, before_ms)
        outputs += _given_up(account, before_ms, until_ms)
    return outputs


def _transfer(cause: Cause, contents: str) -> tuple[Applied, list[Output]]:
    row, kind = cause.row, cause.row.get("kind") or "transfer"
    if kind not in _COUNTER:
        raise RefusedError("kind", "transfer, funding, delivery, insurance or fee", shown(kind))
    change = Change(kind, row["currency"], amount_in(row, "amount"), _COUNTER[kind])
    return Applied(cause.event_ms, contents), booked(cause, [change], None)


def _fill(cause: Cause, contents: str) -> tuple[Applied, list[Output]]:
    row, account = cause.row, cause.account
    if row.get("corrects_id") is not None:
        raise RefusedError("corrects_id", "NULL of a fill", shown(row["corrects_id"]))
    name, terms = _terms(cause)
    if terms.expiry_ms is not None and cause.event_ms >= terms.expiry_ms:
        raise RefusedError("event_at", f"before the expiry at {instant_ms(terms.expiry_ms)}", row["event_at"])
    change, price, fee = _amounts_of_fill(row, terms)
    book = account.books.get(name) or Book(contract(terms))
    trade = Trade(cause.event_ms, row["fill_id"], change, price, fee)
    outputs = _counted(cause, book, name, None, trade)
    account.books[name] = book
    return Applied(cause.event_ms, contents, name, change, price, fee), outputs


def _waits(cause: Cause, message: Message, contents: str) -> bool:
    """Whether a correction has to wait for its fill; it is put by, once."""
    row, account = cause.row, cause.account
    if row["kind"] not in ("correction", "bust"):
        raise RefusedError("kind", "fill, correction or bust", shown(row["kind"]))
    fill_id = row.get("corrects_id")
    if fill_id is None or fill_id == row["fill_id"]:
        raise RefusedError("corrects_id", "the fill_id of another fill", shown(fill_id))
    if applied_name(cause.name, "fills", fill_id) in account.applied:
        return False
    for *_, waiting in account.pending.get(fill_id, []):
        if waiting["fill_id"] == row["fill_id"]:
            if digest("fills", waiting) == contents:
                return True
            raise RefusedError("fill_id", f"the contents that {row['fill_id']} had before", "others")
    account.pending.setdefault(fill_id, []).append((message.partition, message.offset, row))
    cause.state.accounts[cause.name] = account
    cause.state.touched.add(f"account/{cause.name}")
    return True


def _given_up(account: Account, before_ms: int, until_ms: int) -> list[Output]:
    """Dead letters of the corrections from before an instant whose fill has not come."""
    letters: list[Output] = []
    if not account.pending:
        return letters
    for fill_id, waiting in sorted(account.pending.items()):
        left = [correction for correction in waiting if to_ms(correction[2]["event_at"]) >= before_ms]
        fault = Fault("corrects_id", "a fill of the account that is no older than a week", fill_id)
        letters += [
            dead_letter(Message("fills", p, o, row), fault, until_ms) for p, o, row in waiting if (p, o, row) not in left
        ]
        account.pending[fill_id] = left
    account.pending = {fill_id: left for fill_id, left in account.pending.items() if left}
    return letters


def _correction(cause: Cause, contents: str) -> tuple[Applied, list[Output]]:
    row, account, fill_id = cause.row, cause.account, cause.row["corrects_id"]
    first = account.applied[applied_name(cause.name, "fills", fill_id)]
    name, terms = _terms(cause)
    if first.corrects is not None:
        raise RefusedError("corrects_id", "the fill_id of a fill, not of a correction", fill_id)
    if first.instrument != name:
        raise RefusedError("instrument", f"that of the fill, {first.instrument}", name)
    if cause.event_ms < first.event_ms:
        raise RefusedError("event_at", f"no earlier than its fill at {instant_ms(first.event_ms)}", row["event_at"])
    amounts = (ZERO, ZERO, ZERO) if row["kind"] == "bust" else _amounts_of_fill(row, terms)
    applied = Applied(cause.event_ms, contents, name, *amounts, fill_id)
    newest = cause.event_ms, row["fill_id"]
    if newest < account.corrections.get(fill_id, newest):
        return applied, []
    now = account.trade(cause.name, fill_id)
    outputs = _counted(cause, account.books[name], name, now, Trade(first.event_ms, fill_id, *amounts))
    account.corrections[fill_id] = newest
    return applied, outputs


def _terms(cause: Cause) -> tuple[str, Terms]:
    name = key("instruments", cause.row)
    terms = cause.state.terms.get(name)
    if terms is None:
        raise RefusedError("instrument", "an instrument whose terms are known", cause.row["instrument"])
    return name, terms


def _amounts_of_fill(row: dict[str, Any], terms: Terms) -> tuple[Decimal, Decimal, Decimal]:
    """Signed size, price and fee of a fill."""
    if row["side"] not in ("buy", "sell"):
        raise RefusedError("side", "buy or sell", row["side"])
    price, size, fee = amount_in(row, "price"), amount_in(row, "size"), amount_in(row, "fee")
    if size <= 0:
        raise RefusedError("size", "above zero", row["size"])
    is_inverse_future = terms.is_inverse and terms.kind in ("perpetual", "future")
    if price < 0 or (price == 0 and is_inverse_future):
        raise RefusedError("price", "above zero" if is_inverse_future else "zero or above", row["price"])
    if terms.contract_size is None and terms.kind != "spot":
        raise RefusedError("instrument", "an instrument whose contract size is known", row["instrument"])
    return (size if row["side"] == "buy" else size.copy_negate()), price, fee


def _counted(cause: Cause, book: Book, name: str, before: Trade | None, now: Trade) -> list[Output]:
    """Apply a trade, in place of its earlier contents if there are any, and book the changes."""
    traded_contract, minus = book.contract, CONTEXT.subtract
    paid: list[Change] = []
    change = minus(now.change, before.change) if before else now.change
    fee = minus(now.fee, before.fee) if before else now.fee
    if traded_contract.style == "spot":
        earlier = before or now._replace(change=ZERO)
        units = (rounded(product(trade.change, traded_contract.each)) for trade in (now, earlier))
        worth = (rounded(traded_contract.worth(trade.change, trade.price)) for trade in (now, earlier))
        paid.append(Change("spot", traded_contract.underlying, minus(*units), EXCHANGE))
        paid.append(Change("spot", traded_contract.quote, minus(*worth).copy_negate(), EXCHANGE))
        paid.append(Change("fee", traded_contract.settlement, fee.copy_negate(), FEES))
        return booked(cause, paid, None)

    held, history, index = _refolded(cause, book, name, before, now)
    closed, settlement = UNSETTLED, cause.state.settlements.get(name)
    paid.append(Change("trade", name, change, EXCHANGE, now.price if now.change else before.price if before else None))
    kind = "premium" if traded_contract.style == "option" else "pnl"
    paid.append(Change(kind, traded_contract.settlement, minus(held.paid, book.held.paid), EXCHANGE))
    if settlement is not None:
        closed = settled(traded_contract, held, settlement)
        paid += settlement_changes(name, traded_contract, settlement, book.settled, closed)
    paid.append(Change("fee", traded_contract.settlement, fee.copy_negate(), FEES))
    after = Book(traded_contract)
    after.held, after.settled = held, closed
    outputs = booked(cause, paid, Move(name, book, after))
    book.held, book.settled, book.event_ms = held, closed, after.event_ms
    if history:
        assert book.history is not None
        book.history[index:] = history
    return outputs


def _refolded(
    cause: Cause, book: Book, name: str, before: Trade | None, now: Trade
) -> tuple[Position, list[tuple[tuple[int, str], Trade, Position]], int]:
    """The position with the trade inserted where it belongs; the new end of the book's history, and the index where that
    starts."""
    position_in_time = now.event_ms, now.fill_id
    if before is None and position_in_time > book.held.newest and book.history is None:
        return traded(book.contract, book.held, now), [], 0
    if book.history is None:
        position, book.history = book.base, []
        for trade in cause.account.trades(cause.name, name, cause.account.applied):
            position = traded(book.contract, position, trade)
            book.history.append((trade[:2], trade, position))
    index = bisect_left(book.history, position_in_time, key=lambda entry: entry[0])
    position = book.history[index - 1][2] if index else book.base
    end = []
    for trade in (now, *(entry[1] for entry in book.history[index + (before is not None) :])):
        position = traded(book.contract, position, trade)
        end.append((trade[:2], trade, position))
    return position, end, index

"""Settlement: the index averages before an expiry, and the close of the positions that expire."""

from decimal import Decimal
from typing import Any

from engine.contract import Output
from kernels.market import indices
from kernels.market.indices import Series
from kernels.market.terms import Terms
from kernels.positions.booking import Cause, Change, Move, booked
from kernels.positions.ledger import CONTEXT, EXCHANGE, UNSETTLED, ZERO, Contract, Settled, rounded, settled
from kernels.positions.state import Account, Book, Index, State, book_entry
from schemas.rows import instant_ms, to_ms

SETTLEMENT_MS = 30 * 60_000
"""How long before an expiry its index is averaged."""


def learn_index(state: State, row: dict[str, Any]) -> None:
    """Keep the newest price of an index, and its averages up to the next expiries."""
    series, event_ms, price = Series.of_row(row), to_ms(row["event_at"]), Decimal(str(row["price_usd"]))
    known = state.indices.get(series)
    if known is not None and not indices.supersedes(event_ms, price, known.event_ms, known.price):
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


def settle(state: State, until_ms: int) -> list[Output]:
    """Settle the contracts that have expired and have a price."""
    if state.first_expiry_ms > until_ms:
        return []
    prices: dict[str, Decimal] = {}
    for name, terms in state.terms.items():
        is_due = terms.expiry_ms is not None and terms.expiry_ms <= until_ms and name not in state.settlements
        if is_due and (price := _settlement_price(state, name, terms)) is not None:
            prices[name] = price
    if not prices:
        return []
    state.settlements |= prices
    state.touched |= {f"instrument/{name}" for name in prices}
    state.find_first_expiry()
    outputs: list[Output] = []
    for account_name, account in sorted(state.accounts.items()):
        for name in sorted(prices.keys() & account.books.keys()):
            book, price, terms = account.books[name], prices[name], state.terms[name]
            if book.held.size:
                outputs += _closed(state, account_name, account, name, book, price, terms.expiry_ms or 0)
    return outputs


def _settlement_price(state: State, name: str, terms: Terms) -> Decimal | None:
    """The settlement price of an expired contract, in its own quotation; None if there is no index price."""
    expiry_ms = terms.expiry_ms or 0
    prices: list[tuple[Series, int, Decimal]] = []
    for series, index in state.indices.items():
        if series.underlying == terms.underlying:
            total, ms = _averaged(index, expiry_ms, expiry_ms)
            prices.append((series, index.event_ms, CONTEXT.divide(total, ms) if ms else index.price))
    price = indices.value(prices, indices.own_currency(terms._asdict()), name.partition(":")[0])
    if price is None:
        return None
    S = rounded(price)
    if terms.kind != "option":
        return S
    K = Decimal(str(terms.strike_usd or 0))
    side = 1 if terms.option_type == "call" else -1
    intrinsic = max(CONTEXT.multiply(side, CONTEXT.subtract(S, K)), ZERO)
    return rounded(CONTEXT.divide(intrinsic, S) if terms.is_inverse else intrinsic)


def _closed(
    state: State, account_name: str, account: Account, name: str, book: Book, price: Decimal, expiry_ms: int
) -> list[Output]:
    """Settle one position."""
    venue, _, instrument = name.partition(":")
    row = {"venue": venue, "instrument": instrument, "received_at": f"{instant_ms(expiry_ms)[:-1]}000Z"}
    cause = Cause(state, account_name, account, row, expiry_ms, "settlement", name)
    after = Book(book.contract)
    after.held, after.settled = book.held, settled(book.contract, book.held, price)
    changes = settlement_changes(name, book.contract, price, UNSETTLED, after.settled)
    outputs = booked(cause, changes, Move(name, book, after))
    book.settled, book.event_ms = after.settled, after.event_ms
    state.touched |= {f"account/{account_name}", book_entry(account_name, name)}
    return outputs


def settlement_changes(name: str, contract: Contract, price: Decimal, before: Settled, after: Settled) -> list[Change]:
    """The changes that a settlement makes, given what was settled of the position before and now."""
    change, _, paid = (CONTEXT.subtract(now, earlier) for now, earlier in zip(after, before, strict=True))
    return [
        Change("settlement", name, change, EXCHANGE, price),
        Change("settlement", contract.settlement, paid, EXCHANGE),
    ]

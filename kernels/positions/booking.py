"""Changes of positions and balances: the rows after them, and a ledger entry for each."""

from decimal import Decimal
from typing import Any, NamedTuple

from engine.contract import Output
from kernels.positions.ledger import CONTEXT, ZERO, average, rounded, text
from kernels.positions.state import Account, Balance, Book, State
from schemas.rows import instant_ms


class Change(NamedTuple):
    """One entry to be made."""

    kind: str
    asset: str
    amount: Decimal
    counter: str
    price: Decimal | None = None


class Cause(NamedTuple):
    """The event that is booked, and its account."""

    state: State
    name: str  # of the account
    account: Account
    row: dict[str, Any]
    event_ms: int
    kind: str  # the table, or settlement
    id: str
    corrected: str | None = None


class Move(NamedTuple):
    """A position that changes."""

    name: str
    before: Book
    after: Book  # with what changes


def booked(cause: Cause, changes: list[Change], move: Move | None) -> list[Output]:
    """Make the changes: returns the rows of the position and the balances after them, and an entry for each change.

    Raises `InvalidOperation` before anything has changed.
    """
    account, event_ms = cause.account, cause.event_ms
    changes = [change for change in changes if change.amount or cause.kind == "transfers"]
    amounts, balances = _running(cause, changes, move)
    average_price = realised = None
    outputs: list[Output] = []
    if move:
        held = move.after.held
        average_price = text(average(move.after.contract, held)) if held.size else None
        position = _position_row(cause, move, average_price)
        realised = position["realised_pnl"]
        if changes:
            outputs.append(Output("positions", move.after.event_ms, position))
    newest = {change.asset: amount for change, amount in zip(changes, amounts, strict=True)}
    for currency, balance in sorted(balances.items()):
        cash = {
            "account": cause.name,
            "currency": currency,
            "event_at": instant_ms(balance.event_ms),
            "received_at": cause.row["received_at"],
            "amount": newest[currency],
            "cause_id": cause.id,
            "margin_model": cause.row.get("margin_model"),
        }
        outputs.append(Output("balances", balance.event_ms, cash))
    booked_ms = max(event_ms, account.booked_ms)
    booked_at, caused_at = instant_ms(booked_ms), instant_ms(event_ms)
    for number, (change, amount) in enumerate(zip(changes, amounts, strict=True), start=account.entries + 1):
        is_position = move is not None and change.asset == move.name
        entry = {
            "entry_id": f"{cause.name}/{cause.kind}/{cause.id}/{change.kind}/{change.asset}",
            "account": cause.name,
            "number": number,
            "event_at": booked_at,
            "caused_at": caused_at,
            "counter_account": change.counter,
            "kind": change.kind,
            "asset": change.asset,
            "amount": text(change.amount),
            "price": None if change.price is None else text(change.price),
            "balance": amount,
            "average_price": average_price if is_position and amount != "0" else None,
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


def _running(cause: Cause, changes: list[Change], move: Move | None) -> tuple[list[str], dict[str, Balance]]:
    """The amount of its asset after each change, and the balances after all."""
    holdings: dict[str, Decimal] = {}
    balances: dict[str, Balance] = {}
    amounts: list[str] = []
    for change in changes:
        if move and change.asset == move.name:
            amount = rounded(CONTEXT.add(holdings.get(change.asset, move.before.size), change.amount))
        else:
            held = cause.account.balances.get(change.asset, Balance(ZERO, cause.event_ms))
            amount = rounded(CONTEXT.add(holdings.get(change.asset, held.amount), change.amount))
            # Never before the newest row: a reader that keeps the newest would miss it.
            balances[change.asset] = Balance(amount, max(cause.event_ms, held.event_ms))
        holdings[change.asset] = amount
        amounts.append(text(amount))
    return amounts, balances


def _position_row(cause: Cause, move: Move, average_price: str | None) -> dict[str, Any]:
    """The row of a position after its change, whose event time it sets."""
    after = move.after
    after.event_ms = max(cause.event_ms, move.before.event_ms)
    return {
        "account": cause.name,
        "venue": cause.row["venue"],
        "instrument": cause.row["instrument"],
        "event_at": instant_ms(after.event_ms),
        "received_at": cause.row["received_at"],
        "size": text(after.size),
        "average_price": average_price if after.size else None,
        "realised_pnl": text(after.realised),
        "settlement_currency": after.contract.settlement,
        "fill_id": cause.id,
    }

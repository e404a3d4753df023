"""Claims on the fund: what an account has lost beyond all that it had, and the prices at which others could bear it.

A claim has the whole amount by which equity is below zero.  Where something is held, it names for each position the price at
which all of it would have to be closed for the loss to be gone: each position bears it in proportion to its requirement (to its
value, if nothing is required), as in the bankruptcy quotes of dYdX v4.  A position that is worth less than its share, or that a
control or an oracle price holds from being deleveraged, is not named.
"""

import math
from typing import Any

from engine.contract import Output
from kernels.liquidations.subject import Subject
from schemas.rows import instant_ms

TABLE = "loss_claims"


def claim(subject: Subject) -> None:
    """Claim all that is missing: a row for each position that may be deleveraged, or one without a position."""
    case, missing = subject.case, -subject.equity
    case.claimed_ms = subject.now_ms
    if case.broke_ms is None:
        case.broke_ms = subject.now_ms
    currency = _currency(subject)
    head = {
        "claim_id": f"{subject.name}/{instant_ms(subject.now_ms)}",
        "account": subject.name,
        "event_at": instant_ms(subject.now_ms),
        "broke_at": instant_ms(case.broke_ms),
        "missing_usd": missing,
        "currency": currency,
        "is_settled": not subject.sizes,
        "reason": f"equity is {subject.equity:.2f} USD, and {'something is' if subject.sizes else 'nothing is'} held",
    }
    parts = _parts(subject, missing)
    for part in parts or [dict.fromkeys(("venue", "instrument", "size", "price", "share_usd"))]:
        subject.outputs.append(Output(TABLE, subject.now_ms, head | part))
    text = f"{missing:.2f} USD are missing, which the fund is asked for"
    if parts:
        named = ", ".join(f"{part['size']:g} {part['instrument']} at {part['price']:.6g}" for part in parts)
        text += f"; otherwise others close {named}"
    subject.event("claimed", text, amount_usd=missing)


def _currency(subject: Subject) -> str:
    """The currency in which most is owed."""
    market = subject.state.market
    usd = market.currency_columns["usd"]
    balances = market.accounts[subject.name].balances
    owed = {currency: amount * usd.item(market.currency(currency)) for currency, (_, amount) in balances.items() if amount < 0}
    return min(owed, key=lambda currency: (owed[currency], currency), default="USD")


def _parts(subject: Subject, missing: float) -> list[dict[str, Any]]:
    """The positions that may be deleveraged, each with its price and its share of the loss."""
    contracts = [contract for contract in subject.ordered_by_requirement() if not subject.holds_deleveraging(contract)]
    worth = {contract: abs(subject.batch.quote(contract).unit_usd * subject.sizes[contract]) for contract in contracts}
    weights = {contract: subject.requirements[contract] for contract in contracts}
    if not sum(weights.values()) > 0:
        weights = worth
    total, parts = sum(weights.values()), []
    for contract in contracts:
        if not weights[contract] > 0:
            continue
        share, size = missing * weights[contract] / total, subject.sizes[contract]
        price = subject.batch.quote(contract).price_gaining(size, share)
        if not math.isnan(price) and share <= worth[contract]:
            venue, _, instrument = contract.partition(":")
            parts.append({"venue": venue, "instrument": instrument, "size": size, "price": price, "share_usd": share})
    return parts

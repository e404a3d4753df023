"""Who won and who lost what: exact sums of trades, of what is held at one mark, of fees and of payments.

Of a linear contract, and of an option, a trade of n contracts of size c at price p moves n·c·p of the settlement currency from
the buyer to the seller, and what is held is worth n·c·mark.  Of an inverse future or perpetual it is n·c/p the other way, and
what is held is worth −n·c/mark: profit is n·c·(1/entry − 1/mark) (https://www.bitmex.com/app/inversePerpetualsGuide).  So every
trade sums to zero over its two sides, and all profits do, whatever the marks are.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

SIGNS = {"buy": 1, "sell": -1}
ZERO = Fraction(0)


@dataclass
class Profit:
    """Of one account in one currency, in units of it; a loss is negative."""

    traded: Fraction = ZERO  # what trades have moved
    held: Fraction = ZERO  # what is held is worth, at the marks
    fees: Fraction = ZERO
    paid: Fraction = ZERO  # by the insurance fund, and as funding

    @property
    def total(self) -> Fraction:
        """All of it."""
        return self.traded + self.held + self.fees + self.paid

    def add(self, other: "Profit") -> None:
        """Add another's."""
        self.traded += other.traded
        self.held += other.held
        self.fees += other.fees
        self.paid += other.paid


Profits = dict[tuple[str, str], Profit]
"""By account and currency."""
VENUE, FUND = "house:fees", "house:insurance"
"""Who takes fees, and who pays for others."""
KINDS = {"insurance": FUND, "funding": "house:exchange"}
"""Who pays a transfer of a kind.  What comes from outside is no profit."""


def profits(
    fills: Iterable[Mapping[str, Any]],
    terms: Mapping[tuple[str, str], Mapping[str, Any]],
    marks: Mapping[tuple[str, str], float],
    transfers: Iterable[Mapping[str, Any]] = (),
) -> Profits:
    """The profits of all accounts, and of the house, whose sum is zero in each currency where both sides of trades are given.

    `fills` and `transfers` are rows of those tables, each once and without corrections; `terms` rows of `instruments`, and
    `marks` in the quote currency, by venue and instrument.  Raises `KeyError` for a contract without terms, or held without a
    mark.
    """
    result: Profits = defaultdict(Profit)
    held: dict[tuple[str, tuple[str, str]], Fraction] = defaultdict(Fraction)
    for row in fills:
        name = row["venue"], row["instrument"]
        contract, account = terms[name], row["account"]
        currency = contract["settlement_currency"]
        contracts = SIGNS[row["side"]] * Fraction(str(row["size"]))
        profit = result[account, currency]
        profit.traded -= _worth(contract, contracts, Fraction(str(row["price"])))
        fee = Fraction(str(row.get("fee") or 0))
        profit.fees -= fee
        if fee:
            result[VENUE, currency].fees += fee
        held[account, name] += contracts
    for (account, name), contracts in held.items():
        if contracts:
            contract = terms[name]
            result[account, contract["settlement_currency"]].held += _worth(contract, contracts, Fraction(str(marks[name])))
    for row in transfers:
        if (payer := KINDS.get(row.get("kind") or "")) is not None:
            amount = Fraction(str(row["amount"]))
            result[row["account"], row["currency"]].paid += amount
            result[payer, row["currency"]].paid -= amount
    return dict(result)


def _worth(contract: Mapping[str, Any], contracts: Fraction, price: Fraction) -> Fraction:
    size = Fraction(str(contract.get("contract_size") or 1))
    if contract["is_inverse"] and contract["kind"] != "option":
        return -contracts * size / price
    return contracts * size * price


def grouped(everyone: Profits) -> Profits:
    """The profits of accounts whose names differ only in a number at their end, added up."""
    result: Profits = defaultdict(Profit)
    for (account, currency), profit in everyone.items():
        result[account.rstrip("0123456789").rstrip("-_"), currency].add(profit)
    return dict(result)

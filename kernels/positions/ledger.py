"""The arithmetic of the ledger: a position after its trades, and the counterparty of each entry.

Average cost.  With n the signed contracts, c the contract size and p the price, a trade is worth
    linear, option   v = n c p, in the settlement currency
    inverse          v = -n c/p, in coin, c in USD
and a position has a basis b, the sum of what its trades were worth.  A trade against it that closes k of its n contracts
realises
    -(b k/n + v), rounded to 18 decimals, half to even
and leaves the basis b (n - k)/n, so that the average price, b/(n c) or for an inverse -n c/b, stays what it was.  A basis has
60 decimals: more than any product needs, and enough for a quotient to be right to the last digit that is booked.  A position
depends on the order of its trades: they count in the order of their event time, then their id.

Double entry.  Each entry moves an amount of one asset, a currency or an instrument, between an account and one of four accounts
of the house, so that each asset sums to zero over all accounts, always.  A fill has one side of a trade: the exchange account
of the house is the other side of every fill, like a clearing house, and is flat again once both sides have been filled.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from functools import reduce
from typing import NamedTuple

CONTEXT = Context(prec=120, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""Enough for amount × price × contract size with every digit."""
BOOKED = Context(prec=38, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
"""Booked or written amounts are DECIMAL(38, 18): rounding an amount that does not fit is an invalid operation."""
UNIT = Decimal("1e-18")
BASIS_UNIT = Decimal("1e-60")
ZERO = Decimal(0)

EXCHANGE, FEES, INSURANCE, OUTSIDE = HOUSE = ("house:exchange", "house:fees", "house:insurance", "house:outside")
"""The accounts of the house: the other side of trades, funding and settlements; of fees; of payments from and to the insurance
fund; and of deposits and withdrawals."""


class Contract(NamedTuple):
    """The contract that an account trades, with its terms at the first trade."""

    style: str  # linear, inverse, option or spot
    each: Decimal  # contract size
    settlement: str  # currencies
    underlying: str
    quote: str

    def worth(self, size: Decimal, price: Decimal) -> Decimal:
        """The amount that a trade adds to the basis, in the settlement currency."""
        if self.style == "inverse":
            value = CONTEXT.divide(CONTEXT.multiply(size, self.each), price)
            return CONTEXT.quantize(value, BASIS_UNIT).copy_negate()
        return product(size, self.each, price)


class Trade(NamedTuple):
    """A fill, as it counts now: at the time of its execution, with the contents of its newest correction."""

    event_ms: int
    fill_id: str
    change: Decimal  # contracts; a sale is negative, one that was busted is 0
    price: Decimal
    fee: Decimal


class Position(NamedTuple):
    """The holding of one contract."""

    size: Decimal  # contracts; short is negative
    basis: Decimal  # settlement currency
    realised: Decimal  # settlement currency, since the first trade
    paid: Decimal  # to its cash: what was realised, or for options the premiums
    newest: tuple[int, str]  # time and id of its last trade


class Settled(NamedTuple):
    """The settlement of a position when its contract expires."""

    change: Decimal  # contracts: it closes the position
    realised: Decimal
    paid: Decimal  # settlement currency


FLAT = Position(ZERO, ZERO, ZERO, ZERO, (-(1 << 62), ""))
UNSETTLED = Settled(ZERO, ZERO, ZERO)


def traded(contract: Contract, held: Position, trade: Trade) -> Position:
    """A position after one more trade.  Raises `InvalidOperation` or `DivisionByZero` if the numbers cannot be computed."""
    c, change, newest = CONTEXT, trade.change, (trade.event_ms, trade.fill_id)
    if change == 0:
        return held._replace(newest=newest)
    value = contract.worth(change, trade.price)
    size, basis, pnl = held.size, held.basis, ZERO
    if size == 0 or (size > 0) == (change > 0):
        basis = c.add(basis, value)
    elif change.copy_abs() <= size.copy_abs():
        part = c.divide(c.multiply(basis, change), size)  # of the basis, negated, as change and size have other signs
        pnl = rounded(c.subtract(part, value))
        basis = c.quantize(c.subtract(basis, part.copy_negate()), BASIS_UNIT) if c.add(size, change) != 0 else ZERO
    else:
        closing = contract.worth(size.copy_negate(), trade.price)
        pnl = rounded(c.add(basis, closing).copy_negate())
        basis = contract.worth(c.add(size, change), trade.price)
    paid = value.copy_negate() if contract.style == "option" else pnl
    return Position(c.add(size, change), basis, c.add(held.realised, pnl), c.add(held.paid, rounded(paid)), newest)


def settled(contract: Contract, held: Position, price: Decimal) -> Settled:
    """A position at expiry: closed at `price`, in the contract's own quotation."""
    if held.size == 0:
        return UNSETTLED
    after = traded(contract, held, Trade(*held.newest, held.size.copy_negate(), price, ZERO))
    return Settled(
        held.size.copy_negate(),
        CONTEXT.subtract(after.realised, held.realised),
        CONTEXT.subtract(after.paid, held.paid),
    )


def average(contract: Contract, held: Position) -> Decimal:
    """Average entry price in the quote currency; the position must not be flat."""
    units = CONTEXT.multiply(held.size, contract.each)
    if contract.style == "inverse":
        return CONTEXT.divide(units, held.basis).copy_negate()
    return CONTEXT.divide(held.basis, units)


def product(*factors: Decimal) -> Decimal:
    """Their product, with every digit."""
    return reduce(CONTEXT.multiply, factors)


def rounded(amount: Decimal) -> Decimal:
    """To 18 decimals, half to even.  Raises `InvalidOperation` beyond DECIMAL(38, 18)."""
    return BOOKED.quantize(amount, UNIT)


def text(amount: Decimal) -> str:
    """Without exponent or idle zeros."""
    booked = rounded(amount)
    digits = str(booked)
    if "E" in digits:  # for amounts below a millionth
        digits = f"{booked:f}"
    digits = digits.rstrip("0").rstrip(".")
    return "0" if digits in ("-0", "") else digits

"""What an order that was worked in slices has cost, against the prices at which it might have traded.

A cost is positive.  Prices are in the quote currency, quantities in contracts of one side; a product of both is worth
price × contracts.  Sources: A. Perold, "The implementation shortfall: paper versus reality", Journal of Portfolio Management
1988; the CFA curriculum, "Trade strategy and execution" (delay, realised, missed, explicit); W. Wagner and M. Edwards, "Best
execution", Financial Analysts Journal 1993, whose delay covers the whole order; R. Huang and H. Stoll, "Dealer versus auction
markets", Journal of Financial Economics 1996 (effective and realised spread).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

Fill = tuple[float, float]
"""Contracts, price."""


class Shortfall(NamedTuple):
    """Implementation shortfall and its parts, which sum to it; price × contracts."""

    delay: float  # from the decision to the release
    realised: float  # from the release to the fills
    missed: float  # of what was not traded, to the last price
    fees: float

    @property
    def total(self) -> float:
        """Perold's shortfall: the paper portfolio's gain less the real one's."""
        return self.delay + self.realised + self.missed + self.fees


def sign(side: str) -> int:
    """1 to buy, -1 to sell.  Raises `ValueError` for another side."""
    if side not in ("buy", "sell"):
        raise ValueError(f"side: expected buy or sell, got {side!r}")
    return 1 if side == "buy" else -1


def traded(fills: Iterable[Fill]) -> tuple[float, float]:
    """Contracts, and their worth: the sums of quantity and of quantity × price."""
    pairs = list(fills)
    return sum(quantity for quantity, _ in pairs), sum(quantity * price for quantity, price in pairs)


def average_price(fills: Iterable[Fill]) -> float | None:
    """The mean price by quantity; None where nothing is traded."""
    quantity, worth = traded(fills)
    return worth / quantity if quantity else None


def shortfall(
    side: str,
    quantity: float,
    decision: float,
    fills: Iterable[Fill],
    *,
    released: float | None = None,
    last: float | None = None,
    fees: float = 0.0,
) -> Shortfall:
    """Perold's shortfall as the CFA curriculum splits it: delay is of what was traded, missed from the decision on.

    released  the price when the order went to the market; None: that of the decision
    last      the price at the end, for what was not traded.  Raises `ValueError` where it is needed and missing
    """
    D, released = sign(side), decision if released is None else released
    filled, worth = traded(fills)
    left = quantity - filled
    if left and last is None:
        raise ValueError(f"last: expected the price at the end, for {left:g} that were not traded, got None")
    missed = D * left * ((decision if last is None else last) - decision)
    return Shortfall(D * filled * (released - decision), D * (worth - filled * released), missed, fees)


def wagner(
    side: str, quantity: float, decision: float, arrival: float, fills: Iterable[Fill], last: float, fees: float = 0.0
) -> Shortfall:
    """Wagner's split: delay is of the whole order, missed from the arrival on.  Its total is Perold's."""
    D = sign(side)
    filled, worth = traded(fills)
    missed = D * (quantity - filled) * (last - arrival)
    return Shortfall(D * quantity * (arrival - decision), D * (worth - filled * arrival), missed, fees)


def market_adjusted(cost: float, market_return: float, beta: float, side: str = "buy") -> float:
    """A cost without the part that the market's own move explains; all three in the same unit, a fraction or percent."""
    return cost - sign(side) * beta * market_return


def capture_shortfall(side: str, quantity: float, decision: float, fills: Iterable[Fill]) -> tuple[float, float]:
    """What the fills were worth, and by how much that is worse than the whole quantity at the decision's price."""
    _, worth = traded(fills)
    return worth, sign(side) * (worth - quantity * decision)


def slippage(side: str, price: float, benchmark: float) -> float:
    """How much worse a price is than a benchmark, as a fraction of the benchmark.  The benchmark is not zero."""
    return sign(side) * (price - benchmark) / benchmark


def effective_spread(side: str, price: float, mid: float) -> float:
    """Twice how far a fill is from the mid at its time, as a fraction of that mid.  Negative where it earned the spread."""
    return 2.0 * slippage(side, price, mid)


def realised_spread(side: str, price: float, mid: float, later_mid: float) -> float:
    """Twice how far a fill is from the mid some time later, as a fraction of the mid at its time: what the other side kept."""
    return 2.0 * sign(side) * (price - later_mid) / mid


def participation(own: float, others: float) -> float | None:
    """What was traded, as a fraction of what others traded meanwhile; None where they traded nothing."""
    return own / others if others > 0 else None


def fill_rate(filled: float, quantity: float) -> float:
    """Which fraction was traded; the quantity is above zero."""
    return filled / quantity


def book_price(levels: Iterable[Sequence[float]], quantity: float) -> float | None:
    """The mean price of taking a quantity from one side of a book, [price, size] best first; None without levels.

    What the visible levels do not have is taken at the last of them.
    """
    left, worth, last = quantity, 0.0, None
    for price, size in levels:
        taken, last = min(size, left), price
        worth += taken * price
        left -= taken
        if left <= 0:
            break
    if last is None or quantity <= 0:
        return None
    return (worth + max(left, 0.0) * last) / quantity

"""The price of a call auction, at which orders that were collected trade when trading begins again.

Of all prices

    1. that at which most can be executed,
    2. of these that with the least surplus, what is left over at that price,
    3. of these that nearest to the reference price, the mark; of two that are equally near the higher

Xetra's market model for equities has the first two as its principle (the limit with the highest executable volume and the
lowest surplus), and takes the reference price where these leave several; where the surplus of all is on one side it first
takes the highest, or the lowest, of them, which is left out here: https://www.xetra.com/xetra-en/trading/trading-models/auction
"""

from collections.abc import Sequence
from itertools import accumulate

Wanted = Sequence[tuple[int, int]]
"""Price and contracts of each order."""


def uncrossing(buys: Wanted, sales: Wanted, reference: int | None) -> int | None:
    """The price of the auction; None where nothing can be executed.

    A reference that is not known makes no difference between prices: the highest is taken.  It must be on the grid of prices,
    for it may be the price itself.
    """
    if not buys or not sales or max(price for price, _ in buys) < min(price for price, _ in sales):
        return None
    prices = sorted({price for price, _ in buys} | {price for price, _ in sales} | ({reference} if reference else set()))
    place = {price: at for at, price in enumerate(prices)}
    demand, supply = [0] * len(prices), [0] * len(prices)
    for price, size in buys:
        demand[place[price]] += size
    for price, size in sales:
        supply[place[price]] += size
    # A buyer takes every price up to his own, a seller every one from his own on.
    wanted = list(accumulate(reversed(demand)))[::-1]
    offered = list(accumulate(supply))

    def merit(at: int) -> tuple[int, int, int, int]:
        distance = 0 if reference is None else abs(prices[at] - reference)
        return min(wanted[at], offered[at]), -abs(wanted[at] - offered[at]), -distance, prices[at]

    return prices[max(range(len(prices)), key=merit)]

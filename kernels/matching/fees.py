"""The fee of a trade, exact, in units of the settlement currency.

Futures, spot   a fraction of the notional: price × contracts, of an inverse contract contracts / price
Options         a fraction of the underlying, not of the option's price, but no more than a fraction (`cap`) of that price.  Of
                a linear option whose index is not known, that most; without one, the fraction of the price
                https://support.deribit.com/hc/en-us/articles/25944746248989-Fees
"""

from collections.abc import Callable

from kernels.market.terms import Tradable
from kernels.matching.numbers import UNIT, divided, whole_of


def fee(terms: Tradable, rate: int, cap: int, price: int, amount: int, index: Callable[[Tradable], float | None]) -> int:
    """The fee at this rate.

    `rate`, `cap` and `price` are in units of 1e-18, `amount`, contracts × size of a contract, in their squares.
    """
    if terms.kind != "option":
        charged = amount * rate
        return divided(charged, price * UNIT) if terms.is_inverse else divided(charged * price, UNIT**3)
    most = divided(amount * price * (cap or rate), UNIT**3)
    underlying = UNIT if terms.is_inverse else whole_of(index(terms) or 0.0)
    charged = divided(amount * rate * underlying, UNIT**3)
    return min(charged, most) if cap and underlying else charged if underlying else most

"""The mark of a linear future or perpetual, as the own venue makes it.

    sample    middle of best bid and best ask / index - 1, each time that a ticker may be due, where there are both
    basis     of the samples an exponential average in time: each counts 1 - exp(-time since the last one / `basis_ms`)
    mark      index × (1 + the basis, at most `basis_limit` up or down), to a hundredth of a tick

So a trade, or an order that stands for a moment, moves no mark, and the mark follows the index at once.  It is the rule of
DerivaDEX: the index plus an exponential average of the premium of the middle, over 30 samples a second apart, at most 0.5 %
from the index.  https://docs.derivadex.com/reference-public/price-feeds-and-mark-price-inputs
Deribit smooths the distance over 30 seconds: https://support.deribit.com/hc/en-us/articles/25954416110877

Choice    a book goes by this mark, in its band and its auctions, once it has one.  Where the venue makes none (options, inverse
          contracts, no index) it goes by the marks in `tickers`, and its own tickers tell none.  So who reads both has one mark
          of a contract, as long as feeds tell no marks of contracts which this venue marks
"""

from math import exp

from kernels.matching.numbers import UNIT, divided, whole_of
from kernels.matching.rules import Rules


def sampled(basis: float, passed_ms: int, middle: float, index: float, rules: Rules) -> float:
    """The basis, a fraction of the index, after one more sample."""
    return basis + (1 - exp(-passed_ms / rules.basis_ms)) * (middle / index - 1 - basis)


def marked(basis: float, index: float, tick: int, rules: Rules) -> int:
    """The mark in units; `tick` is in units, too, and 0 where there is none."""
    limit, step = rules.basis_limit, max(tick // 100, 1) if tick else UNIT // 10**8
    return divided(whole_of(index * (1 + min(max(basis, -limit), limit))), step) * step

"""Liquidation: which accounts are liquidated, how much of a position is closed, at what price, what the insurance fund gains by
it, and who is deleveraged first.

With TNC the total net collateral of an account (cash and positions at the oracle's price) and TMMR its total maintenance
requirement:

    liquidatable      TMMR > 0 and TMMR > TNC
    fillable price    (PNNV - ABR · SMMR · PMMR)/PS of a position's notional PNNV, requirement PMMR and size PS,
                      ABR = BA (1 - TNC/TMMR) within [0, 1]
    bankruptcy quote  -ΔNNV - TNC |ΔMMR|/TMMR, of a part with these changes of notional value and requirement: at this quote its
                      closing uses up its share of the collateral
    insurance fund    fill quote - bankruptcy quote; a gain no more than max_fee · |fill quote|

dYdX v4 (formulas and terms), Deribit and Hyperliquid (increments, cooldown), BitMEX (rank of auto-deleveraging), Paradex (price
band).  Sizes are signed, short is negative.  Functions of arrays broadcast; NaN in gives NaN out.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Rules(NamedTuple):
    """How accounts are liquidated; shares and rates are fractions."""

    bankruptcy_adjustment: float = 1.0  # BA: how fast the fillable price leaves the oracle's as collateral goes
    spread_to_maintenance: float = 0.1  # SMMR: the widest spread, in maintenance requirements
    increment: float = 0.25  # share of the position closed in a round
    round_s: float = 1.0  # between rounds
    large_usd: float = 100_000.0  # above it a position is large
    large_increment: float = 0.2
    large_cooldown_s: float = 30.0
    least_usd: float = 1_000.0  # an order that would leave less closes the rest too
    price_band: float = 0.05  # around mark, for orders

    @property
    def longest_pause_s(self) -> float:
        """The longest time after a round in which it can affect the next one."""
        return max(self.round_s, self.large_cooldown_s)

    @property
    def spread(self) -> tuple[float, float]:
        """The rules that `fillable_price` follows."""
        return self.bankruptcy_adjustment, self.spread_to_maintenance

    @property
    def rounds(self) -> tuple[float, float, float, float, float, float]:
        """The rules that `round_size` follows."""
        large = self.large_increment, self.large_cooldown_s
        return self.large_usd, self.least_usd, self.increment, self.round_s, *large


DEFAULT = Rules()


def is_liquidatable(tnc: ArrayLike, tmmr: ArrayLike) -> BoolArray:
    """Whether an account is liquidatable: a requirement exists and exceeds the collateral; at equality it is not."""
    TNC, TMMR = _arrays(tnc, tmmr)
    return np.asarray((TMMR > 0.0) & (TMMR > TNC))


def fillable_price(PS: float, PNNV: float, PMMR: float, TNC: float, TMMR: float, BA: float, SMMR: float) -> float:
    """The worst price at which a liquidation order may fill: the oracle's, less for a long, more for a short.

    Size, notional and requirement (`PS`, `PNNV`, `PMMR`) are the position's, `TNC` and `TMMR` the account's; `BA` and `SMMR`
    are `Rules.spread`.  NaN where size or requirement is zero.
    """
    if PS == 0.0 or not TMMR > 0.0:
        return math.nan
    ABR = BA * (1.0 - TNC / TMMR)
    if ABR < 0.0:
        ABR = 0.0
    elif ABR > 1.0:
        ABR = 1.0
    return (PNNV - ABR * SMMR * PMMR) / PS


def insurance_delta(fill_quote: float, delta_nnv: float, delta_mmr: float, TNC: float, TMMR: float, max_fee: float) -> float:
    """What the insurance fund gains by a fill, in the unit of the quotes; negative where the account cannot bear it.

    A quote is what the account receives, negative where it pays.  NaN where there is no requirement.
    """
    if not TMMR > 0.0:
        return math.nan
    bankruptcy_quote = -delta_nnv - TNC * abs(delta_mmr) / TMMR
    return min(fill_quote - bankruptcy_quote, max_fee * abs(fill_quote))


def round_size(
    PS: float,
    mark: float,
    since_s: float,
    large_usd: float,
    least_usd: float,
    increment: float,
    pause_s: float,
    large_increment: float,
    large_pause_s: float,
) -> float:
    """The size to close of a position in this round, signed as the order: against the position, and never beyond it.

    `since_s` is the time since the last round, infinite before the first; the rest is `Rules.rounds`.  Nothing is closed until
    the pause is over: `round_s`, and `large_cooldown_s` for a large position.  Of a large position `large_increment` is closed,
    of others `increment`; all of it where less than `least_usd` would be left.  The caller stops once the account is no longer
    liquidatable.
    """
    notional = abs(PS * mark)
    share, pause = (large_increment, large_pause_s) if notional > large_usd else (increment, pause_s)
    if notional * (1.0 - share) < least_usd or share > 1.0:
        share = 1.0
    return -PS * share if since_s >= pause else 0.0 * PS


def adl_score(pnl: ArrayLike, entry_value: ArrayLike, mark_value: ArrayLike, bankruptcy_value: ArrayLike) -> FloatArray:
    """How early a position is deleveraged; the highest first.

    Leverage is |mark value|/|mark value - bankruptcy value|, and with P = P&L/|entry value| the score is P · leverage where
    P > 0, else P/leverage: the more it gains and the more it is levered, the earlier; of losers the least levered last.
    """
    gain, entry, mark, bankrupt = _arrays(pnl, entry_value, mark_value, bankruptcy_value)
    with np.errstate(divide="ignore", invalid="ignore"):
        P = np.where(entry != 0.0, gain / np.abs(entry), np.where(np.isnan(gain + entry), np.nan, 0.0))
        leverage = np.abs(mark) / np.abs(mark - bankrupt)
        # 0 · ∞ would be a position that neither gains nor can be bankrupted: no score.
        return _array(np.where(P == 0.0, 0.0, np.where(P > 0.0, P * leverage, P / leverage)))


def band(mark_price: ArrayLike, rules: Rules = DEFAULT) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest price around mark; a market sell and a market buy are bounded by them."""
    (mark,) = _arrays(mark_price)
    return _array(mark * (1.0 - rules.price_band)), _array(mark * (1.0 + rules.price_band))


def _arrays(*values: ArrayLike) -> tuple[FloatArray, ...]:
    return tuple(_array(value) for value in values)


def _array(value: ArrayLike) -> FloatArray:
    return np.asarray(value, dtype=np.float64)

"""Liquidation: who is closed, how much of it, at what price, who pays, and who comes next.

With TNC the total net collateral of an account (cash and positions at the oracle's price), TMMR its total maintenance
requirement, and for what is closed ΔNNV and ΔMMR the changes of net notional value and requirement:

    liquidatable      TMMR > 0 and TMMR > TNC
    bankruptcy quote  -ΔNNV - TNC |ΔMMR|/TMMR, the quote at which closing uses up just its share of the collateral
    fillable price    (PNNV - ABR · SMMR · PMMR)/PS of a position's notional PNNV, requirement PMMR and size PS,
                      ABR = BA (1 - TNC/TMMR) within [0, 1]
    insurance fund    fill quote - bankruptcy quote; a gain no more than max_fee · |fill quote|

dYdX v4 (formulae and terms), Deribit and Hyperliquid (increments, cooldown), BitMEX (rank of auto-deleveraging), Drift
(size that covers a shortage), Paradex (price band).  Sizes are signed, short is negative; a quote is what the account
receives, negative where it pays.  Every argument is an array or a number and all broadcast; NaN in gives NaN out.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from udfs.compiled import elementwise

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Rules(NamedTuple):
    """How accounts are liquidated; shares and rates are fractions."""

    bankruptcy_adjustment: float = 1.0  # BA: how fast the fillable price leaves the oracle's as collateral goes
    spread_to_maintenance: float = 0.1  # SMMR: the widest spread, in maintenance requirements
    max_fee: float = 0.005  # of the fill quote, to the insurance fund
    increment: float = 0.25  # share of the position closed in a round
    round_s: float = 1.0  # between rounds
    large_usd: float = 100_000.0  # above it a position is large
    large_increment: float = 0.2
    large_cooldown_s: float = 30.0
    least_usd: float = 1_000.0  # what would leave less closes the rest too
    price_band: float = 0.05  # around mark, for orders

    @property
    def longest_pause_s(self) -> float:
        """After a round, how long it can matter to the next one."""
        return max(self.round_s, self.large_cooldown_s)

    @property
    def spread(self) -> tuple[float, float]:
        """What of them `one_fillable_price` follows."""
        return self.bankruptcy_adjustment, self.spread_to_maintenance

    @property
    def rounds(self) -> tuple[float, float, float, float, float, float]:
        """What of them `one_round_size` follows."""
        large = self.large_increment, self.large_cooldown_s
        return self.large_usd, self.least_usd, self.increment, self.round_s, *large


DEFAULT = Rules()


def is_liquidatable(tnc: ArrayLike, tmmr: ArrayLike) -> BoolArray:
    """Whether an account is liquidatable: a requirement exists and exceeds the collateral; at equality it is not."""
    TNC, TMMR = _arrays(tnc, tmmr)
    return np.asarray((TMMR > 0.0) & (TMMR > TNC))


def bankruptcy_quote(delta_nnv: ArrayLike, delta_mmr: ArrayLike, tnc: ArrayLike, tmmr: ArrayLike) -> FloatArray:
    """Quote at which closing a part uses up that part's share of the collateral; beyond it the account's debt grows.

    Over the whole of an account these quotes sum to -NNV - TNC.  NaN where there is no requirement.
    """
    dNNV, dMMR, TNC, TMMR = _arrays(delta_nnv, delta_mmr, tnc, tmmr)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(TMMR > 0.0, np.abs(dMMR) / TMMR, np.nan)
    return _array(-dNNV - TNC * share)


def fillable_price(
    size: ArrayLike, nnv: ArrayLike, mmr: ArrayLike, tnc: ArrayLike, tmmr: ArrayLike, rules: Rules = DEFAULT
) -> FloatArray:
    """The worst price at which a liquidation order may fill: the oracle's, less for a long, more for a short.

    `size`, `nnv` and `mmr` are the position's, `tnc` and `tmmr` the account's.  NaN where size or requirement is zero.
    """
    return _array(_fillable_prices(size, nnv, mmr, tnc, tmmr, *rules.spread))


def one_fillable_price(PS: float, PNNV: float, PMMR: float, TNC: float, TMMR: float, BA: float, SMMR: float) -> float:
    """`fillable_price` of one position, of numbers."""
    if PS == 0.0 or not TMMR > 0.0:
        return math.nan
    ABR = BA * (1.0 - TNC / TMMR)
    if ABR < 0.0:
        ABR = 0.0
    elif ABR > 1.0:
        ABR = 1.0
    return (PNNV - ABR * SMMR * PMMR) / PS


_fillable_prices = elementwise(one_fillable_price)


def insurance_delta(fill_quote: ArrayLike, bankruptcy: ArrayLike, rules: Rules = DEFAULT) -> FloatArray:
    """What the insurance fund gains by a fill, or pays where negative, given both quotes."""
    fill, limit = _arrays(fill_quote, bankruptcy)
    return _array(np.minimum(fill - limit, rules.max_fee * np.abs(fill)))


def round_size(size: ArrayLike, mark_price: ArrayLike, since_round_s: ArrayLike, rules: Rules = DEFAULT) -> FloatArray:
    """What to close of a position in this round, signed as the order: against the position, and never beyond it.

    Nothing before the pause since the last round (infinite before the first) is over: `round_s`, and `large_cooldown_s` for
    a large position.  Of a large one `large_increment` is closed, else `increment`; all, where less than `least_usd` would
    be left.  Whoever calls this stops once the account is no longer liquidatable.
    """
    return _array(_round_sizes(size, mark_price, since_round_s, *rules.rounds))


def one_round_size(
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
    """`round_size` of one position, of numbers."""
    notional = abs(PS * mark)
    share, pause = (large_increment, large_pause_s) if notional > large_usd else (increment, pause_s)
    if notional * (1.0 - share) < least_usd or share > 1.0:
        share = 1.0
    return -PS * share if since_s >= pause else 0.0 * PS


_round_sizes = elementwise(one_round_size)


def size_to_cover(
    shortage: ArrayLike,
    mark_price: ArrayLike,
    maintenance: ArrayLike,
    liquidation_fee: ArrayLike = 0.0,
    insurance_fee: ArrayLike = 0.0,
    quote_price: ArrayLike = 1.0,
) -> FloatArray:
    """How much of a position to close so that the shortage, TMMR - TNC, is gone; 0 where there is none.

    Closing a unit frees `maintenance` of its notional and costs the fees, all fractions: shortage/(price · quote price ·
    (maintenance - fees)).  Infinite where fees take all that is freed.  Drift, "base to cover margin shortage".
    """
    short, price, rate, fee, fund, quote = _arrays(
        shortage, mark_price, maintenance, liquidation_fee, insurance_fee, quote_price
    )
    freed = price * quote * (rate - fee - fund)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(freed > 0.0, short / freed, np.inf)
    return _array(np.where(short <= 0.0, 0.0, np.where(np.isnan(short + freed), np.nan, needed)))


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


def adl_order(score: ArrayLike) -> IntArray:
    """Positions in the order in which they are deleveraged: highest score first, the earlier entry first among equals."""
    ranked: IntArray = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    return ranked


def liquidation_price(size: ArrayLike, mark_price: ArrayLike, tnc: ArrayLike, maintenance: ArrayLike) -> FloatArray:
    """Price at which an account of one linear position becomes liquidatable: TNC + size (S - mark) = maintenance |size| S.

    `maintenance` is a fraction below 1.  NaN where no positive price does it.
    """
    PS, mark, TNC, rate = _arrays(size, mark_price, tnc, maintenance)
    with np.errstate(divide="ignore", invalid="ignore"):
        price = (PS * mark - TNC) / (PS - rate * np.abs(PS))
        return _array(np.where((PS != 0.0) & (price > 0.0), price, np.nan))


def is_within_band(limit_price: ArrayLike, mark_price: ArrayLike, is_buy: ArrayLike, rules: Rules = DEFAULT) -> BoolArray:
    """Whether an order's limit may be: a buy no higher than mark (1 + band), a sell no lower than mark (1 - band)."""
    limit, mark = _arrays(limit_price, mark_price)
    low, high = band(mark, rules)
    return np.asarray(np.where(is_buy, limit <= high, limit >= low))


def band(mark_price: ArrayLike, rules: Rules = DEFAULT) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest price around mark; a market sell and a market buy are bounded by them."""
    (mark,) = _arrays(mark_price)
    return _array(mark * (1.0 - rules.price_band)), _array(mark * (1.0 + rules.price_band))


def _arrays(*values: ArrayLike) -> tuple[FloatArray, ...]:
    return tuple(_array(value) for value in values)


def _array(value: ArrayLike) -> FloatArray:
    return np.asarray(value, dtype=np.float64)

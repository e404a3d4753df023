"""What one unit of each instrument is worth now and in every scenario of portfolio margin, before anything is netted.

For one underlying,

    option value      Black (1976) times D = e^(-rT), r = max(rate, 0); at or past expiry the intrinsic value
    forward           F (1 - u) + F u · shock, u = min(s/1800, 1): what the settlement average has fixed stays, s seconds before
    vol               up max(v (1 + range_up m), minimum), down v max(0, 1 - range_down m), m = (30/max(days, floor))^power
    skew              v max(0, 1 + x), x = k cap/k*, not beyond cap on its side of k = ln(K/F) (ABS: |k|);
                      cap = c_base √T + scale_cap, k* = max(min_k*, √T width (static + √T scale))
    discounted value  f(V) = p V for V ≥ 0 and n V for V < 0,
                      p = static e^(-T (r long_mult + long_add)), n = min(1/D, static_neg e^(T (r short_mult + short_add)))

Contingencies are fractions of futures times the spot, haircuts of collateral, and for initial margin (1 - c) conf_margin times
the notional where an oracle's confidence c is below its threshold.  Money is in the currency that accounts settle in, whose
price in USD is the stable price.
"""

from typing import NamedTuple

import numpy as np

from udfs import black76
from udfs.margin_parameters import SKEWS, VOL_DIRECTIONS, Parameters
from udfs.portfolio_positions import BoolArray, FloatArray, Instruments, IntArray

SETTLEMENT_S = 1800.0
SECONDS_PER_YEAR = 365 * 86_400.0


class Market(NamedTuple):
    """Prices on one underlying at one instant, confidences from 0 to 1 with them."""

    spot: float
    spot_confidence: float
    stable: float  # USD for one unit of the settlement currency
    expiry_s: FloatArray  # seconds to each expiry; 0 or less is past it
    forward: FloatArray  # of each expiry
    rate: FloatArray  # a year, as a fraction
    expiry_confidence: FloatArray  # the least of those of forward, rate and vols
    vol: FloatArray  # of each option
    future_price: FloatArray
    future_confidence: FloatArray
    collateral_usd: FloatArray  # price of each collateral
    collateral_confidence: FloatArray
    collateral_threshold: FloatArray  # a confidence below it counts
    mmhaircut: FloatArray
    imhaircut: FloatArray
    is_risk_cancelling: BoolArray


class Values(NamedTuple):
    """What one unit of every instrument is worth.  R scenarios move the spot and Q the skew."""

    mark: FloatArray  # columns; 0 for a future
    netted: FloatArray  # columns × (R, Q, now, up, down): options' values, undiscounted, and the others' gains in R, else 0
    costs: FloatArray  # columns × (maintenance, initial, initial beside a future): contingencies for one unit of |amount|
    longs: FloatArray  # p of each expiry, and 1 for what has none
    shorts: FloatArray  # n, likewise
    basis_factor: FloatArray  # of each expiry, and 0
    order: IntArray  # which scenario each of R and Q is, then the basis
    skews: int  # Q


def values(parameters: Parameters, market: Market, instruments: Instruments) -> Values:
    """What one unit of every instrument is worth now and in the scenarios, before anything is netted.

    Raises `ValueError` where market and instruments do not fit each other.
    """
    _check(market, instruments)
    regular, skew = _split(parameters)
    scenarios = parameters.scenarios
    shock = np.array([scenarios[i].spot_shock for i in regular])
    direction = [VOL_DIRECTIONS.index(scenarios[i].vol_shock_direction) for i in regular]
    loss, basis = parameters.margin, parameters.basis_contingency

    left_s = np.maximum(market.expiry_s, 0.0)
    T, r, F = left_s / SECONDS_PER_YEAR, np.maximum(market.rate, 0.0), market.forward
    D = np.exp(-r * T)
    expiry, K, is_call = instruments.expiry, instruments.strike[:, np.newaxis], instruments.is_call[:, np.newaxis]
    T_, D_ = T[expiry, np.newaxis], D[expiry, np.newaxis]
    unfixed = np.minimum(left_s / SETTLEMENT_S, 1.0)

    def value(shocks: FloatArray, vol: FloatArray) -> FloatArray:
        shocked = F[:, np.newaxis] * (1.0 + unfixed[:, np.newaxis] * (shocks - 1.0))
        return np.asarray(D_ * black76.price(shocked[expiry], K, T_, vol, is_call), dtype=np.float64)

    vols = np.stack([market.vol, *_shocked_vols(parameters, market, instruments)], axis=1)
    is_linear = [scenarios[i].vol_shock_direction == SKEWS[0] for i in skew]
    skewed = {which: _skewed_vol(parameters, market, instruments, which) for which in sorted(set(is_linear))}
    each_vol = np.stack([*vols[:, direction].T, *(skewed[which] for which in is_linear), *[market.vol] * 3], axis=1)
    around = [1.0, basis.scenario_spot_up, basis.scenario_spot_down]
    worth = value(np.concatenate([shock, np.ones(len(skew)), around]), each_vol)

    collateral = market.collateral_usd / market.stable
    moving = np.append(market.future_price, np.where(market.is_risk_cancelling, collateral, 0.0))
    netted = np.zeros((instruments.columns, len(scenarios) + 3))
    netted[: len(expiry)] = worth
    netted[len(expiry) :, : len(regular)] = moving[:, np.newaxis] * (shock - 1.0)
    longs = loss.base_static_discount * np.exp(-T * (r * loss.long_rate_multscale + loss.long_rate_addscale))
    markup = loss.base_static_discount_neg * np.exp(T * (r * loss.short_rate_multscale + loss.short_rate_addscale))
    return Values(
        mark=np.concatenate([worth[:, -3], np.zeros(instruments.futures), collateral]),
        netted=netted,
        costs=_costs(parameters, market, instruments, collateral),
        longs=np.append(longs, 1.0),
        shorts=np.append(np.minimum(1.0 / D, markup), 1.0),
        basis_factor=np.append(basis.basis_cont_add_factor + basis.basis_cont_mult_factor * T, 0.0),
        order=np.concatenate([regular, skew, [len(scenarios)]]),
        skews=len(skew),
    )


def _shocked_vols(parameters: Parameters, market: Market, instruments: Instruments) -> tuple[FloatArray, FloatArray]:
    """Each option's vol, shocked up and down."""
    rule = parameters.vol_shock
    days = np.maximum(market.expiry_s, 0.0) / 86_400.0
    power = np.where(days <= 30.0, rule.shorttermpower, rule.longtermpower)
    # A floor of a second keeps what expires now, whose vol does not matter, finite.
    m = (30.0 / np.maximum(days, max(rule.dte_floor, 1.0 / 86_400.0))) ** power
    m = m[instruments.expiry]
    up = np.maximum(market.vol * (1.0 + rule.volrangeup * m), rule.min_vol_eval_shocked)
    return up, market.vol * np.maximum(1.0 - rule.volrangedown * m, 0.0)


def _skewed_vol(parameters: Parameters, market: Market, instruments: Instruments, is_linear: bool) -> FloatArray:
    """Each option's vol in a skew scenario."""
    rule = parameters.skew_shock
    root_T = np.sqrt(np.maximum(market.expiry_s, 0.0) / SECONDS_PER_YEAR)
    base, scale = (rule.linear_cbase, rule.linear_scale_cap) if is_linear else (rule.abs_cbase, rule.abs_scale_cap)
    cap = (base * root_T + scale)[instruments.expiry]
    width = root_T * rule.min_width_scale * (rule.vol_param_static + root_T * rule.vol_param_scale)
    k_star = np.maximum(rule.min_k_star, width)[instruments.expiry]
    k = np.log(instruments.strike / market.forward[instruments.expiry])
    k = k if is_linear else np.abs(k)
    # A width of zero moves every vol but that of the forward itself by the whole cap.
    share = np.divide(k, k_star, out=np.where(k == 0.0, 0.0, np.copysign(np.inf, k)), where=k_star > 0.0)
    with np.errstate(invalid="ignore"):
        x = np.nan_to_num(share * cap, nan=0.0, posinf=np.inf, neginf=-np.inf)
    x = np.where(k >= 0.0, np.minimum(cap, x), np.maximum(-cap, x))
    return np.asarray(market.vol * np.maximum(1.0 + x, 0.0), dtype=np.float64)


def _costs(parameters: Parameters, market: Market, instruments: Instruments, collateral: FloatArray) -> FloatArray:
    """Contingencies for one unit of |amount|; see `Values`."""
    other, spot = parameters.other_contingency, market.spot

    def doubt(confidence: FloatArray, threshold: FloatArray | float = other.conf_threshold) -> FloatArray:
        # A missing confidence (NaN) counts as low.
        return np.where(confidence >= threshold, 0.0, 1.0 - confidence) * other.conf_margin

    # The least of the futures' confidences, where there are several, counts for all of them.
    futures_confidence = np.minimum(market.spot_confidence, market.future_confidence)
    futures_confidence = np.full_like(futures_confidence, futures_confidence.min(initial=1.0))
    alone = np.minimum(market.expiry_confidence, market.spot_confidence)
    beside = np.minimum(alone, futures_confidence.min(initial=1.0))
    future = spot * (other.im_perp_percent + doubt(futures_confidence))
    collateral_confidence = np.minimum(market.collateral_confidence, market.spot_confidence)
    held = collateral * (market.imhaircut + doubt(collateral_confidence, market.collateral_threshold))
    option_cost = np.zeros(len(instruments.strike))
    maintenance = [option_cost, np.full(len(future), spot * other.mm_perp_percent), collateral * market.mmhaircut]
    initial = [[spot * doubt(confidence)[instruments.expiry], future, held] for confidence in (alone, beside)]
    return np.stack([np.concatenate(parts) for parts in (maintenance, *initial)], axis=1)


def _split(parameters: Parameters) -> tuple[IntArray, IntArray]:
    """Which scenarios move the spot, and which the skew."""
    is_skew = np.array([scenario.is_skew for scenario in parameters.scenarios])
    return np.flatnonzero(~is_skew), np.flatnonzero(is_skew)


def _check(market: Market, instruments: Instruments) -> None:
    expected = {
        **dict.fromkeys(("expiry_s", "forward", "rate", "expiry_confidence"), instruments.expiries),
        "vol": len(instruments.strike),
        **dict.fromkeys(("future_price", "future_confidence"), instruments.futures),
        **dict.fromkeys(("collateral_usd", "collateral_confidence", "collateral_threshold"), instruments.collaterals),
        **dict.fromkeys(("mmhaircut", "imhaircut", "is_risk_cancelling"), instruments.collaterals),
    }
    for name, count in expected.items():
        if len(getattr(market, name)) != count:
            raise ValueError(f"{name}: expected {count} of them, got {len(getattr(market, name))}")

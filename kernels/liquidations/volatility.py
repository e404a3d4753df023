"""Requirements follow volatility (udfs/vol_scaling.py).

Standard margin on an underlying, initial and maintenance, is multiplied by its factor, and so are the vol shocks and the
factors of the worst loss of portfolio margin: the vol over 0.6, no less than 1 and no more than 2.5.  It changes only by more
than a tenth of itself, or to one of its limits.  It is computed in each batch with a ticker or the terms of an option on the
underlying, and in no other: all readers of the same tickers, on time, have the same factors.  Without a vol it stays; it is 1
before the first.  Every change is a row of `margin_scalings`.

The vol is that of the option nearest to the money in the nearest expiry.  Only options more than an hour from expiry,
and within a tenth of the forward, count: vols of the last hour jump, and at the start the first ticker may be of an option far
from the money.
"""

import math

import numpy as np

from engine.contract import Output
from kernels.liquidations.market import Market
from schemas.rows import instant_ms
from udfs import vol_scaling

SHORTEST_S, FURTHEST = 3_600, 0.1
"""The least time to expiry, and the greatest |ln(K/F)|, of an option whose vol counts."""


def follow_vol(market: Market, until_ms: int) -> list[Output]:
    """Update the factors of underlyings whose options have had tickers; returns a row for each that changes."""
    outputs: list[Output] = []
    rule, event_ms = vol_scaling.DEFAULT, until_ms - 1
    for underlying in sorted(market.quoted):
        vol, before = short_vol(market, underlying), market.factors.get(underlying)
        scale = vol_scaling.scale(vol, math.nan if before is None else before, rule)
        factor = float(scale.level)
        if math.isnan(vol) or not scale.changed:
            continue
        market.put_factor(underlying, factor)
        row = {
            "underlying": underlying,
            "event_at": instant_ms(event_ms),
            "vol": vol,
            "factor": factor,
            "previous_factor": before,
            "reason": f"vol {vol:.4g} over {rule.reference_vol:g} is {vol / rule.reference_vol:.4g}, "
            f"within {rule.floor:g} and {rule.cap:g}: {factor:.4g}" + ("" if before is None else f"; it was {before:.4g}"),
        }
        outputs.append(Output("margin_scalings", event_ms, row))
    market.touched |= {f"scaling/{underlying}" for underlying in market.quoted}
    market.quoted.clear()
    return outputs


def short_vol(market: Market, underlying: str) -> float:
    """The vol of the option nearest to the money in the nearest expiry; NaN where there is none."""
    options = market.contract_columns
    expiry_s, F, K, vol = (options[name] for name in ("expiry_s", "forward_usd", "strike_usd", "vol"))
    is_on = (options["is_option"] > 0) & (options["underlying"] == market.currency(underlying))
    rows = np.flatnonzero(is_on & (vol > 0) & (F > 0) & (expiry_s > (market.second or 0) + SHORTEST_S))
    distance = np.abs(np.log(K[rows] / F[rows]))
    rows, distance = rows[distance <= FURTHEST], distance[distance <= FURTHEST]
    if not len(rows):
        return math.nan
    is_first = expiry_s[rows] == expiry_s[rows].min()
    nearest = set(rows[is_first & (distance == distance[is_first].min())].tolist())
    # A call and a put at one strike: the first by name counts.
    name = min(name for name, row in options.rows.items() if row in nearest)
    return float(vol[options.row(name)])

"""The chain of one expiry as the trader's view shows it: prices of the books, volatilities, Greeks."""

import math
from typing import Any

import numpy as np

from page.tables import Row, Rows
from schemas.rows import to_ms
from udfs.black76 import MS_PER_YEAR
from udfs.implied_vol import implied_vol

GREEKS = ("delta", "gamma_per_usd", "vega_usd_per_vol", "theta_usd_per_day")
SHOWN = ("surface_iv", "mark_iv", "price_coin", "price_usd", "reason", *GREEKS)


def options(rows: Rows, venue: str, underlying: str, expiry_at: str) -> list[Row]:
    """The options of an expiry by strike, calls first: the newest best prices, their volatilities, and our surface.

    bid_iv and ask_iv are the Black-76 volatilities of the best prices on the forward of the surface, or else of `forwards`;
    None where there is none.  Prices are in the quote currency: where that is the underlying, times the forward.
    """
    own = rows.newest("chain_greeks", venue=venue, underlying=underlying, expiry_at=expiry_at)
    own.sort(key=lambda row: (row["strike_usd"], row["option_type"] != "call"))
    if not own:
        return []
    forward = _forward(rows, venue, underlying, expiry_at)
    chain: list[Row] = []
    for row in own:
        depth = rows.newest("book_depth", venue=venue, instrument=row["instrument"])
        terms = rows.newest("instruments", venue=venue, instrument=row["instrument"])
        book: Row = depth[0] if depth else {"bids": [], "asks": [], "is_stale": None}
        chain.append(
            {
                "instrument": row["instrument"],
                "strike_usd": row["strike_usd"],
                "option_type": row["option_type"],
                "bid": book["bids"][0][0] if book["bids"] else None,
                "ask": book["asks"][0][0] if book["asks"] else None,
                "is_stale": book["is_stale"],
                "is_in_coin": bool(terms) and terms[0]["quote_currency"] == underlying,
                **{column: row.get(column) for column in SHOWN},
            }
        )
    F = math.nan if forward is None else forward
    years = (to_ms(expiry_at) - rows.clock_ms) / MS_PER_YEAR
    for side in ("bid", "ask"):
        for row, vol in zip(chain, _vols(chain, side, F, years), strict=True):
            row[f"{side}_iv"] = None if math.isnan(vol) else vol
    return chain


def _vols(chain: list[Row], side: str, F: float, years: float) -> list[float]:
    prices = np.array([math.nan if row[side] is None else row[side] for row in chain])
    unit = np.array([F if row["is_in_coin"] else 1.0 for row in chain])
    K = np.array([row["strike_usd"] for row in chain])
    is_call = np.array([row["option_type"] == "call" for row in chain])
    return [float(vol) for vol in implied_vol(prices * unit, F, K, years, is_call).vol]


def _forward(rows: Rows, venue: str, underlying: str, expiry_at: str) -> float | None:
    for table in ("vol_surfaces", "forwards"):
        for row in rows.newest(table, venue=venue, underlying=underlying, expiry_at=expiry_at):
            value: Any = row["forward_usd"]
            if value is not None:
                return float(value)
    return None

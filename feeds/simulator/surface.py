"""The volatility surface that options are marked on: SSVI, free of arbitrage by construction.

    w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))

k = ln(strike/forward) and w the total variance.  Each expiry is a raw SVI slice; the slices together are the surface of
Gatheral & Jacquier (2014), "Arbitrage-free SVI volatility surfaces", section 4, with theta = vol^2 T and
phi = ETA/sqrt(theta).
"""

import numpy as np

from udfs.black76 import FloatArray
from udfs.svi import Slice

RHO = -0.3
ETA = 1.0  # no butterfly arbitrage while ETA (1 + |RHO|) <= 2


def slice_at(years: FloatArray, atm_vol: FloatArray) -> Slice:
    """The slice of an expiry `years` away, with volatility `atm_vol` (a fraction) at the money."""
    theta = atm_vol * atm_vol * years
    phi = ETA / np.sqrt(theta)
    rest = 1 - RHO * RHO
    return Slice(0.5 * theta * rest, 0.5 * theta * phi, np.asarray(RHO), -RHO / phi, np.sqrt(rest) / phi)

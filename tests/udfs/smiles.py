"""Raw SVI as the literature writes it, against which the tests hold the product's compiled formulas.

Gatheral and Jacquier (2014), "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from udfs import svi
from udfs.black76 import FloatArray
from udfs.svi import Slice, total_variance
from udfs.vol_surface import Surface


class JumpWings(NamedTuple):
    """A slice as what a trader sees of it, for one expiry T."""

    v: FloatArray  # variance per year at the money
    psi: FloatArray  # skew at the money
    p: FloatArray  # slope of the put wing
    c: FloatArray  # slope of the call wing
    least_v: FloatArray


def durrleman(raw: Slice, k: ArrayLike) -> FloatArray:
    """g(k), negative where a butterfly is an arbitrage; all broadcast."""
    _, b, rho, m, sigma = (np.asarray(x, dtype=np.float64) for x in raw)
    k = np.asarray(k, dtype=np.float64)
    root = np.sqrt((k - m) ** 2 + sigma * sigma)
    with np.errstate(all="ignore"):
        w, w1, w2 = total_variance(raw, k), b * (rho + (k - m) / root), b * sigma * sigma / root**3
        g: FloatArray = (1.0 - 0.5 * k * w1 / w) ** 2 - 0.25 * w1 * w1 * (1.0 / w + 0.25) + 0.5 * w2
    return g


def jump_wings(raw: Slice, T: ArrayLike) -> JumpWings:
    """Gatheral and Jacquier (2014), equation 3.5."""
    a, b, rho, m, sigma = (np.asarray(x, dtype=np.float64) for x in raw)
    T = np.asarray(T, dtype=np.float64)
    w = total_variance(raw, 0.0)
    root_w = np.sqrt(w)
    return JumpWings(
        v=w / T,
        psi=b / (2.0 * root_w) * (rho - m / np.sqrt(m * m + sigma * sigma)),
        p=b * (1.0 - rho) / root_w,
        c=b * (1.0 + rho) / root_w,
        least_v=(a + b * sigma * np.sqrt(1.0 - rho * rho)) / T,
    )


def from_jump_wings(wings: JumpWings, T: ArrayLike) -> Slice:
    """The slice of which they are the jump wings; Gatheral and Jacquier (2014), lemma 3.2.  NaN where there is none."""
    v, psi, p, c, least_v = (np.asarray(x, dtype=np.float64) for x in wings)
    T = np.asarray(T, dtype=np.float64)
    with np.errstate(all="ignore"):
        root_w = np.sqrt(v * T)
        b = 0.5 * root_w * (c + p)
        rho = 1.0 - p * root_w / b
        beta = rho - 2.0 * psi * root_w / b
        # m/σ, so that β = ±1 is no division by zero.  With m = 0 the equation below does not determine σ.
        ratio = beta / np.sqrt(1.0 - beta * beta)
        level = -rho * ratio + np.sqrt(1.0 + ratio * ratio) - np.sqrt(1.0 - rho * rho)
        sigma = (v - least_v) * T / (b * level)
        m = ratio * sigma
        a = least_v * T - b * sigma * np.sqrt(1.0 - rho * rho)
    return Slice(a, b, rho, m, sigma)


def without_butterflies(raw: Slice) -> Slice:
    """The first slice without butterfly arbitrage on the way to Gatheral and Jacquier's repair (section 5.1).

    Theirs keeps the variance and the skew at the money and the put wing, and has c = p + 2ψ and the least variance
    v 4pc/(p + c)², which makes it a slice of SSVI.  Where even that has an arbitrage the way leads to a flat smile.  One
    slice; one without arbitrage is returned as it is.
    """
    row = np.array([float(x) for x in raw])
    svi.repair(row, svi.NO_SLICE)
    return Slice(*(np.asarray(x) for x in row))


def vol(surface: Surface, k: ArrayLike, T: ArrayLike) -> FloatArray:
    """Volatility of the slices at k, each T being that of an expiry of the surface; NaN where that has no slice."""
    expiry = np.searchsorted(surface.T, T)
    w = total_variance(Slice(*(x[expiry] for x in surface.slices)), k)
    return np.asarray(np.sqrt(w / surface.T[expiry]))

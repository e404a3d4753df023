"""The distribution of a quadratic form of normal factors, by inverting its transform.

    X = c + Σ (b_j z_j + ½ a_j z_j²),   z_j independent and standard normal

has the cumulant generating function (Mathai and Provost 1992, "Quadratic Forms in Random Variables")

    K(s) = c s + Σ [½ b_j² s²/(1 - a_j s) - ½ ln(1 - a_j s)]

between the poles 1/a_j.  Imhof (1961) inverts it on the imaginary axis; here the line goes through the saddlepoint, where the
integrand is positive and falls off on both sides, so that a tail of 1e-10 has as many digits as the middle (Rice 1980,
"Distribution of quadratic forms in normal random variables", SIAM Journal on Scientific and Statistical Computing 1):

    P(X > x) = 1/π ∫ Re e^(K(s) - s x)/s dy,   E (X - x)⁺ = 1/π ∫ Re e^(K(s) - s x)/s² dy,   s = s0 + iy,  y from 0

with s0 > 0; the other tail is that of -X.  A form with one a for all factors is a noncentral chi-squared.  What is left of the
integral where it is cut is taken by parts.  The approximation of Lugannani and Rice (1980) is there to compare.
"""

import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import ncx2

FloatArray = NDArray[np.float64]

NODES = 16
MAX_PANELS = 40_000
NOTHING = 1e-13
"""A slope or curvature below this share of the deviation is rounding."""


class Form(NamedTuple):
    """A quadratic form."""

    c: float
    b: FloatArray
    a: FloatArray

    @property
    def negated(self) -> Self:
        """That of -X."""
        return type(self)(-self.c, -self.b, -self.a)

    @property
    def mean(self) -> float:
        """E X."""
        return self.c + 0.5 * float(self.a.sum())

    @property
    def deviation(self) -> float:
        """The root of the variance, Σ b² + ½ Σ a²."""
        return math.sqrt(float((self.b**2).sum() + 0.5 * (self.a**2).sum()))

    @property
    def greatest(self) -> float:
        """The supremum of X: infinite unless every factor that moves it is concave."""
        is_moving = (self.a != 0.0) | (self.b != 0.0)
        if not (self.a[is_moving] < 0.0).all():
            return math.inf
        return self.c - 0.5 * float((self.b[is_moving] ** 2 / self.a[is_moving]).sum())


def form(delta: ArrayLike, gamma: ArrayLike, root: ArrayLike, theta: float = 0.0) -> Form:
    """X = theta + delta'x + ½ x'gamma x, x = root z: turned so that its factors are independent.

    What is rounding beside the deviation is 0.  Raises `ValueError` where shapes do not fit or a number is not finite.
    """
    d, G, L = (np.asarray(x, dtype=np.float64) for x in (delta, gamma, root))
    if G.shape != (len(d), len(d)) or L.shape != G.shape or not all(np.isfinite(x).all() for x in (d, G, L, theta)):
        raise ValueError(f"expected finite sensitivities that fit, got {d.shape}, {G.shape} and {L.shape}")
    values, vectors = np.linalg.eigh(L.T @ (0.5 * (G + G.T)) @ L)
    b = vectors.T @ (L.T @ d)
    scale = math.sqrt(float((b**2).sum() + 0.5 * (values**2).sum()))
    kept = [np.where(np.abs(part) > NOTHING * scale, part, 0.0) for part in (b, values)]
    return Form(float(theta), *kept)


def upper_tail(given: Form, x: float) -> float:
    """P(X > x)."""
    if given.deviation == 0.0:
        return 1.0 if given.c > x else 0.0
    if (special := _chi_squared(given)) is not None:
        return _of_chi_squared(special, x)
    if x >= given.mean:
        return 0.0 if x >= given.greatest else _inverted(given, x, 1)
    return 1.0 if x <= -given.negated.greatest else 1.0 - _inverted(given.negated, -x, 1)


def mean_excess(given: Form, x: float) -> float:
    """E (X - x)⁺."""
    if given.deviation == 0.0:
        return max(given.c - x, 0.0)
    if x >= given.mean:
        return 0.0 if x >= given.greatest else _inverted(given, x, 2)
    below = 0.0 if x <= -given.negated.greatest else _inverted(given.negated, -x, 2)
    return given.mean - x + below


def upper_quantile(given: Form, share: float) -> float:
    """The x with P(X > x) = share, 0 < share < 1."""
    if not 0.0 < share < 1.0:
        raise ValueError(f"expected a probability above 0 and below 1, got {share}")
    spread = given.deviation
    if spread == 0.0:
        return given.c
    if (special := _chi_squared(given)) is not None:
        shift, scale, freedom, offset = special
        side = share if scale > 0.0 else 1.0 - share
        return shift + scale * float(ncx2.isf(side, freedom, offset))
    low, high = given.mean - spread, given.mean + spread
    while upper_tail(given, low) < share:
        low -= 2.0 * spread
    while upper_tail(given, high) > share:
        high += 2.0 * spread
    return float(brentq(lambda x: upper_tail(given, x) - share, low, high, xtol=1e-12 * spread, rtol=1e-13))


def saddlepoint_tail(given: Form, x: float) -> float:
    """P(X > x) by the approximation of Lugannani and Rice; NaN at the mean, where it is 0/0."""
    if x < given.mean:
        return 1.0 - saddlepoint_tail(given.negated, -x)
    if x >= given.greatest:
        return 0.0
    s = _minimum(given, x, 0.0)
    drop = s * x - _cumulant(given, s)
    w, u = math.sqrt(max(2.0 * drop, 0.0)), s * math.sqrt(_curvature(given, s))
    if not (w > 1e-6 and u > 0.0):
        return math.nan
    return float(ndtr(-w) + math.exp(-0.5 * w * w) / math.sqrt(2.0 * math.pi) * (1.0 / u - 1.0 / w))


def _inverted(given: Form, x: float, power: int) -> float:
    """The integral, for x not below the mean, with 1/s^power."""
    s0 = _minimum(given, x, float(power))
    height = _cumulant(given, s0) - s0 * x - power * math.log(s0)
    # Panels as wide as the integrand's own scale, later as its oscillation allows; its modulus falls all the way.
    width = 1.0 / math.sqrt(_curvature(given, s0) + power / (s0 * s0))
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    total, low = 0.0, 0.0
    for _ in range(MAX_PANELS // 64):
        starts = low + width * np.arange(64)
        s = s0 + 1j * (starts[:, np.newaxis] + 0.5 * width * (nodes + 1.0))
        values = np.exp(_complex_cumulant(given, s) - s * x - power * np.log(s) - height)
        total += 0.5 * width * float((values.real @ weights).sum())
        low = float(starts[-1]) + width
        end = s0 + 1j * low
        last = np.exp(_complex_cumulant(given, np.array(end)) - end * x - power * np.log(end) - height)
        slope = 1j * (_complex_slope(given, end) - x - power / end)
        rate = abs(slope)
        # The rest, by parts: its first term, and the size of the next.
        rest = float((-last / slope).real)
        if abs(last) / rate * min(1.0, (4.0 / (low * rate)) ** 2) <= 1e-14 * abs(total):
            total += rest
            break
        width = min(max(width, 0.05 * low), math.pi / rate)
    return total / math.pi * math.exp(height)


def _complex_slope(given: Form, s: complex) -> complex:
    rest = 1.0 - given.a * s
    return complex(given.c + np.sum(given.b**2 * s * (1.0 - 0.5 * given.a * s) / rest**2 + 0.5 * given.a / rest))


def _minimum(given: Form, x: float, power: float) -> float:
    """Where K(s) - s x - power ln s is least, s > 0: a convex function up to the first pole."""
    greatest = float(given.a.max(initial=0.0))
    bound = 1.0 / greatest if greatest > 0.0 else math.inf
    spread = given.deviation

    def slope(s: float) -> float:
        rest = 1.0 - given.a * s
        own = given.c - x + float((given.b**2 * s * (1.0 - 0.5 * given.a * s) / rest**2 + 0.5 * given.a / rest).sum())
        return own - power / s

    low = min(1.0 / spread, 0.5 * bound) * 1e-3
    while slope(low) > 0.0:
        low *= 1e-2
        if low < 1e-200:
            return low
    high = min(1.0 / spread, 0.5 * bound)
    while slope(high) < 0.0:
        high = 2.0 * high if math.isinf(bound) else 0.5 * (high + bound)
    return float(brentq(slope, low, high, xtol=1e-14 * low, rtol=1e-12, maxiter=500))


def _cumulant(given: Form, s: float) -> float:
    rest = 1.0 - given.a * s
    return given.c * s + float((0.5 * given.b**2 * s * s / rest - 0.5 * np.log(rest)).sum())


def _curvature(given: Form, s: float) -> float:
    rest = 1.0 - given.a * s
    return float((given.b**2 / rest**3 + 0.5 * given.a**2 / rest**2).sum())


def _complex_cumulant(given: Form, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
    answer = given.c * s
    for b, a in zip(given.b, given.a, strict=True):
        rest = 1.0 - a * s
        answer = answer + 0.5 * b * b * s * s / rest - 0.5 * np.log(rest)
    return np.asarray(answer, dtype=np.complex128)


def _chi_squared(given: Form) -> tuple[float, float, int, float] | None:
    """Shift, scale, degrees of freedom and offset where X is a scaled noncentral chi-squared; else None."""
    is_moving = (given.a != 0.0) | (given.b != 0.0)
    a, b = given.a[is_moving], given.b[is_moving]
    if not len(a) or a[0] == 0.0 or np.abs(a - a[0]).max() > 1e-14 * abs(a[0]):
        return None
    offset = float(((b / a) ** 2).sum())
    # Far from its centre a parabola is nearly a line, and the series of the distribution is long.
    if offset > 1e4:
        return None
    return given.c - 0.5 * float((b**2 / a).sum()), 0.5 * float(a[0]), len(a), offset


def _of_chi_squared(special: tuple[float, float, int, float], x: float) -> float:
    shift, scale, freedom, offset = special
    place = (x - shift) / scale
    return float(ncx2.sf(place, freedom, offset) if scale > 0.0 else ncx2.cdf(place, freedom, offset))

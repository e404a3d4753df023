"""Volatilities and correlations that follow the stream, and their repair where they contradict each other.

The forecast for day t is made from the days before it, weighted by λ^age (RiskMetrics, Technical Document, 1996):

    Σ_t = λ Σ_(t-1) + (1 - λ) r_(t-1) r_(t-1)'

So a day's own return is never in its forecast.  A matrix of such forecasts is positive semi-definite; one whose entries come
from different days, from several sources, or from a user need not be.  Then it is replaced by the nearest correlation matrix
(Higham 2002, "Computing the nearest correlation matrix", IMA Journal of Numerical Analysis 22), and the distance, the root of
the sum of squared differences (Frobenius), is told with it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import lfilter
from scipy.stats import kurtosis, skew

FloatArray = NDArray[np.float64]

DECAY = 0.94
"""λ for daily returns (RiskMetrics, 1996)."""
WARM_DAYS = 30
"""The first forecast is the mean of the squares of so many days, at most.  Our own choice: their weight is then 0.16."""
METHODS = ("nearest", "alternating", "spectral")
ROUNDS, CLOSE = 20_000, 1e-12


class Repaired(NamedTuple):
    """A correlation matrix that is one."""

    correlation: FloatArray
    distance: float  # from what was given, Frobenius; 0 where nothing was repaired
    least_eigenvalue: float  # of what was given


class Moments(NamedTuple):
    """Unbiased estimates from a sample."""

    mean: float
    variance: float
    skewness: float
    excess_kurtosis: float


def ewma_step(covariance: ArrayLike, moves: ArrayLike, decay: float = DECAY) -> FloatArray:
    """The covariances after one more day; `covariance` and `moves` may be numbers for one series.

    Raises `ValueError` where a move is not finite: it would stay in the forecast for ever.
    """
    _decay(decay)
    moves = np.asarray(moves, dtype=np.float64)
    if not np.isfinite(moves).all():
        raise ValueError(f"expected finite returns, got {moves.tolist()}")
    product = np.multiply.outer(moves, moves) if moves.ndim else moves * moves
    return np.asarray(decay * np.asarray(covariance, dtype=np.float64) + (1.0 - decay) * product, dtype=np.float64)


def ewma_covariances(returns: ArrayLike, decay: float = DECAY, warm_days: int = WARM_DAYS) -> FloatArray:
    """Forecasts for each day and for the day after the last: days + 1 matrices of a column of returns for each series.

    Each is made from the days before it.  Those of the first `warm_days`, from which the recursion starts, are their mean:
    they know what was to come, and no test may judge them.  Raises `ValueError` where there are fewer than 2 days, or a return
    is not finite.
    """
    _decay(decay)
    returns = returns_of(returns)
    warm = min(warm_days, len(returns))
    products = np.einsum("ti,tj->tij", returns, returns)
    start = products[:warm].mean(axis=0)
    later, _ = lfilter([1.0 - decay], [1.0, -decay], products[warm:], axis=0, zi=decay * start[np.newaxis])
    return np.concatenate([np.broadcast_to(start, (warm + 1, *start.shape)), later])


def returns_of(returns: ArrayLike, least_days: int = 2) -> FloatArray:
    """Returns as days × series.  Raises `ValueError` for too few days, or naming day and series of one that is not finite."""
    array = np.asarray(returns, dtype=np.float64)
    array = array[:, np.newaxis] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) < least_days:
        raise ValueError(f"expected returns of at least {least_days} days, got {len(array)}")
    if not np.isfinite(array).all():
        day, series = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"expected finite returns, got {array[day, series]} on day {day} of series {series}")
    return array


def vols_and_correlations(covariance: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Deviations and correlations; a series that does not move is correlated with none.

    Raises `ValueError` where the matrix is not symmetric, a variance is negative or an entry is not finite.
    """
    matrix = _symmetric(covariance)
    variance = np.diagonal(matrix)
    if (variance < 0.0).any():
        raise ValueError(f"expected variances of at least 0, got {variance.min():g}")
    vols = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.nan_to_num(matrix / np.outer(vols, vols), nan=0.0, posinf=0.0, neginf=0.0)
    np.fill_diagonal(correlation, 1.0)
    return vols, correlation


def repaired(correlation: ArrayLike, method: str = "nearest") -> Repaired:
    """The correlation matrix itself where it is one, else a near one.

    nearest      the nearest one there is: projections in turn onto both sets, with Dykstra's correction
    alternating  the same without the correction: ends in both sets, a little farther (R's nearPD without Dykstra)
    spectral     negative eigenvalues to 0, rows scaled back to 1: one step, farther still (Rebonato and Jäckel 1999)

    Raises `ValueError` for another method, or where the matrix is not symmetric or an entry not finite.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
    matrix = _symmetric(correlation)
    least = float(np.linalg.eigvalsh(matrix).min())
    is_correlation = least >= -1e-12 and np.abs(np.diagonal(matrix) - 1.0).max() <= 1e-12
    if is_correlation:
        answer = matrix
    elif method == "spectral":
        answer = _scaled(_positive(matrix))
    else:
        answer = _projected(matrix, method == "nearest")
    return Repaired(answer, float(np.linalg.norm(answer - matrix)), least)


def repaired_covariance(covariance: ArrayLike) -> tuple[FloatArray, float]:
    """The covariances with their correlations repaired and their variances kept, and the distance of the correlations."""
    vols, correlation = vols_and_correlations(covariance)
    near = repaired(correlation)
    return near.correlation * np.outer(vols, vols), near.distance


def root(covariance: ArrayLike) -> FloatArray:
    """A matrix whose product with its own transpose is the covariance: symmetric, so that no order of series is preferred.

    Raises `ValueError` where the covariance is not positive semi-definite.
    """
    matrix = _symmetric(covariance)
    values, vectors = np.linalg.eigh(matrix)
    if values.min() < -1e-9 * max(float(values.max()), 1e-300):
        raise ValueError(f"expected a positive semi-definite covariance, got the eigenvalue {values.min():g}: repair it first")
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T, dtype=np.float64)


def moments(sample: ArrayLike) -> Moments:
    """Unbiased moments of at least 4 numbers (Joanes and Gill 1998, G1 and G2).  Raises `ValueError` for fewer."""
    values = returns_of(sample, 4)[:, 0]
    return Moments(
        float(values.mean()),
        float(values.var(ddof=1)),
        float(skew(values, bias=False)),
        float(kurtosis(values, bias=False)),
    )


def _projected(matrix: FloatArray, is_corrected: bool) -> FloatArray:
    answer, correction = matrix.copy(), np.zeros_like(matrix)
    for _ in range(ROUNDS):
        before = answer
        shifted = answer - correction
        positive = _positive(shifted)
        if is_corrected:
            correction = positive - shifted
        answer = positive.copy()
        np.fill_diagonal(answer, 1.0)
        if np.abs(answer - before).max() <= CLOSE:
            break
    # What is left of negative eigenvalues is of the size of the last step.
    return _scaled(_positive(answer))


def _positive(matrix: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(matrix)
    positive = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return np.asarray(0.5 * (positive + positive.T), dtype=np.float64)


def _scaled(matrix: FloatArray) -> FloatArray:
    size = np.sqrt(np.diagonal(matrix))
    scaled = np.asarray(matrix / np.outer(size, size), dtype=np.float64)
    np.fill_diagonal(scaled, 1.0)
    return scaled


def _symmetric(matrix: ArrayLike) -> FloatArray:
    array = np.atleast_2d(np.asarray(matrix, dtype=np.float64))
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise ValueError(f"expected a square matrix, got the shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("expected finite covariances")
    if not np.allclose(array, array.T, rtol=1e-9, atol=1e-12):
        raise ValueError("expected a symmetric matrix")
    return np.asarray(0.5 * (array + array.T), dtype=np.float64)


def _decay(decay: float) -> None:
    if not 0.0 < decay < 1.0:
        raise ValueError(f"expected a decay above 0 and below 1, got {decay}")

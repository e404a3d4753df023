"""Were past answers right?  Tests of the days on which a loss was beyond the VaR forecast before: the exceptions.

    unconditional   the share of exceptions is 1 - p: likelihood ratio of Kupiec (1995), and the binomial's own tests
    independence    an exception does not follow another more often: Christoffersen (1998), a first-order chain
    conditional     both at once: the ratio to independent days with the share 1 - p

Chi-squared is the distribution of the ratios for endless histories; at 250 days and 99 % it rejects 9.5 % of right models
instead of 5 %.  So each answer also has an exact p-value: the probability, by counting all series, that the ratio is at least
the one seen.  The ratio of independence is judged given the number of exceptions, where all orders are equally likely and
the unknown share does not matter.  A series of n days with c exceptions in r runs, the others in z runs, is one of
C(c-1, r-1) C(n-c-1, z-1), twice where r = z, for either may come first.

A statistic is finite from 0 to n exceptions, with 0 ln 0 = 0, or None with a reason.  `share` is 1 - p throughout.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy
from scipy.stats import binom, chi2, norm

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SAME = 1e-9
"""Ratios that differ by less are equal: their logarithms are rounded."""
NEGLIGIBLE = 1e-14
"""Numbers of exceptions less likely than this, over the number of days, are not counted."""
NO_DAYS = "no day was judged"


class Verdict(NamedTuple):
    """A statistic and how likely one as great is under the null; None where there is none, with a reason."""

    statistic: float | None
    p_value: float | None  # by chi-squared, or the normal distribution
    exact_p_value: float | None
    reason: str | None = None

    def rejects(self, size: float = 0.05) -> bool:
        """Whether a test of that size rejects: by the exact p-value where there is one."""
        value = self.p_value if self.exact_p_value is None else self.exact_p_value
        return value is not None and value <= size


class Transitions(NamedTuple):
    """How often a day of one kind follows one of another: 1 is an exception."""

    n00: int
    n01: int
    n10: int
    n11: int


class Coverage(NamedTuple):
    """All three tests of one series."""

    observations: int
    exceptions: int
    unconditional: Verdict
    independence: Verdict
    conditional: Verdict


def exceptions_of(losses: ArrayLike, forecasts: ArrayLike) -> BoolArray:
    """Days with a loss beyond the forecast VaR.  Raises `ValueError` where the lengths differ or a number is not finite."""
    losses, forecasts = np.asarray(losses, dtype=np.float64), np.asarray(forecasts, dtype=np.float64)
    if losses.shape != forecasts.shape or losses.ndim != 1:
        raise ValueError(f"expected a forecast for each loss, got {losses.shape} and {forecasts.shape}")
    if not (np.isfinite(losses).all() and np.isfinite(forecasts).all()):
        raise ValueError("expected finite losses and forecasts")
    return losses > forecasts


def coverage(is_exception: ArrayLike, share: float) -> Coverage:
    """The tests of a series of days, in order."""
    days = np.asarray(is_exception, dtype=np.bool_)
    count = int(days.sum())
    return Coverage(len(days), count, kupiec(len(days), count, share), independence(days), conditional_coverage(days, share))


def kupiec(observations: int, exceptions: int, share: float) -> Verdict:
    """Proportion of failures: LR = -2 ln(L(share)/L(x/n)), one degree of freedom."""
    if reason := _checked(observations, exceptions, share):
        return Verdict(None, None, None, reason)
    ratio = _kupiec_ratios(observations, share)
    statistic = float(ratio[exceptions])
    exact = float(_probabilities(observations, share)[ratio >= statistic - SAME].sum())
    return Verdict(statistic, float(chi2.sf(statistic, 1)), min(exact, 1.0))


def kupiec_region(observations: int, share: float, size: float = 0.05) -> tuple[int, int]:
    """The least and the greatest number of exceptions that the test by chi-squared does not reject (Kupiec 1995, table 2)."""
    kept = np.flatnonzero(_kupiec_ratios(observations, share) <= chi2.isf(size, 1))
    return int(kept[0]), int(kept[-1])


def first_failure(day: int, share: float) -> Verdict:
    """Time until the first exception, on day 1 or later: the geometric distribution (Kupiec 1995)."""
    if day < 1:
        raise ValueError(f"expected the day of the first exception, 1 or later, got {day}")
    _checked(day, 1, share)
    days = np.arange(1, max(day, int(math.log(NEGLIGIBLE) / math.log1p(-share))) + 1)
    ratios = -2.0 * (math.log(share) + (days - 1) * math.log1p(-share) + np.log(days) - xlogy(days - 1, 1.0 - 1.0 / days))
    statistic = float(max(ratios[day - 1], 0.0))
    exact = share * np.exp((days - 1) * math.log1p(-share))
    left = math.exp(len(days) * math.log1p(-share))
    return Verdict(statistic, float(chi2.sf(statistic, 1)), min(float(exact[ratios >= statistic - SAME].sum()) + left, 1.0))


def binomial_z(observations: int, exceptions: int, share: float) -> Verdict:
    """The distance from the expected number in deviations; its two-sided p-value is that of the normal distribution."""
    if reason := _checked(observations, exceptions, share):
        return Verdict(None, None, None, reason)
    deviation = math.sqrt(observations * share * (1.0 - share))
    distances = np.abs(np.arange(observations + 1) - observations * share)
    is_as_far = distances >= distances[exceptions] - SAME
    exact = float(_probabilities(observations, share)[is_as_far].sum())
    z = (exceptions - observations * share) / deviation
    return Verdict(z, float(2.0 * norm.sf(abs(z))), min(exact, 1.0))


def binomial_tail(observations: int, exceptions: int, share: float) -> float:
    """P(X >= x) where x is above the expected number, else P(X <= x).  NaN where no day was judged."""
    if _checked(observations, exceptions, share):
        return math.nan
    if exceptions > observations * share + SAME:
        return float(binom.sf(exceptions - 1, observations, share))
    return float(binom.cdf(exceptions, observations, share))


def transitions_of(is_exception: ArrayLike) -> Transitions:
    """The transitions of a series of days: one fewer than days."""
    days = np.asarray(is_exception, dtype=np.int64)
    return Transitions(*(int(number) for number in np.bincount(2 * days[:-1] + days[1:], minlength=4)))


def independence(days: ArrayLike | Transitions) -> Verdict:
    """Whether exceptions follow one another, from a series of days or from its transitions; one degree of freedom.

    Transitions alone have no exact p-value where more than one series may have them: they do not say how it begins and ends.
    """
    given = days if isinstance(days, Transitions) else transitions_of(days)
    if sum(given) == 0:
        return Verdict(None, None, None, "fewer than two days were judged")
    statistic = float(independence_ratio(*(np.array([float(number)]) for number in given))[0])
    exact = None
    if not isinstance(days, Transitions):
        series = np.asarray(days, dtype=np.bool_)
        exact = _exact_independence(len(series), int(series.sum()), statistic)
    return Verdict(statistic, float(chi2.sf(statistic, 1)), exact)


def independence_ratio(n00: FloatArray, n01: FloatArray, n10: FloatArray, n11: FloatArray) -> FloatArray:
    """LR of a first-order chain to independent days, from transitions."""
    from0, from1, to0, to1 = n00 + n01, n10 + n11, n00 + n10, n01 + n11
    chain = xlogy(n00, n00) + xlogy(n01, n01) + xlogy(n10, n10) + xlogy(n11, n11) - xlogy(from0, from0) - xlogy(from1, from1)
    single = xlogy(to0, to0) + xlogy(to1, to1) - xlogy(from0 + from1, from0 + from1)
    return np.asarray(np.maximum(2.0 * (chain - single), 0.0), dtype=np.float64)


def conditional_coverage(is_exception: ArrayLike, share: float) -> Verdict:
    """Share and independence at once: the sum of both ratios, two degrees of freedom; the exact p-value counts all series."""
    days = np.asarray(is_exception, dtype=np.bool_)
    n, count = len(days), int(days.sum())
    if reason := _checked(n, count, share):
        return Verdict(None, None, None, reason)
    if n < 2:
        return Verdict(None, None, None, "fewer than two days were judged")
    given = (np.array([float(number)]) for number in transitions_of(days))
    statistic = float(_kupiec_ratios(n, share)[count] + independence_ratio(*given)[0])
    return Verdict(statistic, float(chi2.sf(statistic, 2)), _exact_conditional(n, share, statistic))


def _exact_conditional(n: int, share: float, statistic: float) -> float:
    kupiec_ratios, probability = _kupiec_ratios(n, share), _probabilities(n, share)
    total = 0.0
    for count in np.flatnonzero(probability > NEGLIGIBLE / n):
        weights, ratios = _series(n, int(count))
        kept = ratios + kupiec_ratios[count] >= statistic - SAME
        total += float(weights[kept].sum() * probability[count])
    return min(total, 1.0)


def _exact_independence(n: int, count: int, statistic: float) -> float:
    weights, ratios = _series(n, count)
    return min(float(weights[ratios >= statistic - SAME].sum()), 1.0)


@lru_cache(maxsize=2_048)
def _series(n: int, count: int) -> tuple[FloatArray, FloatArray]:
    """Every kind of series of n days with so many exceptions: its share among them, and the ratio of independence."""
    if count in (0, n):
        return np.ones(1), np.zeros(1)
    runs = np.arange(1, min(count, n - count + 1) + 1)
    total = gammaln(n + 1) - gammaln(count + 1) - gammaln(n - count + 1)
    weights, ratios = [], []
    # By whether the series begins and ends with an exception: then the others have one run fewer, and so on.
    for first, last in ((0, 0), (0, 1), (1, 0), (1, 1)):
        others = runs + 1 - first - last
        is_possible = (others >= 1) & (others <= n - count)
        r, z = runs[is_possible].astype(np.float64), others[is_possible].astype(np.float64)
        weights.append(np.exp(_log_choose(count - 1.0, r - 1.0) + _log_choose(n - count - 1.0, z - 1.0) - total))
        # Every run of exceptions begins with a transition to it unless the series does, and ends likewise.
        n01, n10 = r - first, r - last
        n11, n00 = count - r, n - count - z
        ratios.append(independence_ratio(n00, n01, n10, n11))
    return np.concatenate(weights), np.concatenate(ratios)


def _log_choose(n: float, k: FloatArray) -> FloatArray:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0), dtype=np.float64)


@lru_cache(maxsize=256)
def _probabilities(n: int, share: float) -> FloatArray:
    """Of each number of exceptions from 0 to n."""
    return np.asarray(binom.pmf(np.arange(n + 1), n, share), dtype=np.float64)


@lru_cache(maxsize=256)
def _kupiec_ratios(n: int, share: float) -> FloatArray:
    """LR of each number of exceptions from 0 to n."""
    x = np.arange(n + 1.0)
    seen = xlogy(x, x / n) + xlogy(n - x, 1.0 - x / n)
    ratio: FloatArray = np.maximum(2.0 * (seen - x * math.log(share) - (n - x) * math.log1p(-share)), 0.0)
    return ratio


def _checked(observations: int, exceptions: int, share: float) -> str | None:
    """A reason why there is no statistic; raises `ValueError` where the numbers contradict each other."""
    if not 0.0 < share < 1.0:
        raise ValueError(f"expected a share of exceptions above 0 and below 1, such as 0.01, got {share}")
    if not 0 <= exceptions <= observations:
        raise ValueError(f"expected from 0 to {observations} exceptions, got {exceptions}")
    return None if observations else NO_DAYS

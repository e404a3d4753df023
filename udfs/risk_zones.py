"""The traffic light: how many exceptions are green, amber or red.

Of a right model X exceptions are seen in n days.  Green ends with the greatest x whose P(X <= x) is below 95 %, amber with the
greatest x whose is below 99.99 %; the next ones are amber and red (Basel Committee, publication 22, January 1996).  X is
binomial where the days are independent: 4 and 9 of 250 at 99 %.

Where each day is judged by the loss of the h days up to it, one bad day is in h of them, and exceptions come in groups.  Then X
is counted on drawn paths: sums of h normal days, each compared with its own quantile, for several portfolios with the same
correlation between any two, whose exceptions are added (ISDA SIMM backtesting, 2017, section 15.3).  Gains are as likely as
losses, so that each path counts twice.  The draws depend on the seed only.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom

FloatArray = NDArray[np.float64]

LEVELS = (0.95, 0.9999)
PATHS = 1_000_000
PATHS_PER_BLOCK = 4_000
GREEN, AMBER, RED = "green", "amber", "red"


class Zones(NamedTuple):
    """The greatest numbers of exceptions of two zones; more are red.  -1 where none is of the zone or better."""

    last_green: int
    last_amber: int

    def zone(self, exceptions: int) -> str:
        """The zone of a number of exceptions."""
        if exceptions <= self.last_green:
            return GREEN
        return AMBER if exceptions <= self.last_amber else RED


def zones(
    observations: int,
    share: float,
    levels: tuple[float, float] = LEVELS,
    *,
    horizon_days: int = 1,
    portfolios: int = 1,
    correlation: float = 0.0,
    paths: int = PATHS,
    seed: int = 1,
) -> Zones:
    """The zones of that many days whose exceptions have the probability `share` each.

    `horizon_days` is what a loss spans; more than one overlap.  Raises `ValueError` where a number is out of its bounds.
    """
    if not (observations >= 1 and 0.0 < share < 1.0 and horizon_days >= 1 and portfolios >= 1):
        raise ValueError("expected days, a share between 0 and 1, a horizon and portfolios")
    if not 0.0 < levels[0] < levels[1] < 1.0:
        raise ValueError(f"expected two levels between 0 and 1, the lower one first, got {levels}")
    if horizon_days == 1 and portfolios == 1:
        cumulative = binom.cdf(np.arange(observations + 1), observations, share)
    else:
        cumulative = counted(observations, share, horizon_days, portfolios, correlation, paths, seed)
    return Zones(*(int(np.searchsorted(cumulative, least, side="left")) - 1 for least in levels))


def cumulative_probabilities(observations: int, share: float) -> FloatArray:
    """P(X <= x) of independent days, for x from 0 to all."""
    return np.asarray(binom.cdf(np.arange(observations + 1), observations, share), dtype=np.float64)


@lru_cache(maxsize=64)
def counted(
    observations: int, share: float, horizon_days: int, portfolios: int, correlation: float, paths: int, seed: int
) -> FloatArray:
    """P(X <= x) on drawn paths, for x from 0 to all observations of all portfolios.  See `zones`."""
    if not -1.0 / max(portfolios - 1, 1) <= correlation <= 1.0:
        raise ValueError(f"expected a correlation that {portfolios} portfolios can have, got {correlation}")
    counts = np.zeros(observations * portfolios + 1, dtype=np.int64)
    limit = np.float32(-ndtri(share) * math.sqrt(horizon_days))
    days = observations + horizon_days - 1
    own = np.full((portfolios, portfolios), correlation) + (1.0 - correlation) * np.eye(portfolios)
    values, vectors = np.linalg.eigh(own)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).astype(np.float32)
    random = Generator(Philox(key=seed))
    # Each path is a path of losses and, mirrored, one of gains.
    left = (paths + 1) // 2
    while left > 0:
        block = min(PATHS_PER_BLOCK, left)
        left -= block
        # Days before paths: then each step of the sums is one pass over all paths.
        drawn = random.standard_normal((portfolios, days * block), dtype=np.float32)
        draws = (root @ drawn if portfolios > 1 else drawn).reshape(portfolios, days, block)
        losses, gains = (np.zeros((portfolios, block), dtype=np.int16) for _ in range(2))
        total = draws[:, : horizon_days - 1].sum(axis=1)
        for day in range(observations):
            total += draws[:, day + horizon_days - 1]
            losses += total > limit
            gains += total < -limit
            total -= draws[:, day]
        for exceptions in (losses, gains):
            counts += np.bincount(exceptions.sum(axis=0), minlength=len(counts))
    cumulative: FloatArray = np.cumsum(counts) / counts.sum()
    return cumulative

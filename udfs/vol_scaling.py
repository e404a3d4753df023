"""Thresholds that follow volatility: one level by which maintenance requirements and vol shocks are multiplied.

    target = v/reference, within [floor, cap]

The level moves to its target when that is further away than `hysteresis` times the level, or when it has reached floor or
cap; otherwise it stays.  Our own rule: a level near its threshold does not flicker, and floor and cap are reached exactly.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Scaling(NamedTuple):
    """The rule; everything but the reference is relative."""

    reference_vol: float = 0.6  # the short-dated vol at which the level is 1
    floor: float = 1.0
    cap: float = 2.5
    hysteresis: float = 0.1


class Level(NamedTuple):
    """The factor of requirements."""

    level: FloatArray
    changed: BoolArray


DEFAULT = Scaling()


def scale(vol: ArrayLike, previous: ArrayLike = np.nan, rule: Scaling = DEFAULT) -> Level:
    """The level for a short-dated vol (0.8 is 80 %) after a previous one; arguments broadcast.

    Without a previous level (NaN) the level is the target, and counts as a change.  Without a vol (not a positive number) the
    previous level stays; without that, it is the floor.
    Raises `ValueError` if the rule contradicts itself.
    """
    if not (rule.reference_vol > 0.0 and 0.0 < rule.floor <= rule.cap and rule.hysteresis >= 0.0):
        raise ValueError(f"expected reference_vol > 0, 0 < floor <= cap and hysteresis >= 0, got {rule}")
    v, before = np.broadcast_arrays(np.asarray(vol, dtype=np.float64), np.asarray(previous, dtype=np.float64))
    has_vol, is_first = v > 0.0, np.isnan(before)
    target = np.where(has_vol, np.clip(v / rule.reference_vol, rule.floor, rule.cap), np.where(is_first, rule.floor, before))
    is_far = np.abs(target - before) > rule.hysteresis * before
    is_end = (target == rule.floor) | (target == rule.cap)
    changed = is_first | ((target != before) & (is_far | (has_vol & is_end)))
    return Level(np.where(changed, target, before), np.asarray(changed))

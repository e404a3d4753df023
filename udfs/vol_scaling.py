"""Thresholds that follow volatility: one level by which maintenance requirements and vol shocks are multiplied.

    target = v/reference, within [floor, cap]

The level moves to its target when that is further away than `hysteresis` times the level, or when it has reached floor or
cap; otherwise it stays.  Our own rule: a level that is asked again and again near its edge does not flicker, and calm and
storm are reached in full.
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
    """What requirements are multiplied by."""

    level: FloatArray
    changed: BoolArray


DEFAULT = Scaling()


def scale(vol: ArrayLike, previous: ArrayLike = np.nan, rule: Scaling = DEFAULT) -> Level:
    """The level for a short-dated vol (0.8 is 80 %) after a previous one; arguments broadcast.

    Where there is no previous level (NaN) the target is taken, and is a change.  Where there is no vol (not a positive
    number) the previous level stays, and the floor is taken if there is none either.
    Raises `ValueError` where the rule contradicts itself.
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

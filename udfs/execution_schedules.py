"""How an order is cut into slices: whole lots that sum to the order exactly.

Everything is counted in lots of the contract, as whole numbers, so that no part of a lot is ever sent or lost.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import floor
from typing import SupportsFloat

CATCH_UP = Fraction(5, 4)
"""The largest slice of one that is behind, of a usual one."""


def slices(lots: int, weights: Sequence[SupportsFloat], least: int = 1) -> list[int]:
    """The lots of each slice, in proportion to its weight; they sum to `lots` exactly.

    What is sent by then is never further from its share than a lot, and `least`.  A slice below `least`, the smallest order
    that the venue takes, waits for the next, and what is left of the last joins the one before it.  A slice without weight
    has nothing.

    Raises `ValueError` naming what was expected where no weights make a schedule.
    """
    shares = [Fraction(float(weight)) for weight in weights]
    whole = sum(shares)
    if not shares or min(shares) < 0 or not whole:
        raise ValueError(f"weights: expected some above zero and none below, got {list(weights)!r}")
    if lots < least:
        raise ValueError(f"lots: expected at least {least}, got {lots}")
    sizes, behind, done = [0] * len(shares), 0, Fraction(0)
    for number, share in enumerate(shares):
        done += share
        due = floor(lots * done / whole) - behind
        if share and due >= least:
            sizes[number] = due
            behind += due
    sizes[max(number for number, size in enumerate(sizes) if size)] += lots - behind
    return sizes


def even(lots: int, count: int, least: int = 1) -> list[int]:
    """Slices of a TWAP: as many as asked for, or as few as have the smallest order each; they differ by one lot at most."""
    return slices(lots, [1] * max(1, min(count, lots // max(least, 1))), least)


def catch_up(usual: int) -> int:
    """The most lots of a slice that is behind its schedule."""
    return floor(usual * CATCH_UP)


def following(due: int, left: int, least: int = 1) -> int:
    """The lots of a slice where `due` may be sent and `left` are to be: none below the smallest order; a rest that would be
    below it joins."""
    size = min(due, left)
    if size < least:
        return 0
    return left if left - size < least else size


def of_volume(lots: int, rate: SupportsFloat, volumes: Iterable[SupportsFloat], least: int = 1) -> list[int]:
    """The slice after each volume of others that is seen, so that all sent are no more than `rate` of all seen; 0 is none."""
    seen, sent, sizes = Fraction(0), 0, []
    for volume in volumes:
        seen += Fraction(str(volume))
        due = floor(Fraction(str(rate)) * seen) - sent
        size = min(due, lots - sent)
        size = size if size >= min(least, lots - sent) else 0
        sizes.append(size)
        sent += size
    return sizes


def shown(lots: int, display: int, least: int = 1) -> list[int]:
    """Slices of an iceberg whose every slice is filled: each as large as what is shown, the last one the rest."""
    sizes: list[int] = []
    while (left := lots - sum(sizes)) > 0:
        sizes.append(following(display, left, least) or left)
    return sizes


def profile(bars: Iterable[tuple[float, float]], start: float, end: float, count: int) -> list[float]:
    """What traded in each of `count` equal parts of an interval of the day, of bars (start, volume) of earlier days.

    Instants in seconds; only their time of the day counts.  The interval begins at `start` and is at most a day long.
    """
    day, length = 86_400.0, (end - start) / count
    volumes = [0.0] * count
    for at, volume in bars:
        part = int(((at - start) % day) // length)
        if part < count:
            volumes[part] += volume
    return volumes

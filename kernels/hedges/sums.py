"""The exposure that a limit is about, of the parts that the shards of the accounts tell."""

import math
from collections.abc import Iterable, Mapping

from kernels.hedges.state import Cell, Part
from kernels.limits import Limit
from udfs.exposures import MEASURES


def meant(limit: Limit, cell: Cell) -> bool:
    """Whether a limit is about an underlying and a bucket."""
    return limit.underlying in (None, cell[0]) and limit.expiry_bucket in (None, cell[1])


def figure(limit: Limit, parts: Mapping[int, Part]) -> float:
    """The exposure of a limit's subject, to the same bit as the accounts' job reckons it; NaN where it is not known."""
    if limit.measure == "leverage":
        gross, equity = _sum(part.gross for part in parts.values()), _sum(part.equity for part in parts.values())
        if gross == 0:
            return 0.0
        return gross / equity if equity > 0 else math.nan if math.isnan(gross + equity) else math.inf
    if limit.measure == "concentration":
        by_coin: dict[str, list[float | None]] = {}
        for part in parts.values():
            for (coin, _), amounts in part.cells.items():
                by_coin.setdefault(coin, []).append(amounts[3])
        sums = [_sum(amounts) for amounts in by_coin.values()]
        total = sum(sums)
        return max(sums) / total if total else 0.0
    column = MEASURES.index(limit.measure)
    cells = ((cell, amounts) for part in parts.values() for cell, amounts in part.cells.items())
    return _sum(amounts[column] for cell, amounts in cells if meant(limit, cell))


def _sum(amounts: Iterable[float | None]) -> float:
    # Amounts are whole micro-dollars: summed as such they do not depend on their order.
    micros = 0
    for amount in amounts:
        if amount is None:
            return math.nan
        micros += round(amount * 1e6)
    return micros / 1e6

"""Measures of one side of a book: how much size is near the mid, and what a market order would cost.

Levels are [price, size] pairs, best first, as JSON text, as in the topic.
"""

import orjson


def depth_within(levels: str | None, mid: float | None, bps: float) -> float | None:
    """The sum of the sizes at prices at most `bps` ten-thousandths of the mid away from it; None without levels or mid."""
    if levels is None or mid is None:
        return None
    # A level on the edge belongs to the band, however its distance was rounded.
    bound = bps * mid / 1e4 * (1 + 1e-9)
    return float(sum(size for price, size in orjson.loads(levels) if abs(price - mid) <= bound))


def slippage_bps(levels: str | None, mid: float | None, notional: float) -> float | None:
    """The average distance from the mid, in ten-thousandths of it, at which a market order of `notional`, price times size,
    trades.

    None without levels or mid, and if the levels do not fill the order.
    """
    if levels is None or mid is None:
        return None
    pairs: list[list[float]] = orjson.loads(levels)
    left, bought = notional, 0.0
    for price, size in pairs:
        if left <= price * size:
            return 1e4 * abs(notional / (bought + left / price) - mid) / mid
        left -= price * size
        bought += size
    return None

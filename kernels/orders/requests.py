"""What a row of `order_requests` must say to be a request."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from engine.checks import LEAST, MOST
from kernels.orders.ids import LENGTH
from schemas.rows import Fault, shown

OF_AN_ORDER = ("new", "replace", "cancel")
CANCEL_ALL, TIMER, MMP, MMP_RESET = "cancel_all", "timer", "mmp", "mmp_reset"
OF_AN_ACCOUNT = (CANCEL_ALL, TIMER, MMP, MMP_RESET)
SOURCES = ("liquidation", "hedge", "algorithm", "person")
SIDES = ("buy", "sell")
LIMITS = ("max_fills", "max_quantity", "max_delta")
"""Columns with the limits of market-maker protection."""
LONGEST_S = 24 * 60 * 60
"""Of a timer, a window and a frozen time."""


def wrong_request(row: Mapping[str, Any]) -> Fault | None:
    """What a request lacks to be one; None where it is one."""
    name, kind = row["client_order_id"], row["request"]
    if not (0 < len(name) <= LENGTH and name.isascii() and name.isalnum()):
        return Fault("client_order_id", f"up to {LENGTH} letters and digits", shown(name))
    if kind not in OF_AN_ORDER + OF_AN_ACCOUNT:
        kinds = [*OF_AN_ORDER, *OF_AN_ACCOUNT]
        return Fault("request", f"{', '.join(kinds[:-1])} or {kinds[-1]}", shown(kind))
    if row["source"] not in SOURCES:
        return Fault("source", "liquidation, hedge, algorithm or person", shown(row["source"]))
    if (row.get("orig_client_order_id") is None) != (kind not in ("replace", "cancel")):
        expected = "an id of a replace and a cancel, NULL of every other request"
        return Fault("orig_client_order_id", expected, shown(row.get("orig_client_order_id")))
    return _wrong_order(row) if kind in OF_AN_ORDER else _wrong_guard(row)


def wrong_liquidation(row: Mapping[str, Any]) -> Fault | None:
    """What a row of `liquidation_orders` lacks to be an order; None where it is one."""
    for column in ("size", "limit_price"):
        number = row.get(column)
        if number is not None and not LEAST <= number < MOST:
            return Fault(column, f"from {LEAST:g} on, below {MOST:g}", shown(number))
    return None


def wrong_report(row: Mapping[str, Any]) -> Fault | None:
    """What a row of `execution_reports` lacks to be counted; None where it can be."""
    if row["side"] not in SIDES:
        return Fault("side", "buy or sell", shown(row["side"]))
    for column in ("quantity", "cum_quantity", "last_quantity"):
        if row.get(column) is not None and Decimal(row[column]) < 0:
            return Fault(column, "not below 0", shown(row[column]))
    return None


def _wrong_order(row: Mapping[str, Any]) -> Fault | None:
    for column in ("venue", "instrument"):
        if row.get(column) is None:
            return Fault(column, "not NULL: an order is for one instrument", "NULL")
    for column in ("price", "quantity"):
        if row.get(column) is not None and not _fits(Decimal(row[column])):
            return Fault(column, "up to 20 digits before the point and 18 after it", shown(row[column]))
    return None


def _wrong_guard(row: Mapping[str, Any]) -> Fault | None:
    kind, venue, instrument, underlying = (row.get(column) for column in ("request", "venue", "instrument", "underlying"))
    if kind in (CANCEL_ALL, TIMER):
        if instrument is not None and venue is None:
            return Fault("venue", "not NULL, where an instrument is given", "NULL")
        if kind == TIMER and not _is_span(row.get("after_s")):
            return Fault("after_s", f"seconds from 0 to {LONGEST_S}", shown(row.get("after_s")))
        return None
    if not underlying:
        return Fault("underlying", "whose orders are protected", shown(underlying))
    if kind == MMP_RESET:
        return None
    for column in ("window_s", "frozen_s"):
        if not _is_span(row.get(column)) and (row.get("window_s") != 0 or column == "window_s"):
            return Fault(column, f"seconds from 0 to {LONGEST_S}", shown(row.get(column)))
    limits = {column: row.get(column) for column in LIMITS}
    for column, limit in limits.items():
        if limit is not None and not (math.isfinite(limit) and limit >= 0):
            return Fault(column, "not below 0", shown(limit))
    if row["window_s"] and all(limit is None for limit in limits.values()):
        return Fault(LIMITS[0], f"at least one of {', '.join(LIMITS)}", "NULL")
    return None


def _is_span(seconds: float | None) -> bool:
    return seconds is not None and 0 <= seconds <= LONGEST_S


def _fits(number: Decimal) -> bool:
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -18 and number.adjusted() < 20

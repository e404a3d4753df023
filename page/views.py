"""What each view shows: named wants, each a value of the rows, or the rows of a ring as they come."""

from collections import Counter
from collections.abc import Callable, Mapping
from heapq import nlargest
from types import MappingProxyType
from typing import Any, NamedTuple

from page import chains
from page.tables import CLUSTER, SECOND, Row, Rows
from schemas.controls import RUN
from schemas.rows import to_ms

MOST_ACCOUNTS = 200
MOST_HALTS = 200
Params = Mapping[str, str]


class Want(NamedTuple):
    """A part of a view.

    tables   on which it depends; the first is that of the ring
    value    told whole whenever one of the tables has changed, and no more often than `every_s`; None of a ring
    equal    of a ring: which one
    """

    tables: tuple[str, ...]
    value: Callable[[Rows], Any] | None = None
    equal: Mapping[str, str] | None = None
    every_s: float = 0.1


class UnknownView(KeyError):
    """There is no view of this name."""


def wants(view: str, params: Params) -> dict[str, Want]:
    """The parts of a view, by name.  Raises `UnknownView`."""
    if view not in VIEWS:
        raise UnknownView(f"no view {view!r}; there are {', '.join(VIEWS)}")
    return VIEWS[view](params)


def tables(parts: Mapping[str, Want]) -> set[str]:
    """The tables that these parts need."""
    return {table for part in parts.values() for table in part.tables}


def newest(table: str, every_s: float = 0.5, equal: Mapping[str, str] = MappingProxyType({})) -> Want:
    """The newest row of each key."""
    return Want((table,), lambda rows: rows.newest(table, **equal), every_s=every_s)


def ring(table: str, **equal: str) -> Want:
    """The rows of a ring."""
    return Want((table,), equal=equal)


def trader(params: Params) -> dict[str, Want]:
    """A book (book=venue:instrument) and a chain (chain=venue:underlying, expiry=…); without one, what there is to choose."""
    parts = {
        "books": Want(("book_depth",), _books, every_s=1.0),
        "oracles": newest("oracle_prices"),
        "forwards": newest("forwards"),
    }
    venue, _, instrument = params.get("book", "").partition(":")
    if instrument:
        book = {"venue": venue, "instrument": instrument}
        parts |= {
            "depth": newest("book_depth", 0.1, book),
            "heat": ring("book_depth", **book),
            "trades": ring("trades", **book),
            "own_trades": ring("venue_trades", **book),
            "metrics": Want(("book_metrics",), lambda rows: rows.newest("book_metrics", **book, interval_s=1), every_s=0.5),
        }
    venue, _, underlying = params.get("chain", "").partition(":")
    if underlying:
        chain = {"venue": venue, "underlying": underlying}
        parts["surface"] = newest("vol_surfaces", equal=chain)
        if expiry := params.get("expiry"):
            needed = ("chain_greeks", "book_depth", "instruments", "vol_surfaces", "forwards")
            parts["options"] = Want(needed, lambda rows: chains.options(rows, venue, underlying, expiry), every_s=0.5)
    return parts


def _books(rows: Rows) -> list[list[Any]]:
    return sorted([row["venue"], row["instrument"], row["is_stale"]] for row in rows.newest("book_depth"))


def risk(params: Params) -> dict[str, Want]:
    """All accounts; of one (account=…) its margin over time and that of its positions."""
    parts = {
        "accounts": Want(("account_margin",), _accounts, every_s=0.5),
        "events": ring("liquidation_events"),
        "orders": ring("liquidation_orders"),
        "fund": ring("fund_entries"),
        "funds": newest("fund_entries"),
        "scalings": newest("margin_scalings"),
    }
    if account := params.get("account"):
        parts["account"] = newest("account_margin", 0.2, {"account": account})
        parts["history"] = ring("account_margin", account=account)
        parts["positions"] = Want(("position_margin",), lambda rows: _positions(rows, account), every_s=0.2)
    return parts


def _accounts(rows: Rows) -> dict[str, Any]:
    """The accounts nearest to liquidation, and how many there are of each status."""
    every = rows.newest("account_margin")
    statuses = Counter(row["status"] for row in every)
    return {"count": len(every), "statuses": statuses, "rows": nlargest(MOST_ACCOUNTS, every, key=danger)}


def danger(row: Row) -> tuple[float, str]:
    """By what accounts are ordered: the margin ratio; above all where equity is gone, below all where nothing is required."""
    if row["margin_ratio"] is not None:
        return float(row["margin_ratio"]), row["account"]
    return (float("inf") if row["maintenance_margin_usd"] else -1.0), row["account"]


def _positions(rows: Rows, account: str) -> list[Row]:
    """What the account holds: its rows of the newest valuation."""
    own = rows.newest("position_margin", account=account)
    last_ms = max((to_ms(row["event_at"]) for row in own), default=0)
    return [row for row in own if to_ms(row["event_at"]) == last_ms]


def operator(_: Params) -> dict[str, Want]:
    """The flow, and all that is wrong or halted."""
    return {
        "flow": Want((SECOND, CLUSTER), _flow, every_s=1.0),
        "letters": ring("dead_letters"),
        "faults": ring("feed_faults"),
        "clocks": newest("venue_clocks", 1.0),
        "oracles": newest("oracle_prices"),
        "sources": newest("oracle_sources"),
        "source_faults": newest("oracle_faults"),
        "breaks": Want(("circuit_breaks",), _breaks, every_s=0.5),
        "break_log": ring("circuit_breaks"),
        "halts": Want(("trading_halts",), _halts, every_s=1.0),
        "controls": Want(("trading_controls",), _controls, every_s=0.2),
        "applied": newest("controls_applied", 1.0),
        "feeds": newest("feed_status", 1.0),
        "sessions": newest("gateway_sessions", 1.0),
    }


def _flow(rows: Rows) -> dict[str, Any]:
    return {"reached": rows.reached(), "cluster": rows.cluster(), "clock_ms": rows.clock_ms}


def _breaks(rows: Rows) -> list[Row]:
    """The breaks that are not over, the newest first."""
    standing = [row for row in rows.newest("circuit_breaks") if row["state"] != "resumed"]
    return sorted(standing, key=lambda row: to_ms(row["event_at"]), reverse=True)[:MOST_HALTS]


def _halts(rows: Rows) -> list[Row]:
    """What venues halt: a row for each venue and reason, for a venue may list a thousand contracts that do not trade."""
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows.newest("trading_halts"):
        if row["is_halted"]:
            groups.setdefault((row["venue"], row.get("reason")), []).append(row)
    told = []
    for (venue, reason), halted in groups.items():
        names = sorted(row["instrument"] or "the whole venue" for row in halted)
        since = min((row["event_at"] for row in halted), key=to_ms)
        told.append({"venue": venue, "reason": reason, "count": len(names), "names": names[:3], "since": since})
    return sorted(told, key=lambda row: (row["venue"], row["reason"] or ""))[:MOST_HALTS]


def _controls(rows: Rows) -> list[Row]:
    return [row for row in rows.newest("trading_controls") if row["mode"] != RUN]


def audit(_: Params) -> dict[str, Want]:
    """Nothing yet: its place."""
    return {}


VIEWS: Mapping[str, Callable[[Params], dict[str, Want]]] = {
    "trader": trader,
    "risk": risk,
    "operator": operator,
    "audit": audit,
}

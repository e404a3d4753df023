"""The whole story of one order: its requests, the checks, what was sent, reports, transitions, fills, and the ledger."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from cli.explain import Line, Rows, instant, ledger_lines, plain, state_lines
from schemas.records import TABLES

IDS = {
    "order_requests": ("client_order_id",),
    "execution_reports": ("exec_id",),
    "venue_reports": ("exec_id",),
    "fills": ("fill_id",),
    "venue_fills": ("fill_id",),
    "order_states": ("order_key", "number"),
    "orders": ("client_order_id",),
    "ledger_entries": ("entry_id",),
}
"""By table, what names a row: a repeat of it says nothing new.  In the order in which lines of one instant are printed."""
SOURCES = tuple(IDS)
TERMS = ("side", "quantity", "order_type", "price", "time_in_force")


def story(rows: Rows, account: str, name: str, until: datetime | None = None) -> list[Line]:
    """The lines of the order that has, or had, this client_order_id.  Raises `ValueError` if there is none."""
    kept = {table: _unique(table, rows[table], until) for table in SOURCES}
    states = [row for row in kept["order_states"] if name in named(row)]
    keys = {row["order_key"] for row in states}
    states = [row for row in kept["order_states"] if row["order_key"] in keys]
    if not states:
        raise ValueError(f"no order {name} of account {account} is known")
    names = set().union(*(named(row) for row in states)) - {None}
    exec_ids = {row["cause_id"] for row in states if row["cause"] in ("report", "mmp")}
    sent = [row for row in kept["orders"] if row["client_order_id"] in names or row["orig_client_order_id"] in names]
    lines = {
        "order_requests": _requests(row for row in kept["order_requests"] if row["client_order_id"] in names),
        "execution_reports": _reports(row for row in kept["execution_reports"] if row["exec_id"] in exec_ids),
        "venue_reports": _reports(row for row in kept["venue_reports"] if row["exec_id"] in exec_ids),
        "fills": _fills(row for row in kept["fills"] if row["fill_id"] in exec_ids),
        "venue_fills": _fills(row for row in kept["venue_fills"] if row["fill_id"] in exec_ids),
        "order_states": state_lines(states),
        "orders": _sent(sent),
        "ledger_entries": ledger_lines([row for row in kept["ledger_entries"] if row["cause_id"] in exec_ids]),
    }
    ranked = [(line.at, rank, n, line) for rank, table in enumerate(SOURCES) for n, line in enumerate(lines[table])]
    return [line for *_, line in sorted(ranked, key=lambda item: item[:3])]


def named(row: Mapping[str, Any]) -> set[str | None]:
    """The ids of orders and requests in a row of `order_states`."""
    cause_id = None if row["cause"] in ("report", "mmp") else row["cause_id"]
    return {row["order_key"], row["client_order_id"], row["orig_client_order_id"], cause_id}


def _unique(table: str, rows: list[dict[str, Any]], until: datetime | None) -> list[dict[str, Any]]:
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (instant(row["event_at"]), row.get("number") or 0)):
        if until is None or instant(row["event_at"]) <= until:
            full = {column: row.get(column) for column in TABLES[table].columns}
            first.setdefault(tuple(row[column] for column in IDS[table]), full)
    return list(first.values())


def _requests(rows: Iterable[dict[str, Any]]) -> Iterable[Line]:
    for row in rows:
        marks = [text for column, text in (("is_reduce_only", "reduce-only"), ("is_mmp", "mmp")) if row.get(column)]
        orig = [f"of {row['orig_client_order_id']}"] if row["orig_client_order_id"] else []
        terms = " ".join([*orig, *_terms(row), *marks])
        why = f": {row['reason']}" if row["reason"] else ""
        yield Line(
            instant(row["event_at"]), f"request {row['client_order_id']}: {row['request']}", f"{row['source']} {terms}{why}"
        )


def _sent(rows: Iterable[dict[str, Any]]) -> Iterable[Line]:
    for row in rows:
        orig = f"of {row['orig_client_order_id']} " if row["orig_client_order_id"] else ""
        terms = f"{orig}{' '.join(_terms(row))} to {row['venue']}:{row['instrument']}, row {row['number']} of the account"
        yield Line(instant(row["event_at"]), f"sent {row['client_order_id']}: {row['request']}", terms)


def _reports(rows: Iterable[dict[str, Any]]) -> Iterable[Line]:
    for row in rows:
        parts = [row["order_status"] or ""]
        if row["last_quantity"] is not None:
            price = "" if row["last_price"] is None else f" at {_number(row['last_price'])}"
            parts.append(f"{_number(row['last_quantity'])}{price}")
        if row["fee"] is not None:
            parts.append(f"fee {_number(row['fee'])} {row['fee_currency'] or ''}".rstrip())
        parts.append(row["reason"] or "")
        yield Line(instant(row["event_at"]), f"report {row['exec_id']}: {row['exec_type']}", ", ".join(filter(None, parts)))


def _fills(rows: Iterable[dict[str, Any]]) -> Iterable[Line]:
    for row in rows:
        text = f"{row['side']} {_number(row['size'])} at {_number(row['price'])}, fee {_number(row['fee'])}"
        yield Line(instant(row["event_at"]), f"{row['kind'] or 'fill'} {row['fill_id']}", text)


def _terms(row: Mapping[str, Any]) -> list[str]:
    """Side, quantity, type, price and time in force, those that there are."""
    if row["request"] not in ("new", "replace"):
        return []
    given = {column: row[column] for column in TERMS if row[column] is not None}
    return [_number(value) if column in ("quantity", "price") else str(value) for column, value in given.items()]


def _number(value: Any) -> str:
    return plain(Decimal(str(value)))

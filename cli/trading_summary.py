"""What came of the orders of a run, read from its Parquet files: fills, prices, who won and lost, and what is left."""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.summary import number, rows, table_of
from kernels.orders.ids import client_order_id
from udfs.profits import grouped, profits

Row = Mapping[str, Any]
OPEN = frozenset({"new", "partially_filled", "pending_new", "pending_cancel", "pending_replace"})
FILLS = ("fills", "venue_fills")
TRANSFERS = ("transfers", "fund_transfers")


def show_trading(console: Console, out: Path) -> None:
    """Print what came of orders, if there were any."""
    states = rows(out, "order_states")
    if not states:
        return
    newest: dict[tuple[str, str], Row] = {}
    for row in states:
        name = row["account"], row["order_key"]
        if name not in newest or row["number"] > newest[name]["number"]:
            newest[name] = row
    console.print(_orders(states, newest))
    fills = _fills(out)
    console.print(_liquidations(out, newest))
    terms = {(row["venue"], row["instrument"]): row for row in rows(out, "instruments")}
    marks = _marks(out)
    if unmarked := sorted({f"{row['venue']}:{row['instrument']}" for row in fills} - {":".join(name) for name in marks}):
        console.print(f"\nNo profits: {', '.join(unmarked[:3])} traded and has no mark")
    elif fills:
        console.print(_profits(fills, terms, marks, [row for table in TRANSFERS for row in rows(out, table)]))
    console.print(_remaining(out, newest), highlight=False)


def _orders(states: Sequence[Row], newest: Mapping[tuple[str, str], Row]) -> Table:
    refused = Counter(row["rule"] for row in states if row["event"] == "refused")
    ended = Counter(row["order_status"] for row in newest.values())
    trades = sum(row["event"] == "trade" for row in states)
    table = table_of(f"\nOrders: {len(newest):,}, with {trades:,} fills", "status at the end", "orders")
    for status, count in ended.most_common():
        rules = ", ".join(f"{n:,} by {rule}" for rule, n in refused.most_common()) if status == "rejected" else ""
        table.add_row(f"{status} ({rules})" if rules else status, f"{count:,}")
    return table


def _fills(out: Path) -> list[Row]:
    by_id = {(row["account"], row["fill_id"]): row for table in FILLS for row in rows(out, table)}
    undone = {(row["account"], row["corrects_id"]) for row in by_id.values() if row.get("corrects_id")}
    return [row for name, row in by_id.items() if name not in undone and row.get("kind") != "bust"]


def _liquidations(out: Path, newest: Mapping[tuple[str, str], Row]) -> Table:
    decided = sorted(rows(out, "liquidation_orders"), key=lambda row: (row["event_at"], row["order_id"]))
    states = [newest.get((row["account"], client_order_id("liquidation", row["order_id"]))) for row in decided]
    filled = sum(state is not None and state["cum_quantity"] > 0 for state in states)
    title = f"\nLiquidation orders: {len(decided):,}, of which {filled:,} traded"
    table = table_of(title, "at", "account", "order", "filled", "price", "against mark", "status")
    for row, state in zip(decided, states, strict=True):
        order = f"{row['side']} {row['size']:g} {row['instrument']}"
        average = None if state is None else state["average_price"]
        better = "–" if average is None else f"{float(average) / row['mark_price'] - 1:+.3%}"
        count = "–" if state is None else f"{state['cum_quantity'].normalize():f}"
        status = "not requested" if state is None else state["order_status"]
        price = number(None if average is None else float(average))
        table.add_row(f"{row['event_at']:%H:%M:%S.%f}"[:-3], row["account"], order, count, price, better, status)
    return table


def _marks(out: Path) -> dict[tuple[str, str], float]:
    marks: dict[tuple[str, str], tuple[Any, float]] = {}
    for table in ("tickers", "venue_tickers"):
        for row in rows(out, table, ["venue", "instrument", "event_at", "mark_price"]):
            name = row["venue"], row["instrument"]
            if row["mark_price"] is not None and (name not in marks or row["event_at"] >= marks[name][0]):
                marks[name] = row["event_at"], row["mark_price"]
    return {name: mark for name, (_, mark) in marks.items()}


def _profits(
    fills: Sequence[Row], terms: Mapping[tuple[str, str], Row], marks: Mapping[tuple[str, str], float], transfers: Sequence[Row]
) -> Table:
    everyone = grouped(profits(fills, terms, marks, transfers))
    table = table_of("\nWon and lost, at the last marks", "who", "currency", "trades and marks", "fees", "payments", "total")
    for currency in sorted({unit for _, unit in everyone}):
        total = Fraction(0)
        for (who, unit), profit in sorted(everyone.items(), key=lambda item: -item[1].total):
            if unit == currency:
                parts = (profit.traded + profit.held, profit.fees, profit.paid, profit.total)
                table.add_row(who, currency, *(f"{float(part):,.4f}" for part in parts))
                total += profit.total
        table.add_row("sum", currency, "", "", "", "0" if not total else f"{float(total):.3g}")
    return table


def _remaining(out: Path, newest: Mapping[tuple[str, str], Row]) -> str:
    resting = [row for row in newest.values() if row["order_status"] in OPEN]
    held: dict[tuple[str, str], Row] = {}
    for row in rows(out, "positions", ["account", "venue", "instrument", "event_at", "size"]):
        held[row["account"], f"{row['venue']}:{row['instrument']}"] = row
    margin: dict[str, Row] = {}
    for row in rows(out, "account_margin"):
        if row["account"] not in margin or row["event_at"] >= margin[row["account"]]["event_at"]:
            margin[row["account"]] = row
    holders = {account for (account, _), row in held.items() if row["size"] != Decimal(0)}
    short = sorted(name for name, row in margin.items() if row["status"] == "liquidation" and name in holders)
    lines = [f"\nLeft at the end: {len(resting):,} open orders"]
    lines.append(
        f"{len(short):,} accounts below maintenance margin that hold something" + (f": {', '.join(short)}" if short else "")
    )
    return "; ".join(lines)

"""The results of a run, read from its Parquet files."""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import schemas


def rows(out: Path, table: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """A table's rows as dicts; none if it has no files."""
    import pyarrow.parquet as pq  # takes a while to load

    if not any((out / table).glob("*.parquet")):
        return []
    return list(pq.read_table(out / table, columns=columns).to_pylist())


def counts(out: Path) -> dict[str, int]:
    """The number of rows of every table."""
    import pyarrow.parquet as pq  # takes a while to load

    return {name: sum(pq.read_metadata(file).num_rows for file in (out / name).glob("*.parquet")) for name in schemas.kept()}


def show_counts(console: Console, out: Path) -> None:
    """Print the number of rows of each table, and the reason of each dead letter."""
    table = Table(title="Rows", title_justify="left", box=None)
    table.add_column("table")
    table.add_column("rows", justify="right")
    for name, count in counts(out).items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    letters = rows(out, "dead_letters")
    console.print(f"\nDead letters: {len(letters):,}")
    causes = Counter((row["source"], row["field"] or "(the whole)", row["expected"]) for row in letters)
    first = {(row["source"], row["field"] or "(the whole)", row["expected"]): row for row in reversed(letters)}
    for cause, count in causes.most_common(20):
        example = first[cause]
        where = f"offset {example['offset']}" if example["partition"] is None else f"{example['partition']}/{example['offset']}"
        console.print(
            f"  {count:,} × {cause[0]}, field {cause[1]}: expected {cause[2]}; e.g. {where} has {example['got']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def show_market(console: Console, out: Path) -> None:
    """Print books, faults, Greeks, the riskiest accounts and every liquidation."""
    tops: dict[tuple[str, str], dict[str, Any]] = {}
    changes: Counter[tuple[str, str]] = Counter()
    for row in rows(out, "book_tops"):
        name = row["venue"], row["instrument"]
        changes[name] += 1
        if name not in tops or (row["event_at"], row["sequence"]) >= (tops[name]["event_at"], tops[name]["sequence"]):
            tops[name] = row
    stale = sum(row["is_stale"] for row in tops.values())
    table = table_of(
        f"Books: {len(tops):,} kept, {stale:,} stale at the end; the busiest", "venue", "instrument", "bid", "ask", "changes"
    )
    for name, count in changes.most_common(8):
        top = tops[name]
        table.add_row(*name, number(top["bid_price"]), number(top["ask_price"]), f"{count:,}")
    console.print(table)

    faults = Counter((row["venue"], row["kind"]) for row in rows(out, "feed_faults"))
    text = ", ".join(f"{count:,} × {kind} on {venue}" for (venue, kind), count in faults.most_common())
    console.print(f"\nFeed faults: {text or 'none'}\n")

    greeks = {(row["venue"], row["instrument"]): row for row in rows(out, "option_greeks") if row["delta"] is not None}
    near = sorted(greeks.values(), key=lambda row: (abs(abs(row["delta"]) - 0.5), row["instrument"]))[:8]
    table = table_of(
        "Greeks of options near the money", "instrument", "forward", "IV", "price (coin)", "delta", "gamma", "vega", "theta"
    )
    for row in near:
        figures = [f"{row['forward_usd']:,.2f}", f"{row['mark_iv']:.2%}", f"{row['price_coin']:.5f}", f"{row['delta']:.4f}"]
        table.add_row(row["instrument"], *figures, f"{row['gamma']:.3e}", f"{row['vega']:.2f}", f"{row['theta']:.2f}")
    console.print(table)

    worst: dict[str, dict[str, Any]] = {}
    for row in rows(out, "account_margin"):
        if row["account"] not in worst or _risk(row) > _risk(worst[row["account"]]):
            worst[row["account"]] = row
    table = table_of(
        "\nRiskiest accounts, each at its worst", "account", "at", "equity USD", "maintenance USD", "ratio", "status"
    )
    for row in sorted(worst.values(), key=_risk, reverse=True)[:10]:
        ratio = "∞" if row["margin_ratio"] is None else f"{row['margin_ratio']:.2f}"
        figures = [number(row["equity_usd"]), number(row["maintenance_margin_usd"]), ratio, row["status"]]
        table.add_row(row["account"], f"{row['event_at']:%H:%M:%S.%f}"[:-3], *figures)
    console.print(table)

    orders = sorted(rows(out, "liquidation_orders"), key=lambda row: (row["event_at"], row["order_id"]))
    table = table_of(f"\nLiquidation orders: {len(orders):,}", "at", "account", "order", "why")
    for row in orders:
        order = f"{row['side']} {row['size']:g} {row['instrument']} at {number(row['mark_price'])}"
        table.add_row(f"{row['event_at']:%H:%M:%S.%f}"[:-3], row["account"], order, row["reason"])
    console.print(table)


def _risk(row: dict[str, Any]) -> float:
    if row["maintenance_margin_usd"] is None:
        return -1.0
    return float("inf") if row["margin_ratio"] is None else float(row["margin_ratio"])


def number(value: float | None) -> str:
    """A number as people read it; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.6g}"


def table_of(title: str, *columns: str) -> Table:
    """An empty table; numbers are on the right."""
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    for column in columns:
        is_text = column in ("venue", "instrument", "account", "status", "order", "why", "at", "who", "currency")
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    return table

"""What happened to one account, and why: its ledger, margin, liquidation decisions and orders, in order of time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import TopicPartition
from rich.console import Console
from rich.table import Table

from deploy import topics
from schemas.records import TABLES
from schemas.rows import shown
from schemas.security import READER

SOURCES = ("ledger_entries", "account_margin", "liquidation_events", "liquidation_orders", "order_guards", "order_states")
"""The tables of the story, in the order in which lines of one instant are printed."""
READING = ("gammaflow-explain", READER)

Rows = Mapping[str, list[dict[str, Any]]]


class Line(NamedTuple):
    """One event."""

    at: datetime
    what: str
    why: str


class Story(NamedTuple):
    """One account up to an instant."""

    holdings: dict[str, Decimal]  # by asset, the sum of the ledger's entries
    margin: dict[str, Any] | None  # the newest row of account_margin
    lines: list[Line]


def read_parquet(folder: Path, account: str, tables: Sequence[str] = SOURCES) -> Rows:
    """An account's rows from a run's Parquet files.  Raises `ValueError` if the folder has none of the tables."""
    import pyarrow.parquet as pq  # takes a while to load

    if not any((folder / table).is_dir() for table in tables):
        raise ValueError(f"{folder}: none of {', '.join(tables)} is here; name the folder that the archive wrote")
    rows: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        has_files = any((folder / table).glob("*.parquet"))
        rows[table] = pq.read_table(folder / table, filters=[("account", "=", account)]).to_pylist() if has_files else []
    return rows


def read_topics(
    servers: str, account: str, tables: Sequence[str] = SOURCES, most: int | None = None, reader: tuple[str, str] = READING
) -> Rows:
    """An account's rows from its topics, up to now; with `most`, of the newest so many records of each partition.

    `reader` are the consumer group and the user (`schemas.security`).
    """
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in tables}
    table_of = {TABLES[table].topic: table for table in tables}
    consumer, existing = topics.consuming(servers, reader[0], role=reader[1])
    try:
        ends: dict[tuple[str, int], int] = {}
        starts: list[TopicPartition] = []
        for topic in table_of:
            for part in range(existing.get(topic, 0)):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=10)
                if high > low:
                    ends[topic, part] = high
                    starts.append(TopicPartition(topic, part, low if most is None else max(low, high - most)))
        consumer.assign(starts)
        left = set(ends)
        while left:
            message = consumer.poll(1.0)
            if message is None:
                # A transaction's end is an offset without a record.
                done = consumer.position([TopicPartition(*partition) for partition in left])
                left -= {
                    (partition.topic, partition.partition)
                    for partition in done
                    if partition.offset >= ends[partition.topic, partition.partition]
                }
                continue
            if message.error():
                raise ValueError(f"{message.topic()}: {message.error()}")
            if message.offset() + 1 >= ends[message.topic(), message.partition()]:
                left.discard((message.topic(), message.partition()))
            table = table_of[message.topic()]
            is_keyed = TABLES[table].key == ("account",)
            if message.value() is None or (is_keyed and (message.key() or b"").decode() != account):
                continue
            row = json.loads(message.value())
            if row.get("account") == account:
                rows[table].append(row)
    finally:
        consumer.close()
    return rows


def story(rows: Rows, until: datetime | None = None) -> Story:
    """The story of an account from its rows up to an instant."""
    kept = {
        table: sorted(
            (row for row in rows[table] if until is None or instant(row["event_at"]) <= until),
            key=lambda row: (instant(row["event_at"]), row.get("number") or 0),
        )
        for table in SOURCES
    }
    holdings: dict[str, Decimal] = {}
    for row in sorted(kept["ledger_entries"], key=lambda row: int(row["number"])):
        holdings[row["asset"]] = Decimal(row["balance"])
    lines = [
        (line.at, rank, n, line) for rank, table in enumerate(SOURCES) for n, line in enumerate(_LINES[table](kept[table]))
    ]
    return Story(
        {asset: amount for asset, amount in sorted(holdings.items()) if amount},
        kept["account_margin"][-1] if kept["account_margin"] else None,
        [line for *_, line in sorted(lines, key=lambda item: item[:3])],
    )


def instant(value: Any) -> datetime:
    """An instant from JSON or Parquet.  Raises `ValueError` if it is not one."""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"expected an instant like 2026-03-02T12:30:00Z, got {shown(value)}") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def ledger_lines(rows: list[dict[str, Any]]) -> Iterable[Line]:
    """What was booked: a line per cause."""
    causes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        causes.setdefault((row["cause_kind"], row["cause_id"]), []).append(row)
    for (kind, cause_id), entries in causes.items():
        corrected = f", which corrects {entries[0]['corrected_id']}" if entries[0]["corrected_id"] else ""
        late = "" if entries[0]["caused_at"] == entries[0]["event_at"] else f" of {clock(entries[0]['caused_at'])}"
        yield Line(instant(entries[0]["event_at"]), f"{kind} {cause_id}{corrected}{late}", "; ".join(map(_entry, entries)))


def _entry(row: dict[str, Any]) -> str:
    amount, balance = Decimal(row["amount"]), Decimal(row["balance"])
    price = f" at {plain(Decimal(row['price']))}" if row["price"] is not None else ""
    return f"{row['kind']} {plain(amount, '+')} {row['asset']}{price} makes {plain(balance)}"


def _margin(rows: list[dict[str, Any]]) -> Iterable[Line]:
    status = None
    for row in rows:
        if row["status"] != status:
            status = row["status"]
            figures = ", ".join(
                f"{name} {row[column]:,.2f} USD"
                for name, column in (
                    ("equity", "equity_usd"),
                    ("initial", "initial_margin_usd"),
                    ("maintenance", "maintenance_margin_usd"),
                )
                if row[column] is not None
            )
            yield Line(instant(row["event_at"]), f"margin: {status}", row["reason"] or figures)


def _events(rows: list[dict[str, Any]]) -> Iterable[Line]:
    for row in rows:
        yield Line(instant(row["event_at"]), f"liquidation: {row['kind']}", row["reason"])


def _orders(rows: list[dict[str, Any]]) -> Iterable[Line]:
    for row in rows:
        limit = "" if row.get("limit_price") is None else f", limit {row['limit_price']:.8g}"
        text = f"{row['side']} {row['size']:g} {row['instrument']} at {row['mark_price']:.8g}{limit}"
        yield Line(instant(row["event_at"]), f"order {row['order_id']}", text)


def _guards(rows: list[dict[str, Any]]) -> Iterable[Line]:
    for row in {int(row["number"]): row for row in rows}.values():
        yield Line(instant(row["event_at"]), f"{row['guard']}: {row['event']}", guard_text(row))


def guard_text(row: Mapping[str, Any]) -> str:
    """What a row of `order_guards` is about, in words."""
    scope = row["underlying"] or ":".join(name for name in (row["venue"], row["instrument"]) if name) or "every market"
    end = "" if row["ends_at"] is None else f" until {clock(row['ends_at'])}"
    count = "" if row["orders"] is None else f", {row['orders']} orders to be cancelled"
    rule = f", by {row['rule']}" if row["rule"] else ""
    why = f": {row['reason']}" if row["reason"] else ""
    return f"{scope}{end} ({row['cause_id']}){count}{rule}{why}"


def state_lines(rows: list[dict[str, Any]]) -> Iterable[Line]:
    """The transitions of orders."""
    for row in rows:
        figures = f"{plain(Decimal(row['cum_quantity']))} traded, {plain(Decimal(row['leaves_quantity']))} left"
        rule = f" by {row['rule']}" if row["rule"] else ""
        why = f": {row['reason']}" if row["reason"] else ""
        what = f"order {row['order_key']}: {row['event']}{rule}"
        yield Line(instant(row["event_at"]), what, f"{row['order_status']}, {figures}{why}")


_LINES = {
    "ledger_entries": ledger_lines,
    "account_margin": _margin,
    "liquidation_events": _events,
    "liquidation_orders": _orders,
    "order_guards": _guards,
    "order_states": state_lines,
}


def show(console: Console, account: str, account_story: Story, lines: int) -> None:
    """Print the last `lines` lines of a story.  Raises `KeyError` if nothing is known about the account."""
    if not account_story.lines:
        raise KeyError(f"nothing is known of account {account!r} up to then")
    margin = account_story.margin
    console.print(f"{account}: {margin['status'] if margin else 'not valued'}", markup=False)
    for asset, amount in account_story.holdings.items():
        console.print(f"  {plain(amount)} {asset}", markup=False)
    if margin and margin["equity_usd"] is not None:
        ratio = "" if margin["margin_ratio"] is None else f", ratio {margin['margin_ratio']:.4f}"
        worst = f", worst scenario {margin['worst_scenario']}" if margin.get("worst_scenario") else ""
        chances = [
            f"{margin[f'liquidation_probability_{horizon}']:.2%} within {horizon}"
            for horizon in ("1h", "24h", "7d")
            if margin.get(f"liquidation_probability_{horizon}") is not None
        ]
        console.print(
            f"  equity {margin['equity_usd']:,.2f} USD, initial margin {margin['initial_margin_usd']:,.2f} USD, maintenance "
            f"margin {margin['maintenance_margin_usd']:,.2f} USD{ratio}, model {margin['model']}{worst}",
            markup=False,
            soft_wrap=True,
        )
        if chances:
            console.print(f"  probability of liquidation {', '.join(chances)}", markup=False)
    console.print()
    if len(account_story.lines) > lines:
        console.print(f"… {len(account_story.lines) - lines:,} lines before")
    show_lines(console, account_story.lines[-lines:])


def show_lines(console: Console, lines: Iterable[Line]) -> None:
    """Print lines as a table."""
    table = Table(box=None, header_style="dim")
    for heading in ("at", "what", "why"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(clock(line.at), line.what, line.why)
    console.print(table, markup=False)


def clock(at: Any) -> str:
    """An instant as it is printed."""
    return f"{instant(at):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def plain(amount: Decimal, sign: str = "") -> str:
    """A number as it is printed: without zeros at the end."""
    digits = f"{amount:{sign}f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits

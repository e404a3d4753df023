"""Oracles, halts and circuit breaks in `gammaflow status`: which source is out and why, what is halted and until when.

It reads the newest records of each topic alone, so it is as quick after a year as after a day.  What has ended or begun before
these is not known; where that may be, it says since when it looked.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from confluent_kafka import KafkaException, Message
from rich.console import Console
from rich.table import Table

from cli.feeds_shown import duration
from deploy import topics
from deploy.topics import TopicError
from schemas.clients import before_ends, to_end
from schemas.records import TABLES
from schemas.rows import fault, instant_ms, to_ms

COUNTS = {
    "oracle_prices": 2_000,
    "oracle_sources": 2_000,
    "oracle_faults": 20_000,
    "circuit_breaks": 20_000,
    "trading_halts": 30_000,
}
"""How many of the newest records of each partition are read.  Oracles have rows every 100 ms.  Faults and breaks have a
heartbeat every 100 ms: half an hour is read.  Halts have one every 20 ms, but feeds repeat them with each listing."""
MOST_LINES = 30
MOST_NAMES = 3
CONSENSUS = "consensus"

Row = Mapping[str, Any]


class Newest(NamedTuple):
    """The newest rows of each table, in the order of their partitions."""

    rows: Mapping[str, Sequence[Row]]
    since_ms: Mapping[str, int]  # by table, from which record timestamp on; only where older records were left out


def newest(servers: str, counts: Mapping[str, int] = COUNTS) -> Newest:
    """The newest rows of these tables, as many records of each partition as `counts` says.  Raises `TopicError`."""
    consumer, existing = topics.consuming(servers, "gammaflow-status", {"enable.partition.eof": True})
    try:
        tables = {TABLES[table].topic: table for table in counts}
        parts = [(topic, part, counts[table]) for topic, table in tables.items() for part in range(existing.get(topic, 0))]
        starts, cut = before_ends(consumer, parts)
        return collected(tables, cut, to_end(consumer, starts))
    except KafkaException as error:
        raise TopicError(f"oracles and halts at {servers}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def collected(tables: Mapping[str, str], cut: Iterable[tuple[str, int]], messages: Iterable[Message]) -> Newest:
    """The rows of messages, by the table of their topic; what is no row is left out.

    `cut` are the partitions, by topic and number, of which older records were left out.
    """
    rows: dict[str, list[Row]] = {table: [] for table in tables.values()}
    since_ms: dict[str, int] = {}
    unseen = set(cut)
    for message in messages:
        topic, value = message.topic() or "", message.value()
        table = tables[topic]
        if (topic, message.partition()) in unseen:
            unseen.discard((topic, message.partition()))
            since_ms[table] = max(since_ms.get(table, 0), message.timestamp()[1])
        if value is None:
            continue
        try:
            row = orjson.loads(value)
        except orjson.JSONDecodeError:
            continue
        if fault(table, row) is None:
            rows[table].append(row)
    return Newest(rows, since_ms)


def show(console: Console, shown: Newest) -> None:
    """Print a line for each oracle, and one for each thing that is halted."""
    rows = shown.rows
    oracles = oracles_table(rows["oracle_prices"], rows["oracle_sources"], rows["oracle_faults"])
    if oracles.row_count:
        console.print(oracles, markup=False)
        _show_since(console, shown, "faults", ["oracle_faults"])
        console.print()
    halted = halts_table(rows["trading_halts"], rows["circuit_breaks"])
    if halted.row_count:
        console.print(halted, markup=False)
    else:
        console.print("Halted  nothing, by venues or by circuit breakers")
    _show_since(console, shown, "halts and breaks", ["trading_halts", "circuit_breaks"])


def _show_since(console: Console, shown: Newest, what: str, tables: Iterable[str]) -> None:
    since_ms = max((shown.since_ms.get(table, 0) for table in tables), default=0)
    if since_ms:
        console.print(f"{what} told before {instant(since_ms)} are not shown", style="dim")


def oracles_table(prices: Iterable[Row], sources: Iterable[Row], faults: Iterable[Row]) -> Table:
    """A line for each underlying: its price, the sources that count in it, and why each of the others does not."""
    table = Table(box=None, header_style="dim")
    for heading in ("oracle", "USD", "±", "validity", "holds", "as of", "sources", "left out", "faults"):
        table.add_column(heading, justify="right" if heading in ("USD", "±") else "left", overflow="fold")
    priced = _newest_of(prices, "underlying")
    by_underlying: dict[str, list[Row]] = {}
    for row in _newest_of(sources, "underlying", "source").values():
        by_underlying.setdefault(row["underlying"], []).append(row)
    open_faults = [row for row in _newest_of(faults, "underlying", "source", "kind").values() if not row["is_over"]]
    for underlying in sorted({key[0] for key in priced} | by_underlying.keys()):
        price, own = priced.get((underlying,)), by_underlying.get(underlying, [])
        as_of = max(row["event_at"] for row in ([] if price is None else [price]) + own)
        # One that is forgotten has no row of the newest tick.
        now = [row for row in own if row["event_at"] == max(row["event_at"] for row in own) and row["source"] != CONSENSUS]
        used = [row for row in now if row.get("reason") is None]
        table.add_row(
            underlying,
            "–" if price is None else _figure(price["price_usd"]),
            "–" if price is None else _figure(price["confidence_usd"]),
            "no price yet" if price is None else price["validity"],
            "–" if price is None or price.get("held") is None else price["held"].replace(",", ", "),
            instant(to_ms(as_of)),
            f"{len(used)} of {len(now)}",
            "\n".join(f"{row['source']}: {row['reason']}" for row in now if row.get("reason") is not None) or "–",
            "\n".join(_fault(row) for row in open_faults if row["underlying"] == underlying) or "–",
        )
    return table


def _fault(row: Row) -> str:
    def measure(value: float | None) -> str:
        if value is None:
            return "–"
        return duration(value / 1000) if row["unit"] == "ms" else f"{value:.2%}"

    measured = f"{measure(row.get('measured'))}, allowed {measure(row.get('allowed'))}"
    return f"{row['source']}: {row['kind']} since {instant(to_ms(row['event_at']))} ({measured})"


def halts_table(halts: Iterable[Row], breaks: Iterable[Row]) -> Table:
    """A line for each circuit break, and for each reason of a venue the instruments that it halts."""
    table = Table(box=None, header_style="dim")
    for heading in ("halted", "by", "since", "until", "why"):
        table.add_column(heading, overflow="fold")
    lines: list[tuple[str, ...]] = []
    for row in sorted(_newest_of(breaks, "break_id").values(), key=_rank, reverse=True):
        if row["is_halted"]:
            names = [row[column] for column in ("venue", "instrument", "underlying") if row.get(column) is not None]
            until = "its condition ends" if row.get("planned_end_at") is None else instant(to_ms(row["planned_end_at"]))
            exits = "; exits pass" if row.get("passes_exits") else ""
            lines.append(
                (":".join(names), f"breaker {row['rule']}{exits}", instant(to_ms(row["event_at"])), until, row["reason"])
            )
    for (venue, reason), own in _by_reason(halts).items():
        names = sorted(row["instrument"] for row in own if row.get("instrument") is not None)
        where = venue if len(names) < len(own) else f"{venue}:{', '.join(names[:MOST_NAMES])}"
        if len(names) > MOST_NAMES:
            where += f" and {len(names) - MOST_NAMES:,} more"
        since = instant(to_ms(min(row["event_at"] for row in own)))
        lines.append((where, "the venue", since, "–", reason or "no reason is known"))
    for line in lines[:MOST_LINES]:
        table.add_row(*line)
    if len(lines) > MOST_LINES:
        table.add_row(f"and {len(lines) - MOST_LINES:,} more: gammaflow tail circuit_breaks, trading_halts")
    return table


def _by_reason(halts: Iterable[Row]) -> dict[tuple[str, str | None], list[Row]]:
    """What venues have halted, by venue and reason: a venue may list a thousand contracts that do not trade."""
    halted: dict[tuple[str, str | None], list[Row]] = {}
    for row in _newest_of(halts, "venue", "instrument").values():
        if row["is_halted"]:
            halted.setdefault((row["venue"], row.get("reason")), []).append(row)
    return halted


def _newest_of(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], Row]:
    """The newest row by event time of each key; of one instant the last one, but a fault that is over stays so."""
    newest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row.get(column) for column in columns)
        known = newest.get(key)
        if known is None or _rank(row) >= _rank(known):
            newest[key] = row
    return newest


def _rank(row: Row) -> tuple[int, bool]:
    return to_ms(row["event_at"]), row.get("is_over", False)


def _figure(value: float) -> str:
    return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.6g}"


def instant(ms: int) -> str:
    """An instant in UTC, to the second."""
    return instant_ms(ms)[:19].replace("T", " ")

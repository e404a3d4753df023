"""The feeds in `gammaflow status`, wherever they run: what each has last written into `feed_status`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from confluent_kafka import KafkaException, TopicPartition
from rich.table import Table

from deploy import topics
from deploy.topics import TopicError
from feeds.status import EVERY_S
from schemas.clients import to_end
from schemas.records import TABLES
from schemas.rows import fault, instant_ms, to_ms, to_us

SILENT_S = 3 * EVERY_S
"""How old a row may be before its feed is said to be silent."""
FORGOTTEN_S = 7 * 86_400.0
"""How long a feed that has ended, or fallen silent, is shown."""

Row = Mapping[str, Any]


def newest(servers: str) -> list[Row]:
    """The newest row of each feed, by name.  Raises `TopicError`."""
    consumer, existing = topics.consuming(servers, "gammaflow-status", {"enable.partition.eof": True})
    topic = TABLES["feed_status"].topic
    parts = [TopicPartition(topic, part, 0) for part in range(existing.get(topic, 0))]
    try:
        return newest_of(message.value() for message in to_end(consumer, parts))
    except KafkaException as error:
        raise TopicError(f"{topic} at {servers}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def newest_of(values: Iterable[bytes | None]) -> list[Row]:
    """The newest of these rows of each feed, by name; what is no row is left out."""
    rows: dict[str, Row] = {}
    for value in values:
        try:
            row = orjson.loads(value or b"")
        except orjson.JSONDecodeError:
            continue
        if fault("feed_status", row) is None and row["event_at"] >= rows.get(row["feed"], row)["event_at"]:
            rows[row["feed"]] = row
    return [row for _, row in sorted(rows.items())]


def table(rows: Sequence[Row], now_ms: int) -> Table:
    """A line for each feed that was heard within a week."""
    shown = Table(box=None, header_style="dim")
    for heading in ("feed", "market", "state", "up for", "symbols", "connections", "messages/s", "newest", "where"):
        shown.add_column(heading, justify="right" if heading in ("symbols", "messages/s") else "left")
    for row in rows:
        age_s = max(0.0, (now_ms - to_ms(row["event_at"])) / 1000)
        if age_s > FORGOTTEN_S:
            continue
        state = state_of(row, age_s)
        is_up = state in ("starting", "running")
        newest_s = None if row["newest_at"] is None else max(0.0, now_ms / 1000 - to_us(row["newest_at"]) / 1e6)
        shown.add_row(
            row["feed"],
            row["market"],
            state,
            duration((now_ms - to_ms(row["started_at"])) / 1000) if is_up else "–",
            f"{row['symbols']:,}",
            f"{row['connections_open']}/{row['connections_needed']}" if is_up else "–",
            f"{row['messages_per_s']:,.0f}" if is_up else "–",
            "–" if newest_s is None else f"{duration(newest_s)} ago",
            f"{row['host']}, process {row['pid']}, {row['version']}",
        )
    return shown


def state_of(row: Row, age_s: float) -> str:
    """The state of a feed whose newest row is so old: a feed that goes without a word is silent."""
    at = instant_ms(to_ms(row["event_at"]))[:19].replace("T", " ")
    if row["state"] == "stopped":
        return f"stopped {at}"
    if row["state"] == "failed":
        return f"failed {at}: {row['reason'] or 'no reason is known'}"
    return str(row["state"]) if age_s <= SILENT_S else f"silent since {at}"


def duration(seconds: float) -> str:
    """A time in the two largest units: 3 d 4 h, 5 min 10 s, 0.4 s."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    for name, size, smaller, smaller_size in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{int(seconds // size)} {name} {int(seconds % size // smaller_size)} {smaller}"
    return f"{seconds:.0f} s"

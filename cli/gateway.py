"""`gammaflow gateway`: FIX sessions to venues and for clients, and how `gammaflow status` shows them."""

import signal
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from confluent_kafka import KafkaException, TopicPartition
from rich.console import Console
from rich.table import Table

from cli.feeding import publishing, servers
from cli.feeds_shown import FORGOTTEN_S, SILENT_S, duration
from deploy import jars, topics
from deploy.topics import TopicError
from feeds.metrics import serving
from feeds.publish import PublishError
from gateway.config import load, secrets
from gateway.dialect import ConfigError
from schemas.clients import to_end
from schemas.records import TABLES
from schemas.rows import fault, instant_ms, to_ms, to_us

FAULTS = (ConfigError,)
"""What may go wrong beside what feeds know; the message says what to do."""
Row = Mapping[str, Any]


def gateway(
    config: Annotated[Path, typer.Argument(help="A TOML file of sessions: docs/gateway.md.")],
    is_check: Annotated[bool, typer.Option("--check", help="Only check the file and those that it names.")] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="GAMMAFLOW_METRICS_PORT", min=1, max=65535, help="Serve metrics for Prometheus, /live and /ready there."
        ),
    ] = None,
    metrics_address: Annotated[
        str, typer.Option(envvar="GAMMAFLOW_METRICS_ADDRESS", help="With --metrics-port: 0.0.0.0 is every interface.")
    ] = "127.0.0.1",
) -> None:
    """Trade over FIX until it is stopped: orders out to venues, reports in; clients' orders in, reports and drop copies out.

    The broker is GAMMAFLOW_KAFKA, or that of `gammaflow up`.
    """
    console = Console(highlight=False, soft_wrap=True)
    found = load(config)
    for session in found.sessions:
        secrets(session)
    if is_check:
        console.print(f"{config}: {len(found.sessions)} sessions: {', '.join(own.name for own in found.sessions)}")
        return
    from gateway.engine import EngineError
    from gateway.kafka import PublisherSink, Topics
    from gateway.service import Service, tables_of
    from gateway.status import GatewayHealth, GatewayMetrics, SessionStatus

    paths, broker, stop, status = jars.fetch("fix")["fix"], servers(), threading.Event(), None
    with ExitStack() as stack:
        publisher = stack.enter_context(publishing(broker, f"gateway {found.name}"))
        try:
            service = Service(found, paths, PublisherSink(publisher), Topics(broker, tables_of(found), found.lookback_h))
            status, health = SessionStatus(service), GatewayHealth(service)
            is_shown = publisher.is_writable("gateway_sessions")
            if metrics_port is not None:
                stack.enter_context(serving(GatewayMetrics(service), health, metrics_address, metrics_port))
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            console.print(f"gateway {found.name} at {broker}: {', '.join(own.name for own in found.sessions)}")

            def tick() -> None:
                health.tick()
                if is_shown:
                    status.tick()

            service.run(stop, tick)
            if is_shown:
                status.end("stopped")
        except EngineError as error:
            if status is not None and publisher.is_writable("gateway_sessions"):
                with suppress(PublishError):
                    status.end("failed", str(error))
            raise ConfigError(str(error)) from None


def newest(broker: str) -> list[Row]:
    """The newest row of each session.  Raises `TopicError`."""
    consumer, existing = topics.consuming(broker, "gammaflow-status", {"enable.partition.eof": True})
    topic = TABLES["gateway_sessions"].topic
    parts = [TopicPartition(topic, part, 0) for part in range(existing.get(topic, 0))]
    try:
        return newest_of(message.value() for message in to_end(consumer, parts)) if parts else []
    except KafkaException as error:
        raise TopicError(f"{topic} at {broker}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def newest_of(values: Iterable[bytes | None]) -> list[Row]:
    """The newest of these rows of each session, by gateway and name; what is no row is left out."""
    rows: dict[tuple[str, str], Row] = {}
    for value in values:
        try:
            row = orjson.loads(value or b"")
        except orjson.JSONDecodeError:
            continue
        if fault("gateway_sessions", row) is not None:
            continue
        key = row["gateway"], row["session"]
        if row["event_at"] >= rows.get(key, row)["event_at"]:
            rows[key] = row
    return [row for _, row in sorted(rows.items())]


def table(rows: Sequence[Row], now_ms: int) -> Table:
    """A line for each session that was heard within a week."""
    shown = Table(box=None, header_style="dim")
    for heading in ("gateway", "session", "kind", "with", "state", "next out", "next in", "held", "unknown", "newest", "where"):
        shown.add_column(heading, justify="right" if heading in ("next out", "next in", "held", "unknown") else "left")
    for row in rows:
        age_s = max(0.0, (now_ms - to_ms(row["event_at"])) / 1000)
        if age_s > FORGOTTEN_S:
            continue
        heard_s = None if row["newest_at"] is None else max(0.0, now_ms / 1000 - to_us(row["newest_at"]) / 1e6)
        shown.add_row(
            row["gateway"],
            row["session"],
            row["kind"],
            row["counterparty"],
            state_of(row, age_s),
            f"{row['next_out']:,}",
            f"{row['next_in']:,}",
            f"{row['orders_held']:,}",
            f"{row['orders_unknown']:,}",
            "–" if heard_s is None else f"{duration(heard_s)} ago",
            f"{row['host']}, process {row['pid']}, {row['version']}",
        )
    return shown


def state_of(row: Row, age_s: float) -> str:
    """The state of a session whose newest row is so old: a gateway that goes without a word is silent."""
    at = instant_ms(to_ms(row["event_at"]))[:19].replace("T", " ")
    if row["state"] == "stopped":
        return f"stopped {at}"
    if row["state"] == "failed":
        return f"failed {at}: {row['reason'] or 'no reason is known'}"
    return str(row["state"]).replace("_", " ") if age_s <= SILENT_S else f"silent since {at}"


def show(console: Console, broker: str) -> bool:
    """Print the sessions of every gateway of a broker; whether there are any.  Raises `TopicError`."""
    rows = newest(broker)
    if rows:
        console.print(table(rows, time.time_ns() // 1_000_000), markup=False)
    return bool(rows)

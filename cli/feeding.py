"""A feed as a command: which market or account, until when, and how it is watched.  `python -m cli.feeding` runs it alone."""

import asyncio
import difflib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.failing import one_line
from feeds import live, resync
from feeds.capture import Tally
from feeds.keeper import Keeper
from feeds.metrics import FeedMetrics, Health, Latencies, MetricsError, serving
from feeds.private.keys import Keys, KeysError, read_file, read_keys
from feeds.private.resume import resume
from feeds.private.service import OVERLAP_MS, PrivateFeed, Published
from feeds.private.venues import SESSIONS
from feeds.publish import Publisher, PublishError
from feeds.recording import Recording, RecordingError
from feeds.resync import ResyncError
from feeds.service import Feed, FeedError
from feeds.status import VERSION, StatusWriter
from feeds.times import writer_name
from feeds.venues import VENUES

FAULTS = (PublishError, ResyncError, FeedError, RecordingError, MetricsError, ValueError)
"""What may go wrong with a feed; the message says what to do."""
POLL_S = 0.01
"""How often a quiet feed looks for acknowledgements, without which their latency would seem longer than it is."""


@dataclass(frozen=True)
class Watch:
    """How a feed is watched.

    name       of the feed in `gammaflow status`; None: its market and the host
    address    where metrics are served
    port       None: nowhere
    latencies  those that the publisher fills
    """

    name: str | None
    address: str
    port: int | None
    latencies: Latencies


def feed(
    market: Annotated[str, typer.Argument(help="A venue's market: deribit, okx, binance_usdm, bybit_linear, dydx …")],
    symbols: Annotated[
        list[str] | None, typer.Option("--symbols", "-s", help="A symbol or a pattern, BTC-*; several times. Without: all.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Store each message as received, in files <record>.<time>.gz that `replay` can read.")
    ] = None,
    is_redundant: Annotated[bool, typer.Option("--redundant", help="Two connections for every symbol, each row once.")] = False,
    via: Annotated[
        list[str] | None,
        typer.Option(help="A proxy, http://host:port; several times: if one dies, the next is used."),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option("--private", metavar="ACCOUNT", help="Feed the orders and fills of your own account, under this name."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="With --private: a JSON file of key, secret and, for OKX, passphrase; else GAMMAFLOW_<VENUE>_KEY, …"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="With --private: from which time on to request fills. Without: from the newest one in Kafka."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(envvar="GAMMAFLOW_FEED_NAME", help="Its name in `gammaflow status`. Without: <market>@<host>."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="GAMMAFLOW_METRICS_PORT", min=1, max=65535, help="Serve metrics for Prometheus, /live and /ready there."
        ),
    ] = None,
    metrics_address: Annotated[
        str, typer.Option(envvar="GAMMAFLOW_METRICS_ADDRESS", help="With --metrics-port: 0.0.0.0 is every interface.")
    ] = "127.0.0.1",
) -> Tally:
    """Feed a market of an exchange into Kafka until it is stopped: listings, books, trades, tickers, status.

    New listings that match join, expired ones leave.  With --private it feeds your orders and fills on that exchange instead.
    The broker is GAMMAFLOW_KAFKA, or that of `gammaflow up`.
    """
    if account is None and (keys or since):
        raise ValueError("--keys and --since need --private ACCOUNT")
    if account is not None and (record or is_redundant):
        raise ValueError("--private: without --record and --redundant; a private channel is one connection, not recorded")
    if account is None:
        venue_of(market)
    _check_paths(via or [])
    with ExitStack() as stack:
        if account is not None:
            own = account_keys(market, keys)
            publisher = stack.enter_context(publishing(servers(), f"{market}/{account}"))
            return asyncio.run(serve(account_feed(market, account, own, publisher, symbols or [], since, via or []), publisher))
        recording = None if record is None else Recording(record)
        if recording is not None:
            stack.callback(recording.close)
        watch = Watch(name, metrics_address, metrics_port, Latencies())
        latencies = None if metrics_port is None else watch.latencies
        publisher = stack.enter_context(publishing(servers(), market, latencies))
        running = market_feed(
            market, symbols or ["*"], publisher, paths=via or [], is_redundant=is_redundant, recording=recording
        )
        return asyncio.run(serve(running, publisher, watch=watch))


def servers() -> str:
    """The broker: GAMMAFLOW_KAFKA, or that of `gammaflow up`.  Raises `ValueError`, `StartError`."""
    told = os.environ.get("GAMMAFLOW_KAFKA")
    if told:
        return told
    try:
        from deploy import runtime
    except ModuleNotFoundError:  # a container that only feeds has no cluster's tools
        raise ValueError("GAMMAFLOW_KAFKA: expected the broker's host:port, got nothing") from None
    return runtime.current(runtime.default_home()).kafka


def market_feed(market: str, patterns: list[str], publisher: Publisher, **options: Any) -> Feed:
    """A feed of a venue's market.  Raises `ValueError` for an unknown market, and for a proxy that is none of HTTP."""
    _check_paths(options.get("paths", ()))
    return Feed(venue_of(market).session(market), patterns, publisher, **options)


def venue_of(market: str) -> Any:
    """The module of the venue with this market.  Raises `ValueError` for an unknown market."""
    venues = {name: venue for venue in VENUES.values() for name in venue.MARKETS}
    _check_market(market, venues, "no market")
    return venues[market]


def account_keys(market: str, path: Path | None) -> Keys:
    """The keys in a file, else those of the venue in the environment.  Raises `ValueError`, as does an unknown market."""
    _check_market(market, SESSIONS, "no private channel of")
    if path is not None:
        return read_file(path)
    name = market.partition("_")[0].upper()
    try:
        return read_keys(name)
    except KeysError as error:
        raise ValueError(f"{error}; name a file with --keys or in GAMMAFLOW_{name}_KEYS") from None


def account_feed(
    market: str, account: str, keys: Keys, publisher: Publisher, symbols: list[str], since: str | None, paths: list[str]
) -> PrivateFeed:
    """A feed of an account's orders and executions.

    It resumes after the newest fill of the account in Kafka, or at `since`.  Raises `ValueError` for symbols that the venue
    does not need, a time that is none, and a proxy that is none of HTTP; `PublishError` if Kafka cannot be read.
    """
    _check_paths(paths)
    session = SESSIONS[market](keys, account)
    if symbols and not session.needs_symbols:
        raise ValueError(f"--symbols: a private channel of {market} has all instruments; leave the option out")
    if odd := [symbol for symbol in symbols if set(symbol) & set("*?[")]:
        raise ValueError(f"--symbols: with --private expected whole symbols, got {odd[0]!r}")
    published = Published()
    since_ms = None if since is None else _time_ms(since)
    last_day = resume(publisher.servers, market, account, published)
    if since_ms is None and last_day.newest_ms is not None:
        since_ms = last_day.newest_ms - OVERLAP_MS
    names = [*(symbol.upper() for symbol in symbols), *last_day.instruments]
    return PrivateFeed(session, keys, publisher, names, since_ms, published, paths)


def _time_ms(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or instant.timestamp() > time.time():
        raise ValueError(f"--since: expected a time of the past with its zone, such as 2026-05-01T07:30Z, got {text!r}")
    return int(instant.timestamp() * 1000)


def _check_paths(paths: list[str]) -> None:
    if odd := [path for path in paths if not path.startswith(("http://", "https://"))]:
        raise ValueError(f"--via: expected http://host:port, got {odd[0]!r}")


def _check_market(market: str, known: dict[str, Any], complaint: str) -> None:
    if market not in known:
        near = difflib.get_close_matches(market, known, 3, 0.4)
        raise ValueError(f"{complaint} {market!r}; there are {', '.join(sorted(known))}{f'. Is it {near[0]}?' if near else ''}")


@contextmanager
def publishing(servers: str, subject: str, latencies: Latencies | None = None) -> Iterator[Publisher]:
    """A publisher among others: it reports its time, and its process may become the keeper.  Raises `PublishError`."""
    publisher = Publisher(servers, writer=writer_name(subject), latencies=latencies)
    # The keeper is the last to leave: it tells the time that the publisher reports at its end.
    with Keeper(servers), publisher:
        yield publisher


async def serve(
    running: Feed | PrivateFeed, publisher: Publisher, seconds: float | None = None, *, watch: Watch | None = None
) -> Tally:
    """Publish an exchange's messages, for `seconds` or until SIGTERM or Ctrl-C, and serve requests for fresh books.

    With `watch`, which a private feed does not have, it also serves metrics, and writes how it is into `feed_status`.
    Raises `FAULTS`.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(live.keep_time(publisher))]
    tasks[0].add_done_callback(lambda _: stop.set())  # what cannot be told stops the feed
    writer = None if watch is None or isinstance(running, PrivateFeed) else StatusWriter(watch.name, running, publisher)
    try:
        if isinstance(running, PrivateFeed):
            await running.serve(stop)
        else:
            with resync.requests(publisher.servers) as resyncs, ExitStack() as stack:
                running.resyncs = resyncs
                if watch is not None and writer is not None:
                    tasks += _watched(running, publisher, watch, writer, stack)
                await running.serve(stop)
                if writer is not None:
                    writer.write("stopped")
        if tasks[0].done():
            tasks[0].result()
    except (FeedError, RecordingError, ResyncError, MetricsError) as error:
        if writer is not None:
            with suppress(PublishError):
                writer.write("failed", str(error))
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return running.tally


def _watched(
    running: Feed, publisher: Publisher, watch: Watch, writer: StatusWriter, stack: ExitStack
) -> "list[asyncio.Task[None]]":
    health = Health(running)
    tasks = [asyncio.create_task(writer.watch(health.tick))]
    if watch.port is not None:
        metrics = FeedMetrics(running, publisher, watch.latencies, VERSION)
        stack.enter_context(serving(metrics, health, watch.address, watch.port))
        tasks.append(asyncio.create_task(_poll(publisher)))
    return tasks


async def _poll(publisher: Publisher) -> None:
    while True:
        publisher.poll()
        await asyncio.sleep(POLL_S)


def tally_text(tally: Tally) -> str:
    """The result of every line."""
    parts = [f"{count:,} {table}" for table, count in sorted(tally.messages.items())]
    parts += [f"{tally.control:,} without data", f"{tally.rejected:,} dead letters"]
    return f"Lines in: {tally.lines:,} = {' + '.join(parts)}\n"


def alone(**options: Any) -> None:
    """Run `feed` where there is nothing but a feed: in a container."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    with one_line(console, *FAULTS):
        console.print(tally_text(feed(**options)))


if __name__ == "__main__":
    from functools import wraps

    typer.run(wraps(feed)(alone))

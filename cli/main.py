"""The console command: `gammaflow --help`."""

import asyncio
import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from confluent_kafka import Message, TopicPartition
from rich.console import Console
from rich.table import Table

import jobs as catalogue
import schemas
from cli import book as ladders
from cli import controls as operator
from cli import drill as drills
from cli import feeding, feeds_shown, hedging, orders, parents, play, summary, trading_shown
from cli import gateway as gateways
from cli.display import Display, kernels_table, watermark
from cli.failing import one_line
from cli.trading_summary import show_trading
from deploy import acls as access
from deploy import cluster, jars, java, runtime, topics
from deploy.jars import JarError
from deploy.processes import StartError
from deploy.rest import FlinkError, Job
from deploy.topics import TopicError
from drills import suite as drilled
from drills.harms import CONTROLS, DRILLS
from feeds import capture as captures
from feeds.capture import CaptureError, Tally
from feeds.following import Follower
from feeds.keeper import Keeper
from feeds.publish import HEARTBEAT_MS, Publisher
from feeds.publish import play as publish_records
from feeds.publish import replay as publish_lines
from feeds.simulator import SOURCES, Quoting, Scenario
from feeds.simulator import simulate as market
from feeds.venues import VENUES
from schemas import security
from schemas.controls import CANCEL_ALL, HALT, REDUCE_ONLY, RUN
from schemas.records import TABLES
from schemas.rows import fault, parted
from schemas.rows import key as key_of

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help=(
        "Exchange streams into real-time options risk.\n\n"
        "`up` starts an embedded Kafka broker and Flink cluster; GAMMAFLOW_KAFKA (host:port) and GAMMAFLOW_FLINK (host:port of "
        "the REST interface) point to your own instead.  `submit` starts jobs, `simulate` and `replay` feed them, `tail` shows "
        "their rows, `down` stops everything.  `demo` does all of it once."
    ),
)
pictures = typer.Typer(no_args_is_help=True, help="Draw pictures of the Parquet files that a replay or demo left behind.")
app.add_typer(pictures, name="plot")
app.add_typer(orders.app, name="order")
app.add_typer(parents.app, name="parent")
console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 140)

SHOWN = [
    name for name in catalogue.FLOW if name in (*catalogue.upstream(["liquidations"], catalogue.optional()), "option_greeks")
]
"""The jobs of the demo: all that liquidations need, and the Greeks of each option."""

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Jobs, or groups such as bars+book_metrics; all jobs where none is named (see `gammaflow jobs`)."),
]
Speed = Annotated[str, typer.Option(help="max, or how many times as fast as it was: 1, 10, …")]
Parallelism = Annotated[int, typer.Option(min=1, max=128, help="Parallel tasks of each operator.")]


def errors() -> AbstractContextManager[None]:
    """Every expected error of a command as one clear line."""
    kinds = (
        StartError,
        TopicError,
        FlinkError,
        JarError,
        CaptureError,
        operator.ControlError,
        play.PlayError,
        ladders.BookError,
    )
    return one_line(console, *kinds, *feeding.FAULTS, *gateways.FAULTS)


@app.command()
def setup() -> None:
    """Fetch the jars of broker and connectors into the cache, checked; nothing is fetched twice."""
    with errors():
        java.share_classes()
        paths = jars.fetch()
        console.print(f"{sum(map(len, paths.values()))} jars in {jars.cache_dir()}")


@app.command()
def up(
    taskmanagers: Annotated[
        int, typer.Option(min=1, max=runtime.MAX_TASKMANAGERS, help="TaskManagers, each a process of its own.")
    ] = 1,
    has_prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Serve metrics on the first free ports from 9250 on, of every interface.")
    ] = False,
) -> None:
    """Start the embedded Kafka broker and Flink cluster and create the topics; they run until `down`."""
    with errors():
        display = Display(console)
        conf = cluster.layered(["prometheus"]) if has_prometheus else None
        running = runtime.up(runtime.default_home(), conf, taskmanagers, say=display.step)
        display.step("up")
        console.print(f"Kafka {running.kafka}\nFlink http://{running.flink}\nLogs  {running.logs}")


@app.command()
def down() -> None:
    """Stop the embedded broker and cluster, with every job, and remove their data (logs are kept)."""
    with errors():
        console.print("stopped" if runtime.down(runtime.default_home()) else "nothing was up")


@app.command()
def status(
    has_feeds: Annotated[bool, typer.Option("--feeds", help="Only feeds, for which GAMMAFLOW_KAFKA is enough.")] = False,
    has_trading: Annotated[
        bool, typer.Option("--trading", help="Only controls, halts and oracles, for which GAMMAFLOW_KAFKA is enough.")
    ] = False,
) -> None:
    """Show broker, cluster, controls; jobs, checkpoints, lag, watermarks; kernels; oracles, what is halted; and feeds."""
    with errors():
        if has_trading:
            operator.show(console, operator.in_force(operator.standing(feeding.servers())))
            console.print()
            trading_shown.show(console, trading_shown.newest(feeding.servers()))
        if has_trading and has_feeds:
            console.print()
        if has_feeds:
            show_feeds(feeds_shown.newest(feeding.servers()))
            gateways.show(console, feeding.servers())
        if has_trading or has_feeds:
            return
        running = runtime.current(runtime.default_home())
        overview = running.rest.get("/overview")
        console.print(f"Kafka  {running.kafka}: {len(topics.existing_topics(running.kafka))} topics")
        managers, free, slots = overview["taskmanagers"], overview["slots-available"], overview["slots-total"]
        console.print(f"Flink  http://{running.flink}: {managers} TaskManagers, {free} of {slots} slots free")
        console.print(f"Logs   {running.logs}")
        console.print(f"Controls  {operator.in_a_line(running.kafka)}", markup=False)
        table = Table(box=None, header_style="dim")
        for heading in ("job", "state", "tasks", "checkpoints", "last took", "state size", "lag", "watermark"):
            table.add_column(heading)
        newest_of: dict[str, Job] = {}
        for job in running.rest.jobs():
            newest_of.setdefault(job.name, job)
        for job in newest_of.values():
            checkpoints = running.rest.checkpoints(job)
            newest = checkpoints["latest"]["completed"]
            done = f"{checkpoints['counts']['completed']} done, {checkpoints['counts']['failed']} failed"
            took = f"{newest['end_to_end_duration']} ms" if newest else "–"
            size = f"{newest['state_size'] / 1e6:.1f} MB" if newest else "–"
            known = catalogue.is_known(job.name)
            behind = f"{topics.lag(running.kafka, job.name, catalogue.job(job.name).reads):,}" if known else "–"
            table.add_row(
                job.name, job.state, f"{job.running}/{job.tasks}", done, took, size, behind, watermark(running, job.name)
            )
        console.print(table)
        console.print()
        console.print(kernels_table(running, newest_of.values()))
        console.print()
        trading_shown.show(console, trading_shown.newest(running.kafka))
        if feeds := feeds_shown.newest(running.kafka):
            console.print()
            show_feeds(feeds)
        gateways.show(console, running.kafka)


def show_feeds(rows: Sequence[feeds_shown.Row]) -> None:
    """Print how feeds are, by the newest row of each."""
    console.print(feeds_shown.table(rows, time.time_ns() // 1_000_000), markup=False)


@app.command()
def jobs() -> None:
    """List the jobs: their questions, and the topics that they read and write."""
    table = Table(box=None, header_style="dim")
    for heading in ("job", "question", "reads", "writes"):
        table.add_column(heading, overflow="fold")
    for name in catalogue.FLOW:
        job = catalogue.job(name)
        reads = "every topic" if job.is_for_each_topic else ", ".join([*job.reads, *(f"({table})" for table in job.may_read)])
        table.add_row(name, job.question, reads, ", ".join(job.writes) or "Parquet")
    console.print(table)


@app.command()
def submit(
    names: Names = None,
    parallelism: Parallelism = 1,
    archive: Annotated[Path | None, typer.Option(help="Folder of the archive job's Parquet files.")] = None,
    savepoint: Annotated[str | None, typer.Option("--from", help="Restore a savepoint or checkpoint of this one job.")] = None,
    setting: Annotated[list[str] | None, typer.Option("-D", help="A Flink option, key=value, for these jobs.")] = None,
) -> None:
    """Submit jobs to the cluster, as `flink run` would, and wait until they run."""
    with errors():
        running = runtime.current(runtime.default_home())
        chosen = [catalogue.job(name).name for name in names or catalogue.FLOW]
        parts = [part for name in chosen for part in name.split(catalogue.JOINT)]
        if twice := sorted({part for part in parts if parts.count(part) > 1}):
            raise ValueError(f"named twice: {', '.join(twice)}")
        if savepoint and len(chosen) != 1:
            raise ValueError("--from: a savepoint is one job's; name that job")
        already = {name for name in running.rest.active() if set(name.split(catalogue.JOINT)) & set(parts)}
        if already:
            raise StartError(f"running already: {', '.join(sorted(already))}; `gammaflow stop` ends a job and keeps its state")
        settings = parsed_settings(setting or [])
        runtime.submit(
            running, chosen, parallelism, settings, archive, savepoints={chosen[0]: savepoint} if savepoint else None
        )
        console.print(f"running: {', '.join(chosen)}")


@app.command()
def stop(names: Names = None) -> None:
    """Stop jobs with a savepoint each, and print its path: `submit <job> --from` restores it."""
    with errors():
        running = runtime.current(runtime.default_home())
        active = running.rest.active()
        chosen = [
            catalogue.job(name).name for name in names or sorted(filter(catalogue.is_known, active), key=catalogue.position)
        ]
        missing = [name for name in chosen if name not in active]
        if missing:
            raise StartError(f"not running: {', '.join(missing)}")
        for name in chosen:
            console.print(f"{name}: {runtime.stop(running, name)}")


@app.command(name="topics")
def list_topics() -> None:
    """List the topics: key, partitions and records (heartbeats included)."""
    with errors():
        running = runtime.current(runtime.default_home())
        existing = topics.existing_topics(running.kafka)
        ends = topics.ends(running.kafka, schemas.names())
        table = Table(box=None, header_style="dim")
        for heading in ("table", "topic", "keyed by", "cleanup", "partitions", "records"):
            table.add_column(heading)
        for name, spec in TABLES.items():
            count = sum(end for (topic, _), end in ends.items() if topic == spec.topic)
            cleanup = "compact" if spec.is_compacted else "keep"
            table.add_row(name, spec.topic, ":".join(spec.key), cleanup, str(existing.get(spec.topic, 0)), f"{count:,}")
        console.print(table)


@app.command()
def acls(
    names: Names = None,
    is_applied: Annotated[bool, typer.Option("--apply", help="Give them, on the broker at GAMMAFLOW_KAFKA.")] = False,
) -> None:
    """List the rights that each of our users needs on a broker that requires them: one user a job, feed, reader and admin."""
    with errors():
        wanted = access.rights([catalogue.job(name).name for name in names or catalogue.FLOW])
        if is_applied:
            given, beyond = access.apply(runtime.current(runtime.default_home()).kafka, wanted)
            console.print(f"given: {len(given)}; there already: {len(wanted) - len(given)}")
            if beyond:
                console.print("allowed beyond these:")
                show_rights(beyond)
        else:
            show_rights(wanted)


def show_rights(rights: list[access.Right]) -> None:
    """Print rights, one a line."""
    table = Table(box=None, header_style="dim")
    for heading in ("user", "operation", "of", "name"):
        table.add_column(heading)
    for right in rights:
        table.add_row(right.user, right.operation, right.kind, f"{right.name}{'…' if right.is_prefix else ''}")
    console.print(table)


@app.command()
def tail(
    table: Annotated[str, typer.Argument(help="A table of `gammaflow topics`.")],
    key: Annotated[str | None, typer.Option(help="Only rows of this key.")] = None,
    count: Annotated[int | None, typer.Option("-n", help="Stop after so many rows.")] = None,
    from_start: Annotated[bool, typer.Option(help="From the first row on, instead of the newest.")] = False,
) -> None:
    """Print a topic's rows as they come, one JSON object a line."""
    with errors():
        if table not in TABLES:
            raise KeyError(f"no table {table!r}; there are {', '.join(TABLES)}")
        running = runtime.current(runtime.default_home())
        topic = TABLES[table].topic
        consumer, existing = topics.consuming(running.kafka, "gammaflow-tail")
        try:
            if topic not in existing:
                manner = security.manner(security.READER)
                raise TopicError(f"the broker at {running.kafka} has no topic {topic} that we may see, {manner}")
            parts = [TopicPartition(topic, part, 0) for part in range(existing[topic])]
            if not from_start:
                for part in parts:
                    part.offset = consumer.get_watermark_offsets(part, timeout=10)[1]
            consumer.assign(parts)
            shown = 0
            while count is None or shown < count:
                message = consumer.poll(0.5)
                if message is None or message.error() or message.value() is None:
                    continue
                for row in _of_key(table, key, message):
                    if count is None or shown < count:
                        sys.stdout.buffer.write(row + b"\n")
                        shown += 1
                sys.stdout.flush()
        finally:
            consumer.close()


def _of_key(table: str, wanted: str | None, message: Message) -> list[bytes]:
    """The rows of a record, or only those of one key.  A record with rows of several keys has no key itself."""
    rows = parted(message.value())
    if wanted is None:
        return rows
    if len(rows) == 1:
        return rows if (message.key() or b"").decode() == wanted else []
    return [row for row in rows if _key_in(table, row) == wanted]


def _key_in(table: str, value: bytes) -> str | None:
    """The key of a row that shares its record with others; None if it is not a row."""
    try:
        row = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return key_of(table, row) if fault(table, row) is None else None


@app.command()
def book(
    instrument: Annotated[str, typer.Argument(help="The venue's own symbol, such as BTC-PERPETUAL.")],
    venue: Annotated[str | None, typer.Option(help="Where it is traded, if on several venues.")] = None,
    levels: Annotated[int, typer.Option(min=1, max=20, help="Levels of each side.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="Print one ladder and leave.")] = False,
) -> None:
    """Show a live ladder: depth, last trades, staleness, and how far behind it is.  Ctrl-C leaves."""
    with errors():
        running = runtime.current(runtime.default_home())
        ladders.show(console, running.kafka, instrument, venue, levels, once)


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(help="The same seed gives the same market.")] = Scenario.seed,
    duration_s: Annotated[int, typer.Option(min=5, help="Seconds of event time.")] = int(Scenario.duration_s),
    accounts: Annotated[int, typer.Option(min=1, help="Accounts that trade.")] = Scenario.accounts,
    speed: Speed = "1",
) -> None:
    """Publish the simulated market, with its crash, into the running broker."""
    with errors():
        running = runtime.current(runtime.default_home())
        scenario = Scenario(seed=seed, duration_s=duration_s, accounts=accounts, sources=SOURCES)
        with Publisher(running.kafka) as publisher:
            for _ in publish_records(market(scenario), publisher, parsed_speed(speed)):
                pass
            counted = ", ".join(f"{count:,} {table}" for table, count in sorted(publisher.counts.items()))
        console.print(f"published {counted}")


@app.command()
def replay(
    capture: Annotated[list[str], typer.Option(help="venue:file, plain or gzip; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the Parquet files; must be empty or new.")],
    speed: Speed = "max",
    parallelism: Parallelism = 1,
    names: Annotated[
        str, typer.Option("--jobs", help="Jobs to run, separated by commas (see `gammaflow jobs`).", show_default="all")
    ] = ",".join(catalogue.FLOW),
) -> None:
    """Play captured files through jobs, bounded: every topic becomes Parquet under OUT/<table>/."""
    with errors():
        sources = parsed_captures(capture)
        chosen = with_archive(names.split(","))
        tally = Tally()
        pace = parsed_speed(speed)

        def feed(publisher: Publisher) -> Iterator[Tally]:
            nonlocal tally
            for tally in publish_lines(captures.convert(captures.merged(sources)), publisher, pace):  # noqa: UP028 - kept
                yield tally

        display = Display(console)
        # What a long capture leaves open until its end need not fit the memory.
        play.bounded(feed, out, parallelism, display, {"state": {"backend": {"type": "rocksdb"}}}, chosen)
        display.step("done")
        show_tally(tally)
        summary.show_counts(console, out)


def with_archive(names: Sequence[str]) -> list[str]:
    """The named jobs, and the archive, without which nothing would be left to see.  Raises `KeyError` for an unknown one."""
    chosen = [*dict.fromkeys([*names, "archive"])]
    for name in chosen:
        catalogue.job(name)
    return chosen


@app.command()
def demo(
    capture: Annotated[list[str] | None, typer.Option(help="Play venue:file instead of the simulated market.")] = None,
    live_venue: Annotated[
        str | None, typer.Option("--live", help="Listen to an exchange instead: deribit, okx, binance_spot, bitget_spot …")
    ] = None,
    symbols: Annotated[
        str, typer.Option(help="With --live: instruments, separated by commas.")
    ] = "BTC-PERPETUAL,ETH-PERPETUAL",
    live_s: Annotated[int, typer.Option(help="With --live: for how many seconds.")] = 60,
    names: Annotated[str, typer.Option("--jobs", help="Jobs to run, separated by commas (see `gammaflow jobs`).")] = ",".join(
        SHOWN
    ),
    out: Annotated[Path, typer.Option(help="Folder for the Parquet files; replaced.")] = Path("out/demo"),
    speed: Speed = "1",
    is_closed: Annotated[
        bool, typer.Option("--own-venue", help="Let orders trade on the own venue, where makers quote and accounts trade.")
    ] = False,
) -> None:
    """Show everything once: start, submit, play a market with a crash, sum up, stop."""
    with errors():
        tally = Tally()
        pace = parsed_speed(speed)
        sources = parsed_captures(capture or [])
        if is_closed and (sources or live_venue):
            raise play.PlayError("--own-venue is for the simulated market; leave out --capture and --live")
        trading = ["orders", "matching"] if is_closed else []
        chosen = with_archive([*names.split(","), *trading])

        def feed(publisher: Publisher) -> Iterator[Any]:
            nonlocal tally
            if live_venue:
                tally = asyncio.run(
                    feeding.serve(feeding.market_feed(live_venue, symbols.split(","), publisher), publisher, live_s)
                )
            elif sources:
                for tally in publish_lines(captures.convert(captures.merged(sources)), publisher, pace):  # noqa: UP028 - kept
                    yield tally
            else:
                scenario = Scenario(sources=SOURCES, quoting=Quoting() if is_closed else None)
                yield from publish_records(market(scenario), publisher, pace)

        if out.exists():
            shutil.rmtree(out)
        display = Display(console)
        play.bounded(feed, out, 1, display, names=chosen, settings={"gammaflow.controls": "live"}, is_closed=is_closed)
        display.step("done")
        if sources or live_venue:
            show_tally(tally)
        summary.show_market(console, out)
        show_trading(console, out)
        console.print()
        summary.show_counts(console, out)
        console.print(f"\nParquet files: {out.resolve()}")


@app.command()
def drill(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Any of {', '.join([*DRILLS, *CONTROLS])}; where none is named, all but the last, which must be red."
        ),
    ] = None,
    names: Annotated[str, typer.Option("--jobs", help="Jobs to drill, separated by commas (see `gammaflow jobs`).")] = ",".join(
        drilled.JOBS
    ),
    is_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON.")] = False,
) -> None:
    """Cause failures of the suite on a cluster of its own, and show whether its rows are as if nothing had happened.

    Exits with 1 where they do not.
    """
    with errors():
        reports = drills.run(chosen or list(DRILLS), names.split(","), Console(stderr=True, highlight=False))
        if is_json:
            sys.stdout.write(drills.as_json(reports) + "\n")
        else:
            drills.show(console, reports)
        if not all(report.is_green for report in reports):
            raise typer.Exit(1)


Scope = Annotated[
    str, typer.Option(help="all, or venue: underlying: instrument: desk: client: account: algo: trader: with a name.")
]
Why = Annotated[str, typer.Option(help="The reason; those who find it on will read it.")]
Until = Annotated[str | None, typer.Option(help="When it ends by itself: an instant, or 90s, 15m, 2h from now on.")]
AlsoLiquidations = Annotated[bool, typer.Option("--liquidations", help="Liquidations obey it too; otherwise they go on.")]
Who = Annotated[str | None, typer.Option(help="Who says so; otherwise the user of this machine.")]


@app.command()
def halt(scope: Scope, why: Why, until: Until = None, liquidations: AlsoLiquidations = False, who: Who = None) -> None:
    """Halt trading of a scope: no new orders, what rests stays."""
    say(scope, HALT, why, until, liquidations, who)


@app.command()
def kill(scope: Scope, why: Why, until: Until = None, liquidations: AlsoLiquidations = False, who: Who = None) -> None:
    """Kill trading of a scope: no new orders, and what rests is cancelled."""
    say(scope, CANCEL_ALL, why, until, liquidations, who)


@app.command(name="reduce-only")
def reduce_only(scope: Scope, why: Why, until: Until = None, who: Who = None) -> None:
    """Let a scope only reduce its positions; liquidations do nothing else and go on."""
    say(scope, REDUCE_ONLY, why, until, False, who)


@app.command()
def resume(scope: Scope, why: Why, who: Who = None) -> None:
    """Resume trading of a scope; a control of another scope that it is in goes on to hold."""
    say(scope, RUN, why, None, False, who)


def say(scope: str, mode: str, why: str, until: str | None, liquidations: bool, who: str | None) -> None:
    """Say a control, and show what is on now."""
    with errors():
        row = operator.control(scope, mode, why, until, liquidations, who)
        servers = feeding.servers()
        console.print(operator.confirmation(row, *operator.say(servers, row)), soft_wrap=True)
        operator.show(console, operator.in_force(operator.standing(servers)))


@app.command()
def controls() -> None:
    """Show which controls are on: who said what, when, why and until when."""
    with errors():
        operator.show(console, operator.in_force(operator.standing(feeding.servers())))


@app.command()
def hedge(
    subject: Annotated[str, typer.Argument(help="An account; with --group a group of account_groups.")],
    is_group: Annotated[bool, typer.Option("--group", help="It is a group.")] = False,
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show it: the job hedges trades, and this command never.")
    ] = False,
) -> None:
    """Show which trades would bring an account's breached exposures back within its limits now, and at what cost."""
    with errors():
        if not is_dry_run:
            raise typer.BadParameter("expected --dry-run: the job hedges trades what limits with is_hedged need")
        rows = trading_shown.newest(feeding.servers(), hedging.COUNTS).rows
        try:
            hedging.show(console, subject, hedging.planned(rows, subject, is_group))
        except ValueError as error:
            console.print(f"gammaflow: {error}", markup=False)
            raise typer.Exit(1) from None


Source = Annotated[Path, typer.Option("--from", help="Folder of Parquet files, as `replay --out` writes it.")]
Instrument = Annotated[
    str | None, typer.Option(help="Instrument, or venue:instrument; else the one with the most rows (faults: all).")
]
Underlying = Annotated[str | None, typer.Option(help="Underlying, or venue:underlying; else the one with the most rows.")]
Parent = Annotated[str | None, typer.Option(help="parent_client_order_id, or account:id; else the one with the most rows.")]
Picture = Annotated[Path | None, typer.Option(help="File to write (.png, .svg, .pdf); else one in out/plots/.")]


@pictures.command(name="depth")
def plot_depth(source: Source, instrument: Instrument = None, out: Picture = None) -> None:
    """Draw the book over time as a heat map, with the best prices over it and stale stretches hatched."""
    draw("depth", source, instrument, out)


@pictures.command(name="spread")
def plot_spread(source: Source, instrument: Instrument = None, out: Picture = None) -> None:
    """Draw bid and ask as a band, the spread in basis points, and the distribution of its width."""
    draw("spread", source, instrument, out)


@pictures.command(name="faults")
def plot_faults(source: Source, instrument: Instrument = None, out: Picture = None) -> None:
    """Draw when each instrument's feed had faults, and when its book was stale."""
    draw("faults", source, instrument, out)


@pictures.command(name="surface")
def plot_surface(source: Source, underlying: Underlying = None, out: Picture = None) -> None:
    """Draw the last volatility surface that the job chains fitted, over strike and expiry, and its term structure."""
    draw("surface", source, underlying, out)


@pictures.command(name="smile")
def plot_smile(source: Source, underlying: Underlying = None, out: Picture = None) -> None:
    """Draw each expiry of that surface: the options' bid and ask volatilities as bars, and the fit through them."""
    draw("smile", source, underlying, out)


@pictures.command(name="greeks")
def plot_greeks(source: Source, underlying: Underlying = None, out: Picture = None) -> None:
    """Draw delta, gamma, vega, theta, vanna and volga along the strikes of each expiry, from each option's last row."""
    draw("greeks", source, underlying, out)


@pictures.command(name="execution")
def plot_execution(source: Source, parent: Parent = None, out: Picture = None) -> None:
    """Draw a large order's schedule against its fills, over price and volume of the market, with what it cost."""
    draw("execution", source, parent, out)


def draw(kind: str, source: Path, wanted: str | None, out: Path | None) -> None:
    """Draw one picture and print its path."""
    with errors():
        from cli import plots  # matplotlib takes a while to load
        from cli.plots import books, executions, vols

        module = next((module for module in (vols, executions) if hasattr(module, kind)), books)
        drawn = getattr(module, kind)(source, wanted)
        suffix = f"-{wanted.replace(':', '-').replace('/', '-')}" if wanted else ""
        console.print(plots.save(drawn, out or Path("out/plots") / f"{kind}{suffix}.png"), soft_wrap=True)


@app.command()
def margin(
    portfolio: Annotated[Path, typer.Argument(help="JSON file of one portfolio, or of a list of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compute the portfolio margin of a file's portfolios, offline: margins, mark to market, the loss of every scenario."""
    from cli import margin as portfolios  # its compiled code takes a while to load

    with errors():
        given, is_list = portfolios.read(portfolio)
        results = [portfolios.result(result) for result in given]
        if as_json:
            objects = [result.as_json() for result in results]
            print(json.dumps(objects if is_list else objects[0], indent=2))
            return
        for result in results:
            portfolios.show(console, result)


@app.command()
def explain(
    account: Annotated[str, typer.Argument(help="An account.")],
    at: Annotated[str | None, typer.Option(help="Up to this instant, ISO-8601 in UTC; else everything.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder of a run's Parquet files, instead of the running broker.")
    ] = None,
    lines: Annotated[int, typer.Option("-n", min=1, help="The newest so many lines.")] = 60,
    order: Annotated[
        str | None,
        typer.Option(help="A client_order_id: this order alone, from request and checks to reports, states, fills and ledger."),
    ] = None,
) -> None:
    """Explain what happened to an account and why: its ledger, margin, orders, and each decision to liquidate it or not."""
    from cli import explain as stories
    from cli import order_story

    with errors():
        until = None if at is None else stories.instant(at)
        tables = stories.SOURCES if order is None else order_story.SOURCES
        if folder is None:
            rows = stories.read_topics(runtime.current(runtime.default_home()).kafka, account, tables)
        else:
            rows = stories.read_parquet(folder, account, tables)
        if order is None:
            stories.show(console, account, stories.story(rows, until), lines)
        else:
            stories.show_lines(console, order_story.story(rows, account, order, until)[-lines:])


@app.command()
@wraps(feeding.feed)
def feed(**options: Any) -> None:  # noqa: D103 - as the wrapped one
    with errors():
        show_tally(feeding.feed(**options))


@app.command()
@wraps(gateways.gateway)
def gateway(**options: Any) -> None:  # noqa: D103 - as the wrapped one
    with errors():
        gateways.gateway(**options)


@app.command()
def heartbeats(
    names: Annotated[list[str], typer.Argument(metavar="TOPIC…", help="Feed topics that others write, such as trades.v1.")],
    behind: Annotated[str, typer.Option(help="How old a record may be when it comes: 1s, 250ms.")] = "1s",
    every: Annotated[str, typer.Option(help="How often the time is told.")] = f"{HEARTBEAT_MS}ms",
) -> None:
    """Keep the time of topics that are written by producers of your own, until it is stopped.

    Time goes by the newest record, and where nothing comes, by the clock; both less --behind.  Feeds may write beside them.
    """
    with errors():
        behind_ms, every_ms = parsed_ms("--behind", behind), parsed_ms("--every", every)
        servers = feeding.servers()
        with Keeper(servers), Follower(servers, names, behind_ms, every_ms) as follower:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: follower.stop())
            console.print(f"keeping the time of {', '.join(names)} at {servers}")
            follower.follow()
        console.print(f"stopped after {follower.count:,} records")


def parsed_ms(option: str, text: str) -> int:
    """A span of time as ms: 1s, 0.5s, 250ms.  Raises `ValueError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)", text.strip())
    ms = round(float(match[1]) * (1000 if match[2] == "s" else 1)) if match else 0
    if ms < 1:
        raise ValueError(f"{option}: expected a time above 0, such as 1s or 250ms, got {text!r}")
    return ms


def parsed_speed(speed: str) -> float | None:
    """A speed option: None for max.  Raises `ValueError`."""
    if speed == "max":
        return None
    try:
        value = float(speed)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"--speed: expected max or a number above 0, got {speed!r}")
    return value


def parsed_settings(texts: list[str]) -> dict[str, str]:
    """Options of the form key=value.  Raises `ValueError`."""
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise ValueError(f"-D: expected key=value, got {text!r}")
    return dict(text.split("=", 1) for text in texts)


def parsed_captures(texts: list[str]) -> list[tuple[str, str]]:
    """Capture options as (venue, path), each checked to be readable before anything is started.  Raises `CaptureError`."""
    parsed: list[tuple[str, str]] = []
    for text in texts:
        venue, colon, path = text.partition(":")
        if not colon or not path:
            raise CaptureError(f"--capture {text}: expected venue:file, with a venue of {', '.join(sorted(VENUES))}")
        captures.read(venue, path)
        parsed.append((venue, path))
    return parsed


def show_tally(tally: Tally) -> None:
    """Print the result of every line."""
    console.print(feeding.tally_text(tally))


if __name__ == "__main__":
    app()

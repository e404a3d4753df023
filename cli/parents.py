"""`gammaflow parent new`, `pause`, `resume` and `cancel`: large orders that an algorithm works in slices.

A request goes into the topic `execution_parents`; the job `execution` checks it, works it, and tells in `execution_states` how
it stands.  The volume profile of a VWAP is made here, of the bars that a run has left: the job itself reads no bars, for they
come a second late.
"""

import time
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer
from rich.console import Console

from cli import orders
from cli.controls import ends_ms
from deploy import runtime
from kernels.execution.parameters import wrong_form
from kernels.orders.ids import LENGTH
from schemas.records import ExecutionParentsRow
from schemas.rows import encoded, fault, instant_ms, to_ms
from udfs import execution_schedules as schedules

PARENTS = "execution_parents"
PART_S = 300
"""A part of a volume profile, where no number of parts is named."""
app = typer.Typer(no_args_is_help=True, help="Request large orders that are worked in slices; pause, resume and cancel them.")
console = Console(highlight=False, soft_wrap=True)

Account = Annotated[str, typer.Argument(help="An account.")]
Named = Annotated[str, typer.Argument(help="venue:instrument.")]
Parent = Annotated[str, typer.Argument(help="Its parent_client_order_id.")]
Why = Annotated[str | None, typer.Option(help="Why, for the record.")]


def requested(
    request: str, account: str, market: str, name: str | None = None, now_ms: int | None = None, **fields: Any
) -> ExecutionParentsRow:
    """A row of `execution_parents`.  Raises `ValueError` that names the field and what was expected."""
    venue, _, instrument = market.partition(":")
    if not (venue and instrument):
        raise ValueError(f"expected venue:instrument, got {market!r}")
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    columns = {column: fields.get(column) for column in ExecutionParentsRow.__annotations__}
    named = sha256(encoded({"account": account, "market": market, "now_ms": now_ms, **columns})).hexdigest()[:LENGTH]
    row: Any = columns | {"account": account, "venue": venue, "instrument": instrument, "event_at": instant_ms(now_ms)}
    row |= {"parent_client_order_id": name or named, "request": request}
    if (wrong := fault(PARENTS, row)) is not None:
        raise ValueError(f"{wrong.field}: expected {wrong.expected}, got {wrong.got}")
    if (refusal := wrong_form(row)) is not None:
        raise ValueError(f"{refusal.rule}: {refusal.reason}")
    parent: ExecutionParentsRow = row
    return parent


def volume_profile(folder: Path, market: str, start_ms: int, end_ms: int, parts: int | None = None) -> list[list[float]]:
    """What traded in each part of this time on the days that a run's bars of a minute have: [seconds after start, volume].

    Raises `ValueError` where the folder has none.
    """
    import pyarrow.parquet as pq  # takes a while to load

    venue, _, instrument = market.partition(":")
    length_s = (end_ms - start_ms) / 1000
    wanted = [("venue", "=", venue), ("instrument", "=", instrument), ("interval_s", "=", 60)]
    if not any((folder / "bars").glob("*.parquet")):
        raise ValueError(f"--profile-from {folder}: no rows in bars/; name the folder that the archive wrote")
    bars = pq.read_table(folder / "bars", columns=["start_at", "volume"], filters=wanted)
    starts = np.asarray(bars["start_at"].to_numpy()).astype("datetime64[ms]").astype(np.int64) / 1000
    count = parts or max(1, round(length_s / PART_S))
    pairs = zip(starts.tolist(), bars["volume"].to_pylist(), strict=True)
    volumes = schedules.profile(((at, volume or 0.0) for at, volume in pairs), start_ms / 1000, end_ms / 1000, count)
    if not sum(volumes):
        raise ValueError(f"--profile-from {folder}: no bars of a minute of {market} at this time of any day")
    return [[round(number * length_s / count, 3), volume] for number, volume in enumerate(volumes)]


@app.command()
def new(
    account: Account,
    market: Named,
    algorithm: Annotated[str, typer.Argument(help="twap, vwap, pov or iceberg.")],
    side: Annotated[str, typer.Argument(help="buy or sell.")],
    quantity: Annotated[str, typer.Argument(help="Contracts, whole lots.")],
    start: Annotated[str | None, typer.Option(help="An instant, or how long from now on: 15m; without: at once.")] = None,
    end: Annotated[str | None, typer.Option(help="Likewise; without: the end of the day, UTC.")] = None,
    limit_price: Annotated[str | None, typer.Option("--limit", help="Worst price.")] = None,
    urgency: Annotated[str | None, typer.Option(help="rest (default) or take.")] = None,
    end_rule: Annotated[str | None, typer.Option(help="At the end: cancel (default) what rests, or take.")] = None,
    participation: Annotated[float | None, typer.Option(help="At most this fraction of what others trade.")] = None,
    slice_count: Annotated[int | None, typer.Option("--slices", help="Slices at most.")] = None,
    min_quantity: Annotated[str | None, typer.Option(help="The smallest order that the venue takes.")] = None,
    display_quantity: Annotated[str | None, typer.Option("--display", help="Of an iceberg: what it shows.")] = None,
    profile_from: Annotated[Path | None, typer.Option(help="Of vwap: folder of a run, whose bars make the profile.")] = None,
    depth_share: Annotated[float | None, typer.Option(help="A child is at most this fraction of the visible book.")] = None,
    wide_spread: Annotated[float | None, typer.Option(help="Spread, a fraction, from which on slices shrink.")] = None,
    is_reduce_only: Annotated[bool, typer.Option("--reduce-only", help="It may only make the position smaller.")] = False,
    decision_price: Annotated[str | None, typer.Option(help="The price at which it was decided.")] = None,
    name: Annotated[str | None, typer.Option("--id", help="Its parent_client_order_id.")] = None,
    why: Why = None,
) -> None:
    """Request a large order; the job execution works it in slices."""
    try:
        now_ms = int(time.time() * 1000)
        start_ms = now_ms if start is None else ends_ms(start, now_ms)
        end_at = None if end is None else instant_ms(ends_ms(end, now_ms))
        profile = None
        if profile_from is not None:
            if end_at is None:
                raise ValueError("--end: expected one with --profile-from, of the time that the profile is for")
            profile = volume_profile(profile_from, market, start_ms, to_ms(end_at), slice_count)
        row = requested(
            *("new", account, market, name, now_ms),
            algorithm=algorithm,
            side=side,
            quantity=quantity,
            start_at=instant_ms(start_ms),
            end_at=end_at,
            limit_price=limit_price,
            urgency=urgency,
            end_rule=end_rule,
            participation=participation,
            slice_count=slice_count,
            min_quantity=min_quantity,
            display_quantity=display_quantity,
            volume_profile=profile,
            depth_share=depth_share,
            wide_spread=wide_spread,
            is_reduce_only=is_reduce_only,
            decision_price=decision_price,
            reason=why,
        )
        _send(row)
    except (ValueError, RuntimeError) as error:
        _refuse(error)


@app.command()
def pause(account: Account, market: Named, name: Parent, why: Why = None) -> None:
    """Send nothing more of a large order for now, and cancel what rests of it."""
    _request("pause", account, market, name, why)


@app.command()
def resume(account: Account, market: Named, name: Parent, why: Why = None) -> None:
    """Go on with a large order."""
    _request("resume", account, market, name, why)


@app.command()
def cancel(account: Account, market: Named, name: Parent, why: Why = None) -> None:
    """End a large order, and cancel what rests of it."""
    _request("cancel", account, market, name, why)


def _request(request: str, account: str, market: str, name: str, why: str | None) -> None:
    try:
        _send(requested(request, account, market, name, reason=why))
    except (ValueError, RuntimeError) as error:
        _refuse(error)


def _send(row: ExecutionParentsRow) -> None:
    place = orders.send(runtime.current(runtime.default_home()).kafka, row, PARENTS)
    console.print(f"requested {row['request']} {row['parent_client_order_id']}: {place}", markup=False)


def _refuse(error: Exception) -> NoReturn:
    console.print(f"gammaflow: {error}", markup=False)
    raise typer.Exit(1) from None

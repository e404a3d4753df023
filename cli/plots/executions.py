"""The picture of a large order that is worked in slices: its schedule and its fills, over price and volume."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cli import plots
from cli.plots import ASK, BID, TOP, Instants, PlotError

SCHEDULE, FILL, VOLUME = "#636363", "#e6550d", "#bdbdbd"
STATES = (
    *("account", "venue", "instrument", "event_at", "parent_client_order_id", "number", "status", "algorithm", "side"),
    *("quantity", "scheduled_quantity", "traded_quantity", "unsent_quantity", "average_price"),
)
BASIS_POINTS = 1e4


def execution(folder: Path, wanted: str | None) -> Figure:
    """Schedule against fills of one parent, over the prices and the volume of the market meanwhile.

    `wanted` is its parent_client_order_id; None: the one with the most rows.  Raises `PlotError` where there is nothing to
    draw, and `ValueError` for an id that has no rows.
    """
    rows = _states(folder, wanted)
    last = rows.slice(len(rows) - 1).to_pylist()[0]
    at, book = plots.instants(rows), (last["venue"], last["instrument"])
    side, quantity = last["side"], float(last["quantity"])
    drawn = plots.figure(
        f"{last['algorithm']} {last['parent_client_order_id']}: {side} {quantity:g} {book[1]} on {book[0]}",
        f"{plots.span(at[0], at[-1])}; {last['status']}; {_cost(folder, last)}",
    )
    amounts, prices, volumes = drawn.subplots(3, sharex=True, height_ratios=[3, 3, 1])
    _amounts(amounts, rows, at)
    _prices(prices, folder, book, rows, at)
    _volumes(volumes, folder, book, at)
    plots.time_axis(volumes, at[0], at[-1])
    plots.legend(amounts)
    plots.legend(prices)
    return drawn


def _states(folder: Path, wanted: str | None) -> pa.Table:
    """The rows of one parent that have figures, in the order in which they were told."""
    if not folder.is_dir():
        raise PlotError(f"{folder}: no such folder; `gammaflow replay --out {folder}` would make it")
    rows = plots.read(folder, "execution_states", STATES)
    if len(rows):
        rows = rows.filter(pc.is_valid(rows["traded_quantity"]))
    names = [(row["account"], row["parent_client_order_id"]) for row in rows.select([0, 4]).to_pylist()]
    known = sorted(set(names))
    if not known:
        raise PlotError(f"{folder}: no rows of a parent in execution_states/")
    chosen = [name for name in known if wanted in (None, name[1], f"{name[0]}:{name[1]}")]
    if not chosen:
        raise ValueError(f"no parent {wanted}; there are {', '.join(name for _, name in known)}")
    if wanted is not None and len(chosen) > 1:
        raise ValueError(f"{wanted} is a parent of several accounts; name one: {', '.join(map(':'.join, chosen))}")
    busiest = max(chosen, key=names.count)
    own = rows.filter(pa.array([name == busiest for name in names]))
    return own.take(pa.array(np.argsort(own["number"].to_numpy(), kind="stable")))


def _amounts(axes: Axes, rows: pa.Table, at: Instants) -> None:
    scheduled, traded = plots.floats(rows, "scheduled_quantity"), plots.floats(rows, "traded_quantity")
    axes.step(at, scheduled, where="post", color=SCHEDULE, linestyle="--", linewidth=1.2, label="schedule")
    axes.step(at, traded, where="post", color=FILL, linewidth=1.6, label="traded")
    axes.fill_between(at, traded, scheduled, step="post", color=FILL, alpha=0.12, linewidth=0)
    axes.axhline(float(plots.floats(rows, "quantity")[-1]), color="black", linewidth=0.8)
    axes.set_ylabel("contracts")
    axes.set_title("sent by the schedule, and traded; the line is the whole order", loc="left", fontsize=10)
    axes.grid(alpha=0.25)


def _prices(axes: Axes, folder: Path, book: tuple[str, str], rows: pa.Table, at: Instants) -> None:
    tops = _between(plots.read(folder, "book_tops", ["event_at", "bid_price", "ask_price"], book), at)
    if len(tops):
        times = plots.instants(tops)
        for column, colour, label in (("bid_price", BID, "bid"), ("ask_price", ASK, "ask")):
            axes.step(times, plots.floats(tops, column), where="post", color=colour, linewidth=0.8, label=label)
    bars = _bars(folder, book, at)
    if len(bars):
        axes.plot(plots.instants(bars), plots.floats(bars, "vwap"), color=TOP, linewidth=0.8, label="trades of the market")
    times, prices, sizes = _fills(rows, at)
    if len(times):
        area = 12 + 80 * sizes / sizes.max()
        axes.scatter(times, prices, s=area, color=FILL, zorder=3, label="fills, by size")
    axes.set_ylabel("price, in the quote currency")
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.grid(alpha=0.25)


def _volumes(axes: Axes, folder: Path, book: tuple[str, str], at: Instants) -> None:
    bars = _bars(folder, book, at)
    if len(bars):
        ends, volume = plots.instants(bars), plots.floats(bars, "volume")
        width = np.timedelta64(int(bars["interval_s"][0].as_py()), "s")
        axes.bar(ends - width, volume, width=width, align="edge", color=VOLUME)
        axes.set_title(f"traded in the market, each {width / np.timedelta64(1, 's'):g} s", loc="left", fontsize=10)
    axes.set_ylabel("contracts")
    axes.grid(alpha=0.25)


def _bars(folder: Path, book: tuple[str, str], at: Instants) -> pa.Table:
    """The bars of the shortest interval of which there are not more than can be seen."""
    bars = _between(plots.read(folder, "bars", ["event_at", "interval_s", "volume", "vwap"], book), at)
    for interval_s in (1, 60, 3600):
        of_length = bars.filter(pc.equal(bars["interval_s"], interval_s)) if len(bars) else bars
        if 0 < len(of_length) <= 2_000:
            return of_length
    return bars.slice(0, 0)


def _between(rows: pa.Table, at: Instants) -> pa.Table:
    """The rows while the parent was there."""
    if not len(rows):
        return rows
    first, last = (int(instant.astype("datetime64[us]").astype(np.int64)) for instant in (at[0], at[-1]))
    return rows.filter(pc.and_(pc.greater_equal(rows["event_at"], first), pc.less_equal(rows["event_at"], last)))


def _fills(rows: pa.Table, at: Instants) -> tuple[Instants, NDArray[np.float64], NDArray[np.float64]]:
    """When contracts were traded, at which average price and how many: by the change from row to row."""
    traded = plots.floats(rows, "traded_quantity")
    worth = np.nan_to_num(traded * plots.floats(rows, "average_price"))
    sizes, paid = np.diff(traded, prepend=0.0), np.diff(worth, prepend=0.0)
    is_fill = sizes > 0
    return at[is_fill], paid[is_fill] / sizes[is_fill], sizes[is_fill]


def _cost(folder: Path, last: dict[str, Any]) -> str:
    """What it has cost, as text."""
    quantity, traded = float(last["quantity"]), float(last["traded_quantity"])
    text = f"{traded / quantity:.1%} traded"
    names = ["event_at", "account", "parent_client_order_id", "shortfall", "against_vwap", "against_twap", "participation"]
    rows = [
        row
        for row in plots.read(folder, "execution_quality", names).to_pylist()
        if (row["account"], row["parent_client_order_id"]) == (last["account"], last["parent_client_order_id"])
    ]
    if not rows:
        return text
    for column, label in (("shortfall", "shortfall"), ("against_vwap", "against VWAP"), ("against_twap", "against TWAP")):
        if rows[-1][column] is not None:
            text += f"; {label} {rows[-1][column] * BASIS_POINTS:+.1f} bps"
    if rows[-1]["participation"] is not None:
        text += f"; participation {rows[-1]['participation']:.1%}"
    return text

"""Pictures of order books: depth over time, the spread and its distribution, faults and stale stretches."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cli import names, plots
from cli.plots import ASK, BID, STALE, TOP, Instants, PlotError, Stretches
from kernels import depth as depths

_COLUMNS, _ROWS = 1000, 260  # cells of a heat map
_MOST = 40  # instruments in a picture of faults
_MARKERS = "oXD^vsP*"
_TOP_COLUMNS = ("event_at", "sequence", "bid_price", "ask_price", "is_stale")


class Tops(NamedTuple):
    """The best prices of one book, each row holding until the next."""

    at: Instants
    bids: NDArray[np.float64]
    asks: NDArray[np.float64]
    stale: Stretches
    end: np.datetime64


def depth(folder: Path, wanted: str | None) -> Figure:
    """A heat map of a book's levels over time, with the best prices over it and stale stretches hatched.

    From book_depth, or the best prices alone where there is none.  Raises `PlotError` and `ValueError`, as `plots.choose`.
    """
    book = plots.choose(folder, ("book_depth", "book_tops"), wanted)
    rows = plots.read(folder, "book_depth", ["event_at", "bids", "asks", "is_stale"], book)
    tops = _tops(folder, book, rows)
    name = f"{book[1]} on {book[0]}"
    about = f"{plots.span(tops.at[0], tops.end)}; {_told(tops.stale)}"
    if not len(rows):
        drawn = plots.figure(f"Best prices of {name}", f"{about}; book_depth has nothing of it")
        axes = drawn.subplots()
        _prices(axes, tops)
        plots.time_axis(axes, tops.at[0], tops.end)
        return drawn
    levels = _Levels(rows, tops)
    drawn = plots.figure(f"Order book of {name}", about, (14.0, 9.0))
    upper, lower = drawn.subplots(2, sharex=True, height_ratios=[3, 2])
    sizes = levels.draw_sizes(upper, tops)
    sums = levels.draw_sums(lower, tops)
    _lines(upper, tops, "#4dff9a", "#ff6f61")
    upper.set_ylabel("price, in the quote currency")
    upper.set_title("size of each level", loc="left", fontsize=10)
    upper.ticklabel_format(axis="y", useOffset=False, style="plain")
    lower.set_ylabel("distance from mid, bps")
    lower.set_title("size from the best price up to a distance; asks above, bids below", loc="left", fontsize=10)
    for axes in (upper, lower):
        axes.set_facecolor("black")
        hatched = plots.shade(axes, tops.stale, "white")
    plots.time_axis(lower, tops.at[0], tops.end)
    plots.legend(upper, *([hatched] if hatched else []))
    drawn.colorbar(sizes, ax=upper, label="size, the venue's unit", pad=0.01)
    drawn.colorbar(sums, ax=lower, label="size together", pad=0.01)
    return drawn


def spread(folder: Path, wanted: str | None) -> Figure:
    """Best bid and ask as a band, the spread in basis points over time, and the distribution of its width.

    Raises `PlotError` and `ValueError`, as `plots.choose`.
    """
    book = plots.choose(folder, ("book_tops",), wanted)
    tops = _tops(folder, book, plots.read(folder, "book_depth", ["event_at"], book))
    with np.errstate(invalid="ignore", divide="ignore"):
        bps = (tops.asks - tops.bids) / ((tops.asks + tops.bids) / 2) * 1e4
    lasts = np.diff(np.append(tops.at, tops.end)) / np.timedelta64(1, "s")
    is_stale = np.zeros(len(tops.at), dtype=bool)
    for start, end in tops.stale:
        is_stale |= (tops.at >= start) & (tops.at < end)
    counts = np.isfinite(bps) & (lasts > 0) & ~is_stale
    if not counts.any():
        raise PlotError(f"{book[1]} on {book[0]}: there was never a bid and an ask at once in a book that was not stale")
    width, weight = bps[counts], lasts[counts] / lasts[counts].sum()
    low, median, high, highest = _quantiles(width, weight, (0.05, 0.5, 0.95, 1.0))
    drawn = plots.figure(
        f"Spread of {book[1]} on {book[0]}",
        f"{plots.span(tops.at[0], tops.end)}; {plots.times(len(tops.at), 'change')} of the top; {_told(tops.stale)}",
    )
    grid = drawn.add_gridspec(2, 2, width_ratios=[4, 1])
    prices = drawn.add_subplot(grid[0, 0])
    widths = drawn.add_subplot(grid[1, 0], sharex=prices)
    figures, shares = drawn.add_subplot(grid[0, 1]), drawn.add_subplot(grid[1, 1], sharey=widths)
    at = np.append(tops.at, tops.end)
    band = _more(tops.bids), _more(tops.asks)
    prices.fill_between(at, *band, step="post", color=TOP, alpha=0.25, linewidth=0, label="spread")
    _prices(prices, tops)
    prices.tick_params(labelbottom=False)
    widths.step(at, _more(bps), where="post", color=TOP, linewidth=0.8)
    plots.shade(widths, tops.stale)
    plots.time_axis(widths, tops.at[0], tops.end)
    widths.set_ylabel("spread, bps of mid")
    is_wide = width.min() > 0 and width.max() > 30 * width.min()  # then only a logarithm shows the small and the large
    edges = np.geomspace(width.min(), width.max(), 41) if is_wide else np.linspace(width.min(), width.max() or 1.0, 41)
    if width.min() < width.max():
        shares.hist(width, bins=edges.tolist(), weights=weight * 100, orientation="horizontal", color=TOP, alpha=0.7)
    else:
        shares.barh(width[:1], 100, height=0.1 * (width[0] or 1.0), color=TOP, alpha=0.7)
    if is_wide:
        widths.set_yscale("log")
        shares.set_xscale("log")
    shares.set_xlabel("share of the time, %")
    shares.set_title("how long it was how wide", loc="left", fontsize=10)
    shares.tick_params(labelleft=False)
    for axes in (widths, shares):
        axes.grid(alpha=0.25)
        axes.axhline(median, color="black", linewidth=1)
        axes.axhline(high, color="black", linewidth=1, linestyle="--")
    figures.axis("off")
    numbers = [
        ("5th percentile", low),
        ("median  (—)", median),
        ("mean", float(width @ weight)),
        ("95th percentile  (- -)", high),
    ]
    for line, (name, value) in enumerate([*numbers, ("widest", highest)]):
        figures.text(0.0, 0.86 - 0.11 * line, name, fontsize=10, color="0.35")
        figures.text(1.0, 0.86 - 0.11 * line, f"{value:.3g}" if value < 1000 else f"{value:,.0f}", fontsize=10, ha="right")
    figures.set_title("spread in bps, while not stale", loc="left", fontsize=10)
    return drawn


def faults(folder: Path, wanted: str | None) -> Figure:
    """When the books of each instrument had faults, of which kind, and when they were stale; the worst first.

    Raises `PlotError` and `ValueError`, as `plots.choose`.
    """
    busiest = plots.choose(folder, ("book_tops", "feed_faults"), wanted)
    only = busiest if wanted else None
    tops = plots.read(folder, "book_tops", ["event_at", "venue", "instrument", "is_stale"], only)
    fault_rows = plots.read(folder, "feed_faults", ["event_at", "venue", "instrument", "kind"], only)
    # A book without new rows goes on to the end of all rows.
    at, fault_at, depth_at = (
        plots.instants(rows) for rows in (tops, fault_rows, plots.read(folder, "book_depth", ["event_at"], only))
    )
    known = np.concatenate([at, fault_at, depth_at])
    start, end = known.min(), known.max()
    books, fault_books, kinds = _books(tops), _books(fault_rows), np.array(fault_rows["kind"].to_pylist(), dtype=np.str_)
    counts = Counter(fault_books.tolist())
    is_stale = plots.truths(tops, "is_stale")
    stale = {book: plots.stretches(at[books == book], is_stale[books == book], end) for book in {*books.tolist(), *counts}}
    order = sorted(stale, key=lambda book: (-plots.seconds(stale[book]), -counts[book], book))
    broken = sum(1 for book in order if counts[book] or stale[book])
    shown = order[:_MOST]
    about = f"{plots.times(len(fault_rows), 'fault')}; {broken:,} of {plots.times(len(order), 'book')} had one or were stale"
    drawn = plots.figure(
        "Feed faults and stale books" + (f" of {only[1]} on {only[0]}" if only else ""),
        f"{plots.span(start, end)}; {about}" + (f"; the worst {_MOST} are shown" if len(order) > _MOST else ""),
        (14.0, 2.4 + 0.36 * max(3, len(shown))),
    )
    axes = drawn.subplots()
    for line, book in enumerate(shown):
        if (books == book).any():
            axes.hlines(line, at[books == book][0], end, color=BID, linewidth=5, alpha=0.35)
        for begin, stop in stale[book]:
            edges = (line - 0.32, line + 0.32)
            axes.fill_between([begin, stop], *edges, facecolor="white", edgecolor=STALE, hatch="////", linewidth=0.8, zorder=2)
        text = f"{plots.times(counts[book], 'fault')}, {plots.seconds(stale[book]):,.1f} s stale"
        axes.annotate(text, (1.005, line), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="0.35")
    handles: list[Artist] = [Patch(color=BID, alpha=0.35, label="not stale")]
    handles.append(Patch(facecolor="white", edgecolor=STALE, hatch="////", label=plots.STALE_SAYS))
    for number, kind in enumerate(sorted(set(kinds.tolist()))):
        own = [i for i in np.flatnonzero(kinds == kind) if fault_books[i] in shown]
        handles.append(
            axes.scatter(
                fault_at[own],
                [shown.index(fault_books[i]) for i in own],
                s=46,
                marker=_MARKERS[number % len(_MARKERS)],
                color=f"C{number % 10}",
                edgecolor="black",
                linewidth=0.5,
                zorder=3,
                clip_on=False,
                label=f"{kind}: {(kinds == kind).sum():,}",
            )
        )
    axes.set_yticks(range(len(shown)), [book.replace(":", "  ", 1) for book in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.25)
    plots.time_axis(axes, start, end)
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=8, frameon=False, fontsize=9)
    return drawn


class _Levels:
    """The levels of one book in every row of book_depth, and the middle of its best prices then."""

    def __init__(self, rows: pa.Table, tops: Tops) -> None:
        self.at = plots.instants(rows)
        self.middle = _middle(self.at, tops)
        self.sides = [_flat(rows, side) for side in ("bids", "asks")]  # (price, size) of all rows, and where each row's begin
        self.prices, self.sizes = np.concatenate([levels for levels, _ in self.sides]).T
        middles = np.concatenate([np.repeat(self.middle, np.diff(offsets)) for _, offsets in self.sides])
        far = np.abs(self.prices - middles)
        self.reach = _reach(far)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.reach_bps = min(_reach(far / np.abs(middles) * 1e4), 1e4)  # no bid is further off

    def draw_sizes(self, axes: Axes, tops: Tops) -> QuadMesh:
        """The size at each price."""
        best = np.concatenate([tops.bids, tops.asks])
        best = best[np.isfinite(best)] if np.isfinite(best).any() else self.prices
        low, high = best.min() - self.reach, best.max() + self.reach
        if self.prices.min() >= 0:
            low = max(low, 0.0)
        cells = np.full((_ROWS, _COLUMNS), np.nan)
        edges, newest = self._columns(tops.end)
        for column, row in enumerate(newest):
            cells[:, column] = 0
            for levels, offsets in self.sides:
                own = levels[offsets[row] : offsets[row + 1]]
                line = np.floor((own[:, 0] - low) / (high - low) * _ROWS)
                seen = (line >= 0) & (line < _ROWS)
                np.add.at(cells[:, column], line[seen].astype(np.int64), own[seen, 1])
        return _mesh(axes, edges, np.linspace(low, high, _ROWS + 1), cells, "inferno")

    def draw_sums(self, axes: Axes, tops: Tops) -> QuadMesh:
        """The size of all levels up to a distance from the middle, as far as levels are known."""
        lines = np.linspace(-self.reach_bps, self.reach_bps, _ROWS + 1)
        centres = (lines[1:] + lines[:-1]) / 2
        cells = np.full((_ROWS, _COLUMNS), np.nan)
        edges, newest = self._columns(tops.end)
        for column, row in enumerate(newest):
            for sign, (levels, offsets) in zip((-1, 1), self.sides, strict=True):
                own = levels[offsets[row] : offsets[row + 1]]
                if len(own) and self.middle[row] > 0:
                    far = sign * (own[:, 0] / self.middle[row] - 1) * 1e4
                    place = np.searchsorted(far, sign * centres, side="right")
                    is_whole = len(own) < depths.LEVELS
                    known = (sign * centres > 0) & (place > 0) & (is_whole | (place < len(own)))
                    cells[known, column] = np.cumsum(own[:, 1])[place[known] - 1]
        axes.axhline(0, color="white", linewidth=0.8, alpha=0.6)
        return _mesh(axes, edges, lines, cells, "viridis")

    def _columns(self, end: np.datetime64) -> tuple[Instants, NDArray[np.int64]]:
        """The edges of the columns of a heat map in time, and the last row at the end of each."""
        length = max(1, int((end - self.at[0]) / np.timedelta64(1, "us")))
        edges = self.at[0] + np.linspace(0, length, _COLUMNS + 1).astype("timedelta64[us]")
        return edges, np.searchsorted(self.at, edges[1:], side="right") - 1


def _reach(far: NDArray[np.float64]) -> float:
    """The distance from the middle to show.  The deepest levels can be so far off that nothing else would be seen."""
    known = far[np.isfinite(far)]
    return min(float(np.quantile(known, 0.85)), 4 * float(np.median(known))) or 1.0 if len(known) else 1.0


def _mesh(axes: Axes, edges: Instants, lines: NDArray[np.float64], cells: NDArray[np.float64], colours: str) -> QuadMesh:
    known = cells[cells > 0]
    low, high = np.quantile(known, (0.1, 0.995)) if len(known) else (1.0, 1.0)
    scale = LogNorm if high > 10 * low else Normalize
    norm = scale(low, max(high, low * 1.01), clip=True)
    return axes.pcolormesh(edges, lines, np.where(cells > 0, cells, np.nan), cmap=colours, norm=norm, rasterized=True)


def _flat(rows: pa.Table, side: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All levels of a side as (price, size), one below the other, and where each row's begin."""
    levels = rows[side].combine_chunks()
    counts = np.array([len(row) for row in levels.to_pylist()], dtype=np.int64)
    values = np.asarray(levels.flatten().flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    return values.reshape(-1, 2), np.concatenate([[0], np.cumsum(counts)])


def _tops(folder: Path, book: names.Book, depth_rows: pa.Table) -> Tops:
    """From book_tops, or without it from book_depth; up to the last row of either."""
    rows = plots.read(folder, "book_tops", _TOP_COLUMNS, book)
    if len(rows):
        rows = rows.sort_by([("event_at", "ascending"), ("sequence", "ascending")])
        at, is_stale = plots.instants(rows), plots.truths(rows, "is_stale")
        bids, asks = plots.floats(rows, "bid_price"), plots.floats(rows, "ask_price")
    else:
        at, is_stale = plots.instants(depth_rows), plots.truths(depth_rows, "is_stale")
        bids, asks = (
            np.array([row[0][0] if row else np.nan for row in depth_rows[side].to_pylist()]) for side in ("bids", "asks")
        )
    end = np.concatenate([at, plots.instants(depth_rows)]).max()
    return Tops(at, bids, asks, plots.stretches(at, is_stale, end), end)


def _middle(at: Instants, tops: Tops) -> NDArray[np.float64]:
    """The middle of the best prices at each instant; the only one where there is but one, and 0 where there is none."""
    newest = np.maximum(np.searchsorted(tops.at, at, side="right") - 1, 0)
    bids, asks = tops.bids[newest], tops.asks[newest]
    middle = np.where(np.isnan(bids), asks, np.where(np.isnan(asks), bids, (bids + asks) / 2))
    return np.nan_to_num(middle)


def _lines(axes: Axes, tops: Tops, bid: str, ask: str) -> None:
    at = np.append(tops.at, tops.end)
    axes.step(at, _more(tops.asks), where="post", color=ask, linewidth=0.9, label="best ask")
    axes.step(at, _more(tops.bids), where="post", color=bid, linewidth=0.9, label="best bid")


def _prices(axes: Axes, tops: Tops) -> None:
    _lines(axes, tops, BID, ASK)
    hatched = plots.shade(axes, tops.stale)
    axes.set_ylabel("price, in the quote currency")
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.grid(alpha=0.25)
    plots.legend(axes, *([hatched] if hatched else []))


def _more(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.append(values, values[-1])


def _books(rows: pa.Table) -> NDArray[np.str_]:
    pairs = zip(rows["venue"].to_pylist(), rows["instrument"].to_pylist(), strict=True)
    return np.array([":".join(pair) for pair in pairs], dtype=np.str_)


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64], shares: tuple[float, ...]) -> list[float]:
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return [float(values[order][min(int(np.searchsorted(reached, share)), len(values) - 1)]) for share in shares]


def _told(stale: Stretches) -> str:
    return f"stale {plots.times(len(stale), 'time')}, {plots.seconds(stale):,.1f} s together" if stale else "never stale"

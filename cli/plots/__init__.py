"""Pictures of a run's Parquet files.  This module has what all of them share; each of the others draws one subject."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.dates as dates
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cli import names

Instants = NDArray[np.datetime64]  # microseconds, in UTC
Stretches = list[tuple[np.datetime64, np.datetime64]]

BID, ASK, TOP, STALE = "#2ca25f", "#de2d26", "#3182bd", "#7b3294"
STALE_SAYS = "stale: updates were lost"


class PlotError(ValueError):
    """There is nothing to draw; the message states what is missing."""


def read(
    folder: Path, table: str, columns: Sequence[str], book: names.Book | None = None, column: str = "instrument"
) -> pa.Table:
    """A table's rows in the order of event time; none if it has no files.

    All of them, or those of one `book`: a venue and a value of `column`.  Instants are microseconds since 1970.
    """
    if not any((folder / table).glob("*.parquet")):
        return pa.table({column: [] for column in columns})
    wanted = None if book is None else [("venue", "=", book[0]), (column, "=", book[1])]
    rows = pq.read_table(folder / table, columns=list(columns), filters=wanted)
    for at, name in enumerate(columns):
        if pa.types.is_timestamp(rows.schema.field(name).type):
            rows = rows.set_column(at, name, pc.cast(rows[name], pa.timestamp("us")).cast(pa.int64()))
    return rows.take(pa.array(np.argsort(rows["event_at"].to_numpy(), kind="stable")))


def instants(rows: pa.Table, column: str = "event_at") -> Instants:
    """A column of instants."""
    return np.asarray(rows[column].to_numpy()).astype("datetime64[us]")


def choose(folder: Path, tables: Sequence[str], wanted: str | None, column: str = "instrument") -> names.Book:
    """The venue and instrument (or the value of `column`) that `wanted` names, or else the one with the most rows.

    Rows are counted in the first of the tables that has any.  Raises `PlotError` if there are no rows, and `ValueError`
    for a name that has none.
    """
    if not folder.is_dir():
        raise PlotError(f"{folder}: no such folder; `gammaflow replay --out {folder}` would make it")
    counts = [Counter[names.Book](zip(*_names(folder, table, column), strict=True)) for table in tables]
    if not any(counts):
        raise PlotError(f"{folder}: no rows in {' or '.join(f'{table}/' for table in tables)}")
    if wanted is not None:
        return names.choose({book for count in counts for book in count}, wanted, what=column)
    busiest = next(count for count in counts if count)
    return max(sorted(busiest), key=busiest.__getitem__)


def _names(folder: Path, table: str, column: str) -> tuple[list[str], list[str]]:
    if not any((folder / table).glob("*.parquet")):
        return [], []
    rows = pq.read_table(folder / table, columns=["venue", column])
    return rows["venue"].to_pylist(), rows[column].to_pylist()


def stretches(at: Instants, is_so: NDArray[np.bool_], end: np.datetime64) -> Stretches:
    """From when until when something held, each row's word holding until the next row; the last until `end`."""
    if not len(at):
        return []
    turns = np.flatnonzero(np.diff(is_so.astype(np.int8), prepend=0))
    edges = [*at[turns], end]  # it begins at each first, third, … turn and ends at the next
    return list(zip(edges[0 : len(turns) : 2], edges[1::2], strict=False))


def figure(title: str, subtitle: str, size: tuple[float, float] = (14.0, 8.0)) -> Figure:
    """An empty picture under its title."""
    inch = 1 / size[1]
    drawn = Figure(figsize=size, dpi=120, facecolor="white")
    drawn.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.65 * inch))
    drawn.suptitle(title, x=0.01, y=1 - 0.1 * inch, ha="left", va="top", fontsize=15, fontweight="bold")
    drawn.text(0.011, 1 - 0.42 * inch, subtitle, ha="left", va="top", fontsize=10, color="0.35")
    return drawn


def time_axis(axes: Axes, start: np.datetime64, end: np.datetime64) -> None:
    """Make the x axis one of time, from `start` to `end`, readable at any length."""
    if start == end:
        start, end = start - np.timedelta64(500, "ms"), end + np.timedelta64(500, "ms")
    axes.set_xlim(start, end)  # type: ignore[arg-type]
    locator = dates.AutoDateLocator(minticks=4, maxticks=10)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("exchange time, UTC")


def shade(axes: Axes, stale: Stretches, colour: str = STALE) -> Patch | None:
    """Hatch the stretches in which a book was stale; returns an entry for the legend, if there were any."""
    face, edge = to_rgba(colour, 0.1), to_rgba(colour, 0.55)
    for start, end in stale:
        axes.axvspan(start, end, facecolor=face, edgecolor=edge, hatch="///", linewidth=0)  # type: ignore[arg-type]
    return Patch(facecolor="0.9", edgecolor="0.3", hatch="///", linewidth=0, label=STALE_SAYS) if stale else None


def legend(axes: Axes, *extra: Artist) -> None:
    """Draw the legend, with `extra`, above the picture, where it hides nothing."""
    handles = [*axes.get_legend_handles_labels()[0], *extra]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=6, frameon=False, fontsize=9)


def save(drawn: Figure, out: Path) -> Path:
    """Write a picture; its folder is created.  Raises `PlotError` for an ending that is no kind of picture."""
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        drawn.savefig(out)
    except ValueError as error:
        raise PlotError(f"--out {out}: {error}") from error
    return out


def span(start: np.datetime64, end: np.datetime64) -> str:
    """From when until when, as text."""
    first, last = (str(instant.astype("datetime64[ms]")).replace("T", " ") for instant in (start, end))
    return f"{first} to {last.partition(' ')[2] if first[:10] == last[:10] else last} UTC"


def seconds(stale: Stretches) -> float:
    """The total length of these stretches."""
    return float(sum((end - start) / np.timedelta64(1, "s") for start, end in stale))


def floats(rows: pa.Table, column: str) -> NDArray[np.float64]:
    """A column of numbers, NaN for NULL."""
    values: Any = rows[column].cast(pa.float64()).to_numpy()
    return np.asarray(values, dtype=np.float64)


def times(count: int, noun: str) -> str:
    """A count with its noun, as text."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def truths(rows: pa.Table, column: str) -> NDArray[np.bool_]:
    """A column of booleans."""
    return np.asarray(rows[column].to_pylist(), dtype=bool)

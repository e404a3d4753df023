"""Pictures of volatility: the surface, each smile with its quotes and fit, the Greeks of a chain."""

import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cli import names, plots
from cli.plots import PlotError
from kernels.chains.chain import AVERAGING_MS
from udfs import black76, svi
from udfs.black76 import FloatArray
from udfs.implied_vol import implied_vol
from udfs.svi import Slice

_FIT, _QUOTE, _LEFT_OUT = "#1f5fa8", "#c0392b", "#999999"
_REACH = 1.5
_GREEKS = {
    "delta": "delta of a call",
    "gamma_per_usd": "gamma, delta per USD",
    "vega_usd_per_vol": "vega, USD per 1.00 of volatility",
    "theta_usd_per_day": "theta, USD per day",
    "vanna_per_vol": "vanna, delta per 1.00 of volatility",
    "volga_usd_per_vol2": "volga, vega per 1.00 of volatility",
}

Row = dict[str, Any]  # instants in microseconds since 1970


class Quotes(NamedTuple):
    """The options of one expiry at or out of the money, by strike; NaN where there is no such price or volatility."""

    K: FloatArray
    bid_iv: FloatArray
    ask_iv: FloatArray
    is_stale: Any


def surface(folder: Path, wanted: str | None) -> Figure:
    """Volatility over strike and expiry, and the term structure, of the last surface that was fitted.

    Raises `PlotError` and `ValueError`, as `plots.choose`.
    """
    chain, slices = _last_surface(folder, wanted)
    years = np.array([row["years"] for row in slices])
    days = 365 * years
    deviation = np.array([row["atm_vol"] for row in slices]) * np.sqrt(years)
    about = f"{_about(slices)}; up to {_REACH} standard deviations from the forward, quoted there or not"
    drawn = plots.figure(f"Volatility surface of {chain[1]} on {chain[0]}", about, (14.0, 7.0))
    space, term = drawn.add_subplot(1, 2, 1, projection="3d"), drawn.add_subplot(1, 2, 2)
    z = np.linspace(-_REACH, _REACH, 61)
    vols = np.array([_vol(row, z * width) for row, width in zip(slices, deviation, strict=True)])
    at = np.repeat(np.log10(days)[:, None], z.size, axis=1)
    if len(slices) > 1:
        space.plot_surface(np.broadcast_to(z, vols.shape), at, 100 * vols, cmap="viridis", alpha=0.85, linewidth=0)
    for line in range(len(slices)):
        space.plot(z, at[line], 100 * vols[line], color="black", linewidth=0.8)
    apart = [i for i in range(len(slices)) if not i or at[i, 0] - at[i - 1, 0] > 0.06 * (at[-1, 0] - at[0, 0])]
    space.set_yticks(at[apart, 0], [_days(days[i]) for i in apart])
    space.set_xlabel("ln(strike / forward), standard deviations")
    space.set_ylabel("days to expiry")
    space.set_zlabel("volatility, %")
    space.view_init(elev=24, azim=-58)
    for deviations, style, label in ((0, "o-", "at the forward"), (-1, "--", "one deviation below"), (1, ":", "one above")):
        along = [100 * float(_vol(row, np.array(deviations * width))) for row, width in zip(slices, deviation, strict=True)]
        term.plot(days, along, style, color=_FIT, label=label)
    term.set_xscale("log")
    term.set_xticks(days[apart], [f"{_date(slices[i]['expiry_at'])}\n{_days(days[i])} d" for i in apart], fontsize=8)
    term.xaxis.set_minor_locator(NullLocator())
    term.set_ylabel("volatility, %")
    term.set_title("Term structure", loc="left", fontsize=10)
    term.grid(alpha=0.3)
    term.legend(frameon=False)
    return drawn


def smile(folder: Path, wanted: str | None) -> Figure:
    """Each expiry's quotes as bars from bid to ask volatility, and the fit through them, of the last surface.

    Raises `PlotError` and `ValueError`, as `plots.choose`.
    """
    chain, slices = _last_surface(folder, wanted)
    quotes = _last_quotes(folder, chain, slices)
    columns = math.ceil(math.sqrt(len(slices)))
    lines = math.ceil(len(slices) / columns)
    size = (max(9.0, 4.4 * columns), 0.8 + max(4.0, 3.4 * lines))
    drawn = plots.figure(f"Smiles of {chain[1]} on {chain[0]}", _about(slices), size)
    grid = drawn.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(slices) :]:
        axes.axis("off")
    for axes, row in zip(grid.flat, slices, strict=False):
        _draw_smile(axes, row, quotes[row["expiry_at"]])
    handles: dict[str, Any] = {}
    for axes in drawn.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    _name(drawn, list(handles.values()), list(handles))
    return drawn


def greeks(folder: Path, wanted: str | None) -> Figure:
    """Delta, gamma, vega, theta, vanna and volga along the strikes, a line an expiry, from the last row of each option.

    Raises `PlotError` and `ValueError`, as `plots.choose`.
    """
    chain = plots.choose(folder, ("chain_greeks",), wanted, "underlying")
    terms = ["venue", "underlying", "instrument", "event_at", "expiry_at", "strike_usd", "option_type", "reason"]
    newest = _newest(plots.read(folder, "chain_greeks", [*terms, *_GREEKS], chain, "underlying"))
    last = [row for row in newest if row["reason"] is None]
    if not last:
        raise PlotError(f"{folder}/chain_greeks: no option of {chain[1]} on {chain[0]} has a price; {_reasons(newest)}")
    expiries = sorted({row["expiry_at"] for row in last})
    about = f"{_instant(max(row['event_at'] for row in last))}; {plots.times(len(last), 'option')}, by our surface"
    drawn = plots.figure(f"Greeks of {chain[1]} on {chain[0]}", about, (14.0, 8.0))
    grid = drawn.subplots(2, 3)
    colours = colormaps["viridis"](np.linspace(0.0, 0.9, len(expiries)))
    for axes, (name, label) in zip(grid.flat, _GREEKS.items(), strict=True):
        for colour, expiry in zip(colours, expiries, strict=True):
            # Calls and puts of a strike differ only in delta.
            points = sorted({row["strike_usd"]: _along(row, name) for row in last if row["expiry_at"] == expiry}.items())
            K, values = np.array(points).T
            axes.plot(K / 1000, values, "o-", markersize=2.5, linewidth=1.2, color=colour, label=_date(expiry))
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_xlabel("strike, thousand USD")
        axes.grid(alpha=0.3)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    _name(drawn, handles, labels)
    return drawn


def _name(drawn: Figure, handles: list[Any], labels: list[str]) -> None:
    """Name what is drawn beside the title: it is the same in every panel."""
    drawn.legend(handles, labels, loc="upper right", ncols=min(len(labels), 7), frameon=False, fontsize=9)


def _draw_smile(axes: Axes, row: Row, quotes: Quotes) -> None:
    K, bid, ask, is_stale = quotes
    F = row["forward_usd"]
    both = np.isfinite(bid) & np.isfinite(ask) & ~is_stale
    axes.vlines(K[both] / 1000, 100 * bid[both], 100 * ask[both], color=_QUOTE, linewidth=2, label="bid to ask")
    lone = np.where(np.isfinite(bid), bid, ask)
    for left_out, label in ((~both & ~is_stale, "one side only"), (is_stale, "of a stale book")):
        if np.isfinite(lone[left_out]).any():
            marker = "_" if label == "one side only" else "x"
            axes.plot(K[left_out] / 1000, 100 * lone[left_out], marker, color=_LEFT_OUT, label=label)
    reach = 2.0 * row["atm_vol"] * math.sqrt(row["years"])
    low, high = (K[both].min(), K[both].max()) if both.any() else F * np.exp([-reach, reach])
    strikes = np.linspace(0.98 * low, 1.02 * high, 200)
    axes.plot(strikes / 1000, 100 * _vol(row, np.log(strikes / F)), color=_FIT, label="SVI")
    axes.axvline(F / 1000, color="black", linewidth=0.7, linestyle=":", label="forward")
    inside = f"{row['inside_share']:.0%} inside, RMSE {row['rmse_vol_points']:.2f} points"
    axes.set_title(f"{_date(row['expiry_at'])}, {_days(365 * row['years'])} days; {inside}", loc="left", fontsize=9)
    axes.set_xlabel("strike, thousand USD")
    axes.set_ylabel("volatility, %")
    axes.grid(alpha=0.3)


def _along(row: Row, name: str) -> float:
    """A Greek of the call with this row's strike."""
    value = float(row[name])
    if name != "delta" or row["option_type"] == "call":
        return value
    left_ms = float(row["expiry_at"] - row["event_at"]) / 1000
    return value + min(left_ms / AVERAGING_MS, 1.0)


def _vol(row: Row, k: FloatArray) -> FloatArray:
    """The volatility of a slice."""
    raw = Slice(*(np.array(row[f"svi_{name}"], dtype=np.float64) for name in ("a", "b", "rho", "m", "sigma")))
    answer: FloatArray = np.sqrt(svi.total_variance(raw, k) / row["years"])
    return answer


def _last_surface(folder: Path, wanted: str | None) -> tuple[names.Book, list[Row]]:
    """Venue and underlying, and the slices of the last instant at which any expiry had one."""
    chain = plots.choose(folder, ("vol_surfaces",), wanted, "underlying")
    parameters = [f"svi_{name}" for name in ("a", "b", "rho", "m", "sigma")]
    columns = ["event_at", "expiry_at", "forward_usd", "years", *parameters, "atm_vol", "inside_share", "rmse_vol_points"]
    rows = plots.read(folder, "vol_surfaces", [*columns, "reason"], chain, "underlying").to_pylist()
    fitted = [row for row in rows if row["svi_a"] is not None]
    if not fitted:
        raise PlotError(f"{folder}/vol_surfaces: no expiry of {chain[1]} on {chain[0]} was ever fitted; {_reasons(rows)}")
    at = fitted[-1]["event_at"]
    return chain, sorted((row for row in fitted if row["event_at"] == at), key=lambda row: int(row["expiry_at"]))


def _last_quotes(folder: Path, chain: names.Book, slices: list[Row]) -> dict[int, Quotes]:
    """By expiry, the quotes at the time when the surface was fitted."""
    forwards, at = {row["expiry_at"]: row["forward_usd"] for row in slices}, slices[0]["event_at"]
    columns = ["event_at", "instrument", "kind", "expiry_at", "strike_usd", "option_type", "quote_currency"]
    terms = _newest(plots.read(folder, "instruments", columns, chain, "underlying"))
    newest: dict[str, Row] = {}
    prices = ["event_at", "venue", "instrument", "bid_price", "ask_price"]
    # At one instant the quote of the book counts.
    for table, extra in (("tickers", []), ("book_tops", ["is_stale"])):
        rows = plots.read(folder, table, [*prices, *extra])
        rows = rows.filter(pc.and_(pc.equal(rows["venue"], chain[0]), pc.less_equal(rows["event_at"], at)))
        for row in _newest(rows):
            if row["event_at"] >= newest.get(row["instrument"], row)["event_at"]:
                newest[row["instrument"]] = row
    for by_name, tables in ((terms, "instruments/"), (newest, "tickers/ or book_tops/")):
        if not by_name:
            raise PlotError(f"{folder}: no rows of {chain[1]} on {chain[0]} in {tables}")
    quotes: dict[int, Quotes] = {}
    for expiry, F in forwards.items():
        own = [row for row in terms if row["kind"] == "option" and row["expiry_at"] == expiry and row["instrument"] in newest]
        own = [row for row in own if (row["strike_usd"] >= F) == (row["option_type"] == "call")]
        own.sort(key=lambda row: float(row["strike_usd"]))
        last = [newest[row["instrument"]] for row in own]
        K = np.array([row["strike_usd"] for row in own], dtype=np.float64)
        is_call = np.array([row["option_type"] == "call" for row in own], dtype=np.bool_)
        unit = np.array([F if row["quote_currency"] == chain[1] else 1.0 for row in own], dtype=np.float64)
        years = (expiry - at) / 1000 / black76.MS_PER_YEAR
        sides = [np.array([row[side] or math.nan for row in last], dtype=np.float64) for side in ("bid_price", "ask_price")]
        bid_iv, ask_iv = (implied_vol(side * unit, F, K, years, is_call).vol for side in sides)
        is_stale = np.array([bool(row.get("is_stale")) for row in last], dtype=np.bool_)
        quotes[expiry] = Quotes(K, bid_iv, ask_iv, is_stale)
    return quotes


def _newest(rows: pa.Table) -> list[Row]:
    """The last row of each instrument, of rows in order of event time."""
    instruments = np.asarray(rows["instrument"].to_pylist(), dtype=np.str_)[::-1]
    _, first = np.unique(instruments, return_index=True)
    newest: list[Row] = rows.take(pa.array(len(instruments) - 1 - first)).to_pylist()
    return newest


def _reasons(rows: list[Row]) -> str:
    """The most frequent reason for no answer, as text."""
    [(reason, _)] = Counter(row["reason"] for row in rows).most_common(1)
    return f"mostly: {reason}"


def _about(slices: list[Row]) -> str:
    number = f"{len(slices)} {'expiry' if len(slices) == 1 else 'expiries'}"
    return f"{_instant(slices[0]['event_at'])}, when it was last fitted; {number}"


def _instant(us: int) -> str:
    return f"{str(np.datetime64(us, 'us').astype('datetime64[ms]')).replace('T', ' ')} UTC"


def _date(us: int) -> str:
    return f"{np.datetime64(us, 'us').item():%-d %b %y}"


def _days(days: float) -> str:
    return f"{days:.0f}" if days >= 10 else f"{days:.1f}"

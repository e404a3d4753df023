"""Pictures of volatility from a run's Parquet files: the surface, each smile with its quotes and fit, the Greeks of a chain.

Each function reads the folder that `gammaflow demo` or `replay` left (`<folder>/<table>/*.parquet`), draws the last state that
it finds in one PNG at `path`, and raises `PlotError` where the folder lacks what it needs.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

from cli.summary import rows
from kernels.chain import AVERAGING_MS
from udfs import black76, svi
from udfs.black76 import FloatArray
from udfs.implied_vol import implied_vol
from udfs.svi import Slice

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator

Row = dict[str, Any]

SIZE, DPI = (11.0, 7.0), 110
FIT, QUOTE, LEFT_OUT = "#1f5fa8", "#c0392b", "#999999"


class PlotError(RuntimeError):
    """The folder lacks what a picture needs; the message names it."""


class Chain(NamedTuple):
    """One underlying at the instant of its last surface."""

    name: str  # venue and underlying
    slices: list[Row]  # of vol_surfaces, with a fit, by expiry
    at: Any  # instant


def surface(folder: Path, path: Path, underlying: str | None = None) -> None:
    """Volatility over strike and expiry, and the term structure at the money."""
    chain = last_surface(folder, underlying)
    years = np.array([row["years"] for row in chain.slices])
    reach = 1.5 * np.array([row["atm_vol"] * math.sqrt(row["years"]) for row in chain.slices])
    figure = plt.figure(figsize=(13.0, 6.0), dpi=DPI)
    axes = figure.add_subplot(1, 2, 1, projection="3d")
    shares = np.linspace(-1.0, 1.0, 61)
    k = shares[None, :] * reach[:, None]
    vols = np.array([vol(row, k[i]) for i, row in enumerate(chain.slices)])
    days = np.repeat(365.0 * years[:, None], shares.size, axis=1)
    if len(chain.slices) > 1:
        axes.plot_surface(100 * k, np.log10(days), 100 * vols, cmap="viridis", alpha=0.85, linewidth=0)
    for i in range(len(chain.slices)):
        axes.plot(100 * k[i], np.log10(days[i]), 100 * vols[i], color="black", linewidth=0.8)
    logs = np.log10(365.0 * years)
    ticks = logs[np.diff(logs, prepend=-np.inf) > 0.08 * (logs[-1] - logs[0])]
    axes.set_yticks(ticks, [f"{10**tick:.0f}" if 10**tick >= 10 else f"{10**tick:.1f}" for tick in ticks])
    axes.set(xlabel="ln(K/F), %", ylabel="days to expiry", zlabel="volatility, %")
    axes.view_init(elev=24, azim=-58)
    term = figure.add_subplot(1, 2, 2)
    term.plot(365 * years, [100 * row["atm_vol"] for row in chain.slices], "o-", color=FIT, label="at the forward")
    for share, style in ((-2 / 3, "--"), (2 / 3, ":")):
        along = [100 * float(vol(row, np.array(share * reach[i]))) for i, row in enumerate(chain.slices)]
        side = "below" if share < 0 else "above"
        term.plot(365 * years, along, style, color=FIT, alpha=0.7, label=f"one deviation {side}")
    term.set_xscale("log")
    term.set_xticks(365 * years, [row["expiry_at"].strftime("%d %b %y") for row in chain.slices], rotation=45, ha="right")
    term.xaxis.set_minor_locator(NullLocator())
    term.set(ylabel="volatility, %", title="Term structure")
    term.grid(alpha=0.3)
    term.legend(frameon=False)
    finish(figure, f"Volatility surface of {chain.name} at {chain.at:%Y-%m-%d %H:%M:%S} UTC", path)


def smile(folder: Path, path: Path, underlying: str | None = None) -> None:
    """Each expiry's quotes as bars from bid to ask volatility, and the fit through them."""
    chain = last_surface(folder, underlying)
    quotes = last_quotes(folder, chain)
    columns = math.ceil(math.sqrt(len(chain.slices)))
    lines = math.ceil(len(chain.slices) / columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4.6 * columns, 3.7 * lines), dpi=DPI, squeeze=False)
    for axes in grid.flat[len(chain.slices) :]:
        axes.axis("off")
    for axes, row in zip(grid.flat, chain.slices, strict=False):
        K, bid, ask = quotes.get(row["expiry_at"], (np.empty(0),) * 3)
        both = np.isfinite(bid) & np.isfinite(ask)
        axes.vlines(K[both] / 1000, 100 * bid[both], 100 * ask[both], color=QUOTE, linewidth=2, label="bid to ask")
        one = np.isfinite(bid) ^ np.isfinite(ask)
        side = np.where(np.isfinite(bid), bid, ask)[one]
        axes.plot(K[one] / 1000, 100 * side, "_", color=LEFT_OUT, label="one side only" if one.any() else None)
        if both.any():
            strikes = np.linspace(0.97 * K[both].min(), 1.03 * K[both].max(), 200)
        else:
            strikes = row["forward_usd"] * np.exp(np.linspace(-2.0, 2.0, 200) * row["atm_vol"] * math.sqrt(row["years"]))
        axes.plot(strikes / 1000, 100 * vol(row, np.log(strikes / row["forward_usd"])), color=FIT, label="SVI")
        axes.axvline(row["forward_usd"] / 1000, color="black", linewidth=0.6, linestyle=":")
        inside = f"{row['inside_share']:.0%} inside, RMSE {row['rmse_vol_points']:.2f}"
        axes.set_title(f"{row['expiry_at']:%d %b %Y}, {365 * row['years']:.3g} days: {inside}", fontsize=9)
        axes.set(xlabel="strike, thousand USD", ylabel="volatility, %")
        axes.grid(alpha=0.3)
    grid.flat[0].legend(frameon=False, fontsize=8)
    finish(figure, f"Smiles of {chain.name} at {chain.at:%Y-%m-%d %H:%M:%S} UTC", path)


def greeks(folder: Path, path: Path, underlying: str | None = None) -> None:
    """Delta, gamma, vega, theta, vanna and volga along the strikes, a line an expiry, from the last row of each option."""
    found = rows(folder, "chain_greeks")
    live = [row for row in found if row["reason"] is None and underlying in (None, row["underlying"])]
    if not live:
        raise PlotError(f"{folder}/chain_greeks has no priced option" + (f" of {underlying}" if underlying else ""))
    counts: dict[tuple[str, str], int] = {}
    for row in live:
        counts[row["venue"], row["underlying"]] = counts.get((row["venue"], row["underlying"]), 0) + 1
    of = max(counts, key=lambda one: (counts[one], one))
    last: dict[str, Row] = {}
    for row in sorted((row for row in live if (row["venue"], row["underlying"]) == of), key=lambda row: row["event_at"]):
        last[row["instrument"]] = row
    expiries = sorted({row["expiry_at"] for row in last.values()})
    names = {
        "delta": "delta of a call",
        "gamma_per_usd": "gamma, delta per USD",
        "vega_usd_per_vol": "vega, USD per 1.00 of volatility",
        "theta_usd_per_day": "theta, USD per day",
        "vanna_per_vol": "vanna, delta per 1.00 of volatility",
        "volga_usd_per_vol2": "volga, vega per 1.00 of volatility",
    }
    figure, grid = plt.subplots(2, 3, figsize=(14.0, 7.6), dpi=DPI)
    colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.9, len(expiries)))
    for axes, (name, label) in zip(grid.flat, names.items(), strict=True):
        for colour, expiry in zip(colours, expiries, strict=True):
            # Calls and puts of a strike differ in delta alone, and there by one.
            points = {row["strike_usd"]: along(row, name) for row in last.values() if row["expiry_at"] == expiry}
            strikes = sorted(points)
            line = [points[strike] for strike in strikes]
            axes.plot(
                [strike / 1000 for strike in strikes], line, "o-", markersize=2.5, color=colour, label=f"{expiry:%d %b %y}"
            )
        axes.set_title(label, fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_xlabel("strike, thousand USD")
    grid.flat[0].legend(frameon=False, fontsize=8)
    at = max(row["event_at"] for row in last.values())
    finish(figure, f"Greeks of {of[1]} on {of[0]} at {at:%Y-%m-%d %H:%M:%S} UTC, by our surface", path)


def along(row: Row, name: str) -> float:
    """A Greek of the call with this row's strike."""
    value = float(row[name])
    if name != "delta" or row["option_type"] == "call":
        return value
    left_ms = float((row["expiry_at"] - row["event_at"]).total_seconds() * 1000)
    return value + min(left_ms / AVERAGING_MS, 1.0)


def vol(row: Row, k: FloatArray) -> FloatArray:
    """The volatility of a slice."""
    raw = Slice(*(np.array(row[f"svi_{name}"], dtype=np.float64) for name in ("a", "b", "rho", "m", "sigma")))
    answer: FloatArray = np.sqrt(svi.total_variance(raw, k) / row["years"])
    return answer


def last_surface(folder: Path, underlying: str | None) -> Chain:
    """The last whole surface of the underlying that was fitted most often."""
    found = [row for row in rows(folder, "vol_surfaces") if row["reason"] is None and underlying in (None, row["underlying"])]
    if not found:
        raise PlotError(f"{folder}/vol_surfaces has no fitted slice" + (f" of {underlying}" if underlying else ""))
    counts: dict[tuple[str, str], int] = {}
    for row in found:
        counts[row["venue"], row["underlying"]] = counts.get((row["venue"], row["underlying"]), 0) + 1
    of = max(counts, key=lambda one: (counts[one], one))
    own = [row for row in found if (row["venue"], row["underlying"]) == of]
    at = max(row["event_at"] for row in own)
    slices = sorted((row for row in own if row["event_at"] == at), key=lambda row: row["expiry_at"])
    return Chain(f"{of[1]} on {of[0]}", slices, at)


def last_quotes(folder: Path, chain: Chain) -> dict[Any, tuple[FloatArray, FloatArray, FloatArray]]:
    """Strike, bid and ask volatility of the options out of the money, by expiry, as they stood when the surface was fitted."""
    currency, _, venue = chain.name.partition(" on ")
    forwards = {row["expiry_at"]: row["forward_usd"] for row in chain.slices}
    terms: dict[str, Row] = {}
    for row in rows(folder, "instruments"):
        if (row["venue"], row["underlying"], row["kind"]) == (venue, currency, "option") and row["expiry_at"] in forwards:
            terms[row["instrument"]] = row
    newest: dict[str, Row] = {}
    for table in ("tickers", "book_tops"):
        for row in rows(folder, table, ["venue", "instrument", "event_at", "bid_price", "ask_price"]):
            name = row["instrument"]
            if row["venue"] != venue or name not in terms or row["event_at"] > chain.at:
                continue
            if name not in newest or row["event_at"] >= newest[name]["event_at"]:
                newest[name] = row
    quotes: dict[Any, tuple[FloatArray, FloatArray, FloatArray]] = {}
    for expiry, F in forwards.items():
        own = sorted(
            (name for name in newest if terms[name]["expiry_at"] == expiry and is_out(terms[name], F)),
            key=lambda name: float(terms[name]["strike_usd"]),
        )
        K = np.array([terms[name]["strike_usd"] for name in own], dtype=np.float64)
        is_call = np.array([terms[name]["option_type"] == "call" for name in own], dtype=np.bool_)
        unit = np.array([F if terms[name]["quote_currency"] == currency else 1.0 for name in own])
        years = (expiry - chain.at).total_seconds() * 1000 / black76.MS_PER_YEAR
        sides = [np.array([newest[name][side] or math.nan for name in own]) for side in ("bid_price", "ask_price")]
        bid, ask = (implied_vol(side * unit, F, K, years, is_call).vol for side in sides)
        quotes[expiry] = K, bid, ask
    return quotes


def is_out(terms: Row, F: float) -> bool:
    """Whether an option is at or out of the money."""
    return bool((terms["strike_usd"] >= F) == (terms["option_type"] == "call"))


def finish(figure: Any, title: str, path: Path) -> None:
    """Write a picture."""
    figure.suptitle(title)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)

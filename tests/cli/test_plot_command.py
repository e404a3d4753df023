"""Pictures of books and of volatility: drawn from Parquet files such as a replay leaves."""

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from cli import plots
from cli.main import app
from cli.plots import PlotError, books, executions, stretches, vols
from kernels.chains import chain
from schemas.records import TABLES
from udfs import black76

RUNNER = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
START = datetime(2026, 3, 1, 12)
TYPES = {
    "STRING": pa.string(),
    "BOOLEAN": pa.bool_(),
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "INT": pa.int32(),
    "DECIMAL": pa.decimal128(38, 18),
}
PNG = b"\x89PNG\r\n"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def write(folder: Path, table: str, rows: list[dict[str, Any]]) -> None:
    """Rows as the archive job writes them: instants are microseconds that do not say that they are in UTC."""
    fields = [
        (
            name,
            TYPES.get(
                sql.partition("(")[0], pa.list_(pa.list_(pa.float64())) if sql.startswith("ARRAY") else pa.timestamp("us")
            ),
        )
        for name, (sql, _) in TABLES[table].columns.items()
    ]
    (folder / table).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), folder / table / f"{table}-0000.parquet")


def top(seconds: float, bid: float | None, ask: float | None, is_stale: bool = False, name: str = "BTC-USD") -> dict[str, Any]:
    row = {"venue": "venue", "instrument": name, "event_at": at(seconds), "received_at": at(seconds), "sequence": 1}
    return row | {"bid_price": bid, "bid_size": 1.0, "ask_price": ask, "ask_size": 1.0, "is_stale": is_stale}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A minute of two books; one is stale from 20 s to 30 s and has, for a moment, no bid."""
    tops = [top(i, 100 + i % 7, 100.5 + i % 7 + (i % 10) / 10, 20 <= i < 30) for i in range(60)]
    tops += [top(12.5, None, 105.0), top(3, 5.0, 6.0, name="ETH-USD"), top(58, 5.0, 6.5, name="ETH-USD")]
    write(tmp_path / "run", "book_tops", tops[::-1])
    sides = [[[100 + i % 7 - k / 10, 1.0 + k] for k in range(20)] for i in range(60)]
    depth = [
        {"venue": "venue", "instrument": "BTC-USD", "event_at": at(i + 0.1), "sequence": i, "is_stale": False}
        | {"bids": sides[i], "asks": [[201 - price + 2 * (i % 7), size] for price, size in sides[i]] if i else []}
        for i in range(60)
    ]
    write(tmp_path / "run", "book_depth", depth)
    fault = {"venue": "venue", "instrument": "BTC-USD", "event_at": at(20), "received_at": at(20), "kind": "gap"}
    late = fault | {"instrument": "SOL-USD", "event_at": at(40), "kind": "crossed"}
    write(tmp_path / "run", "feed_faults", [fault, late])
    return tmp_path / "run"


def texts(drawn: Figure) -> str:
    """All words of a picture."""
    words = [text.get_text() for text in drawn.texts]
    for axes in drawn.axes:
        words += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel(), *(text.get_text() for text in axes.texts)]
        words += [label.get_text() for label in axes.get_yticklabels()]
        legend = axes.get_legend()
        words += [] if legend is None else [text.get_text() for text in legend.get_texts()]
    return "\n".join(["" if drawn.get_suptitle() is None else drawn.get_suptitle(), *words])


def assert_drawn(name: str, folder: Path, *which: str) -> None:
    out = folder / "pictures" / f"{name}.png"
    shown = RUNNER.invoke(app, ["plot", name, "--from", str(folder), *which, "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.strip() == str(out)
    assert out.read_bytes().startswith(PNG)


@pytest.mark.parametrize("name", ["depth", "spread", "faults"])
def test_each_picture_is_drawn_into_the_file_that_is_named(name: str, folder: Path) -> None:
    assert_drawn(name, folder, "--instrument", "btc-usd")


def test_depth_shows_levels_best_prices_and_stale_stretches(folder: Path) -> None:
    drawn = books.depth(folder, None)
    words = texts(drawn)
    assert "Order book of BTC-USD on venue" in words
    assert "2026-03-01 12:00:00.000 to 12:00:59.100 UTC; stale 1 time, 10.0 s together" in words
    for said in ("best bid", "best ask", "stale: updates were lost", "price, in the quote currency", "exchange time, UTC"):
        assert said in words
    meshes = [axes.collections[0] for axes in drawn.axes[:2]]
    sizes, sums = (np.asarray(mesh.get_array()).astype(float) for mesh in meshes)
    # Two of the 20 levels at most fall outside of what is shown of prices; sums grow away from the middle.
    last = sizes[:, -1]
    assert 30 <= np.isfinite(last).sum() <= 40
    column = sums[:, -1]
    asks, bids = column[len(column) // 2 :], column[: len(column) // 2][::-1]
    for side in (asks, bids):
        known = side[np.isfinite(side)]
        assert (np.diff(known) >= 0).all() and known[0] == 1.0 and known[-1] >= 100


def test_depth_without_book_depth_shows_best_prices_and_says_so(folder: Path) -> None:
    words = texts(books.depth(folder, "ETH-USD"))
    assert "Best prices of ETH-USD on venue" in words
    assert "book_depth has nothing of it" in words


def test_depth_without_book_tops_takes_the_top_from_the_levels(folder: Path) -> None:
    (folder / "book_tops" / "book_tops-0000.parquet").unlink()
    assert "12:00:00.100 to 12:00:59.100 UTC; never stale" in texts(books.depth(folder, None))


def test_spread_is_weighted_by_time_and_leaves_stale_stretches_out(tmp_path: Path) -> None:
    tops = [
        top(0, 99.0, 101.0),
        top(90, 98.0, 102.0),
        top(100, 50.0, 150.0, True),
        top(1000, 99.5, 100.5),
        top(1001, 99.0, 101.0),
    ]
    write(tmp_path, "book_tops", tops)
    words = texts(books.spread(tmp_path, None))
    assert "5 changes of the top; stale 1 time, 900.0 s together" in words
    # 200 bps for 90 s, 400 for 10 s and 100 for 1 s; the stale 10,000 do not count.
    for name, value in (("median  (—)", "200"), ("mean", "219"), ("95th percentile  (- -)", "400"), ("widest", "400")):
        assert f"{name}\n{value}" in words


def test_a_spread_that_was_never_there_is_said_to_be_so(tmp_path: Path) -> None:
    write(tmp_path, "book_tops", [top(0, None, 101.0), top(1, 1.0, 2.0, True), top(2, 1.0, None)])
    with pytest.raises(PlotError, match="BTC-USD on venue: there was never a bid and an ask at once"):
        books.spread(tmp_path, None)


def test_faults_are_told_by_instrument_and_kind_the_worst_first(folder: Path) -> None:
    words = texts(books.faults(folder, None))
    assert "2 faults; 2 of 3 books had one or were stale" in words
    assert words.index("1 fault, 10.0 s stale") < words.index("1 fault, 0.0 s stale") < words.index("0 faults, 0.0 s stale")
    assert words.index("venue  BTC-USD") < words.index("venue  SOL-USD") < words.index("venue  ETH-USD")
    assert "gap: 1" in words and "crossed: 1" in words
    assert "Feed faults and stale books of ETH-USD on venue" in texts(books.faults(folder, "ETH-USD"))


def test_one_row_is_enough_for_every_picture_but_a_spread(tmp_path: Path) -> None:
    write(tmp_path, "book_tops", [top(0, 1.0, 2.0)])
    for number, draw in enumerate((books.depth, books.faults)):
        assert plots.save(draw(tmp_path, None), tmp_path / f"{number}.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instrument", "BTC-UDS"], "no instrument 'BTC-UDS' among 2; the nearest are venue:BTC-USD"),
        (["--out", "picture.txt"], "--out picture.txt: Format 'txt' is not supported"),
        (["--from", "nowhere"], "nowhere: no such folder"),
        (["--from", "."], ".: no rows in book_depth/ or book_tops/"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    arguments: list[str], message: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = RUNNER.invoke(app, ["plot", "depth", "--from", str(folder), *arguments])
    assert shown.exit_code == 1
    assert message in shown.output


@pytest.mark.parametrize("name", ["depth", "spread", "faults"])
def test_help_says_what_each_picture_and_option_is(name: str) -> None:
    shown = RUNNER.invoke(app, ["plot", name, "--help"])
    assert shown.exit_code == 0
    assert all(word in shown.output for word in ("Draw", "--from", "--instrument", "--out", "Folder of Parquet files"))


@pytest.mark.parametrize(
    ("is_so", "expected"),
    [
        ([], []),
        ([False, False, False], []),
        ([True, True, True], [(0, 9)]),
        ([False, True, True], [(1, 9)]),
        ([True, False, True], [(0, 1), (2, 9)]),
        ([False, True, False], [(1, 2)]),
    ],
)
def test_a_stretch_lasts_from_the_row_that_begins_it_to_the_one_that_ends_it(
    is_so: list[bool], expected: list[tuple[int, int]]
) -> None:
    instants = np.arange(len(is_so)).astype("datetime64[us]")
    found = stretches(instants, np.array(is_so, dtype=bool), np.datetime64(9, "us"))
    assert [(int(start.astype(int)), int(end.astype(int))) for start, end in found] == expected


FORWARD, VOL, HALF = 60_000.0, 0.6, 0.01
EXPIRIES = [START + timedelta(days=7), START + timedelta(days=30)]
STRIKES = [float(strike) for strike in range(50_000, 70_001, 2_500)]


def fitted(seconds: float, expiry: datetime, level: float = VOL, **changed: Any) -> dict[str, Any]:
    """A flat slice."""
    years = (expiry - at(seconds)) / timedelta(days=365)
    row = {"venue": "venue", "underlying": "BTC", "expiry_at": expiry, "event_at": at(seconds), "forward_usd": FORWARD}
    raw = {"svi_a": level**2 * years, "svi_b": 0.0, "svi_rho": 0.0, "svi_m": 0.0, "svi_sigma": 0.1}
    quality = {"atm_vol": level, "inside_share": 1.0, "rmse_vol_points": 0.1, "reason": None}
    return row | {"years": years, "forward_source": "future"} | raw | quality | changed


@pytest.fixture
def chains(tmp_path: Path) -> Path:
    """A chain of two expiries that was fitted twice, and another underlying that could not be."""
    bad = fitted(20, EXPIRIES[0], underlying="ETH", svi_a=None, reason="There is no forward.")
    surfaces = [fitted(seconds, expiry, level) for seconds, level in ((0, 0.4), (10, VOL)) for expiry in EXPIRIES]
    write(tmp_path / "run", "vol_surfaces", [*surfaces, bad])
    terms, tops, greeks = [], [], []
    for expiry in EXPIRIES:
        years = (expiry - at(10)) / timedelta(days=365)
        for strike in STRIKES:
            for kind in ("call", "put"):
                name = f"BTC-{expiry.day}-{strike:.0f}-{kind}"
                of: dict[str, Any] = {"venue": "venue", "instrument": name, "underlying": "BTC", "expiry_at": expiry}
                of |= {"option_type": kind, "strike_usd": strike}
                terms.append(of | {"event_at": START, "kind": "option", "quote_currency": "BTC"})
                sides = VOL - HALF, VOL + HALF
                bid, ask = (float(black76.price(FORWARD, strike, years, v, kind == "call")) / FORWARD for v in sides)
                tops += [top(5, bid, ask, name=name), top(11, 2 * bid, 2 * ask, name=name)]
                numbers = dict.fromkeys(chain.COLUMNS, 0.5 if kind == "call" else -0.5)
                greeks += [of | numbers | {"event_at": at(i), "reason": None if i else "There is no forward."} for i in (0, 9)]
    tops.append(top(6, None, 0.5, name=f"BTC-8-{STRIKES[-1]:.0f}-call"))
    tops.append(top(6, 0.1, 0.2, True, name=f"BTC-8-{STRIKES[0]:.0f}-put"))
    write(tmp_path / "run", "instruments", terms)
    write(tmp_path / "run", "book_tops", tops[::-1])
    write(tmp_path / "run", "chain_greeks", greeks[::-1])
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["surface", "smile", "greeks"])
def test_each_picture_of_volatility_is_drawn_into_the_file_that_is_named(name: str, chains: Path) -> None:
    assert_drawn(name, chains, "--underlying", "venue:btc")


def test_the_surface_is_the_last_that_was_fitted(chains: Path) -> None:
    drawn = vols.surface(chains, None)
    assert drawn.get_suptitle() == "Volatility surface of BTC on venue"
    assert "2026-03-01 12:00:10.000 UTC, when it was last fitted; 2 expiries" in texts(drawn)
    at_forward, below, above = drawn.axes[1].get_lines()
    assert np.asarray(at_forward.get_xdata(), float) == pytest.approx([7, 30], abs=0.001)
    for line in (at_forward, below, above):
        assert np.asarray(line.get_ydata(), float) == pytest.approx([60, 60])
    assert [label.get_text() for label in drawn.axes[1].get_xticklabels()] == ["8 Mar 26\n7.0 d", "31 Mar 26\n30 d"]


def test_a_surface_of_one_expiry_is_a_line(tmp_path: Path) -> None:
    write(tmp_path, "vol_surfaces", [fitted(0, EXPIRIES[0])])
    assert plots.save(vols.surface(tmp_path, None), tmp_path / "one.png").read_bytes().startswith(PNG)


def test_a_smile_shows_the_quotes_that_it_was_fitted_to_and_those_left_out(chains: Path) -> None:
    drawn = vols.smile(chains, "BTC")
    first, second = drawn.axes[:2]
    (bars,) = first.collections
    # Seven of nine, for one is of a stale book and one has a side only; and not what came after the fit.
    segments = np.array(bars.get_segments())  # type: ignore[attr-defined]
    assert segments[:, 0, 0] * 1000 == pytest.approx(STRIKES[1:-1])
    assert segments[:, :, 1] == pytest.approx(np.tile([59.0, 61.0], (7, 1)), abs=0.01)
    assert len(second.collections[0].get_segments()) == len(STRIKES)  # type: ignore[attr-defined]
    assert first.get_title(loc="left") == "8 Mar 26, 7.0 days; 100% inside, RMSE 0.10 points"
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert set(labels) == {"bid to ask", "one side only", "of a stale book", "SVI", "forward"}


def test_greeks_are_of_calls_from_the_last_row_of_each_option(chains: Path) -> None:
    drawn = vols.greeks(chains, None)
    assert "12:00:09.000 UTC; 36 options, by our surface" in texts(drawn)
    deltas = drawn.axes[0].get_lines()
    assert [line.get_label() for line in deltas] == ["8 Mar 26", "31 Mar 26"]
    assert np.asarray(deltas[0].get_xdata(), float) == pytest.approx([strike / 1000 for strike in STRIKES])
    assert np.asarray(deltas[0].get_ydata(), float) == pytest.approx([0.5] * len(STRIKES))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("surface", ["--from", "."], ".: no rows in vol_surfaces/"),
        ("smile", ["--from", "nowhere"], "nowhere: no such folder"),
        ("greeks", ["--from", "."], ".: no rows in chain_greeks/"),
        ("smile", ["--underlying", "SOL"], "no underlying 'SOL' among 2; none is like it"),
        ("surface", ["--underlying", "ETH"], "no expiry of ETH on venue was ever fitted; mostly: There is no forward."),
    ],
)
def test_what_volatility_cannot_be_drawn_is_said(
    name: str, arguments: list[str], message: str, chains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = RUNNER.invoke(app, ["plot", name, "--from", str(chains), *arguments])
    assert shown.exit_code == 1
    assert message in shown.output and len(shown.output.splitlines()) == 1


@pytest.mark.parametrize("table", ["instruments", "book_tops"])
def test_a_smile_without_terms_or_quotes_says_what_is_missing(table: str, chains: Path) -> None:
    (chains / table / f"{table}-0000.parquet").unlink()
    missing = "tickers/ or book_tops/" if table == "book_tops" else "instruments/"
    with pytest.raises(PlotError, match=f"no rows of BTC on venue in {missing}"):
        vols.smile(chains, None)


def test_greeks_of_which_none_has_a_price_are_said_to_be_so(tmp_path: Path) -> None:
    row = {"venue": "venue", "instrument": "A", "underlying": "BTC", "event_at": START, "expiry_at": EXPIRIES[0]}
    write(tmp_path, "chain_greeks", [row | {"strike_usd": 1.0, "option_type": "call", "reason": "There is no forward."}])
    with pytest.raises(PlotError, match=r"no option of BTC on venue has a price; mostly: There is no forward\."):
        vols.greeks(tmp_path, None)


@pytest.mark.parametrize("name", ["surface", "smile", "greeks"])
def test_help_says_what_each_picture_of_volatility_and_its_options_are(name: str) -> None:
    shown = RUNNER.invoke(app, ["plot", name, "--help"])
    assert shown.exit_code == 0
    assert all(word in shown.output for word in ("Draw", "--from", "--underlying", "--out", "Folder of Parquet files"))


def execution_run(folder: Path) -> Path:
    """Half an hour of a TWAP that misses a slice, with the market's tops and bars."""
    told: dict[str, Any] = {"account": "a", "venue": "venue", "instrument": "BTC-USD", "parent_client_order_id": "P1"}
    told |= {"algorithm": "twap", "side": "buy", "child_count": 1, "market_volume": Decimal(0), "working_quantity": Decimal(0)}
    states, traded = [], 0
    for number in range(30):
        traded += 0 if number == 12 else 10
        figures = {
            "quantity": Decimal(300),
            "scheduled_quantity": Decimal(10 * number + 10),
            "traded_quantity": Decimal(traded),
        }
        figures |= {"unsent_quantity": Decimal(300 - traded), "average_price": Decimal(100)}
        row = told | figures | {"event_at": at(60 * number), "number": number + 1, "status": "working"}
        states.append(row)
    refused = told | {
        "parent_client_order_id": "W",
        "event_at": at(1),
        "number": 1,
        "status": "refused",
        "quantity": Decimal(1),
    }
    write(folder, "execution_states", [*states[::-1], refused | {"working_quantity": None, "market_volume": None}])
    write(folder, "book_tops", [top(10 * i, 99.5 + i % 3, 100.5 + i % 3) for i in range(180)])
    bar = {"venue": "venue", "instrument": "BTC-USD", "interval_s": 60, "vwap": 100.0, "volume": 50.0, "trade_count": 3}
    write(folder, "bars", [bar | {"start_at": at(60 * i), "event_at": at(60 * i + 60)} for i in range(30)])
    quality = {column: told[column] for column in ("account", "venue", "instrument", "parent_client_order_id", "algorithm")}
    quality |= {"side": "buy", "event_at": at(1800), "shortfall": 0.0012, "against_vwap": -0.0003, "participation": 0.2}
    write(folder, "execution_quality", [quality])
    return folder


def test_the_schedule_of_a_large_order_is_drawn_against_its_fills(tmp_path: Path) -> None:
    run = execution_run(tmp_path / "run")
    drawn = executions.execution(run, "P1")
    said = texts(drawn)
    for words in ("twap P1: buy 300 BTC-USD on venue", "96.7% traded", "shortfall +12.0 bps", "against VWAP -3.0 bps"):
        assert words in said
    for label in ("schedule", "traded", "fills, by size", "bid", "ask", "each 60 s"):
        assert label in said
    amounts, prices, _ = drawn.axes
    scheduled, traded = (np.asarray(line.get_ydata(), dtype=float) for line in amounts.get_lines()[:2])
    assert (scheduled[-1], traded[-1]) == (300, 290)
    assert len(np.asarray(prices.collections[0].get_offsets())) == 29, "one for each slice that traded"
    result = RUNNER.invoke(app, ["plot", "execution", "--from", str(run), "--out", str(tmp_path / "one.png")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "one.png").read_bytes().startswith(PNG)


def test_a_picture_of_an_order_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    run = execution_run(tmp_path / "run")
    with pytest.raises(ValueError, match="no parent Q; there are P1"):
        executions.execution(run, "Q")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PlotError, match="no rows of a parent in execution_states/"):
        executions.execution(tmp_path / "empty", None)

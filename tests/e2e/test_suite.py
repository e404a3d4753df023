"""`gammaflow replay` as a user runs it, on captured traffic: its output, and that it leaves nothing else behind."""

import base64
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import time
import uuid
import zlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow.parquet as pq
import pytest

import schemas

SHARED = Path(__file__).resolve().parents[3] / "shared"
WS = SHARED / "captures" / "deribit" / "2021-07-22.ws.log"
REST = SHARED / "captures" / "deribit" / "2021-07-22.rest.log"
TRUTH = SHARED / "truth" / "deribit_greeks.csv"

needs_captures = pytest.mark.skipif(not WS.exists() or not REST.exists(), reason=f"no captures at {WS.parent}")
GAMMAFLOW = [str(Path(sys.executable).parent / "gammaflow")]
Row = dict[str, Any]


class Run(NamedTuple):
    """One call of the command."""

    code: int
    said: str  # on both streams
    seconds: float
    processes: list[str]  # left behind
    files: list[str]  # left behind in the folder for temporary files


def gammaflow(folder: Path, *arguments: str, timeout_s: float = 600.0) -> Run:
    """Run the command with `folder` as its folder for temporary files, and look for what it leaves behind."""
    folder.mkdir()
    mark = uuid.uuid4().hex
    env = environment(folder, mark)
    started = time.monotonic()
    try:
        done = subprocess.run([*GAMMAFLOW, *arguments], env=env, capture_output=True, text=True, timeout=timeout_s, cwd=folder)
        seconds = time.monotonic() - started
        left = [" ".join(process.cmdline()) for process in marked(mark)]
    finally:
        for process in marked(mark):
            process.kill()
    files = sorted(path.name for path in folder.glob("gammaflow-*"))
    return Run(done.returncode, done.stdout + done.stderr, seconds, left, files)


def environment(folder: Path, mark: str) -> dict[str, str]:
    """An environment without the user's own runtime; Java's second compiler, which does not pay off in a minute, is off."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("GAMMAFLOW_") or key == "GAMMAFLOW_CACHE"}
    java = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
    return {**own, **java, "TMPDIR": str(folder), "GAMMAFLOW_TEST_MARK": mark, "COLUMNS": "200"}


def marked(mark: str) -> list[psutil.Process]:
    """The processes that were started with this mark in their environment."""
    running: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("GAMMAFLOW_TEST_MARK") == mark:
                running.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return running


class Replay(NamedTuple):
    """One replay and its tables."""

    run: Run
    tables: dict[str, list[Row]]


def replay(folder: Path, ws: Path, *options: str) -> Replay:
    """Replay websocket and REST traffic."""
    out = folder / "out"
    folder.mkdir(exist_ok=True)
    captures = ["--capture", f"deribit:{ws}", "--capture", f"deribit:{REST}"]
    run = gammaflow(folder / "tmp", "replay", *captures, "--out", str(out), *options)
    assert run.code == 0, run.said
    assert sorted(path.name for path in out.iterdir()) == schemas.kept()
    return Replay(run, {name: table(out / name) for name in schemas.kept()})


def table(folder: Path) -> list[Row]:
    """The rows of a folder of Parquet files."""
    return [row for file in sorted(folder.iterdir()) for row in pq.ParquetFile(file).read().to_pylist()]


def utc(instant: datetime) -> datetime:
    """An instant of the files, whose values are in UTC without saying so."""
    return instant.replace(tzinfo=UTC)


def contents(rows: list[Row]) -> list[str]:
    """The rows in a fixed order."""
    return sorted(map(repr, rows))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """The captures as they are, at full speed."""
    return replay(tmp_path_factory.mktemp("clean"), WS)


@pytest.fixture(scope="module")
def damage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str | None, str, str]]]:
    """The websocket capture with bad lines between the good ones, gzipped and cut off; and what its dead letters must say:
    line, field, expectation and offending value, each at least in part.
    """
    good = WS.read_text().splitlines()
    ticker = next(line for line in good if '"channel":"ticker.' in line)
    book = next(line for line in good if '"type":"change"' in line)
    asks = r'"asks":\[.*?\](?=[,}])'
    wrong: list[tuple[str, str | None, str, str]] = [
        (ticker[: len(ticker) // 2], None, "a JSON message", "jsonrpc"),
        ("no capture has such a line", "received", "a time of receipt", "no capture has"),
        (re.sub(r'"mark_price":[^,]+,', "", ticker), "mark_price", "a number not below 0", "missing"),
        (re.sub(asks, '"asks":[["new","NaN",1.0]]', book), "asks", "levels of a price above 0", "'NaN'"),
        (re.sub(asks, '"asks":[["new",NaN,1.0]]', book), None, "a JSON message", "jsonrpc"),
        (re.sub(asks, '"asks":[["new",0.001,-2.6]]', book), "asks", "a size from 0", "-2.6"),
        (re.sub(r'"timestamp":\d+', '"timestamp":0', ticker), "timestamp", "at most 86400 s behind", "0, "),
        (
            re.sub(r'"timestamp":(\d+)', r'"timestamp":1658529723000', book),
            "timestamp",
            "at most 60 s ahead",
            "1658529723000, ",
        ),
    ]
    lines, letters = good[:30], []
    for number, (text, field, expected, got) in enumerate(wrong):
        assert text not in good
        lines.append(text)
        letters.append((len(lines), field, expected, got))
        lines.append(good[30 + number])
    lines += good[30 + len(wrong) :]
    letters.append((len(lines) + 1, None, "a file that can be read to its end", f"after line {len(lines)}"))
    packer = zlib.compressobj(wbits=31)
    whole = packer.compress(("\n".join(lines) + "\n").encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
    path = tmp_path_factory.mktemp("damaged") / "broken.ws.log.gz"
    path.write_bytes(whole + (packer.compress(ticker.encode()) + packer.flush())[:-12])
    return path, letters


ANSWERING = "books,chains,option_greeks,book_metrics,venue_clocks,positions,liquidations"
"""The jobs that make rows of the captures, and those whose rows they read."""


@pytest.fixture(scope="module")
def damaged(damage: tuple[Path, list[tuple[int, str | None, str, str]]]) -> Replay:
    """The damaged capture, replayed at ten times its own pace and parallelism 2."""
    return replay(damage[0].parent, damage[0], "--speed", "10", "--parallelism", "2", "--jobs", ANSWERING)


def messages(kind: str) -> list[Row]:
    """The data of every captured message of a kind of channel."""
    received = [
        json.loads(line.partition(": ")[2]) for line in WS.read_text().splitlines() if '"method":"subscription"' in line
    ]
    return [message["params"]["data"] for message in received if message["params"]["channel"].startswith(kind)]


def listed() -> list[Row]:
    """The contracts in the REST answers."""
    lines = [line for line in REST.read_text().splitlines() if line.startswith("https://")]
    return [item for line in lines for item in json.loads(line.partition(": ")[2])["result"]]


@needs_captures
def test_every_message_of_the_capture_is_one_row(clean: Replay) -> None:
    counts = {name: len(rows) for name, rows in clean.tables.items() if rows}
    assert counts["tickers"] == counts["option_greeks"] == len(messages("ticker"))
    assert counts["order_books"] == len(messages("book"))
    terms = {(row["venue"], row["instrument"]) for row in clean.tables["instruments"]}
    assert terms == {("deribit", item["instrument_name"]) for item in listed() if "combo" not in item["kind"]}
    books = {"order_books", "venue_times", "book_tops", "book_depth", "book_metrics", "venue_clocks"}
    chains = {"forwards", "vol_surfaces", "chain_greeks"}
    assert set(counts) == {"tickers", "option_greeks", "instruments", "trading_halts", "margin_scalings"} | books | chains
    tops = Counter(row["instrument"] for row in clean.tables["book_tops"])
    assert all(tops[name] <= count for name, count in Counter(data["instrument_name"] for data in messages("book")).items())
    assert set(tops) == {data["instrument_name"] for data in messages("book")}


@needs_captures
def test_the_command_accounts_for_every_line(clean: Replay) -> None:
    summary = re.search(r"Lines in: ([\d,]+) = (.+)", clean.run.said)
    assert summary is not None
    lines = len(WS.read_text().splitlines()) + len(REST.read_text().splitlines())
    assert int(summary[1].replace(",", "")) == lines
    assert sum(int(number) for number in re.findall(r"\d+", summary[2].replace(",", ""))) == lines
    for name, rows in clean.tables.items():
        assert re.search(rf"^\s*{name}\s+{len(rows):,}\s*$", clean.run.said, re.MULTILINE), name


@needs_captures
def test_every_ticker_is_the_rebuilt_top_at_its_exchange_time(clean: Replay) -> None:
    sides = ("bid_price", "bid_size", "ask_price", "ask_size")
    compared = 0
    for ticker in clean.tables["tickers"]:
        tops = [
            row
            for row in clean.tables["book_tops"]
            if row["instrument"] == ticker["instrument"] and row["event_at"] <= ticker["event_at"]
        ]
        if tops:
            top = max(tops, key=lambda row: (row["event_at"], row["sequence"]))
            assert not top["is_stale"]
            assert [top[side] for side in sides] == [ticker[side] for side in sides], ticker
            compared += 1
    assert compared > 75


@needs_captures
@pytest.mark.skipif(not TRUTH.exists(), reason=f"no {TRUTH}")
def test_greeks_are_the_exchanges_own(clean: Replay) -> None:
    own = {(row["instrument"], round(utc(row["event_at"]).timestamp() * 1000)): row for row in clean.tables["option_greeks"]}
    with TRUTH.open() as file:
        truth = [row for row in csv.DictReader(file) if "2021-07-22" in row["source"]]
    assert len(truth) == len(own) == len(clean.tables["option_greeks"])
    prices: list[float] = []
    for row in truth:
        computed = own[row["instrument"], int(row["ts_ms"])]
        assert computed["reason"] is None
        prices.append(abs(computed["price_coin"] - float(row["mark_price"])))
        for name, tolerance in (("delta", 1e-4), ("gamma", 5e-6), ("vega", 0.02)):
            assert computed[name] == pytest.approx(float(row[name]), abs=tolerance), (name, row)
    assert statistics.median(prices) <= 1e-5
    assert max(prices) <= 1.1e-3


@needs_captures
def test_bad_lines_become_dead_letters_that_name_file_line_field_and_expectation(
    damage: tuple[Path, list[tuple[int, str | None, str, str]]], damaged: Replay
) -> None:
    path, expected = damage
    letters = sorted(damaged.tables["dead_letters"], key=lambda row: row["offset"])
    assert [(row["offset"], row["field"]) for row in letters] == [(line, field) for line, field, _, _ in expected]
    text = zlib.decompressobj(wbits=31).decompress(path.read_bytes()).decode().split("\n")
    said = " ".join(damaged.run.said.split())
    for row, (line, field, what, got) in zip(letters, expected, strict=True):
        assert row["source"] == str(path)
        assert row["partition"] is None
        assert what in row["expected"]
        assert got in row["got"]
        assert text[line - 1].endswith(original(row))
        assert f"{path}, field {field or '(the whole)'}: expected {row['expected']}; e.g. offset" in said
    received = [utc(row["event_at"]) for row in letters]
    start = datetime(2021, 7, 22, 22, tzinfo=UTC)
    assert all(start < at < start + timedelta(hours=2) for at in received)


def original(row: Row) -> str:
    """The input of a dead letter."""
    value: bytes = row["original"]
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError:
        return value.decode()


@needs_captures
@pytest.mark.parametrize("name", sorted(set(schemas.kept()) - {"dead_letters"}))
def test_neither_bad_lines_nor_pace_nor_parallelism_change_a_good_row(name: str, clean: Replay, damaged: Replay) -> None:
    assert contents(damaged.tables[name]) == contents(clean.tables[name])


@needs_captures
@pytest.mark.parametrize("which", ["clean", "damaged"])
def test_a_replay_leaves_nothing_behind(which: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(which).run
    assert run.processes == []
    assert run.files == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--capture", "kraken:some.log", "--out", "out"], "unknown venue 'kraken'"),
        (["--capture", "deribit:none.log", "--out", "out"], "none.log: No such file"),
        (["--capture", "deribit:.", "--out", "out"], ".: a directory"),
        (["--capture", "some.log", "--out", "out"], "expected venue:file"),
        (["--capture", "deribit:some.log", "--out", "full"], "full is not empty"),
        (["--capture", "deribit:some.log", "--out", "out", "--speed", "fast"], "'fast'"),
        (["--capture", "deribit:some.log", "--out", "out", "--speed", "0"], "'0'"),
    ],
)
def test_bad_input_is_named_before_anything_is_started(tmp_path: Path, arguments: list[str], named: str) -> None:
    (tmp_path / "some.log").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "of.something").write_text("")
    options = [str(tmp_path / text) if text in ("out", "full") else text for text in arguments]
    options = [f"deribit:{tmp_path / text[8:]}" if text == "deribit:some.log" else text for text in options]
    run = gammaflow(tmp_path / "tmp", "replay", *options, timeout_s=60)
    assert run.code != 0
    assert named in " ".join(run.said.split())
    assert "Traceback" not in run.said
    assert (run.processes, run.files) == ([], [])
    assert not (tmp_path / "out").exists()
    assert not re.search("Kafka broker|Flink cluster", run.said)


def test_a_run_that_is_told_to_stop_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "some.log").write_text("")
    folder = tmp_path / "tmp"
    folder.mkdir()
    mark = uuid.uuid4().hex
    env = {**environment(folder, mark), "PYTHONUNBUFFERED": "1"}
    command = [*GAMMAFLOW, "replay", "--capture", f"deribit:{tmp_path / 'some.log'}", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("Flink cluster" in line for line in process.stdout)
            assert len(marked(mark)) > 1
            process.terminate()
            said = process.stdout.read()
            assert process.wait(60) == 130
        finally:
            left = marked(mark)
            for other in left:
                other.kill()
    assert "gammaflow: stopped" in said
    assert left == []
    assert list(folder.glob("gammaflow-*")) == []

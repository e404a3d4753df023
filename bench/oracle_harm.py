"""Whether each harm to a source of an oracle is found in time and rightly named, and nothing is found where there is none.

The simulator's sources, books and trades go through the kernels `books` and `oracles` as fast as they can, without Flink and
Kafka: by the timestamps that a feed gives them, in windows of 100 ms, what comes behind the watermark as late.  What
jobs/oracle_faults.sql makes of their rows is computed by SQLite from the text of that file: its views `signs`, `held`, `faults`
and the last one.  Only MATCH_RECOGNIZE is put in other words, as any two rows in sequence that differ in their fault.

A harm must be found within the limit of its source, 20 of its median gaps but at least two seconds, and 200 ms; its time runs
from its first instant to the `event_at` of the row.  What is found must be that harm and nothing else.

    quiet    an hour of a market in which nothing is wrong: nothing may be found
    scripts  an hour in which one source after another is harmed in every way
    moves    markets that fall by some per cent in three seconds, in each of which two sources are late with the move
"""

import random
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
import orjson
import typer

import jobs
from bench.passes import BenchError
from bench.report import Figures, run_chosen
from engine import batch
from engine.contract import Lines, Message
from feeds import Record
from feeds.clocks import Clocks
from feeds.publish import SPOKEN
from feeds.simulator import SOURCES, Harm, Scenario, simulate
from feeds.simulator.harm import PRICES, harmed, source_of
from feeds.simulator.sources import COINS
from kernels import books, oracles
from schemas.records import TABLES
from schemas.rows import encoded, instant_ms, instant_us, to_ms

WINDOW_MS, DELAY_MS = 100, 100
"""Of the job `oracles`, and how long jobs wait for rows that are out of order."""
LEAST_MS, GAPS, HABIT, SLACK_MS = 2_000, 20, 16, 200
QUIET = Scenario(
    duration_s=3_600,
    crash_size=0.0,
    book_updates_per_s=40,
    tickers_per_s=0,
    trades_per_s=8,
    fills_per_s=0,
    strikes=1,
    expiries=1,
    depth=2,
    accounts=0,
    doomed=0,
    sources=SOURCES,
)
"""A market in which nothing is wrong, with quiet books."""
READ = frozenset({"instruments", "index_prices", "oracle_updates", "trades", "book_tops"})

Row = dict[str, Any]


class Kernels:
    """The kernels from the rows of feeds to those of `oracle_sources`."""

    def __init__(self) -> None:
        self.books, self.oracles = books.KERNEL.new(), oracles.KERNEL.new()
        self.clocks = Clocks()
        self.offsets_ms: dict[str, int] = {}
        self.until_ms = 0  # the end of the last window that is closed
        self.waiting: dict[int, list[Message]] = defaultdict(list)  # by the end of their window
        self.letters: list[Row] = []
        self.count = self.row_count = 0  # of the rows taken, and of those given

    def play(self, records: Iterable[Record]) -> Iterator[Row]:
        """The rows of `oracle_sources` that come of records in the order of their arrival."""
        for record in records:
            yield from self._take(record)
        for end_ms in range(self.until_ms + WINDOW_MS, max(self.waiting, default=0) + 1, WINDOW_MS):
            yield from self._close(end_ms)

    def _take(self, record: Record) -> Iterator[Row]:
        row = dict(record.row)
        self.count += 1
        stamp_ms = self.clocks.timestamp_ms(row, record.event_ms, record.table in SPOKEN)
        now_ms = self.clocks.common_ms(to_ms(row["received_at"]) if row.get("received_at") else record.event_ms) - DELAY_MS
        if not self.until_ms:
            self.until_ms = now_ms // WINDOW_MS * WINDOW_MS
        for end_ms in range(self.until_ms + WINDOW_MS, now_ms + 1, WINDOW_MS):
            yield from self._close(end_ms)
        message = Message(record.table, 0, self.count, row)
        if stamp_ms < self.until_ms:
            yield from self._ran([message], None)
        else:
            self.waiting[(stamp_ms // WINDOW_MS + 1) * WINDOW_MS].append(message)

    def _close(self, end_ms: int) -> Iterator[Row]:
        self.until_ms = end_ms
        messages = self.waiting.pop(end_ms, [])
        for venue, offset_ms in self.clocks.offsets_ms().items():
            if offset_ms != self.offsets_ms.get(venue, 0):
                self.offsets_ms[venue] = offset_ms
                at = {"event_at": instant_ms(end_ms - 1), "received_at": instant_us((end_ms - 1) * 1000)}
                messages.append(Message("venue_times", 0, self.count, {"venue": venue, "offset_ms": offset_ms} | at))
        yield from self._ran(messages, end_ms)

    def _ran(self, messages: list[Message], until_ms: int | None) -> Iterator[Row]:
        updates = [message for message in messages if message.table == "order_books"]
        heard = [message for message in messages if message.table in READ or message.table == "venue_times"]
        if updates:
            heard += self._tops(updates, until_ms)
        outputs = oracles.KERNEL.step(self.oracles, heard, until_ms) if heard else []
        lines = batch.encode(outputs) + ([] if until_ms is None else oracles.end_window(self.oracles, until_ms))
        self.letters += _rows(lines, "dead_letters")
        rows = _rows(lines, "oracle_sources")
        self.row_count += len(rows)
        yield from rows

    def _tops(self, updates: list[Message], until_ms: int | None) -> list[Message]:
        topic = TABLES["order_books"].topic.encode()
        data = batch.RECORD.join(
            batch.FIELD.join((topic, b"0", b"%d" % message.offset, encoded(message.row))) for message in updates
        )
        lines = batch.run(books.KERNEL, self.books, data, until_ms)
        return [Message("book_tops", 0, self.count, row) for row in _rows(lines, "book_tops")]


def _rows(lines: list[Lines], table: str) -> list[Row]:
    return [
        row for part in lines if part.table == table for row in orjson.loads(b"[" + part.values.replace(b"\n", b",") + b"]")
    ]


# --- What the job says of the rows


COLUMNS = (
    *("underlying", "source", "kind", "price_usd", "consensus_usd", "deviation", "age_ms", "silent_ms", "limit_ms", "still_ms"),
    *("still_limit_ms", "moved", "lag_ms", "step_back_ms"),
)
CHUNK_MS, KEPT_MS = 60_000, 2_000
CHANGES = """
CREATE TEMPORARY TABLE changes AS
SELECT * FROM (
  SELECT *, fault AS new_fault, event_at AS closed_at,
    LAG(fault) OVER (PARTITION BY `partition`, underlying, source ORDER BY event_at) AS old_fault
  FROM held
) WHERE old_fault <> new_fault
"""
"""The view `changes` without MATCH_RECOGNIZE: any two rows in sequence that differ."""


def faults(sources: Iterable[Row]) -> Iterator[Row]:
    """The rows of `oracle_faults`, by the text of the job, of rows of `oracle_sources` in the order of their time."""
    views = _views()
    kept: list[tuple[Any, ...]] = []
    since_ms = told_ms = 0
    for row in sources:
        # The record timestamp, which is what the job reads as `event_at`.
        event_ms = to_ms(row["event_at"]) - 1
        since_ms = since_ms or event_ms
        if event_ms >= since_ms + CHUNK_MS:
            yield from _decided(views, kept, told_ms)
            told_ms, since_ms = kept[-1][0], event_ms
            kept = [one for one in kept if one[0] > told_ms - KEPT_MS]
        kept.append((event_ms, *(row[column] for column in COLUMNS)))
    yield from _decided(views, kept, told_ms)


def _views() -> dict[str, str]:
    text = (Path(jobs.__file__).parent / "oracle_faults.sql").read_text(encoding="utf-8")
    bare = re.sub(r"--[^\n]*", "", text)
    bare = bare.replace("CAST(closed_at + INTERVAL '0.001' SECOND AS TIMESTAMP_LTZ(3))", "closed_at + 1")
    bare = bare.replace("CAST(closed_at AS TIMESTAMP_LTZ(3))", "closed_at")
    views = {match[1]: match[0] for match in re.finditer(r"CREATE TEMPORARY VIEW (\w+)[^;]*;", bare)}
    return views | {"changes": CHANGES}


def _decided(views: Mapping[str, str], rows: list[tuple[Any, ...]], told_ms: int) -> list[Row]:
    """The faults after an instant; of what was before it the rows are there that decide about the first ones after it."""
    database = sqlite3.connect(":memory:")
    database.create_function("IF", 3, lambda holds, then, otherwise: then if holds else otherwise, deterministic=True)
    database.create_function("GREATEST", 2, lambda a, b: None if a is None or b is None else max(a, b), deterministic=True)
    database.create_function("ELT", -1, lambda place, *values: values[place - 1], deterministic=True)
    types = {"underlying": "TEXT", "source": "TEXT", "kind": "TEXT", "step_back_ms": "BIGINT"}
    columns = ", ".join(f"{column} {types.get(column, 'DOUBLE')}" for column in COLUMNS)
    database.execute(f"CREATE TABLE oracle_sources (`partition` INT, event_at BIGINT, {columns})")
    database.executemany(f"INSERT INTO oracle_sources VALUES (0{', ?' * (1 + len(COLUMNS))})", rows)
    for name in ("signs", "held", "changes", "faults", "oracle_faults_rows"):
        database.execute(views[name])
    database.row_factory = sqlite3.Row
    found = database.execute("SELECT * FROM oracle_faults_rows WHERE closed_at > ? ORDER BY closed_at, source", [told_ms])
    answer = [dict(row) for row in found]
    database.close()
    return answer


# --- Whether these are the harms that were done


class Verdict(NamedTuple):
    """How long a harm took to be found, as what it is."""

    harm: Harm
    limit_ms: float
    took_ms: float | None  # None where it was not found

    @property
    def is_in_time(self) -> bool:
        """Whether it was found within its limit."""
        return self.took_ms is not None and self.took_ms <= self.limit_ms + SLACK_MS


class Trial(NamedTuple):
    """What came of one scenario."""

    verdicts: list[Verdict]
    alarms: list[Row]  # rows of `oracle_faults` of which there is no harm
    row_count: int  # of `oracle_sources`

    @property
    def failures(self) -> list[str]:
        """Harms that were not found in time, and false alarms, in words."""
        late = [f"{one.harm}: found after {one.took_ms} ms of {one.limit_ms:g}" for one in self.verdicts if not one.is_in_time]
        false = [
            f"{row['source']} of {row['underlying']} is no {row['kind']}, {instant_ms(row['event_at'])}" for row in self.alarms
        ]
        return late + false


def tried(scenario: Scenario) -> Trial:
    """Play a scenario, and compare what is found with the harms that it does."""
    published_ms: dict[str, list[int]] = defaultdict(list)

    def noted(records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            if record.table in PRICES:
                published_ms[source_of(record.table, record.row)].append(record.event_ms)
            yield record

    kernels, unharmed = Kernels(), simulate(replace(scenario, harms=()))
    told = list(faults(kernels.play(harmed(noted(unharmed), scenario.harms))))
    began = [row for row in told if not row["is_over"]]
    verdicts, named = [], []
    for harm in scenario.harms:
        gaps = [
            # By the habit that it has just before: the newest 16 prices.
            median(np.diff([ms for ms in times if ms < harm.from_ms][-HABIT:]).tolist())
            for source, times in published_ms.items()
            if source == harm.source or (harm.kind == "depeg" and source.split(":")[2:] == [harm.source])
        ]
        limit_ms = max(LEAST_MS, GAPS * median(gaps))
        its = [
            row
            for row in began
            if (row["source"], row["kind"]) == harm.fault
            and (harm.kind != "depeg" or row["underlying"] == harm.source)
            # What is behind the watermark is taken at once, and so in a tick before its own.
            and harm.from_ms - DELAY_MS <= row["event_at"] <= max(harm.until_ms, harm.from_ms + limit_ms) + SLACK_MS
        ]
        verdicts.append(Verdict(harm, limit_ms, max(0.0, its[0]["event_at"] - harm.from_ms) if its else None))
        named += its
    return Trial(verdicts, [row for row in began if row not in named], kernels.row_count)


# --- The scripts


SLOW = "sim_rounds"
"""A publisher that speaks once a minute: it has a habit after six, and a limit of twenty."""
HARM_MS, EACH_MS = 40_000, 66_000
"""How long a harm lasts, and the time from one to the next."""


def scripted(scenario: Scenario, seed: int = 1) -> Scenario:
    """The scenario with all that can be done to its sources, one after the other, in an order by chance.

    A coin's rates are not frozen: while a coin stands still, so may they.
    """
    chance, start_ms = random.Random(seed), scenario.start_ms
    quick = [
        (kind, source)
        for source in scenario.source_names
        if SLOW not in source
        for kind in ("freeze", "withhold", "spike", "step_back")
        if kind != "freeze" or source.split(":")[2].partition("/")[0] in COINS
    ]
    chance.shuffle(quick)
    harms = []
    for number, (kind, source) in enumerate(quick):
        from_ms = start_ms + EACH_MS * (number + 1) + chance.randrange(1_000)
        if from_ms + EACH_MS <= start_ms + 1000 * (scenario.duration_s - 130):
            harms.append(Harm(kind, source, from_ms, from_ms + HARM_MS))
    end_ms = start_ms + 1000 * scenario.duration_s
    harms.append(Harm("depeg", "USDT", end_ms - 120_000, end_ms - 60_000))
    if scenario.duration_s >= 3_600:
        bitcoin, ether = (f"{SLOW}:publisher:{coin}/USD" for coin in COINS)
        harms += [
            Harm("freeze", ether, start_ms + 500_000, start_ms + 2_200_000),
            Harm("withhold", bitcoin, start_ms + 500_000, start_ms + 2_200_000),
            Harm("spike", bitcoin, start_ms + 2_500_000, start_ms + 2_640_000),
            # By more than from one price of it to the next: else its time goes on.
            Harm("step_back", ether, start_ms + 2_500_000, start_ms + 2_640_000, 90_000.0),
        ]
    return replace(scenario, harms=tuple(harms))


def moving(fall: float, source: str, seed: int) -> Scenario:
    """A minute in which prices fall by a fraction at half time, and a source is late with it; `{}` is a coin in its name."""
    scenario = replace(QUIET, duration_s=60, crash_at_s=30.0, crash_size=fall, seed=seed)
    from_ms, until_ms = scenario.start_ms + 30_000, scenario.start_ms + 60_000
    return replace(scenario, harms=tuple(Harm("delay", source.format(coin), from_ms, until_ms) for coin in COINS))


LATE = ("sim_oracle:index:{}", "sim_beta:index:{}:USDT", "sim_gamma:index:{}:USDT", "sim_slots:publisher:{}/USD")
FALLS = (0.006, 0.01)


def quiet() -> Figures:
    """The hour in which nothing is wrong."""
    trial = tried(QUIET)
    if trial.failures:
        raise BenchError("; ".join(trial.failures))
    return {"quiet_event_s": QUIET.duration_s, "quiet_source_rows": trial.row_count, "quiet_false_alarms": len(trial.alarms)}


def harm() -> Figures:
    """The scripts, and the moves.  Raises `BenchError` where a harm is found too late, or what is none is found."""
    trials = [tried(scripted(QUIET))]
    trials += [tried(moving(fall, source, seed)) for seed, fall in enumerate(FALLS, 1) for source in LATE]
    if failures := [failure for trial in trials for failure in trial.failures]:
        raise BenchError("; ".join(failures))
    verdicts = [verdict for trial in trials for verdict in trial.verdicts if verdict.took_ms is not None]
    took_ms = [verdict.took_ms or 0.0 for verdict in verdicts]
    # A publisher that speaks once a minute has its own habit: it says nothing of the others.
    quick_ms = [took for took, verdict in zip(took_ms, verdicts, strict=True) if SLOW not in verdict.harm.source]
    after_ms = [took - verdict.limit_ms for took, verdict in zip(took_ms, verdicts, strict=True)]
    return {
        "harms_done": len(verdicts),
        "harms_false_alarms": 0,
        "fault_detection_p50_ms": round(float(np.median(quick_ms)), 1),
        "fault_detection_p99_ms": round(float(np.percentile(quick_ms, 99)), 1),
        "fault_detection_slow_max_ms": round(max(took_ms), 1),
        "fault_detection_after_limit_p99_ms": round(float(np.percentile(after_ms, 99)), 1),
        "fault_detection_after_limit_max_ms": round(max(after_ms), 1),
    }


PARTS: dict[str, Callable[[], Figures]] = {"oracle_quiet": quiet, "oracle_harm": harm}


def main(
    parts: Annotated[str, typer.Option(help=f"Which parts, of {','.join(PARTS)}.")] = ",".join(PARTS),
) -> None:
    """Measure how harms to sources of an oracle are found; other parts of the benchmark of controls keep their figures."""
    run_chosen("controls", PARTS, parts)


if __name__ == "__main__":
    typer.run(main)

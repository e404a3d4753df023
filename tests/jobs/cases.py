"""A case: a folder `<job or stage>/<a sentence>` of rows given and rows expected, under names and at a time of its own.

Files use any names and any time: `Play` gives what is published a suffix by case and pass, and moves it in time, so that all
cases lie side by side in the same minute; what is read is put back.
"""

import json
import math
import re
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jobs
from kernels.matching.rules import RULES
from schemas.records import TABLES
from schemas.rows import instant_ms, to_ms, to_us

FOLDER = Path(__file__).parent
AFTER_MS = 1000
"""How long after its last given row a case's rows count.  Also: what is further behind is late for certain."""
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
MINUTE_OF_DAY_MS = DAY_MS - 2 * MINUTE_MS
"""Where all cases begin, 23:58: a minute, an hour and a day end soon after it."""
PASSES = ("straight", "crash", "rescale")
STAGES = {
    "book_depth": ["book_depth"],
    "exposures": ["risk_exposures", "limit_breaches"],
    "margin": ["account_margin", "position_margin", "margin_scalings"],
    "venue_market": ["venue_order_books", "venue_trades", "venue_tickers"],
}
"""Tables of a stage of a job: only the cases of the folder with its name, or with a file for them, check these."""
FAULTS = {"dead_letters", "feed_faults"}
QUOTES = {"USD", "USDC", "USDT"}
"""Currencies that keep their names."""
MARGINED = {"BTC", "ETH"}
"""Currencies that sets of margin parameters know by name: they keep it in cases of margin."""
NAMED = ("venue", "account", "subject", "underlying", "instrument", "currency", "settlement_currency", "quote_currency")
INSTANT = re.compile(r"\b(?:202[5-7])-\d\d-\d\dT\d\d:\d\d:\d\d")
SUFFIX = re.compile(r"\.c(\d+)([scr])(\d+)(?![0-9])")

Row = dict[str, Any]
Rows = dict[str, list[Row]]


@dataclass(frozen=True)
class Case:
    """One folder."""

    folder: str  # a job, or a stage of one
    sentence: str

    @property
    def job(self) -> str:
        """The job that it is a case of."""
        if self.folder in jobs.FLOW:
            return self.folder
        return next(name for name in jobs.FLOW if STAGES[self.folder][0] in jobs.job(name).writes)

    @property
    def checked(self) -> list[str]:
        """The tables whose rows it must name all, however few."""
        writes = jobs.job(self.job).writes
        if self.folder in STAGES:
            own = {*STAGES[self.folder], *FAULTS}
        else:
            own = set(writes) - {table for tables in STAGES.values() for table in tables}
        return [table for table in writes if table in own | set(self.expected)]

    @cached_property
    def expected(self) -> Rows:
        """The rows expected, by table."""
        return self._rows("expect")

    @cached_property
    def given(self) -> list[tuple[str, Row]]:
        """The rows given, with their tables, in the order in which they come."""
        rows = [(table, row) for table, rows in self._rows("given").items() for row in rows]
        return sorted(rows, key=lambda item: to_us(item[1].get("received_at") or item[1]["event_at"]))

    def _rows(self, side: str) -> Rows:
        files = sorted((FOLDER / self.folder / self.sentence / side).glob("*.jsonl"))
        return {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files}

    @property
    def has_own_minute(self) -> bool:
        """Whether what it shows would be other beside the rows of others: a file `own_minute` says so."""
        return (FOLDER / self.folder / self.sentence / "own_minute").exists()

    @property
    def tables(self) -> set[str]:
        """The tables that it gives."""
        return {table for table, _ in self.given}

    @property
    def needed(self) -> list[str]:
        """The jobs that play it: its own, those through which its rows come, and those whose letters it expects."""
        sources = {row["source"] for row in self.expected.get("dead_letters", []) if "source" in row}
        needed = {
            name
            for name in jobs.FLOW
            if sources & set(jobs.job(name).topics) and "dead_letters" in jobs.job(name).writes and name != "archive"
        }
        ahead = [self.job]
        while ahead:
            name = ahead.pop()
            needed.add(name)
            missing = set(jobs.job(name).reads) - self.tables
            ahead += [
                other
                for other in jobs.upstream([name])
                if other not in needed and missing & set(jobs.job(other).writes) and self._reaches(other)
            ]
        return [name for name in jobs.FLOW if name in needed]

    def _reaches(self, job: str) -> bool:
        """Whether a job has from its given rows what it makes rows of; terms and indices alone make none."""
        reads = {table for name in jobs.upstream([job]) for table in jobs.job(name).reads}
        return bool(reads & self.tables - {"instruments", "index_prices"})

    @property
    def start_ms(self) -> int:
        """When its first row is received."""
        received = (to_ms(row.get("received_at") or row["event_at"]) for _, row in self.given)
        return min(ms for ms in received if ms > to_ms("2026-01-01T00:00:00Z"))

    @property
    def end_ms(self) -> int:
        """Until when its rows count."""
        return max(to_ms(row["event_at"]) for _, row in self.given if row["event_at"] < "2027") + AFTER_MS

    @property
    def names(self) -> set[str]:
        """Its venues, accounts and underlyings."""
        columns = ("venue", "account", "underlying")
        names = {row[column] for _, row in self.given for column in columns if isinstance(row.get(column), str)}
        for _, row in self.given:
            names.update(re.findall(r'"(?:venue|account|underlying)"\s*:\s*"([^"]*)"', row.get("raw", "")))
            names.update(re.findall(r"^[^:]*", row.get("key", "")))
        # Matching knows its venues by name.
        own = set(RULES.fees) if self.folder == "matching" else set()
        return names - QUOTES - (MARGINED if self.folder == "margin" else set()) - own - {""}

    def __str__(self) -> str:
        return f"{self.folder}-{self.sentence}"


FOLDERS = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir() and folder.name in {*jobs.FLOW, *STAGES})
CASES = [
    Case(folder, path.name) for folder in FOLDERS for path in sorted((FOLDER / folder).iterdir()) if (path / "given").is_dir()
]


@dataclass(frozen=True)
class Play:
    """One case in one pass: its names, and its place in time."""

    case: Case
    way: str  # the pass
    day_ms: int  # midnight in the first pass; whole hours later in the others
    later_ms: int = 0  # than the day's first cases, whole minutes

    @property
    def suffix(self) -> str:
        """What its names end with."""
        return f".c{CASES.index(self.case)}{self.way[0]}{self.day_ms // DAY_MS}"

    @cached_property
    def shift_ms(self) -> int:
        """How far it is moved: by whole minutes, or by whole hours where an hour ends in it, so that it still does."""
        start_ms = self.case.start_ms
        if start_ms // HOUR_MS != (self.case.end_ms - AFTER_MS) // HOUR_MS:
            to_hour_ms = self.day_ms + MINUTE_OF_DAY_MS // HOUR_MS * HOUR_MS
            return to_hour_ms + self.later_ms - start_ms // HOUR_MS * HOUR_MS
        return self.day_ms + MINUTE_OF_DAY_MS + self.later_ms - start_ms // MINUTE_MS * MINUTE_MS

    def published(self, row: Row) -> Row:
        """A given row under its own names and at its own time."""
        named = {column: self._named(column, value) for column, value in row.items()}
        return dict(json.loads(_moved(json.dumps(named), self.shift_ms)))

    def _named(self, column: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if column == "raw":
            pattern = rf'("(?:{"|".join(NAMED)})"\s*:\s*")([^"]*)'
            text = re.sub(pattern, lambda match: match[1] + self._renamed(match[2]), value)
            # Whatever else it is, its letter must be known for its own.
            return re.sub(rf'(\["(?:{"|".join(map(re.escape, self.case.names))}))(")', rf"\1{self.suffix}\2", text)
        if column == "key":
            return ":".join(map(self._renamed, value.split(":")))
        return self._renamed(value) if column in NAMED else value

    def _renamed(self, value: str) -> str:
        longest_first = sorted(self.case.names, key=len, reverse=True)
        name = next((name for name in longest_first if re.fullmatch(rf"{re.escape(name)}(?:[-_].*)?", value)), None)
        return value if name is None else f"{name}{self.suffix}{value[len(name) :]}"

    def read(self, text: str) -> Row:
        """A row that was written, under the names and at the time of the files."""
        return dict(json.loads(_moved(SUFFIX.sub("", text), -self.shift_ms)))


def readable(table: str, value: bytes) -> str:
    """A row's JSON, the original of a dead letter as text."""
    row = json.loads(value)
    if table == "dead_letters":
        row["original"] = b64decode(row["original"]).decode("latin-1")
    return json.dumps(row)


def _moved(text: str, shift_ms: int) -> str:
    def later(match: re.Match[str]) -> str:
        ms = round(datetime.fromisoformat(match[0]).replace(tzinfo=UTC).timestamp() * 1000)
        return instant_ms(ms + shift_ms)[:19]

    return INSTANT.sub(later, text)


def distinct(rows: list[Row]) -> list[Row]:
    """Each row once, in order."""
    return list({json.dumps(row, sort_keys=True): row for row in rows}.values())


def wrong(case: Case, written: Rows, is_repeated: bool = False) -> list[str]:
    """What a case's rows lack or have too many; where rows may be repeated, those of topics that are not exactly-once."""
    assert set(case.expected) <= set(jobs.job(case.job).writes), "a table that its job does not write"
    faults: list[str] = []
    for table in case.checked:
        expected = case.expected.get(table, [])
        rows = [row for row in written.get(table, []) if table == "dead_letters" or to_ms(row["event_at"]) <= case.end_ms]
        if is_repeated and not TABLES[table].is_exactly_once:
            rows = distinct(rows)
        columns = {column for row in expected for column in row}
        missing, left = unmatched(rows, expected)
        if is_repeated and not TABLES[table].is_exactly_once:
            # Two jobs may write the same letter, which is one row here.
            missing = [wanted for wanted in missing if not any(matches(row, wanted) for row in rows)]
        faults += [f"{table} lacks {json.dumps(row)}" for row in missing]
        faults += [f"{table} has  {json.dumps({k: v for k, v in row.items() if not columns or k in columns})}" for row in left]
    return faults


def agrees(actual: object, expected: object) -> bool:
    """Whether a value is the expected one; numbers to nine digits."""
    if isinstance(expected, float) and isinstance(actual, int | float):
        return math.isclose(actual, expected, rel_tol=1e-9, abs_tol=1e-12)
    return actual == expected


def matches(row: Row, wanted: Row) -> bool:
    """Whether a row has all columns that are expected of it."""
    return all(agrees(row.get(column), value) for column, value in wanted.items())


def unmatched(actual: list[Row], expected: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows expected that were not written, and those written that were not expected, each row matched once."""
    left = list(actual)
    missing: list[Row] = []
    for wanted in expected:
        match = next((row for row in left if matches(row, wanted)), None)
        if match is None:
            missing.append(wanted)
        else:
            left.remove(match)
    return missing, left

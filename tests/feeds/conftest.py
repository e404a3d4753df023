"""Captured traffic, where it is at hand."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest

from feeds.capture import Converter, Line
from feeds.venues import VENUES
from schemas.rows import fault

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="session")
def captures() -> list[tuple[str, Path]]:
    """Every captured file, as (venue, path)."""
    found = [(venue, path) for venue in sorted(VENUES) for path in sorted((SHARED / "captures" / venue).glob("*"))]
    if not found:
        pytest.skip(f"no captures at {SHARED / 'captures'}")
    return found


Tables: TypeAlias = Mapping[str, Mapping[str, int]]  # of each sample, how many records of each table
CheckSamples: TypeAlias = Callable[[str, Tables, Callable[[Any], int], Mapping[str, str]], None]


@pytest.fixture(scope="session")
def check_samples() -> CheckSamples:
    """Whether the samples of a venue become the records that are told, and all others dead letters alone.

    Called with the venue, what becomes of the samples that are read, the time of receipt (ms) of a message, and the
    addresses that samples were asked from.
    """

    def check(venue: str, read: Tables, received_ms: Callable[[Any], int], urls: Mapping[str, str]) -> None:
        path = SHARED / "captures" / "samples" / f"{venue}.jsonl"
        if not path.exists():
            pytest.skip(f"no samples at {path}")
        tables: dict[str, Counter[str]] = {}
        for text in path.read_bytes().splitlines():
            name, message = (orjson.loads(text)[field] for field in ("sample", "message"))
            line = Line(venue, name, 1, received_ms(message) * 1000, orjson.dumps(message), "message", url=urls.get(name))
            records = Converter().convert(line).records
            assert all(fault(record.table, record.row) is None for record in records), name
            tables[name] = Counter(record.table for record in records)
        assert {name: tables[name] for name in read} == read
        assert all(set(tables[name]) == {"dead_letters"} for name in tables.keys() - read.keys())

    return check


@pytest.fixture(scope="session")
def deribit_log(captures: list[tuple[str, Path]]) -> Path:
    """The captured Deribit websocket traffic."""
    return next(path for venue, path in captures if venue == "deribit" and path.name.endswith(".ws.log"))

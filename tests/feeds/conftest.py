"""Captured traffic, where it is at hand."""

from pathlib import Path

import pytest

from feeds.capture import ADAPTERS

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="session")
def captures() -> list[tuple[str, Path]]:
    """Every captured file, as (venue, path)."""
    found = [(venue, path) for venue in sorted(ADAPTERS) for path in sorted((SHARED / "captures" / venue).glob("*"))]
    if not found:
        pytest.skip(f"no captures at {SHARED / 'captures'}")
    return found


@pytest.fixture(scope="session")
def deribit_log(captures: list[tuple[str, Path]]) -> Path:
    """The captured Deribit websocket traffic."""
    return next(path for venue, path in captures if venue == "deribit" and path.name.endswith(".ws.log"))

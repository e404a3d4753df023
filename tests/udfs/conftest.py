"""What the tests of the formulae share."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from udfs import black76

TRUTH = Path(__file__).resolve().parents[2].parent / "shared" / "truth"


def truth(name: str) -> str:
    path = TRUTH / name
    if not path.exists():
        pytest.skip(f"the reference values {path} are not here")
    return path.read_text()


@pytest.fixture(scope="session")
def published() -> Any:
    """Published vectors, by name."""
    return json.loads(truth("published_vectors.json"))


@pytest.fixture(scope="session")
def tickers() -> dict[str, np.ndarray[Any, Any]]:
    """Deribit's tickers, a column each; with the strike, `is_call` and the years to expiry."""
    rows = list(csv.DictReader(truth("deribit_greeks.csv").splitlines()))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name not in ("source", "instrument")}
    parts = [row["instrument"].split("-") for row in rows]
    expiry = [datetime.strptime(day, "%d%b%y").replace(hour=8, tzinfo=UTC).timestamp() * 1000 for _, day, _, _ in parts]
    columns["strike"] = np.array([float(K) for _, _, K, _ in parts])
    columns["is_call"] = np.array([kind == "C" for *_, kind in parts])
    columns["expiry_ms"] = np.array(expiry)
    columns["years"] = (columns["expiry_ms"] - columns["ts_ms"]) / black76.MS_PER_YEAR
    return columns

"""`gammaflow parent`: requests of large orders, and the volume profile of a VWAP from a run's bars."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli import parents
from engine.contract import Message
from kernels.execution.parameters import Plan
from tests.kernels.executing import T0, Execution, fills_all, terms

HOUR_MS = 3_600_000


def bars(folder: Path, *volumes: tuple[float, float]) -> Path:
    """Bars of a minute, (hours after midnight of the day before, volume)."""
    midnight = datetime.fromtimestamp(T0 / 1000 - 86_400, UTC).replace(tzinfo=None)
    rows = [
        {"venue": "v", "instrument": "P", "interval_s": 60, "start_at": midnight + timedelta(hours=hours), "volume": volume}
        for hours, volume in volumes
    ]
    rows.append({"venue": "v", "instrument": "Q", "interval_s": 60, "start_at": midnight, "volume": 1e9})
    (folder / "bars").mkdir(parents=True)
    fields = {"venue": pa.string(), "instrument": pa.string(), "interval_s": pa.int32()}
    schema = pa.schema([*fields.items(), ("start_at", pa.timestamp("us")), ("volume", pa.float64())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "bars" / "bars-0000.parquet")
    return folder


def test_a_vwap_follows_what_traded_at_this_time_of_earlier_days(tmp_path: Path) -> None:
    run = bars(tmp_path / "run", (0.1, 1.0), (0.6, 2.0), (24.2, 3.0), (0.8, 4.0), (5.0, 99.0))
    profile = parents.volume_profile(run, "v:P", T0, T0 + HOUR_MS, 2)
    assert profile == [[0.0, 4.0], [1800.0, 6.0]]
    row = parents.requested(
        *("new", "a", "v:P", "V1", T0),
        algorithm="vwap",
        side="buy",
        quantity="100",
        end_at="2023-11-14T01:00:00.000Z",
        volume_profile=profile,
    )
    execution = Execution(fills_all, terms(), Message("execution_parents", 0, 0, dict(row)))
    plan = execution.state.parents["a", "V1"].plan
    assert isinstance(plan, Plan)
    assert (plan.starts, plan.sizes) == ((T0, T0 + HOUR_MS // 2), (40, 60))


def test_without_bars_there_is_no_profile_and_the_error_says_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows in bars/"):
        parents.volume_profile(tmp_path, "v:P", T0, T0 + HOUR_MS)
    run = bars(tmp_path / "run", (5.0, 99.0))
    with pytest.raises(ValueError, match="no bars of a minute of v:P at this time"):
        parents.volume_profile(run, "v:P", T0, T0 + HOUR_MS)


def test_what_is_no_request_is_refused_with_the_field_and_what_was_expected() -> None:
    for fields, wrong in (
        ({"market": "P"}, "venue:instrument"),
        ({"quantity": "many"}, "quantity: expected a decimal"),
        ({"name": "a-b"}, "parent_client_order_id: expected up to 32 letters"),
    ):
        given: dict[str, Any] = {"market": "v:P", "quantity": "1", "name": None} | fields
        with pytest.raises(ValueError, match=wrong):
            parents.requested("new", "a", str(given.pop("market")), **given)


def test_the_same_command_twice_is_two_orders_unless_it_names_one() -> None:
    first, second = (parents.requested("new", "a", "v:P", now_ms=T0 + later, quantity="1") for later in (0, 1))
    assert first["parent_client_order_id"] != second["parent_client_order_id"]
    assert len(first["parent_client_order_id"]) == 32

"""A finished run without a cluster: a simulated market through the kernels in this process, as Parquet files.

For pictures, and to try the page: `python -m page.generated out/generated`.  Jobs of SQL alone (bars, book_metrics,
oracle_faults, venue_clocks) do not run here: their tables stay empty.
"""

import sys
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

import jobs
import schemas
from engine.offline import Given, Offline
from feeds.simulator import SOURCES, Scenario, simulate
from schemas.records import TABLES
from schemas.rows import encoded, to_us

DRAIN_MS = 3_000
LOST_EVERY = 4_000
"""One of so many changes of books is left out, so that there are gaps to see."""
TYPES = {
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "DECIMAL": pa.decimal128(38, 18),
    "TIMESTAMP_LTZ": pa.timestamp("us", "UTC"),
    "ARRAY<ARRAY<DOUBLE>>": pa.list_(pa.list_(pa.float64())),
}
SHOWN = Scenario(
    duration_s=60,
    book_updates_per_s=900,
    tickers_per_s=300,
    trades_per_s=60,
    accounts=24,
    doomed=8,
    sources=SOURCES,
)
"""The market of the pictures: that of `gammaflow demo` at a third of its rates."""
JOBS = [
    name for name in (*jobs.upstream(["chains", "liquidations"], jobs.optional()), "fund") if jobs.job(name).kernel is not None
]


def write(out: Path, scenario: Scenario = SHOWN) -> None:
    """Play a market through `JOBS`, and write each topic as the archive does, under `out`/<table>/."""
    flow = Offline(JOBS, {*jobs.optional(JOBS), *jobs.told_ahead(JOBS)})
    market = list(_harmed(sorted(simulate(scenario), key=lambda record: record.event_ms)))
    rows: dict[str, list[bytes]] = defaultdict(list)
    for given in market:
        if given.row is not BAD:
            rows[given.table].append(encoded(given.row))
    until_ms = scenario.start_ms + 1000 * scenario.duration_s + DRAIN_MS
    for written in flow.play(market, until_ms):
        rows[written.table].append(written.value)
    for table, values in rows.items():
        write_rows(out, table, map(orjson.loads, values))


BAD: Mapping[str, Any] = {"venue": "sim_a", "instrument": "BTC-PERP", "event_at": "yesterday", "mark_price": "much"}
"""A ticker that breaks its DDL, so that there is a dead letter to see."""


def _harmed(market: Iterable[Any]) -> Iterator[Given]:
    changes = 0
    for number, record in enumerate(market):
        if record.table == "order_books" and record.row["kind"] == "change":
            changes += 1
            if changes % LOST_EVERY == 0:
                continue
        yield Given(*record)
        if number and number % 20_000 == 0:
            yield Given("tickers", record.event_ms, BAD)


def write_rows(out: Path, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows, as they stand in JSON, as a Parquet file of a table with the types of its DDL."""
    columns = TABLES[table].columns
    types = {name: column.sql_type.partition("(")[0] for name, column in columns.items()}
    schema = pa.schema([(name, TYPES[kind]) for name, kind in types.items()])
    lines = [{name: _value(types[name], row.get(name)) for name in columns} for row in rows]
    (out / table).mkdir(parents=True, exist_ok=True)
    number = len(list((out / table).glob("*.parquet")))
    pq.write_table(pa.Table.from_pylist(lines, schema), out / table / f"{table}-{number:04d}.parquet", compression="zstd")


def _value(kind: str, value: Any) -> Any:
    if value is None:
        return None
    match kind:
        case "TIMESTAMP_LTZ":
            return to_us(value)
        case "DECIMAL":
            return Decimal(str(value))
        case "DOUBLE":
            return float(value)
        case "BYTES":
            return b64decode(value)
    return value


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(f"{sys.argv[1]}: {', '.join(sorted(table for table in schemas.kept() if (Path(sys.argv[1]) / table).is_dir()))}")

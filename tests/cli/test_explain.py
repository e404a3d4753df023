"""`gammaflow explain`, from rows that the kernels wrote."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import explain, main
from engine.contract import Message
from kernels import liquidations, positions
from schemas.rows import instant_ms, instant_us
from tests.kernels.obeying import READ

T0 = 1_700_000_000_000


def at(ms: int) -> dict[str, str]:
    return {"event_at": instant_ms(ms), "received_at": instant_us(ms * 1000)}


def history() -> dict[str, list[dict[str, Any]]]:
    """A deposit, a fill, a fall and its correction, through both kernels."""
    found: dict[str, list[dict[str, Any]]] = {table: [] for table in explain.SOURCES}
    ledger, engine = positions.new(), liquidations.new()
    terms = {"kind": "perpetual", "underlying": "AAA", "quote_currency": "USDC", "settlement_currency": "USDC"}
    name = {"venue": "v", "instrument": "AAA-PERP"}
    fill = {"account": "ann", **name, "fill_id": "f1", "side": "buy", "price": "100", "size": "100", "fee": "1"}
    deposit = {"account": "ann", "transfer_id": "t1", "currency": "USDC", "amount": "1500"}
    batches = [
        [Message("instruments", 0, 0, {**name, **at(T0), **terms, "is_inverse": False, "contract_size": 1.0})],
        [Message("transfers", 0, 0, deposit | at(T0 + 50)), Message("fills", 0, 0, fill | at(T0 + 60))],
        [Message("tickers", 0, 0, {**name, **at(T0 + 120), "mark_price": 100.0})],
        [Message("tickers", 0, 1, {**name, **at(T0 + 5_000), "mark_price": 89.0})],
    ]
    for batch in batches:
        until_ms = max(datetime.fromisoformat(m.row["event_at"]).timestamp() for m in batch) * 1000 // 50 * 50 + 50
        booked = positions.step(ledger, [m for m in batch if m.table != "tickers"], int(until_ms))
        passed = [Message(o.table, 0, 0, dict(o.row)) for o in booked if o.table in ("positions", "balances")]
        inputs = [m for m in batch if m.table in ("instruments", "tickers")] + passed
        for output in booked + liquidations.step(engine, [READ, *inputs], int(until_ms)):
            if output.table in found:
                found[output.table].append(dict(output.row))
    return found


def test_the_story_is_in_order_and_says_why() -> None:
    told = explain.story(history())
    assert told.holdings == {"USDC": Decimal(1499), "v:AAA-PERP": Decimal(100)}
    assert told.margin is not None and told.margin["status"] == "liquidation"
    assert [line.what for line in told.lines] == [
        "transfers t1",
        "fills f1",
        "margin: unpriced",
        "margin: healthy",
        "margin: liquidation",
        "liquidation: locked",
        "liquidation: round",
        f"order ann/{instant_ms(T0 + 5_049)}/1",
    ]
    assert told.lines[1].why == "trade +100 v:AAA-PERP at 100 makes 100; fee -1 USDC makes 1499"
    assert "maintenance margin 445.00 USD exceeds equity 399.00 USD; round 1 closes 25 of 100" in told.lines[-2].why


def test_an_earlier_instant_tells_what_was_known_then() -> None:
    told = explain.story(history(), datetime.fromtimestamp((T0 + 55) / 1000, UTC))
    assert told.holdings == {"USDC": Decimal(1500)}
    assert [line.what for line in told.lines] == ["transfers t1"]


def test_the_command_reads_parquet_and_names_what_is_missing(tmp_path: Path) -> None:
    rows = history()
    for table, given in [(table, given) for table, given in rows.items() if given]:
        typed = [{k: datetime.fromisoformat(v) if k.endswith("_at") else v for k, v in row.items()} for row in given]
        (tmp_path / table).mkdir()
        pq.write_table(pa.Table.from_pylist(typed), tmp_path / table / f"{table}-0000.parquet")

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main.app, ["explain", *arguments])
        return done.exit_code, " ".join(done.stdout.split())

    code, said = run("ann", "--from", str(tmp_path))
    assert code == 0, said
    assert "ann: liquidation" in said and "1499 USDC" in said and "round 1 closes 25 of 100" in re.sub(r"\s+", " ", said)
    assert run("bob", "--from", str(tmp_path)) == (1, "gammaflow: nothing is known of account 'bob' up to then")
    code, said = run("ann", "--from", str(tmp_path), "--at", "yesterday")
    assert code == 1 and "expected an instant like" in said
    code, said = run("ann", "--from", str(tmp_path / "none"))
    assert code == 1 and "none of ledger_entries" in said


@pytest.mark.parametrize("value", [None, "soon", 5])
def test_an_instant_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expected an instant"):
        explain.instant(value)

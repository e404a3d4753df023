"""The metrics of a running suite after a known input.  tests/e2e/test_metrics.py runs it, if possible in its own network.

That network has only loopback, so Flink's reporter may listen on every interface there.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from deploy import cluster, runtime
from deploy.runtime import Runtime
from feeds import Record
from feeds.publish import Publisher
from schemas.rows import instant_ms, instant_us

JOBS = ["books", "positions", "liquidations"]
SETTINGS = {
    "table.exec.source.idle-timeout": "0 ms",
    "execution.checkpointing.interval": "1 s",
    "gammaflow.window": "0.05",  # the counts of batches below depend on it
}
T0 = 1_700_000_000_000
WAIT_S = 40.0
Numbers = dict[str, dict[str, float]]

EXPECTED: Numbers = {
    # A: a snapshot, a better size, a level below the top, an invalid row, and a late one.  B: a snapshot and a gap, which makes
    # it stale and requests a snapshot.  Each is in a batch of its own.  Each of the four shards gets seven venue times.
    "books": {
        "batches": 29,
        "messages": 35,
        "late_messages": 1,
        "book_tops.rows": 5,
        "feed_faults.rows": 1,
        "resync_requests.rows": 1,
        "dead_letters.rows": 1,
        "instruments": 2,
        "stale_instruments": 1,
    },
    # Terms and the index go to all four shards; the transfer comes with the terms, the fill alone.
    "positions": {
        "batches": 9,
        "messages": 10,
        "late_messages": 0,
        "positions.rows": 1,
        "balances.rows": 1,
        "dead_letters.rows": 0,
        "accounts": 1,
    },
    # At 94 the long of 10 has lost 60 of its 100 USDC and needs 47.
    "liquidations": {
        "dead_letters.rows": 0,
        "accounts": 1,
        "accounts_liquidating": 1,
        "accounts_margin_call": 0,
        "accounts_held": 0,
        "controls_in_force": 0,
        "is_gate_closed": 0,
    },
}


def at(ms: int) -> dict[str, str]:
    """Event time and time of receipt."""
    return {"event_at": instant_ms(T0 + ms), "received_at": instant_us((T0 + ms) * 1000)}


def book(ms: int, name: str, kind: str, sequence: int, bid: list[float] | None = None, lost: int = 0) -> Record:
    """A row of a book: a snapshot has an ask too."""
    is_first = kind == "snapshot"
    row = {
        "venue": "v",
        "instrument": name,
        **at(ms),
        "kind": kind,
        "sequence": sequence,
        "prev_sequence": None if is_first else sequence - 1,
        "bids": [[10.0, 1.0]] if bid is None else [bid],
        "asks": [[11.0, 1.0]] if is_first else [],
        "checksum": None,
    }
    return Record("order_books", T0 + ms, row)


def of_account(table: str, ms: int, **columns: Any) -> Record:
    """A row of the account `a`."""
    return Record(table, T0 + ms, {"account": "a", **at(ms), **columns})


def of_market(table: str, ms: int, **columns: Any) -> Record:
    """A row of the one perpetual, or its underlying."""
    return Record(table, T0 + ms, {"venue": "v", **at(ms), **columns})


TERMS = {
    "kind": "perpetual",
    "quote_currency": "USDC",
    "settlement_currency": "USDC",
    "is_inverse": False,
    "contract_size": 1.0,
    "amount_per_contract": 1.0,
}
FILL = {"fill_id": "f", "side": "buy", "price": "100", "size": "10", "fee": "0"}
INPUT = [
    book(100, "A", "snapshot", 1),
    of_market("instruments", 100, instrument="P", underlying="AAA", **TERMS),
    of_account("transfers", 100, transfer_id="t", currency="USDC", amount="100"),
    book(200, "A", "change", 2, [10.0, 2.0]),
    of_account("fills", 200, venue="v", instrument="P", **FILL),
    book(300, "A", "change", 3, [9.0, 1.0]),
    of_market("tickers", 300, instrument="P", mark_price=94.0, index_price_usd=94.0),
    of_market("index_prices", 300, underlying="AAA", price_usd=94.0),
    book(400, "B", "snapshot", 10),
    book(500, "B", "change", 13, [10.0, 2.0]),
    book(600, "A", "nonsense", 4),
]
LATE = book(-5_000, "A", "change", 4, [10.0, 3.0])


def metrics(up: Runtime) -> Numbers:
    """The metrics of the jobs, for all that are expected."""
    active = up.rest.active()
    return {
        job: {name: aggregate.sum for name, aggregate in up.rest.metrics(active[job], expected).items()}
        for job, expected in EXPECTED.items()
    }


def play(up: Runtime) -> None:
    """Publish the input, the late row after all others have been read, and let time pass until the metrics count it."""

    def tick(publisher: Publisher, ms: int) -> None:
        publisher.heartbeat(T0 + ms)
        publisher.flush()

    publisher = Publisher(up.kafka)
    for record in INPUT:
        publisher.publish(record)
    tick(publisher, 2_000)
    runtime.wait_read(up, "books")
    publisher.publish(LATE)
    deadline = time.monotonic() + WAIT_S
    ms = 10_000  # the sweep in which the gap is aggregate; at the next one a snapshot would be wanted again
    while metrics(up) != EXPECTED and time.monotonic() < deadline:
        tick(publisher, ms := ms + 50)
        time.sleep(0.2)


def main(out: Path, has_own_network: bool) -> None:
    """Write the metrics to `out`."""
    conf = cluster.layered(["prometheus"]) if has_own_network else {}
    with runtime.temporary(conf, is_brief=True) as up:
        runtime.submit(up, JOBS, settings=SETTINGS)
        play(up)
        ports = [9250, 9251] if has_own_network else []
        command = [sys.executable, "-m", "cli.main", "status"]
        env = {**os.environ, "GAMMAFLOW_HOME": up.home, "COLUMNS": "170"}
        seen = {
            "metrics": metrics(up),
            "scrape": "".join(requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text for port in ports),
            "status": subprocess.run(command, env=env, cwd=cluster.ROOT, capture_output=True, text=True, timeout=60).stdout,
        }
    out.write_text(json.dumps(seen))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    main(Path(sys.argv[1]), sys.argv[2:] == ["--own-network"])

"""A gateway that is killed (`kill -9`) with reports in flight: nothing lost, nothing twice."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.gateway.peer import Peer, free_port, until

TRADES = 400
ROOT = Path(__file__).parents[2]
TRADE = {37: "v1", 11: "o1", 150: "F", 39: "1", 55: "BTC-PERP", 54: "1", 38: "1000", 32: "1", 31: "100.5", 6: "100.5"}
TRADE |= {60: "20261130-12:00:00.000", 12: "0.02", 13: "3"}


def trade(number: int) -> dict[int, str]:
    return TRADE | {17: f"x{number}", 14: str(number), 151: str(1000 - number)}


@contextmanager
def process(store: Path, port: int, topics: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "tests.gateway.killed_gateway", str(store), str(port), str(topics)]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait(20)


def fills(topics: Path) -> list[Any]:
    lines = map(orjson.loads, topics.read_bytes().splitlines()) if topics.exists() else []
    return [row["fill_id"] for table, row in lines if table == "fills"]


def test_a_killed_gateway_has_the_venue_send_again_what_was_not_safe(fix_jars: list[Path], tmp_path: Path) -> None:
    """https://github.com/quickfix/quickfix/issues/265: an engine that dies takes nothing with it."""
    store, topics, port = tmp_path / "store", tmp_path / "topics", free_port()
    with Peer("EXCH", "DESK").listen(port) as venue:
        with process(store, port, topics) as first:
            venue.accept().answer_logon()
            venue.expect("D")
            for number in range(1, TRADES + 1):
                venue.send("8", trade(number))
                if number == TRADES // 2:
                    until(lambda: bool(fills(topics)), "the first fills are safe")
            first.kill()
            first.wait(20)
        venue.close()
        told = len(fills(topics))
        assert told > 0
        with process(store, port, topics):
            venue.accept()
            venue.expect("A")
            venue.send("A", {98: "0", 108: "30"})
            # The logon is number 1, the trades 2 to 401, and this logon the next one.
            while (asked := venue.expect("2", "H")).kind != "2":
                pass
            since = int(asked.get(7) or 0)
            assert 2 <= since <= TRADES + 2
            header = {43: "Y", 122: "20261130-12:00:00.000"}
            for number in range(since, TRADES + 2):
                venue.send("8", trade(number - 1), number=number, header=header)
            venue.send("4", {123: "Y", 36: str(venue.number)}, number=TRADES + 2, header=header)
            until(lambda: len(fills(topics)) >= TRADES, "every fill")
            assert sorted(fills(topics)) == sorted(f"exch:20261130:x{number}:buy" for number in range(1, TRADES + 1))

"""How long does an order take over FIX, and how many a second are there?  `make bench BENCH=fix`.

Both sides in this process, over loopback, with file stores: a venue's session of the gateway (`gateway/venue.py`, with every
check that it makes of an order) and an acceptor that answers each order with a report.

  fix_round_trip_p50_ms, _p99_ms  from a row of `orders` to the row of its first report, one order at a time
  fix_orders_per_s                rows of `orders` that were sent and answered, as fast as they go, for `--seconds`
  fix_cpu_us_per_order            processor time of both sides together
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from bench.passes import BenchError
from bench.report import Figures, run_chosen
from deploy import jars
from feeds import Record
from gateway import Message, message
from gateway.config import Gateway
from gateway.engine import Engine
from gateway.orders import timestamp
from gateway.venue import VenueDesk
from schemas.records import TABLES
from schemas.rows import instant_ms

ORDERS, WARM_UP, IN_FLIGHT, SECONDS, WAIT_S, WARM_SHARE = 5_000, 1_000, 200, 60, 20.0, 0.2


class Loop:
    """A venue's desk and its session, and an acceptor that answers."""

    def __init__(self, folder: Path, port: int) -> None:
        address, paths = f"127.0.0.1:{port}", jars.fetch("fix")["fix"]
        house = {"name": "desk", "sender": "EXCH", "target": "DESK", "accept": address, "accounts": ["a"], "venue": "exch"}
        own = {"name": "exch", "sender": "DESK", "target": "EXCH", "connect": [address], "venue": "exch"}
        accepting = Gateway.model_validate({"name": "exch", "store": folder / "exch", "client": [house]})
        asking = Gateway.model_validate({"name": "desk", "store": folder / "desk", "venue": [own]})
        self.inbox: queue.SimpleQueue[tuple[str, str, Message | None] | dict[str, Any]] = queue.SimpleQueue()
        self.answered: queue.SimpleQueue[float] = queue.SimpleQueue()
        self.venue = Engine(accepting, paths, self._answer)
        self.engine = Engine(asking, paths, lambda *happened: self.inbox.put(happened))
        self.desk = VenueDesk(asking.venue[0], self._publish, lambda found: self.engine.send("exch", found), _now_us)
        self._number = self.taken = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Connect both sides."""
        self.venue.start()
        self.engine.start()
        self._thread.start()
        end_s = time.monotonic() + WAIT_S
        while not self.desk.is_on:
            if time.monotonic() > end_s:
                raise BenchError("no logon")
            time.sleep(0.01)

    def stop(self) -> None:
        """End both."""
        self._stop.set()
        self._thread.join()
        self.engine.stop()
        self.venue.stop()

    def take(self) -> float:
        """Wait for the row of a report; returns when it came."""
        at_s = self.answered.get(timeout=WAIT_S)
        self.taken += 1
        return at_s

    def order(self) -> None:
        """A row of `orders`."""
        self._number += 1
        row: dict[str, Any] = dict.fromkeys(TABLES["orders"].columns)
        row |= {"venue": "exch", "instrument": "BTC-PERP", "event_at": instant_ms(_now_us() // 1000), "account": "a"}
        row |= {"client_order_id": f"o{self._number}", "request": "new", "side": "buy", "order_type": "limit", "price": "100"}
        self.inbox.put(row | {"time_in_force": "gtc", "quantity": "1", "is_reduce_only": False})

    def _answer(self, name: str, what: str, found: Message | None) -> None:
        if what != "message" or found is None:
            return
        ids = [
            (37, found.get(11)),
            (11, found.get(11)),
            (17, found.get(34)),
            (150, "0"),
            (39, "0"),
            (55, "BTC-PERP"),
            (54, "1"),
        ]
        rest = [(38, "1"), (151, "1"), (14, "0"), (6, "0"), (60, timestamp(_now_us()))]
        self.venue.send(name, message("8", [*ids, *rest]))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                event = self.inbox.get(timeout=0.1)
            except queue.Empty:
                continue
            if isinstance(event, dict):
                self.desk.order(event)
                continue
            _, what, found = event
            if what == "logon":
                self.desk.logged_on()
            elif found is not None:
                self.desk.message(found, _now_us())

    def _publish(self, record: Record) -> None:
        self.answered.put(time.perf_counter())


@contextmanager
def running() -> Iterator[Loop]:
    """Both sides, logged on."""
    with socket() as own:
        own.bind(("127.0.0.1", 0))
        port = int(own.getsockname()[1])
    with TemporaryDirectory() as folder:
        loop = Loop(Path(folder), port)
        loop.start()
        try:
            yield loop
        finally:
            loop.stop()


def _now_us() -> int:
    return time.time_ns() // 1000


def round_trip(orders: int = ORDERS) -> Figures:
    """One order at a time."""
    took_ms = []
    with running() as loop:
        for number in range(WARM_UP + orders):
            began_s = time.perf_counter()
            loop.order()
            ended_s = loop.take()
            if number >= WARM_UP:
                took_ms.append((ended_s - began_s) * 1000)
    took_ms.sort()
    return {
        "fix_round_trip_p50_ms": round(took_ms[len(took_ms) // 2], 3),
        "fix_round_trip_p99_ms": round(took_ms[len(took_ms) * 99 // 100], 3),
    }


def rate(seconds: float = SECONDS) -> Figures:
    """As many as go, with some in flight."""
    with running() as loop:
        sent = 0

        def answered(end_s: float) -> int:
            nonlocal sent
            count = 0
            while time.perf_counter() < end_s:
                while sent - loop.taken < IN_FLIGHT:
                    loop.order()
                    sent += 1
                loop.take()
                count += 1
            return count

        answered(time.perf_counter() + seconds * WARM_SHARE)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        count = answered(began_s + seconds)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return {
        "fix_orders_per_s": round(count / took_s),
        "fix_orders_measured_s": round(took_s),
        "fix_cpu_us_per_order": round(cpu_s / count * 1e6),
    }


def main(
    parts: Annotated[str, typer.Option(help="Which parts, of round_trip,rate.")] = "round_trip,rate",
    orders: Annotated[int, typer.Option(min=100, help="Orders of round_trip.")] = ORDERS,
    seconds: Annotated[float, typer.Option(min=1, help="Of rate.")] = SECONDS,
) -> None:
    """Measure the gateway's session layer on loopback."""
    chosen: dict[str, Callable[[], Figures]] = {"round_trip": partial(round_trip, orders), "rate": partial(rate, seconds)}
    run_chosen("fix", chosen, parts)


if __name__ == "__main__":
    typer.run(main)

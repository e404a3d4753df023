"""How fast controls work: the kill switch, the price of oracles, and the faults of their sources.

    kill_switch   from an operator's word in Kafka to the last liquidation order in Kafka, at a steady rate of orders
    oracle_rate   prices a second of the kernel `oracles` on one core (bench/oracle_rate.py)
    oracle_quiet  false alarms in an hour in which nothing is wrong (bench/oracle_harm.py)
    oracle_harm   how long harms to sources take to be found, in event time (bench/oracle_harm.py)

Only the first one starts a cluster.

The job liquidations runs alone: a process of its own writes, by the clock on the wall, prices, depth, positions and balances.
Each account holds one of two perpetuals, and may bear just so much of a fall.  The price of each falls for a second, through
all of them one by one, and stands above them for another; the two take turns.  So `ORDERS_PER_S` accounts fall below
maintenance each second, evenly, and each orders once; when its price is back, it recovers and gives up what is open.

A kill of all, liquidations named, comes at a random instant.  It took from just before it was handed to its producer until
the last order was read, uncommitted, by a reader that reads all the time; 0 where none came any more.  After `HOLD_S` all is
resumed.  An order that comes in the second half of that time is a failure of the run: the kill did not hold.
"""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Annotated, Any

import numpy as np
import typer
from confluent_kafka import Producer

from bench import oracle_harm, oracle_rate
from bench.crash import depths, listing, maintenance, now_ms, perpetual, reader
from bench.passes import BenchError
from bench.pricing import on_one_core
from bench.report import Figures, console, run_chosen
from bench.writer import Writer
from cli.controls import TOPIC, control
from deploy import runtime
from deploy.runtime import Runtime
from feeds.publish import FEED_TABLES
from schemas.controls import CANCEL_ALL, RUN
from schemas.rows import encoded, instant_ms, instant_us

COINS = {"BTC": 60_000.0, "ETH": 3_000.0}
ORDERS_PER_S = 1_000
KILLS = 100
HIGH, LOW = 1.0, 0.994
"""Where a price stands, and how far it falls, as parts of the first one: less than what an account has left at maintenance."""
FALL_S, PERIOD_S = 1.0, 2.0
BATCH_S = 0.05
WARM_S, HOLD_S = 90.0, 1.0
VENUE = "sim"
JOB = "liquidations"
TARGET_MS = 250.0
HEARTBEAT_TABLES = (*FEED_TABLES, "book_depth", "positions", "balances")


def holdings(event_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The position and the balance of each account."""
    each = int(ORDERS_PER_S * PERIOD_S / len(COINS))
    at = {"event_at": instant_ms(event_ms), "received_at": instant_us(event_ms * 1000)}
    for coin, first in COINS.items():
        size = round(20_000 / first, 6)
        for number in range(each):
            name = f"{coin}-{number:05d}"
            price = first * (HIGH - (HIGH - LOW) * (number + 0.5) / each)
            cash = size * (first - price) + maintenance(coin, size, price) * size * price
            held = {"account": name, "venue": VENUE, "instrument": perpetual(coin), **at, "size": f"{size:.6f}"}
            held |= {"average_price": f"{first:.6f}", "realised_pnl": "0", "settlement_currency": "USDC", "fill_id": "f"}
            yield "positions", held
            yield "balances", {"account": name, "currency": "USDC", **at, "amount": f"{cash:.6f}", "cause_id": "d"}


def level(coin: int, since_s: float) -> float:
    """The price of a coin as a part of the first one: one falls while the others stand."""
    phase_s = (since_s + coin * PERIOD_S / len(COINS)) % PERIOD_S
    return HIGH - (HIGH - LOW) * phase_s / FALL_S if phase_s < FALL_S else HIGH


def write(servers: str, is_ready: Any) -> None:
    """The writer's process, until it is ended."""
    writer = Writer(servers, HEARTBEAT_TABLES)
    start_ms = now_ms()
    known = {perpetual(coin) for coin in COINS}
    for table, row in listing(start_ms):
        if row["instrument"] in known:
            writer.row(table, row, start_ms)
    for number, (table, row) in enumerate(holdings(start_ms)):
        writer.row(table, row, start_ms)
        if number % 1000 == 0:
            writer.producer.poll(0)
    is_ready.set()
    start_s = time.monotonic()
    number = 0
    while True:
        since_s = number * BATCH_S
        while time.monotonic() < start_s + since_s:
            writer.beat(now_ms())
            writer.producer.poll(0.002)
        event_ms = now_ms()
        at = {"venue": VENUE, "event_at": instant_ms(event_ms), "received_at": instant_us(event_ms * 1000)}
        for place, (coin, first) in enumerate(COINS.items()):
            price = first * level(place, since_s)
            writer.row("index_prices", at | {"underlying": coin, "price_usd": price}, event_ms)
            ticker = {"instrument": perpetual(coin), "mark_price": price, "index_price_usd": price}
            writer.row("tickers", at | ticker, event_ms)
        if number % 20 == 0:
            for table, row in depths(HIGH, event_ms):
                if row["instrument"] in known:
                    # As much as anyone wants, at any price: the limit is the account's own.
                    first = COINS[row["instrument"].partition("-")[0]]
                    writer.row(table, row | {"bids": [[first, 1e9]], "asks": [[first * 1.001, 1e9]]}, event_ms)
        number += 1


class Orders:
    """When orders were read, as a thread reads them."""

    def __init__(self, servers: str) -> None:
        self.read_s: list[float] = []
        self.trouble = ""
        self._is_over = Event()
        self._consumer = reader(servers, "read_uncommitted")
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._is_over.is_set():
            message = self._consumer.poll(0.05)
            if message is None:
                continue
            if error := message.error():
                self.trouble = error.str()
            elif message.value() is not None:
                self.read_s.append(time.monotonic())

    def between(self, since_s: float, until_s: float) -> list[float]:
        """The instants of those read from one to another."""
        return [at_s for at_s in self.read_s[-200_000:] if since_s <= at_s < until_s]

    def close(self) -> None:
        """Read no more."""
        self._is_over.set()
        self._thread.join()
        self._consumer.close()


def killed(up: Runtime, kills: int) -> Figures:
    """Kill and resume, again and again."""
    chance = random.Random(3)
    producer = Producer({"bootstrap.servers": up.kafka, "partitioner": "murmur2_random", "acks": "all", "linger.ms": 0})

    def say(mode: str) -> float:
        row = control("all", mode, "a benchmark", liquidations=mode != RUN, who="bench")
        began_s = time.monotonic()
        producer.produce(TOPIC, encoded(row), row["scope"])
        if producer.flush(10):
            raise BenchError("a control was not acknowledged")
        return began_s

    say(RUN)
    orders = Orders(up.kafka)
    try:
        time.sleep(WARM_S)
        took_ms: list[float] = []
        rates: list[float] = []
        for _ in range(kills):
            time.sleep(chance.uniform(1.5, 2.5))
            began_s = say(CANCEL_ALL)
            rates.append(len(orders.between(began_s - 1, began_s)))
            time.sleep(HOLD_S)
            after = orders.between(began_s, began_s + HOLD_S)
            if after and after[-1] > began_s + HOLD_S / 2:
                raise BenchError(f"an order came {after[-1] - began_s:.2f} s after a kill: it did not hold")
            took_ms.append(1000 * (after[-1] - began_s) if after else 0.0)
            say(RUN)
        if orders.trouble:
            raise BenchError(f"orders could not be read: {orders.trouble}")
    finally:
        orders.close()
    p50, p99 = (float(x) for x in np.percentile(took_ms, [50, 99]))
    if (rate := float(np.median(rates))) < ORDERS_PER_S / 2:
        raise BenchError(f"only {rate:.0f} orders came in the second before a kill, not about {ORDERS_PER_S}")
    return {
        "kills": kills,
        "kill_to_last_order_p50_ms": round(p50, 1),
        "kill_to_last_order_p99_ms": round(p99, 1),
        "kill_to_last_order_max_ms": round(max(took_ms), 1),
        "orders_per_s_before_kills": round(rate),
    }


def kill_switch(kills: int) -> Figures:
    """The whole run, on a cluster of its own."""
    with runtime.temporary(taskmanagers=1) as up:
        console.print(f"logs in {up.logs}")
        context = multiprocessing.get_context("spawn")
        is_ready = context.Event()
        writer = context.Process(target=write, args=(up.kafka, is_ready), daemon=True)
        writer.start()
        try:
            while not is_ready.wait(1):
                if not writer.is_alive():
                    raise BenchError("the writer has failed")
            runtime.submit(up, [JOB])
            figures = killed(up, kills)
        finally:
            writer.kill()
        if failures := {name: cause for name, job in up.rest.active().items() if (cause := up.rest.failure(job))}:
            raise BenchError(f"a job has failed on its way: {failures}")
    return figures


PARTS = ("kill_switch", "oracle_rate", *oracle_harm.PARTS)


def main(
    kills: Annotated[int, typer.Option(min=1, help="How often all is killed and resumed.")] = KILLS,
    parts: Annotated[str, typer.Option(help=f"Which parts, of {','.join(PARTS)}.")] = ",".join(PARTS),
) -> None:
    """Measure the kill switch, the rate of prices and how faults are found; other parts keep their figures."""
    every: dict[str, Callable[[], Figures]] = {
        "kill_switch": lambda: kill_switch(kills),
        "oracle_rate": lambda: on_one_core(oracle_rate.measured),
    }
    run_chosen("controls", every | oracle_harm.PARTS, parts)


if __name__ == "__main__":
    typer.run(main)

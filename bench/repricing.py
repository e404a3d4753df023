"""The load of the chains job: chains of 2,002 options on 13 expiries, and ticks of all their futures.

Both figures are of the production job with the default settings, submitted as `gammaflow submit` does, at parallelism 2.

Every option has bid and ask around a slice of SSVI, so the first batch fits a surface.  After that only the futures' tops move,
one for each expiry, to and fro by `MOVE`.  That is more than the bound of `kernels.chains.forwards`, so each tick reprices
every option.  It is too little to move the middle volatilities by the bound of `kernels.chains.vol_surfaces`, so no tick fits
the surface again.  The surface is still checked in each batch and, in the run for latency, fitted once a minute.

Throughput  `TICKS` ticks of `UNDERLYINGS` chains, one in each window, are in Kafka.  The rate is that of the rows between 15 %
and
            95 % of the progress, in the second of two passes: see `bench.passes`.  All rows are counted, and the fits.
Latency     Ticks of one chain come twice a second in real time, at any position in their window.  The feed writes heartbeats
into
            every partition every 10 ms.  The latency lasts from the first record of a tick, when the producer gets it, until
            the consumer has the last row.  It includes the wait for the end of the window and for records out of order.  The
            latency without that wait, the time of the job itself, is a figure too.
"""

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.passes import BenchError, Ends, end, messages_per_s, watch
from bench.report import has_default_settings
from deploy import runtime, topics
from deploy.runtime import Runtime
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us, key
from udfs import black76

OPTIONS, DAYS = 2_002, (1, 2, 3, 7, 14, 21, 30, 60, 90, 150, 240, 330, 500)
UNDERLYINGS = 8
TICKS = 120
WINDOW_MS, DELAY_MS = 20, 100
"""The window of the job, and how long it waits for records out of order: the defaults (`engine.run`)."""
FORWARD, HALF_SPREAD, HALF_VOL = 60_000.0, 0.25, 0.01
MOVE = 1.2e-5
START_MS = 1_717_200_000_000
LATENCY_TICKS, WARM_UP = 160, 40
INPUTS = ("instruments", "tickers", "book_tops", "index_prices")

Row = dict[str, Any]


class Feed:
    """Writes rows, and heartbeats into every partition."""

    def __init__(self, servers: str) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": servers,
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "queue.buffering.max.messages": 500_000,
            }
        )
        existing = topics.existing_topics(servers)
        self.partitions = {table: range(existing[TABLES[table].topic]) for table in INPUTS}

    def write(self, table: str, event_ms: int, row: Row) -> None:
        """One row."""
        self.producer.produce(TABLES[table].topic, orjson.dumps(row), key(table, row), timestamp=event_ms)
        self.producer.poll(0)

    def heartbeat(self, event_ms: int) -> None:
        """Write a heartbeat with this time into every partition."""
        for table in INPUTS:
            for partition in self.partitions[table]:
                self.producer.produce(TABLES[table].topic, None, "heartbeat", partition, timestamp=event_ms)
        self.producer.poll(0)


def underlyings(number: int) -> list[str]:
    """The names of this many underlyings."""
    return [f"COIN{index}" for index in range(number)]


def chain(currency: str, start_ms: int) -> Iterator[tuple[str, Row]]:
    """Terms and tops of a future and of the options of each expiry."""
    for days in DAYS:
        theta = 0.36 * days / 365
        phi, rho = 0.9 / (theta**0.45 * (1 + theta) ** 0.55), -0.3
        terms = {"underlying": currency, "expiry_at": instant_ms(start_ms + days * 86_400_000)}
        yield "instruments", contract(future(currency, days), start_ms, {**terms, "kind": "future", "quote_currency": "USD"})
        yield future_top(currency, days, start_ms, FORWARD)
        k = np.linspace(-1.5, 1.5, OPTIONS // 2 // len(DAYS)) * theta**0.5
        strikes = (FORWARD * np.exp(k)).round(1)
        w = 0.5 * theta * (1 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1 - rho**2))
        for kind in ("call", "put"):
            bids, asks = (
                black76.price(FORWARD, strikes, days / 365, np.sqrt(w / (days / 365)) + half, kind == "call") / FORWARD
                for half in (-HALF_VOL, HALF_VOL)
            )
            for strike, bid, ask in zip(strikes.tolist(), bids.tolist(), asks.tolist(), strict=True):
                name = f"{currency}-{days}D-{strike}-{kind[0].upper()}"
                option = {"kind": "option", "quote_currency": currency, "option_type": kind, "strike_usd": strike}
                yield "instruments", contract(name, start_ms, terms | option)
                yield top(name, start_ms, bid, ask)


def contract(name: str, event_ms: int, terms: Row) -> Row:
    """Terms of a contract."""
    quote = terms["quote_currency"]
    rest = {"settlement_currency": quote, "is_inverse": quote != "USD", "contract_size": 1.0}
    return {"venue": "deribit", "instrument": name, **at(event_ms), **terms, **rest}


def top(name: str, event_ms: int, bid: float, ask: float) -> tuple[str, Row]:
    """Best bid and ask of a contract."""
    sizes = {"bid_price": bid, "bid_size": 1.0, "ask_price": ask, "ask_size": 1.0}
    return "book_tops", {"venue": "deribit", "instrument": name, **at(event_ms), "sequence": 1, **sizes, "is_stale": False}


def future(currency: str, days: int) -> str:
    """The name of the future of an expiry."""
    return f"{currency}-{days}D"


def future_top(currency: str, days: int, event_ms: int, usd: float) -> tuple[str, Row]:
    """Best bid and ask of a future."""
    return top(future(currency, days), event_ms, usd - HALF_SPREAD, usd + HALF_SPREAD)


def at(event_ms: int) -> Row:
    """The instants of a row of a feed."""
    return {"event_at": instant_ms(event_ms), "received_at": instant_us(event_ms * 1000)}


def tick(currency: str, event_ms: int, number: int) -> Iterator[tuple[str, Row]]:
    """The moved tops of all futures of a chain."""
    for days in DAYS:
        yield future_top(currency, days, event_ms, FORWARD * (1 + MOVE * (number % 2)))


def measured() -> dict[str, Any]:
    """Both figures."""
    with runtime.temporary() as up:
        rows_per_s, rows = throughput(up)
    with runtime.temporary() as up:
        whole_ms, own_ms = latency(up)
    return {
        "default_settings": has_default_settings(),
        "job_rows_per_s": round(rows_per_s),
        "job_rows": rows,
        "reprice_p50_ms": round(float(np.percentile(whole_ms, 50)), 1),
        "reprice_p99_ms": round(float(np.percentile(whole_ms, 99)), 1),
        "reprice_without_wait_p50_ms": round(float(np.percentile(own_ms, 50)), 1),
        "reprice_without_wait_p99_ms": round(float(np.percentile(own_ms, 99)), 1),
        "reprice_ticks": len(whole_ms),
        "reprice_options": OPTIONS,
    }


def throughput(up: Runtime, number: int = UNDERLYINGS, ticks: int = TICKS) -> tuple[float, int]:
    """Rows a second of the second pass, and their number."""
    feed = Feed(up.kafka)
    currencies = underlyings(number)
    for currency in currencies:
        for table, row in chain(currency, START_MS):
            feed.write(table, START_MS, row)
    for turn in range(1, ticks + 1):
        event_ms = START_MS + turn * WINDOW_MS
        for currency in currencies:
            for table, row in tick(currency, event_ms, turn):
                feed.write(table, event_ms, row)
        feed.heartbeat(event_ms)
    feed.heartbeat(START_MS + (ticks + 20) * WINDOW_MS)
    feed.producer.flush(60)
    rows, slices = number * OPTIONS * (ticks + 1), number * len(DAYS)  # a new chain emits all its rows once
    rate = 0.0
    for _ in range(2):
        ends, fits = (Ends(up.kafka, TABLES[table].topic) for table in ("chain_greeks", "vol_surfaces"))
        before, fitted = ends(), fits()
        runtime.submit(up, ["chains"], 2)
        job = up.rest.active()["chains"]
        samples = watch(ends, lambda number, quiet_s, before=before: number - before >= rows or quiet_s > 60)  # type: ignore[misc]
        counts = samples[-1][1] - before, fits() - fitted
        if counts != (rows, slices):
            raise BenchError(f"the job wrote {counts}, {(rows, slices)} rows and slices were expected: {up.rest.failure(job)}")
        rate = messages_per_s(samples, rows)
        end(up, job)
    return rate, rows


def latency(up: Runtime, ticks: int = LATENCY_TICKS) -> tuple[list[float], list[float]]:
    """Milliseconds from each tick to the last of its rows, and from the end of its window."""
    topic = TABLES["chain_greeks"].topic
    runtime.submit(up, ["chains"], 2)
    feed = Feed(up.kafka)
    consumer = Consumer(
        {"bootstrap.servers": up.kafka, "group.id": "bench", "enable.auto.commit": False, "fetch.wait.max.ms": 5}
    )
    consumer.assign([TopicPartition(topic, part, 0) for part in range(topics.existing_topics(up.kafka)[topic])])
    (currency,) = underlyings(1)
    start_ms = int(time.time() * 1000)
    for table, row in chain(currency, start_ms):
        feed.write(table, start_ms, row)
    chance = random.Random(1)
    whole_ms: list[float] = []
    own_ms: list[float] = []
    beat_ms = rows = 0
    tick_s, over_s, next_s, stamp = 0.0, 0.0, time.time() + 5.0, b""
    deadline_s = time.time() + 10.0 + ticks
    while len(whole_ms) < ticks:
        now_s = time.time()
        if now_s * 1000 >= beat_ms + 10:
            beat_ms = int(now_s * 1000)
            feed.heartbeat(beat_ms)
        if now_s >= next_s and not tick_s:
            rows, tick_s, event_ms = 0, now_s, int(now_s * 1000)
            for table, row in tick(currency, event_ms, len(whole_ms) + 1):
                feed.write(table, event_ms, row)
            end_ms = (event_ms // WINDOW_MS + 1) * WINDOW_MS
            over_s, stamp = (end_ms + DELAY_MS) / 1000, instant_ms(end_ms - 1).encode()
        messages = consumer.consume(5_000, timeout=0.001)
        if tick_s:
            rows += sum(stamp in message.value() for message in messages)
            if rows >= OPTIONS:
                now_s = time.time()
                whole_ms.append(1e3 * (now_s - tick_s))
                own_ms.append(1e3 * (now_s - over_s))
                tick_s, next_s = 0.0, tick_s + 0.4 + 0.2 * chance.random()
        if now_s > deadline_s:
            raise BenchError(f"only {len(whole_ms)} ticks were answered; {rows} rows of the last")
    return whole_ms[WARM_UP:], own_ms[WARM_UP:]

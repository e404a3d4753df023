"""The load of the option_greeks job: a chain of 2,000 options on 13 expiries, and ticks of all its forwards.

Both figures are of the production job, submitted as `gammaflow submit` does, at parallelism 2, with windows of 50 ms.

Throughput  `TICKS` ticks, one a window, lie ready; each moves all forwards, so that every option has a row in every window.
            The rate is that of the rows between 15 % and 95 % of the progress, of the second of two passes: see `bench.books`.
            All rows are counted.
Latency     Ticks come twice a second by the clock, at any place within their window.  Feeds say every 10 ms what time it is;
            the forwards and surfaces jobs say so `BEHIND_MS` later at the end of each of their windows, for so much they wait
            themselves.  From handing the forwards of a tick to the producer until the consumer has the last row.
"""

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.books import BenchError, Ends, end, messages_per_s, watch
from deploy import runtime, topics
from deploy.runtime import Runtime
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us, key

OPTIONS, DAYS = 2_002, (1, 2, 3, 7, 14, 21, 30, 60, 90, 150, 240, 330, 500)
TICKS = 600
WINDOW_MS = 50
BEHIND_MS = 150
START_MS = 1_717_200_000_000
LATENCY_TICKS, WARM_UP = 120, 20
INPUTS = ("instruments", "tickers", "forwards", "vol_surfaces")

Row = dict[str, Any]


class Feed:
    """Writes rows, and says in every partition what time it is."""

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

    def heartbeat(self, event_ms: int, *tables: str) -> None:
        """That it is `event_ms`."""
        for table in tables:
            for partition in self.partitions[table]:
                self.producer.produce(TABLES[table].topic, None, "heartbeat", partition, timestamp=event_ms)
        self.producer.poll(0)


def expiries(start_ms: int) -> list[int]:
    """The expiries of the chain."""
    return [start_ms + days * 86_400_000 for days in DAYS]


def chain(start_ms: int) -> Iterator[tuple[str, Row]]:
    """Terms and mark of each option, and the slice of each expiry."""
    at = {"event_at": instant_ms(start_ms), "received_at": instant_us(start_ms * 1000)}
    strikes = np.linspace(30_000, 120_000, OPTIONS // 2 // len(DAYS)).round().tolist()
    for days, expiry_ms in zip(DAYS, expiries(start_ms), strict=True):
        for strike in strikes:
            for kind in ("call", "put"):
                name = f"BTC-{days}D-{strike:.0f}-{kind[0].upper()}"
                yield (
                    "instruments",
                    {
                        "venue": "deribit",
                        "instrument": name,
                        **at,
                        "kind": "option",
                        "underlying": "BTC",
                        "quote_currency": "BTC",
                        "settlement_currency": "BTC",
                        "is_inverse": True,
                        "option_type": kind,
                        "strike_usd": strike,
                        "expiry_at": instant_ms(expiry_ms),
                        "last_trading_at": instant_ms(expiry_ms),
                        "contract_size": 1.0,
                        "tick_size": 0.0001,
                    },
                )
                yield (
                    "tickers",
                    {"venue": "deribit", "instrument": name, **at, "mark_iv": 0.6, "forward_usd": 60_000.0},
                )
        years = days / 365
        yield (
            "vol_surfaces",
            {
                **head(start_ms, expiry_ms),
                "years": years,
                "svi_a": 0.2 * years,
                "svi_b": 0.1 * years**0.5,
                "svi_rho": -0.3,
                "svi_m": 0.0,
                "svi_sigma": 0.5 * years**0.5,
                **dict.fromkeys(("quotes", "stale", "one_sided", "excluded"), 0),
            },
        )


def head(event_ms: int, expiry_ms: int) -> Row:
    """What forwards and slices begin with."""
    at = {"expiry_at": instant_ms(expiry_ms), "event_at": instant_ms(event_ms)}
    return {"venue": "deribit", "underlying": "BTC", **at}


def tick(feed: Feed, event_ms: int, all_expiries: list[int], number: int) -> None:
    """Move all forwards."""
    for expiry_ms in all_expiries:
        forward = {"forward_usd": 60_000.0 + number % 1_000, "source": "future", "strikes": 0, "index_usd": 60_000.0}
        feed.write("forwards", event_ms, head(event_ms, expiry_ms) | forward)


def measured() -> dict[str, Any]:
    """Both figures."""
    conf = {"execution": {"checkpointing": {"interval": "5 s", "mode": "EXACTLY_ONCE"}}}
    with runtime.temporary(conf) as up:
        rows_per_s, rows = throughput(up)
    with runtime.temporary(conf) as up:
        latencies_ms = latency(up)
    return {
        "job_rows_per_s": round(rows_per_s),
        "job_rows": rows,
        "reprice_p50_ms": round(float(np.percentile(latencies_ms, 50)), 1),
        "reprice_p99_ms": round(float(np.percentile(latencies_ms, 99)), 1),
        "reprice_ticks": len(latencies_ms),
        "reprice_options": OPTIONS,
    }


def throughput(up: Runtime) -> tuple[float, int]:
    """Rows a second of the second pass, and how many they were."""
    feed = Feed(up.kafka)
    for table, row in chain(START_MS):
        feed.write(table, START_MS, row)
    for number in range(1, TICKS + 1):
        event_ms = START_MS + number * WINDOW_MS
        tick(feed, event_ms, expiries(START_MS), number)
        feed.heartbeat(event_ms, *INPUTS)
    feed.heartbeat(START_MS + (TICKS + 20) * WINDOW_MS, *INPUTS)
    feed.producer.flush(60)
    # The chain itself is put out once: when its slices come.
    rows = OPTIONS * (TICKS + 1)
    rate = 0.0
    for _ in range(2):
        ends = Ends(up.kafka, TABLES["chain_greeks"].topic)
        before = ends()
        runtime.submit(up, ["option_greeks"], 2)
        job = up.rest.active()["option_greeks"]
        samples = watch(ends, lambda number, quiet_s, before=before: number - before >= rows or quiet_s > 60)  # type: ignore[misc]
        if samples[-1][1] - before != rows:
            raise BenchError(f"the job wrote {samples[-1][1] - before} rows, {rows} were expected: {up.rest.failure(job)}")
        rate = messages_per_s(samples, rows)
        end(up, job)
    return rate, rows


def latency(up: Runtime) -> list[float]:
    """Milliseconds from each tick to the last of its rows."""
    topic = TABLES["chain_greeks"].topic
    runtime.submit(up, ["option_greeks"], 2)
    feed = Feed(up.kafka)
    consumer = Consumer(
        {"bootstrap.servers": up.kafka, "group.id": "bench", "enable.auto.commit": False, "fetch.wait.max.ms": 5}
    )
    consumer.assign([TopicPartition(topic, part, 0) for part in range(topics.existing_topics(up.kafka)[topic])])
    start_ms = int(time.time() * 1000) - 1_000
    for table, row in chain(start_ms):
        feed.write(table, start_ms, row)
    chance = random.Random(1)
    latencies: list[float] = []
    beat_ms = derived_ms = 0
    next_s, tick_s, number, rows = time.monotonic() + 3.0, 0.0, 0, 0
    deadline_s = time.monotonic() + 10.0 + LATENCY_TICKS
    while len(latencies) < LATENCY_TICKS:
        now_ms = int(time.time() * 1000)
        if now_ms >= beat_ms + 10:
            beat_ms = now_ms
            feed.heartbeat(now_ms, "instruments", "tickers")
        end_ms = (now_ms - BEHIND_MS) // WINDOW_MS * WINDOW_MS - 1
        if time.monotonic() >= next_s and not tick_s and end_ms > derived_ms:
            number, rows, tick_s = number + 1, 0, time.monotonic()
            tick(feed, end_ms, expiries(start_ms), number)
        if end_ms > derived_ms:
            derived_ms = end_ms
            feed.heartbeat(end_ms, "forwards", "vol_surfaces")
        messages = consumer.consume(5_000, timeout=0.001)
        if tick_s:
            forward = b'"forward_usd":%d.0,' % (60_000 + number)
            rows += sum(forward in message.value() for message in messages if message.value() is not None)
            if rows >= OPTIONS:
                latencies.append(1e3 * (time.monotonic() - tick_s))
                tick_s, next_s = 0.0, time.monotonic() + 0.3 + 0.4 * chance.random()
        if time.monotonic() > deadline_s:
            raise BenchError(f"only {len(latencies)} ticks were answered; {rows} rows of the last")
    return latencies[WARM_UP:]

"""The load of the benchmarks: a seeded stream of `order_books` rows, and its way into Kafka.

Each instrument's book stands on a grid of prices with 10 to 100 levels a side.  A message changes about four levels: seven in
ten change levels behind the top (three sizes in ten are 0, a deletion); the others also change the top's size, and a third of
those instead move both best prices by one step.  So about 30 % of the messages change the top.  Instruments take turns at
random, all equally often.
"""

import random
import time
from collections.abc import Iterator
from typing import Any

import orjson
from confluent_kafka import Producer

import jobs
from deploy import topics
from engine import batch
from feeds.packs import Packs
from feeds.publish import END_MS, HEARTBEAT_MS
from kernels import books
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us, key

Row = dict[str, Any]

START_MS = 1_717_200_000_000
"""2024-06-01: a broker refuses what lies ahead of its clock."""
MESSAGES_PER_MS = 100
"""Of event time: a catch-up reads about as much in the time that the load spans."""
TOP_SHARE = 0.3
WINDOW_MS = 50
TOPIC = TABLES["order_books"].topic


class Ladder:
    """One instrument's book, as far as the stream must know it; prices in steps of half a dollar."""

    def __init__(self, instrument: str, chance: random.Random) -> None:
        self.instrument = instrument
        self.chance = chance
        self.depth = chance.randint(10, 100)  # levels a side
        self.bid = chance.randint(100_000, 140_000)  # steps; the best ask is the next one
        self.sequence = 1

    def size(self) -> float:
        """Contracts, above 0."""
        return int(self.chance.random() * 99_999 + 1) / 10

    def row(self, event_at: str, received_at: str, previous: int | None, bids: list[Any], asks: list[Any]) -> Row:
        """An `order_books` row."""
        return {
            "venue": "deribit",
            "instrument": self.instrument,
            "event_at": event_at,
            "received_at": received_at,
            "kind": "snapshot" if previous is None else "change",
            "sequence": self.sequence,
            "prev_sequence": previous,
            "bids": [[step / 2, size] for step, size in bids],
            "asks": [[step / 2, size] for step, size in asks],
        }

    def snapshot(self, event_at: str, received_at: str) -> Row:
        """The whole book."""
        bids = [(self.bid - level, self.size()) for level in range(self.depth)]
        asks = [(self.bid + 1 + level, self.size()) for level in range(self.depth)]
        return self.row(event_at, received_at, None, bids, asks)

    def change(self, event_at: str, received_at: str) -> Row:
        """The next update."""
        chance, depth, bid = self.chance.random, self.depth, self.bid
        bids: list[tuple[int, float]] = []
        asks: list[tuple[int, float]] = []
        kind = chance() / TOP_SHARE
        if kind < 1 / 6:  # one step up
            bids = [(bid + 1, self.size()), (bid - depth + 1, 0)]
            asks = [(bid + 1, 0), (bid + 2, self.size()), (bid + depth + 1, self.size())]
            self.bid += 1
        elif kind < 1 / 3:  # one step down
            bids = [(bid, 0), (bid - 1, self.size()), (bid - depth, self.size())]
            asks = [(bid, self.size()), (bid + depth, 0)]
            self.bid -= 1
        else:
            if kind < 1:
                best = bid if chance() < 0.5 else bid + 1
                (bids if best == bid else asks).append((best, self.size()))
            for _ in range(int(chance() * 7) + (kind >= 1)):
                level = 1 + int(chance() * (depth - 1))
                size = 0 if chance() < 0.3 else self.size()
                if chance() < 0.5:
                    bids.append((bid - level, size))
                else:
                    asks.append((bid + 1 + level, size))
        previous = self.sequence
        self.sequence += 1
        return self.row(event_at, received_at, previous, bids, asks)


def stream(messages: int, instruments: int, seed: int = 7) -> Iterator[tuple[int, Row]]:
    """`messages` rows with their event times in ms: a snapshot of each instrument, then changes."""
    chance = random.Random(seed)
    ladders = [Ladder(f"BTC-27JUN25-{60_000 + 1_000 * number}-C", chance) for number in range(instruments)]
    event_at = received_at = ""
    for number in range(messages):
        milliseconds, part = divmod(number, MESSAGES_PER_MS)
        event_ms = START_MS + milliseconds
        if part == 0:
            event_at, received_at = instant_ms(event_ms), instant_us((event_ms + 2) * 1000)[:-4]
        receipt = f"{received_at}{part * (1000 // MESSAGES_PER_MS):03d}Z"
        if number < instruments:
            yield event_ms, ladders[number].snapshot(event_at, receipt)
        else:
            yield event_ms, ladders[int(chance.random() * instruments)].change(event_at, receipt)


class Truth:
    """What the kernel says of the stream when it runs here, without Flink."""

    def __init__(self) -> None:
        self.state = books.new()
        self.batch: list[bytes] = []
        self.until_ms = START_MS + WINDOW_MS
        self.messages = self.records = self.tops = self.others = self.level_changes = 0
        self.kernel_s = 0.0  # of processor time

    def count(self, row: Row) -> None:
        """Take notice of a row."""
        self.messages += 1
        if row["kind"] == "change":
            self.level_changes += len(row["bids"]) + len(row["asks"])

    def add(self, event_ms: int, value: bytes) -> None:
        """Take one record, in the order of the stream."""
        if event_ms >= self.until_ms:
            self.step()
            self.until_ms += WINDOW_MS
        self.batch.append(b"%s\x1f0\x1f%d\x1f%s" % (TOPIC.encode(), self.records, value))
        self.records += 1

    def step(self) -> None:
        """End the micro-batch."""
        data, start_s = batch.RECORD.join(self.batch), time.thread_time()
        lines = batch.run(books.KERNEL, self.state, data, self.until_ms)
        self.kernel_s += time.thread_time() - start_s
        for table, _, values in lines:
            rows = values.count(b"\n") + 1
            if table == "book_tops":
                self.tops += rows
            elif table != "book_depth":
                self.others += rows
        self.batch = []


def publish(servers: str, messages: int, instruments: int, is_packed: bool = True) -> Truth:
    """Write the stream into order_books.v1, and heartbeats into all that `books` reads; returns what the kernel makes of it.

    As `feeds.publish.Publisher` writes them but for larger batches: the load is made fast, and read many times.
    """
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "zstd",
            "partitioner": "murmur2_random",
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
        }
    )
    partitions = topics.existing_topics(servers)[TOPIC]
    truth = Truth()

    def produce(topic: str, partition: int, row_key: str | None, value: bytes | None, event_ms: int) -> None:
        while True:
            try:
                producer.produce(topic, value, row_key, partition, timestamp=event_ms)
                return
            except BufferError:
                producer.poll(0.1)

    def send(partition: int, row_key: str | None, value: bytes, event_ms: int) -> None:
        truth.add(event_ms, value)
        produce(TOPIC, partition, row_key, value, event_ms)

    def heartbeat(event_ms: int) -> None:
        packs.ship()
        for table in jobs.job("books").reads:
            for partition in range(partitions):
                produce(TABLES[table].topic, partition, "heartbeat", None, event_ms)

    packs = Packs(partitions if is_packed else 0, send)
    event_ms = heartbeat_ms = 0
    for event_ms, row in stream(messages, instruments):
        if event_ms >= heartbeat_ms + HEARTBEAT_MS:
            heartbeat_ms = event_ms
            heartbeat(event_ms)
        packs.add(row, key("order_books", row), orjson.dumps(row), event_ms)
        truth.count(row)
        producer.poll(0)
    heartbeat(event_ms + END_MS)
    truth.step()
    if left := producer.flush(60):
        raise RuntimeError(f"{left} records were not acknowledged")
    return truth

"""The load of the benchmarks: a seeded stream of `order_books` rows, and its way into Kafka.

Each instrument's book is on a grid of prices with 10 to 100 levels a side.  A message changes about four levels.  Seven in ten
messages change levels behind the top (three sizes in ten are 0, a deletion); the others change the size at the top or, one in
three of them, move both best prices by one step.  So about 30 % of the messages change the top.  The instruments are drawn at
random, all with the same probability.
"""

import random
import time
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from confluent_kafka import Producer

import jobs
from bench.passes import BenchError
from deploy import topics
from engine import batch
from feeds.heartbeats import KEY, Heartbeats
from feeds.packs import Packs
from feeds.publish import END_MS, HEARTBEAT_MS
from kernels import books
from schemas.partitions import partition_of
from schemas.records import TABLES
from schemas.rows import instant_ms, instant_us, key

Row = dict[str, Any]

START_MS = 1_717_200_000_000
"""2024-06-01: a broker refuses timestamps ahead of its clock."""
MESSAGES_PER_MS = 100
"""Of event time: a job that catches up reads about this many."""
TOP_SHARE = 0.3
WINDOW_MS = 20
"""The default of the job (`jobs.WINDOW_S`)."""
TOPIC = TABLES["order_books"].topic


class Ladder:
    """One instrument's book, as far as the stream needs it; prices in steps of half a dollar."""

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


class Stream:
    """A stream that continues where it ended."""

    def __init__(self, instruments: int, seed: int = 7) -> None:
        self.chance = random.Random(seed)
        self.ladders = [Ladder(f"BTC-27JUN25-{60_000 + 1_000 * number}-C", self.chance) for number in range(instruments)]
        self.number = 0

    def rows(self, messages: int, start_ms: int) -> Iterator[tuple[int, Row]]:
        """The next rows with their event times, from `start_ms` on: a snapshot of each instrument first, then changes."""
        event_at = received_at = ""
        for count in range(messages):
            milliseconds, part = divmod(count, MESSAGES_PER_MS)
            event_ms = start_ms + milliseconds
            if part == 0:
                event_at, received_at = instant_ms(event_ms), instant_us((event_ms + 2) * 1000)[:-4]
            receipt = f"{received_at}{part * (1000 // MESSAGES_PER_MS):03d}Z"
            if self.number < len(self.ladders):
                row = self.ladders[self.number].snapshot(event_at, receipt)
            else:
                row = self.ladders[int(self.chance.random() * len(self.ladders))].change(event_at, receipt)
            self.number += 1
            yield event_ms, row


def stream(messages: int, instruments: int, seed: int = 7) -> Iterator[tuple[int, Row]]:
    """`messages` rows with their event times in ms, from the beginning of the stream."""
    return Stream(instruments, seed).rows(messages, START_MS)


class Truth:
    """The rows of the kernel for the stream, run here, without Flink."""

    def __init__(self) -> None:
        self.state = books.new()
        self.batch: list[bytes] = []
        self.until_ms = START_MS + WINDOW_MS
        self.messages = self.records = self.tops = self.faults = self.level_changes = 0
        self.kernel_s = 0.0  # of processor time

    def count(self, row: Row) -> None:
        """Count a row."""
        self.messages += 1
        if row["kind"] == "change":
            self.level_changes += len(row["bids"]) + len(row["asks"])

    def add(self, event_ms: int, value: bytes) -> None:
        """Take one record, in the order of the stream."""
        if event_ms >= self.until_ms:
            self.step()
            self.until_ms = (event_ms // WINDOW_MS + 1) * WINDOW_MS
        self.batch.append(b"%s\x1f0\x1f%d\x1f%s" % (TOPIC.encode(), self.records, value))
        self.records += 1

    def step(self) -> None:
        """End the micro-batch, if there is one."""
        if not self.batch:
            return
        data, start_s = batch.RECORD.join(self.batch), time.thread_time()
        lines = batch.run(books.KERNEL, self.state, data, self.until_ms)
        self.kernel_s += time.thread_time() - start_s
        for table, _, values in lines:
            rows = values.count(b"\n") + 1
            if table == "book_tops":
                self.tops += rows
            elif table != "book_depth":
                self.faults += rows
        self.batch = []


class Load:
    """The contents of order_books.v1, which can grow: rows as `feeds.publish.Publisher` writes them, and heartbeats.

    The producer's batches are larger than a feed's, so that the load is written fast.
    """

    def __init__(self, servers: str, instruments: int, is_packed: bool = True, heartbeat_tables: Iterable[str] = ()) -> None:
        """Heartbeats go to the topics of `heartbeat_tables`, by default to those that `books` reads."""
        self.instruments, self.truth, self.end_ms = instruments, Truth(), START_MS
        self._stream = Stream(instruments)
        self._servers = servers
        self._producer: Producer | None = None
        self._partitions = topics.existing_topics(servers)[TOPIC]
        self._packs = Packs(self._partitions if is_packed else 0, self._send)
        read = [TABLES[table].topic for table in [*heartbeat_tables] or jobs.job("books").reads]
        parts = [(topic, part) for topic in read for part in range(self._partitions)]
        self._heartbeats = Heartbeats(parts, HEARTBEAT_MS, self._heartbeat)

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return self.truth.messages

    def add(self, messages: int) -> None:
        """Write the next rows, and heartbeats after them, so that a job can process them all.  Raises `BenchError`.

        The event time of the next call follows the heartbeats.
        """
        self._producer = producer = Producer(
            {
                "bootstrap.servers": self._servers,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "zstd",
                "partitioner": "murmur2_random",
                "linger.ms": 50,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": 500_000,
            }
        )
        event_ms = self.end_ms
        for event_ms, row in self._stream.rows(messages, self.end_ms):
            if self._heartbeats.is_due(event_ms):
                self._packs.ship()
                self._heartbeats.tell(event_ms)
            self._packs.add(row, key("order_books", row), orjson.dumps(row), event_ms)
            self.truth.count(row)
            producer.poll(0)
        self._packs.ship()
        self.end_ms = event_ms + END_MS
        self._heartbeats.tell(self.end_ms)
        self.truth.step()
        if left := producer.flush(60):
            raise BenchError(f"{left} records were not acknowledged")
        # Otherwise it would look for its broker after that has stopped.
        self._producer = None
        if self.truth.faults:
            raise BenchError(f"the load is wrong: the kernel finds {self.truth.faults} faults in it")

    def _send(self, partition: int, row_key: str | None, value: bytes, event_ms: int) -> None:
        self.truth.add(event_ms, value)
        if partition < 0:
            partition = partition_of(row_key or "", self._partitions)
        self._produce(TOPIC, partition, row_key, value, event_ms)

    def _heartbeat(self, topic: str, partition: int, event_ms: int) -> None:
        self._produce(topic, partition, KEY, None, event_ms)

    def _produce(self, topic: str, partition: int, row_key: str | None, value: bytes | None, event_ms: int) -> None:
        assert self._producer is not None
        while True:
            try:
                self._producer.produce(topic, value, row_key, partition, timestamp=event_ms)
                return
            except BufferError:
                self._producer.poll(0.1)

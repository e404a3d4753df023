"""What a feed wrote, against what it received and against what the venue sent."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, TopicPartition

from bench.harmed_venue import Truth
from deploy import topics
from feeds.capture import Converter, read
from schemas.records import TABLES
from schemas.rows import encoded, key, to_ms

COMPARED = ("order_books", "trades", "tickers", "index_prices")
LISTED = "instruments"
KEPT = 20_000
"""How many changes of a book may have come before a snapshot that is older."""
REMEMBERED = 400_000
"""How many messages of the other connection may lie between two that are the same."""


class Chains:
    """The rows of each key in their order, each key's as one digest; and listings, which may come again."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[int, bytes]] = defaultdict(lambda: (0, b""))
        self.listed: set[bytes] = set()

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Take the next row."""
        if table in COMPARED:
            name = table, key(table, row)
            number, digest = self.rows[name]
            self.rows[name] = number + 1, blake2b(digest + encoded(row), digest_size=8).digest()
        elif table == LISTED:
            self.listed.add(encoded({column: value for column, value in row.items() if column != "received_at"}))

    def differences(self, other: "Chains") -> list[str]:
        """What is not the same."""
        names = sorted(self.rows.keys() | other.rows.keys())
        found = [
            f"{name}: {self.rows[name][0]} rows, expected {other.rows[name][0]}"
            for name in names
            if self.rows[name] != other.rows[name]
        ]
        return found + [f"instruments: {row!r} is in one alone" for row in self.listed ^ other.listed]


def offline(files: Iterable[Path], chains: Chains) -> int:
    """Convert recorded files, each message once however many connections brought it; returns how many lines there were."""
    converter, lines = Converter(), 0
    seen: dict[bytes, None] = {}
    for path in files:
        for line in read("binance", path):
            lines += 1
            if line.kind == "message" and not (line.url or "").startswith("http"):
                if line.message in seen:
                    continue
                seen[line.message] = None
                if len(seen) > REMEMBERED:
                    del seen[next(iter(seen))]
            for record in converter.convert(line).records:
                chains.add(record.table, record.row)
    return lines


def follow(files: Any, results: Any) -> None:
    """A process that converts files as they come by one queue, None being the end, and gives what they are by another."""
    chains = Chains()

    def named() -> Iterator[Path]:
        while (name := files.get()) is not None:
            yield Path(name)

    lines = offline(named(), chains)
    results.put((dict(chains.rows), chains.listed, lines))


class Book:
    """A book by Binance's rules: a snapshot holds the changes up to its number; those after it are applied."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.number: int | None = None  # None: there is a gap
        self._changes: deque[Mapping[str, Any]] = deque(maxlen=KEPT)

    def apply(self, row: Mapping[str, Any]) -> None:
        """Take the next row."""
        if row["kind"] == "change":
            self._changes.append(row)
            self._change(row)
            return
        self.bids, self.asks = dict(row["bids"]), dict(row["asks"])
        self.number = row["sequence"]
        for change in self._changes:
            self._change(change)

    def _change(self, row: Mapping[str, Any]) -> None:
        if self.number is None or row["sequence"] <= self.number:
            return
        # The first change after a snapshot may begin before it.
        if row["prev_sequence"] > self.number:
            self.number = None
            return
        for side, levels in ((self.bids, row["bids"]), (self.asks, row["asks"])):
            for price, size in levels:
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
        self.number = row["sequence"]

    def equals(self, answer: Mapping[str, Any]) -> bool:
        """Whether it is the book that the venue answers."""
        sides = [{float(price): float(size) for price, size in answer[side]} for side in ("bids", "asks")]
        return self.number == answer["lastUpdateId"] and [self.bids, self.asks] == sides


class Written:
    """The topics as they grow."""

    def __init__(self, servers: str) -> None:
        self.chains = Chains()
        self.books: dict[str, Book] = defaultdict(Book)
        self.numbers: dict[str, bytearray] = defaultdict(bytearray)  # by stream, how often each number is there
        self.rows = self.dead_letters = 0
        self.ahead_ms = 0  # of timestamps, against receipt
        self._tables = {TABLES[table].topic: table for table in (*COMPARED, LISTED, "dead_letters")}
        # Of a broker that is away the log says so, again and again.
        self._consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False, "log_level": 0}
        )
        parts = [(topic, part) for topic, part in topics.ends(servers, list(self._tables.values()))]
        self._consumer.assign([TopicPartition(topic, part, 0) for topic, part in parts])

    def read(self, timeout_s: float) -> int:
        """Read what has come; returns how many rows that was, but those of listings, which come again and again."""
        before = self.rows
        for message in self._consumer.consume(5_000, timeout=timeout_s):
            value = message.value()
            if message.error() or value is None:
                continue
            rows = orjson.loads(value)
            for row in rows if type(rows) is list else [rows]:
                self._take(self._tables[message.topic()], row, message.timestamp()[1])
        return self.rows - before

    def _take(self, table: str, row: Mapping[str, Any], timestamp_ms: int) -> None:
        self.rows += table in COMPARED
        self.dead_letters += table == "dead_letters"
        self.chains.add(table, row)
        if table == "order_books":
            self.ahead_ms = max(self.ahead_ms, timestamp_ms - to_ms(row["received_at"]))
            self.books[row["instrument"]].apply(row)
            if row["kind"] == "change":
                self._count(row, "depth@100ms", row["sequence"] // 3)
        elif table == "trades":
            self._count(row, "aggTrade", int(row["trade_id"].removeprefix("a")))
        elif table == "tickers":
            if row["has_quote"]:
                self._count(row, "bookTicker", row["sequence"])
            else:
                self._count(row, "markPrice@1s", round((row["mark_price"] - 100) * 10_000))

    def _count(self, row: Mapping[str, Any], kind: str, number: int) -> None:
        counts = self.numbers[f"{row['instrument'].lower()}@{kind}"]
        if number > len(counts):
            counts.extend(bytes(number - len(counts)))
        counts[number - 1] = min(255, counts[number - 1] + 1)

    def close(self) -> None:
        """Read no more."""
        self._consumer.close()

    def doubled(self) -> int:
        """How many messages are there more than once."""
        return sum(sum(count > 1 for count in counts) for counts in self.numbers.values())

    def missing(self, truth: Truth) -> tuple[int, int]:
        """How many messages are not there, of those that surely reached a connection, and of the others."""
        lost = [0, 0]
        for stream, is_sure in truth.is_sure.items():
            counts = self.numbers[stream]
            present = counts + bytes(len(is_sure) - len(counts))
            for sure, count in zip(is_sure, present, strict=True):
                if not count:
                    lost[not sure] += 1
        return lost[0], lost[1]

    def stale(self, truth: Truth) -> list[str]:
        """The books that are not the venue's."""
        return [name for name, answer in truth.books.items() if not self.books[name].equals(answer)]

"""The books job in Bytewax: decode, keep each book, write every change of its top to Kafka.

It checks no row and follows only the plain case of the sequence, which is less than the job does.  The books sit in a stateful
operator that takes the messages of a key in batches, the fastest way that Bytewax offers; recovery is off.
Run by `python -m bench.books` with KAFKA, INPUT and OUTPUT in the environment.
"""

import os
from bisect import bisect_left, insort
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic

Row = dict[str, Any]


class Side:
    def __init__(self) -> None:
        self.prices: list[float] = []
        self.sizes: dict[float, float] = {}

    def apply(self, levels: list[list[float]]) -> None:
        for price, size in levels:
            if size:
                if price not in self.sizes:
                    insort(self.prices, price)
                self.sizes[price] = size
            elif self.sizes.pop(price, None) is not None:
                del self.prices[bisect_left(self.prices, price)]


class Book(StatefulBatchLogic):  # type: ignore[misc]
    def __init__(self, _: Any) -> None:
        self.bids, self.asks = Side(), Side()
        self.sequence: int | None = None
        self.top: tuple[Any, ...] | None = None

    def on_batch(self, values: list[Row]) -> tuple[list[Row], bool]:
        tops = []
        for row in values:
            if row["kind"] == "snapshot":
                self.bids, self.asks = Side(), Side()
            elif row["prev_sequence"] != self.sequence:
                continue
            self.bids.apply(row["bids"])
            self.asks.apply(row["asks"])
            self.sequence = row["sequence"]
            bid = self.bids.prices[-1] if self.bids.prices else None
            ask = self.asks.prices[0] if self.asks.prices else None
            top = bid, bid and self.bids.sizes[bid], ask, ask and self.asks.sizes[ask]
            if top != self.top:
                self.top = top
                tops.append(
                    {
                        "venue": row["venue"],
                        "instrument": row["instrument"],
                        "event_at": row["event_at"],
                        "received_at": row["received_at"],
                        "sequence": row["sequence"],
                        "bid_price": bid,
                        "bid_size": top[1],
                        "ask_price": ask,
                        "ask_size": top[3],
                        "is_stale": False,
                    }
                )
        return tops, StatefulBatchLogic.RETAIN

    def snapshot(self) -> Any:
        return None


def decoded(messages: list[KafkaSourceMessage]) -> list[tuple[str, Row]]:
    return [(message.key.decode(), orjson.loads(message.value)) for message in messages if message.value is not None]


def encoded(rows: list[tuple[str, Row]]) -> list[KafkaSinkMessage]:
    return [KafkaSinkMessage(key.encode(), orjson.dumps(row)) for key, row in rows]


brokers = [os.environ["KAFKA"]]
flow = Dataflow("books")
source = KafkaSource(brokers, [os.environ["INPUT"]], tail=False, batch_size=5_000)
rows = op.flat_map_batch("decode", op.input("read", flow, source), decoded)
tops = op.stateful_batch("books", rows, Book)
sink = KafkaSink(brokers, os.environ["OUTPUT"], add_config={"compression.type": "zstd", "linger.ms": "5"})
op.output("write", op.flat_map_batch("encode", tops, encoded), sink)

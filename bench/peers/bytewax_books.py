"""The books job in Bytewax.  The books sit in a stateful operator that takes the messages of a key in batches, the fastest way
that Bytewax offers; recovery is off.

Run by `python -m bench.books`, with KAFKA, INPUT and OUTPUT in the environment.
"""

import os
from typing import Any

import bytewax.operators as op
import orjson
from book import Book, Row  # type: ignore[import-not-found]
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic


class Books(StatefulBatchLogic):  # type: ignore[misc]
    def __init__(self, _: Any) -> None:
        self.book = Book()

    def on_batch(self, values: list[Row]) -> tuple[list[Row], bool]:
        return [top for row in values if (top := self.book.apply(row))], StatefulBatchLogic.RETAIN

    def snapshot(self) -> Any:
        return None


def decoded(messages: list[KafkaSourceMessage]) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    for message in messages:
        if message.value is not None:
            value = orjson.loads(message.value)
            rows += [(f"{row['venue']}:{row['instrument']}", row) for row in (value if type(value) is list else (value,))]
    return rows


def encoded(rows: list[tuple[str, Row]]) -> list[KafkaSinkMessage]:
    return [KafkaSinkMessage(key.encode(), orjson.dumps(row)) for key, row in rows]


brokers = [os.environ["KAFKA"]]
flow = Dataflow("books")
source = KafkaSource(brokers, [os.environ["INPUT"]], tail=False, batch_size=5_000)
rows = op.flat_map_batch("decode", op.input("read", flow, source), decoded)
tops = op.stateful_batch("books", rows, Books)
sink = KafkaSink(brokers, os.environ["OUTPUT"], add_config={"compression.type": "zstd", "linger.ms": "5"})
op.output("write", op.flat_map_batch("encode", tops, encoded), sink)

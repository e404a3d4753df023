"""The books job in Quix Streams.  The books are kept in memory: its own state is read and written whole at each message, and a
book is many levels.

Run by `python -m bench.books`, with KAFKA, INPUT and OUTPUT in the environment.  It ends when nothing has come for 5 s.
"""

import os
from typing import Any

import orjson
from book import Book, Row  # type: ignore[import-not-found]
from quixstreams import Application

app = Application(
    broker_address=os.environ["KAFKA"],
    consumer_group="quix_books",
    auto_offset_reset="earliest",
    use_changelog_topics=False,
    auto_create_topics=False,
    producer_extra_config={"compression.type": "zstd", "linger.ms": 5},
    loglevel="ERROR",
)
source = app.topic(os.environ["INPUT"], value_deserializer="bytes", key_deserializer="bytes")
sink = app.topic(os.environ["OUTPUT"], value_serializer="bytes", key_serializer="bytes")
books: dict[bytes, Book] = {}


def top(value: bytes | None, key: bytes, *_: Any) -> list[bytes]:
    if value is None:
        return []
    book = books.get(key) or books.setdefault(key, Book())
    row: Row | None = book.apply(orjson.loads(value))
    return [orjson.dumps(row)] if row else []


app.dataframe(source).apply(top, expand=True, metadata=True).to_topic(sink)
app.run(timeout=5.0)

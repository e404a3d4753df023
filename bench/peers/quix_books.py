"""The books job in Quix Streams.  The books are kept in memory, because its own state would read and write a whole book for
each message.

Run by `python -m bench.books`, with KAFKA, INPUT and OUTPUT in the environment.  It ends when nothing has come for 5 s.
"""

import os

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
sink = app.topic(os.environ["OUTPUT"], value_serializer="json", key_serializer="str")
books: dict[str, Book] = {}


def key(row: Row) -> str:
    return f"{row['venue']}:{row['instrument']}"


def tops(value: bytes | None) -> list[Row]:
    if value is None:
        return []
    rows = orjson.loads(value)
    changed = []
    for row in rows if type(rows) is list else (rows,):
        book = books.get(name := key(row)) or books.setdefault(name, Book())
        if top := book.apply(row):
            changed.append(top)
    return changed


app.dataframe(source).apply(tops, expand=True).to_topic(sink, key=key)
app.run(timeout=5.0)

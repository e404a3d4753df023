"""The books job as a plain consumer and producer: each process has its share of the partitions, and its books in memory.

Run by `python -m bench.books`, with KAFKA, INPUT, OUTPUT, and the partitions of this process in PARTITIONS.  It ends when it
has read all records that were there at its start.
"""

import os

import orjson
from book import Book  # type: ignore[import-not-found]
from confluent_kafka import Consumer, Producer, TopicPartition

topic = os.environ["INPUT"]
consumer = Consumer({"bootstrap.servers": os.environ["KAFKA"], "group.id": "consumer_books", "enable.auto.commit": False})
producer = Producer(
    {
        "bootstrap.servers": os.environ["KAFKA"],
        "compression.type": "zstd",
        "linger.ms": 5,
        "queue.buffering.max.messages": 1_000_000,
    }
)
parts = [TopicPartition(topic, int(part), 0) for part in os.environ["PARTITIONS"].split(",")]
left = sum(consumer.get_watermark_offsets(part)[1] for part in parts)
consumer.assign(parts)
books: dict[str, Book] = {}
while left > 0:
    messages = consumer.consume(5_000, timeout=1)
    left -= len(messages)
    for message in messages:
        if (value := message.value()) is not None:
            rows = orjson.loads(value)
            for row in rows if type(rows) is list else (rows,):
                key = f"{row['venue']}:{row['instrument']}"
                book = books.get(key) or books.setdefault(key, Book())
                if top := book.apply(row):
                    producer.produce(os.environ["OUTPUT"], orjson.dumps(top), key)
    producer.poll(0)
producer.flush()

"""Where a private feed resumes: the fills of its account that are in Kafka."""

import time
from collections.abc import Iterable
from typing import NamedTuple

import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition

from feeds.private.service import Published
from feeds.publish import PublishError
from schemas.clients import Unreachable, reached
from schemas.partitions import partition_of
from schemas.records import TABLES
from schemas.rows import fault, to_ms
from schemas.security import FEED, manner

LOOKBACK_S = (3600, 86_400)
"""How far back the topic is read: the second one if the first has no fill of the account."""
_BATCH, _POLL_S = 10_000, 0.1


class Resume(NamedTuple):
    """What the topic has of an account on a market."""

    newest_ms: int | None  # event time of its newest fill; None without any
    instruments: list[str]


def resume(servers: str, market: str, account: str, published: Published, *, timeout_s: float = 10.0) -> Resume:
    """Where a feed of an account resumes, by its fills of the last day, which are added to `published`.

    Raises `PublishError` if the topic cannot be read.
    """
    topic = TABLES["fills"].topic
    settings = {"group.id": "gammaflow-fills", "enable.auto.commit": False, "enable.partition.eof": False}
    try:
        consumer, known = reached(Consumer, servers, FEED, settings, timeout_s)
    except Unreachable as error:
        raise PublishError(f"{topic} on {servers}: {error}") from None
    try:
        if topic not in known:
            raise PublishError(f"{topic} on {servers}: there is no such topic that we may see, {manner(FEED)}")
        part = TopicPartition(topic, partition_of(account, known[topic]))
        for seconds in LOOKBACK_S:
            part.offset = int((time.time() - seconds) * 1000)
            values = _values(consumer, consumer.offsets_for_times([part], timeout=timeout_s)[0], timeout_s)
            last_day = resumed(values, market, account, published)
            if last_day.newest_ms is not None:
                break
        return last_day
    except KafkaException as error:
        raise PublishError(f"{topic} on {servers}, {manner(FEED)}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _values(consumer: Consumer, start: TopicPartition, timeout_s: float) -> Iterable[bytes]:
    """The values of a partition from an offset to its end; below 0 it is the end."""
    end = consumer.get_watermark_offsets(start, timeout=timeout_s)[1]
    if not 0 <= start.offset < end:
        return
    consumer.assign([start])
    last_s = time.monotonic()
    while consumer.position([start])[0].offset < end:
        messages = consumer.consume(_BATCH, _POLL_S)
        if messages:
            last_s = time.monotonic()
        elif time.monotonic() - last_s > timeout_s:
            raise PublishError(f"{start.topic}: no record within {timeout_s:g} s")
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            value = message.value()
            if value is not None:
                yield value


def resumed(values: Iterable[bytes], market: str, account: str, published: Published) -> Resume:
    """The same by the values of the topic's records."""
    newest_ms, instruments = None, dict[str, None]()
    for value in values:
        try:
            row = orjson.loads(value)
        except orjson.JSONDecodeError:
            continue
        if fault("fills", row) is not None or row["account"] != account:
            continue
        if row["venue"] != market and not row["venue"].startswith(f"{market}_"):
            continue
        published.add("fills", row)
        published.add("execution_reports", {"exec_id": row["fill_id"], "fee": row["fee"]})
        newest_ms = max(newest_ms or 0, to_ms(row["event_at"]))
        instruments[row["instrument"]] = None
    return Resume(newest_ms, list(instruments))

"""Which books are wanted anew: what the books job asks of whoever listens to the venue."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.clients import Unreachable, reached
from schemas.records import TABLES
from schemas.rows import fault, to_ms
from schemas.security import FEED, manner

_POLL_S = 0.2
# What a broker answers while it starts, or has just made the topic.
_NOT_YET = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)

_log = logging.getLogger(__name__)


class ResyncError(Exception):
    """The topic of requests cannot be read; the message names the broker and the reason."""


class Resync(NamedTuple):
    """One book that is wanted anew."""

    venue: str
    instrument: str
    event_ms: int  # exchange time of what made it so: a snapshot of later has answered it
    reason: str


@contextmanager
def requests(servers: str, *, timeout_s: float = 10.0) -> Iterator[asyncio.Queue[Resync]]:
    """A queue that gets every request made from now on, until the block ends; to be used in an event loop.

    Raises `ResyncError` if no broker answers within `timeout_s`.
    """
    queue: asyncio.Queue[Resync] = asyncio.Queue()
    loop, done = asyncio.get_running_loop(), threading.Event()
    topic = TABLES["resync_requests"].topic
    settings = {
        "group.id": "gammaflow-resync",
        "enable.auto.commit": False,
        "auto.offset.reset": "latest",
        "isolation.level": "read_uncommitted",  # a request that is withdrawn costs one snapshot, waiting costs a stale book
        "logger": _log,
    }
    try:
        consumer, known = reached(Consumer, servers, FEED, settings, timeout_s)
    except Unreachable as error:
        raise ResyncError(f"{topic} on {servers}: {error}") from None

    def read() -> None:
        while not done.is_set():
            message = consumer.poll(_POLL_S)
            if message is None:
                continue
            if message.error():
                _log.warning("%s: %s", topic, message.error().str())
                continue
            resync = parsed(message.value())
            if resync is not None:
                loop.call_soon_threadsafe(queue.put_nowait, resync)

    try:
        try:
            if topic not in known:
                raise ResyncError(f"{topic} on {servers}: there is no such topic that we may see, {manner(FEED)}")
            parts = [TopicPartition(topic, part) for part in range(known[topic])]
            for part in parts:
                part.offset = _end(consumer, part, time.monotonic() + timeout_s)
        except KafkaException as error:
            raise ResyncError(f"{topic} on {servers}: {error.args[0].str()}") from error
        consumer.assign(parts)
        reader = threading.Thread(target=read, name="resync", daemon=True)
        reader.start()
        try:
            yield queue
        finally:
            done.set()
            reader.join()
    finally:
        consumer.close()


def _end(consumer: Consumer, part: TopicPartition, deadline_s: float) -> int:
    """The end of a partition; a broker that has just started may refuse to tell it for a moment.  Raises `KafkaException`."""
    while True:
        try:
            return int(consumer.get_watermark_offsets(part, timeout=max(0.1, deadline_s - time.monotonic()))[1])
        except KafkaException as error:
            if error.args[0].code() not in _NOT_YET or time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)


def parsed(value: bytes | None) -> Resync | None:
    """The request in a record of the topic; None for a heartbeat, and for what is no request."""
    if value is None:
        return None
    try:
        row = orjson.loads(value)
    except orjson.JSONDecodeError:
        row = None
    wrong = fault("resync_requests", row)
    if wrong is not None:
        _log.warning("%s: %s: expected %s, got %s", TABLES["resync_requests"].topic, *wrong)
        return None
    return Resync(row["venue"], row["instrument"], to_ms(row["event_at"]), row["reason"])

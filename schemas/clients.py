"""Clients of librdkafka that reach their broker, or say why not."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas import security

Client = TypeVar("Client")
_ATTEMPT_S = 0.5
_BACKOFF_MS = 500
"""Between two connections to a broker that closes them: with the client's default of 100 there are 20 a second."""
# Errors that no retry mends.
_REFUSED = (KafkaError._AUTHENTICATION, KafkaError._SSL)


class Unreachable(Exception):
    """No broker answers, or it refuses us; the message names the broker and our user."""


def reached(
    make: Callable[[dict[str, Any]], Client],
    servers: str,
    role: str,
    settings: dict[str, Any] | None = None,
    timeout_s: float = 30.0,
) -> tuple[Client, dict[str, int]]:
    """A client made by `make` (Producer, Consumer, AdminClient), and the topics that it may see, with their partitions.

    `role` is its user (`schemas.security`), `settings` are further settings.  Raises `Unreachable` after `timeout_s`, or at
    once if the broker refuses us; `SecurityError`.
    """
    faults: deque[KafkaError] = deque(maxlen=20)
    connection = {"bootstrap.servers": servers, "error_cb": faults.append, "reconnect.backoff.ms": _BACKOFF_MS}
    client: Any = make({**connection, **security.librdkafka(role), **(settings or {})})
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            known = client.list_topics(timeout=max(0.01, min(_ATTEMPT_S, deadline_s - time.monotonic()))).topics
        except KafkaException as error:
            client.poll(0.01)  # calls `error_cb`
            refused = next((fault.str() for fault in faults if fault.code() in _REFUSED), None)
            if refused is None and time.monotonic() < deadline_s:
                continue
            if hasattr(client, "close"):
                client.close()
            manner = security.manner(role)
            if refused is not None:
                raise Unreachable(f"Kafka at {servers} cannot be used {manner}: {refused}") from None
            reason = _reason(faults, error.args[0])
            raise Unreachable(f"no Kafka broker answers at {servers} within {timeout_s:g} s, {manner}: {reason}") from None
        return client, {name: len(topic.partitions) for name, topic in known.items()}


def to_end(consumer: Consumer, starts: Iterable[TopicPartition], silence_s: float = 10.0) -> Iterator[Message]:
    """Every record of these partitions, from their offsets to their ends; the consumer has `enable.partition.eof`.

    Raises `KafkaException`, also if nothing comes for `silence_s`.
    """
    parts = list(starts)
    unread = {(part.topic, part.partition) for part in parts}
    consumer.assign(parts)
    while unread:
        message = consumer.poll(silence_s)
        if message is None:
            names = ", ".join(f"{topic}/{partition}" for topic, partition in sorted(unread))
            reason = f"nothing for {silence_s:g} s, unread are {names}"
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, reason))
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            unread.discard((message.topic(), message.partition()))
        else:
            raise KafkaException(error)


def before_ends(
    consumer: Consumer, parts: Iterable[tuple[str, int, int]]
) -> tuple[list[TopicPartition], list[tuple[str, int]]]:
    """Where to begin reading partitions, given as topic, number and how many of their newest records are wanted.

    Also returns the topic and number of those that have older records.  Records without a value are counted, too.  Raises
    `KafkaException`.
    """
    starts: list[TopicPartition] = []
    cut: list[tuple[str, int]] = []
    for topic, part, count in parts:
        first, end = consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=10)
        starts.append(TopicPartition(topic, part, max(first, end - count)))
        if end - count > first:
            cut.append((topic, part))
    return starts, cut


def _reason(faults: deque[KafkaError], last: KafkaError) -> str:
    """The error of one broker, if it is known, which says more than that all brokers are down."""
    known = [fault for fault in faults if fault.code() != KafkaError._ALL_BROKERS_DOWN]
    return str((known or [last])[-1].str())

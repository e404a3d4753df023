"""The topics on the broker: created from the schemas; their partitions, and how far each job has read."""

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from feeds.heartbeats import KEY
from feeds.times import TOPIC as TIMES
from schemas.clients import Client, Unreachable, reached
from schemas.records import TABLES
from schemas.security import ADMIN, FEED, READER, manner

PARTITIONS = 4
"""Of each new topic.  It limits a job's parallelism, and never changes: all state depends on it."""
MAX_PARTITIONS = 128
"""The number of key groups (pipeline.max-parallelism): each shard needs its own."""
AHEAD_MS = 120_000
"""How far ahead of its clock a broker accepts a record timestamp: readers of a partition wait until the others reach the time
of its newest record.  Feeds accept a receiver's clock that is a minute ahead."""
ANSWERED_S = 120.0
"""How long a broker on a busy machine may take to answer."""
LISTED_S = 60.0
# An exception reports a broker that does not answer; the client would also write to the terminal.
_QUIET = {"log_level": 2}
# A broker's answers for a group that has never committed, while it looks for the group's coordinator.
_NO_GROUP_YET = (
    KafkaError.GROUP_ID_NOT_FOUND,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._TIMED_OUT,
)


class TopicError(RuntimeError):
    """The broker did not answer, or refused."""


def create(servers: str, partitions: int = PARTITIONS) -> list[str]:
    """Create every topic that does not exist yet; returns their names.  Raises `TopicError`."""
    return [
        *create_named(servers, {table.topic: table.is_compacted for table in TABLES.values()}, partitions),
        *_create_times(servers),
    ]


def _create_times(servers: str) -> list[str]:
    """Create the topic of the feeds' times: one partition, timestamps of the broker's clock, kept for an hour."""
    settings = {"message.timestamp.type": "LogAppendTime", "retention.ms": "3600000", "segment.ms": "600000"}
    return _create(servers, [NewTopic(TIMES, num_partitions=1, config=settings)])


def create_named(servers: str, names: Mapping[str, bool], partitions: int) -> list[str]:
    """Create those of the named topics that do not exist yet, compacted or not; returns their names.  Raises `TopicError`."""
    # Event time is the record timestamp, and a replayed day is old: retention by age would delete it at once.
    settings = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(AHEAD_MS)}
    return _create(
        servers,
        [
            NewTopic(
                name, num_partitions=partitions, config={**settings, "cleanup.policy": "compact" if compacted else "delete"}
            )
            for name, compacted in names.items()
        ],
    )


def _create(servers: str, topics: list[NewTopic]) -> list[str]:
    """Create those that do not exist yet; returns their names."""
    existing = existing_topics(servers)
    new = [topic for topic in topics if topic.topic not in existing]
    if new:
        admin = administering(servers)
        for topic, future in admin.create_topics(new, request_timeout=ANSWERED_S).items():
            try:
                future.result(timeout=ANSWERED_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise TopicError(f"topic {topic}: {error.args[0].str()}") from error
        _wait_listed(servers, lambda listed: {topic.topic for topic in new} <= listed)
    return [topic.topic for topic in new]


def renew(servers: str, tables: list[str], jobs: list[str]) -> None:
    """Delete the tables' topics and the consumer groups of jobs; then create the topics again.

    Raises `TopicError`.
    """
    admin = administering(servers)
    names = [TABLES[table].topic for table in tables]
    number = partitions(servers)
    try:
        # A job that has committed no offsets has no group, and a broker without any has nobody to ask for them.
        groups = {group.group_id for group in admin.list_consumer_groups().result(timeout=ANSWERED_S).valid} & set(jobs)
        removed = [admin.delete_topics(names, request_timeout=ANSWERED_S)]
        if groups:
            removed.append(admin.delete_consumer_groups(sorted(groups), request_timeout=ANSWERED_S))
        for future in chain.from_iterable(futures.values() for futures in removed):
            future.result(timeout=ANSWERED_S)
    except KafkaException as error:
        raise TopicError(f"topics could not be removed: {error.args[0].str()}") from error
    _wait_listed(servers, lambda listed: not listed & set(names))
    create(servers, number)


def _wait_listed(servers: str, condition: Callable[[set[str]], bool]) -> None:
    """Wait until the broker lists topics as created or deleted, which is after it has answered.  Raises `TopicError`."""
    deadline_s = time.monotonic() + LISTED_S
    while not condition(set(existing_topics(servers))):
        if time.monotonic() > deadline_s:
            raise TopicError(f"the broker at {servers} does not list topics as they were made or removed {LISTED_S:g} s ago")
        time.sleep(0.1)


def existing_topics(servers: str) -> dict[str, int]:
    """Every topic that we may see, with its number of partitions.  Raises `TopicError` if no broker answers."""
    return _reached(AdminClient, servers)[1]


def partitions(servers: str) -> int:
    """The number of partitions of our topics.  Raises `TopicError` if not all have the same number."""
    existing = existing_topics(servers)
    ours = {table.topic: existing.get(table.topic, 0) for table in TABLES.values()}
    if missing := [topic for topic, number in ours.items() if not number]:
        raise TopicError(
            f"the broker at {servers} has no topic {', '.join(missing)} that we may see, {manner(READER)}; "
            "`gammaflow up` makes them, `gammaflow acls` lists the rights"
        )
    usual = max(ours.values())
    if odd := [f"{topic} has {number}" for topic, number in ours.items() if number != usual]:
        raise TopicError(f"all topics must have as many partitions: {', '.join(odd)}, others {usual}")
    return usual


def ends(servers: str, tables: list[str], isolation: str = "read_committed") -> dict[tuple[str, int], int]:
    """The end offset of every partition of the tables' topics, for readers of an isolation level.  Raises `TopicError`."""
    consumer, existing = consuming(servers, "gammaflow-status", {"isolation.level": isolation})
    try:
        return _ends(consumer, existing, tables)
    except KafkaException as error:
        raise TopicError(f"the ends of topics could not be asked of {servers}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _ends(consumer: Consumer, existing: dict[str, int], tables: list[str]) -> dict[tuple[str, int], int]:
    names = [TABLES[table].topic for table in tables]
    # In one request; get_watermark_offsets makes two for each partition.
    parts = [TopicPartition(name, part, OFFSET_END) for name in names for part in range(existing.get(name, 0))]
    ends = consumer.offsets_for_times(parts, timeout=10) if parts else []
    for part in ends:
        if part.error is not None:
            raise KafkaException(part.error)
    return {(part.topic, part.partition): part.offset for part in ends}


def newest_ms(servers: str, tables: Iterable[str]) -> dict[tuple[str, int], int]:
    """The newest record timestamp of every partition of the tables' topics, heartbeats too; -1 of an empty one.

    Raises `TopicError`.
    """
    try:
        admin, existing = reached(AdminClient, servers, ADMIN, _QUIET)
        names = [TABLES[table].topic for table in tables]
        parts = [TopicPartition(name, part) for name in names for part in range(existing.get(name, 0))]
        asked = dict.fromkeys(parts, OffsetSpec.max_timestamp())
        answers = admin.list_offsets(asked) if asked else {}
        return {(part.topic, part.partition): answer.result(timeout=ANSWERED_S).timestamp for part, answer in answers.items()}
    except (Unreachable, KafkaException) as error:
        raise TopicError(f"the newest records of topics could not be asked of {servers}: {error}") from error


def repeat_time(servers: str, tables: Iterable[str]) -> None:
    """Write a heartbeat with the newest time of each partition of the tables' topics.  Raises `TopicError`.

    A source that was restored behind the last record of a partition does not remember its time.  For others it is nothing new.
    """
    newest = newest_ms(servers, tables)
    try:
        producer, _ = reached(Producer, servers, FEED, _QUIET)
    except Unreachable as error:
        raise TopicError(f"heartbeats could not be repeated: {error}") from error
    for (topic, part), at_ms in newest.items():
        if at_ms > 0:
            producer.produce(topic, None, KEY, part, timestamp=at_ms)
    if producer.flush(ANSWERED_S):
        raise TopicError(f"heartbeats could not be repeated at {servers} within {ANSWERED_S:g} s")


def lag(
    servers: str,
    job: str,
    tables: list[str],
    read: Mapping[tuple[str, int], int] | None = None,
    until: Mapping[tuple[str, int], int] | None = None,
) -> int:
    """How many records of its topics a job has not yet read and checkpointed, by its consumer group.  Raises `TopicError`.

    `read` and `until` have offsets by topic and partition: with `read`, records before these count as read, too; with `until`,
    records from these on do not count.
    """
    consumer, existing = consuming(servers, job, {"enable.partition.eof": True})
    in_transactions = {table.topic for table in TABLES.values() if table.is_exactly_once}
    try:
        latest = _ends(consumer, existing, tables) if until is None else until
        try:
            parts = consumer.committed([TopicPartition(*part) for part in latest], timeout=10)
        except KafkaException as error:
            if error.args[0].code() not in _NO_GROUP_YET:
                raise
            parts = []
        committed: dict[tuple[str, int], int] = {(part.topic, part.partition): part.offset for part in parts}
        done = {part: max(0, committed.get(part, 0), (read or {}).get(part, 0)) for part in latest}
        behind = {part: end - done[part] for part, end in latest.items() if end > done[part]}
        unsure = [TopicPartition(*part, done[part]) for part in behind if part[0] in in_transactions]
        return sum(behind.values()) - sum(behind[part] for part in _without_record(consumer, unsure))
    except KafkaException as error:
        raise TopicError(f"consumer group {job} at {servers}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _without_record(consumer: Consumer, parts: list[TopicPartition]) -> set[tuple[str, int]]:
    """Partitions without a record after the offset: there is only the end of a transaction, which is not read."""
    unread, without = {(part.topic, part.partition) for part in parts}, set()
    consumer.assign(parts)
    while unread:
        message = consumer.poll(10)
        if message is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        part, error = (message.topic(), message.partition()), message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        if part in unread and error is not None:
            without.add(part)
        unread.discard(part)
    return without


def administering(servers: str) -> AdminClient:
    """A client that may create topics and rights.  It must outlive its answers.  Raises `TopicError`."""
    return _reached(AdminClient, servers, ADMIN)[0]


def consuming(
    servers: str, group: str, more: dict[str, Any] | None = None, role: str = READER
) -> tuple[Consumer, dict[str, int]]:
    """A consumer that commits nothing, and every topic that its user may see.  Raises `TopicError`."""
    settings = {"group.id": group, "isolation.level": "read_committed", "enable.auto.commit": False}
    return _reached(Consumer, servers, role, settings | (more or {}))


def _reached(
    make: Callable[[dict[str, Any]], Client], servers: str, role: str = READER, more: dict[str, Any] | None = None
) -> tuple[Client, dict[str, int]]:
    try:
        return reached(make, servers, role, {**_QUIET, **(more or {})})
    except Unreachable as error:
        raise TopicError(str(error)) from None

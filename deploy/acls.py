"""Who may do what on a broker with an authorizer: read off the jobs, and given to their users."""

from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

import jobs
from deploy import topics
from deploy.topics import TopicError
from feeds.keeper import GROUP
from feeds.publish import FEED_TABLES
from feeds.times import TOPIC as TIMES
from schemas.records import TABLES
from schemas.security import ADMIN, FEED, READER, user

_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,
}


class Right(NamedTuple):
    """What one user may do with one thing, or with all whose names begin so."""

    user: str
    operation: str  # as Kafka names it; READ and WRITE imply DESCRIBE
    kind: str  # topic, group, transactional id or cluster
    name: str
    is_prefix: bool = False


def rights(names: Sequence[str] = ()) -> list[Right]:
    """Every right that our users need, and no more; the jobs and groups that run are all jobs unless `names` says which."""
    running = names or jobs.FLOW
    found = [right for job in running for right in _of_job(job)]
    feed, reader, admin = user(FEED), user(READER), user(ADMIN)
    found += [Right(feed, "WRITE", "topic", TABLES[table].topic) for table in (*FEED_TABLES, "dead_letters")]
    # Who keeps the time of topics that others write reads them.
    found += [Right(feed, "READ", "topic", TABLES[table].topic) for table in (*FEED_TABLES, "resync_requests")]
    found += [Right(feed, operation, "topic", TIMES) for operation in ("READ", "WRITE")]
    found += [Right(feed, "READ", "group", group) for group in ("gammaflow-resync", GROUP)]
    found += [Right(reader, "READ", "topic", topic) for topic in (*(table.topic for table in TABLES.values()), TIMES)]
    # Lag is told from what each job has committed.
    found += [Right(reader, "DESCRIBE", "group", job) for job in running]
    found += [Right(reader, "READ", "group", "gammaflow-", is_prefix=True)]
    # With ALTER of the cluster it can give itself any other right.
    found += [Right(admin, operation, "cluster", "kafka-cluster") for operation in ("CREATE", "DESCRIBE", "ALTER")]
    return list(dict.fromkeys(found))


def _of_job(job: str) -> list[Right]:
    name, declared = user(job), jobs.job(job)
    found = [Right(name, "READ", "topic", TABLES[table].topic) for table in declared.reads]
    found += [Right(name, "READ", "group", job)]
    for member in declared.members or (declared,):
        for table in member.writes:
            topic = TABLES[table].topic
            found += [Right(name, "WRITE", "topic", topic)]
            if TABLES[table].is_exactly_once:
                # READ: a job that starts asks who has transactions open in the topic, to end its own.
                prefix = f"{member.name}/{table}"
                found += [Right(name, "READ", "topic", topic), Right(name, "WRITE", "transactional id", prefix, True)]
    return found


def apply(servers: str, wanted: list[Right]) -> tuple[list[Right], list[Right]]:
    """Give the rights that are missing.  Returns those, and what the same users have beyond them, which is left as it is.

    Raises `TopicError`.
    """
    return give(topics.administering(servers), wanted)


def give(admin: AdminClient, wanted: list[Right]) -> tuple[list[Right], list[Right]]:
    """As `apply`, by a client that has reached the broker."""
    try:
        users = {right.user for right in wanted}
        anyone = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ALLOW
        )
        had = [_right(binding) for binding in admin.describe_acls(anyone).result(timeout=30)]
        missing = [right for right in wanted if right not in had]
        if missing:
            for future in admin.create_acls([_binding(right) for right in missing]).values():
                future.result(timeout=30)
    except KafkaException as error:
        raise TopicError(f"rights could not be read or given, as {user(ADMIN)}: {error.args[0].str()}") from error
    return missing, sorted(right for right in had if right.user in users and right not in wanted)


def _binding(right: Right) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if right.is_prefix else ResourcePatternType.LITERAL
    operation = AclOperation[right.operation]
    kind, allow = _KINDS[right.kind], AclPermissionType.ALLOW
    return AclBinding(kind, right.name, pattern, f"User:{right.user}", "*", operation, allow)


def _right(binding: AclBinding) -> Right:
    kind = next((name for name, kind in _KINDS.items() if kind == binding.restype), binding.restype.name)
    is_prefix = binding.resource_pattern_type == ResourcePatternType.PREFIXED
    return Right(binding.principal.removeprefix("User:"), binding.operation.name, kind, binding.name, is_prefix)

"""The rights of our users on a broker with an authorizer: derived from the jobs, and granted by ACLs."""

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
from schemas import FOR_PEOPLE, TOLD_AHEAD
from schemas.records import TABLES
from schemas.security import ADMIN, FEED, OPERATOR, PAGE, READER, user

_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,
}


class Right(NamedTuple):
    """What one user may do with one resource, or with all resources of a prefix."""

    user: str
    operation: str  # as Kafka names it; READ and WRITE imply DESCRIBE
    kind: str  # topic, group, transactional id or cluster
    name: str
    is_prefix: bool = False


def rights(names: Sequence[str] = ()) -> list[Right]:
    """Every right that our users need, and no more.  `names` are the jobs and groups that run, by default all jobs."""
    running = names or jobs.FLOW
    needed = [right for job in running for right in _job_rights(job)]
    feed, reader, admin, operator = user(FEED), user(READER), user(ADMIN), user(OPERATOR)
    needed += [Right(operator, "WRITE", "topic", TABLES["trading_controls"].topic)]
    needed += [
        Right(feed, "WRITE", "topic", TABLES[table].topic) for table in (*FEED_TABLES, "dead_letters", *sorted(FOR_PEOPLE))
    ]
    # The first heartbeat of each loop of jobs.
    needed += [Right(feed, "WRITE", "topic", TABLES[table].topic) for table in sorted(TOLD_AHEAD)]
    # The keeper of the time of topics that others write reads them.
    needed += [Right(feed, "READ", "topic", TABLES[table].topic) for table in (*FEED_TABLES, "resync_requests")]
    needed += [Right(feed, operation, "topic", TIMES) for operation in ("READ", "WRITE")]
    # A gateway is a feed that also reads what venues are to do and what clients are told.
    needed += [Right(feed, "READ", "topic", TABLES[table].topic) for table in ("orders", "order_states", "venue_reports")]
    groups = ("gammaflow-resync", "gammaflow-fills", "gammaflow-gateway", GROUP)
    needed += [Right(feed, "READ", "group", group) for group in groups]
    needed += [Right(reader, "READ", "topic", topic) for topic in (*(table.topic for table in TABLES.values()), TIMES)]
    # Lag is computed from the committed offsets of each job.
    needed += [Right(reader, "DESCRIBE", "group", job) for job in running]
    needed += [Right(reader, "READ", "group", "gammaflow-", is_prefix=True)]
    page = user(PAGE)
    needed += [Right(page, "READ", "topic", table.topic) for table in TABLES.values()]
    needed += [Right(page, "DESCRIBE", "group", job) for job in running]
    needed += [Right(page, "READ", "group", "gammaflow-page", is_prefix=True)]
    # With ALTER of the cluster it can give itself any other right.
    needed += [Right(admin, operation, "cluster", "kafka-cluster") for operation in ("CREATE", "DESCRIBE", "ALTER")]
    return list(dict.fromkeys(needed))


def _job_rights(job: str) -> list[Right]:
    name, declared = user(job), jobs.job(job)
    needed = [Right(name, "READ", "topic", TABLES[table].topic) for table in (*declared.reads, *declared.may_read)]
    if declared.obeys:
        needed += [Right(name, "READ", "topic", TABLES[table].topic) for table in ("trading_controls", jobs.APPLIED)]
    needed += [Right(name, "READ", "group", job)]
    for member in declared.members or (declared,):
        for table in member.writes:
            topic = TABLES[table].topic
            needed += [Right(name, "WRITE", "topic", topic)]
            if TABLES[table].is_exactly_once:
                # READ: a job that starts looks for open transactions in the topic, to abort its own.
                prefix = f"{member.name}/{table}"
                needed += [Right(name, "READ", "topic", topic), Right(name, "WRITE", "transactional id", prefix, True)]
    return needed


def apply(servers: str, needed: list[Right]) -> tuple[list[Right], list[Right]]:
    """Grant the missing rights.  Returns these, and the rights beyond them that the same users have, which it keeps.

    Raises `TopicError`.
    """
    return give(topics.administering(servers), needed)


def give(admin: AdminClient, needed: list[Right]) -> tuple[list[Right], list[Right]]:
    """Like `apply`, with a client that has reached the broker."""
    try:
        users = {right.user for right in needed}
        anyone = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ALLOW
        )
        had = [_right(binding) for binding in admin.describe_acls(anyone).result(timeout=30)]
        missing = [right for right in needed if right not in had]
        if missing:
            for future in admin.create_acls([_binding(right) for right in missing]).values():
                future.result(timeout=30)
    except KafkaException as error:
        raise TopicError(f"rights could not be read or given, as {user(ADMIN)}: {error.args[0].str()}") from error
    return missing, sorted(right for right in had if right.user in users and right not in needed)


def _binding(right: Right) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if right.is_prefix else ResourcePatternType.LITERAL
    operation = AclOperation[right.operation]
    kind, allow = _KINDS[right.kind], AclPermissionType.ALLOW
    return AclBinding(kind, right.name, pattern, f"User:{right.user}", "*", operation, allow)


def _right(binding: AclBinding) -> Right:
    kind = next((name for name, kind in _KINDS.items() if kind == binding.restype), binding.restype.name)
    is_prefix = binding.resource_pattern_type == ResourcePatternType.PREFIXED
    return Right(binding.principal.removeprefix("User:"), binding.operation.name, kind, binding.name, is_prefix)

"""The rights of our users, compared with the jobs' SQL."""

import jobs
import schemas
from deploy import acls
from deploy.acls import Right
from schemas import TOLD_AHEAD
from schemas.records import TABLES
from schemas.security import FEED, OPERATOR, PAGE, READER, user


def rights_of(name: str) -> set[Right]:
    return {right for right in acls.rights() if right.user == name}


def test_a_job_may_do_what_its_sql_does_and_nothing_else() -> None:
    for job in jobs.FLOW:
        read = {TABLES[table].topic for table in (*jobs.job(job).reads, *jobs.job(job).may_read)}
        written = {TABLES[table].topic for table in jobs.job(job).writes}
        rights = rights_of(user(job))
        acts = "controls_applied" in jobs.job(job).writes
        obeyed = {TABLES[table].topic for table in ("trading_controls", "controls_applied")} if acts else set()
        own = {topic for topic in written if TABLES[schemas.TABLE_OF[topic]].is_exactly_once}
        assert {right.name for right in rights if (right.kind, right.operation) == ("topic", "READ")} == read | own | obeyed
        assert {right.name for right in rights if (right.kind, right.operation) == ("topic", "WRITE")} == written
        assert {right for right in rights if right.kind == "group"} == {Right(user(job), "READ", "group", job)}
        assert {right.name for right in rights if right.kind == "transactional id"} == {
            f"{job}/{schemas.TABLE_OF[topic]}" for topic in own
        }
        assert not {right for right in rights if right.kind == "cluster"}


def test_the_job_with_transactions_has_ids_of_its_own() -> None:
    ids = [right for right in acls.rights() if right.kind == "transactional id"]
    assert [(right.user, right.name, right.is_prefix) for right in ids] == [
        ("gammaflow-positions", "positions/ledger_entries", True),
    ]


def test_those_who_only_look_write_nothing_and_feeds_write_nothing_that_a_job_computes() -> None:
    for looker in (READER, PAGE):
        assert {right.operation for right in rights_of(user(looker))} == {"READ", "DESCRIBE"}
    computed = {TABLES[table].topic for job in jobs.FLOW for table in jobs.job(job).writes} - {TABLES["dead_letters"].topic}
    begun = {TABLES[table].topic for table in TOLD_AHEAD}  # by a heartbeat
    assert not (computed - begun) & {right.name for right in rights_of(user(FEED)) if right.operation == "WRITE"}


def test_an_operator_alone_says_what_may_be_traded() -> None:
    writers = {right.user for right in acls.rights() if (right.operation, right.name) == ("WRITE", "trading_controls.v1")}
    assert writers == {user(OPERATOR)}
    assert rights_of(user(OPERATOR)) == {Right(user(OPERATOR), "WRITE", "topic", "trading_controls.v1")}


def test_a_right_is_read_back_as_it_was_given() -> None:
    for right in acls.rights():
        assert acls._right(acls._binding(right)) == right

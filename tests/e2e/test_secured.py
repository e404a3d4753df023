"""The suite on a broker with encryption, passwords and ACLs: what works, what is refused, and that no password leaks."""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient
from requests.utils import DEFAULT_CA_BUNDLE_PATH

import jobs
from deploy import acls, processes, runtime, secured, topics
from deploy.rest import FlinkError
from deploy.runtime import Runtime
from deploy.secured import Secured
from deploy.topics import TopicError
from drills.rows import read
from feeds import Record
from feeds.publish import Publisher, PublishError
from schemas.records import TABLES
from schemas.rows import to_ms
from schemas.security import ADMIN, FEED, READER, VARIABLE, user

CASE = (
    Path(__file__).parents[1] / "jobs" / "positions" / "a_position_is_opened_added_to_reduced_flipped_and_closed"
)  # a job with an exactly-once topic needs every kind of right
JOB = "positions"
STRANGER = "gammaflow-stranger"  # a user without a right
SETTINGS = {
    "table.exec.source.idle-timeout": "0 ms",
    "execution.checkpointing.interval": "1 s",
    "restart-strategy.exponential-delay.max-backoff": "4 s",
}


@dataclass
class Site:
    """The broker, the cluster, and the files of an operator."""

    broker: Secured
    runtime: Runtime
    folder: Path  # of the two files of settings
    home: Path  # of everything that is not the operator's
    passwords: dict[str, str]  # the right ones
    wrong: str  # what the operator's file says of the job at first
    commands: set[str]  # every command line that was seen while all this ran

    @property
    def kafka(self) -> str:
        return self.broker.servers


def write(folder: Path, passwords: dict[str, str], **fields: str) -> Path:
    """An operator's files; returns the one for the environment variable."""
    folder.mkdir(exist_ok=True)
    secret = folder / "passwords.properties"
    secret.touch(mode=0o600)
    secret.write_text("".join(f"{name}={password}\n" for name, password in passwords.items()))
    path = folder / "kafka.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in {"protocol": "SASL_SSL", **fields}.items()))
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A secured broker with our users and their rights, and a cluster; the job's password is wrong at first."""
    base = tmp_path_factory.mktemp("secured")
    passwords = {name: secrets.token_urlsafe(18) for name in [*map(user, [*jobs.FLOW, FEED, READER, ADMIN]), STRANGER]}
    commands: set[str] = set()
    is_over = threading.Event()
    watcher = threading.Thread(target=watch, args=(commands, is_over), daemon=True)
    watcher.start()
    broker = secured.start(base / "kafka", passwords)
    home = base / "runtime"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GAMMAFLOW_KAFKA", broker.servers)
            patch.delenv("GAMMAFLOW_FLINK", raising=False)
            wrong = secrets.token_urlsafe(18)
            patch.setenv(VARIABLE, str(write(base / "operator", passwords | {user(JOB): wrong}, ca=str(broker.ca))))
            acls.give(AdminClient(broker.internal), acls.rights())
            cluster = runtime.up(home, ports=(0, 0), is_brief=True)
            yield Site(broker, cluster, base / "operator", base, passwords, wrong, commands)
    finally:
        runtime.down(home)
        processes.stop([broker.pid])
        is_over.set()
        watcher.join(5)


def watch(commands: set[str], is_over: threading.Event) -> None:
    """Note the command line of every process, as `ps` would show it to anyone."""
    while not is_over.wait(0.2):
        commands.update(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))


@pytest.fixture
def otherwise(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Changes the settings of our clients for one test."""

    def tell(passwords: dict[str, str] | None = None, **fields: str) -> None:
        file = write(tmp_path / "operator", site.passwords | (passwords or {}), **{"ca": str(site.broker.ca), **fields})
        monkeypatch.setenv(VARIABLE, str(file))

    return tell


def test_the_rights_are_there_and_the_admin_can_say_so(site: Site) -> None:
    assert acls.apply(site.kafka, acls.rights()) == ([], [])


def test_a_right_that_is_missing_is_given_and_one_beyond_is_told(site: Site) -> None:
    wanted = acls.rights()
    more = acls.Right(user(READER), "READ", "group", "someone-else")
    assert acls.apply(site.kafka, [*wanted, more]) == ([more], [])
    assert acls.apply(site.kafka, wanted) == ([], [more])


def test_a_wrong_password_is_refused_at_once(site: Site, otherwise: Any) -> None:
    otherwise({user(FEED): "a-guess"})
    began = time.monotonic()
    with pytest.raises(PublishError) as refused:
        Publisher(site.kafka, timeout_s=30)
    assert time.monotonic() - began < 5
    for part in (site.kafka, "as gammaflow-feed", "invalid credentials"):
        assert part in str(refused.value)
    assert "a-guess" not in str(refused.value)


def test_a_broker_whose_authority_is_not_ours_is_refused_at_once(site: Site, otherwise: Any) -> None:
    otherwise(ca=DEFAULT_CA_BUNDLE_PATH)
    began = time.monotonic()
    with pytest.raises(TopicError) as refused:
        topics.existing_topics(site.kafka)
    assert time.monotonic() - began < 5
    for part in (site.kafka, "as gammaflow-reader", "certificate verify failed"):
        assert part in str(refused.value)


def test_plain_text_is_not_heard_where_encryption_is_wanted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(PublishError) as refused:
        Publisher(site.kafka, timeout_s=1.5)
    assert f"no Kafka broker answers at {site.kafka} within 1.5 s, in plain text ({VARIABLE} is not set)" in str(refused.value)


def test_a_topic_that_a_user_may_not_write_is_named(site: Site) -> None:
    row = dict.fromkeys(TABLES["positions"].key, "mine")
    with pytest.raises(PublishError) as refused, Publisher(site.kafka, timeout_s=5) as publisher:
        publisher.publish(Record("positions", 1_767_225_600_000, row))
    assert str(refused.value) == f"positions.v1 at {site.kafka}, as gammaflow-feed: Broker: Topic authorization failed"


def test_topics_that_a_user_may_not_see_are_named(site: Site, otherwise: Any) -> None:
    otherwise(user=STRANGER)
    with pytest.raises(TopicError) as refused:
        topics.partitions(site.kafka)
    for part in (site.kafka, "order_books.v1", f"as {STRANGER}", "`gammaflow acls`"):
        assert part in str(refused.value)


def test_a_job_with_a_wrong_password_says_so_and_goes_on_once_it_is_right(site: Site) -> None:
    rest = site.runtime.rest
    with pytest.raises(FlinkError) as refused:
        runtime.submit(site.runtime, [JOB], settings=SETTINGS)
    for part in (f"job {JOB} does not start: ", "SaslAuthenticationException", site.kafka, f"as {user(JOB)}"):
        assert part in str(refused.value)
    job = rest.active()[JOB]
    refused_job = job.id
    failures = rest.get(f"/jobs/{job.id}/exceptions")["exceptionHistory"]["entries"]
    # Restarts come after a second at first, then ever later.
    assert len(failures) <= 2 + job.duration_s

    write(site.folder, site.passwords, ca=str(site.broker.ca))
    deadline = time.monotonic() + 60
    while (job := rest.active()[JOB]).state != "RUNNING" or job.running < job.tasks:
        assert time.monotonic() < deadline, rest.failure(job)
        time.sleep(0.2)
    assert job.id == refused_job

    given = [
        Record(path.stem, to_ms(row["event_at"]), row)
        for path in sorted((CASE / "given").glob("*.jsonl"))
        for row in map(json.loads, path.read_text().splitlines())
    ]
    with Publisher(site.kafka) as publisher:
        for record in sorted(given, key=lambda record: record.event_ms):
            publisher.publish(record)
    runtime.drain(site.runtime, [JOB], 60)
    written = read(site.kafka, ["positions", "ledger_entries"])
    assert written["ledger_entries"].total() == len((CASE / "expect" / "ledger_entries.jsonl").read_text().splitlines())
    assert written["positions"].total() == len((CASE / "expect" / "positions.jsonl").read_text().splitlines())


def test_no_password_is_in_a_log_a_file_an_answer_of_the_cluster_or_a_command_line(site: Site) -> None:
    rest = site.runtime.rest
    job = next(job.id for job in rest.jobs() if job.name == JOB)
    (manager,) = site.runtime.taskmanagers
    paths = ["", "/config", "/plan", "/exceptions", "/checkpoints", "/checkpoints/config", "/accumulators"]
    answers = {f"/jobs/{job}{path}": rest.get(f"/jobs/{job}{path}") for path in paths}
    for path in ("/config", "/jobmanager/config", "/jobmanager/environment", f"/taskmanagers/{manager}"):
        answers[path] = rest.get(path)
    said = {path: json.dumps(answer).encode() for path, answer in answers.items()}
    # The files of jobs, except jars, and the logs of the broker.
    files = [*Path(site.runtime.home).rglob("*"), *(site.home / "kafka" / "logs").rglob("*")]
    said |= {str(path): path.read_bytes() for path in files if path.is_file() and not path.is_symlink()}
    said["ps"] = "\n".join(site.commands).encode()

    def telling(word: str) -> set[str]:
        return {where for where, text in said.items() if word.encode() in text}

    # The search works: it finds a name that is there.
    assert any("taskmanager" in where for where in telling("security.protocol = SASL_SSL"))
    assert f"/jobs/{job}/exceptions" in telling("SaslAuthenticationException")
    assert "ps" in telling("engine.run")
    for password in (*site.passwords.values(), site.wrong):
        assert telling(password) == set()


def test_everything_listens_on_loopback_alone(site: Site) -> None:
    heard: set[tuple[str, int]] = set()
    for pid in (site.broker.pid, *site.runtime.pids):
        process = psutil.Process(pid)
        connections = [
            connection
            for member in (process, *process.children(recursive=True))
            for connection in member.net_connections("inet")
        ]
        own = {
            (connection.laddr.ip, connection.laddr.port)
            for connection in connections
            if connection.status == psutil.CONN_LISTEN
        }
        assert own, process.cmdline()
        heard |= own
    assert {port for _, port in heard} >= {int(address.rpartition(":")[2]) for address in (site.kafka, site.runtime.flink)}
    assert {address.removeprefix("::ffff:") for address, _ in heard} == {"127.0.0.1"}
